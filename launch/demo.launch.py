# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A simulated camera, or one that plays files, and the segmentation of its images in RViz."""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.actions import IncludeLaunchDescription
from launch.actions import OpaqueFunction
from launch.actions import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch.substitutions import PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import SYNTHETIC

CAMERA_ARGUMENTS = (
    ('source', str, '', 'Folder, video file or bag; empty for the synthetic road scene.'),
    ('labels', str, '', 'Folder of label images for a folder, topic of the labels for a bag.'),
    ('topic', str, '', 'Image topic of a bag; empty for its only one.'),
    ('rate', float, '10.0', 'Frames per second.'),
    ('width', int, '0', 'Width of the images, 0 for the source\'s own.'),
    ('height', int, '0', 'Height of the images, 0 for the source\'s own.'),
    ('encoding', str, 'bgr8', 'Encoding of image, or jpeg or png for image/compressed.'),
)
"""Name, type, default and description; parameters of camera_simulator_node."""
SYNTHETIC_POSE = [
    0.0, 0.0, PinholeCamera.mount_height, 0.0, PinholeCamera.pitch, 0.0]


def generate_launch_description() -> LaunchDescription:
    """Return the camera, and segmentation.launch.py with the arguments of both."""
    image = LaunchConfiguration('image')
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, _, default, description in CAMERA_ARGUMENTS),
        # These are arguments of segmentation.launch.py, here with defaults of their own.
        DeclareLaunchArgument(
            'rviz', default_value='true', description='Whether to open RViz.'),
        DeclareLaunchArgument(
            'image_transport',
            default_value=PythonExpression([
                '"compressed" if "', LaunchConfiguration('encoding'),
                '" in ("jpeg", "png") else "raw"']),
            description='raw or compressed, by default what the encoding needs.'),
        DeclareLaunchArgument(
            'camera_pose',
            default_value=PythonExpression([
                f'"{SYNTHETIC_POSE}" if "', LaunchConfiguration('source'),
                f'" in ("", "{SYNTHETIC}") else ""']),
            description='Where the camera is on the vehicle, by default that of the synthetic '
            'scene: "[x, y, z, roll, pitch, yaw]".'),
        OpaqueFunction(function=_refuse_cameras),
        # A path made of substitutions would hide that file's arguments from --show-args.
        IncludeLaunchDescription(PythonLaunchDescriptionSource(
            str(Path(__file__).with_name('segmentation.launch.py')))),
        # Comes after the file above, whose arguments and shared-memory profile it uses.
        Node(
            package='lmii_ros', executable='camera_simulator_node', name='camera_simulator_node',
            namespace=LaunchConfiguration('namespace'),
            parameters=[{
                'loop': True,
                **{name: ParameterValue(LaunchConfiguration(name), value_type=value_type)
                   for name, value_type, _, _ in CAMERA_ARGUMENTS},
            }],
            remappings=[
                ('image', image),
                ('image/compressed', [image, '/compressed']),
                ('camera_info', LaunchConfiguration('camera_info')),
            ],
            ros_arguments=['--log-level', LaunchConfiguration('log_level')],
            output='screen', on_exit=Shutdown(reason='camera_simulator_node ended')),
    ])


def _refuse_cameras(context: LaunchContext) -> None:
    if context.launch_configurations.get('cameras'):
        raise ValueError('the demo has a single camera; cameras is for segmentation.launch.py')
