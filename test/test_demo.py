# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The demo shows and records what camera and network give, and leaves nothing running."""

from __future__ import annotations

from pathlib import Path
import re
import signal
import sys

import cv2
from lmii_ros import bags
from lmii_ros import frames
from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import RoadScene
import numpy as np
import pytest

pytest.importorskip('rclpy')

TIMEOUT_S = 60.0
OUTPUTS = tuple(f'/segmentation_node/{name}' for name in (
    'labels', 'color', 'drivable', 'overlay/compressed'))


def start(start_process, *arguments):
    return start_process(sys.executable, '-m', 'lmii_ros.cli', 'demo', *arguments)


def results(demo):
    """Return the paths that the demo has printed."""
    assert demo.wait(TIMEOUT_S) == 0, demo.output
    assert 'Traceback' not in demo.output
    assert not demo.has_left_processes()
    return [
        Path(re.search(f'^{name}: (.*)$', demo.output, re.MULTILINE)[1])
        for name in ('contact sheet', 'annotated bag')]


def test_the_synthetic_scene(start_process, tmp_path):
    demo = start(start_process, '--seconds', '4', '--rate', '4', '--out', tmp_path)
    sheet, bag = results(demo)
    assert tmp_path in sheet.parents and tmp_path in bag.parents
    assert cv2.imread(str(sheet)).shape[1] == 1600
    assert re.search(r'\d+ sent, [1-9]\d* labelled, latency p50 \d+ ms', demo.output)
    assert re.search(r'against ground truth: mIoU [\d.]+ %, IoU of Road [\d.]+ %', demo.output)
    topics = bags.image_topics(bag)
    assert set(topics) == {'/image', '/ground_truth', *OUTPUTS}
    stamps = {
        topic: [image.stamp_ns for image in bags.read_images(bag, topic)] for topic in topics}
    assert all(len(values) >= 2 for values in stamps.values())
    for topic in OUTPUTS:
        assert set(stamps[topic]) <= set(stamps['/image'])
        assert stamps[topic] == stamps['/segmentation_node/labels']
    labels = next(iter(bags.read_images(bag, '/segmentation_node/labels')))
    assert frames.decode_labels(labels.message).max() < 11


def test_a_folder_with_labels_and_weights_of_ones_own(start_process, tmp_path, tiny_weights):
    for name in ('images', 'labels'):
        (tmp_path / name).mkdir()
    scene = RoadScene(seed=1, camera=PinholeCamera.from_fov(160, 120))
    for index in range(6):
        frame = scene.render(index / 2)
        cv2.imwrite(str(tmp_path / 'images' / f'{index}.png'), frame.image)
        cv2.imwrite(str(tmp_path / 'labels' / f'{index}.png'), frame.labels)
    demo = start(
        start_process, '--source', tmp_path / 'images', '--labels', tmp_path / 'labels',
        '--weights', tiny_weights, '--rate', '4', '--out', tmp_path / 'out')
    _, bag = results(demo)
    assert 'against ground truth: mIoU' in demo.output
    sent = [
        frames.decode(image.message) for image in bags.read_images(bag, '/image')]
    assert len(sent) == 6
    for index, image in enumerate(sent):
        np.testing.assert_array_equal(
            image, cv2.imread(str(tmp_path / 'images' / f'{index}.png')))


@pytest.mark.parametrize('option, value, line', [
    ('--source', 'nothing', 'nothing: no such file or folder'),
    ('--weights', 'nothing', 'lmii demo: no weight file nothing; shipped'),
])
def test_what_cannot_work_is_said_in_a_line(start_process, tmp_path, option, value, line):
    demo = start(start_process, '--out', tmp_path, option, value)
    assert demo.wait(TIMEOUT_S) == 1
    demo.wait_for_output(line)
    assert 'Traceback' not in demo.output
    assert not demo.has_left_processes()


def test_an_interrupt_ends_all_of_it(start_process, tmp_path, tiny_weights):
    demo = start(
        start_process, '--out', tmp_path, '--weights', tiny_weights, '--seconds', '30',
        '--rate', '1')
    demo.wait_for_output(r'[1-9]\d* labelled', TIMEOUT_S)
    code, _ = demo.signal(signal.SIGINT)
    assert code == 0
    assert 'Traceback' not in demo.output
    assert not demo.has_left_processes()
    assert 'annotated bag: ' in demo.output
