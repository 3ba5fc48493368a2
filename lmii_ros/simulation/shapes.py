# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The shapes that objects are made of: upright panels and solids with faces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from typing import Sequence

import cv2
import numpy as np

from lmii_ros.simulation.canvas import Canvas
from lmii_ros.simulation.canvas import outline
from lmii_ros.simulation.picture import Picture
from lmii_ros.simulation.road import Road

DETAIL = 35.0
"""Distance beyond which the details of solids are left out."""


@dataclass
class Panel:
    """
    A picture that stands on or above the ground.

    :param distance: How far it is along the road; what is near hides what is far.
    :param points: Its corners [4, 3] (low left, low right, high right, high left) in road
        coordinates: way ahead, offset to the left, up.
    :param picture: What is drawn on it.
    :param shade: Brightness of the picture.
    :param sway: How far left each corner is moved across the view, however the road bends.
    """

    distance: float
    points: np.ndarray
    picture: Picture
    shade: float = 1.0
    sway: np.ndarray | None = None

    def draw(self, canvas: Canvas, seen: np.ndarray, pixels: np.ndarray | None) -> None:
        """Draw it where its corners are seen, see :meth:`Canvas.visible`."""
        mist = canvas.light.mist(self.distance)
        canvas.draw_picture(self.picture, seen, pixels, self.shade, mist)


class Face(NamedTuple):
    """
    A face of a solid.

    :param start: Index of its first point.
    :param stop: Index after its last point.
    :param color: Its colour.
    :param is_detail: Whether it matters only when near.
    """

    start: int
    stop: int
    color: list[float]
    is_detail: bool = False


@dataclass
class Solid:
    """
    Something with faces of one colour each.

    :param distance: How far it is along the road; what is near hides what is far.
    :param points: Its points [N, 3] in road coordinates: way ahead, offset to the left, up.
    :param label: Its class.
    :param faces: Its faces, inner ones first.
    :param is_closed: Whether faces that look away are hidden by others and so left out.
    :param sway: How far left each point is moved across the view, however the road bends.
    """

    distance: float
    points: np.ndarray
    label: int
    faces: list[Face]
    is_closed: bool = False
    sway: np.ndarray | None = None

    def draw(self, canvas: Canvas, seen: np.ndarray, pixels: np.ndarray | None) -> None:
        """Draw it where its points are seen, see :meth:`Canvas.visible`."""
        mist = canvas.light.mist(self.distance)
        for start, stop, color, is_detail in self.faces:
            if is_detail and self.distance > DETAIL:
                continue
            face = outline(seen[start:stop]) if pixels is None else pixels[start:stop]
            if face is None or (self.is_closed and cv2.contourArea(face, True) >= 0.0):
                continue
            canvas.draw_polygon(face, color, self.label, mist)


def draw_shapes(canvas: Canvas, road: Road, x: float, shapes: Sequence[Panel | Solid]) -> None:
    """Draw shapes along the road, far ones first, for a vehicle at the world's x."""
    shapes = sorted(shapes, key=lambda shape: -shape.distance)
    counts = [len(shape.points) for shape in shapes]
    ahead, offset, up = np.concatenate([shape.points for shape in shapes]).T
    points = road.points(x, ahead, offset, up)
    points[:, 1] += np.concatenate([
        np.zeros(count) if shape.sway is None else shape.sway
        for shape, count in zip(shapes, counts)])
    for index, seen, pixels in canvas.visible(points, counts):
        shapes[index].draw(canvas, seen, pixels)
