# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The objects along the road in one frame, with their shadows."""

from __future__ import annotations

import numpy as np

from lmii_ros.simulation.camera import PinholeCamera
from lmii_ros.simulation.cars import car
from lmii_ros.simulation.drawings import House
from lmii_ros.simulation.labels import BUILDING
from lmii_ros.simulation.labels import CAR
from lmii_ros.simulation.labels import POLE
from lmii_ros.simulation.light import Light
from lmii_ros.simulation.picture import Picture
from lmii_ros.simulation.shapes import Face
from lmii_ros.simulation.shapes import Panel
from lmii_ros.simulation.shapes import Solid

CLOSEST = 1.0
"""Upright objects that are closer than this are left out; walls and cars are cut off."""


class Objects:
    """
    The shapes of objects and their shadows, as objects are added.

    `shapes` are to be drawn; `shadows` are [N, 2] points (way ahead, offset to the left), whose
    hulls are in shadow.

    :param light: The light that casts the shadows.
    :param camera: The camera that they are made for.
    """

    def __init__(self, light: Light, camera: PinholeCamera) -> None:
        self.shapes: list[Panel | Solid] = []
        self.shadows: list[np.ndarray] = []
        self._light = light
        self._focal = camera.fx

    def add_upright(
        self,
        picture: Picture,
        ahead: float,
        offset: float,
        wide: float,
        tall: float,
        up: float = 0.0,
    ) -> None:
        """Add a picture that always faces the camera: a tree, a person or, higher up, a sign."""
        if ahead <= CLOSEST:
            return
        points = np.array([(ahead, offset, up)] * 2 + [(ahead, offset, up + tall)] * 2)
        sway = np.array((0.5, -0.5, -0.5, 0.5)) * wide
        self.shapes.append(Panel(ahead, points, picture, sway=sway))
        if not up:
            self._cast([(ahead, offset - wide / 3), (ahead, offset + wide / 3)], tall * 0.9)

    def add_wall(
        self,
        picture: Picture,
        near: float,
        far: float,
        offset: float,
        tall: float,
        shade: float,
    ) -> None:
        """Add a picture that stands along the road."""
        points = np.array([
            (near, offset, 0.0), (far, offset, 0.0), (far, offset, tall), (near, offset, tall)])
        self.shapes.append(Panel(far, points, picture, shade))
        self._cast(points[:2, :2], tall)

    def add_post(
        self,
        ahead: float,
        offset: float,
        tall: float,
        wide: float,
        arm: float,
        gray: float,
    ) -> None:
        """Add a post with an arm that reaches to the left; the arm of a plain post is 0."""
        if ahead <= CLOSEST:
            return
        # Far away, where it would be thinner, it is as wide as a pixel.
        wide = max(wide, 1.1 * ahead / self._focal)
        points = np.array([(ahead, offset, up) for up in (
            0.0, 0.0, tall, tall, tall - wide, tall + 0.1, tall + 0.1 + wide, tall)])
        sway = np.array((0.5, -0.5, -0.5, 0.5, 0.0, 0.0, 0.0, 0.0)) * wide
        sway[5:7] = arm
        color = [gray, gray * 1.02, gray * 1.05]
        faces = [Face(0, 4, color), Face(4, 8, color)]
        # A little further than the sign that hangs on it.
        self.shapes.append(Solid(ahead + 0.01, points, POLE, faces, sway=sway))
        self._cast([(ahead, offset - 0.05), (ahead, offset + 0.05)], tall)

    def add_car(self, ahead: float, offset: float, numbers: tuple[float, ...], away: bool) -> None:
        """Add the car, van or bus that ten numbers choose."""
        body, faces = car(numbers, away)
        points = body + (ahead, offset, 0.0)
        self.shapes.append(Solid(ahead, points, CAR, faces, is_closed=True))
        long, wide = body[:, :2].max(0) * (1.0, 1.05)
        base = np.array([(-long, -wide), (long, -wide), (long, wide), (-long, wide)])
        base += (ahead, offset)
        # Even without sun it is dark below a car.
        self.shadows.append(base)
        self._cast(base, 1.3)

    def add_house(
        self,
        house: House,
        near: float,
        far: float,
        offset: float,
        side: int,
        has_gable: bool,
        has_side_windows: bool,
        tiles: np.ndarray,
    ) -> None:
        """Add a house on a side of the road; `tiles` is the colour of its roof if gabled."""
        tall, depth = house.height, side * 8.0
        self.add_wall(house.front, near, far, offset, tall, self._light.facing(side))
        wall = [(near, offset, 0.0), (near, offset + depth, 0.0),
                (near, offset + depth, tall), (near, offset, tall)]
        points, paint = wall, (house.paint * 0.8).tolist()
        faces = [Face(0, 4, paint)]
        if has_gable:
            ridge, high = offset + depth / 2.0, tall + 2.2
            points = wall[:3] + [(near, ridge, high)] + wall[3:]
            points += [(near, offset, tall), (far, offset, tall),
                       (far, ridge, high), (near, ridge, high)]
            points += [(near + 0.6, ridge + d, high + up) for d, up in (
                (-0.6, -0.6), (0.6, -0.6), (0.6, 0.9), (-0.6, 0.9))]
            chimney = (house.paint * 0.7).tolist()
            faces = [Face(5, 9, tiles.tolist()), Face(9, 13, chimney), Face(0, 5, paint)]
        self.shapes.append(Solid(far + 0.01, np.array(points), BUILDING, faces))
        if has_side_windows:
            self.shapes.append(Panel(far + 0.005, np.array(wall), house.front, 0.8))

    def _cast(self, base: object, tall: float) -> None:
        """Add the shadow of what stands on points [N, 2] and is so tall."""
        if self._light.sun is not None:
            base = np.asarray(base)
            self.shadows.append(np.concatenate([base, base + self._light.sun * tall]))
