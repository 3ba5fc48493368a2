# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The canvas that pictures and polygons are drawn on in perspective, with their labels."""

from __future__ import annotations

import math
from typing import Iterator
from typing import Sequence

import cv2
import numpy as np

from lmii_ros.simulation.camera import PinholeCamera
from lmii_ros.simulation.labels import SKY
from lmii_ros.simulation.light import Light
from lmii_ros.simulation.picture import LEVELS
from lmii_ros.simulation.picture import Picture

NEAR = 0.3
"""Depth before the camera at which shapes are cut off."""


class Canvas:
    """
    An image and its labels, drawn together.

    :param camera: Where it is seen from.
    :param light: Its haze covers what is far away.
    """

    def __init__(self, camera: PinholeCamera, light: Light) -> None:
        self.camera, self.light = camera, light
        self.image = np.full((camera.height, camera.width, 3), light.day.haze, np.uint8)
        self.labels = np.full((camera.height, camera.width), SKY, np.uint8)
        self._lens = camera.matrix() @ camera.rotation()

    def see(self, points: np.ndarray) -> np.ndarray:
        """Return points [..., 3] of the vehicle frame as homogeneous pixels, scaled by depth."""
        return (points - (0.0, 0.0, self.camera.mount_height)) @ self._lens.T

    def visible(
        self,
        points: np.ndarray,
        counts: list[int],
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
        """
        Yield which shapes may be seen.

        :param points: The points [N, 3] of all shapes in a row, in the vehicle frame.
        :param counts: How many points each shape has.
        :return: Their indices and homogeneous pixels, with the pixels [N, 2] of those wholly
            before the camera, else None.
        """
        seen = self.see(points)
        pixels = _whole_pixels(seen)
        stops = np.cumsum(counts)
        starts = stops - counts
        low, high = np.minimum.reduceat(pixels, starts), np.maximum.reduceat(pixels, starts)
        nearest = np.minimum.reduceat(seen[:, 2], starts)
        furthest = np.maximum.reduceat(seen[:, 2], starts)
        inside = ((high >= 0) & (low < (self.camera.width, self.camera.height))).all(1)
        inside &= (high - low).max(1) > 1
        for index in np.flatnonzero((furthest >= NEAR) & (inside | (nearest < NEAR))).tolist():
            part = slice(starts[index], stops[index])
            yield index, seen[part], pixels[part] if nearest[index] >= NEAR else None

    def draw_polygon(
        self,
        pixels: np.ndarray,
        color: Sequence[float],
        label: int,
        mist: float,
    ) -> None:
        """Fill a polygon with a colour."""
        haze = self.light.day.haze * mist
        cv2.fillPoly(self.image, [pixels], [value * (1.0 - mist) + haze for value in color])
        cv2.fillPoly(self.labels, [pixels], label)

    def draw_picture(
        self,
        picture: Picture,
        seen: np.ndarray,
        pixels: np.ndarray | None,
        shade: float,
        mist: float,
    ) -> None:
        """
        Draw a picture on a parallelogram.

        :param picture: The picture.
        :param seen: Homogeneous pixels of its corners: low left, low right, high right, high left.
        :param pixels: The pixels of the corners if they are before the camera, else None.
        :param shade: Brightness of the picture.
        :param mist: Which part of its light is haze.
        """
        if pixels is None:
            pixels = outline(seen)
        if pixels is None:
            return
        left, top, wide, tall = cv2.boundingRect(pixels)
        right, bottom = min(left + wide, self.camera.width), min(top + tall, self.camera.height)
        spread = picture.height / tall
        left, top = max(left, 0), max(top, 0)
        size = (right - left, bottom - top)
        if min(size) < 1:
            return
        level = min(int(math.log2(spread) + 0.5), LEVELS - 1) if spread > 1.0 else 0
        color, alpha, cover = picture.levels[level]
        warp = _homography(seen, color.shape[:2])
        warp[:2] -= np.array([[left], [top]]) * warp[2]
        drawn = cv2.warpPerspective(color, warp, size, borderMode=cv2.BORDER_REPLICATE)
        if mist > 0.01 or shade != 1.0:
            drawn = cv2.convertScaleAbs(
                drawn, alpha=(1.0 - mist) * shade, beta=mist * self.light.day.haze)
        shape = cv2.fillPoly(np.zeros(size[::-1], np.uint8), [pixels - (left, top)], 1)
        mask = covered = shape
        if alpha is not None:
            mask = covered = shape & cv2.warpPerspective(alpha, warp, size)
        if cover is not None:
            covered = shape & cv2.warpPerspective(cover, warp, size)
        area = (slice(top, bottom), slice(left, right))
        cv2.copyTo(drawn, mask, self.image[area])
        np.copyto(self.labels[area], picture.label, where=covered.view(bool))


def outline(seen: np.ndarray) -> np.ndarray | None:
    """Return the pixels [N, 2] of the part before the camera of a polygon, or None."""
    ahead = seen[:, 2] >= NEAR
    if not ahead.any():
        return None
    kept = []
    for index, point in enumerate(seen):
        before = seen[index - 1]
        if ahead[index] != ahead[index - 1]:
            part = (NEAR - before[2]) / (point[2] - before[2])
            kept.append(before + part * (point - before))
        if ahead[index]:
            kept.append(point)
    return _whole_pixels(np.array(kept))


def _whole_pixels(seen: np.ndarray) -> np.ndarray:
    """Return whole pixels [N, 2], within what OpenCV can draw."""
    flat = seen[:, :2] / np.maximum(seen[:, 2:], NEAR)
    return np.rint(flat.clip(-2e4, 2e4)).astype(np.int32)


def _homography(seen: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the 3x3 matrix from the pixels of a picture to those where its corners are seen."""
    height, width = size
    matrix = np.empty((3, 3))
    matrix[:, 0] = (seen[1] - seen[0]) / width
    matrix[:, 1] = (seen[0] - seen[3]) / height
    # A picture's pixels are centred on whole numbers, its corner lies half a pixel before them.
    matrix[:, 2] = seen[3] + 0.5 * (matrix[:, 0] + matrix[:, 1])
    return matrix
