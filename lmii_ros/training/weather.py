# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Light, weather and camera faults that the training images were not taken in."""

from __future__ import annotations

from typing import Callable

import cv2
import numpy as np


def vary_weather(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """
    Show an image as in dusk, low sun or haze, from a moving camera, or badly compressed.

    :param image: uint8 [H, W, 3] in blue, green, red order.
    :return: A new image of the same kind, changed by one of these, drawn at random.
    """
    change = _CHANGES[rng.integers(len(_CHANGES))]
    pixels = change(image.astype(np.float32) / 255, rng)
    return (np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def _dusk(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darken, shift the colour temperature, and add the noise of a high gain."""
    warmth = rng.uniform(-0.25, 0.25)
    gains = np.exp(np.array([-warmth, 0, warmth], np.float32))
    pixels = pixels ** np.float32(rng.uniform(1.3, 2.5)) * gains
    return pixels + rng.normal(0, rng.uniform(0.01, 0.04), pixels.shape).astype(np.float32)


def _glare(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add the veil of a light source in the upper half."""
    height, width = pixels.shape[:2]
    y, x = np.ogrid[:height, :width]
    distance = np.hypot(x - rng.uniform(0, width), y - rng.uniform(0, 0.5 * height))
    veil = np.exp(-distance / (rng.uniform(0.15, 0.6) * width)) * rng.uniform(0.4, 1.0)
    color = np.array([rng.uniform(0.6, 1.0), rng.uniform(0.8, 1.0), 1.0], np.float32)
    return pixels + veil[..., None].astype(np.float32) * color


def _haze(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mix with grey by Koschmieder's law, for a flat ground below a horizon."""
    height = pixels.shape[0]
    horizon = rng.uniform(0.3, 0.6) * height
    # Distance on flat ground goes with one over the rows below the horizon.
    distance = 1 / np.maximum((np.arange(height) - horizon) / height, 0.05)
    seen = np.exp(-rng.uniform(0.02, 0.12) * distance)[:, None, None].astype(np.float32)
    return seen * pixels + (1 - seen) * np.float32(rng.uniform(0.6, 0.95))


def _motion(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur along a line."""
    length = int(rng.integers(3, 10))
    angle = rng.normal(0, 0.4)
    kernel = np.zeros((length, length), np.float32)
    middle = (length - 1) / 2
    for step in np.linspace(-middle, middle, 4 * length):
        kernel[round(middle + step * np.sin(angle)), round(middle + step * np.cos(angle))] = 1
    return cv2.filter2D(pixels, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def _compression(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Leave the blocks of a strong JPEG compression."""
    quality = int(rng.integers(10, 60))
    _, jpeg = cv2.imencode(
        '.jpg', (pixels * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(jpeg, cv2.IMREAD_COLOR).astype(np.float32) / 255


_CHANGES: tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], ...] = (
    _dusk, _glare, _haze, _motion, _compression)
