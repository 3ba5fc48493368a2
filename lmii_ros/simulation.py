# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""
Synthetic road scenes with exact labels and camera geometry.

Frames follow REP 103 and REP 105, lengths are metres, angles radians. The vehicle frame has x
forward, y left, z up and its origin on the ground below the camera. Road coordinates are s, the
way along the road, and d, the offset to the left of the road's centre. As in CamVid, the gaps of
railings and bare crowns carry the label of the fence or tree, and grass counts as Tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from functools import lru_cache
import math
from typing import Iterator

import cv2
import numpy as np

from lmii_ros.classes import CAMVID

(SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST) = range(
    len(CAMVID))

FAR = 120.0
"""Nothing stands on the ground beyond this distance but the skyline."""
NEAR = 0.3
"""Depth before the camera at which shapes are cut off."""
PERIOD = 72.0
"""The ground repeats after this way along the road; what stands on it never does."""
SLOT = 12.0
"""Length of road that one house or fence takes; a whole fraction of the period."""
TEXEL = 0.03
"""Size of one element of the drawn ground."""
VERGE = 14.0
"""Offset from the road's centre up to which the ground is drawn."""

(ZONE, HOUSE, FURNITURE, PARKED, WALKER, RIDER, ONCOMING, LEADER) = range(8)


@dataclass(frozen=True)
class PinholeCamera:
    """
    A camera without distortion that looks forward, over flat ground.

    :param width: Image width in pixels.
    :param height: Image height in pixels.
    :param fx: Focal length in pixels, horizontally.
    :param fy: Focal length in pixels, vertically.
    :param cx: Column of the principal point; whole numbers are pixel centres.
    :param cy: Row of the principal point.
    :param mount_height: Height of the camera above the ground, in metres.
    :param pitch: Rotation of the optical axis below the horizontal, in radians.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    mount_height: float = 1.3
    pitch: float = 0.05

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1 or min(self.fx, self.fy, self.mount_height) <= 0:
            raise ValueError(f'not a camera: sizes, focal lengths and height must be > 0: {self}')
        if not -1.5 < self.pitch < 1.5:
            raise ValueError(f'camera pitch is {self.pitch} rad, expected -1.5 to 1.5')

    @classmethod
    def from_fov(cls, width: int, height: int, horizontal_fov_deg: float = 55.0,
                 mount_height: float = 1.3, pitch: float = 0.05) -> PinholeCamera:
        """Build a camera with square pixels from its horizontal field of view in degrees."""
        focal = width / (2.0 * math.tan(math.radians(horizontal_fov_deg) / 2.0))
        return cls(width, height, focal, focal, (width - 1) / 2.0, (height - 1) / 2.0,
                   mount_height, pitch)

    def matrix(self) -> np.ndarray:
        """Return the 3x3 intrinsic matrix K."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def rotation(self) -> np.ndarray:
        """Return the 3x3 rotation from the vehicle to the optical frame (x right, y down)."""
        c, s = math.cos(self.pitch), math.sin(self.pitch)
        return np.array([[0.0, -1.0, 0.0], [-s, 0.0, -c], [c, 0.0, -s]])

    @property
    def horizon_row(self) -> float:
        """Row at which flat ground would vanish; may lie outside the image."""
        return self.cy - self.fy * math.tan(self.pitch)

    def optical(self, points: np.ndarray) -> np.ndarray:
        """Return points [..., 3] of the vehicle frame in the optical frame."""
        return (np.asarray(points, np.float64) - (0.0, 0.0, self.mount_height)) @ self.rotation().T

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return pixels (column, row) of points [..., 3]; NaN for points behind the camera."""
        optical = self.optical(points)
        depth = np.where(optical[..., 2:] > 0.0, optical[..., 2:], np.nan)
        return optical[..., :2] / depth * (self.fx, self.fy) + (self.cx, self.cy)

    def ground(self, pixels: np.ndarray) -> np.ndarray:
        """Return the ground points [..., 3] at pixels (column, row); NaN above the horizon."""
        pixels = np.asarray(pixels, np.float64)
        ray = np.ones(pixels.shape[:-1] + (3,))
        ray[..., :2] = (pixels - (self.cx, self.cy)) / (self.fx, self.fy)
        ray = ray @ self.rotation()
        down = np.where(ray[..., 2:] < -1e-12, -ray[..., 2:], np.nan)
        points = ray * (self.mount_height / down)
        points[..., 2] *= 0.0
        return points


@dataclass
class SimulatedFrame:
    """
    One rendered frame.

    :param image: uint8 [H, W, 3] BGR.
    :param labels: uint8 [H, W], indices into :data:`lmii_ros.classes.CAMVID`.
    """

    image: np.ndarray
    labels: np.ndarray


@dataclass
class _Picture:
    """A flat drawing; `alpha` is what hides the background, `cover` what carries the label."""

    label: int
    color: np.ndarray
    alpha: np.ndarray | None = None
    cover: np.ndarray | None = None
    levels: list[tuple] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts = (np.clip(self.color, 0, 255).astype(np.uint8), self.alpha, self.cover)
        for _ in range(5):
            self.levels.append(parts)
            height, width = parts[0].shape[:2]
            size = (max(1, width // 2), max(1, height // 2))
            parts = tuple(
                None if part is None else cv2.resize(part, size, interpolation=cv2.INTER_AREA)
                for part in parts)


def _noise(rng: np.random.Generator, height: int, width: int, tall: int, wide: int) -> np.ndarray:
    """Return float32 noise of deviation about 1 with blots of tall x wide, seamless downwards."""
    grid = rng.standard_normal((max(1, height // tall), width // wide + 2), np.float32)
    if tall == wide == 1:
        return grid[:, :width]
    grid = np.concatenate([grid[-1:], grid, grid[:1]])
    step = height / (len(grid) - 2)
    big = cv2.resize(grid, (width, round(step * len(grid))), interpolation=cv2.INTER_LINEAR)
    return big[round(step):][:height] * 1.3


def _shade(rng: np.random.Generator, height: int, width: int, color: object,
           *layers: tuple[int, int, float]) -> np.ndarray:
    """Return a float32 surface of one colour with layers of noise (tall, wide, strength)."""
    light = sum(_noise(rng, height, width, tall, wide) * strength
                for tall, wide, strength in layers)
    return light[..., None] + np.asarray(color, np.float32)


def _facade(rng: np.random.Generator, scale: int = 24) -> tuple[_Picture, float, np.ndarray]:
    """Return the picture of a house front of one slot's width, its height and wall colour."""
    storeys = int(rng.integers(2, 5))
    floor = rng.uniform(2.7, 3.4)
    tall = storeys * floor + rng.uniform(0.3, 0.9)
    height, width = round(tall * scale), round(SLOT * scale)
    walls = ((70, 88, 128), (105, 140, 165), (175, 195, 200), (95, 105, 115), (62, 72, 100),
             (135, 165, 185), (200, 205, 208), (120, 130, 140))
    wall = np.array(walls[rng.integers(len(walls))]) * rng.uniform(0.75, 1.1)
    wall = wall + rng.normal(0, 6, 3)
    color = _shade(rng, height, width, wall, (2, 5, 7.0), (1, 1, 4.0), (60, 40, 6.0))
    color[::max(2, scale // 8)] += 5
    color *= np.linspace(1.06, 0.9, height, dtype=np.float32)[:, None, None]
    columns = int(rng.integers(3, 7))
    trim = wall * 0.5 + 100 if rng.random() < 0.7 else wall * 0.7
    ribbon, shop = rng.random() < 0.2, rng.random() < 0.45
    wide = rng.uniform(0.35, 0.6) if not ribbon else 0.94
    for storey in range(storeys):
        low = height - round((storey * floor + 0.9) * scale)
        high = low - round(floor * rng.uniform(0.45, 0.55) * scale)
        for column in range(columns):
            if storey == 0 and shop:
                continue
            left = round((column + 0.5 - wide / 2) * width / columns)
            right = round((column + 0.5 + wide / 2) * width / columns)
            glass = np.array((62, 56, 50)) + rng.normal(0, 14) + (rng.random() < 0.15) * 70
            cv2.rectangle(color, (left - 2, high - 3), (right + 2, low + 2), trim.tolist(), -1)
            cv2.rectangle(color, (left, high), (right, low), glass.tolist(), -1)
            middle = (left + right) // 2
            cv2.line(color, (middle, high), (middle, low), trim.tolist(), 1)
            cv2.line(color, (left, (high + low) // 2), (right, (high + low) // 2),
                     trim.tolist(), 1)
    if shop:
        top = height - round(2.5 * scale)
        for left in range(0, width, width // 2):
            right = left + width // 2
            fascia = rng.uniform(20, 210, 3) * rng.uniform(0.4, 1.0)
            inside = _shade(rng, height - top, right - left, rng.uniform(45, 110),
                            (12, 8, 22.0), (3, 4, 10.0))
            color[top:, left:right] = inside + rng.normal(0, 6, (1, 1, 3))
            cv2.rectangle(color, (left, top - scale // 2), (right - 3, top), fascia.tolist(), -1)
            for post in range(left, right, round(1.6 * scale)):
                cv2.line(color, (post, top), (post, height), (fascia * 0.7).tolist(), 3)
            color[height - scale // 3:, left:right] = fascia * 0.5
    else:
        door = round(rng.uniform(0.1, 0.85) * width)
        cv2.rectangle(color, (door, height - 2 * scale - 6), (door + scale, height),
                      (rng.uniform(15, 120, 3)).tolist(), -1)
    color[:4] = trim
    return _Picture(BUILDING, color), tall, wall


def _tree(rng: np.random.Generator, bare: bool, leaf: np.ndarray) -> _Picture:
    """Return the picture of a tree."""
    height, width = 224, 176
    alpha = np.zeros((height, width), np.uint8)
    bark = np.array((48, 54, 62)) * rng.uniform(0.7, 1.3)

    def grow(x: float, y: float, angle: float, length: float, thick: float) -> None:
        end = (x + length * math.sin(angle), y - length * math.cos(angle))
        cv2.line(alpha, (round(x), round(y)), (round(end[0]), round(end[1])), 1,
                 max(1, round(thick)))
        if length > 6:
            for turn in rng.normal((-0.5, 0.05, 0.5), 0.2):
                grow(*end, angle + turn, length * rng.uniform(0.6, 0.78),
                     thick * 0.6)

    grow(width / 2, height, rng.normal(0, 0.03), 50 if bare else 48, 9)
    if bare:
        crown = np.zeros_like(alpha)
        cv2.ellipse(crown, (88, 96), (84, 94), 0, 0, 360, 1, -1)
        alpha[:140] &= crown[:140]
        color = _shade(rng, height, width, bark, (4, 4, 10.0))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15))
        return _Picture(TREE, color, alpha, cv2.morphologyEx(alpha, cv2.MORPH_CLOSE, kernel))
    light = np.zeros((height, width), np.float32)
    for _ in range(70):
        angle, reach = rng.uniform(0, 2 * math.pi), math.sqrt(rng.random())
        x = width / 2 + 66 * reach * math.cos(angle)
        y = 86 + 66 * reach * math.sin(angle)
        center, radius = (round(x), round(y)), round(rng.uniform(8, 20))
        cv2.circle(alpha, center, radius, 1, -1)
        cv2.circle(light, center, radius, float(1.1 - y / 190 + rng.normal(0, 0.12)), -1)
    ragged = _noise(rng, height, width, 3, 3)
    alpha[:150][ragged[:150] > 1.3] = 0
    light = cv2.blur(light, (5, 5))[..., None] * (1 + 0.22 * ragged[..., None])
    color = np.where(light > 0.2, light * leaf, bark)
    kernel = np.ones((5, 5), np.uint8)
    return _Picture(TREE, color, alpha, cv2.morphologyEx(alpha, cv2.MORPH_CLOSE, kernel))


def _person(rng: np.random.Generator, cyclist: bool) -> _Picture:
    """Return the picture of someone on foot, or on a bicycle seen along the road."""
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
    color += _noise(rng, 176, 88, 5, 4)[..., None] * 7
    return _Picture(BICYCLIST if cyclist else PEDESTRIAN, color, alpha)


def _sign(rng: np.random.Generator, kind: int) -> _Picture:
    """Return the picture of a round, triangular or rectangular sign, or of a traffic light."""
    color, alpha = np.zeros((64, 64, 3), np.float32), np.zeros((64, 64), np.uint8)
    red, white = (40, 30, 190), (225, 228, 230)
    if kind == 0:
        cv2.circle(alpha, (32, 32), 31, 1, -1)
        color[:] = red
        cv2.circle(color, (32, 32), 23, white if rng.random() < 0.6 else (160, 70, 20), -1)
        cv2.rectangle(color, (22, 26), (42, 38), (40, 40, 40), 3)
    elif kind == 1:
        cv2.fillPoly(alpha, [np.array([(32, 2), (62, 60), (2, 60)])], 1)
        color[:] = red
        cv2.fillPoly(color, [np.array([(32, 18), (51, 54), (13, 54)])], white)
        cv2.line(color, (32, 28), (32, 48), (30, 30, 30), 5)
    elif kind == 2:
        alpha[:] = 1
        color[:] = ((150, 75, 20), (70, 105, 20), (215, 220, 220), (20, 190, 225))[
            rng.integers(4)]
        cv2.rectangle(color, (3, 3), (60, 60), white, 2)
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
    return _Picture(SIGN, color, alpha)


def _fence(rng: np.random.Generator, kind: int) -> _Picture:
    """Return the picture of one slot of railing, boards, or (a Building in CamVid) brick wall."""
    height, width = 48, 480
    paint = np.array((rng.uniform(25, 70), rng.uniform(30, 75), rng.uniform(30, 80)))
    if kind == 0:
        alpha = np.zeros((height, width), np.uint8)
        alpha[:, ::6] = alpha[:, 1::6] = 1
        alpha[2:5] = alpha[40:43] = 1
        alpha[:, :4] = alpha[:, 238:242] = 1
        paint = paint if rng.random() < 0.5 else paint * 0.5 + 110
        color = _shade(rng, height, width, paint, (2, 2, 6.0))
        return _Picture(FENCE, color, alpha, np.ones_like(alpha))
    if kind == 1:
        paint = np.array((85, 110, 135)) * rng.uniform(0.6, 1.2)
    else:
        paint = np.array((66, 82, 118)) * (0.6 + paint[0] / 90)
    color = _shade(rng, height, width, paint, (48 if kind == 1 else 3, 6, 11.0), (1, 1, 5.0))
    if kind == 1:
        color[:, ::8] *= 0.6
        color[:, ::80] *= 0.6
    color[:4] *= 1.3
    return _Picture(FENCE if kind == 1 else BUILDING, color)


def _hedge(rng: np.random.Generator, leaf: np.ndarray) -> _Picture:
    """Return the picture of one slot of hedge."""
    light = 0.6 + 0.13 * _noise(rng, 64, 480, 3, 3) + 0.1 * _noise(rng, 64, 480, 12, 16)
    light *= np.linspace(1.15, 0.6, 64, dtype=np.float32)[:, None]
    alpha = np.ones((64, 480), np.uint8)
    alpha[:6][_noise(rng, 6, 480, 3, 5) > 0.1] = 0
    return _Picture(TREE, light[..., None] * leaf, alpha)


def _skyline(rng: np.random.Generator, leaf: np.ndarray, label: int) -> _Picture:
    """Return the picture of what stands at the end of the view: a row of trees or of houses."""
    height, width = 64, 2048
    if label == TREE:
        top = 26 + 8 * _noise(rng, 1, width, 1, 40) + 3 * _noise(rng, 1, width, 1, 7)
        color = _shade(rng, height, width, leaf * 0.45, (4, 4, 7.0))
    else:
        count = width // 40
        top = np.repeat(rng.uniform(8, 44, (1, count + 1)), 40, 1)[:, :width]
        color = _shade(rng, height, width, (95, 105, 120), (5, 5, 8.0), (64, 40, 16.0))
    alpha = (np.arange(height)[:, None] > top).astype(np.uint8)
    return _Picture(label, color, alpha)


@lru_cache(8192)
def _numbers(seed: int, kind: int, side: int, index: int) -> tuple[float, ...]:
    """Return ten numbers in [0, 1) that belong to one place of one kind of object, always."""
    entropy = [seed, 2 + kind, side + 1, index % 2 ** 63]
    return tuple(np.random.default_rng(entropy).random(10).tolist())


@lru_cache(512)
def _car(numbers: tuple[float, ...], away: bool) -> tuple[np.ndarray, list[tuple]]:
    """
    Return a car, van or bus as points [N, 3] about its foot and its faces, inner ones first.

    :param numbers: Ten numbers in [0, 1) that choose its shape and paint.
    :param away: Whether it drives away along +x.
    :return: The points, and per face its first and last point, colour, and whether it is a detail.
    """
    u = numbers
    paints = ((60, 55, 52), (150, 150, 152), (205, 208, 210), (35, 30, 130), (110, 60, 30),
              (30, 30, 32), (95, 100, 104), (60, 75, 45), (190, 165, 140))
    paint = np.array(paints[int(u[3] * len(paints))]) * (0.75 + 0.4 * u[4])
    dark, chamfer = np.array((28.0, 27.0, 26.0)), 0.22
    van, bus = u[5] > 0.87, u[5] > 0.96
    long, wide, tall = (4.6, 1.24, 3.1) if bus else (2.4, 0.98, 2.1) if van else (
        1.85 + 0.35 * u[6], 0.84 + 0.08 * u[7], 1.4 + 0.2 * u[8])
    belt = tall * (0.45 if van else 0.6)
    points: list[np.ndarray] = []
    faces: list[tuple] = []

    def put(corners: np.ndarray, color: np.ndarray, detail: bool = False) -> None:
        start = sum(map(len, points))
        points.append(corners)
        faces.append((start, start + len(corners), np.clip(color, 0, 255).tolist(), detail))

    def ring(back: float, front: float, side: float, up: float) -> np.ndarray:
        c = chamfer
        return np.array([(back, side - c, up), (back, c - side, up), (back + c, -side, up),
                         (front - c, -side, up), (front, c - side, up), (front, side - c, up),
                         (front - c, side, up), (back + c, side, up)])

    def solid(low: np.ndarray, high: np.ndarray, color: np.ndarray) -> list[np.ndarray]:
        sides = [np.array([low[i], low[(i + 1) % 8], high[(i + 1) % 8], high[i]])
                 for i in range(8)]
        for side, light in zip(sides, (0.85, 0.8, 0.75, 0.85, 0.95, 0.85, 0.75, 0.8)):
            put(side, color * light)
        put(high, color * 1.2)
        return sides

    def patch(face: np.ndarray, color: object, *boxes: tuple) -> None:
        low, right, high = face[0], face[1] - face[0], face[3] - face[0]
        for x0, x1, y0, y1 in boxes:
            put(np.array([low + right * x + high * y for x, y in (
                (x0, y0), (x1, y0), (x1, y1), (x0, y1))]), np.array(color), True)

    turn = np.linspace(0.0, 2.0 * math.pi, 11)[:-1]
    round_ = np.stack([np.cos(turn), np.zeros(10), np.sin(turn)], 1) * 0.32
    for x in (-long * 0.62, long * 0.62):
        put(round_ + (x, 0.1 - wide, 0.32), dark)
        put(round_[::-1] + (x, wide - 0.1, 0.32), dark)
    solid(ring(-long, long, wide * 0.93, 0.1), ring(-long, long, wide * 0.93, 0.3), dark)
    sides = solid(ring(-long, long, wide, 0.22),
                  ring(-long * 0.97, long * (0.97 if van else 0.93), wide * 0.97, belt), paint)
    bumper = paint * (0.4 if u[1] < 0.5 else 0.85)
    for face, lamp, plate in ((sides[0], (35, 30, 165), (60, 195, 225)),
                              (sides[4], (215, 225, 230), (220, 225, 225))):
        patch(face, bumper, (0.0, 1.0, 0.05, 0.3))
        patch(face, lamp, (0.0, 0.17, 0.55, 0.85), (0.83, 1.0, 0.55, 0.85))
        patch(face, plate, (0.34, 0.66, 0.34, 0.48))
    patch(sides[4], dark, (0.25, 0.75, 0.55, 0.75))
    for face in (sides[2], sides[6]):
        patch(face, paint * 0.6, (0.45, 0.46, 0.1, 0.95), (0.0, 1.0, 0.0, 0.1))
        for x in (-long * 0.62, long * 0.62):
            along = np.stack([np.cos(turn), np.zeros(10), np.sin(turn)], 1) * 0.35
            disc = along[::-1 if face is sides[6] else 1] + (x, face[0, 1], 0.33)
            put(disc, dark, True)
            put((disc - disc.mean(0)) * 0.55 + disc.mean(0), np.array((105, 105, 105)), True)
    chamfer = 0.12
    back, front = long * 0.93, long * (0.9 if van else 0.5)
    windows = solid(ring(-back, front, wide * 0.95, belt), ring(
        -long * (0.9 if van else 0.72), long * (0.8 if van else 0.12),
        wide * (0.92 if van else 0.76), tall), paint)
    for index in (0, 2, 4, 6):
        glass = np.array((70, 66, 62)) + 70 * u[9] * (index in (0, 4))
        middle = windows[index].mean(0)
        put(middle + (windows[index] - middle) * (0.93, 0.93, 0.8), glass)
    body = np.concatenate(points)
    return (body if away else body * (-1.0, -1.0, 1.0)), faces


@dataclass
class _Thing:
    """
    Something that stands on the ground.

    :param distance: How far it is along the road; what is near hides what is far.
    :param points: Its points [N, 3] in road coordinates: way ahead, offset to the left, up.
    :param label: Its class.
    :param picture: What is drawn on its four points (low left, low right, high right, high left).
    :param shade: Brightness of the picture.
    :param faces: Else its faces: first and last point, colour, and whether only seen when near.
    :param culled: Whether faces that look away are left out.
    :param sway: How far left its points are moved across the view, however the road bends.
    """

    distance: float
    points: np.ndarray
    label: int
    picture: _Picture | None = None
    shade: float = 1.0
    faces: list[tuple] = field(default_factory=list)
    culled: bool = False
    sway: np.ndarray | None = None


class _Canvas:
    """What is drawn on: an image and its labels, under one camera, with haze in the distance."""

    def __init__(self, camera: PinholeCamera, haze: float, fog: float) -> None:
        self.camera, self.haze, self.fog = camera, haze, fog
        self.image = np.empty((camera.height, camera.width, 3), np.uint8)
        self.labels = np.full((camera.height, camera.width), SKY, np.uint8)
        self.lens = camera.matrix() @ camera.rotation()

    def see(self, points: np.ndarray) -> np.ndarray:
        """Return points [..., 3] of the vehicle frame as homogeneous pixels, scaled by depth."""
        return (points - (0.0, 0.0, self.camera.mount_height)) @ self.lens.T

    def outline(self, seen: np.ndarray) -> np.ndarray | None:
        """Return the pixels [N, 2] of a polygon's part before the camera, or None."""
        ahead = seen[:, 2] >= NEAR
        if not ahead.any():
            return None
        kept = []
        for index, point in enumerate(seen):
            before = seen[index - 1]
            if ahead[index] != ahead[index - 1]:
                part = (NEAR - before[2]) / (point[2] - before[2])
                kept.append(before + part * (point - before))
            if ahead[index]:
                kept.append(point)
        return self.pixels(np.array(kept))

    def pixels(self, seen: np.ndarray) -> np.ndarray:
        """Return whole pixels [N, 2], within what OpenCV can draw."""
        flat = seen[:, :2] / np.maximum(seen[:, 2:], NEAR)
        return np.rint(flat.clip(-2e4, 2e4)).astype(np.int32)

    def mist(self, distance: float) -> float:
        """Return which part of the light from a distance is haze."""
        return 1.0 - math.exp(-max(0.0, distance) * self.fog)

    def visible(self, seen: np.ndarray, counts: list[int]) -> list[tuple[int, np.ndarray | None]]:
        """
        Return which shapes may be seen, given all their points in a row.

        :return: Their indices, with the pixels of those wholly before the camera, else None.
        """
        stops = np.cumsum(counts)
        starts = stops - counts
        pixels = self.pixels(seen)
        low, high = np.minimum.reduceat(pixels, starts), np.maximum.reduceat(pixels, starts)
        nearest = np.minimum.reduceat(seen[:, 2], starts)
        furthest = np.maximum.reduceat(seen[:, 2], starts)
        inside = ((high >= 0) & (low < (self.camera.width, self.camera.height))).all(1)
        inside &= (high - low).max(1) > 1
        chosen = np.flatnonzero((furthest >= NEAR) & (inside | (nearest < NEAR)))
        return [(index, pixels[starts[index]:stops[index]] if nearest[index] >= NEAR else None)
                for index in chosen.tolist()]

    def draw(self, thing: _Thing, seen: np.ndarray, pixels: np.ndarray | None) -> None:
        """Draw a thing, seen at homogeneous pixels [N, 3]."""
        mist = self.mist(thing.distance)
        if thing.picture is not None:
            if pixels is None:
                pixels = self.outline(seen)
            if pixels is not None:
                self.stand(thing.picture, seen, pixels, thing.shade, mist)
            return
        for start, stop, color, detail in thing.faces:
            if detail and thing.distance > 35.0:
                continue
            face = self.outline(seen[start:stop]) if pixels is None else pixels[start:stop]
            if face is None or (thing.culled and cv2.contourArea(face, True) >= 0.0):
                continue
            cv2.fillPoly(self.image, [face], [
                value * (1.0 - mist) + self.haze * mist for value in color])
            cv2.fillPoly(self.labels, [face], thing.label)

    def stand(self, picture: _Picture, seen: np.ndarray, pixels: np.ndarray, shade: float,
              mist: float) -> None:
        """Draw a picture on a parallelogram with the given outline."""
        left, top, wide, tall = cv2.boundingRect(pixels)
        right, bottom = min(left + wide, self.camera.width), min(top + tall, self.camera.height)
        spread = picture.color.shape[0] / tall
        left, top = max(left, 0), max(top, 0)
        size = (right - left, bottom - top)
        if min(size) < 1:
            return
        level = min(max(int(math.log2(spread) + 0.5), 0), 4) if spread > 1.0 else 0
        color, alpha, cover = picture.levels[level]
        height, width = color.shape[:2]
        warp = np.empty((3, 3))
        warp[:, 0] = (seen[1] - seen[0]) / width
        warp[:, 1] = (seen[0] - seen[3]) / height
        warp[:, 2] = seen[3] + 0.5 * (warp[:, 0] + warp[:, 1])
        warp[:2] -= np.array([[left], [top]]) * warp[2]
        drawn = cv2.warpPerspective(color, warp, size, borderMode=cv2.BORDER_REPLICATE)
        if mist > 0.01 or shade != 1.0:
            drawn = cv2.convertScaleAbs(drawn, alpha=(1.0 - mist) * shade, beta=mist * self.haze)
        shape = cv2.fillPoly(np.zeros(size[::-1], np.uint8), [pixels - (left, top)], 1)
        mask = covered = shape
        if alpha is not None:
            mask = covered = shape & cv2.warpPerspective(alpha, warp, size)
        if cover is not None:
            covered = shape & cv2.warpPerspective(cover, warp, size)
        area = (slice(top, bottom), slice(left, right))
        cv2.copyTo(drawn, mask, self.image[area])
        np.copyto(self.labels[area], picture.label, where=covered.view(bool))


class RoadScene:
    """
    An endless street, seen from a vehicle that drives along it.

    A frame depends on the seed, the camera, the speed and the time only. Where nothing hides the
    ground it is Road up to `road_half_width` from the road's centre, measured across the mean
    direction of the road, then Pavement for `pavement_width`. `side_road` is the side on which
    roads turn off (1 left, -1 right) or None.

    :param seed: Chooses everything that differs between scenes: layout, objects, light, weather.
    :param camera: The camera; by default 640x480 pixels with a field of view of 55 degrees.
    :param speed: Speed of the vehicle in metres per second.
    """

    def __init__(self, seed: int = 0, camera: PinholeCamera | None = None,
                 speed: float = 8.0) -> None:
        self.seed = seed % 2 ** 63
        self.camera = camera or PinholeCamera.from_fov(640, 480)
        self.speed = speed
        rng = np.random.default_rng([self.seed, 0])
        self._choose_layout(rng)
        self._choose_light(rng)
        self._draw_pictures(rng)
        self._draw_ground(rng)
        self._look_up()

    def _choose_layout(self, rng: np.random.Generator) -> None:
        self.road_half_width = float(rng.uniform(3.0, 5.8))
        self.pavement_width = float(rng.uniform(1.5, 4.2))
        room = self.road_half_width > 4.5
        self._parks = {side: bool(room and rng.random() < 0.4) for side in (-1, 1)}
        self._edge = {side: self.road_half_width - 2.0 * parks
                      for side, parks in self._parks.items()}
        self._side = 1 if rng.random() < 0.7 else -1
        self._lane = self._side * self._edge[self._side] / 2.0
        self._bend = 2.0 * math.pi / rng.uniform(180.0, 420.0)
        self._swing = 0.0 if rng.random() < 0.35 else rng.uniform(0.02, 0.11) / self._bend
        self._phase = rng.uniform(0.0, 2.0 * math.pi)
        self.side_road = int(rng.choice((-1, 1))) if rng.random() < 0.5 else None
        self._junction_half = float(rng.uniform(2.6, 3.8))
        self._junction = SLOT * (int(rng.integers(1, 5)) + 0.5)
        self._verge = {side: TREE if rng.random() < 0.45 else PAVEMENT for side in (-1, 1)}
        self._frontage = rng.uniform(0.2, 3.5, 2)
        self._crowd, self._traffic, self._green = rng.uniform(0.15, 0.8, 3)
        self._bare = rng.random() < 0.65

    def _choose_light(self, rng: np.random.Generator) -> None:
        day = rng.choice(('sunny', 'overcast', 'white', 'white', 'dusk'))
        self._shadow = rng.uniform(0.45, 0.7) if day == 'sunny' else 0.85
        angle, low = rng.uniform(0.0, 2.0 * math.pi), rng.uniform(0.5, 1.6)
        self._sun = low * np.array((math.cos(angle), math.sin(angle))) if day == 'sunny' else None
        self._fog = float(rng.uniform(0.0005, 0.006))
        self._haze = {'sunny': 205.0, 'overcast': 175.0, 'white': 225.0, 'dusk': 150.0}[day]
        contrast = rng.uniform(0.85, 1.2)
        gain = rng.uniform(0.5, 0.85) if day == 'dusk' else rng.uniform(0.85, 1.2)
        cast = 1.0 + rng.normal(0.0, 0.03) * np.array((1, 0, -1)) + rng.normal(0.0, 0.01, 3)
        gamma = rng.uniform(0.85, 1.2) * (1.3 if day == 'dusk' else 1.0)
        ramp = np.linspace(0.0, 1.0, 256)[:, None]
        tone = 255.0 * gain * cast * ramp ** gamma
        self._tone = np.clip((tone - 90.0) * contrast + 90.0, 0, 255).astype(np.uint8)[None]
        self._grain = float(rng.uniform(0.7, 3.5))
        self._blur = float(rng.uniform(0.35, 0.9))
        zenith, horizon = {
            'sunny': ((215, 165, 115), (235, 220, 205)), 'overcast': ((190, 180, 172), (214,) * 3),
            'white': ((252,) * 3, (255,) * 3), 'dusk': ((165, 145, 125), (190, 195, 205)),
        }[day]
        clouds = _noise(rng, 192, 768, 24, 70) + 0.5 * _noise(rng, 192, 768, 9, 25)
        clouds += 0.25 * _noise(rng, 192, 768, 3, 8)
        down = np.linspace(0.0, 1.0, 192)[:, None, None] ** 1.5
        sky = np.array(zenith) * (1.0 - down) + np.array(horizon) * down
        patch = np.clip(clouds - rng.uniform(-0.8, 0.8), 0.0, 1.2)[..., None]
        weight = {'sunny': 45.0, 'overcast': -32.0, 'white': -8.0, 'dusk': -45.0}[day]
        self._sky = _Picture(SKY, sky + patch * weight)

    def _draw_pictures(self, rng: np.random.Generator) -> None:
        leaf = np.array((rng.uniform(25, 60), rng.uniform(85, 125), rng.uniform(70, 115)))
        self._tiles = np.array((62, 66, 80)) * rng.uniform(0.7, 1.2)
        self._houses = [_facade(rng) for _ in range(8)]
        self._trees = [_tree(rng, self._bare and index < 3, leaf) for index in range(4)]
        self._people = [_person(rng, False) for _ in range(8)]
        self._cyclists = [_person(rng, True) for _ in range(4)]
        self._signs = [_sign(rng, kind) for kind in (0, 0, 1, 2, 2, 3, 3)]
        self._fences = [_fence(rng, kind) for kind in (0, 0, 1, 2)] + [_hedge(rng, leaf)]
        self._skyline = _skyline(rng, leaf, TREE if rng.random() < 0.5 else BUILDING)

    def _draw_ground(self, rng: np.random.Generator) -> None:
        """Draw one period of the ground, rows along s and columns along d, and its reductions."""
        height, width = round(PERIOD / TEXEL), round(2.0 * VERGE / TEXEL)
        half, walk = self.road_half_width, self.road_half_width + self.pavement_width
        tone = rng.uniform(72, 125) * (1.0 + rng.normal(0.0, 0.015, 3))
        grit = _noise(rng, height, width, 1, 1) * 6.0 + _noise(rng, height, width, 4, 3) * 3.5
        blots = _noise(rng, height, width, 80, 24) * 4.0
        blots += _noise(rng, height, width, 500, 12) * 3.0
        color = (grit + blots)[..., None] + tone.astype(np.float32)

        def column(d: float) -> int:
            return round((d + VERGE) / TEXEL)

        def strip(s: float, long: float, low: float, high: float) -> tuple[slice, slice]:
            start = round(s / TEXEL)
            first, last = sorted((column(low), column(high)))
            return slice(max(start, 0), start + max(1, round(long / TEXEL))), slice(first, last)

        for _ in range(int(rng.integers(2, 12))):
            d = rng.uniform(-half, half - 1.0)
            color[strip(rng.uniform(0, PERIOD), rng.uniform(0.8, 9), d, d + rng.uniform(0.5, 2))
                  ] += rng.normal(0.0, 11.0)
        for _ in range(int(rng.integers(0, 6))):
            center = (column(rng.uniform(-half, half)), int(rng.integers(20, height - 20)))
            cv2.circle(color, center, 11, (tone * 0.62).tolist(), -1)
        for _ in range(int(rng.integers(0, 14))):
            steps = np.cumsum(rng.normal((0, 16), (6, 12), (24, 2)), 0)
            path = steps + (column(rng.uniform(-half, half)), rng.integers(0, height))
            cv2.polylines(color, [path.astype(np.int32)], False, (tone * 0.72).tolist(), 1)
        paint = np.array((205, 212, 214)) * rng.uniform(0.75, 1.1)
        worn = paint + (grit + blots)[..., None] * 1.5
        gap, line = float(rng.choice((4.0, 6.0, 9.0, 12.0))), rng.uniform(0.05, 0.09)
        for s in np.arange(0.5, PERIOD, gap):
            area = strip(s, gap * rng.uniform(0.45, 0.55), -line, line)
            color[area] = worn[area]
        edge = rng.choice(('none', 'white', 'yellow', 'double'))
        for side in (-1, 1):
            for inset in (0.3, 0.5)[:0 if edge == 'none' else 2 if edge == 'double' else 1]:
                area = strip(0, PERIOD, side * (half - inset), side * (half - inset - 0.08))
                yellow = (0.45, 0.85, 0.98) if edge in ('yellow', 'double') else (1, 1, 1)
                color[area] = worn[area] * np.array(yellow, np.float32)
        if rng.random() < 0.35:
            start = (self._junction + 24.0) % PERIOD
            for d in np.arange(-half + 0.3, half - 0.5, 1.2):
                area = strip(start, 2.8, d, d + 0.6)
                color[area] = worn[area]
        slab = tone * 0.3 + rng.uniform(70, 125) * (1.0 + rng.normal(0.0, 0.02, 3))
        for side in (-1, 1):
            area = strip(0, PERIOD, side * half, side * walk)
            paved = slab.astype(np.float32) + (grit + blots)[area][..., None]
            size = round(rng.uniform(0.5, 0.9) / TEXEL)
            if rng.random() < 0.7:
                paved[::size] *= 0.86
                paved[:, ::size] *= 0.86
            color[area] = paved
            area = strip(0, PERIOD, side * walk, side * VERGE)
            grass = self._verge[side] == TREE
            base = (48, 92, 82) if grass else slab * 0.9
            color[area] = np.array(base, np.float32) + (
                (grit * (2.2 if grass else 1.0) + blots * 2.0)[area][..., None])
            area = strip(0, PERIOD, side * half, side * (half + 0.16))
            color[area] = slab * 1.1 + 12 + grit[area][..., None]
            area = strip(0, PERIOD, side * half, side * (half - 0.12))
            color[area] *= 0.72
        if self.side_road:
            side, reach = self.side_road, self._junction_half
            area = strip(self._junction - reach, 2 * reach, side * half, side * VERGE)
            color[area] = tone + (grit + blots)[area][..., None]
            for s in np.arange(self._junction - reach, self._junction + reach - 0.5, 0.9):
                area = strip(s, 0.55, side * half, side * (half - 0.15))
                color[area] = worn[area]
        level = np.clip(color, 0, 255).astype(np.uint8)
        self._ground = [level]
        for index in range(1, 8):
            rows, columns = height >> index, width >> (index // 2)
            level = cv2.resize(level, (columns, rows), interpolation=cv2.INTER_AREA)
            self._ground.append(level)

    def _look_up(self) -> None:
        """Keep what depends on the camera only: where each pixel below the horizon looks."""
        camera = self.camera
        self._top = min(max(math.floor(camera.horizon_row) + 1, 0), camera.height)
        rows = np.arange(self._top, camera.height)
        pixels = np.stack([np.zeros(len(rows)), rows], -1)
        points = np.minimum(camera.ground(pixels)[:, 0], 400.0)
        depth = camera.optical(np.stack(
            [points, np.zeros(len(rows)), np.zeros(len(rows))], -1))[:, 2]
        self._ahead = points[:, None].astype(np.float32)
        self._left = (np.outer(depth, (camera.cx - np.arange(camera.width)) / camera.fx)
                      ).astype(np.float32)
        reach = depth ** 2 / (camera.fy * camera.mount_height) / TEXEL
        self._level = np.clip(np.log2(np.maximum(reach, 1.0)) + 0.3, 0, 7).astype(int)
        tile = np.random.default_rng([self.seed, 1]).normal(128.0, self._grain, (128, 128, 3))
        times = (camera.height // 128 + 2, camera.width // 128 + 2, 1)
        self._noise = np.tile(np.clip(tile + 0.5, 0, 255).astype(np.uint8), times)

    def _pose(self, time_s: float) -> tuple[float, float, float]:
        """Return where the vehicle is in the world: x, y and heading."""
        x = self.speed * time_s
        bend = self._bend * x + self._phase
        return (x, self._swing * math.sin(bend) + self._lane,
                math.atan(self._swing * self._bend * math.cos(bend)))

    def road_points(self, time_s: float, ahead: object, offset: object,
                    up: object = 0.0) -> np.ndarray:
        """
        Return points [..., 3] of the vehicle frame that lie on or above the road.

        :param time_s: The time, in seconds.
        :param ahead: How far along the road from the vehicle, in metres.
        :param offset: How far left of the road's centre, in metres.
        :param up: How far above the ground, in metres.
        """
        ahead, offset, up = np.broadcast_arrays(np.asarray(ahead, np.float64), offset, up)
        x, y, heading = self._pose(time_s)
        c, s = math.cos(heading), math.sin(heading)
        side = self._swing * np.sin(self._bend * (x + ahead) + self._phase) + offset - y
        return np.stack([c * ahead + s * side, c * side - s * ahead, up], -1)

    def road_offset(self, time_s: float, points: np.ndarray) -> np.ndarray:
        """Return how far left of the road's centre points [..., 3] of the vehicle frame lie."""
        x, y, heading = self._pose(time_s)
        points = np.asarray(points, np.float64)
        c, s = math.cos(heading), math.sin(heading)
        world = x + c * points[..., 0] - s * points[..., 1]
        return y + s * points[..., 0] + c * points[..., 1] - (
            self._swing * np.sin(self._bend * world + self._phase))

    def _slot(self, kind: int, side: int, index: int) -> tuple[float, ...]:
        return _numbers(self.seed, kind, side, index)

    def render(self, time_s: float) -> SimulatedFrame:
        """Return the frame at a time in seconds."""
        camera = self.camera
        canvas = _Canvas(camera, self._haze, self._fog)
        turn = math.tan(self._pose(time_s)[2])
        if self._top:
            self._distant(canvas, self._sky, 900.0, turn, (3000.0, -60.0, 1500.0), 0.0)
        self._render_ground(canvas, time_s)
        things, shadows = self._gather(time_s)
        self._cast(canvas, time_s, shadows)
        self._distant(canvas, self._skyline, 140.0, turn, (400.0, 0.0, 11.0), canvas.mist(140.0))
        things.sort(key=lambda thing: -thing.distance)
        counts = [len(thing.points) for thing in things]
        points = np.concatenate([thing.points for thing in things])
        points = self.road_points(time_s, points[:, 0], points[:, 1], points[:, 2])
        points[:, 1] += np.concatenate([
            np.zeros(count) if thing.sway is None else thing.sway
            for thing, count in zip(things, counts)])
        seen = canvas.see(points)
        starts = np.cumsum([0] + counts).tolist()
        for index, pixels in canvas.visible(seen, counts):
            canvas.draw(things[index], seen[starts[index]:starts[index + 1]], pixels)
        image = cv2.GaussianBlur(canvas.image, (3, 3), self._blur)
        image = cv2.LUT(image, self._tone)
        tick = round(time_s * 1e6) * 2654435761 + self.seed
        row, column = tick % 127, tick // 127 % 127
        grain = self._noise[row:row + camera.height, column:column + camera.width]
        return SimulatedFrame(cv2.addWeighted(image, 1.0, grain, 1.0, -128.0), canvas.labels)

    @staticmethod
    def _distant(canvas: _Canvas, picture: _Picture, distance: float, turn: float,
                 extent: tuple[float, float, float], mist: float) -> None:
        """Draw a picture so far away that only the heading moves it."""
        side, low, high = extent
        middle = -distance * turn
        seen = canvas.see(np.array([
            (distance, middle + side, low), (distance, middle - side, low),
            (distance, middle - side, high), (distance, middle + side, high)]))
        pixels = canvas.outline(seen)
        if pixels is not None:
            canvas.stand(picture, seen, pixels, 1.0, mist)

    def _render_ground(self, canvas: _Canvas, time_s: float) -> None:
        x, y, heading = self._pose(time_s)
        c, s = np.float32(math.cos(heading)), np.float32(math.sin(heading))
        along = c * self._ahead - s * self._left
        world = s * self._ahead + c * self._left
        turn = np.float32((self._bend * x + self._phase) % (2.0 * math.pi))
        offset = world + np.float32(y)
        if self._swing:
            offset -= np.float32(self._swing) * np.sin(along * np.float32(self._bend) + turn)
        labels = canvas.labels[self._top:]
        far = np.abs(offset)
        labels[:] = self._verge[-1]
        np.copyto(labels, np.uint8(self._verge[1]), where=offset > 0.0)
        walk = self.road_half_width + self.pavement_width
        np.copyto(labels, np.uint8(PAVEMENT), where=far <= walk)
        np.copyto(labels, np.uint8(ROAD), where=far <= self.road_half_width)
        along += np.float32(x % PERIOD)
        if self.side_road:
            place = np.mod(along, np.float32(PERIOD)) - np.float32(self._junction)
            side_road = (np.abs(place) <= self._junction_half) & (
                offset * self.side_road > 0)
            np.copyto(labels, np.uint8(ROAD), where=side_road)
        np.clip(offset, -VERGE, VERGE - TEXEL, out=offset)
        offset += np.float32(VERGE)
        start = 0
        while start < len(self._level):
            level = self._level[start]
            stop = int(np.searchsorted(-self._level, -level, 'right'))
            picture = self._ground[level]
            band = slice(start, stop)
            rows = np.mod(along[band] * np.float32(picture.shape[0] / PERIOD),
                          np.float32(picture.shape[0]))
            columns = offset[band] * np.float32(picture.shape[1] / (2.0 * VERGE))
            drawn = cv2.remap(picture, columns, rows, cv2.INTER_LINEAR,
                              borderMode=cv2.BORDER_WRAP)
            mist = canvas.mist(float(self._ahead[start:stop].mean()))
            if mist > 0.01:
                drawn = cv2.convertScaleAbs(drawn, alpha=1.0 - mist, beta=mist * self._haze)
            canvas.image[self._top + start:self._top + stop] = drawn
            start = stop

    def _cast(self, canvas: _Canvas, time_s: float, shadows: list[np.ndarray]) -> None:
        """Darken the ground where shadows [N, 2] (way ahead, offset) fall."""
        if not shadows or self._top >= self.camera.height:
            return
        mask = np.zeros(canvas.labels.shape, np.uint8)
        points = np.concatenate(shadows)
        counts = [len(shadow) for shadow in shadows]
        seen = canvas.see(self.road_points(time_s, points[:, 0], points[:, 1]))
        starts = np.cumsum([0] + counts).tolist()
        for index, pixels in canvas.visible(seen, counts):
            if pixels is None:
                pixels = canvas.outline(seen[starts[index]:starts[index + 1]])
            if pixels is not None:
                cv2.fillConvexPoly(mask, cv2.convexHull(pixels), 1)
        ground = canvas.image[self._top:]
        cv2.copyTo(cv2.convertScaleAbs(ground, alpha=self._shadow), mask[self._top:], ground)

    def _gather(self, time_s: float) -> tuple[list[_Thing], list[np.ndarray]]:
        """Return what stands along the road, and the shadows [N, 2] on the ground."""
        things: list[_Thing] = []
        shadows: list[np.ndarray] = []
        x = self.speed * time_s
        half, walk = self.road_half_width, self.road_half_width + self.pavement_width

        def places(kind: int, side: int, spacing: float, speed: float = 0.0, behind: float = 0.0
                   ) -> Iterator[tuple[int, float, tuple[float, ...]]]:
            moved = x - speed * time_s
            first = math.floor((moved - behind) / spacing)
            for index in range(first, math.floor((moved + FAR) / spacing) + 1):
                yield index, index * spacing - moved, self._slot(kind, side, index)

        def side_road(ahead: float, side: int, margin: float) -> bool:
            place = (x + ahead - self._junction + PERIOD / 2) % PERIOD - PERIOD / 2
            return side == self.side_road and abs(place) < self._junction_half + margin

        def cast(base: np.ndarray, tall: float) -> None:
            if self._sun is not None:
                shadows.append(np.concatenate([base, base + self._sun * tall]))

        def upright(picture: _Picture, ahead: float, offset: float, wide: float, tall: float,
                    up: float = 0.0) -> None:
            if ahead > 1.0:
                points = np.array([(ahead, offset, up)] * 2 + [(ahead, offset, up + tall)] * 2)
                sway = np.array((0.5, -0.5, -0.5, 0.5)) * wide
                things.append(_Thing(ahead, points, picture.label, picture, sway=sway))
                if not up:
                    cast(np.array([(ahead, offset - wide / 3), (ahead, offset + wide / 3)]),
                         tall * 0.9)

        def wall(picture: _Picture, near: float, far: float, offset: float, tall: float,
                 shade: float) -> None:
            points = np.array([(near, offset, 0.0), (far, offset, 0.0),
                               (far, offset, tall), (near, offset, tall)])
            things.append(_Thing(far, points, picture.label, picture, shade))
            cast(points[:2, :2], tall)

        def post(ahead: float, offset: float, tall: float, wide: float, arm: float, gray: float
                 ) -> None:
            if ahead <= 1.0:
                return
            wide = max(wide, 1.1 * ahead / self.camera.fx)
            points = np.array([(ahead, offset, up) for up in (
                0.0, 0.0, tall, tall, tall - wide, tall + 0.1, tall + 0.1 + wide, tall)])
            sway = np.array((0.5, -0.5, -0.5, 0.5, 0.0, 0.0, 0.0, 0.0)) * wide
            sway[5:7] = arm
            color = [gray, gray * 1.02, gray * 1.05]
            faces = [(0, 4, color, False), (4, 8, color, False)]
            things.append(_Thing(ahead + 0.01, points, POLE, faces=faces, sway=sway))
            cast(np.array([(ahead, offset - 0.05), (ahead, offset + 0.05)]), tall)

        def car(ahead: float, offset: float, u: tuple[float, ...], away: bool) -> None:
            body, faces = _car(u, away)
            things.append(_Thing(ahead, body + (ahead, offset, 0.0), CAR, faces=faces,
                                 culled=True))
            long, wide = body[:, :2].max(0) * (1.0, 1.05)
            base = np.array([(-long, -wide), (long, -wide), (long, wide), (-long, wide)])
            shadows.append(base + (ahead, offset))
            cast(shadows[-1], 1.3)

        def house(near: float, far: float, line: float, side: int, lit: float,
                  u: tuple[float, ...]) -> None:
            picture, tall, paint = self._houses[int(u[1] * len(self._houses))]
            back, ridge, high = line + side * 8.0, line + side * 4.0, tall + 2.2
            wall(picture, near, far, line, tall, lit)
            gable = [(near, line, 0.0), (near, back, 0.0), (near, back, tall),
                     (near, ridge, high), (near, line, tall)]
            roof = [(near, line, tall), (far, line, tall), (far, ridge, high),
                    (near, ridge, high)]
            stack = [(near + 0.6, ridge + d, high + up) for d, up in (
                (-0.6, -0.6), (0.6, -0.6), (0.6, 0.9), (-0.6, 0.9))]
            if u[3] > 0.6:
                del gable[3]
            points = np.array(gable + (roof + stack if u[3] <= 0.6 else []))
            stone = (paint * 0.7).tolist()
            tiles = (self._tiles * lit * (0.7 + 0.5 * u[9])).tolist()
            faces = [(0, len(gable), (paint * 0.8).tolist(), False)]
            if u[3] <= 0.6:
                faces += [(9, 13, stone, False), (5, 9, tiles, False)]
            things.append(_Thing(far + 0.01, points, BUILDING, faces=faces[::-1]))
            if u[3] > 0.4:
                face = np.array([gable[0], gable[1], (near, back, tall), (near, line, tall)])
                things.append(_Thing(far + 0.005, face, BUILDING, picture, 0.8))

        for side in (-1, 1):
            front = walk + self._frontage[(side + 1) // 2]
            lit = 1.0 if self._sun is None else 1.1 if self._sun[1] * side > 0 else 0.72
            for index, near, u in places(HOUSE, side, SLOT, behind=SLOT):
                zone = self._slot(ZONE, side, index // 4)
                if side_road(near + SLOT / 2, side, 2.0):
                    continue
                far = near + SLOT
                town = zone[0] > 0.25 * self._green
                setback = zone[2] > 0.6
                if town and u[0] > 0.05:
                    house(near, far - (2.0 if u[2] > 0.8 else 0.0),
                          side * (front + (5.0 * zone[1] if setback else 0.0)), side, lit, u)
                if zone[3] > 0.65 or setback or not town:
                    picture = self._fences[int(zone[4] * len(self._fences))]
                    tall = 0.9 + zone[5] * (1.3 if picture.cover is None else 0.3)
                    wall(picture, near, far, side * (walk + 0.05), tall, lit)
                elif zone[3] < 0.15 and not self._parks[side]:
                    wall(self._fences[0], near, far, side * (half + 0.35), 1.0, 1.0)
                if u[4] < (0.4 if town else 1.0) * (0.5 + self._green) and (setback or not town):
                    tall = 5.0 + 6.0 * u[5]
                    upright(self._trees[int(u[6] * 4)], near + SLOT * u[7],
                            side * (walk + 1.0 + 4.0 * u[8]), tall * 0.75, tall)
            for _, near, u in places(FURNITURE, side, 9.0):
                ahead, offset = near + 8.0 * u[0], side * (half + 0.4 + 0.3 * u[1])
                gray = 35.0 + 90.0 * u[2]
                if side_road(ahead, side, 0.5):
                    continue
                if u[3] < 0.3:
                    post(ahead, offset, 5.5 + 3.0 * u[4], 0.13, -side * 1.5 * (u[5] > 0.4), gray)
                elif u[3] < 0.6:
                    low, size = 2.0 + 0.4 * u[7], 0.6 + 0.55 * u[8]
                    post(ahead, offset, low + size * 0.8, 0.08, 0.0, gray)
                    upright(self._signs[int(u[6] * len(self._signs))], ahead, offset, size, size,
                            low)
                elif u[3] < 0.6 + 0.25 * self._green and self.pavement_width > 2.0:
                    tall = 4.5 + 5.0 * u[4]
                    upright(self._trees[int(u[6] * 4)], ahead, offset + side * 0.3, tall * 0.75,
                            tall)
            if self._parks[side]:
                for _, near, u in places(PARKED, side, 6.0, behind=3.0):
                    if u[0] < 0.7 and not side_road(near + 3.0, side, 4.0):
                        car(near + 2.5 + u[1], side * (half - 1.15), u, side == self._side)
            for _, near, u in places(WALKER, side, 5.0, 1.3 * side):
                if u[0] < self._crowd:
                    tall = 1.55 + 0.3 * u[2]
                    offset = half + 0.5 + (self.pavement_width - 0.8) * u[4]
                    upright(self._people[int(u[3] * 8)], near + 5.0 * u[1], side * offset,
                            tall / 2.0, tall)
            for _, near, u in places(RIDER, side, 26.0, 4.5 * side * self._side):
                if u[0] < 0.25:
                    upright(self._cyclists[int(u[3] * 4)], near + 20.0 * u[1],
                            side * (self._edge[side] - 0.5), 0.9, 1.8)
        for _, near, u in places(ONCOMING, 0, 18.0, -9.0, behind=5.0):
            if u[0] < self._traffic:
                car(near + 12.0 * u[1], -self._side * self._edge[-self._side] / 2.0, u, False)
        for index in range(3):
            u = self._slot(LEADER, 0, index)
            ahead = 11.0 + 34.0 * index + 22.0 * u[1] + 3.0 * math.sin(0.3 * time_s + 6.3 * u[2])
            if u[0] < self._traffic:
                car(ahead, self._lane, u, True)
        return things, shadows
