# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Bags are evaluated frame by frame, exactly and repeatably; bad ones as far as they go."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import cv2
from lmii_ros import bags
from lmii_ros import cli
from lmii_ros import frames
from lmii_ros import metrics
from lmii_ros import networks
from lmii_ros import weights
from lmii_ros.bags import BagReader
from lmii_ros.bags import ImageBagWriter
from lmii_ros.classes import CAMVID
from lmii_ros.drivable import drivable_area
from lmii_ros.evaluation.annotation import Annotation
from lmii_ros.metrics import Counts
from lmii_ros.segmenter import Segmenter
from lmii_ros.weights import WeightInfo
import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import Reader
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer
from rosbags.typesys import get_typestore
from rosbags.typesys import Stores
import torch

SIZE = (48, 64)
COUNT = 12
PERIOD_NS = 40_000_000
IMAGE = '/camera/image_raw'
TRUTH = '/truth'
IMAGE_TYPE = 'sensor_msgs/msg/Image'


@pytest.fixture(scope='module')
def weight_file(tmp_path_factory):
    """Return the weight file of a small random network."""
    torch.manual_seed(4)
    arguments = {'depths': [1, 1, 1, 1, 1], 'widths': [8, 8, 16, 16, 16], 'ratios': [1.0]}
    path = tmp_path_factory.mktemp('weights') / 'tiny.safetensors'
    weights.save(path, WeightInfo(
        network='lpsnet', arguments=arguments, classes=CAMVID, mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.25, 0.3), input_size=SIZE), networks.build('lpsnet', 11, **arguments))
    return path


def stamp(index):
    return 10**9 + index * PERIOD_NS


def image(index, size=SIZE):
    return np.random.default_rng(index).integers(0, 256, (*size, 3), np.uint8)


def truth(index, size=SIZE):
    labels = np.random.default_rng(1000 + index).integers(0, 11, size, np.uint8)
    labels[:3] = 255
    return labels


def write(path, images=image, labels=truth, count=COUNT):
    """Write a bag whose images and label images two functions give; None leaves one out."""
    with ImageBagWriter(path) as bag:
        for index in range(count):
            if labels(index) is not None:
                bag.write_image(TRUTH, stamp(index), 'camera', labels(index), 'mono8')
            if images(index) is not None:
                bag.write_image(IMAGE, stamp(index), 'camera', images(index), 'bgr8')
    return path


@pytest.fixture
def bag(tmp_path):
    return write(tmp_path / 'bag')


def run(bag, weight_file, out, *more):
    return cli.main([
        'evaluate', 'bag', str(bag), '--weights', str(weight_file), '--engine', 'torch',
        '--device', 'cpu', '--out', str(out), *map(str, more)])


def evaluate(bag, weight_file, out, *more, labels=TRUTH, code=0):
    """Evaluate a bag and return metrics.json and the lines of frames.jsonl."""
    topics = ('--image', IMAGE, *(('--labels', labels) if labels else ()))
    assert run(bag, weight_file, out, *topics, *more) == code
    lines = [json.loads(line) for line in (out / 'frames.jsonl').read_text().splitlines()]
    return json.loads((out / 'metrics.json').read_text()), lines


def faulty(capsys, *arguments, **options):
    """Return the same of a bag with faults, which one line on stderr tells."""
    document, lines = evaluate(*arguments, code=1, **options)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('lmii evaluate: not all of the bag could be used: ')
    assert document['faults'][0] in error
    return document, lines


def refusal(capsys, *arguments):
    """Return the line with which an evaluation is refused, before anything is written."""
    assert run(*arguments) == 1
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert not (arguments[2] / 'metrics.json').exists()
    return error


def offline(weight_file, index):
    """Return what the network says to a frame."""
    segmenter = Segmenter(weight_file, engine='torch', device='cpu')
    return segmenter.segment([image(index)], confidence=True)[0]


def test_counts_are_those_of_the_frames_one_by_one(bag, weight_file, tmp_path, capsys):
    document, lines = evaluate(bag, weight_file, tmp_path / 'out')
    total, before = Counts.zero(11), None
    for index in range(COUNT):
        seen = offline(weight_file, index)
        counts = metrics.count(seen.labels, seen.confidence, truth(index), CAMVID)
        total += counts
        if before is not None:
            total += metrics.count_flips(
                seen.labels, before, truth(index), truth(index - 1), 11)
        before = seen.labels
        confusion = counts.confusion
        assert lines[index] == {
            'index': index, 'stamp_ns': stamp(index), 'status': 'labelled', 'truth': 'exact',
            'miou': pytest.approx(metrics.scores(confusion).miou),
            'true_positive': np.diag(confusion).tolist(),
            'truth_pixels': confusion.sum(axis=1).tolist(),
            'label_pixels': confusion[:, :11].sum(axis=0).tolist(),
            'drivable': counts.drivable.tolist()}
    assert len(lines) == COUNT
    assert document['counts'] == total.to_dict()
    assert document['frames'] == {
        'total': COUNT, 'labelled': COUNT, 'dropped': {}, 'truth': {
            'exact': COUNT, 'nearest': 0, 'refused': 0, 'unmatched_images': 0,
            'unmatched_labels': 0}}
    scores = metrics.scores(total.confusion)
    assert document['scores']['miou'] == pytest.approx(scores.miou)
    assert list(document['scores']['iou']) == list(CAMVID.classes)
    assert document['faults'] == []
    assert document['source'] == {
        'bag': 'bag', 'image_topic': IMAGE, 'labels_topic': TRUTH, 'tolerance_ms': 10.0}
    assert document['classes'] == json.loads(json.dumps(CAMVID.to_dict()))
    point = document['operating_point']
    assert point['weights'] == 'tiny.safetensors' and point['input_height'] == SIZE[0]
    assert f'mIoU            {100 * scores.miou:6.2f} %' in capsys.readouterr().out


def test_the_same_again_is_the_same_bytes(bag, weight_file, tmp_path):
    first, second = tmp_path / 'one', tmp_path / 'two'
    for out in (first, second):
        evaluate(bag, weight_file, out)
    # In the same folder too, where the results of before are replaced.
    evaluate(bag, weight_file, second)
    names = sorted(path.relative_to(first) for path in first.rglob('*') if path.is_file())
    assert len(names) > 10
    for name in names:
        # These tell how long it took.
        if name.name not in ('run.json', 'report.html'):
            assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_the_run_tells_times_and_command(bag, weight_file, tmp_path):
    evaluate(bag, weight_file, tmp_path / 'out')
    values = json.loads((tmp_path / 'out' / 'run.json').read_text())
    assert values['command'][:4] == ['lmii', 'evaluate', 'bag', str(bag)]
    assert 0 < values['network_s'] < values['wall_s']
    latency = values['latency_ms']
    assert sum(latency['histogram']['counts']) == COUNT
    assert len(latency['histogram']['edges']) == len(latency['histogram']['counts']) + 1
    assert latency['p50'] <= latency['p90'] <= latency['p99'] <= latency['max']
    assert latency['mean'] * COUNT == pytest.approx(1000 * values['network_s'])
    assert values['machine']['torch'] == torch.__version__


def test_pictures_of_the_worst_and_of_evenly_spaced_frames(tmp_path, weight_file):
    count = 300
    path = write(tmp_path / 'bag', count=count)
    document, lines = evaluate(path, weight_file, tmp_path / 'out')
    pictures = document['pictures']
    # 25 frames a second: the worst of each, then the worst of these.
    seconds = [range(start, start + 25) for start in range(0, count, 25)]
    worst_of_seconds = [
        min(second, key=lambda index: (lines[index]['miou'], index)) for second in seconds]
    worst = sorted(worst_of_seconds, key=lambda index: (lines[index]['miou'], index))[:6]
    assert [entry['index'] for entry in pictures if entry['why'] == 'worst'] == sorted(worst)
    even = {entry['index'] for entry in pictures} - set(worst)
    assert even == set(range(0, count, 64)) - set(worst)
    for entry in pictures:
        index = entry['index']
        assert entry['miou'] == lines[index]['miou']
        assert entry['stamp_ns'] == stamp(index)
        shown = {
            name: cv2.imread(str(tmp_path / 'out' / entry[name]))
            for name in ('camera', 'truth', 'prediction', 'difference')}
        labels, true = offline(weight_file, index).labels, truth(index)
        palette = CAMVID.palette()[:, ::-1]
        assert (shown['prediction'] == palette[labels]).all()
        assert (shown['truth'] == palette[true]).all()
        expected = np.where((labels == true)[..., None], 255, np.array([0, 0, 255]))
        expected[true == 255] = 0
        assert (shown['difference'] == expected).all()
        assert np.abs(shown['camera'].mean() - image(index).mean()) < 5


def test_large_frames_have_smaller_pictures(tmp_path, weight_file):
    size = (540, 1200)
    path = write(
        tmp_path / 'bag', lambda index: image(index, size), lambda index: truth(index, size), 1)
    document, _ = evaluate(path, weight_file, tmp_path / 'out')
    for name in ('camera', 'truth', 'prediction', 'difference'):
        picture = cv2.imread(str(tmp_path / 'out' / document['pictures'][0][name]))
        assert picture.shape == (432, 960, 3)


def test_without_ground_truth(bag, weight_file, tmp_path):
    document, lines = evaluate(bag, weight_file, tmp_path / 'out', labels=None)
    assert document['source']['labels_topic'] is None
    assert document['scores']['miou'] is None
    assert document['scores']['drivable']['iou'] is None
    temporal = document['scores']['temporal']
    assert 0 < temporal['flip_rate'] < 1 and temporal['truth_flip_rate'] is None
    assert set(document['frames']['truth'].values()) == {0}
    assert all(line['miou'] is None and line['truth'] is None for line in lines)
    assert document['pictures'] and all(
        entry['truth'] is None and entry['why'] == 'even' for entry in document['pictures'])


def test_the_only_image_topic_need_not_be_named(bag, weight_file, tmp_path, capsys):
    assert run(bag, weight_file, tmp_path / 'out', '--labels', TRUTH) == 0
    assert IMAGE in (tmp_path / 'out' / 'metrics.json').read_text()
    assert 'name one of its image topics: /camera/image_raw, /truth' in refusal(
        capsys, bag, weight_file, tmp_path / 'none')


def test_ground_truth_that_is_near_sparse_or_late(tmp_path, weight_file):
    """Labels of every third frame, 4 ms off and recorded two frames later."""
    path = tmp_path / 'bag'
    with ImageBagWriter(path) as bag:
        for index in range(COUNT):
            bag.write_image(IMAGE, stamp(index), 'camera', image(index), 'bgr8')
            if index % 3 == 0:
                bag.write_image(
                    TRUTH, stamp(index) + 4_000_000, 'camera', truth(index), 'mono8',
                    stamp(index + 2) + 1)
        bag.write_image(TRUTH, stamp(1000), 'camera', truth(0), 'mono8')
    document, lines = evaluate(path, weight_file, tmp_path / 'out', '--tolerance-ms', 5)
    assert document['frames']['truth'] == {
        'exact': 0, 'nearest': 4, 'refused': 0, 'unmatched_images': 8, 'unmatched_labels': 1}
    assert [line['truth'] for line in lines] == 4 * ['nearest', None, None]
    expected = sum(metrics.confusion(
        offline(weight_file, index).labels, truth(index), 11) for index in range(0, COUNT, 3))
    assert document['counts']['confusion'] == expected.tolist()
    # No two consecutive frames have a truth.
    assert document['scores']['temporal']['truth_flip_rate'] is None


def test_a_bag_of_jpeg_images_and_png_labels(tmp_path, weight_file):
    path = tmp_path / 'bag'
    jpegs = [cv2.imencode('.jpg', image(index))[1] for index in range(3)]
    with ImageBagWriter(path) as bag:
        for index, jpeg in enumerate(jpegs):
            bag.write_compressed(IMAGE, stamp(index), 'camera', jpeg, 'bgr8; jpeg compressed bgr8')
            bag.write_compressed(
                TRUTH, stamp(index), 'camera', cv2.imencode('.png', truth(index))[1], 'png')
    document, _ = evaluate(path, weight_file, tmp_path / 'out')
    segmenter = Segmenter(weight_file, engine='torch', device='cpu')
    assert document['counts']['confusion'] == sum(metrics.confusion(
        segmenter.segment([cv2.imdecode(jpeg, cv2.IMREAD_COLOR)])[0].labels, truth(index), 11)
        for index, jpeg in enumerate(jpegs)).tolist()


def test_a_ros1_bag(tmp_path, weight_file, capsys):
    store = get_typestore(Stores.ROS1_NOETIC)
    types = store.types
    path = tmp_path / 'old.bag'
    with Ros1Writer(path) as writer:
        connections = {
            topic: writer.add_connection(topic, IMAGE_TYPE, typestore=store)
            for topic in (IMAGE, TRUTH)}
        for index in range(3):
            for topic, pixels, encoding in (
                    (IMAGE, image(index), 'bgr8'), (TRUTH, truth(index), 'mono8')):
                header = types['std_msgs/msg/Header'](
                    index, types['builtin_interfaces/msg/Time'](*divmod(stamp(index), 10**9)), 'c')
                writer.write(connections[topic], stamp(index), store.serialize_ros1(
                    types[IMAGE_TYPE](
                        header, *SIZE, encoding, 0, pixels[0].size, pixels.reshape(-1)),
                    IMAGE_TYPE))
    document, _ = evaluate(path, weight_file, tmp_path / 'out')
    reference, _ = evaluate(write(tmp_path / 'new', count=3), weight_file, tmp_path / 'out2')
    assert document['counts'] == reference['counts']
    assert 'rosbags-convert' in refusal(
        capsys, path, weight_file, tmp_path / 'out3', '--image', IMAGE, '--with-originals')


def test_the_annotated_bag_has_the_topics_of_the_node(bag, weight_file, tmp_path):
    evaluate(bag, weight_file, tmp_path / 'out', '--annotate')
    path = tmp_path / 'out' / 'annotated'
    node = '/segmentation_node'
    assert list(bags.image_topics(path)) == [
        f'{node}/{name}' for name in
        ('color', 'confidence', 'drivable', 'labels', 'overlay/compressed')]
    found = {
        name: list(bags.read_images(path, f'{node}/{name}'))
        for name in ('labels', 'color', 'confidence', 'drivable', 'overlay/compressed')}
    for index in range(COUNT):
        seen = offline(weight_file, index)
        assert {images[index].stamp_ns for images in found.values()} == {stamp(index)}
        assert {images[index].frame_id for images in found.values()} == {'camera'}
        message = {name: images[index].message for name, images in found.items()}
        assert (frames.decode_labels(message['labels']) == seen.labels).all()
        assert (frames.decode_labels(message['confidence']) == seen.confidence).all()
        assert (frames.decode_labels(message['drivable']) == drivable_area(
            seen.labels, [3])).all()
        assert (frames.decode(message['color'])[..., ::-1] == CAMVID.palette()[seen.labels]).all()
        assert frames.decode(message['overlay/compressed']).shape == (*SIZE, 3)
    assert all(len(images) == COUNT for images in found.values())


def test_the_annotated_bag_with_all_that_was_recorded(tmp_path, weight_file):
    store = get_typestore(Stores.ROS2_JAZZY)
    path = tmp_path / 'bag'
    with Writer(path, version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        camera = writer.add_connection(IMAGE, IMAGE_TYPE, typestore=store)
        text = writer.add_connection('/text', 'std_msgs/msg/String', typestore=store)
        own = writer.add_connection(
            '/own', 'my_msgs/msg/Own', msgdef='int32 value\n', rihs01='RIHS01_' + 64 * '0')
        types = store.types
        for index in range(3):
            # The clock of the recorder is not that of the camera.
            time_ns = 10**12 + stamp(index)
            header = types['std_msgs/msg/Header'](
                types['builtin_interfaces/msg/Time'](*divmod(stamp(index), 10**9)), 'c')
            writer.write(camera, time_ns, store.serialize_cdr(types[IMAGE_TYPE](
                header, *SIZE, 'bgr8', 0, 3 * SIZE[1], image(index).reshape(-1)), IMAGE_TYPE))
            writer.write(text, time_ns + 1, store.serialize_cdr(
                types['std_msgs/msg/String'](f'text {index}'), 'std_msgs/msg/String'))
            writer.write(own, time_ns + 2, b'\0\1\0\0' + bytes([index, 0, 0, 0]))
    evaluate(path, weight_file, tmp_path / 'out', '--with-originals', labels=None)
    with Reader(path) as original, Reader(tmp_path / 'out' / 'annotated') as annotated:
        expected = [(c.topic, t, bytes(data)) for c, t, data in original.messages()]
        found = [(c.topic, t, bytes(data)) for c, t, data in annotated.messages()]
    assert [message for message in found if '/segmentation_node/' not in message[0]] == expected
    labels = [t for topic, t, _ in found if topic == '/segmentation_node/labels']
    assert labels == [10**12 + stamp(index) for index in range(3)]


def test_the_rest_is_not_copied_after_an_interrupt(bag, tmp_path):
    with BagReader(bag) as originals, pytest.raises(KeyboardInterrupt):
        with Annotation(tmp_path / 'annotated', CAMVID, originals):
            raise KeyboardInterrupt
    with BagReader(tmp_path / 'annotated') as annotated:
        assert not list(annotated.messages())


def test_types_without_a_definition_do_not_matter(tmp_path, weight_file, capsys):
    store = get_typestore(Stores.ROS2_JAZZY)
    types = store.types
    path = tmp_path / 'bag'
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        camera = writer.add_connection(IMAGE, IMAGE_TYPE, typestore=store)
        radar = writer.add_connection(
            '/radar', 'my_msgs/msg/Radar', msgdef='no (definition', rihs01='RIHS01_' + 64 * '0')
        header = types['std_msgs/msg/Header'](types['builtin_interfaces/msg/Time'](1, 0), 'c')
        writer.write(camera, 10**9, store.serialize_cdr(types[IMAGE_TYPE](
            header, *SIZE, 'bgr8', 0, 3 * SIZE[1], image(0).reshape(-1)), IMAGE_TYPE))
        writer.write(radar, 10**9, b'whatever')
    evaluate(path, weight_file, tmp_path / 'out', labels=None)
    document, _ = faulty(
        capsys, path, weight_file, tmp_path / 'two', '--with-originals', labels=None)
    assert 'cannot take /radar: the definition of my_msgs/msg/Radar' in document['faults'][0]
    assert IMAGE in bags.image_topics(tmp_path / 'two' / 'annotated')


def test_a_topic_that_is_not_there(bag, weight_file, tmp_path, capsys):
    for wrong in (('--image', '/up'), ('--image', IMAGE, '--labels', '/up')):
        line = refusal(capsys, bag, weight_file, tmp_path / 'out', *wrong)
        assert "no image topic '/up'; it has: /camera/image_raw, /truth" in line
    for wrong in (-1, 'nan', 'inf'):
        assert 'tolerance is' in refusal(
            capsys, bag, weight_file, tmp_path / 'out', '--tolerance-ms', wrong)
    assert 'no such bag' in refusal(capsys, tmp_path / 'no', weight_file, tmp_path / 'out')


def test_a_bag_that_is_cut_short(bag, weight_file, tmp_path, capsys):
    path = write(tmp_path / 'long', lambda index: image(index, (200, 300)), lambda index: None)
    file = path / 'long.mcap'
    file.write_bytes(file.read_bytes()[:-900_000])
    document, lines = faulty(capsys, path, weight_file, tmp_path / 'out', labels=None)
    assert 0 < document['frames']['labelled'] == len(lines) < COUNT
    assert 'cut short' in document['faults'][0]


def test_a_bag_without_metadata(bag, weight_file, tmp_path, capsys):
    whole, _ = evaluate(bag, weight_file, tmp_path / 'whole')
    (bag / 'metadata.yaml').unlink()
    document, _ = faulty(capsys, bag, weight_file, tmp_path / 'out')
    assert document['counts'] == whole['counts']
    assert 'no metadata.yaml' in document['faults'][0]


def test_a_split_bag_that_lacks_a_file(tmp_path, weight_file, capsys):
    folder = tmp_path / 'bag'
    parts = [write(tmp_path / name, count=count) for name, count in (('a', 2), ('b', 5))]
    folder.mkdir()
    for index, part in enumerate(parts):
        shutil.copy(part / f'{part.name}.mcap', folder / f'bag_{index}.mcap')
    metadata = (parts[0] / 'metadata.yaml').read_text()
    (folder / 'metadata.yaml').write_text(
        metadata.replace('- a.mcap', '- bag_0.mcap\n  - bag_1.mcap\n  - bag_2.mcap'))
    document, _ = faulty(capsys, folder, weight_file, tmp_path / 'out')
    assert document['frames']['labelled'] == 7
    assert 'bag_2.mcap' in document['faults'][0]


def test_an_image_that_changes_its_size(tmp_path, weight_file, capsys):
    def size(index):
        return SIZE if index < 5 else (32, 80)

    path = write(
        tmp_path / 'bag', lambda index: image(index, size(index)),
        lambda index: truth(index, size(index)))
    document, _ = faulty(capsys, path, weight_file, tmp_path / 'out')
    assert document['frames']['labelled'] == document['frames']['truth']['exact'] == COUNT
    assert document['faults'] == ['frame 5: the image size changes from 64x48 to 80x32']
    # Pixels of frames of different sizes are not compared.
    assert document['counts']['temporal']['pixels'] == 4 * 48 * 64 + 6 * 32 * 80


def test_labels_that_cannot_be_used(tmp_path, weight_file, capsys):
    def labels(index):
        if index in (2, 3):
            return np.full(SIZE, 11, np.uint8)
        return truth(index, (24, 32) if index == 5 else SIZE)

    document, lines = faulty(
        capsys, write(tmp_path / 'bag', labels=labels), weight_file, tmp_path / 'out')
    assert document['frames']['labelled'] == COUNT
    assert document['frames']['truth']['refused'] == 3
    assert document['faults'] == [
        'labels of frame 2: 11 is none of the 11 classes of camvid nor unknown (255) '
        '(2 times in all)',
        'labels of frame 5 are 32x24, the image is 64x48']
    assert [line['index'] for line in lines if line['truth'] is None] == [2, 3, 5]
    assert np.sum(document['counts']['confusion']) == 9 * 45 * 64


def test_a_bag_that_was_played_twice_into_a_recorder(tmp_path, weight_file):
    path = tmp_path / 'bag'
    with ImageBagWriter(path) as bag:
        for turn in range(2):
            for index in range(4):
                time_ns = stamp(1000 + 4 * turn + index)
                bag.write_image(IMAGE, stamp(index), 'camera', image(index), 'bgr8', time_ns)
                bag.write_image(TRUTH, stamp(index), 'camera', truth(index), 'mono8', time_ns)
    document, _ = evaluate(path, weight_file, tmp_path / 'out')
    assert document['frames']['truth']['exact'] == 8
    # The first frame does not follow the last.
    assert document['counts']['temporal']['pixels'] == 6 * 48 * 64


def test_stamps_that_never_match(tmp_path, weight_file, capsys):
    path = tmp_path / 'bag'
    with ImageBagWriter(path) as bag:
        for index in range(3):
            bag.write_image(IMAGE, stamp(index), 'camera', image(index), 'bgr8')
            bag.write_image(TRUTH, index, 'camera', truth(index), 'mono8', stamp(index))
    document, _ = faulty(capsys, path, weight_file, tmp_path / 'out')
    assert document['faults'] == [
        'no image of /truth has a stamp within 10 ms of one of /camera/image_raw']
    assert document['frames']['truth']['unmatched_images'] == 3
    assert document['frames']['truth']['unmatched_labels'] == 3
    assert document['frames']['labelled'] == 3


def test_frames_that_do_not_decode(tmp_path, weight_file, capsys):
    """A JPEG cut short, a message cut short, an empty message."""
    path = tmp_path / 'bag'
    store = get_typestore(Stores.ROS2_JAZZY)
    kind = 'sensor_msgs/msg/CompressedImage'
    types = store.types
    jpeg = cv2.imencode('.png', image(0))[1]
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        camera = writer.add_connection(IMAGE, kind, typestore=store)
        for index in range(6):
            header = types['std_msgs/msg/Header'](
                types['builtin_interfaces/msg/Time'](*divmod(stamp(index), 10**9)), 'c')
            data = bytes(store.serialize_cdr(types[kind](
                header, 'png', jpeg[:-20 if index == 1 else None]), kind))
            data = {3: data[:500], 4: b''}.get(index, data)
            writer.write(camera, stamp(index), data)
    document, lines = faulty(capsys, path, weight_file, tmp_path / 'out', labels=None)
    assert document['frames']['dropped'] == {'damaged_message': 2, 'truncated_data': 1}
    assert [line['status'] for line in lines] == [
        'labelled', 'truncated_data', 'labelled', 'damaged_message', 'damaged_message',
        'labelled']
    assert [line['stamp_ns'] for line in lines] == [stamp(index) for index in range(6)]
    assert len(document['faults']) == 2
    # Frames 0 and 2 are not consecutive.
    assert document['counts']['temporal']['pixels'] == 0


def test_a_topic_without_messages(tmp_path, weight_file, capsys):
    path = tmp_path / 'bag'
    store = get_typestore(Stores.ROS2_JAZZY)
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection(IMAGE, IMAGE_TYPE, typestore=store)
    document, lines = faulty(capsys, path, weight_file, tmp_path / 'out', labels=None)
    assert document['frames']['total'] == 0 and lines == [] and document['pictures'] == []
    assert document['faults'] == ['no image of /camera/image_raw can be read']


def test_weights_that_overflow_drop_every_frame(bag, weight_file, tmp_path, capsys):
    info, network = weights.load(weight_file)
    with torch.no_grad():
        network.classifier.weight[:] = 3e38
    weights.save(tmp_path / 'x.safetensors', info, network)
    document, _ = faulty(capsys, bag, tmp_path / 'x.safetensors', tmp_path / 'out')
    assert document['frames']['dropped'] == {'non_finite_output': COUNT}
    assert 'not finite for 12 frames' in document['faults'][0]


def test_a_refusal_leaves_earlier_results_alone(bag, weight_file, tmp_path, capsys):
    out = tmp_path / 'out'
    evaluate(bag, weight_file, out, '--annotate')
    before = {name: (out / name).read_bytes() for name in ('metrics.json', 'frames.jsonl')}
    for wrong in (('--annotate', '--image', IMAGE), ('--image', '/up')):
        assert run(bag, weight_file, out, *wrong) == 1
    assert before == {name: (out / name).read_bytes() for name in before}


def test_results_that_cannot_be_written(bag, weight_file, tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    assert 'file' in refusal(capsys, bag, weight_file, tmp_path / 'file' / 'out', '--image', IMAGE)
    (tmp_path / 'out' / 'annotated').mkdir(parents=True)
    assert 'exists already' in refusal(
        capsys, bag, weight_file, tmp_path / 'out', '--image', IMAGE, '--annotate')


MEMORY = '''
import resource, sys
from lmii_ros import cli
assert cli.main(sys.argv[1:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
'''


def test_memory_does_not_grow_with_the_bag(weight_file, tmp_path):
    peaks = []
    for count in (100, 2000):
        path = write(tmp_path / f'bag{count}', count=count)
        result = subprocess.run(
            [sys.executable, '-c', MEMORY, 'evaluate', 'bag', str(path), '--labels', TRUTH,
             '--weights', str(weight_file), '--engine', 'torch', '--device', 'cpu', '--out',
             str(tmp_path / 'out')], capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        peaks.append(int(result.stdout.split()[-1]))
    # 1900 frames with their labels are 23 MB.
    assert peaks[1] < peaks[0] * 1.03
