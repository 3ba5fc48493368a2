# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Road scenes: a street, and the frames that a camera on a vehicle takes of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmii_ros.simulation.backdrop import draw_sky
from lmii_ros.simulation.backdrop import draw_skyline
from lmii_ros.simulation.backdrop import sky
from lmii_ros.simulation.backdrop import skyline
from lmii_ros.simulation.camera import PinholeCamera
from lmii_ros.simulation.canvas import Canvas
from lmii_ros.simulation.drawings import Drawings
from lmii_ros.simulation.ground import Ground
from lmii_ros.simulation.ground_texture import ground_texture
from lmii_ros.simulation.light import Light
from lmii_ros.simulation.road import Road
from lmii_ros.simulation.sensor import Sensor
from lmii_ros.simulation.shapes import draw_shapes
from lmii_ros.simulation.street import Street
from lmii_ros.simulation.street import Surroundings


@dataclass
class SimulatedFrame:
    """
    One rendered frame.

    :param image: uint8 [H, W, 3] BGR.
    :param labels: uint8 [H, W], indices into :data:`lmii_ros.classes.CAMVID`.
    """

    image: np.ndarray
    labels: np.ndarray


class RoadScene:
    """
    An endless street, seen from a vehicle that drives along it.

    A frame depends on the seed, the camera, the speed and the time only. Where nothing hides the
    ground it is Road up to `road_half_width` from the road's centre, measured across the mean
    direction of the road, then Pavement beside it. `side_road` is the side on which
    roads turn off (1 left, -1 right) or None.

    :param seed: Chooses everything that differs between scenes: layout, objects, light, weather.
    :param camera: The camera; by default 640x480 pixels with a field of view of 55 degrees.
    :param speed: Speed of the vehicle in metres per second.
    """

    def __init__(
        self,
        seed: int = 0,
        camera: PinholeCamera | None = None,
        speed: float = 8.0,
    ) -> None:
        self.seed = seed % 2 ** 63
        self.camera = camera or PinholeCamera.from_fov(640, 480)
        self.speed = speed
        # The order of what follows is part of what a seed means: all draw from one generator.
        rng = np.random.default_rng([self.seed, 0])
        self._road = Road.chosen(rng)
        surroundings = Surroundings.chosen(rng)
        self._light = Light.chosen(rng)
        self._sensor = Sensor(rng, self.seed, self.camera, self._light.day.dim)
        self._sky = sky(rng, self._light.day)
        drawings = Drawings(rng, surroundings.bare)
        self._skyline = skyline(rng, drawings.leaf)
        self._ground = Ground(ground_texture(rng, self._road), self._road, self.camera)
        self._street = Street(
            self.seed, self._road, surroundings, drawings, self._light, self.camera)
        self.road_half_width = self._road.half_width
        self.side_road = self._road.side_road

    def render(self, time_s: float) -> SimulatedFrame:
        """Return the frame at a time in seconds."""
        x = self.speed * time_s
        _, heading = self._road.pose(x)
        objects = self._street.objects(x, time_s)
        canvas = Canvas(self.camera, self._light)
        draw_sky(canvas, self._sky, heading)
        self._ground.draw(canvas, x)
        self._ground.cast(canvas, x, objects.shadows)
        draw_skyline(canvas, self._skyline, heading)
        draw_shapes(canvas, self._road, x, objects.shapes)
        return SimulatedFrame(self._sensor.expose(canvas.image, time_s), canvas.labels)

    def road_points(
        self,
        time_s: float,
        ahead: object,
        offset: object,
        up: object = 0.0,
    ) -> np.ndarray:
        """
        Return points [..., 3] of the vehicle frame that lie on or above the road.

        :param time_s: The time, in seconds.
        :param ahead: How far along the road from the vehicle, in metres.
        :param offset: How far left of the road's centre, in metres.
        :param up: How far above the ground, in metres.
        """
        return self._road.points(self.speed * time_s, ahead, offset, up)

    def road_offset(self, time_s: float, points: np.ndarray) -> np.ndarray:
        """Return how far left of the road's centre points [..., 3] of the vehicle frame lie."""
        return self._road.offset(self.speed * time_s, points)
