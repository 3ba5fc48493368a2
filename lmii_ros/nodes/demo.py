# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The demo: a camera and the segmentation node as two processes, and what came out of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import rclpy
from rclpy.executors import ExternalShutdownException

from lmii_ros import frames
from lmii_ros import metrics
from lmii_ros import rendering
from lmii_ros import weights
from lmii_ros.bags import ImageBagWriter
from lmii_ros.classes import ClassTable
from lmii_ros.nodes.recorder_node import TOPICS
from lmii_ros.nodes.recorder_node import RecorderNode
from lmii_ros.share import share_directory

SHEET_COLUMNS = ('image', 'color', 'overlay', 'drivable')
SHEET_ROWS = 4
MAX_PRELOAD = 120
"""Synthetic frames that are made beforehand; a longer demo repeats them."""
START_TIMEOUT_S = 60.0
LAST_FRAME_TIMEOUT_S = 3.0
"""How long the last frames may take after the camera has ended."""
PROFILE_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
"""Where Fast DDS 3 and 2 look for a profile."""


class DemoError(ValueError):
    """The demo could not run; the message is one line for the user."""


@dataclass(frozen=True)
class Demo:
    """
    What to show.

    :param out: Folder in which a new one is made for contact sheet and bag.
    :param source: Folder, video or bag; empty for the synthetic scene.
    :param labels: Where the source's ground truth is, see the camera simulator.
    :param topic: Image topic of a bag.
    :param weight_file: Path or name of a weight file.
    :param input_height: Height at which the network sees the frames, 0 for that of its training.
    :param rate: Frames per second of the camera.
    :param seconds: How long the camera runs, if its source does not end before.
    """

    out: Path
    source: str = ''
    labels: str = ''
    topic: str = ''
    weight_file: str = 'lpsnet_s_camvid'
    input_height: int = 0
    rate: float = 8.0
    seconds: float = 15.0


def run(demo: Demo) -> None:
    """
    Run the demo and print where its results are.

    :raises DemoError: If a process fails, or no frame was labelled.
    :raises WeightError: If there are no such weights.
    """
    info, _ = weights.load(weights.find(demo.weight_file))
    folder = demo.out / time.strftime('%Y%m%d-%H%M%S')
    folder.mkdir(parents=True)
    _use_shared_memory_profile()
    processes = []
    with ImageBagWriter(folder / 'bag') as bag:
        try:
            rclpy.init(args=[])
            recorder = RecorderNode(bag, len(info.classes))
            processes.append(_start_segmentation(demo))
            _wait_for_outputs(recorder, *processes)
            processes.append(_start_camera(demo))
            _record(recorder, *processes, demo.seconds)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
            rclpy.try_shutdown()
    print(f'\r{recorder.progress()}')
    if not recorder.samples:
        raise DemoError('no frame was labelled')
    _print_scores(recorder, info.classes)
    print(f'contact sheet: {_write_contact_sheet(recorder, folder)}')
    print(f'annotated bag: {folder / "bag"}')


def _use_shared_memory_profile() -> None:
    if not any(name in os.environ for name in PROFILE_VARIABLES):
        for name in PROFILE_VARIABLES:
            os.environ[name] = str(share_directory() / 'config' / 'fastdds.xml')


def _start_segmentation(demo: Demo) -> subprocess.Popen:
    return _start_node('segmentation_node', {
        'weights': demo.weight_file, 'input_height': demo.input_height})


def _start_camera(demo: Demo) -> subprocess.Popen:
    camera = {
        'source': demo.source, 'labels': demo.labels, 'topic': demo.topic,
        'rate': float(demo.rate), 'wait_for_subscribers': 2}
    if not demo.source:
        # Made beforehand, so that drawing the scene does not take the network's time.
        camera['preload'] = min(MAX_PRELOAD, max(1, round(demo.rate * demo.seconds)))
    return _start_node('camera_simulator_node', camera)


def _start_node(name: str, values: dict[str, object]) -> subprocess.Popen:
    command = [sys.executable, '-m', f'lmii_ros.nodes.{name}', '--ros-args']
    for key, value in values.items():
        # Quoted, so that an empty text and one that looks like a number stay texts in YAML.
        command += ['-p', f'{key}:="{value}"' if isinstance(value, str) else f'{key}:={value}']
    return subprocess.Popen(command)


def _wait_for_outputs(recorder: RecorderNode, segmentation: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not recorder.count_publishers(TOPICS['labels'][0]):
        rclpy.spin_once(recorder, timeout_sec=0.1)
        _check_running(segmentation)
        if time.monotonic() > deadline:
            raise DemoError(f'the segmentation node did not start within {START_TIMEOUT_S:.0f} s')


def _record(
    recorder: RecorderNode,
    segmentation: subprocess.Popen,
    camera: subprocess.Popen,
    seconds: float,
) -> None:
    first = None
    deadline = time.monotonic() + START_TIMEOUT_S + seconds
    while True:
        rclpy.spin_once(recorder, timeout_sec=0.1)
        now = time.monotonic()
        _check_running(segmentation)
        if camera.poll():
            raise DemoError('the camera ended, see above')
        if not recorder.sent:
            if now > deadline or camera.poll() is not None:
                raise DemoError('the camera sent no frame')
            continue
        first = first or now
        if camera.poll() is None and now - first > seconds:
            camera.terminate()
        if camera.poll() is not None and now - recorder.last_message > LAST_FRAME_TIMEOUT_S:
            return


def _check_running(segmentation: subprocess.Popen) -> None:
    if segmentation.poll() is not None:
        raise DemoError('the segmentation node ended, see above')


def _print_scores(recorder: RecorderNode, classes: ClassTable) -> None:
    if not recorder.confusion.any():
        return
    scores = metrics.scores(recorder.confusion)
    drivable = ', '.join(
        f'{name} {100 * scores.iou[index]:.1f} %'
        for name, index in zip(classes.drivable, classes.indices(classes.drivable)))
    print(f'against ground truth: mIoU {100 * scores.miou:.1f} %, IoU of {drivable}')


def _write_contact_sheet(recorder: RecorderNode, folder: Path) -> Path:
    chosen = recorder.samples[::max(1, len(recorder.samples) // SHEET_ROWS)][:SHEET_ROWS]
    path = folder / 'contact_sheet.png'
    cv2.imwrite(str(path), rendering.contact_sheet(
        [[frames.decode(frame.messages[name]) for name in SHEET_COLUMNS] for frame in chosen],
        [f'{" | ".join(SHEET_COLUMNS)}, latency {1000 * frame.latency_s:.0f} ms'
         for frame in chosen]))
    return path
