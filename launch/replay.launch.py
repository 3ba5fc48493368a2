# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A bag played to the segmentation node, and the evaluation of what a vehicle would get."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from launch import LaunchContext
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.actions import IncludeLaunchDescription
from launch.actions import OpaqueFunction
from launch.actions import Shutdown
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import ExecutableInPackage

ARGUMENTS = (
    ('bag', str, None, 'Rosbag2 folder, or .mcap or .db3 file.'),
    ('topic', str, '', 'Image topic of the bag; empty for its only one.'),
    ('labels', str, '', 'Topic of the ground truth in the bag; empty for none.'),
    ('tolerance_ms', float, '10.0', 'How far the stamps of image and ground truth may be apart.'),
    ('rate', float, '1.0', 'Speed at which the bag is played, 1 for that of the recording.'),
    ('out', str, 'evaluation', 'Folder for the results.'),
)
"""Name, type, default and description; parameters of evaluation_node."""


def generate_launch_description() -> LaunchDescription:
    """Return segmentation.launch.py and the evaluation node, which plays the bag."""
    image = LaunchConfiguration('image')
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, _, default, description in ARGUMENTS),
        DeclareLaunchArgument(
            'image_transport', default_value='',
            description='raw or compressed; empty for what the bag has.'),
        OpaqueFunction(function=_choose_transport),
        # A path made of substitutions would hide that file's arguments from --show-args.
        IncludeLaunchDescription(PythonLaunchDescriptionSource(
            str(Path(__file__).with_name('segmentation.launch.py')))),
        # Comes after the file above, whose arguments and shared-memory profile it uses.
        Node(
            package='lmii_ros', executable='evaluation_node', name='evaluation_node',
            namespace=LaunchConfiguration('namespace'),
            parameters=[{
                'command': [Path(sys.argv[0]).name, *sys.argv[1:]],
                **{name: ParameterValue(LaunchConfiguration(name), value_type=value_type)
                   for name, value_type, _, _ in ARGUMENTS},
            }],
            remappings=[
                ('image', image),
                ('image/compressed', [image, '/compressed']),
            ],
            ros_arguments=['--log-level', LaunchConfiguration('log_level')],
            output='screen', on_exit=_end),
    ])


def _choose_transport(context: LaunchContext) -> None:
    arguments = context.launch_configurations
    if arguments.get('cameras'):
        raise ValueError('a replay has a single camera; cameras is for segmentation.launch.py')
    # In a process of its own, for the Python that reads bags may be another one than ros2's.
    lmii = ExecutableInPackage('lmii', 'lmii_ros').perform(context)
    found = subprocess.run(
        [lmii, 'bag', 'transport', arguments['bag'], '--topic', arguments['topic'],
         '--labels', arguments['labels']], capture_output=True, text=True)
    if found.returncode:
        raise ValueError(found.stderr.strip())
    if not arguments['image_transport']:
        arguments['image_transport'] = found.stdout.strip()


def _end(event: ProcessExited, context: LaunchContext) -> Shutdown:
    if event.returncode and not context.is_shutdown:
        # Shutdown alone would give `ros2 launch` the exit code 0.
        raise RuntimeError(f'the evaluation failed with exit code {event.returncode}')
    return Shutdown(reason='the evaluation has ended')
