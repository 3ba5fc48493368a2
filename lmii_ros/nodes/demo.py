# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The demo: a camera and the segmentation node as two processes, and what came out of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image

from lmii_ros import frames
from lmii_ros import metrics
from lmii_ros import rendering
from lmii_ros import weights
from lmii_ros.bags import ImageBagWriter
from lmii_ros.classes import UNKNOWN
from lmii_ros.share import share_directory

TOPICS = {
    'image': ('image', Image),
    'ground_truth': ('ground_truth', Image),
    'labels': ('segmentation_node/labels', Image),
    'color': ('segmentation_node/color', Image),
    'drivable': ('segmentation_node/drivable', Image),
    'overlay': ('segmentation_node/overlay/compressed', CompressedImage),
}
OUTPUTS = ('labels', 'color', 'drivable', 'overlay')
SHEET_ROWS = 4
PROGRESS_PERIOD_S = 0.5
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

    :param out: Folder for contact sheet and bag; a new subfolder is made in it.
    :param source: Folder, video or bag, empty for the synthetic scene.
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


@dataclass
class Frame:
    """What is known of one camera frame, by its stamp."""

    messages: dict[str, Image | CompressedImage] = field(default_factory=dict)
    latency_s: float | None = None


class Recorder(Node):
    """Writes camera and outputs into a bag, and keeps the counts."""

    def __init__(self, bag: ImageBagWriter, num_classes: int) -> None:
        super().__init__('demo_recorder')
        self._bag = bag
        self._pending: dict[int, Frame] = {}
        self.counts = np.zeros((num_classes, num_classes + 1), np.int64)
        self.samples: list[Frame] = []
        self.sent = 0
        self.latencies: list[float] = []
        self.dropped = ''
        self.last_labelled = time.monotonic()
        for name, (topic, message_type) in TOPICS.items():
            self.create_subscription(
                message_type, topic,
                lambda message, name=name: self._on_message(name, message), QoSProfile(depth=20))
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 5)

    def _on_message(self, name: str, message: Image | CompressedImage) -> None:
        stamp = Time.from_msg(message.header.stamp)
        frame = self._pending.setdefault(stamp.nanoseconds, Frame())
        frame.messages[name] = message
        if name == 'image':
            self.sent += 1
        if name == 'labels':
            self.last_labelled = time.monotonic()
            frame.latency_s = (
                self.get_clock().now().nanoseconds - stamp.nanoseconds) / 1e9
            self.latencies.append(frame.latency_s)
        self._write(name, stamp.nanoseconds, message)
        if {'image', *OUTPUTS} <= frame.messages.keys():
            self._finish(stamp.nanoseconds, frame)

    def _write(self, name: str, stamp_ns: int, message: Image | CompressedImage) -> None:
        topic = f'/{TOPICS[name][0]}'
        frame_id = message.header.frame_id
        if isinstance(message, CompressedImage):
            self._bag.write_compressed(
                topic, stamp_ns, frame_id, message.data.tobytes(), message.format)
        else:
            pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, -1)
            if message.step > message.width:
                pixels = pixels.reshape(message.height, message.width, -1)
            self._bag.write_image(topic, stamp_ns, frame_id, pixels, message.encoding)

    def _finish(self, stamp_ns: int, frame: Frame) -> None:
        if 'ground_truth' in frame.messages:
            labels, truth = (
                frames.decode_labels(frame.messages[name]) for name in ('labels', 'ground_truth'))
            truth = np.where(truth < len(self.counts), truth, UNKNOWN).astype(np.uint8)
            self.counts += metrics.confusion(labels, truth, len(self.counts))
        self.samples.append(frame)
        if len(self.samples) > 2 * SHEET_ROWS:
            # Thinned as the demo goes on, so that memory stays bounded and the rest is spread out.
            del self.samples[1:-1:2]
        for stamp in [stamp for stamp in self._pending if stamp <= stamp_ns]:
            del self._pending[stamp]

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith('segmentation_node: segmentation'):
                self.dropped = ', '.join(
                    f'{pair.key.removeprefix("frames dropped: ")} {pair.value}'
                    for pair in status.values if pair.key.startswith('frames dropped: '))

    def progress(self) -> str:
        """Return counts, rate, latency and drops as one line."""
        line = f'{self.sent} sent, {len(self.latencies)} labelled'
        if self.latencies:
            p50, p99 = 1000 * np.percentile(self.latencies, (50, 99))
            line += f', latency p50 {p50:.0f} ms, p99 {p99:.0f} ms'
        return line + f', dropped: {self.dropped or "none"}'


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
    processes = _start(demo)
    try:
        rclpy.init(args=[])
        with ImageBagWriter(folder / 'bag') as bag:
            recorder = Recorder(bag, len(info.classes))
            _record(recorder, processes, demo)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
        rclpy.try_shutdown()
    if not recorder.samples:
        raise DemoError('no frame was labelled')
    _report(recorder, info, folder)


def _start(demo: Demo) -> list[subprocess.Popen]:
    camera = {
        'source': demo.source, 'labels': demo.labels, 'topic': demo.topic,
        'rate': float(demo.rate), 'wait_for_subscribers': 2}
    if not demo.source:
        # Made beforehand, so that drawing the scene does not take the network's time.
        camera['preload'] = max(1, round(demo.rate * demo.seconds))
    segmentation = {'weights': demo.weight_file, 'input_height': demo.input_height}
    return [
        _start_node('segmentation_node', segmentation),
        _start_node('camera_simulator_node', camera),
    ]


def _start_node(name: str, values: dict[str, object]) -> subprocess.Popen:
    command = [sys.executable, '-m', f'lmii_ros.nodes.{name}', '--ros-args']
    for key, value in values.items():
        # An empty value would be no YAML; the quotes keep names that look like numbers strings.
        text = f'"{value}"' if isinstance(value, str) else value
        command += ['-p', f'{key}:={text}']
    return subprocess.Popen(command)


def _record(recorder: Recorder, processes: list[subprocess.Popen], demo: Demo) -> None:
    segmentation, camera = processes
    started = first = time.monotonic()
    while True:
        rclpy.spin_once(recorder, timeout_sec=0.1)
        now = time.monotonic()
        if segmentation.poll() is not None:
            raise DemoError('the segmentation node ended, see above')
        if not recorder.sent:
            first = now
            if camera.poll():
                raise DemoError('the camera ended, see above')
            if now - started > START_TIMEOUT_S + demo.seconds:
                raise DemoError(f'no camera frame within {now - started:.0f} s')
        elif now - first > demo.seconds and camera.poll() is None:
            camera.terminate()
        if camera.poll() is not None and recorder.sent and (
                now - max(recorder.last_labelled, first) > LAST_FRAME_TIMEOUT_S):
            break
        _show_progress(recorder, now)
    print(f'\r{recorder.progress()}', flush=True)


def _show_progress(recorder: Recorder, now: float) -> None:
    if now - getattr(_show_progress, 'shown', 0) > PROGRESS_PERIOD_S and recorder.sent:
        _show_progress.shown = now
        print(f'\r{recorder.progress()}', end='', flush=True)


def _report(recorder: Recorder, info: weights.WeightInfo, folder: Path) -> None:
    step = max(1, len(recorder.samples) // SHEET_ROWS)
    rows, captions = [], []
    for frame in recorder.samples[::step][:SHEET_ROWS]:
        pictures = {
            name: frames.decode(message) for name, message in frame.messages.items()
            if name in ('image', 'color', 'overlay', 'drivable')}
        rows.append([pictures[name] for name in ('image', 'color', 'overlay', 'drivable')])
        captions.append(
            f'camera | classes | overlay | drivable    latency {1000 * frame.latency_s:.0f} ms')
    sheet = folder / 'contact_sheet.png'
    cv2.imwrite(str(sheet), rendering.contact_sheet(rows, captions))
    if recorder.counts.any():
        scores = metrics.scores(recorder.counts)
        drivable = ', '.join(
            f'{name} {100 * scores.iou[info.classes.classes.index(name)]:.1f} %'
            for name in info.classes.drivable)
        print(f'against ground truth: mIoU {100 * scores.miou:.1f} %, {drivable}')
    print(f'contact sheet: {sheet}\nannotated bag: {folder / "bag"}')


def _use_shared_memory_profile() -> None:
    if not any(name in os.environ for name in PROFILE_VARIABLES):
        for name in PROFILE_VARIABLES:
            os.environ[name] = str(share_directory() / 'config' / 'fastdds.xml')
