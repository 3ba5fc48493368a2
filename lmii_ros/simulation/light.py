# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Light and weather."""

from __future__ import annotations

from dataclasses import dataclass
import math

import numpy as np


@dataclass(frozen=True)
class Day:
    """
    A kind of weather.

    :param haze: Brightness of what is infinitely far away.
    :param zenith: Colour of the sky above.
    :param horizon: Colour of the sky at the horizon.
    :param clouds: How much brighter than the sky the clouds are.
    :param sunny: Whether the sun casts shadows.
    :param dim: Whether there is little light.
    """

    haze: float
    zenith: tuple[int, int, int]
    horizon: tuple[int, int, int]
    clouds: float
    sunny: bool = False
    dim: bool = False


SUNNY = Day(205.0, (215, 165, 115), (235, 220, 205), 45.0, sunny=True)
OVERCAST = Day(175.0, (190, 180, 172), (214, 214, 214), -32.0)
WHITE = Day(225.0, (252, 252, 252), (255, 255, 255), -8.0)
DUSK = Day(150.0, (165, 145, 125), (190, 195, 205), -45.0, dim=True)
DAYS = (SUNNY, OVERCAST, WHITE, WHITE, DUSK)


@dataclass(frozen=True)
class Light:
    """
    The light in a scene.

    :param day: The kind of weather.
    :param shadow: Brightness of ground in shadow.
    :param sun: Shadow (way ahead, offset to the left) of a metre of height; None without sun.
    :param fog: Share of the light that is lost to haze per metre.
    """

    day: Day
    shadow: float
    sun: np.ndarray | None
    fog: float

    @classmethod
    def chosen(cls, rng: np.random.Generator) -> Light:
        """Return a light by chance."""
        day = DAYS[rng.integers(len(DAYS))]
        shadow = rng.uniform(0.45, 0.7) if day.sunny else 0.85
        angle, low = rng.uniform(0.0, 2.0 * math.pi), rng.uniform(0.5, 1.6)
        sun = low * np.array((math.cos(angle), math.sin(angle))) if day.sunny else None
        return cls(day, shadow, sun, fog=float(rng.uniform(0.0005, 0.006)))

    def mist(self, distance: float) -> float:
        """Return which part of the light from a distance is haze."""
        return 1.0 - math.exp(-max(0.0, distance) * self.fog)

    def facing(self, side: int) -> float:
        """Return the brightness of walls that stand on a side of the road and face it."""
        if self.sun is None:
            return 1.0
        return 1.1 if self.sun[1] * side > 0 else 0.72
