# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The shapes of cars, vans and buses."""

from __future__ import annotations

from functools import lru_cache
import math

import numpy as np

from lmii_ros.simulation.shapes import Face

PAINTS = (
    (60, 55, 52), (150, 150, 152), (205, 208, 210), (35, 30, 130), (110, 60, 30), (30, 30, 32),
    (95, 100, 104), (60, 75, 45), (190, 165, 140))
DARK = np.array((28.0, 27.0, 26.0))
RIM = np.array((105, 105, 105))
BACK, RIGHT, FRONT, LEFT = 0, 2, 4, 6
"""The main sides of a solid among its eight; those between them are its chamfered edges."""
SIDE_LIGHT = (0.85, 0.8, 0.75, 0.85, 0.95, 0.85, 0.75, 0.8)
"""Brightness of the eight sides, which tells them apart."""


@lru_cache(512)
def car(numbers: tuple[float, ...], away: bool) -> tuple[np.ndarray, list[Face]]:
    """
    Return a car, van or bus.

    :param numbers: Ten numbers in [0, 1) that choose its shape and paint.
    :param away: Whether it drives away along +x.
    :return: Its points [N, 3] about its foot and its faces, inner ones first.
    """
    _, bumper, _, hue, brightness, kind, length, width, height, glass = numbers
    paint = np.array(PAINTS[int(hue * len(PAINTS))]) * (0.75 + 0.4 * brightness)
    van, bus = kind > 0.87, kind > 0.96
    if bus:
        long, wide, tall = 4.6, 1.24, 3.1
    elif van:
        long, wide, tall = 2.4, 0.98, 2.1
    else:
        long, wide, tall = 1.85 + 0.35 * length, 0.84 + 0.08 * width, 1.4 + 0.2 * height
    belt = tall * (0.45 if van else 0.6)
    body = _Body(long, wide)
    body.add_wheels()
    sides = body.add_solid(
        _ring(-long, long, wide, 0.22, 0.22),
        _ring(-long * 0.97, long * (0.97 if van else 0.93), wide * 0.97, belt, 0.22), paint)
    body.add_ends(sides, paint * (0.4 if bumper < 0.5 else 0.85))
    body.add_flanks(sides, paint)
    windows = body.add_solid(
        _ring(-long * 0.93, long * (0.9 if van else 0.5), wide * 0.95, belt, 0.12),
        _ring(
            -long * (0.9 if van else 0.72), long * (0.8 if van else 0.12),
            wide * (0.92 if van else 0.76), tall, 0.12), paint)
    body.add_windows(windows, glass)
    points = np.concatenate(body.points)
    return (points if away else points * (-1.0, -1.0, 1.0)), body.faces


class _Body:
    """
    The points and faces of a car, as they are added to it.

    :param long: Half its length.
    :param wide: Half its width.
    """

    def __init__(self, long: float, wide: float) -> None:
        self.long, self.wide = long, wide
        self.points: list[np.ndarray] = []
        self.faces: list[Face] = []

    def add_wheels(self) -> None:
        """Add the wheels and what is between them below the body."""
        for x in self._axles():
            self._add(_disc(0.32) + (x, 0.1 - self.wide, 0.32), DARK)
            self._add(_disc(0.32)[::-1] + (x, self.wide - 0.1, 0.32), DARK)
        self.add_solid(
            _ring(-self.long, self.long, self.wide * 0.93, 0.1, 0.22),
            _ring(-self.long, self.long, self.wide * 0.93, 0.3, 0.22), DARK)

    def add_solid(self, low: np.ndarray, high: np.ndarray, color: np.ndarray) -> list[np.ndarray]:
        """Add what is between two rings, with a top, and return its sides."""
        sides = [
            np.array([low[i], low[(i + 1) % 8], high[(i + 1) % 8], high[i]]) for i in range(8)]
        for side, light in zip(sides, SIDE_LIGHT):
            self._add(side, color * light)
        self._add(high, color * 1.2)
        return sides

    def add_ends(self, sides: list[np.ndarray], bumper: np.ndarray) -> None:
        """Add bumpers, lamps, plates and a grille."""
        for side, lamp, plate in (
                (BACK, (35, 30, 165), (60, 195, 225)),
                (FRONT, (215, 225, 230), (220, 225, 225))):
            self._add_boxes(sides[side], bumper, (0.0, 1.0, 0.05, 0.3))
            self._add_boxes(sides[side], lamp, (0.0, 0.17, 0.55, 0.85), (0.83, 1.0, 0.55, 0.85))
            self._add_boxes(sides[side], plate, (0.34, 0.66, 0.34, 0.48))
        self._add_boxes(sides[FRONT], DARK, (0.25, 0.75, 0.55, 0.75))

    def add_flanks(self, sides: list[np.ndarray], paint: np.ndarray) -> None:
        """Add doors and the outsides of the wheels."""
        for side in (RIGHT, LEFT):
            face = sides[side]
            self._add_boxes(face, paint * 0.6, (0.45, 0.46, 0.1, 0.95), (0.0, 1.0, 0.0, 0.1))
            for x in self._axles():
                disc = _disc(0.35)[::-1 if side == LEFT else 1] + (x, face[0, 1], 0.33)
                self._add(disc, DARK, is_detail=True)
                middle = disc.mean(0)
                self._add((disc - middle) * 0.55 + middle, RIM, is_detail=True)

    def add_windows(self, sides: list[np.ndarray], glass: float) -> None:
        """Add windows to all sides; `glass` is how bright those before and behind are."""
        for side in (BACK, RIGHT, FRONT, LEFT):
            color = np.array((70, 66, 62)) + 70 * glass * (side in (BACK, FRONT))
            middle = sides[side].mean(0)
            self._add(middle + (sides[side] - middle) * (0.93, 0.93, 0.8), color)

    def _axles(self) -> tuple[float, float]:
        return -self.long * 0.62, self.long * 0.62

    def _add(self, corners: np.ndarray, color: np.ndarray, is_detail: bool = False) -> None:
        start = sum(map(len, self.points))
        self.points.append(corners)
        self.faces.append(
            Face(start, start + len(corners), np.clip(color, 0, 255).tolist(), is_detail))

    def _add_boxes(self, face: np.ndarray, color: object, *boxes: tuple) -> None:
        """Add rectangles (left, right, low, high), as parts of a side, as details."""
        low, right, up = face[0], face[1] - face[0], face[3] - face[0]
        for x0, x1, y0, y1 in boxes:
            corners = [low + right * x + up * y for x, y in (
                (x0, y0), (x1, y0), (x1, y1), (x0, y1))]
            self._add(np.array(corners), np.array(color), is_detail=True)


def _ring(back: float, front: float, side: float, up: float, chamfer: float) -> np.ndarray:
    """Return the eight corners [8, 3] of a rectangle with chamfered edges at a height."""
    return np.array([
        (back, side - chamfer, up), (back, chamfer - side, up),
        (back + chamfer, -side, up), (front - chamfer, -side, up),
        (front, chamfer - side, up), (front, side - chamfer, up),
        (front - chamfer, side, up), (back + chamfer, side, up)])


def _disc(radius: float) -> np.ndarray:
    """Return the corners [10, 3] of an upright disc along the car."""
    turn = np.linspace(0.0, 2.0 * math.pi, 11)[:-1]
    return np.stack([np.cos(turn), np.zeros(10), np.sin(turn)], 1) * radius
