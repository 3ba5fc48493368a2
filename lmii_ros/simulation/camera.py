# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A pinhole camera over flat ground."""

from __future__ import annotations

from dataclasses import dataclass
import math

import numpy as np

from lmii_ros.camera import CameraPose


@dataclass(frozen=True)
class PinholeCamera:
    """
    A camera without distortion that looks forward, over flat ground.

    :param width: Image width in pixels.
    :param height: Image height in pixels.
    :param fx: Focal length in pixels, horizontally.
    :param fy: Focal length in pixels, vertically.
    :param cx: Column of the principal point; whole numbers are pixel centres.
    :param cy: Row of the principal point.
    :param mount_height: Height of the camera above the ground, in metres.
    :param pitch: Rotation of the optical axis below the horizontal, in radians.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    mount_height: float = 1.3
    pitch: float = 0.05

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1 or min(self.fx, self.fy, self.mount_height) <= 0:
            raise ValueError(f'not a camera: sizes, focal lengths and height must be > 0: {self}')
        if not -1.5 < self.pitch < 1.5:
            raise ValueError(f'camera pitch is {self.pitch} rad, expected -1.5 to 1.5')

    @classmethod
    def from_fov(
        cls,
        width: int,
        height: int,
        horizontal_fov_deg: float = 55.0,
        mount_height: float = 1.3,
        pitch: float = 0.05,
    ) -> PinholeCamera:
        """Build a camera with square pixels from its horizontal field of view in degrees."""
        focal = width / (2.0 * math.tan(math.radians(horizontal_fov_deg) / 2.0))
        return cls(
            width, height, focal, focal, (width - 1) / 2.0, (height - 1) / 2.0, mount_height,
            pitch)

    def matrix(self) -> np.ndarray:
        """Return the 3x3 intrinsic matrix K."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def rotation(self) -> np.ndarray:
        """Return the 3x3 rotation from the vehicle to the optical frame (x right, y down)."""
        return self.pose.rotation()

    @property
    def pose(self) -> CameraPose:
        """Where the camera is in the vehicle's frame."""
        return CameraPose(z=self.mount_height, pitch=self.pitch)

    @property
    def horizon_row(self) -> float:
        """Row at which flat ground would vanish; may lie outside the image."""
        return self.cy - self.fy * math.tan(self.pitch)

    def optical(self, points: np.ndarray) -> np.ndarray:
        """Return points [..., 3] of the vehicle frame in the optical frame."""
        return self.pose.optical(np.asarray(points, np.float64))

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return pixels (column, row) of points [..., 3]; NaN for points behind the camera."""
        optical = self.optical(points)
        depth = np.where(optical[..., 2:] > 0.0, optical[..., 2:], np.nan)
        return optical[..., :2] / depth * (self.fx, self.fy) + (self.cx, self.cy)

    def ground(self, pixels: np.ndarray) -> np.ndarray:
        """Return the ground points [..., 3] at pixels (column, row); NaN above the horizon."""
        pixels = np.asarray(pixels, np.float64)
        ray = np.ones(pixels.shape[:-1] + (3,))
        ray[..., :2] = (pixels - (self.cx, self.cy)) / (self.fx, self.fy)
        ray = ray @ self.rotation()
        down = np.where(ray[..., 2:] < -1e-12, -ray[..., 2:], np.nan)
        points = ray * (self.mount_height / down)
        points[..., 2] *= 0.0
        return points
