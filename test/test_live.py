# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A bag played to the live node: every frame is accounted for, and its labels are the same."""

from __future__ import annotations

from collections import Counter
import json
from pathlib import Path
import signal
import sys

import cv2
from lmii_ros import bags
from lmii_ros import cli
from lmii_ros import frames
from lmii_ros.bags import ImageBagWriter
from lmii_ros.classes import CAMVID
from lmii_ros.evaluation import live
from lmii_ros.segmenter import Segmenter
from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import RoadScene
import numpy as np
import pytest

pytest.importorskip('rclpy')

from conftest import _processes  # noqa: E402
from lmii_ros.nodes import bag_player_node  # noqa: E402

TIMEOUT_S = 120.0
COUNT = 14
UNREADABLE = 5
IMAGE = '/camera/image_raw'
LABELS = '/camera/ground_truth'


def write_bag(path, compressed=False):
    """Write a drive at 5 Hz with labels; an image of it is none."""
    scene = RoadScene(seed=3, camera=PinholeCamera.from_fov(160, 120))
    with ImageBagWriter(path) as bag:
        for index in range(COUNT):
            frame = scene.render(index / 5)
            stamp_ns = 10 ** 9 * 1700000000 + index * 2 * 10 ** 8
            if compressed:
                data = cv2.imencode('.jpg', frame.image)[1].tobytes()
                bag.write_compressed(
                    f'{IMAGE}/compressed', stamp_ns, 'camera',
                    b'no picture' if index == UNREADABLE else data, 'jpeg')
            else:
                encoding = 'unheard of' if index == UNREADABLE else 'bgr8'
                bag.write_image(IMAGE, stamp_ns, 'camera', frame.image, encoding)
            bag.write_image(LABELS, stamp_ns, 'camera', frame.labels, 'mono8')
    return path


def arguments(bag, tiny_weights, out, *more):
    return [
        sys.executable, '-m', 'lmii_ros.cli', 'evaluate', 'live', bag, '--labels', LABELS,
        '--weights', tiny_weights, '--device', 'cpu', '--precision', 'fp32', '--out', out, *more]


def lines(out):
    return [json.loads(line) for line in (out / 'frames.jsonl').read_text().splitlines()]


def received(out, topic):
    return {
        image.stamp_ns: frames.decode_labels(image.message)
        for image in bags.read_images(out / 'live', topic)}


def check_labels(bag, labels, weights):
    """Check that labels, by stamp, are those of the segmenter, bit for bit."""
    segmenter = Segmenter(weights, device='cpu', precision='fp32')
    images = {image.stamp_ns: image.message for image in bags.read_images(
        bag, next(topic for topic in bags.image_topics(bag) if topic != LABELS))}
    for stamp_ns, found in labels.items():
        segmentation, = segmenter.segment([frames.decode(images[stamp_ns])], confidence=True)
        np.testing.assert_array_equal(found, segmentation.labels)


@pytest.fixture(scope='module')
def drive(tmp_path_factory, tiny_weights):
    """Return a bag, the results of its replay, and the process that made them."""
    folder = tmp_path_factory.mktemp('drive')
    bag = write_bag(folder / 'bag')
    with _processes(folder) as start:
        process = start(*arguments(bag, tiny_weights, folder / 'out'))
        process.wait(TIMEOUT_S)
        yield bag, folder / 'out', process


def test_every_frame_is_accounted_for(drive):
    bag, out, process = drive
    metrics = json.loads((out / 'metrics.json').read_text())
    run = json.loads((out / 'run.json').read_text())
    # The image that is none is a fault of the bag.
    assert process.popen.returncode == 1
    assert 'unheard of' in process.output and 'Traceback' not in process.output
    assert not process.has_left_processes()
    found = metrics['frames']
    assert found['total'] == COUNT == run['sent']
    assert 0 < found['labelled'] == run['labelled'] <= COUNT - 1
    assert found['labelled'] + sum(found['dropped'].values()) == COUNT
    assert found['truth']['exact'] == COUNT
    assert run['received'] == COUNT - found['dropped'].get('lost', 0)
    assert run['player'] == 'bag_player_node'
    assert run['command'][:3] == ['lmii', 'evaluate', 'live']
    # At five frames a second, for as long as the recording lasted.
    assert run['wall_s'] > (COUNT - 1) / 5
    assert sum(run['latency_ms']['histogram']['counts']) == found['labelled']
    assert f'{COUNT} frames, {found["labelled"]} labelled' in process.output
    statuses = [line['status'] for line in lines(out)]
    assert len(statuses) == COUNT
    assert statuses.count('labelled') == found['labelled']
    assert statuses[UNREADABLE] == 'unknown_encoding'
    assert all((line['status'] == 'labelled') == ('latency_ms' in line) for line in lines(out))
    assert all(line.get('latency_ms', 1) > 0 for line in lines(out))


def test_labels_are_those_of_the_offline_evaluation(drive, tiny_weights, tmp_path):
    bag, out, _ = drive
    labels = received(out, live.LABELS_TOPIC)
    assert len(labels) == sum(line['status'] == 'labelled' for line in lines(out))
    check_labels(bag, labels, tiny_weights)
    cli.main([
        'evaluate', 'bag', str(bag), '--labels', LABELS, '--weights', str(tiny_weights),
        '--device', 'cpu', '--precision', 'fp32', '--out', str(tmp_path / 'offline')])
    for alive, offline in zip(lines(out), lines(tmp_path / 'offline')):
        alive.pop('latency_ms', None)
        assert alive == offline or alive['status'] == 'dropped'
    metrics, offline = (
        json.loads((folder / 'metrics.json').read_text())
        for folder in (out, tmp_path / 'offline'))
    assert metrics['operating_point'] == offline['operating_point']
    if metrics['frames'] == offline['frames']:
        assert metrics['counts'] == offline['counts']


def test_a_single_pixel_that_differs_is_noticed(drive, tiny_weights):
    bag, out, _ = drive
    labels = received(out, live.LABELS_TOPIC)
    last = labels[max(labels)].copy()
    last[-1, -1] ^= 1
    with pytest.raises(AssertionError):
        check_labels(bag, labels | {max(labels): last}, tiny_weights)


@pytest.mark.parametrize('received, labelled, told, status, dropped', [
    (5, 3, {'superseded': 2}, 'superseded', {'superseded': 2}),
    (3, 3, {}, 'lost', {'lost': 2}),
    (5, 5, {}, 'labels_lost', {'labels_lost': 2}),
    (4, 3, {'superseded': 1}, 'dropped', {'superseded': 1, 'lost': 1}),
    (5, 3, {'superseded': 1}, 'superseded', {'unaccounted': 2}),
])
def test_drops_have_reasons(tmp_path, received, labelled, told, status, dropped):
    truth = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64) % 11
    with ImageBagWriter(tmp_path / 'bag') as bag, ImageBagWriter(tmp_path / 'live') as spool:
        for index in range(5):
            bag.write_image('/image', index, '', np.zeros((48, 64, 3), np.uint8), 'bgr8')
            bag.write_image('/truth', index, '', truth, 'mono8')
            if index in (0, 1, 4):
                spool.write_image(live.LABELS_TOPIC, index, '', truth, 'mono8', 50 + index)
            # Of a frame whose labels got lost, and of none whose labels came alone.
            if index in (1, 2, 4):
                spool.write_image(live.CONFIDENCE_TOPIC, index, '', truth, 'mono8', 50 + index)
    (tmp_path / 'out').mkdir()
    metrics = live.score(
        live.LiveEvaluation(tmp_path / 'bag', tmp_path / 'out', '/image', '/truth'),
        live.Drive(
            labels=tmp_path / 'live', classes=CAMVID, operating_point={}, received=received,
            labelled=labelled, dropped=Counter(told), latencies_s={0: 0.25, 1: 0.5}))
    assert metrics['frames']['dropped'] == dropped
    assert metrics['scores']['miou'] == 1
    assert sum(metrics['counts']['calibration']['pixels']) == 2 * truth.size
    # Only the first two are consecutive.
    assert metrics['counts']['temporal']['pixels'] == truth.size
    assert len(metrics['faults']) == ('unaccounted' in dropped)
    assert [line['status'] for line in lines(tmp_path / 'out')] == [
        'labelled', 'labelled', status, status, 'labelled']
    assert [line.get('latency_ms') for line in lines(tmp_path / 'out')] == [
        250, 500, None, None, None]


def test_a_drive_without_labels(tmp_path):
    with ImageBagWriter(tmp_path / 'bag') as bag, ImageBagWriter(tmp_path / 'live'):
        bag.write_image('/image', 1, '', np.zeros((48, 64, 3), np.uint8), 'bgr8')
        # A stamp twice.
        bag.write_image('/image', 1, '', np.zeros((48, 64, 3), np.uint8), 'bgr8')
    (tmp_path / 'out').mkdir()
    metrics = live.score(
        live.LiveEvaluation(tmp_path / 'bag', tmp_path / 'out'),
        live.Drive(
            labels=tmp_path / 'live', classes=CAMVID, operating_point={}, received=0,
            labelled=0, dropped=Counter(), latencies_s={}))
    assert metrics['frames']['dropped'] == {'lost': 2}
    assert metrics['scores']['miou'] is None
    stamp, none = metrics['faults']
    assert '1 images have the stamp of an earlier one' in stamp
    assert none == 'no frame was labelled'


@pytest.mark.parametrize('more, line', [
    ((), 'no such bag'),
    (('--labels', '/nothing'), f"no image topic '/nothing'; it has: {LABELS}, {IMAGE}"),
    (('--image', '/nothing'), "no image topic '/nothing'"),
    (('--rate', '0'), 'rate is 0.0, expected 0.01 to 100'),
    (('--tolerance-ms', 'nan'), 'tolerance is nan, expected 0 to 1e+06'),
])
def test_what_cannot_be_played_is_said_in_a_line(
        drive, tiny_weights, tmp_path, capsys, more, line):
    bag = drive[0] if more else tmp_path / 'nothing'
    command = arguments(bag, tiny_weights, tmp_path / 'out', *more)[3:]
    assert cli.main(list(map(str, command))) == 1
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and line in error


def test_an_interrupt_ends_all_of_it(drive, tiny_weights, tmp_path, start_process):
    process = start_process(
        *arguments(drive[0], tiny_weights, tmp_path / 'out', '--rate', '0.05'))
    process.wait_for_output('playing', TIMEOUT_S)
    process.signal(signal.SIGINT)
    assert 'Traceback' not in process.output
    process.wait_for_left_processes()
    assert not (tmp_path / 'out' / 'metrics.json').exists()


def test_what_plays_a_bag(drive, tmp_path, monkeypatch):
    evaluation = live.LiveEvaluation(bag=drive[0], out=tmp_path, rate=2)

    def command(evaluation=evaluation):
        return bag_player_node.command(evaluation, IMAGE, 'image', '/front/image')

    assert command()[0] == 'bag_player_node'
    (tmp_path / 'ros2').write_text('#!/bin/sh\n')
    (tmp_path / 'ros2').chmod(0o755)
    (tmp_path / 'ros2bag').mkdir()
    (tmp_path / 'ros2bag' / '__init__.py').touch()
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    name, words = command()
    assert name == 'ros2 bag play'
    assert words[:6] == ['ros2', 'bag', 'play', str(drive[0]), '--rate', '2.0']
    assert words[-2:] == ['--remap', f'{IMAGE}:=/front/image']
    # Without metadata it cannot.
    file = next(Path(drive[0]).glob('*.mcap'))
    assert command(live.LiveEvaluation(bag=file, out=tmp_path))[0] == 'bag_player_node'
