# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The drivable area: where the vehicle may go from where it is."""

from __future__ import annotations

from typing import Iterable

import cv2
import numpy as np

EGO_HEIGHT = 0.1
EGO_WIDTH = 0.5
"""Share of the image, in the middle of its lower edge, that shows the ground ahead."""


def drivable_area(labels: np.ndarray, drivable: Iterable[int]) -> np.ndarray:
    """
    Return the drivable pixels that are connected to the ego vehicle.

    A road seen beyond a pavement or a fence is drivable ground, but not for this vehicle: only
    areas that reach the ground ahead of it count.

    :param labels: uint8 [H, W], class indices.
    :param drivable: Indices of the drivable classes.
    :return: uint8 [H, W], 255 where drivable and connected, else 0.
    """
    is_drivable = np.zeros(256, np.uint8)
    is_drivable[list(drivable)] = 255
    mask = cv2.LUT(labels, is_drivable)
    height, width = labels.shape
    margin = int(width * (1 - EGO_WIDTH) / 2)
    # Whatever the ground ahead is labelled as, the fill begins in all of it.
    reached = mask.copy()
    reached[height - max(1, int(height * EGO_HEIGHT)):, margin:width - margin] = 255
    cv2.floodFill(reached, None, (width // 2, height - 1), 1)
    return mask * (reached == 1)
