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

    Of tf it is /tf_static that is listened to: what a vehicle plans by stands still on it, and
    all that moves there, on /tf, would take a node in Python much of its time.

    :param node: The node.
    """

    def __init__(self, node: Node) -> None:
        if BufferCore is None:
            return
        self._buffer = BufferCore()
        # As tf2_ros subscribes it: each publisher's last message, of which a robot may have many.
        node.create_subscription(
            TFMessage, '/tf_static', self._on_transforms,
            QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL))

    def pose(self, camera: str, optical_frame: str, settings: Settings) -> CameraPose:
        """
        Return where a camera is in the vehicle's frame.

        :param camera: Its name.
        :param optical_frame: The frame of its images (REP 103).
        :param settings: With its pose, or the vehicle's frame.
        :raises CameraError: If nothing tells: the message is the reason for the user.
        """
        told = settings.pose(camera)
        if told.z > 0:
            return told
        name = pose_parameter(camera)
        unset = f'{name} is not set (its z, the height above the ground, is 0)'
        if BufferCore is None:
            raise CameraError(
                f'{unset}, and tf2, which might tell, is not installed '
                '(apt install ros-$ROS_DISTRO-tf2-py ros-$ROS_DISTRO-tf2-msgs)')
        try:
            transform = self._buffer.lookup_transform_core(
                settings.base_frame, optical_frame, Time()).transform
        except TransformException as error:
            raise CameraError(
                f'{unset}, nor does /tf_static tell: {str(error).strip()}') from error
        at, turned = transform.translation, transform.rotation
        found = CameraPose.of_optical_frame(
            (at.x, at.y, at.z), (turned.x, turned.y, turned.z, turned.w))
        if found.z <= 0:
            raise CameraError(
                f'{unset}, and by /tf_static {optical_frame} is at height {found.z:g} m in '
                f'{settings.base_frame}: set base_frame to one with its origin on the ground')
        return found

    def _on_transforms(self, message: TFMessage) -> None:
        for transform in message.transforms:
            self._buffer.set_transform_static(transform, '/tf_static')
