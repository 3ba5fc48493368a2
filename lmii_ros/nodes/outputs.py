# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The segmentation node's output topics; what nobody subscribes to is not computed."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
from geometry_msgs.msg import PolygonStamped
from nav_msgs.msg import OccupancyGrid
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from lmii_ros import rendering
from lmii_ros.camera import CameraError
from lmii_ros.classes import ClassTable
from lmii_ros.drivable import drivable_area
from lmii_ros.drivable import drivable_boundary
from lmii_ros.nodes import ground
from lmii_ros.nodes.image_message import compressed_message
from lmii_ros.nodes.image_message import image_message
from lmii_ros.nodes.mounting import Mounting
from lmii_ros.nodes.parameters import QOS_OVERRIDES
from lmii_ros.nodes.parameters import Settings

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecyclePublisher

    from lmii_ros.segmenter import Segmentation

try:
    from vision_msgs.msg import LabelInfo
    from vision_msgs.msg import VisionClass
except ImportError:
    LabelInfo = None

TOPICS = {
    'labels': Image,
    'color': Image,
    'overlay': Image,
    'overlay/compressed': CompressedImage,
    'confidence': Image,
    'drivable': Image,
}
"""Name, below the node's own, and type of each output that is an image of a frame's labels."""
GROUND_TOPICS = {
    'drivable_boundary': PolygonStamped,
    'drivable_grid': OccupancyGrid,
}
"""Likewise of those on the ground, in the vehicle's frame."""
MISMATCH_WARNING_PERIOD_S = 30.0


class Outputs:
    """
    The publishers of one camera of a node, while that is configured.

    :param node: The node; the topics are private to it.
    :param classes: The classes that the labels mean.
    :param camera: Name that the topics are below; empty for none.
    :param mounting: Of this camera among others.
    :param logger: For what is wrong with this camera.
    """

    def __init__(
        self, node: LifecycleNode, classes: ClassTable, camera: str, mounting: Mounting,
        logger: Any,
    ) -> None:
        self._node = node
        self._logger = logger
        self._classes = classes
        self._camera = camera
        self._mounting = mounting
        self._palette = classes.palette()
        self._publishers: dict[str, LifecyclePublisher] = {}
        self._no_ground = ''
        try:
            for name, message_type in {
                    **TOPICS, **GROUND_TOPICS, 'camera_info': CameraInfo}.items():
                self._create(name, message_type, QoSProfile(depth=1))
            if LabelInfo is None:
                node.get_logger().info(
                    'vision_msgs is not installed, so ~/label_info is not published '
                    '(apt install ros-$ROS_DISTRO-vision-msgs)', once=True)
            else:
                self._create('label_info', LabelInfo, QoSProfile(
                    depth=1, reliability=ReliabilityPolicy.RELIABLE,
                    durability=DurabilityPolicy.TRANSIENT_LOCAL))
        except Exception:
            self.close()
            raise

    def _create(self, name: str, message_type: type, qos: QoSProfile) -> None:
        self._publishers[name] = self._node.create_lifecycle_publisher(
            message_type, f'~/{topic_below(self._camera, name)}', qos,
            qos_overriding_options=QOS_OVERRIDES)

    def close(self) -> None:
        """Remove the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)

    def wanted(self, *names: str) -> bool:
        """Return whether one of these has a subscriber; by default, of all that need labels."""
        return any(
            self._publishers[name].get_subscription_count() > 0
            for name in names or (*TOPICS, *GROUND_TOPICS))

    def publish_label_info(self, min_confidence: float) -> None:
        """Publish, once for all subscribers to come, which class each label means."""
        if LabelInfo is None:
            return
        message = LabelInfo(threshold=min_confidence)
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.class_map = [
            VisionClass(class_id=index, class_name=name)
            for index, name in enumerate(self._classes.classes)]
        self._publishers['label_info'].publish(message)

    def publish(
        self,
        header: Header,
        frame: np.ndarray,
        segmentation: Segmentation,
        camera_info: CameraInfo | None,
        settings: Settings,
    ) -> None:
        """
        Publish what a frame gave, on each topic that has a subscriber.

        :param header: The frame's, which every output carries; those on the ground its stamp.
        :param frame: uint8 [H, W, 3], blue, green, red.
        :param segmentation: Of this frame, with confidence if that topic is wanted.
        :param camera_info: The camera's newest calibration, if there is any.
        :param settings: Of this frame.
        """
        pictures = _Pictures(frame, segmentation.labels, self._palette, self._classes, settings)
        if self.wanted('labels'):
            self._publish('labels', image_message(header, segmentation.labels, 'mono8'))
        if self.wanted('confidence') and segmentation.confidence is not None:
            self._publish('confidence', image_message(header, segmentation.confidence, 'mono8'))
        if self.wanted('color'):
            self._publish('color', image_message(
                header, rendering.colorize(segmentation.labels, self._palette), 'rgb8'))
        if self.wanted('drivable'):
            self._publish('drivable', image_message(header, pictures.drivable, 'mono8'))
        if self.wanted('overlay'):
            self._publish('overlay', image_message(header, pictures.overlay, 'rgb8'))
        if self.wanted('overlay/compressed'):
            self._publish('overlay/compressed', compressed_message(
                header, rendering.jpeg(pictures.overlay, settings.jpeg_quality),
                rendering.JPEG_FORMAT))
        if self.wanted(*GROUND_TOPICS):
            self._publish_ground(header, pictures, camera_info, settings)
        self.publish_camera_info(header, camera_info, segmentation.labels.shape)

    def warning(self) -> str:
        """Return why an output with subscribers is not published, '' where all are."""
        return self._no_ground if self.wanted(*GROUND_TOPICS) else ''

    def _publish_ground(
        self, header: Header, pictures: _Pictures, camera_info: CameraInfo | None,
        settings: Settings,
    ) -> None:
        try:
            projection = ground.projection(
                header, pictures.labels.shape, camera_info,
                self._mounting.pose(self._camera, header.frame_id, settings), settings)
        except CameraError as error:
            reason = f'nothing of the drivable area is published on the ground: {error}'
            if reason != self._no_ground:
                self._logger.warning(reason)
            self._no_ground = reason
            return
        self._no_ground = ''
        occupancy = projection.occupancy(pictures.labels, pictures.drivable)
        header = Header(stamp=header.stamp, frame_id=settings.base_frame)
        if self.wanted('drivable_grid'):
            self._publish('drivable_grid', ground.grid_message(header, occupancy, settings.grid))
        if self.wanted('drivable_boundary'):
            self._publish('drivable_boundary', ground.polygon_message(
                header, drivable_boundary(occupancy, settings.grid)))

    def publish_camera_info(
        self, header: Header, camera_info: CameraInfo | None, frame_size: tuple[int, int],
    ) -> None:
        """
        Publish the calibration that holds for a frame's outputs, if it is of the frame's size.

        :param header: The frame's.
        :param camera_info: The camera's newest calibration, if there is any.
        :param frame_size: The frame's height and width.
        """
        if camera_info is None or not self.wanted('camera_info'):
            return
        try:
            ground.check_size(camera_info, frame_size)
        except CameraError as error:
            self._logger.warning(
                f'{error}: not passed on', throttle_duration_sec=MISMATCH_WARNING_PERIOD_S)
            return
        # A copy, since executor and worker may both be at it.
        message = copy.copy(camera_info)
        message.header = header
        self._publish('camera_info', message)

    def _publish(self, name: str, message: object) -> None:
        self._publishers[name].publish(message)


class _Pictures:
    """What several outputs of one frame share, made when the first one asks."""

    def __init__(
        self,
        frame: np.ndarray,
        labels: np.ndarray,
        palette: np.ndarray,
        classes: ClassTable,
        settings: Settings,
    ) -> None:
        self._frame = frame
        self.labels = labels
        self._palette = palette
        self._classes = classes
        self._settings = settings

    @cached_property
    def drivable(self) -> np.ndarray:
        return drivable_area(self.labels, self._settings.drivable(self._classes))

    @cached_property
    def overlay(self) -> np.ndarray:
        return rendering.overlay(
            self._frame, self.labels, self.drivable, self._palette, self._settings.opacity)


def topic_below(camera: str, topic: str) -> str:
    """Return the name of a topic of a camera; of the only one, if that has no name."""
    return f'{camera}/{topic}' if camera else topic
