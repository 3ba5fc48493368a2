# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The drawings of what stands along the road: houses, trees, people, signs and fences."""

from __future__ import annotations

from dataclasses import dataclass
import math

import cv2
import numpy as np

from lmii_ros.simulation.labels import BICYCLIST
from lmii_ros.simulation.labels import BUILDING
from lmii_ros.simulation.labels import FENCE
from lmii_ros.simulation.labels import PEDESTRIAN
from lmii_ros.simulation.labels import SIGN
from lmii_ros.simulation.labels import TREE
from lmii_ros.simulation.noise import noise
from lmii_ros.simulation.noise import surface
from lmii_ros.simulation.picture import Picture
from lmii_ros.simulation.road import SLOT

FACADE_SCALE = 24
"""Pixels per metre of a drawn house front."""
WALLS = (
    (70, 88, 128), (105, 140, 165), (175, 195, 200), (95, 105, 115), (62, 72, 100),
    (135, 165, 185), (200, 205, 208), (120, 130, 140))
RED, WHITE = (40, 30, 190), (225, 228, 230)


@dataclass(frozen=True)
class House:
    """
    A house front of one slot's width.

    :param front: Its picture.
    :param height: Its height in metres.
    :param paint: Colour of its walls.
    """

    front: Picture
    height: float
    paint: np.ndarray


class Drawings:
    """
    The drawings that one scene uses again and again.

    :param rng: Chooses their shapes and colours.
    :param bare: Whether most trees have no leaves.
    """

    def __init__(self, rng: np.random.Generator, bare: bool) -> None:
        self.leaf = np.array((rng.uniform(25, 60), rng.uniform(85, 125), rng.uniform(70, 115)))
        self.tiles = np.array((62, 66, 80)) * rng.uniform(0.7, 1.2)
        self.houses = [house(rng) for _ in range(8)]
        self.trees = [tree(rng, bare and index < 3, self.leaf) for index in range(4)]
        self.people = [person(rng, cyclist=False) for _ in range(8)]
        self.cyclists = [person(rng, cyclist=True) for _ in range(4)]
        self.signs = [sign(rng, kind) for kind in (
            'round', 'round', 'triangle', 'board', 'board', 'lights', 'lights')]
        self.railing = fence(rng, 'railing')
        self.fences = [self.railing] + [
            fence(rng, kind) for kind in ('railing', 'boards', 'bricks')]
        self.fences.append(hedge(rng, self.leaf))


def house(rng: np.random.Generator) -> House:
    """Draw a house front."""
    storeys = int(rng.integers(2, 5))
    floor = rng.uniform(2.7, 3.4)
    tall = storeys * floor + rng.uniform(0.3, 0.9)
    height, width = round(tall * FACADE_SCALE), round(SLOT * FACADE_SCALE)
    wall = np.array(WALLS[rng.integers(len(WALLS))]) * rng.uniform(0.75, 1.1)
    wall = wall + rng.normal(0, 6, 3)
    color = surface(rng, height, width, wall, (2, 5, 7.0), (1, 1, 4.0), (60, 40, 6.0))
    color[::FACADE_SCALE // 8] += 5
    color *= np.linspace(1.06, 0.9, height, dtype=np.float32)[:, None, None]
    columns = int(rng.integers(3, 7))
    trim = wall * 0.5 + 100 if rng.random() < 0.7 else wall * 0.7
    ribbon, shop = rng.random() < 0.2, rng.random() < 0.45
    wide = 0.94 if ribbon else rng.uniform(0.35, 0.6)
    for storey in range(storeys):
        low = height - round((storey * floor + 0.9) * FACADE_SCALE)
        high = low - round(floor * rng.uniform(0.45, 0.55) * FACADE_SCALE)
        if storey or not shop:
            _draw_windows(rng, color, columns, wide, (low, high), trim.tolist())
    if shop:
        _draw_shops(rng, color)
    else:
        door = round(rng.uniform(0.1, 0.85) * width)
        cv2.rectangle(
            color, (door, height - 2 * FACADE_SCALE - 6), (door + FACADE_SCALE, height),
            rng.uniform(15, 120, 3).tolist(), -1)
    color[:4] = trim
    return House(Picture(BUILDING, color), tall, wall)


def _draw_windows(
    rng: np.random.Generator,
    color: np.ndarray,
    columns: int,
    wide: float,
    rows: tuple[int, int],
    trim: list[float],
) -> None:
    """Draw a storey's windows between two rows; `wide` is their share of the width."""
    low, high = rows
    width = color.shape[1]
    for column in range(columns):
        left = round((column + 0.5 - wide / 2) * width / columns)
        right = round((column + 0.5 + wide / 2) * width / columns)
        glass = np.array((62, 56, 50)) + rng.normal(0, 14) + (rng.random() < 0.15) * 70
        cv2.rectangle(color, (left - 2, high - 3), (right + 2, low + 2), trim, -1)
        cv2.rectangle(color, (left, high), (right, low), glass.tolist(), -1)
        middle = (left + right) // 2
        cv2.line(color, (middle, high), (middle, low), trim, 1)
        cv2.line(color, (left, (high + low) // 2), (right, (high + low) // 2), trim, 1)


def _draw_shops(rng: np.random.Generator, color: np.ndarray) -> None:
    """Draw two shops side by side on the ground floor."""
    height, width = color.shape[:2]
    top = height - round(2.5 * FACADE_SCALE)
    for left in range(0, width, width // 2):
        right = left + width // 2
        fascia = rng.uniform(20, 210, 3) * rng.uniform(0.4, 1.0)
        inside = surface(
            rng, height - top, right - left, rng.uniform(45, 110), (12, 8, 22.0), (3, 4, 10.0))
        color[top:, left:right] = inside + rng.normal(0, 6, (1, 1, 3))
        cv2.rectangle(
            color, (left, top - FACADE_SCALE // 2), (right - 3, top), fascia.tolist(), -1)
        for post in range(left, right, round(1.6 * FACADE_SCALE)):
            cv2.line(color, (post, top), (post, height), (fascia * 0.7).tolist(), 3)
        color[height - FACADE_SCALE // 3:, left:right] = fascia * 0.5


def tree(rng: np.random.Generator, bare: bool, leaf: np.ndarray) -> Picture:
    """Draw a tree."""
    height, width = 224, 176
    alpha = np.zeros((height, width), np.uint8)
    bark = np.array((48, 54, 62)) * rng.uniform(0.7, 1.3)

    def grow(x: float, y: float, angle: float, length: float, thick: float) -> None:
        end = (x + length * math.sin(angle), y - length * math.cos(angle))
        cv2.line(
            alpha, (round(x), round(y)), (round(end[0]), round(end[1])), 1, max(1, round(thick)))
        if length > 6:
            for turn in rng.normal((-0.5, 0.05, 0.5), 0.2):
                grow(*end, angle + turn, length * rng.uniform(0.6, 0.78), thick * 0.6)

    grow(width / 2, height, rng.normal(0, 0.03), 50 if bare else 48, 9)
    if bare:
        crown = np.zeros_like(alpha)
        cv2.ellipse(crown, (88, 96), (84, 94), 0, 0, 360, 1, -1)
        alpha[:140] &= crown[:140]
        color = surface(rng, height, width, bark, (4, 4, 10.0))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15))
    else:
        light = _draw_leaves(rng, alpha)
        color = np.where(light > 0.2, light * leaf, bark)
        kernel = np.ones((5, 5), np.uint8)
    return Picture(TREE, color, alpha, cv2.morphologyEx(alpha, cv2.MORPH_CLOSE, kernel))


def _draw_leaves(rng: np.random.Generator, alpha: np.ndarray) -> np.ndarray:
    """Cover the branches in `alpha` with leaves and return the light [H, W, 1] on them."""
    height, width = alpha.shape
    light = np.zeros((height, width), np.float32)
    for _ in range(70):
        angle, reach = rng.uniform(0, 2 * math.pi), math.sqrt(rng.random())
        x = width / 2 + 66 * reach * math.cos(angle)
        y = 86 + 66 * reach * math.sin(angle)
        center, radius = (round(x), round(y)), round(rng.uniform(8, 20))
        cv2.circle(alpha, center, radius, 1, -1)
        cv2.circle(light, center, radius, float(1.1 - y / 190 + rng.normal(0, 0.12)), -1)
    ragged = noise(rng, height, width, 3, 3)
    alpha[:150][ragged[:150] > 1.3] = 0
    return cv2.blur(light, (5, 5))[..., None] * (1 + 0.22 * ragged[..., None])


def person(rng: np.random.Generator, cyclist: bool) -> Picture:
    """Draw someone on foot, or on a bicycle seen along the road."""
    color, alpha = np.zeros((176, 88, 3), np.float32), np.zeros((176, 88), np.uint8)
    coat, legs, skin = rng.uniform(15, 150, 3), rng.uniform(20, 90, 3), np.array((115, 140, 190))
    coat, legs = 0.55 * coat + 0.45 * coat.mean(), 0.6 * legs + 0.4 * legs.mean()
    coat = coat * (0.35 if rng.random() < 0.5 else 1.0)
    if cyclist and rng.random() < 0.3:
        coat = np.array((60, 215, 200))
    skin = skin * rng.uniform(0.4, 1.0)

    def limb(start: tuple, end: tuple, thick: int, paint: np.ndarray) -> None:
        cv2.line(color, start, end, paint.tolist(), thick)
        cv2.line(alpha, start, end, 1, thick)

    stride = int(rng.integers(3, 16))
    foot = 150 if cyclist else 170
    if cyclist:
        limb((44, 112), (44, 173), 6, np.array((25, 25, 25)))
        limb((27, 98), (61, 98), 4, np.array((60, 60, 60)))
        stride = 9
    limb((39, 95), (43 - stride, foot - 6), 13, legs)
    limb((49, 95), (45 + stride, foot), 13, legs * 0.85)
    limb((44, 46), (44, 90), 30, coat)
    limb((30, 42), (24 - stride // 3, 92), 9, coat * 0.85)
    limb((58, 42), (64 + stride // 3, 92), 9, coat * 0.8)
    limb((44, 20), (44, 30), 10, skin * 0.8)
    cv2.ellipse(color, (44, 17), (10, 13), 0, 0, 360, skin.tolist(), -1)
    cv2.ellipse(alpha, (44, 17), (10, 13), 0, 0, 360, 1, -1)
    cv2.ellipse(color, (44, 12), (11, 10), 0, 180, 360, rng.uniform(20, 90, 3).tolist(), -1)
    color *= np.linspace(1.1, 0.8, 88, dtype=np.float32)[None, :, None]
    color += noise(rng, 176, 88, 5, 4)[..., None] * 7
    return Picture(BICYCLIST if cyclist else PEDESTRIAN, color, alpha)


def sign(rng: np.random.Generator, kind: str) -> Picture:
    """Draw a sign, 'round', 'triangle' or 'board', or the 'lights' of a crossing."""
    color, alpha = np.zeros((64, 64, 3), np.float32), np.zeros((64, 64), np.uint8)
    if kind == 'round':
        cv2.circle(alpha, (32, 32), 31, 1, -1)
        color[:] = RED
        cv2.circle(color, (32, 32), 23, WHITE if rng.random() < 0.6 else (160, 70, 20), -1)
        cv2.rectangle(color, (22, 26), (42, 38), (40, 40, 40), 3)
    elif kind == 'triangle':
        cv2.fillPoly(alpha, [np.array([(32, 2), (62, 60), (2, 60)])], 1)
        color[:] = RED
        cv2.fillPoly(color, [np.array([(32, 18), (51, 54), (13, 54)])], WHITE)
        cv2.line(color, (32, 28), (32, 48), (30, 30, 30), 5)
    elif kind == 'board':
        alpha[:] = 1
        color[:] = ((150, 75, 20), (70, 105, 20), (215, 220, 220), (20, 190, 225))[
            rng.integers(4)]
        cv2.rectangle(color, (3, 3), (60, 60), WHITE, 2)
        for row in range(14, 54, 12):
            cv2.line(color, (10, row), (int(rng.integers(30, 56)), row),
                     (245, 245, 245) if color[5, 30].sum() < 400 else (40, 40, 40), 4)
    else:
        alpha[:, 12:52] = 1
        color[:] = 28
        lit = int(rng.integers(0, 2)) * 2
        for lamp, paint in enumerate(((50, 40, 235), (20, 160, 240), (120, 220, 60))):
            shown = paint if lamp == lit else (45, 42, 40)
            cv2.circle(color, (32, 11 + 21 * lamp), 9, shown, -1)
    return Picture(SIGN, color, alpha)


def fence(rng: np.random.Generator, kind: str) -> Picture:
    """Draw one slot of 'railing', 'boards', or a wall of 'bricks', a Building in CamVid."""
    height, width = 48, 480
    paint = np.array((rng.uniform(25, 70), rng.uniform(30, 75), rng.uniform(30, 80)))
    if kind == 'railing':
        alpha = np.zeros((height, width), np.uint8)
        alpha[:, ::6] = alpha[:, 1::6] = 1
        alpha[2:5] = alpha[40:43] = 1
        alpha[:, :4] = alpha[:, 238:242] = 1
        paint = paint if rng.random() < 0.5 else paint * 0.5 + 110
        color = surface(rng, height, width, paint, (2, 2, 6.0))
        return Picture(FENCE, color, alpha, np.ones_like(alpha))
    if kind == 'boards':
        paint = np.array((85, 110, 135)) * rng.uniform(0.6, 1.2)
        color = surface(rng, height, width, paint, (48, 6, 11.0), (1, 1, 5.0))
        color[:, ::8] *= 0.6
        color[:, ::80] *= 0.6
    else:
        paint = np.array((66, 82, 118)) * (0.6 + paint[0] / 90)
        color = surface(rng, height, width, paint, (3, 6, 11.0), (1, 1, 5.0))
    color[:4] *= 1.3
    return Picture(FENCE if kind == 'boards' else BUILDING, color)


def hedge(rng: np.random.Generator, leaf: np.ndarray) -> Picture:
    """Draw one slot of hedge."""
    light = 0.6 + 0.13 * noise(rng, 64, 480, 3, 3) + 0.1 * noise(rng, 64, 480, 12, 16)
    light *= np.linspace(1.15, 0.6, 64, dtype=np.float32)[:, None]
    alpha = np.ones((64, 480), np.uint8)
    alpha[:6][noise(rng, 6, 480, 3, 5) > 0.1] = 0
    return Picture(TREE, light[..., None] * leaf, alpha)
