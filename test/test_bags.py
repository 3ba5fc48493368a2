# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Bags of every kind give their images in order; damaged ones give what they have, then say so."""

from __future__ import annotations

from contextlib import closing
import shutil
import sqlite3

import cv2
from lmii_ros import bags
from lmii_ros import frames
from lmii_ros.bags import BagError
from lmii_ros.bags import BagReader
from lmii_ros.bags import ImageBagWriter
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat
from rosbags.rosbag2 import CompressionMode
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores
from rosbags.typesys import get_typestore

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED = 'sensor_msgs/msg/CompressedImage'
COUNT = 8


def frame(index, height=300, width=400):
    """Return noise, which does not compress: a cut file then lacks frames."""
    return np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)


def image_message(store, index):
    types = store.types
    stamp = types['builtin_interfaces/msg/Time'](100 + index, 5)
    fields = (stamp, 'camera')
    if 'seq' in types['std_msgs/msg/Header'].__dataclass_fields__:
        fields = (index, *fields)
    pixels = frame(index)
    return types[IMAGE](
        types['std_msgs/msg/Header'](*fields), 300, 400, 'bgr8', 0, 1200, pixels.reshape(-1))


def write_rosbag2(path, plugin, mode=CompressionMode.NONE, version=8, topics=('/camera',)):
    store = get_typestore(Stores.ROS2_JAZZY)
    writer = Writer(path, version=version, storage_plugin=plugin)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connections = [writer.add_connection(name, IMAGE, typestore=store) for name in topics]
        text = writer.add_connection('/text', 'std_msgs/msg/String', typestore=store)
        for index in range(COUNT):
            time_ns = 10**9 * (200 + index)
            for connection in connections:
                writer.write(connection, time_ns, store.serialize_cdr(
                    image_message(store, index), IMAGE))
            writer.write(text, time_ns, store.serialize_cdr(
                store.types['std_msgs/msg/String']('hello'), 'std_msgs/msg/String'))
    return path


def write_ros1(path):
    store = get_typestore(Stores.ROS1_NOETIC)
    with Ros1Writer(path) as writer:
        connection = writer.add_connection('/camera', IMAGE, typestore=store)
        for index in range(COUNT):
            writer.write(connection, 10**9 * (200 + index), store.serialize_ros1(
                image_message(store, index), IMAGE))
    return path


def check(images):
    for index, image in enumerate(images):
        assert image.topic == '/camera'
        assert image.time_ns == 10**9 * (200 + index)
        assert image.stamp_ns == 10**9 * (100 + index) + 5
        assert image.frame_id == 'camera'
        assert (frames.decode(image.message) == frame(index)).all()


def until_error(path, topic=None):
    """Return the images that come before the error, and its text."""
    images = []
    with pytest.raises(BagError) as caught:
        for image in bags.read_images(path, topic):
            images.append(image)
    text = str(caught.value)
    assert '\n' not in text and str(path) in text
    return images, text


KINDS = {
    'mcap': (StoragePlugin.MCAP, CompressionMode.NONE, 8),
    'mcap of version 9': (StoragePlugin.MCAP, CompressionMode.NONE, 9),
    'mcap with compressed chunks': (StoragePlugin.MCAP, CompressionMode.STORAGE, 8),
    'mcap with compressed messages': (StoragePlugin.MCAP, CompressionMode.MESSAGE, 8),
    'sqlite3': (StoragePlugin.SQLITE3, CompressionMode.NONE, 8),
    'sqlite3 with compressed messages': (StoragePlugin.SQLITE3, CompressionMode.MESSAGE, 8),
    'sqlite3 in a compressed file': (StoragePlugin.SQLITE3, CompressionMode.FILE, 8),
}


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_of_rosbag2_gives_its_images_in_order(tmp_path, kind):
    # A folder may be named like a file of ROS 1.
    path = write_rosbag2(tmp_path / 'run.bag', *KINDS[kind])
    assert bags.image_topics(path) == {'/camera': IMAGE}
    images = list(bags.read_images(str(path)))
    assert len(images) == COUNT
    check(images)


@pytest.mark.parametrize('plugin', list(StoragePlugin))
def test_a_storage_file_without_metadata_is_a_bag_too(tmp_path, plugin):
    folder = write_rosbag2(tmp_path / 'bag', plugin)
    (folder / 'metadata.yaml').unlink()
    file, = folder.iterdir()
    images = list(bags.read_images(file))
    assert len(images) == COUNT
    check(images)
    _, text = until_error(folder)
    assert 'metadata.yaml' in text and 'ros2 bag reindex' in text


def test_a_sqlite3_bag_without_message_definitions(tmp_path):
    path = write_rosbag2(tmp_path / 'bag', StoragePlugin.SQLITE3)
    with closing(sqlite3.connect(path / 'bag.db3')) as database:
        database.execute('DELETE FROM message_definitions')
        database.commit()
    images = list(bags.read_images(path))
    assert len(images) == COUNT
    check(images)


def test_a_ros1_bag(tmp_path):
    path = write_ros1(tmp_path / 'old.bag')
    assert bags.image_topics(path) == {'/camera': IMAGE}
    images = list(bags.read_images(path, '/camera'))
    assert len(images) == COUNT
    check(images)


def test_a_topic_is_asked_for_where_there_are_several(tmp_path):
    path = write_rosbag2(tmp_path / 'bag', StoragePlugin.MCAP, topics=('/left', '/right'))
    images, text = until_error(path)
    assert not images and '/left, /right' in text
    assert {image.topic for image in bags.read_images(path, '/right')} == {'/right'}
    for wrong in ('/up', '/text', ''):
        images, text = until_error(path, wrong)
        assert not images and '/left, /right' in text and repr(wrong) in text


def test_images_are_read_one_at_a_time(tmp_path, monkeypatch):
    path = write_rosbag2(tmp_path / 'bag', StoragePlugin.MCAP)
    taken = []
    original = BagReader.image
    monkeypatch.setattr(BagReader, 'image', lambda reader, message: (
        taken.append(message), original(reader, message))[1])
    images = bags.read_images(path)
    next(images)
    next(images)
    assert len(taken) == 2


@pytest.mark.parametrize('in_folder', [False, True])
@pytest.mark.parametrize('mode', [CompressionMode.NONE, CompressionMode.STORAGE])
def test_a_truncated_mcap_gives_what_it_has_then_says_so(tmp_path, mode, in_folder):
    folder = write_rosbag2(tmp_path / 'bag', StoragePlugin.MCAP, mode)
    file = folder / 'bag.mcap'
    data = file.read_bytes()
    path = folder if in_folder else file
    for size in (len(data) * 2 // 3, len(data) * 2 // 3 + 1, len(data) - 1):
        file.write_bytes(data[:size])
        images, text = until_error(path)
        assert 'cut short' in text and f'after {len(images)} messages' in text
        check(images)
        if size == len(data) - 1:
            assert len(images) == COUNT
        else:
            assert 0 < len(images) < COUNT
    assert bags.image_topics(path) == {'/camera': IMAGE}
    file.write_bytes(data[:len(data) // 10])
    images, text = until_error(path)
    assert not images and 'cut short' in text


def long_bag(path):
    """Write a bag of more than one chunk of its mcap file."""
    with ImageBagWriter(path) as writer:
        for index in range(20):
            writer.write_image(
                '/camera', 10**9 * (100 + index), 'camera', frame(index), 'bgr8')
    return path / f'{path.name}.mcap'


def test_frames_of_whole_chunks_survive_a_cut_and_a_tail_of_zeros(tmp_path):
    file = long_bag(tmp_path / 'bag')
    data = file.read_bytes()
    cut = len(data) * 2 // 3
    for tail in (b'', bytes(5000)):
        file.write_bytes(data[:cut] + tail)
        images, _ = until_error(file)
        assert 10 <= len(images) < 14
        for index, image in enumerate(images):
            assert (frames.decode(image.message) == frame(index)).all()


@pytest.mark.parametrize('mode', [CompressionMode.NONE, CompressionMode.STORAGE])
def test_frames_before_a_chunk_of_zeros_survive_a_power_failure(tmp_path, mode):
    folder = tmp_path / 'bag'
    store = get_typestore(Stores.ROS2_JAZZY)
    writer = Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection('/camera', IMAGE, typestore=store)
        for index in range(20):
            writer.write(connection, 10**9 * (200 + index), store.serialize_cdr(
                image_message(store, index), IMAGE))
    file = folder / 'bag.mcap'
    data = file.read_bytes()
    lost = len(data) * 2 // 3
    # The file has its length, and not all of what was written into it.
    file.write_bytes(data[:lost] + bytes(len(data) - lost))
    images, text = until_error(file)
    assert 10 <= len(images) < 14 and 'cut short' in text
    check(images)


def test_times_that_jump_back_do_not_end_a_bag_that_is_cut(tmp_path):
    times = [100, 101, 90, 91, 92, 200, 50, 201, 202, 203]
    with ImageBagWriter(tmp_path / 'bag') as writer:
        for index, time in enumerate(times):
            writer.write_image('/camera', index, '', frame(index), 'bgr8', 10**9 * time)
    file = tmp_path / 'bag' / 'bag.mcap'
    file.write_bytes(file.read_bytes()[:-9])
    images, text = until_error(file)
    assert [image.time_ns // 10**9 for image in images] == times
    assert 'after 10 messages' in text


def test_a_damaged_chunk_ends_the_bag_there(tmp_path):
    file = long_bag(tmp_path / 'bag')
    data = bytearray(file.read_bytes())
    at = len(data) // 2
    # Lengths inside the chunk no longer add up, wherever in it this falls.
    data[at:at + 700000] = b'\xff' * 700000
    file.write_bytes(data)
    images, text = until_error(file)
    assert 0 < len(images) < 20 and 'damaged after' in text


def test_a_damaged_file_of_a_split_bag_leaves_the_others_and_all_faults_are_told(tmp_path):
    folder = tmp_path / 'split'
    folder.mkdir()
    files = []
    for part in range(4):
        with ImageBagWriter(tmp_path / f'part_{part}') as writer:
            for index in range(5 * part, 5 * part + 5):
                writer.write_image('/camera', 10**9 * index, '', frame(index), 'bgr8')
        files.append(folder / f'part_{part}.mcap')
        shutil.copy(tmp_path / f'part_{part}' / files[-1].name, files[-1])
    data = files[1].read_bytes()
    # At its start, in the compressed content of its first chunk.
    files[1].write_bytes(data[:200] + b'\xff' * 1000 + data[1200:])
    files[3].write_bytes(files[3].read_bytes()[:-9])
    (folder / '._part_1.mcap').write_bytes(b'what macOS leaves')
    images, text = until_error(folder)
    assert [image.time_ns // 10**9 for image in images] == [*range(5), *range(10, 20)]
    for told in ('metadata.yaml', 'part_1.mcap is damaged', 'part_3.mcap is cut short'):
        assert told in text
    assert '._part' not in text


@pytest.mark.parametrize('name', ['bag.mcap', 'bag.db3', 'bag.bag', 'bag.txt'])
@pytest.mark.parametrize('content', [b'', b'\x89MCAP0\r\n', b'SQLite format 3\0', bytes(300)])
def test_what_is_no_bag_is_refused_in_one_line(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    images, _ = until_error(path)
    assert not images
    with pytest.raises(BagError, match='cannot be read as a bag'):
        bags.image_topics(path)


def test_damaged_bags_are_refused_in_one_line(tmp_path):
    folder = write_rosbag2(tmp_path / 'lite', StoragePlugin.SQLITE3)
    data = (folder / 'lite.db3').read_bytes()
    (folder / 'lite.db3').write_bytes(data[:len(data) // 2])
    until_error(folder)
    (folder / 'lite.db3').unlink()
    until_error(folder)
    (folder / 'metadata.yaml').write_text('rosbag2_bagfile_information:\n  version: [1,\n')
    until_error(folder)
    path = write_ros1(tmp_path / 'old.bag')
    path.write_bytes(path.read_bytes()[:-3000])
    until_error(path)


def test_missing_paths_and_empty_folders(tmp_path):
    assert 'no such bag' in until_error(tmp_path / 'none')[1]
    (tmp_path / 'empty').mkdir()
    assert 'metadata.yaml' in until_error(tmp_path / 'empty')[1]


def test_written_bags_read_back(tmp_path):
    path = tmp_path / 'new' / 'bag'
    labels = np.arange(20, dtype=np.uint8).reshape(4, 5)
    jpeg = cv2.imencode('.jpg', np.full((16, 16, 3), 90, np.uint8))[1]
    k = [[500.0, 0, 80], [0, 510, 60], [0, 0, 1]]
    with ImageBagWriter(path) as writer:
        for index in range(3):
            stamp = 1_700_000_000_123_456_789 + index
            writer.write_image('/camera', stamp, 'front', frame(index, 120, 160)[:, ::2], 'rgb8')
            writer.write_image('/labels', stamp, 'front', labels, 'mono8')
            writer.write_compressed(
                '/camera/compressed', stamp, 'front', jpeg, 'bgr8; jpeg compressed bgr8')
            writer.write_camera_info('/camera_info', stamp, 'front', 80, 120, k)
    assert bags.image_topics(path) == {
        '/camera': IMAGE, '/labels': IMAGE, '/camera/compressed': COMPRESSED}
    images = list(bags.read_images(path, '/camera'))
    assert len(images) == 3
    for index, image in enumerate(images):
        assert image.stamp_ns == image.time_ns == 1_700_000_000_123_456_789 + index
        assert image.frame_id == 'front'
        assert image.message.step == 240
        assert (frames.decode(image.message) == frame(index, 120, 160)[:, ::2, ::-1]).all()
    label_image = next(bags.read_images(path, '/labels'))
    assert (frames.decode_labels(label_image.message) == labels).all()
    picture = next(bags.read_images(path, '/camera/compressed'))
    assert abs(int(frames.decode(picture.message)[8, 8, 0]) - 90) <= 2
    with AnyReader([path]) as reader:
        info = next(
            reader.deserialize(data, connection.msgtype)
            for connection, _, data in reader.messages() if connection.topic == '/camera_info')
    assert (info.width, info.height, info.distortion_model) == (80, 120, 'plumb_bob')
    assert info.k.tolist() == [500, 0, 80, 0, 510, 60, 0, 0, 1]
    assert info.p.reshape(3, 4)[:, :3].tolist() == k


def test_written_metadata_is_of_a_version_that_humble_reads(tmp_path):
    from ruamel.yaml import YAML

    long_bag(tmp_path / 'bag')
    metadata = YAML(typ='safe').load(tmp_path / 'bag' / 'metadata.yaml')
    information = metadata['rosbag2_bagfile_information']
    assert information['version'] == 8
    assert information['storage_identifier'] == 'mcap'
    topic = information['topics_with_message_count'][0]
    assert topic['message_count'] == 20
    assert isinstance(topic['topic_metadata']['offered_qos_profiles'], str)


def test_a_bag_is_finished_also_when_its_writing_stops_with_an_error(tmp_path):
    with pytest.raises(RuntimeError, match='stop'):
        with ImageBagWriter(tmp_path / 'bag') as writer:
            writer.write_image('/camera', 1, 'camera', frame(0), 'bgr8')
            raise RuntimeError('stop')
    assert len(list(bags.read_images(tmp_path / 'bag'))) == 1


def test_what_cannot_be_written_is_refused(tmp_path):
    (tmp_path / 'bag').mkdir()
    with pytest.raises(BagError, match='exists already'):
        ImageBagWriter(tmp_path / 'bag')
    shutil.rmtree(tmp_path / 'bag')
    with ImageBagWriter(tmp_path / 'bag') as writer:
        with pytest.raises(BagError, match='expected uint8'):
            writer.write_image('/a', 0, '', np.zeros((4, 4), np.uint16), 'mono16')
        with pytest.raises(BagError, match='expected uint8'):
            writer.write_image('/a', 0, '', np.zeros(4, np.uint8), 'mono8')
        with pytest.raises(BagError, match='expected 9'):
            writer.write_camera_info('/info', 0, '', 4, 4, [1, 2])
        writer.write_image('/a', 0, '', np.zeros((4, 4), np.uint8), 'mono8')
        with pytest.raises(BagError, match='cannot take sensor_msgs/msg/CompressedImage'):
            writer.write_compressed('/a', 0, '', b'123', 'jpeg')
