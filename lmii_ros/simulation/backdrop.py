# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The backdrop: the sky, and the skyline at the end of the road."""

from __future__ import annotations

import math

import numpy as np

from lmii_ros.simulation.canvas import Canvas
from lmii_ros.simulation.labels import BUILDING
from lmii_ros.simulation.labels import SKY
from lmii_ros.simulation.labels import TREE
from lmii_ros.simulation.light import Day
from lmii_ros.simulation.noise import noise
from lmii_ros.simulation.noise import surface
from lmii_ros.simulation.picture import Picture


def sky(rng: np.random.Generator, day: Day) -> Picture:
    """Draw a day's sky."""
    height, width = 192, 768
    clouds = noise(rng, height, width, 24, 70) + 0.5 * noise(rng, height, width, 9, 25)
    clouds += 0.25 * noise(rng, height, width, 3, 8)
    down = np.linspace(0.0, 1.0, height)[:, None, None] ** 1.5
    color = np.array(day.zenith) * (1.0 - down) + np.array(day.horizon) * down
    patch = np.clip(clouds - rng.uniform(-0.8, 0.8), 0.0, 1.2)[..., None]
    return Picture(SKY, color + patch * day.clouds)


def skyline(rng: np.random.Generator, leaf: np.ndarray) -> Picture:
    """Draw a row of trees or of houses."""
    height, width, house = 64, 2048, 40
    label = TREE if rng.random() < 0.5 else BUILDING
    if label == TREE:
        top = 26 + 8 * noise(rng, 1, width, 1, 40) + 3 * noise(rng, 1, width, 1, 7)
        color = surface(rng, height, width, leaf * 0.45, (4, 4, 7.0))
    else:
        top = np.repeat(rng.uniform(8, 44, (1, width // house + 1)), house, 1)[:, :width]
        color = surface(rng, height, width, (95, 105, 120), (5, 5, 8.0), (height, house, 16.0))
    alpha = (np.arange(height)[:, None] > top).astype(np.uint8)
    return Picture(label, color, alpha)


def draw_sky(canvas: Canvas, picture: Picture, heading: float) -> None:
    """Draw the sky for a vehicle's heading."""
    _draw_far(canvas, picture, heading, 900.0, (3000.0, -60.0, 1500.0), mist=0.0)


def draw_skyline(canvas: Canvas, picture: Picture, heading: float) -> None:
    """Draw the skyline for a vehicle's heading."""
    _draw_far(canvas, picture, heading, 140.0, (400.0, 0.0, 11.0), canvas.light.mist(140.0))


def _draw_far(
    canvas: Canvas,
    picture: Picture,
    heading: float,
    distance: float,
    extent: tuple[float, float, float],
    mist: float,
) -> None:
    """Draw a picture so far away that only the heading moves it; extent is side, low, high."""
    side, low, high = extent
    middle = -distance * math.tan(heading)
    corners = np.array([
        (distance, middle + side, low), (distance, middle - side, low),
        (distance, middle - side, high), (distance, middle + side, high)])
    canvas.draw_picture(picture, canvas.see(corners), None, 1.0, mist)
