# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The camera's sensor, which blurs, tints and grains what it is shown."""

from __future__ import annotations

import cv2
import numpy as np

from lmii_ros.simulation.camera import PinholeCamera

TILE = 128
"""Size of the tile of grain that the image is covered with, each time from another corner."""


class Sensor:
    """
    What makes an image of the light.

    :param rng: Chooses sharpness, exposure, white balance and strength of the grain.
    :param seed: Chooses the grain.
    :param camera: The camera that it belongs to.
    :param dim: Whether there is little light.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        seed: int,
        camera: PinholeCamera,
        dim: bool,
    ) -> None:
        self._seed = seed
        self._size = (camera.height, camera.width)
        contrast = rng.uniform(0.85, 1.2)
        gain = rng.uniform(0.5, 0.85) if dim else rng.uniform(0.85, 1.2)
        cast = 1.0 + rng.normal(0.0, 0.03) * np.array((1, 0, -1)) + rng.normal(0.0, 0.01, 3)
        gamma = rng.uniform(0.85, 1.2) * (1.3 if dim else 1.0)
        ramp = np.linspace(0.0, 1.0, 256)[:, None]
        tone = 255.0 * gain * cast * ramp ** gamma
        self._tone = np.clip((tone - 90.0) * contrast + 90.0, 0, 255).astype(np.uint8)[None]
        strength = float(rng.uniform(0.7, 3.5))
        self._blur = float(rng.uniform(0.35, 0.9))
        tile = np.random.default_rng([seed, 1]).normal(128.0, strength, (TILE, TILE, 3))
        times = (camera.height // TILE + 2, camera.width // TILE + 2, 1)
        self._grain = np.tile(np.clip(tile + 0.5, 0, 255).astype(np.uint8), times)

    def expose(self, image: np.ndarray, time_s: float) -> np.ndarray:
        """Return the image that the sensor makes of an image at a time in seconds."""
        image = cv2.GaussianBlur(image, (3, 3), self._blur)
        image = cv2.LUT(image, self._tone)
        # The time chooses the grain, so that a frame is the same whenever it is rendered.
        tick = round(time_s * 1e6) * 2654435761 + self._seed
        row, column = tick % 127, tick // 127 % 127
        height, width = self._size
        grain = self._grain[row:row + height, column:column + width]
        return cv2.addWeighted(image, 1.0, grain, 1.0, -128.0)
