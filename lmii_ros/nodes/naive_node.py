# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The node of the tutorials, written plainly: what the benchmark measures ours against."""

from __future__ import annotations

import sys

import numpy as np
import torch
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from lmii_ros.benchmark.naive import NaivePipeline
from lmii_ros.nodes import process

QUEUE = 10
"""Of subscriber and publishers, as everybody writes it."""


class NaiveNode(Node):
    """
    Labels bgr8 images in the subscriber's callback; publishes ~/labels and ~/overlay.

    Every frame in the queue is labelled, however old, and everything is computed, whoever listens.
    """

    def __init__(self) -> None:
        super().__init__('naive_node')
        self.finished = Future()
        weights = self.declare_parameter('weights', 'lpsnet_s_camvid').value
        height = self.declare_parameter('input_height', 512).value
        width = self.declare_parameter('input_width', 912).value
        threads = self.declare_parameter('threads', 0).value
        if threads:
            torch.set_num_threads(threads)
        self._pipeline = NaivePipeline(weights, (height, width))
        self._labels = self.create_publisher(Image, '~/labels', QUEUE)
        self._overlay = self.create_publisher(Image, '~/overlay', QUEUE)

    def start(self) -> None:
        """Subscribe. See :class:`process.RunnableNode`."""
        self.create_subscription(Image, 'image', self._on_image, QUEUE)

    def stop(self) -> None:
        """There is nothing to end."""

    def _on_image(self, message: Image) -> None:
        frame = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        labels, overlay = self._pipeline(frame)
        self._labels.publish(_message(message.header, labels, 'mono8'))
        self._overlay.publish(_message(message.header, overlay, 'rgb8'))


def _message(header: Header, pixels: np.ndarray, encoding: str) -> Image:
    message = Image()
    message.header = header
    message.height, message.width = pixels.shape[:2]
    message.encoding = encoding
    message.step = pixels.strides[0]
    message.data = pixels.tobytes()
    return message


def main() -> int:
    """Run the node as a process."""
    return process.run(NaiveNode)


if __name__ == '__main__':
    sys.exit(main())
