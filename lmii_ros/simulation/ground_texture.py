# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The texture of the ground: asphalt, markings, pavements and verges."""

from __future__ import annotations

import cv2
import numpy as np

from lmii_ros.simulation.labels import TREE
from lmii_ros.simulation.noise import noise
from lmii_ros.simulation.road import PERIOD
from lmii_ros.simulation.road import Road
from lmii_ros.simulation.road import SIDES

TEXEL = 0.03
"""Size of one element of the texture."""
VERGE = 14.0
"""Offset from the road's centre up to which the ground is drawn."""
WHITE, YELLOW = (1.0, 1.0, 1.0), (0.45, 0.85, 0.98)
EDGE_LINES = ((0, WHITE), (1, WHITE), (1, YELLOW), (2, YELLOW))
"""How many lines run along the kerb, and their tint."""


def ground_texture(rng: np.random.Generator, road: Road) -> np.ndarray:
    """
    Draw one period of the ground.

    :param rng: Chooses materials, wear and markings.
    :param road: The road.
    :return: uint8 [H, W, 3] BGR, rows along the road, columns from right to left across it.
    """
    texture = _Texture(rng, road)
    texture.draw_repairs()
    paint = np.array((205, 212, 214)) * rng.uniform(0.75, 1.1)
    texture.draw_markings(paint)
    texture.draw_sides()
    if road.side_road:
        texture.draw_side_road(road.side_road, paint)
    return np.clip(texture.color, 0, 255).astype(np.uint8)


class _Texture:
    """The ground while it is drawn, at first all asphalt."""

    def __init__(self, rng: np.random.Generator, road: Road) -> None:
        self._rng, self._road = rng, road
        height, width = round(PERIOD / TEXEL), round(2.0 * VERGE / TEXEL)
        self._tone = rng.uniform(72, 125) * (1.0 + rng.normal(0.0, 0.015, 3))
        self._grit = noise(rng, height, width, 1, 1) * 6.0
        self._grit += noise(rng, height, width, 4, 3) * 3.5
        self._blots = noise(rng, height, width, 80, 24) * 4.0
        self._blots += noise(rng, height, width, 500, 12) * 3.0
        self._rough = (self._grit + self._blots)[..., None]
        self.color = self._rough + self._tone.astype(np.float32)

    def draw_repairs(self) -> None:
        """Draw patches, manholes and cracks."""
        rng, half, height = self._rng, self._road.half_width, len(self.color)
        for _ in range(int(rng.integers(2, 12))):
            d = rng.uniform(-half, half - 1.0)
            area = _area(
                rng.uniform(0, PERIOD), rng.uniform(0.8, 9), d, d + rng.uniform(0.5, 2))
            self.color[area] += rng.normal(0.0, 11.0)
        for _ in range(int(rng.integers(0, 6))):
            center = (_column(rng.uniform(-half, half)), int(rng.integers(20, height - 20)))
            cv2.circle(self.color, center, 11, (self._tone * 0.62).tolist(), -1)
        for _ in range(int(rng.integers(0, 14))):
            steps = np.cumsum(rng.normal((0, 16), (6, 12), (24, 2)), 0)
            path = steps + (_column(rng.uniform(-half, half)), rng.integers(0, height))
            cv2.polylines(
                self.color, [path.astype(np.int32)], False, (self._tone * 0.72).tolist(), 1)

    def draw_markings(self, paint: np.ndarray) -> None:
        """Draw the middle line, the lines along the kerbs and, maybe, a zebra crossing."""
        rng, half = self._rng, self._road.half_width
        gap, line = float(rng.choice((4.0, 6.0, 9.0, 12.0))), rng.uniform(0.05, 0.09)
        for s in np.arange(0.5, PERIOD, gap):
            self._mark(_area(s, gap * rng.uniform(0.45, 0.55), -line, line), paint)
        lines, tint = EDGE_LINES[rng.integers(len(EDGE_LINES))]
        for side in SIDES:
            for inset in (0.3, 0.5)[:lines]:
                area = _area(0, PERIOD, side * (half - inset), side * (half - inset - 0.08))
                self._mark(area, paint, tint)
        if rng.random() < 0.35:
            start = (self._road.junction + 24.0) % PERIOD
            for d in np.arange(-half + 0.3, half - 0.5, 1.2):
                self._mark(_area(start, 2.8, d, d + 0.6), paint)

    def draw_sides(self) -> None:
        """Draw pavements, verges, kerbstones and gutters."""
        rng, half, walk = self._rng, self._road.half_width, self._road.walk
        slab = self._tone * 0.3 + rng.uniform(70, 125) * (1.0 + rng.normal(0.0, 0.02, 3))
        for side in SIDES:
            area = _area(0, PERIOD, side * half, side * walk)
            paved = slab.astype(np.float32) + self._rough[area]
            size = round(rng.uniform(0.5, 0.9) / TEXEL)
            if rng.random() < 0.7:
                paved[::size] *= 0.86
                paved[:, ::size] *= 0.86
            self.color[area] = paved
            area = _area(0, PERIOD, side * walk, side * VERGE)
            if self._road.verge[side] == TREE:
                base, grain = (48, 92, 82), 2.2
            else:
                base, grain = slab * 0.9, 1.0
            blades = self._grit[area] * grain + self._blots[area] * 2.0
            self.color[area] = np.array(base, np.float32) + blades[..., None]
            area = _area(0, PERIOD, side * half, side * (half + 0.16))
            self.color[area] = slab * 1.1 + 12 + self._grit[area][..., None]
            area = _area(0, PERIOD, side * half, side * (half - 0.12))
            self.color[area] *= 0.72

    def draw_side_road(self, side: int, paint: np.ndarray) -> None:
        """Draw the road that turns off, behind a broken line."""
        half, reach, junction = (
            self._road.half_width, self._road.junction_half_width, self._road.junction)
        area = _area(junction - reach, 2 * reach, side * half, side * VERGE)
        self.color[area] = self._tone + self._rough[area]
        for s in np.arange(junction - reach, junction + reach - 0.5, 0.9):
            self._mark(_area(s, 0.55, side * half, side * (half - 0.15)), paint)

    def _mark(
        self,
        area: tuple[slice, slice],
        paint: np.ndarray,
        tint: tuple[float, ...] = WHITE,
    ) -> None:
        """Draw worn paint."""
        worn = paint + self._rough[area] * 1.5
        self.color[area] = worn * np.array(tint, np.float32)


def _column(d: float) -> int:
    return round((d + VERGE) / TEXEL)


def _area(s: float, long: float, low: float, high: float) -> tuple[slice, slice]:
    """Return the part of the texture from a way s on and between two offsets."""
    start = round(s / TEXEL)
    first, last = sorted((_column(low), _column(high)))
    return slice(max(start, 0), start + max(1, round(long / TEXEL))), slice(first, last)
