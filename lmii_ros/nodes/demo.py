# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The demo: a camera and the segmentation node as two processes, and what came out of them."""

from __future__ import annotations

import subprocess
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
from lmii_ros.nodes import child_nodes
from lmii_ros.nodes.child_nodes import ChildNodes
from lmii_ros.nodes.child_nodes import START_TIMEOUT_S
from lmii_ros.nodes.recorder_node import TOPICS
from lmii_ros.nodes.recorder_node import RecorderNode

SHEET_COLUMNS = ('image', 'color', 'overlay', 'drivable')
SHEET_ROWS = 4
MAX_PRELOAD = 120
"""Synthetic frames that are made beforehand; a longer demo repeats them."""
LAST_FRAME_TIMEOUT_S = 3.0
"""How long the last frames may take after the camera has ended."""


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

    :raises ChildNodeError: If a process fails.
    :raises DemoError: If no frame was sent or labelled.
    :raises WeightError: If there are no such weights.
    """
    classes = weights.read_info(weights.find(demo.weight_file)).classes
    folder = demo.out / time.strftime('%Y%m%d-%H%M%S')
    folder.mkdir(parents=True)
    with ImageBagWriter(folder / 'bag') as bag, child_nodes.observing():
        recorder = RecorderNode(bag, len(classes))
        try:
            with ChildNodes() as children:
                segmentation = children.start('segmentation_node', {
                    'weights': demo.weight_file, 'input_height': demo.input_height})
                child_nodes.wait_for_publisher(recorder, TOPICS['labels'][0], segmentation)
                camera = children.start('camera_simulator_node', _camera_parameters(demo))
                _record(recorder, segmentation, camera, demo.seconds)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
    print(f'\r{recorder.progress()}')
    if not recorder.latencies_s:
        raise DemoError('no frame was labelled')
    _print_scores(recorder, classes)
    if recorder.samples:
        print(f'contact sheet: {_write_contact_sheet(recorder, folder)}')
    print(f'annotated bag: {folder / "bag"}')


def _camera_parameters(demo: Demo) -> dict[str, object]:
    camera = {
        'source': demo.source, 'labels': demo.labels, 'topic': demo.topic,
        'rate': float(demo.rate), 'wait_for_subscribers': 2}
    if not demo.source:
        # Made beforehand, so that drawing the scene does not take the network's time.
        camera['preload'] = min(MAX_PRELOAD, max(1, round(demo.rate * demo.seconds)))
    return camera


def _record(
    recorder: RecorderNode,
    segmentation: subprocess.Popen,
    camera: subprocess.Popen,
    seconds: float,
) -> None:
    first = None
    told_to_end = False
    deadline = time.monotonic() + START_TIMEOUT_S + seconds
    while True:
        rclpy.spin_once(recorder, timeout_sec=0.1)
        now = time.monotonic()
        child_nodes.check_running(segmentation)
        if camera.poll():
            raise DemoError('the camera ended, see above')
        if not recorder.sent:
            if now > deadline or camera.poll() is not None:
                raise DemoError('the camera sent no frame')
            continue
        first = first or now
        if not told_to_end and now - first > seconds:
            # Once: a second signal may come when the process has no handler left.
            camera.terminate()
            told_to_end = True
        # The network may still be made ready for the first frame.
        limit_s = LAST_FRAME_TIMEOUT_S if recorder.latencies_s else START_TIMEOUT_S
        if camera.poll() is not None and now - recorder.last_message > limit_s:
            return


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
