# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A node that receives what a camera and a segmentation node publish, and notes when."""

from __future__ import annotations

import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo

from lmii_ros.nodes.image_message import deserialize
from lmii_ros.nodes.outputs import TOPICS
from lmii_ros.nodes.statistics import status_name
from lmii_ros.nodes.statistics import status_of

KEPT = 8
"""Label images that are kept, the first ones."""


class ObserverNode(Node):
    """
    Keeps times, counts and a few labels; of the camera, only camera_info is received.

    :param namespace: Of camera and node.
    :param node_name: The node's name.
    :param outputs: Its topics, of :data:`lmii_ros.nodes.outputs.TOPICS`.
    :ivar stamps: Of the camera's frames in nanoseconds, in their order.
    :ivar received: When each output of a frame came, by output and stamp, in nanoseconds.
    :ivar labels: By stamp.
    :ivar told: The values in the node's newest diagnostics.
    """

    def __init__(self, namespace: str, node_name: str, outputs: tuple[str, ...]) -> None:
        super().__init__('observer_node', namespace=namespace)
        self._status_name = status_name(f'{namespace}/{node_name}')
        self.told: dict[str, str] = {}
        self.forget()
        queue = QoSProfile(depth=100)
        for name in outputs:
            self.create_subscription(
                TOPICS[name], f'{node_name}/{name}',
                lambda data, name=name: self._on_output(name, data), queue, raw=True)
        self.create_subscription(CameraInfo, 'camera_info', self._on_camera_info, queue)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 5)

    def forget(self) -> None:
        """Start anew."""
        self.stamps: list[int] = []
        self.received: dict[str, dict[int, int]] = {}
        self.labels: dict[int, Any] = {}
        self.last_message = time.monotonic()

    def silence_s(self) -> float:
        """Return the seconds without a message of a frame."""
        return time.monotonic() - self.last_message

    def _on_camera_info(self, message: CameraInfo) -> None:
        self.stamps.append(Time.from_msg(message.header.stamp).nanoseconds)
        self.last_message = time.monotonic()

    def _on_output(self, name: str, data: bytes) -> None:
        self.last_message = time.monotonic()
        # The observer takes as little of the nodes' processor time as it can.
        message = deserialize(data, TOPICS[name].__name__)
        stamp = Time.from_msg(message.header.stamp).nanoseconds
        self.received.setdefault(name, {})[stamp] = self.get_clock().now().nanoseconds
        if name == 'labels' and len(self.labels) < KEPT:
            self.labels[stamp] = message

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        found = status_of(message, self._status_name)
        if found is not None:
            _, self.told = found
