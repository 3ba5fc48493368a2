# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""
From coarse logits to labels at frame size in one pass, for engines whose logits are on the host.

Equal to resizing all logits bilinearly and taking the largest, but without the resized logits
(some 40 MB at 720p). Between four neighbouring logits that have the same largest class, that class
is the largest everywhere, since the others' distance to it is bilinear too; such cells, most of a
picture, are filled without a computation. In the rest, classes that cannot win are left out.
"""

from __future__ import annotations

import math

import numba
import numpy as np

NEGLIGIBLE = -14.0
"""Logits so far below the largest change no confidence by a step of 1/255."""


def label(
    logits: np.ndarray,
    size: tuple[int, int],
    *,
    align_corners: bool,
    confidence: bool,
) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Return labels, and their confidence if asked for.

    :param logits: float32 [N, num_classes, h, w].
    :param size: Height and width of the labels.
    :param align_corners: As of torch.nn.functional.interpolate.
    :return: uint8 [N, H, W] each; confidence is the softmax of the label's class times 255.
    """
    rows = _Axis(logits.shape[2], size[0], align_corners)
    columns = _Axis(logits.shape[3], size[1], align_corners)
    labels = np.empty((len(logits), *size), np.uint8)
    certainty = np.empty(labels.shape if confidence else (len(logits), 0, 0), np.uint8)
    for index, image in enumerate(logits):
        _label(
            np.ascontiguousarray(image.transpose(1, 2, 0)), rows.first, rows.weight,
            columns.first, columns.weight, labels[index], certainty[index])
    return labels, certainty if confidence else None


class _Axis:
    """Where the pixels of one axis lie between the logits, in float32 as torch computes it."""

    def __init__(self, coarse: int, fine: int, align_corners: bool) -> None:
        pixels = np.arange(fine, dtype=np.float32)
        if align_corners:
            position = pixels * np.float32((coarse - 1) / max(fine - 1, 1))
        else:
            scale = np.float32(coarse) / np.float32(fine)
            position = np.maximum((pixels + np.float32(0.5)) * scale - np.float32(0.5), 0)
        before = np.minimum(position.astype(np.int64), coarse - 1)
        self.weight = position - before.astype(np.float32)
        # The pixels of cell i, between logits i and i + 1, are first[i] to first[i + 1] - 1.
        self.first = np.searchsorted(before, np.arange(coarse + 1))


@numba.njit(cache=True, nogil=True)
def _label(logits, first_row, row_weight, first_column, column_weight, labels, certainty):
    height, width, classes = logits.shape
    best = np.empty((height, width), np.uint8)
    for row in range(height):
        for column in range(width):
            best[row, column] = _largest(logits[row, column])
    left = np.empty(classes, np.float32)
    right = np.empty(classes, np.float32)
    candidates = np.empty(classes, np.uint8)
    values = np.empty(classes, np.float32)
    with_certainty = certainty.size > 0
    for row in range(height):
        below = min(row + 1, height - 1)
        for column in range(width):
            beside = min(column + 1, width - 1)
            start, stop = first_column[column], first_column[column + 1]
            winner = best[row, column]
            same = (
                winner == best[row, beside] and winner == best[below, column]
                and winner == best[below, beside])
            for y in range(first_row[row], first_row[row + 1]):
                if same:
                    for x in range(start, stop):
                        labels[y, x] = winner
                    if not with_certainty:
                        continue
                weight = row_weight[y]
                for index in range(classes):
                    left[index] = (
                        (1 - weight) * logits[row, column, index]
                        + weight * logits[below, column, index])
                    right[index] = (
                        (1 - weight) * logits[row, beside, index]
                        + weight * logits[below, beside, index])
                if with_certainty:
                    for x in range(start, stop):
                        for index in range(classes):
                            values[index] = (
                                (1 - column_weight[x]) * left[index]
                                + column_weight[x] * right[index])
                        labels[y, x] = _largest(values)
                        certainty[y, x] = _certainty(values, labels[y, x])
                elif not same:
                    _label_row(left, right, column_weight, start, stop, candidates, labels[y])


@numba.njit(cache=True, nogil=True)
def _label_row(left, right, column_weight, start, stop, candidates, labels):
    """Label the pixels of one row between two columns of logits."""
    bar = -np.inf
    for index in range(len(left)):
        bar = max(bar, min(left[index], right[index]))
    count = 0
    for index in range(len(left)):
        if max(left[index], right[index]) >= bar:
            candidates[count] = index
            count += 1
    for x in range(start, stop):
        weight = column_weight[x]
        largest = -np.inf
        for position in range(count):
            index = candidates[position]
            value = (1 - weight) * left[index] + weight * right[index]
            if value > largest:
                largest = value
                labels[x] = index


@numba.njit(cache=True, nogil=True)
def _largest(values):
    winner = 0
    for index in range(1, len(values)):
        if values[index] > values[winner]:
            winner = index
    return winner


@numba.njit(cache=True, nogil=True)
def _certainty(values, winner):
    total = np.float32(0)
    for index in range(len(values)):
        below = values[index] - values[winner]
        if below > NEGLIGIBLE:
            total += math.exp(below)
    return np.uint8(np.rint(255 / total))
