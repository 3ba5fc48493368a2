# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""One camera of the segmentation node: what comes from it, and what is published of it."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from typing import Any
from typing import Callable
from typing import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from lmii_ros import frames
from lmii_ros.classes import ClassTable
from lmii_ros.frames import FrameError
from lmii_ros.nodes.image_message import deserialize
from lmii_ros.nodes.mounting import Mounting
from lmii_ros.nodes.outputs import Outputs
from lmii_ros.nodes.outputs import topic_below
from lmii_ros.nodes.pace import Pace
from lmii_ros.nodes.parameters import QOS_OVERRIDES
from lmii_ros.nodes.parameters import Settings
from lmii_ros.nodes.statistics import FrameStatistics

if TYPE_CHECKING:
    from lmii_ros.segmenter import Segmentation

IMAGE_TYPES = {'raw': Image, 'compressed': CompressedImage}
"""By image_transport."""
WARNING_PERIOD_S = 5.0
SILENCE_WARNING_PERIOD_S = 30.0
STEPS = ('waiting', 'decoding', 'segmenting', 'publishing')
"""What a frame goes through, as diagnostics name it."""
MAX_LATENCY_S = 60.0
"""A stamp older than this, or in the future, is of another clock and tells no latency."""


class CameraStream:
    """
    The topics of one camera, its newest calibration, and the counts of its frames.

    :param node: The node; it is not configured yet.
    :param camera: Name that its topics are below; empty for the only camera, whose topics are
        below none.
    :param mounting: Which tells where the camera is.
    """

    def __init__(self, node: LifecycleNode, camera: str, mounting: Mounting) -> None:
        self.camera = camera
        self._mounting = mounting
        self.statistics = FrameStatistics()
        self.pace = Pace()
        self.outputs: Outputs | None = None
        self._node = node
        # Of its own: of what one logger is to tell now and then, it tells only what is first.
        self._logger = node.get_logger().get_child(camera) if camera else node.get_logger()
        self._camera_info: CameraInfo | None = None
        self._image_transport = ''
        self._subscriptions: list = []

    def configure(self, classes: ClassTable) -> None:
        """
        Create the publishers, and count anew.

        :param classes: The classes that the labels mean.
        """
        self.outputs = Outputs(
            self._node, classes, self.camera, self._mounting, self._logger)
        self.statistics = FrameStatistics()

    def subscribe(
        self, image_transport: str, on_image: Callable[[CameraStream, Any, float], None],
    ) -> None:
        """
        Receive from now on.

        :param image_transport: ``raw`` or ``compressed``.
        :param on_image: Called from the executor's thread for each image whose labels are wanted,
            with the message and the steady time when it came.
        """
        # Sensor data (REP 2003), with its depth: what comes while the process does not get the
        # processor is counted as superseded, by the slot, and not lost unseen.
        sensor_data = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        # Another camera may be there than before.
        self._camera_info = None
        topic, message_type = self._image_topics()[image_transport], IMAGE_TYPES[image_transport]
        self._image_transport = image_transport
        self._subscriptions.append(self._node.create_subscription(
            message_type, topic, partial(self._on_image, message_type.__name__, on_image),
            sensor_data, qos_overriding_options=QOS_OVERRIDES, raw=True))
        self._logger.info(
            f'waiting for images on {self._node.resolve_topic_name(topic)} '
            f'({_ros_type(image_transport)})')
        self._subscriptions.append(self._node.create_subscription(
            CameraInfo, topic_below(self.camera, 'camera_info'), self._on_camera_info, sensor_data,
            qos_overriding_options=QOS_OVERRIDES))

    def unsubscribe(self) -> None:
        """Receive no more."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def close(self) -> None:
        """Remove the publishers."""
        if self.outputs is not None:
            self.outputs.close()
        self.outputs = None

    def publish(
        self,
        header: Header,
        frame: np.ndarray,
        segmentation: Segmentation,
        settings: Settings,
        times: Sequence[float],
    ) -> None:
        """
        Publish what a frame gave, and count it.

        All but the times is as of :meth:`lmii_ros.nodes.outputs.Outputs.publish`.

        :param times: Steady times at which it came, and at which each of :data:`STEPS` but the
            last was done.
        """
        self.outputs.publish(header, frame, segmentation, self._camera_info, settings)
        latency = (self._node.get_clock().now().nanoseconds - _nanoseconds(header.stamp)) / 1e9
        self.statistics.labelled(
            latency if 0 <= latency < MAX_LATENCY_S else None,
            dict(zip(STEPS, np.diff([*times, time.monotonic()]))))

    def warning(self) -> str:
        """Return why an output with subscribers is not published, '' where all are."""
        return self.outputs.warning() if self.outputs is not None else ''

    def why_silent(self) -> str:
        """Return why no images come, as far as that can be known, and warn of it."""
        node, transport = self._node, self._image_transport
        topics = {
            name: node.resolve_topic_name(topic) for name, topic in self._image_topics().items()}
        types = {
            name: {publisher.topic_type for publisher in node.get_publishers_info_by_topic(topic)}
            for name, topic in topics.items()}
        suited = [name for name in topics if _ros_type(name) in types[name]]
        why = f'nothing is published on {topics[transport]}'
        if transport in suited:
            why = f'what publishes on {topics[transport]} sends none'
        elif types[transport]:
            why = (
                f'{topics[transport]} is of type {", ".join(sorted(types[transport]))}, expected '
                f'{_ros_type(transport)}')
        elif suited:
            why += f'; image_transport {suited[0]} would find images on {topics[suited[0]]}'
        self._logger.warning(f'no images: {why}', throttle_duration_sec=SILENCE_WARNING_PERIOD_S)
        return why

    def drop(self, reason: str, why: str) -> None:
        """Count a frame that cannot be labelled, and warn of it."""
        self.statistics.dropped(reason)
        self._logger.warning(
            f'frame dropped: {why}', throttle_duration_sec=WARNING_PERIOD_S)

    def _image_topics(self) -> dict[str, str]:
        """Return the topic of the images by transport."""
        resolve = self._node.resolve_topic_name
        raw, compressed = (
            topic_below(self.camera, topic) for topic in ('image', 'image/compressed'))
        if resolve(compressed) == resolve(compressed, only_expand=True):
            # Below that of image, as image_transport has it, unless it is remapped itself.
            compressed = f'{resolve(raw)}/compressed'
        return {'raw': raw, 'compressed': compressed}

    def _on_image(
        self, name: str, on_image: Callable[[CameraStream, Any, float], None], data: bytes,
    ) -> None:
        try:
            message = deserialize(data, name)
        except FrameError as error:
            self.statistics.received()
            self.drop(error.reason, str(error))
            return
        self.statistics.received(_nanoseconds(message.header.stamp))
        if self.outputs.wanted():
            on_image(self, message, time.monotonic())
            return
        self.statistics.dropped('no_subscriber')
        if self.outputs.wanted('camera_info'):
            with suppress(FrameError):
                self.outputs.publish_camera_info(
                    message.header, self._camera_info, frames.size(message))

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = message


def _ros_type(image_transport: str) -> str:
    return f'sensor_msgs/msg/{IMAGE_TYPES[image_transport].__name__}'


def _nanoseconds(stamp: Time) -> int:
    # Not rclpy.time.Time: it refuses what is before 1970, and stamps are what they are.
    return 10 ** 9 * stamp.sec + stamp.nanosec
