# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The street: what stands and moves along the road, and where."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
import math
from typing import Iterator
from typing import Sequence
from typing import TypeVar

import numpy as np

from lmii_ros.simulation.camera import PinholeCamera
from lmii_ros.simulation.drawings import Drawings
from lmii_ros.simulation.light import Light
from lmii_ros.simulation.objects import Objects
from lmii_ros.simulation.road import Road
from lmii_ros.simulation.road import SIDES
from lmii_ros.simulation.road import SLOT

FAR = 120.0
"""Nothing stands on the ground beyond this distance but the skyline."""
ZONE = 4
"""Number of slots of the same character."""

(_ZONE, _HOUSE, _FURNITURE, _PARKED, _WALKER, _RIDER, _ONCOMING, _LEADER) = range(8)

_Item = TypeVar('_Item')


@dataclass(frozen=True)
class Surroundings:
    """
    What the street is like.

    :param frontage: Per side, how far houses stand back from the pavement.
    :param crowd: Share of the places for people that are taken.
    :param traffic: Share of the places for moving cars that are taken.
    :param green: How many trees there are, and how few houses, from 0 to 1.
    :param bare: Whether most trees have no leaves.
    """

    frontage: dict[int, float]
    crowd: float
    traffic: float
    green: float
    bare: bool

    @classmethod
    def chosen(cls, rng: np.random.Generator) -> Surroundings:
        """Return surroundings by chance."""
        return cls(
            frontage={side: rng.uniform(0.2, 3.5) for side in SIDES},
            crowd=rng.uniform(0.15, 0.8),
            traffic=rng.uniform(0.15, 0.8),
            green=rng.uniform(0.15, 0.8),
            bare=rng.random() < 0.65,
        )


class Street:
    """
    Objects along a road without end.

    Each kind of object has places at regular distances. Ten numbers that belong to a place say
    what is there, so that it is there again whenever one looks.

    :param seed: Chooses what is in the places.
    :param road: The road.
    :param surroundings: How much of everything there is.
    :param drawings: What the objects look like.
    :param light: The light that they stand in.
    :param camera: The camera that sees them.
    """

    def __init__(
        self,
        seed: int,
        road: Road,
        surroundings: Surroundings,
        drawings: Drawings,
        light: Light,
        camera: PinholeCamera,
    ) -> None:
        self._seed = seed
        self._road = road
        self._surroundings = surroundings
        self._drawings = drawings
        self._light = light
        self._camera = camera

    def objects(self, x: float, time_s: float) -> Objects:
        """Return what a vehicle at the world's x has before it at a time in seconds."""
        objects = Objects(self._light, self._camera)
        for side in SIDES:
            self._add_slots(objects, side, x)
            self._add_furniture(objects, side, x)
            if self._road.parking[side]:
                self._add_parked_cars(objects, side, x)
            self._add_people(objects, side, x, time_s)
        self._add_traffic(objects, x, time_s)
        return objects

    def _add_slots(self, objects: Objects, side: int, x: float) -> None:
        """Add what takes a slot of the roadside: houses, fences and trees in gardens."""
        road, green = self._road, self._surroundings.green
        front = road.walk + self._surroundings.frontage[side]
        lit = self._light.facing(side)
        for index, near, numbers in self._places(_HOUSE, side, SLOT, x, behind=SLOT):
            if road.turns_off(x + (near + SLOT / 2), side, 2.0):
                continue
            chance, which, gap, roof, has_tree, height, kind, along, across, tiles = numbers
            town, depth, back, fence, fence_kind, fence_height = self._numbers(
                _ZONE, side, index // ZONE)[:6]
            far = near + SLOT
            is_town, is_set_back = town > 0.25 * green, back > 0.6
            if is_town and chance > 0.05:
                objects.add_house(
                    _pick(self._drawings.houses, which),
                    near,
                    far - (2.0 if gap > 0.8 else 0.0),
                    side * (front + (5.0 * depth if is_set_back else 0.0)),
                    side,
                    has_gable=roof <= 0.6,
                    has_side_windows=roof > 0.4,
                    tiles=self._drawings.tiles * lit * (0.7 + 0.5 * tiles))
            if fence > 0.65 or is_set_back or not is_town:
                picture = _pick(self._drawings.fences, fence_kind)
                tall = 0.9 + fence_height * (0.3 if picture.has_gaps else 1.3)
                objects.add_wall(picture, near, far, side * (road.walk + 0.05), tall, lit)
            elif fence < 0.15 and not road.parking[side]:
                kerb = side * (road.half_width + 0.35)
                objects.add_wall(self._drawings.railing, near, far, kerb, 1.0, 1.0)
            if (is_set_back or not is_town) and (
                    has_tree < (0.4 if is_town else 1.0) * (0.5 + green)):
                tall = 5.0 + 6.0 * height
                objects.add_upright(
                    _pick(self._drawings.trees, kind), near + SLOT * along,
                    side * (road.walk + 1.0 + 4.0 * across), tall * 0.75, tall)

    def _add_furniture(self, objects: Objects, side: int, x: float) -> None:
        """Add what stands at the kerb: lamp posts, signs and street trees."""
        road, drawings = self._road, self._drawings
        for _, near, numbers in self._places(_FURNITURE, side, 9.0, x):
            along, across, gray, kind, height, arm, which, up, wide, _ = numbers
            ahead, offset = near + 8.0 * along, side * (road.half_width + 0.4 + 0.3 * across)
            gray = 35.0 + 90.0 * gray
            if road.turns_off(x + ahead, side, 0.5):
                continue
            if kind < 0.3:
                reach = -side * 1.5 * (arm > 0.4)
                objects.add_post(ahead, offset, 5.5 + 3.0 * height, 0.13, reach, gray)
            elif kind < 0.6:
                low, size = 2.0 + 0.4 * up, 0.6 + 0.55 * wide
                objects.add_post(ahead, offset, low + size * 0.8, 0.08, 0.0, gray)
                objects.add_upright(
                    _pick(drawings.signs, which), ahead, offset, size, size, low)
            elif kind < 0.6 + 0.25 * self._surroundings.green and road.pavement_width > 2.0:
                tall = 4.5 + 5.0 * height
                objects.add_upright(
                    _pick(drawings.trees, which), ahead, offset + side * 0.3, tall * 0.75, tall)

    def _add_parked_cars(self, objects: Objects, side: int, x: float) -> None:
        road = self._road
        for _, near, numbers in self._places(_PARKED, side, 6.0, x, behind=3.0):
            chance, along = numbers[:2]
            if chance < 0.7 and not road.turns_off(x + (near + 3.0), side, 4.0):
                objects.add_car(
                    near + 2.5 + along, side * (road.half_width - 1.15), numbers,
                    away=side == road.drive_side)

    def _add_people(self, objects: Objects, side: int, x: float, time_s: float) -> None:
        """Add people, who walk in opposite directions on the two sides, and cyclists."""
        road, drawings = self._road, self._drawings
        for _, near, numbers in self._places(_WALKER, side, 5.0, x - 1.3 * side * time_s):
            chance, along, height, which, across = numbers[:5]
            if chance < self._surroundings.crowd:
                tall = 1.55 + 0.3 * height
                offset = road.half_width + 0.5 + (road.pavement_width - 0.8) * across
                objects.add_upright(
                    _pick(drawings.people, which), near + 5.0 * along, side * offset, tall / 2.0,
                    tall)
        speed = 4.5 * side * road.drive_side
        for _, near, numbers in self._places(_RIDER, side, 26.0, x - speed * time_s):
            chance, along, _, which = numbers[:4]
            if chance < 0.25:
                objects.add_upright(
                    _pick(drawings.cyclists, which), near + 20.0 * along,
                    side * (road.edge(side) - 0.5), 0.9, 1.8)

    def _add_traffic(self, objects: Objects, x: float, time_s: float) -> None:
        """Add oncoming cars, and those that drive before the vehicle, as fast as it does."""
        road, traffic = self._road, self._surroundings.traffic
        side = -road.drive_side
        for _, near, numbers in self._places(_ONCOMING, 0, 18.0, x + 9.0 * time_s, behind=5.0):
            chance, along = numbers[:2]
            if chance < traffic:
                offset = side * road.edge(side) / 2.0
                objects.add_car(near + 12.0 * along, offset, numbers, away=False)
        for index in range(3):
            numbers = self._numbers(_LEADER, 0, index)
            chance, along, phase = numbers[:3]
            sway = 3.0 * math.sin(0.3 * time_s + 6.3 * phase)
            if chance < traffic:
                ahead = 11.0 + 34.0 * index + 22.0 * along + sway
                objects.add_car(ahead, road.lane, numbers, away=True)

    def _places(
        self,
        kind: int,
        side: int,
        spacing: float,
        x: float,
        behind: float = 0.0,
    ) -> Iterator[tuple[int, float, tuple[float, ...]]]:
        """
        Yield the places ahead for a kind of object on a side.

        :param kind: The kind of object.
        :param side: The side of the road.
        :param spacing: The distance between places.
        :param x: Where the vehicle is among them; for places that move, how far ahead of them.
        :param behind: How far behind the vehicle they begin.
        :return: Their indices, how far ahead they are, and the numbers that belong to them.
        """
        for index in range(
                math.floor((x - behind) / spacing), math.floor((x + FAR) / spacing) + 1):
            yield index, index * spacing - x, self._numbers(kind, side, index)

    def _numbers(self, kind: int, side: int, index: int) -> tuple[float, ...]:
        return _numbers(self._seed, kind, side, index)


@lru_cache(8192)
def _numbers(seed: int, kind: int, side: int, index: int) -> tuple[float, ...]:
    """Return ten numbers in [0, 1) that belong to one place of one kind of object, always."""
    entropy = [seed, 2 + kind, side + 1, index % 2 ** 63]
    return tuple(np.random.default_rng(entropy).random(10).tolist())


def _pick(items: Sequence[_Item], number: float) -> _Item:
    """Return the item that a number in [0, 1) chooses."""
    return items[int(number * len(items))]
