# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The parameters of the segmentation node: declaration, checks, and a snapshot of their values."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from dataclasses import replace
from functools import cached_property
import math
import re
from typing import Iterable
from typing import Mapping

from rcl_interfaces.msg import FloatingPointRange
from rcl_interfaces.msg import IntegerRange
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSPolicyKind
from rclpy.qos_overriding_options import QoSOverridingOptions

from lmii_ros import rendering
from lmii_ros.camera import CameraPose
from lmii_ros.classes import ClassTable
from lmii_ros.drivable import Grid
from lmii_ros.operating_point import Target

QOS_OVERRIDES = QoSOverridingOptions((
    QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY))
"""What each topic lets a user choose, by parameters ``qos_overrides.TOPIC...``."""
MIN_INPUT_HEIGHT = 64
TRANSPORTS = ('raw', 'compressed')
MAX_CELLS = 250_000

_FIXED_WHILE_CONFIGURED = (
    'weights', 'engine', 'device', 'precision', 'threads', 'image_transport')
_UNCONFIGURED = 'Can be set while the node is unconfigured.'
DESCRIPTORS = (
    ParameterDescriptor(
        name='weights',
        description='Weight file: a path, or the name of a shipped one. ' + _UNCONFIGURED),
    ParameterDescriptor(
        name='engine', description='What runs the network. ' + _UNCONFIGURED,
        additional_constraints='auto (the fastest that is installed), openvino, onnxruntime '
        'or torch'),
    ParameterDescriptor(
        name='device', description='Where it runs. ' + _UNCONFIGURED,
        additional_constraints='auto (CUDA if there is such a GPU), cpu, cuda, cuda:N, or gpu '
        'for an Intel one'),
    ParameterDescriptor(
        name='precision',
        description='Precision of the network\'s arithmetic. ' + _UNCONFIGURED,
        additional_constraints='auto (a lower one where the weight file says that it costs at '
        'most 0.2 points of mIoU), fp32, fp16, bf16 or int8'),
    ParameterDescriptor(
        name='threads', description='CPU threads, 0 for the engine\'s choice. ' + _UNCONFIGURED,
        integer_range=[IntegerRange(from_value=0, to_value=256, step=1)]),
    ParameterDescriptor(
        name='image_transport',
        description='raw subscribes image, compressed subscribes image/compressed. '
        + _UNCONFIGURED,
        additional_constraints='raw or compressed'),
    ParameterDescriptor(
        name='cameras',
        description='Names of the cameras, which share the network: each has its image, '
        'camera_info and outputs below its name. One empty name for a single camera without one.',
        additional_constraints='names of letters, digits and underscores',
        read_only=True),
    ParameterDescriptor(
        name='input_height',
        description='Height in pixels at which the network sees a frame, aspect kept; 0 for that '
        'of its training.',
        additional_constraints=f'0, or at least {MIN_INPUT_HEIGHT}',
        integer_range=[IntegerRange(from_value=0, to_value=4096, step=1)]),
    ParameterDescriptor(
        name='target_fps',
        description='Frames per second to hold and not to exceed, of each camera: the node '
        'measures which of the offered weights, at which input height and precision, is the best '
        'that this machine can run so fast, and steps down and up again as the load changes. 0 '
        'for the fixed weights and input_height.',
        floating_point_range=[FloatingPointRange(from_value=0.0, to_value=1000.0)]),
    ParameterDescriptor(
        name='headroom',
        description='Share of the time between two frames that the network and all around it may '
        'take, with target_fps.',
        floating_point_range=[FloatingPointRange(from_value=0.1, to_value=1.0)]),
    ParameterDescriptor(
        name='offered_weights',
        description='Weight files to choose from with target_fps.',
        additional_constraints='paths, names of shipped ones, or auto: where weights is a shipped '
        'one, all shipped ones of its classes, else weights alone'),
    ParameterDescriptor(
        name='drivable_classes',
        description='Names of the classes that the vehicle may drive on; one empty name for those '
        'of the weight file\'s class table.'),
    ParameterDescriptor(
        name='min_confidence',
        description='Pixels below this confidence are labelled 255, unknown.',
        floating_point_range=[FloatingPointRange(from_value=0.0, to_value=1.0)]),
    ParameterDescriptor(
        name='opacity', description='Share of the colours in the overlay.',
        floating_point_range=[FloatingPointRange(from_value=0.0, to_value=1.0)]),
    ParameterDescriptor(
        name='jpeg_quality', description='JPEG quality of overlay/compressed.',
        integer_range=[IntegerRange(from_value=1, to_value=100, step=1)]),
    ParameterDescriptor(
        name='rectified',
        description='Whether the images are rectified, so that P of camera_info holds, not K and '
        'D.'),
    ParameterDescriptor(
        name='base_frame',
        description='Frame of the vehicle, with its origin on the ground, that drivable_grid and '
        'drivable_boundary are in.'),
    ParameterDescriptor(
        name='grid_length', description='Metres ahead that drivable_grid covers.',
        floating_point_range=[FloatingPointRange(from_value=1.0, to_value=200.0)]),
    ParameterDescriptor(
        name='grid_width', description='Metres across that drivable_grid covers.',
        floating_point_range=[FloatingPointRange(from_value=1.0, to_value=200.0)]),
    ParameterDescriptor(
        name='grid_resolution', description='Metres of a cell\'s side.',
        floating_point_range=[FloatingPointRange(from_value=0.01, to_value=1.0)]),
    ParameterDescriptor(
        name='stale_after',
        description='Seconds without a frame after which diagnostics report STALE, or without '
                    'labels after which ERROR.',
        floating_point_range=[FloatingPointRange(from_value=0.1, to_value=3600.0)]),
)


class SettingsError(ValueError):
    """Parameter values that cannot be used; the message is the reason for the user."""


@dataclass(frozen=True)
class Settings:
    """The parameters' values, consistent with each other; named as the parameters are."""

    weights: str = 'lpsnet_s_camvid'
    engine: str = 'auto'
    device: str = 'auto'
    precision: str = 'auto'
    threads: int = 0
    image_transport: str = 'raw'
    cameras: tuple[str, ...] = ('',)
    input_height: int = 0
    target_fps: float = 0.0
    headroom: float = 0.8
    offered_weights: tuple[str, ...] = ('auto',)
    drivable_classes: tuple[str, ...] = ('',)
    min_confidence: float = 0.0
    opacity: float = rendering.OPACITY
    jpeg_quality: int = rendering.JPEG_QUALITY
    camera_poses: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """By camera, of those that are told; parameters of their own, see :func:`pose_parameter`."""
    rectified: bool = False
    base_frame: str = 'base_link'
    grid_length: float = 30.0
    grid_width: float = 20.0
    grid_resolution: float = 0.1
    stale_after: float = 2.0

    def __post_init__(self) -> None:
        if self.image_transport not in TRANSPORTS:
            raise SettingsError(
                f'image_transport {self.image_transport!r} is none of {", ".join(TRANSPORTS)}')
        if 0 < self.input_height < MIN_INPUT_HEIGHT:
            raise SettingsError(
                f'input_height {self.input_height} is neither 0 nor at least {MIN_INPUT_HEIGHT}')
        if len(set(self.cameras)) < len(self.cameras):
            raise SettingsError(f'cameras {list(self.cameras)} has a name twice')
        for camera in self.cameras:
            if self.cameras != ('',) and not re.fullmatch('[A-Za-z_][A-Za-z0-9_]*', camera):
                raise SettingsError(
                    f'cameras has the name {camera!r}, expected letters, digits and underscores, '
                    'a digit not first')
        for camera, pose in self.camera_poses.items():
            _check_pose(pose_parameter(camera), pose)
        if not self.base_frame:
            raise SettingsError('base_frame is empty, expected the name of a frame')
        if math.prod(self.grid.shape) > MAX_CELLS:
            raise SettingsError(
                f'grid_length, grid_width and grid_resolution make {math.prod(self.grid.shape)} '
                f'cells, more than {MAX_CELLS}')

    def pose(self, camera: str) -> CameraPose:
        """Return where a camera is, all zeros if that is not told."""
        return CameraPose(*self.camera_poses.get(camera, ()))

    @cached_property
    def target(self) -> Target | None:
        """The frame rate to hold, None for the fixed weights and input height."""
        if not self.target_fps:
            return None
        return Target(self.target_fps, self.headroom, len(self.cameras))

    @property
    def grid(self) -> Grid:
        """The cells of drivable_grid."""
        return Grid(self.grid_length, self.grid_width, self.grid_resolution)

    def drivable(self, classes: ClassTable) -> tuple[int, ...]:
        """
        Return the label indices of the drivable classes.

        :raises ClassTableError: If the table has no class of a name.
        """
        names = tuple(name for name in self.drivable_classes if name)
        return classes.indices(names or classes.drivable)

    def changed(self, parameters: Iterable[Parameter], *, configured: bool) -> Settings:
        """
        Return these settings with other values.

        :param parameters: New values; those that are not settings are passed over.
        :param configured: Whether the network is loaded, so that what it was loaded with is fixed.
        :raises SettingsError: If a value cannot be used, or not now.
        """
        given = _plain(parameters)
        values = {item.name: given[item.name] for item in fields(self) if item.name in given}
        cameras = {pose_parameter(camera): camera for camera in self.cameras}
        values['camera_poses'] = {**self.camera_poses, **{
            cameras[name]: pose for name, pose in given.items() if name in cameras}}
        for name in _FIXED_WHILE_CONFIGURED:
            if configured and values.get(name, getattr(self, name)) != getattr(self, name):
                raise SettingsError(
                    f'{name} is fixed while the node is configured; clean it up first')
        return replace(self, **values)


def declare(node: Node) -> Settings:
    """
    Declare the parameters, with the defaults of :class:`Settings`, and return their values.

    :raises SettingsError: If the values given at start cannot be used.
    :raises rclpy.exceptions.ParameterException: If one is of another type or out of range.
    """
    defaults = Settings()
    declared = [
        _declare(node, descriptor.name, getattr(defaults, descriptor.name), descriptor)
        for descriptor in DESCRIPTORS]
    settings = defaults.changed(declared, configured=False)
    poses = [
        _declare(node, pose_parameter(camera), (0.0,) * 6, _pose_descriptor())
        for camera in settings.cameras]
    return settings.changed(poses, configured=False)


def pose_parameter(camera: str) -> str:
    """Return the name of the parameter that tells where a camera is."""
    return f'{camera}.camera_pose' if camera else 'camera_pose'


def _pose_descriptor() -> ParameterDescriptor:
    return ParameterDescriptor(
        description='Where the camera is in the frame base_frame: x, y, z above the ground in '
        'metres, roll, pitch (above 0 looks down), yaw in radians. Where all are 0, '
        '/tf_static tells it.',
        additional_constraints='six numbers')


def _declare(
    node: Node, name: str, default: object, descriptor: ParameterDescriptor,
) -> Parameter:
    default = list(default) if isinstance(default, tuple) else default
    return node.declare_parameter(name, default, descriptor)


def _plain(parameters: Iterable[Parameter]) -> dict[str, object]:
    """Return values by name, without those that are not set, as lists that are empty in YAML."""
    return {
        parameter.name: tuple(parameter.value)
        if isinstance(parameter.value, (list, array)) else parameter.value
        for parameter in parameters if parameter.value is not None}


def _check_pose(name: str, pose: tuple[float, ...]) -> None:
    if len(pose) != 6 or not all(map(math.isfinite, pose)):
        raise SettingsError(
            f'{name} {list(pose)} is not six numbers: x, y, z, roll, pitch, yaw')
    if max(map(abs, pose[3:])) > math.pi:
        raise SettingsError(
            f'{name} has the angles {list(pose[3:])}, expected radians, within pi of 0')
    if pose[2] < 0:
        raise SettingsError(f'{name} has the camera {-pose[2]:g} m below the ground')
    if any(pose) and not pose[2]:
        raise SettingsError(
            f'{name} {list(pose)} has the camera on the ground, expected z above 0')
