# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The drivable area: where the vehicle may go from where it is, in the image and on the ground."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable

import cv2
import numpy as np

from lmii_ros.camera import Calibration
from lmii_ros.camera import CameraPose
from lmii_ros.classes import UNKNOWN

FREE = 0
NOT_DRIVABLE = 100
UNSEEN = -1
"""Values of nav_msgs/OccupancyGrid."""
EGO_HEIGHT = 0.1
EGO_WIDTH = 0.5
"""Share of the image, in the middle of its lower edge, that shows the ground ahead."""


def drivable_area(labels: np.ndarray, drivable: Iterable[int]) -> np.ndarray:
    """
    Return the drivable pixels that are connected to the ego vehicle.

    A road seen beyond a pavement or a fence is drivable ground, but not for this vehicle: only
    areas that reach the ground ahead of it count.

    :param labels: uint8 [H, W], class indices.
    :param drivable: Indices of the drivable classes.
    :return: uint8 [H, W], 255 where drivable and connected, else 0.
    """
    is_drivable = np.zeros(256, np.uint8)
    is_drivable[list(drivable)] = 255
    mask = cv2.LUT(labels, is_drivable)
    height, width = labels.shape
    margin = int(width * (1 - EGO_WIDTH) / 2)
    # Whatever the ground ahead is labelled as, the fill begins in all of it.
    reached = mask.copy()
    reached[height - max(1, int(height * EGO_HEIGHT)):, margin:width - margin] = 255
    cv2.floodFill(reached, None, (width // 2, height - 1), 1)
    return mask * (reached == 1)


@dataclass(frozen=True)
class Grid:
    """
    Cells of flat ground before the vehicle, from its origin on (REP 103: x forward, y left).

    :param length: Metres ahead.
    :param width: Metres across, half of them to each side.
    :param resolution: Metres of a cell's side.
    """

    length: float
    width: float
    resolution: float

    @property
    def shape(self) -> tuple[int, int]:
        """Cells across and ahead; the first is the rightmost of the nearest."""
        return round(self.width / self.resolution), round(self.length / self.resolution)

    @property
    def right(self) -> float:
        """Y of the right edge, in metres."""
        return -self.shape[0] * self.resolution / 2

    def points(self, cells: np.ndarray) -> np.ndarray:
        """Return x and y [N, 2] in metres; of cells (ahead, across) [N, 2], 0 is a corner."""
        return cells * self.resolution + (0.0, self.right)


class GroundProjection:
    """
    From the image to the ground, by inverse perspective mapping: the world is taken to be flat.

    What stands on the ground hides what is behind it, which therefore counts as not drivable.

    :param calibration: Of the images.
    :param pose: Where the camera is.
    :param grid: The cells wanted.
    """

    def __init__(self, calibration: Calibration, pose: CameraPose, grid: Grid) -> None:
        across, ahead = grid.shape
        cells = np.stack(np.meshgrid(np.arange(ahead + 1), np.arange(across + 1)), axis=-1)
        ground = np.pad(grid.points(cells.reshape(-1, 2)), ((0, 0), (0, 1)))
        pixels = calibration.project(pose.optical(ground))
        corners = np.rint(pixels).reshape(across + 1, ahead + 1, 2)
        low = _of_four(np.minimum, corners)
        self._seen = ~np.isnan(low[..., 0])
        # Of the cells seen, the corners of their bounding boxes in an integral image.
        left, top = low[self._seen].astype(np.intp).T
        right, bottom = _of_four(np.maximum, corners)[self._seen].astype(np.intp).T + 1
        stride = calibration.width + 1
        self._boxes = np.stack([
            bottom * stride + right, top * stride + left,
            bottom * stride + left, top * stride + right])

    @property
    def sees_ground(self) -> bool:
        """Whether the image shows any cell."""
        return bool(self._seen.any())

    def occupancy(self, labels: np.ndarray, drivable: np.ndarray) -> np.ndarray:
        """
        Return which cells are drivable.

        :param labels: uint8 [H, W] of the calibrated size, class indices.
        :param drivable: uint8 [H, W], of :func:`drivable_area`.
        :return: int8 [across, ahead]: :data:`FREE` where every pixel of a cell's bounding box in
            the image is drivable, :data:`NOT_DRIVABLE` where one has another label, else
            :data:`UNSEEN`, which is not wholly in the image or of an unknown label.
        """
        not_free = self._count(drivable == 0)
        unknown = self._count(labels == UNKNOWN)
        cells = np.full(self._seen.shape, UNSEEN, np.int8)
        cells[self._seen] = np.where(
            not_free == 0, FREE, np.where(not_free > unknown, NOT_DRIVABLE, UNSEEN))
        return cells

    def _count(self, pixels: np.ndarray) -> np.ndarray:
        """Return for each cell seen how many of its pixels are true."""
        sums = cv2.integral(pixels.view(np.uint8)).take(self._boxes)
        return sums[0] + sums[1] - sums[2] - sums[3]


def drivable_boundary(occupancy: np.ndarray, grid: Grid) -> np.ndarray:
    """
    Return the outline of the largest area of free cells, through the middle of its outer cells.

    :param occupancy: int8 [across, ahead], of :meth:`GroundProjection.occupancy`.
    :param grid: Of these cells.
    :return: float [N, 2], x and y in metres, counterclockwise seen from above; no points where
        no area is free. What is not drivable within the area does not show.
    """
    contours, _ = cv2.findContours(
        np.uint8(occupancy == FREE), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    largest = max(contours, key=cv2.contourArea, default=np.empty((0, 1, 2)))
    if len(largest) < 3:
        return np.empty((0, 2))
    return grid.points(largest[::-1, 0] + 0.5)


def _of_four(combine: np.ufunc, corners: np.ndarray) -> np.ndarray:
    """Return for each cell what its corners, one more each way, give together."""
    pairs = combine(corners[1:], corners[:-1])
    return combine(pairs[:, 1:], pairs[:, :-1])
