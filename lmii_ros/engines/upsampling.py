# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""
From coarse logits to labels at frame size in one pass, for engines whose logits are on the host.

Equal to resizing all logits bilinearly and taking the largest, but without the resized logits
(some 40 MB at 720p). Between four neighbouring logits that have the same largest class, that class
is the largest everywhere, since the others' distance to it is bilinear too; such cells, most of a
picture, are filled without a computation. In the rest, classes that cannot win are left out.

The loops over a row of pixels are written so that the compiler turns them into vector
instructions: float32 throughout, selections instead of branches.
"""

from __future__ import annotations

import numpy as np

from lmii_ros.engines import NonFiniteOutput
from lmii_ros.engines.kernel import kernel

_INFINITY = np.uint32(0x7f800000)
"""Bits of a float32 that is infinite; larger ones, but for the sign, are not a number."""
_ONE = np.float32(1)
_HALF = np.float32(0.5)
_STEPS = np.float32(255)
_LOG2_E = np.float32(1.4426950408889634)
_LOWEST_POWER = np.float32(-30)
_EXP2 = tuple(np.float32(value) for value in (
    1.00000252, 0.69300662, 0.24142749, 0.05203743, 0.0135206))
"""Coefficients of a polynomial that is 2 ** x for 0 <= x <= 1, to 3e-6 of its value."""


class Axis:
    """
    Where the pixels of one axis lie in another resolution, in float32 as torch computes it.

    :param coarse: Pixels of the axis that is resized.
    :param fine: Pixels that it is resized to.
    :param align_corners: As of torch.nn.functional.interpolate.
    """

    def __init__(self, coarse: int, fine: int, align_corners: bool) -> None:
        pixels = np.arange(fine, dtype=np.float32)
        if align_corners:
            position = pixels * np.float32((coarse - 1) / max(fine - 1, 1))
        else:
            scale = np.float32(coarse) / np.float32(fine)
            position = np.maximum((pixels + np.float32(0.5)) * scale - np.float32(0.5), 0)
        before = np.minimum(position.astype(np.int64), coarse - 1)
        self.weight = position - before.astype(np.float32)
        # Unsigned, since numba would wrap negative ones around, which is not for vectors.
        self.before = before.astype(np.uint32)
        self.after = np.minimum(before + 1, coarse - 1).astype(np.uint32)
        # The pixels of cell i, between logits i and i + 1, are first[i] to first[i + 1] - 1.
        self.first = np.searchsorted(before, np.arange(coarse + 1))


class Upsampler:
    """
    Makes labels of logits; its buffers are those of the sizes it was used for last.

    :param align_corners: As of torch.nn.functional.interpolate.
    """

    def __init__(self, align_corners: bool) -> None:
        self._align_corners = align_corners
        self._sizes: tuple[tuple[int, ...], tuple[int, int]] | None = None
        self._turn = 0

    def label(
        self, logits: np.ndarray, size: tuple[int, int], *, confidence: bool,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """
        Return labels, and their confidence if asked for.

        :param logits: float32 [N, num_classes, h, w].
        :param size: Height and width of the labels.
        :return: uint8 [N, H, W] each; confidence is the softmax of the label's class times 255.
            Overwritten by the call after the next.
        :raises NonFiniteOutput: If a logit is not finite.
        """
        if self._sizes != (logits.shape, size):
            self._sizes = logits.shape, size
            self._rows = Axis(logits.shape[2], size[0], self._align_corners)
            self._columns = Axis(logits.shape[3], size[1], self._align_corners)
            self._best = np.empty(logits.shape[2:], np.uint8)
            # Both are claimed from the system only once they are written to.
            self._labels = np.empty((2, len(logits), *size), np.uint8)
            self._certainty = np.empty_like(self._labels)
        self._turn = 1 - self._turn
        labels, certainty = self._labels[self._turn], self._certainty[self._turn]
        rows, columns = self._rows, self._columns
        for index, image in enumerate(logits):
            if _label_logits(image, image.view(np.uint32), self._best) >= _INFINITY:
                raise NonFiniteOutput('the network gave values that are not finite')
            if confidence:
                _label_with_certainty(
                    image, rows.first, rows.weight, columns.before, columns.after,
                    columns.weight, labels[index], certainty[index])
            else:
                _label(
                    image, self._best, rows.first, rows.weight, columns.first, columns.weight,
                    labels[index])
        return labels, certainty if confidence else None


@kernel
def _label_logits(logits, bits, best):
    """Write the largest class at each logit, and return the bits of the largest magnitude."""
    classes, height, width = logits.shape
    largest = np.empty(width, np.float32)
    magnitude = np.uint32(0)
    for row in range(height):
        largest[:] = -np.inf
        for index in range(classes):
            winner = np.uint8(index)
            for x in range(width):
                value = logits[index, row, x]
                better = value > largest[x]
                best[row, x] = winner if better else best[row, x]
                largest[x] = value if better else largest[x]
                magnitude = max(magnitude, bits[index, row, x] & np.uint32(0x7fffffff))
    return magnitude


@kernel
def _label(logits, best, first_row, row_weight, first_column, column_weight, labels):
    classes, height, width = logits.shape
    left = np.empty(classes, np.float32)
    right = np.empty(classes, np.float32)
    candidates = np.empty(classes, np.uint8)
    for row in range(height):
        below = min(row + 1, height - 1)
        for column in range(width):
            beside = min(column + 1, width - 1)
            start, stop = first_column[column], first_column[column + 1]
            winner = best[row, column]
            if (
                winner == best[row, beside] and winner == best[below, column]
                and winner == best[below, beside]
            ):
                for y in range(first_row[row], first_row[row + 1]):
                    labels[y, start:stop] = winner
                continue
            for y in range(first_row[row], first_row[row + 1]):
                weight = row_weight[y]
                for index in range(classes):
                    left[index] = (
                        (_ONE - weight) * logits[index, row, column]
                        + weight * logits[index, below, column])
                    right[index] = (
                        (_ONE - weight) * logits[index, row, beside]
                        + weight * logits[index, below, beside])
                _label_row(left, right, column_weight, start, stop, candidates, labels[y])


@kernel
def _label_row(left, right, column_weight, start, stop, candidates, labels):
    """Label the pixels of one row between two columns of logits."""
    bar = np.float32(-np.inf)
    for index in range(len(left)):
        bar = max(bar, min(left[index], right[index]))
    count = 0
    for index in range(len(left)):
        if max(left[index], right[index]) >= bar:
            candidates[count] = index
            count += 1
    for x in range(start, stop):
        weight = column_weight[x]
        largest = np.float32(-np.inf)
        for position in range(count):
            index = candidates[position]
            value = (_ONE - weight) * left[index] + weight * right[index]
            if value > largest:
                largest = value
                labels[x] = index


@kernel
def _label_with_certainty(
        logits, first_row, row_weight, column_before, column_after, column_weight,
        labels, certainty):
    classes, height, _ = logits.shape
    pixels = labels.shape[1]
    above = np.empty((classes, pixels), np.float32)
    below = np.empty((classes, pixels), np.float32)
    _widen(logits[:, 0], column_before, column_after, column_weight, below)
    for row in range(height):
        above, below = below, above
        _widen(
            logits[:, min(row + 1, height - 1)], column_before, column_after, column_weight, below)
        for y in range(first_row[row], first_row[row + 1]):
            _label_row_with_certainty(above, below, row_weight[y], labels[y], certainty[y])


@kernel
def _widen(logits, before, after, weight, row):
    """Resize one row of logits to that of the pixels."""
    for index in range(len(logits)):
        for x in range(len(weight)):
            row[index, x] = (
                (_ONE - weight[x]) * logits[index, before[x]]
                + weight[x] * logits[index, after[x]])


@kernel
def _label_row_with_certainty(above, below, weight, labels, certainty):
    classes, pixels = above.shape
    values = np.empty((classes, pixels), np.float32)
    largest = np.full(pixels, -np.inf, np.float32)
    winners = np.empty(pixels, np.int32)
    for index in range(classes):
        winner = np.int32(index)
        for x in range(pixels):
            value = (_ONE - weight) * above[index, x] + weight * below[index, x]
            values[index, x] = value
            better = value > largest[x]
            winners[x] = winner if better else winners[x]
            largest[x] = value if better else largest[x]
    total = np.zeros(pixels, np.float32)
    power = np.empty(pixels, np.float32)
    power_bits = power.view(np.int32)
    for index in range(classes):
        part = values[index]
        for x in range(pixels):
            exponent = max((part[x] - largest[x]) * _LOG2_E, _LOWEST_POWER)
            whole = np.int32(exponent) - np.int32(1)
            part[x] = exponent - np.float32(whole)
            power_bits[x] = (whole + np.int32(127)) << np.int32(23)
        for x in range(pixels):
            total[x] += power[x] * (_EXP2[0] + part[x] * (_EXP2[1] + part[x] * (
                _EXP2[2] + part[x] * (_EXP2[3] + part[x] * _EXP2[4]))))
    for x in range(pixels):
        labels[x] = winners[x]
        certainty[x] = np.uint8(_STEPS / total[x] + _HALF)
