# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The ground in perspective, with its labels and the shadows on it."""

from __future__ import annotations

import math

import cv2
import numpy as np

from lmii_ros.simulation.camera import PinholeCamera
from lmii_ros.simulation.canvas import Canvas
from lmii_ros.simulation.canvas import outline
from lmii_ros.simulation.ground_texture import TEXEL
from lmii_ros.simulation.ground_texture import VERGE
from lmii_ros.simulation.labels import PAVEMENT
from lmii_ros.simulation.labels import ROAD
from lmii_ros.simulation.road import PERIOD
from lmii_ros.simulation.road import Road

LEVELS = 8
"""Number of sizes that the texture is kept in."""
END = 400.0
"""What is further away is drawn as if it were at this distance."""


class Ground:
    """
    Flat ground with a road, seen by one camera.

    :param texture: One period of the ground, see :func:`ground_texture`.
    :param road: The road.
    :param camera: The camera.
    """

    def __init__(self, texture: np.ndarray, road: Road, camera: PinholeCamera) -> None:
        self._road = road
        self._levels = [texture]
        height, width = texture.shape[:2]
        for index in range(1, LEVELS):
            # Rows shrink faster than columns: the ground is seen at a grazing angle.
            size = (width >> (index // 2), height >> index)
            texture = cv2.resize(texture, size, interpolation=cv2.INTER_AREA)
            self._levels.append(texture)
        # Where each pixel below the horizon looks depends on the camera only.
        self._top = min(max(math.floor(camera.horizon_row) + 1, 0), camera.height)
        rows = np.arange(self._top, camera.height)
        zeros = np.zeros(len(rows))
        ahead = np.minimum(camera.ground(np.stack([zeros, rows], -1))[:, 0], END)
        depth = camera.optical(np.stack([ahead, zeros, zeros], -1))[:, 2]
        self._ahead = ahead[:, None].astype(np.float32)
        left = np.outer(depth, (camera.cx - np.arange(camera.width)) / camera.fx)
        self._left = left.astype(np.float32)
        reach = depth ** 2 / (camera.fy * camera.mount_height) / TEXEL
        level = np.clip(np.log2(np.maximum(reach, 1.0)) + 0.3, 0, LEVELS - 1).astype(int)
        edges = [0, *(np.flatnonzero(np.diff(level)) + 1).tolist(), len(rows)]
        self._bands = [
            (slice(start, stop), self._levels[level[start]], float(self._ahead[start:stop].mean()))
            for start, stop in zip(edges, edges[1:]) if start < stop]

    def draw(self, canvas: Canvas, x: float) -> None:
        """Draw the ground for a vehicle at the world's x."""
        y, heading = self._road.pose(x)
        c, s = np.float32(math.cos(heading)), np.float32(math.sin(heading))
        way = c * self._ahead - s * self._left
        offset = s * self._ahead + c * self._left + np.float32(y)
        if self._road.swing:
            turn = np.float32((self._road.bend * x + self._road.phase) % (2.0 * math.pi))
            offset -= np.float32(self._road.swing) * np.sin(
                way * np.float32(self._road.bend) + turn)
        way += np.float32(x % PERIOD)
        self._label(canvas.labels[self._top:], way, offset)
        np.clip(offset, -VERGE, VERGE - TEXEL, out=offset)
        offset += np.float32(VERGE)
        image = canvas.image[self._top:]
        for band, texture, distance in self._bands:
            height, width = texture.shape[:2]
            rows = np.mod(way[band] * np.float32(height / PERIOD), np.float32(height))
            columns = offset[band] * np.float32(width / (2.0 * VERGE))
            drawn = cv2.remap(
                texture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
            mist = canvas.light.mist(distance)
            if mist > 0.01:
                drawn = cv2.convertScaleAbs(
                    drawn, alpha=1.0 - mist, beta=mist * canvas.light.day.haze)
            image[band] = drawn

    def _label(self, labels: np.ndarray, way: np.ndarray, offset: np.ndarray) -> None:
        """Set the labels of pixels that show ground at ways and offsets."""
        road = self._road
        distance = np.abs(offset)
        labels[:] = road.verge[-1]
        np.copyto(labels, np.uint8(road.verge[1]), where=offset > 0.0)
        np.copyto(labels, np.uint8(PAVEMENT), where=distance <= road.walk)
        np.copyto(labels, np.uint8(ROAD), where=distance <= road.half_width)
        if road.side_road:
            place = np.mod(way, np.float32(PERIOD)) - np.float32(road.junction)
            turns_off = (np.abs(place) <= road.junction_half_width) & (offset * road.side_road > 0)
            np.copyto(labels, np.uint8(ROAD), where=turns_off)

    def cast(self, canvas: Canvas, x: float, shadows: list[np.ndarray]) -> None:
        """Darken the ground in the hulls of shadows [N, 2] (way ahead, offset to the left)."""
        if not shadows or self._top >= canvas.camera.height:
            return
        mask = np.zeros(canvas.labels.shape, np.uint8)
        ahead, offset = np.concatenate(shadows).T
        points = self._road.points(x, ahead, offset)
        for _, seen, pixels in canvas.visible(points, [len(shadow) for shadow in shadows]):
            if pixels is None:
                pixels = outline(seen)
            if pixels is not None:
                cv2.fillConvexPoly(mask, cv2.convexHull(pixels), 1)
        ground = canvas.image[self._top:]
        dark = cv2.convertScaleAbs(ground, alpha=canvas.light.shadow)
        cv2.copyTo(dark, mask[self._top:], ground)
