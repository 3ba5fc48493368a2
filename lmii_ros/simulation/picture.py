# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A flat picture with its reductions."""

from __future__ import annotations

import cv2
import numpy as np

LEVELS = 5
"""Number of sizes that a picture is kept in, each half as large as the one before."""


class Picture:
    """
    A flat drawing, kept in several sizes so that it does not flicker when it is drawn small.

    :param label: Its class.
    :param color: [H, W, 3] BGR; values beyond 0..255 are clipped.
    :param alpha: uint8 [H, W], 1 where it hides the background; by default everywhere.
    :param cover: uint8 [H, W], 1 where it carries its label; by default where it hides.
    """

    def __init__(
        self,
        label: int,
        color: np.ndarray,
        alpha: np.ndarray | None = None,
        cover: np.ndarray | None = None,
    ) -> None:
        self.label = label
        self.levels = [(np.clip(color, 0, 255).astype(np.uint8), alpha, cover)]
        while len(self.levels) < LEVELS:
            height, width = self.levels[-1][0].shape[:2]
            size = (max(1, width // 2), max(1, height // 2))
            self.levels.append(tuple(
                None if part is None else cv2.resize(part, size, interpolation=cv2.INTER_AREA)
                for part in self.levels[-1]))

    @property
    def height(self) -> int:
        """Height in pixels at full size."""
        return self.levels[0][0].shape[0]

    @property
    def has_gaps(self) -> bool:
        """Whether the background shows through where the label is the picture's."""
        return self.levels[0][2] is not None
