# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The road: its course, its cross-section and the coordinates along it."""

from __future__ import annotations

from dataclasses import dataclass
import math

import numpy as np

from lmii_ros.simulation.labels import PAVEMENT
from lmii_ros.simulation.labels import TREE

SIDES = (-1, 1)
"""Right and left of the road."""
PERIOD = 72.0
"""The ground repeats after this way along the road; what stands on it never does."""
SLOT = 12.0
"""Length of road that one house or fence takes; a whole fraction of the period."""


@dataclass(frozen=True)
class Road:
    """
    A road that winds about the world's x axis, and what lies to both its sides.

    :param half_width: Offset of the kerbs from the road's centre.
    :param pavement_width: Width of the pavement on each side.
    :param parking: Per side, whether cars park there.
    :param drive_side: The side that one drives on.
    :param bend: How fast the course winds, in radians per metre.
    :param swing: How far the course swings out; 0 is a straight road.
    :param phase: Where in its winding the course begins, in radians.
    :param side_road: The side on which roads turn off, once in each period, or None.
    :param junction: Where in the period the side road turns off.
    :param junction_half_width: Half the width of the side road.
    :param verge: Per side, the label of the ground beyond the pavement.
    """

    half_width: float
    pavement_width: float
    parking: dict[int, bool]
    drive_side: int
    bend: float
    swing: float
    phase: float
    side_road: int | None
    junction: float
    junction_half_width: float
    verge: dict[int, int]

    @classmethod
    def chosen(cls, rng: np.random.Generator) -> Road:
        """Return a road by chance."""
        half_width = float(rng.uniform(3.0, 5.8))
        pavement_width = float(rng.uniform(1.5, 4.2))
        has_room = half_width > 4.5
        parking = {side: has_room and rng.random() < 0.4 for side in SIDES}
        drive_side = 1 if rng.random() < 0.7 else -1
        bend = 2.0 * math.pi / rng.uniform(180.0, 420.0)
        return cls(
            half_width=half_width,
            pavement_width=pavement_width,
            parking=parking,
            drive_side=drive_side,
            bend=bend,
            swing=0.0 if rng.random() < 0.35 else rng.uniform(0.02, 0.11) / bend,
            phase=rng.uniform(0.0, 2.0 * math.pi),
            side_road=int(rng.choice(SIDES)) if rng.random() < 0.5 else None,
            junction_half_width=float(rng.uniform(2.6, 3.8)),
            junction=SLOT * (int(rng.integers(1, 5)) + 0.5),
            verge={side: TREE if rng.random() < 0.45 else PAVEMENT for side in SIDES},
        )

    @property
    def walk(self) -> float:
        """Offset of the pavement's outer edge from the road's centre."""
        return self.half_width + self.pavement_width

    def edge(self, side: int) -> float:
        """Return the offset up to which one may drive on a side, beside parked cars."""
        return self.half_width - 2.0 * self.parking[side]

    @property
    def lane(self) -> float:
        """Offset of the middle of the vehicle's lane, to the left."""
        return self.drive_side * self.edge(self.drive_side) / 2.0

    def turns_off(self, way: float, side: int, margin: float) -> bool:
        """Return whether a side road leaves within a margin of a way along the road."""
        place = (way - self.junction + PERIOD / 2) % PERIOD - PERIOD / 2
        return side == self.side_road and abs(place) < self.junction_half_width + margin

    def pose(self, x: float) -> tuple[float, float]:
        """Return the world's y and the heading of a vehicle in its lane at the world's x."""
        bend = self.bend * x + self.phase
        return (
            self.swing * math.sin(bend) + self.lane,
            math.atan(self.swing * self.bend * math.cos(bend)))

    def points(self, x: float, ahead: object, offset: object, up: object = 0.0) -> np.ndarray:
        """
        Return points [..., 3] of the vehicle frame that lie on or above the road.

        :param x: Where the vehicle is along the world's x axis.
        :param ahead: How far along the road from the vehicle.
        :param offset: How far left of the road's centre.
        :param up: How far above the ground.
        """
        ahead, offset, up = np.broadcast_arrays(np.asarray(ahead, np.float64), offset, up)
        y, heading = self.pose(x)
        c, s = math.cos(heading), math.sin(heading)
        side = self.swing * np.sin(self.bend * (x + ahead) + self.phase) + offset - y
        return np.stack([c * ahead + s * side, c * side - s * ahead, up], -1)

    def offset(self, x: float, points: np.ndarray) -> np.ndarray:
        """Return how far left of the road's centre points [..., 3] of the vehicle frame lie."""
        y, heading = self.pose(x)
        points = np.asarray(points, np.float64)
        c, s = math.cos(heading), math.sin(heading)
        world = x + c * points[..., 0] - s * points[..., 1]
        return y + s * points[..., 0] + c * points[..., 1] - (
            self.swing * np.sin(self.bend * world + self.phase))
