# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A node that records what a camera and the segmentation node publish, and counts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from dataclasses import field

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image

from lmii_ros import frames
from lmii_ros import metrics
from lmii_ros.bags import ImageBagWriter
from lmii_ros.classes import UNKNOWN
from lmii_ros.nodes.statistics import DROPPED

TOPICS = {
    'image': ('image', Image),
    'ground_truth': ('ground_truth', Image),
    'labels': ('segmentation_node/labels', Image),
    'color': ('segmentation_node/color', Image),
    'drivable': ('segmentation_node/drivable', Image),
    'overlay': ('segmentation_node/overlay/compressed', CompressedImage),
}
"""Topic and type of what is recorded; ground_truth may be missing."""
COMPLETE = TOPICS.keys() - {'ground_truth'}
SAMPLES = 8
PROGRESS_PERIOD_S = 0.5


@dataclass
class RecordedFrame:
    """The messages that carry one camera frame's stamp, by the names of :data:`TOPICS`."""

    messages: dict[str, Image | CompressedImage] = field(default_factory=dict)
    latency_s: float = 0.0


class RecorderNode(Node):
    """
    Writes every message into a bag, and keeps counts, latencies and a few frames.

    :param bag: Open for writing.
    :param num_classes: Of the labels; ground truth is counted where it has the same classes.
    """

    def __init__(self, bag: ImageBagWriter, num_classes: int) -> None:
        super().__init__('recorder_node')
        self._bag = bag
        self._pending: dict[int, RecordedFrame] = {}
        self._dropped = 'none'
        self.confusion = np.zeros((num_classes, num_classes + 1), np.int64)
        self.samples: list[RecordedFrame] = []
        self.sent = 0
        self.latencies_s: list[float] = []
        self.last_message = time.monotonic()
        for name, (topic, message_type) in TOPICS.items():
            self.create_subscription(
                message_type, topic,
                lambda message, name=name: self._on_message(name, message), QoSProfile(depth=20))
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 5)
        self.create_timer(PROGRESS_PERIOD_S, self._show_progress)

    def progress(self) -> str:
        """Return counts, latency and drops as one line."""
        line = f'{self.sent} sent, {len(self.latencies_s)} labelled'
        if self.latencies_s:
            p50, p99 = 1000 * np.percentile(self.latencies_s, (50, 99))
            line += f', latency p50 {p50:.0f} ms, p99 {p99:.0f} ms'
        return f'{line}, dropped: {self._dropped}'

    def _show_progress(self) -> None:
        if self.sent:
            print(f'\r{self.progress()}', end='', flush=True)

    def _on_message(self, name: str, message: Image | CompressedImage) -> None:
        self.last_message = time.monotonic()
        stamp = Time.from_msg(message.header.stamp)
        frame = self._pending.setdefault(stamp.nanoseconds, RecordedFrame())
        frame.messages[name] = message
        if name == 'image':
            self.sent += 1
        elif name == 'labels':
            frame.latency_s = (self.get_clock().now() - stamp).nanoseconds / 1e9
            self.latencies_s.append(frame.latency_s)
        self._write(name, stamp.nanoseconds, message)
        if COMPLETE <= frame.messages.keys():
            self._finish(stamp.nanoseconds)

    def _write(self, name: str, stamp_ns: int, message: Image | CompressedImage) -> None:
        topic = f'/{TOPICS[name][0]}'
        frame_id = message.header.frame_id
        if isinstance(message, CompressedImage):
            self._bag.write_compressed(
                topic, stamp_ns, frame_id, message.data.tobytes(), message.format)
        else:
            pixels = np.frombuffer(message.data, np.uint8).reshape(
                message.height, message.width, -1)
            self._bag.write_image(topic, stamp_ns, frame_id, pixels, message.encoding)

    def _finish(self, stamp_ns: int) -> None:
        frame = self._pending[stamp_ns]
        if 'ground_truth' in frame.messages:
            labels, truth = (
                frames.decode_labels(frame.messages[name]) for name in ('labels', 'ground_truth'))
            truth = np.where(truth < len(self.confusion), truth, np.uint8(UNKNOWN))
            self.confusion += metrics.confusion(labels, truth, len(self.confusion))
        self.samples.append(frame)
        if len(self.samples) > SAMPLES:
            # Thinned as time goes on: memory stays bounded, and what is kept is spread out.
            del self.samples[1:-1:2]
        for stamp in [stamp for stamp in self._pending if stamp <= stamp_ns]:
            del self._pending[stamp]

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            dropped = [pair for pair in status.values if pair.key.startswith(DROPPED)]
            if dropped:
                self._dropped = ', '.join(
                    f'{pair.key.removeprefix(DROPPED)} {pair.value}' for pair in dropped)
