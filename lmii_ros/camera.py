# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A calibrated camera on a vehicle: which pixel shows which point."""

from __future__ import annotations

from dataclasses import astuple
from dataclasses import dataclass
from functools import cached_property
import math

import cv2
import numpy as np

EQUIDISTANT = 'equidistant'
"""The model of fisheye lenses (Kannala and Brandt, 2006)."""
MODELS = {
    'plumb_bob': (4, 5),
    'rational_polynomial': (8, 12, 14),
    EQUIDISTANT: (4,),
}
"""Models of distortion, as sensor_msgs names them, and how many coefficients they may have."""
WIDEST_ANGLE = math.radians(89.5)
"""From the optical axis; what a camera shows beyond is not reckoned with."""
_TO_OPTICAL = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
"""From a body's axes (x forward, y left) to those of a camera (z forward, x right; REP 103)."""


class CameraError(ValueError):
    """A camera that nothing can be projected with; the message is the reason for the user."""


@dataclass(frozen=True)
class Calibration:
    """
    How a camera's lens projects, as sensor_msgs/CameraInfo tells it.

    :param width: Image width in pixels.
    :param height: Image height in pixels.
    :param matrix: The nine numbers of the intrinsic matrix K, row by row, in pixels; whole numbers
        are pixel centres.
    :param model: Of the distortion, one of :data:`MODELS`; any if there is none. With
        :data:`EQUIDISTANT` a fisheye's projection even without coefficients.
    :param distortion: Its coefficients D; empty or zeros if there is none.
    :raises CameraError: If it is not calibrated, or its model is not known or not whole.
    """

    width: int
    height: int
    matrix: tuple[float, ...]
    model: str = ''
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not np.isfinite((*self.matrix, *self.distortion)).all():
            raise CameraError('the calibration has numbers that are not finite')
        if min(self.width, self.height, self.matrix[0], self.matrix[4]) <= 0:
            raise CameraError('the camera is not calibrated: focal lengths or image size are 0')
        if self.is_distorted and self.model not in MODELS:
            raise CameraError(
                f'distortion model {self.model!r} is none of {", ".join(MODELS)}')
        if self.is_distorted and len(self.distortion) not in MODELS[self.model]:
            raise CameraError(
                f'distortion model {self.model} has {len(self.distortion)} coefficients, not '
                f'{" or ".join(map(str, MODELS[self.model]))}')

    @property
    def is_distorted(self) -> bool:
        """Whether the lens bends straight lines."""
        return any(self.distortion)

    def project(self, points: np.ndarray) -> np.ndarray:
        """
        Return where points are seen.

        :param points: float64 [N, 3], metres in the optical frame.
        :return: float64 [N, 2], pixels (column, row); NaN where the image does not show the point.
        """
        pixels = np.full((len(points), 2), np.nan)
        ahead = np.flatnonzero(
            np.hypot(points[:, 0], points[:, 1]) < points[:, 2] * self._widest_tangent)
        seen = self._distorted(points[ahead])
        inside = ((seen > -0.5) & (seen < (self.width - 0.5, self.height - 0.5))).all(1)
        pixels[ahead[inside]] = seen[inside]
        return pixels

    @cached_property
    def _widest_tangent(self) -> float:
        """Up to which angle the model holds: further out, a polynomial folds back."""
        tangents = np.tan(np.linspace(0.0, WIDEST_ANGLE, 1000))
        outward = np.stack([tangents, np.zeros_like(tangents), np.ones_like(tangents)], axis=1)
        folds = np.flatnonzero(np.diff(self._distorted(outward)[:, 0]) <= 0)
        return tangents[folds[0] if len(folds) else -1]

    def _distorted(self, points: np.ndarray) -> np.ndarray:
        if not len(points):
            return np.empty((0, 2))
        project = cv2.fisheye.projectPoints if self.model == EQUIDISTANT else cv2.projectPoints
        pixels, _ = project(
            points[:, None], np.zeros(3), np.zeros(3), np.reshape(self.matrix, (3, 3)),
            np.array(self.distortion if self.is_distorted else (0.0,) * 4))
        return pixels[:, 0]


@dataclass(frozen=True)
class CameraPose:
    """
    Where a camera is in the vehicle's frame (REP 103: x forward, y left, z up, 0 on the ground).

    As tf tells a transform: turned about the vehicle's x (roll), y (pitch) and z (yaw), in this
    order. A camera that is not turned looks along x; pitch above 0 looks down.

    :param x: Metres.
    :param y: Metres.
    :param z: Metres above the ground.
    :param roll: Radians.
    :param pitch: Radians.
    :param yaw: Radians.
    """

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    roll: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0

    @classmethod
    def of_optical_frame(
        cls, translation: tuple[float, float, float],
        quaternion: tuple[float, float, float, float],
    ) -> CameraPose:
        """
        Return the pose of the camera with this optical frame (x right, y down), as tf tells it.

        :param translation: Its origin in the vehicle's frame, in metres.
        :param quaternion: Its rotation there, x, y, z, w, of any length but 0.
        """
        x, y, z, w = np.array(quaternion) / np.linalg.norm(quaternion)
        cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
        body = (np.eye(3) + 2 * w * cross + 2 * cross @ cross) @ _TO_OPTICAL
        horizontal = math.hypot(body[0, 0], body[1, 0])
        pitch = math.atan2(-body[2, 0], horizontal)
        if horizontal < 1e-9:
            # It looks straight up or down, where roll and yaw are the same turn.
            return cls(*translation, 0.0, pitch, math.atan2(-body[0, 1], body[1, 1]))
        return cls(
            *translation, math.atan2(body[2, 1], body[2, 2]), pitch,
            math.atan2(body[1, 0], body[0, 0]))

    def __str__(self) -> str:
        # No -0 and no 1e-17, as of a turn there and back.
        x, y, z, roll, pitch, yaw = (round(value, 3) + 0.0 for value in astuple(self))
        return f'x {x:g}, y {y:g}, z {z:g} m, roll {roll:g}, pitch {pitch:g}, yaw {yaw:g}'

    def rotation(self) -> np.ndarray:
        """Return the 3x3 rotation from the vehicle to the optical frame (x right, y down)."""
        (sr, sp, sy), (cr, cp, cy) = (
            function((self.roll, self.pitch, self.yaw)) for function in (np.sin, np.cos))
        # Of the camera's body in the vehicle's frame: about z, of about y, of about x.
        body = (
            np.array([[cy, -sy, 0.0], [sy, cy, 0.0], [0.0, 0.0, 1.0]])
            @ np.array([[cp, 0.0, sp], [0.0, 1.0, 0.0], [-sp, 0.0, cp]])
            @ np.array([[1.0, 0.0, 0.0], [0.0, cr, -sr], [0.0, sr, cr]]))
        return _TO_OPTICAL @ body.T

    def optical(self, points: np.ndarray) -> np.ndarray:
        """Return points [..., 3] of the vehicle's frame in the camera's optical frame."""
        return (points - (self.x, self.y, self.z)) @ self.rotation().T
