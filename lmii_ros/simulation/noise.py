# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Noise, which gives drawn surfaces their grain and blots."""

from __future__ import annotations

import cv2
import numpy as np


def noise(rng: np.random.Generator, height: int, width: int, tall: int, wide: int) -> np.ndarray:
    """Return float32 noise of deviation about 1 with blots of tall x wide, seamless downwards."""
    grid = rng.standard_normal((max(1, height // tall), width // wide + 2), np.float32)
    if tall == wide == 1:
        return grid[:, :width]
    grid = np.concatenate([grid[-1:], grid, grid[:1]])
    step = height / (len(grid) - 2)
    big = cv2.resize(grid, (width, round(step * len(grid))), interpolation=cv2.INTER_LINEAR)
    return big[round(step):][:height] * 1.3


def surface(
    rng: np.random.Generator,
    height: int,
    width: int,
    color: object,
    *layers: tuple[int, int, float],
) -> np.ndarray:
    """Return a float32 surface of one colour with layers of noise (tall, wide, strength)."""
    light = sum(noise(rng, height, width, tall, wide) * strength
                for tall, wide, strength in layers)
    return light[..., None] + np.asarray(color, np.float32)
