# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The segmentation node of one camera or several and, if wanted, RViz to watch it."""

from __future__ import annotations

from pathlib import Path
from typing import List

from launch import LaunchContext
from launch import LaunchDescription
from launch import LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument
from launch.actions import OpaqueFunction
from launch.actions import SetEnvironmentVariable
from launch.actions import Shutdown
from launch.conditions import IfCondition
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch.substitutions import PathJoinSubstitution
from launch.substitutions import PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
import yaml

from lmii_ros.share import shared_memory_profile

SHARE = FindPackageShare('lmii_ros')
PARAMETER_TYPES = {
    'weights': str,
    'engine': str,
    'device': str,
    'precision': str,
    'input_height': int,
    'target_fps': float,
    'image_transport': str,
    'cameras': List[str],
    'camera_pose': List[float],
    'use_sim_time': bool,
}
"""Parameters that have an argument of their own, which stays empty unless the user gives it."""
RVIZ_OUTPUTS = ('overlay', 'color', 'drivable', 'drivable_grid', 'drivable_boundary')
"""What config/segmentation.rviz shows, of the first camera where there are several."""


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and what is launched with them."""
    return LaunchDescription([
        DeclareLaunchArgument(
            'image', default_value='image',
            description='Topic of the camera image, without the suffix of a transport.'),
        DeclareLaunchArgument(
            'camera_info',
            default_value=PythonExpression([
                '"/".join("', LaunchConfiguration('image'),
                '".split("/")[:-1] + ["camera_info"])']),
            description='Topic of its calibration, by default camera_info beside the image.'),
        DeclareLaunchArgument(
            'weights', default_value='',
            description='Weight file, a path or the name of a shipped one; empty for that of '
            'params_file.'),
        DeclareLaunchArgument(
            'engine', default_value='',
            description='What runs the network, auto, openvino, onnxruntime or torch; empty for '
            'that of params_file.'),
        DeclareLaunchArgument(
            'device', default_value='',
            description='Where it runs, auto, cpu, cuda, cuda:N, or gpu for an Intel GPU; empty '
            'for that of params_file.'),
        DeclareLaunchArgument(
            'precision', default_value='',
            description='Precision of the arithmetic, auto, fp32, fp16, bf16 or int8; empty for '
            'that of params_file.'),
        DeclareLaunchArgument(
            'input_height', default_value='',
            description='Height in pixels at which the network sees a frame, 0 for that of its '
            'training; empty for that of params_file.'),
        DeclareLaunchArgument(
            'target_fps', default_value='',
            description='Frames per second to hold, by the best network, precision and input '
            'height that this machine can run so fast, 0 for none; empty for that of '
            'params_file.'),
        DeclareLaunchArgument(
            'image_transport', default_value='',
            description='raw or compressed; empty for that of params_file.'),
        DeclareLaunchArgument(
            'cameras', default_value='',
            description='Names of several cameras that share the network: "[front, left]". image '
            'and camera_info are then topics below each name, and so are the outputs; empty for '
            'a single camera. Those in params_file alone are not known here.'),
        DeclareLaunchArgument(
            'camera_pose', default_value='',
            description='Where the camera is on the vehicle, for the drivable area on the ground: '
            '"[x, y, z, roll, pitch, yaw]" in metres and radians, with decimal points; empty for '
            'that of params_file, where that of each of several is NAME.camera_pose, or of '
            '/tf_static.'),
        DeclareLaunchArgument(
            'namespace', default_value='',
            description='Namespace of the nodes and of all topics with a relative name.'),
        DeclareLaunchArgument(
            'params_file',
            default_value=PathJoinSubstitution([SHARE, 'config', 'segmentation.yaml']),
            description='Parameter file of the node.'),
        DeclareLaunchArgument(
            'rviz', default_value='false', description='Whether to open RViz.'),
        DeclareLaunchArgument(
            'required', default_value='true',
            description='Whether all that was launched ends with the node; false for a launch '
            'file that includes this one and more.'),
        DeclareLaunchArgument(
            'log_level', default_value='info',
            description='Least severity that is logged: debug, info, warn, error or fatal.'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='',
            description='Whether time is that of /clock, true or false; empty for what '
            'params_file says, and false if it does not.'),
        OpaqueFunction(function=_launch),
    ])


def _launch(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    arguments = context.launch_configurations
    if not Path(arguments['params_file']).is_file():
        # launch_ros would warn, and start the node without it.
        raise FileNotFoundError(f'no parameter file {arguments["params_file"]}')
    given = {
        name: ParameterValue(LaunchConfiguration(name), value_type=value_type)
        for name, value_type in PARAMETER_TYPES.items() if arguments[name]}
    cameras = _cameras(arguments)
    inputs = [
        (f'{below}{name}', f'{below}{arguments[name]}')
        for below in ([f'{camera}/' for camera in cameras] or [''])
        for name in ('image', 'camera_info')]
    shown = [
        (f'segmentation_node/{name}', f'segmentation_node/{camera}/{name}')
        for camera in cameras[:1] for name in RVIZ_OUTPUTS]
    return [
        *(SetEnvironmentVariable(name, value)
          for name, value in shared_memory_profile(context.environment).items()),
        Node(
            package='lmii_ros', executable='segmentation_node', name='segmentation_node',
            namespace=arguments['namespace'],
            parameters=[arguments['params_file'], given],
            remappings=inputs,
            ros_arguments=['--log-level', arguments['log_level']],
            output='screen',
            on_exit=_end if IfCondition(arguments['required']).evaluate(context) else None),
        Node(
            package='rviz2', executable='rviz2', name='rviz2',
            # The configuration names its topics relatively, so that they follow the namespace.
            namespace=arguments['namespace'],
            arguments=['-d', PathJoinSubstitution([SHARE, 'config', 'segmentation.rviz'])],
            parameters=[{name: given[name] for name in ('use_sim_time',) if name in given}],
            remappings=[('image', inputs[0][1]), *shown],
            condition=IfCondition(LaunchConfiguration('rviz'))),
    ]


def _cameras(arguments: dict[str, str]) -> list[str]:
    """Return the names of several cameras, none for a single one."""
    cameras = yaml.safe_load(arguments['cameras'] or '[]')
    if not isinstance(cameras, list) or not all(isinstance(name, str) for name in cameras):
        raise ValueError(
            f'cameras is {arguments["cameras"]}, expected a list of names: "[front, left]"')
    cameras = [name for name in cameras if name]
    if cameras and arguments['camera_pose']:
        raise ValueError(
            'camera_pose is of a single camera; give NAME.camera_pose of each in a params_file')
    for name in ('image', 'camera_info'):
        if cameras and arguments[name].startswith('/'):
            raise ValueError(
                f'{name} is {arguments[name]}, expected a topic below the name of each camera')
    return cameras


def _end(event: ProcessExited, context: LaunchContext) -> Shutdown:
    if event.returncode and not context.is_shutdown:
        # Shutdown alone would give `ros2 launch` the exit code 0, and supervisors no sign.
        raise RuntimeError(f'segmentation_node failed with exit code {event.returncode}')
    return Shutdown(reason='segmentation_node ended')
