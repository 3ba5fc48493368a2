# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The boundary of an area, and how near the predicted one comes to the true one."""

from __future__ import annotations

import cv2
import numpy as np

TOLERANCE = 0.0075
"""How far apart boundaries match, as a share of the image diagonal: 11 pixels at 720p."""
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def count(area: np.ndarray, true_area: np.ndarray, known: np.ndarray) -> np.ndarray:
    """
    Count the boundary pixels of a predicted and of a true area, and those that match.

    A boundary pixel is one of the area with one of its four neighbours outside, in the image. It
    is matched if a boundary pixel of the other area lies within :data:`TOLERANCE` times the
    image diagonal, rounded to pixels, at least one (Csurka et al., "What is a good evaluation
    measure for semantic segmentation?", BMVC 2013). Where the true area ends at unknown pixels it
    has no boundary, and predicted boundary pixels that near to unknown ones do not count.

    :param area: uint8 [H, W], 255 in the predicted area, else 0.
    :param true_area: uint8 [H, W], 255 in the true area, else 0.
    :param known: uint8 [H, W], 255 where the truth is known, else 0.
    :return: int64 [4], pixels: predicted, matched of these, true, matched of these.
    """
    predicted = _boundary(area, area)
    truth = _boundary(true_area, true_area | ~known)
    radius = max(1, round(TOLERANCE * float(np.hypot(*area.shape))))
    y, x = np.ogrid[-radius:radius + 1, -radius:radius + 1]
    disk = (x * x + y * y <= radius * radius).astype(np.uint8)
    # Dilation is what costs; nothing happens farther from the boundaries.
    left, top, width, height = cv2.boundingRect(predicted | truth)
    near = (
        slice(max(0, top - radius), top + height + radius),
        slice(max(0, left - radius), left + width + radius))
    predicted, truth = predicted[near], truth[near]
    near_predicted, near_truth, near_unknown = (
        cv2.dilate(image, disk) for image in (predicted, truth, ~known[near]))
    predicted = predicted & ~near_unknown
    return np.array([cv2.countNonZero(image) for image in (
        predicted, predicted & near_truth, truth, truth & near_predicted)])


def _boundary(area: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return 255 for pixels of the area that touch one that is not inside, else 0."""
    return area & ~cv2.erode(inside, _CROSS)
