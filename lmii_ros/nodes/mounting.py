# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Where the cameras are on the vehicle: as the parameters say, else as tf does."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy
from rclpy.qos import QoSProfile
from rclpy.time import Time

from lmii_ros.camera import CameraError
from lmii_ros.camera import CameraPose
from lmii_ros.nodes.parameters import Settings
from lmii_ros.nodes.parameters import pose_parameter

try:
    from tf2_msgs.msg import TFMessage
    from tf2_py import BufferCore
    from tf2_py import TransformException
except ImportError:
    BufferCore = None


class Mounting:
    """
    Knows the pose of each camera.

    Of tf it is /tf_static that is listened to: what a camera is mounted on stands still, and all
    that moves, on /tf, would take a node in Python much of its time.

    :param node: The node.
    """

    def __init__(self, node: Node) -> None:
        self._logger = node.get_logger()
        self._told: dict[str, CameraPose] = {}
        if BufferCore is None:
            return
        self._buffer = BufferCore()
        # As tf2_ros subscribes it: each publisher's last message, of which a robot may have many.
        node.create_subscription(
            TFMessage, '/tf_static', self._on_transforms,
            QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL))
        self._topic = node.resolve_topic_name('/tf_static')

    def pose(self, camera: str, optical_frame: str, settings: Settings) -> CameraPose:
        """
        Return where a camera is in the vehicle's frame.

        :param camera: Its name.
        :param optical_frame: The frame of its images (REP 103).
        :param settings: With its pose, or the vehicle's frame.
        :raises CameraError: If nothing tells: the message is the reason for the user.
        """
        given = settings.pose(camera)
        if given.z > 0:
            return given
        unset = f'{pose_parameter(camera)} is not set'
        if BufferCore is None:
            raise CameraError(
                f'{unset}, and tf2, which might tell, is not installed '
                '(apt install ros-$ROS_DISTRO-tf2-py ros-$ROS_DISTRO-tf2-msgs)')
        try:
            transform = self._buffer.lookup_transform_core(
                settings.base_frame, optical_frame, Time()).transform
        except TransformException as error:
            raise CameraError(
                f'{unset}, nor does {self._topic} tell: {str(error).strip()}') from error
        translation, rotation = transform.translation, transform.rotation
        pose = CameraPose.of_optical_frame(
            (translation.x, translation.y, translation.z),
            (rotation.x, rotation.y, rotation.z, rotation.w))
        if pose.z <= 0:
            raise CameraError(
                f'{unset}, and by {self._topic} {optical_frame} is at height {pose.z:g} m in '
                f'{settings.base_frame}: set base_frame to one with its origin on the ground')
        if self._told.get(camera) != pose:
            self._told[camera] = pose
            # What is on the ground is as right as this is.
            self._logger.info(
                f'by {self._topic} {optical_frame} is, in {settings.base_frame}, at {pose}')
        return pose

    def _on_transforms(self, message: TFMessage) -> None:
        for transform in message.transforms:
            self._buffer.set_transform_static(transform, self._topic)
