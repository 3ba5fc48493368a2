# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the node does where memory runs out, and what it asks of a frame."""

from __future__ import annotations

from dataclasses import replace
import logging
import threading
import time
import weakref

from lmii_ros.engines import NonFiniteOutput
from lmii_ros.engines import OutOfMemory
import numpy as np
import pytest

operation = pytest.importorskip('lmii_ros.nodes.operation')

from lmii_ros.nodes.parameters import Settings  # noqa: E402

FRAME = np.zeros((128, 192, 3), np.uint8)


@pytest.fixture
def run():
    """Return a function that gives an operation, closed after the test with all its threads."""
    started = []

    def start(settings):
        started.append(operation.Operation(settings, logging.getLogger('test')))
        return started[-1]

    yield start
    for running in started:
        running.close()
    for thread in threading.enumerate():
        if thread.name == 'standby':
            thread.join()


def label(running, camera, frame, settings):
    """Label a frame, of which nobody needs the confidence."""
    return running.segment(camera, lambda: frame, frame, settings, confidence=False, finish=list)


def test_a_smaller_input_has_the_memory_of_the_attempt_that_failed(run, rated_weights):
    settings = Settings(
        weights=str(rated_weights), engine='torch', device='cpu', input_height=256)
    running = run(settings)
    label(running, '', FRAME, settings)
    segment = running.segmenter.segment
    taken, free = [], []

    def little_memory(frames, **options):
        if not taken:
            memory = np.zeros(8)
            taken.append(weakref.ref(memory))
            raise OutOfMemory('out of memory')
        free.append(taken[0]() is None)
        return segment(frames, **options)

    running.segmenter.segment = little_memory
    found = label(running, '', FRAME, settings)
    assert found.labels.shape == FRAME.shape[:2]
    assert running.segmenter.input_height == 128
    assert free == [True]
    assert running.warning() == (
        'memory ran out: at input height 128 instead of 256; set input_height to try again')
    label(running, '', FRAME, settings)
    assert running.segmenter.input_height == 128
    # A second time there would be no end to it.
    taken.clear()
    with pytest.raises(operation.NodeFailed, match='out of memory; use a smaller network'):
        label(running, '', FRAME, settings)
    running.retry()
    label(running, '', FRAME, settings)
    assert running.segmenter.input_height == 256
    assert not running.warning()


@pytest.mark.parametrize('cameras, leaves', [(('front',), False), (('front', 'left'), True)])
def test_several_cameras_share_the_time(run, rated_weights, cameras, leaves):
    settings = Settings(
        weights=str(rated_weights), engine='torch', device='cpu', threads=1, target_fps=5.0,
        cameras=cameras)
    running = run(settings)
    for _ in range(2):
        for camera in cameras:
            label(running, camera, FRAME, settings)
    point = running.facts()['operating point']
    assert point.endswith('as chosen')
    deadline = time.monotonic() + (20.0 if leaves else 3.0)
    while running.facts()['operating point'] == point and time.monotonic() < deadline:
        # As if it took less than the 200 ms from one frame to the next, but not half of that.
        running.labelled(0.15)
        time.sleep(0.02)
    assert (running.facts()['operating point'] != point) == leaves


def test_a_camera_of_another_size_joins_at_the_chosen_point(run, rated_weights, caplog):
    settings = Settings(
        weights=str(rated_weights), engine='torch', device='cpu', threads=1, target_fps=2.0,
        cameras=('front', 'left'))
    running = run(settings)
    other = np.zeros((96, 96, 3), np.uint8)
    with caplog.at_level(logging.INFO):
        for _ in range(2 * operation.MAX_STRAY):
            for camera, frame in (('front', FRAME), ('left', other)):
                found = label(running, camera, frame, settings)
                assert found.labels.shape == frame.shape[:2]
        assert caplog.text.count('candidates timed') == 1
        # What stays at another size is measured anew, once.
        for _ in range(2 * operation.MAX_STRAY):
            for camera, frame in (('left', FRAME), ('front', other)):
                label(running, camera, frame, settings)
    assert caplog.text.count('candidates timed') == 2


@pytest.mark.parametrize('target_fps', [0.0, 2.0])
def test_what_cannot_be_prepared_is_tried_once(run, rated_weights, monkeypatch, target_fps):
    settings = Settings(
        weights=str(rated_weights), engine='torch', device='cpu', threads=1,
        target_fps=target_fps, cameras=('front', 'left'))
    running = run(settings)
    other = np.zeros((96, 160, 3), np.uint8)
    label(running, 'front', FRAME, settings)
    tried = []

    def no_memory(frame_size):
        tried.append(frame_size)
        raise OutOfMemory('out of memory')

    monkeypatch.setattr(running.segmenter, 'prepare', no_memory)
    for _ in range(5):
        for camera, frame in (('front', FRAME), ('left', other)):
            label(running, camera, frame, settings)
    assert tried == [other.shape[:2]]
    assert not running.warning() and not running.paused


def test_a_camera_whose_network_cannot_be_prepared_does_not_pause_the_others(
        run, rated_weights, monkeypatch):
    settings = Settings(
        weights=str(rated_weights), engine='torch', device='cpu', threads=1, target_fps=2.0,
        cameras=('front', 'left'))
    running = run(settings)
    label(running, 'front', FRAME, settings)

    def not_finite(frame_size):
        raise NonFiniteOutput('not finite')

    monkeypatch.setattr(running.segmenter, 'prepare', not_finite)
    with pytest.raises(NonFiniteOutput):
        label(running, 'left', np.zeros((96, 160, 3), np.uint8), settings)
    label(running, 'front', FRAME, settings)
    assert not running.paused


def test_each_size_is_prepared_before_its_frames_where_the_point_is_fixed(run, rated_weights):
    settings = Settings(
        weights=str(rated_weights), engine='torch', device='cpu', threads=1,
        cameras=('front', 'left'))
    running = run(settings)
    frames = {'front': FRAME, 'left': np.zeros((128, 96, 3), np.uint8)}
    prepared, prepare = [], running.segmenter.prepare
    running.segmenter.prepare = lambda frame_size: (
        prepared.append((running.paused, frame_size)), prepare(frame_size))
    for height in (64, 128):
        prepared.clear()
        changed = replace(settings, input_height=height)
        for _ in range(3):
            for camera, frame in frames.items():
                label(running, camera, frame, changed)
        assert prepared == [
            (operation.PREPARING, frame.shape[:2]) for frame in frames.values()]
