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
    areas that reach the ground before it count.

    :param labels: uint8 [H, W], class indices.
    :param drivable: Indices of the drivable classes.
    :return: uint8 [H, W], 255 where drivable and connected, else 0.
    """
    is_drivable = np.zeros(256, np.uint8)
    is_drivable[list(drivable)] = 255
    mask = is_drivable[labels]
    _, areas = cv2.connectedComponents(mask, connectivity=4)
    height, width = labels.shape
    margin = int(width * (1 - EGO_WIDTH) / 2)
    ego = areas[height - max(1, int(height * EGO_HEIGHT)):, margin:width - margin]
    connected = np.zeros(int(areas.max()) + 1, np.uint8)
    connected[np.unique(ego)] = 255
    connected[0] = 0
    return connected[areas]
