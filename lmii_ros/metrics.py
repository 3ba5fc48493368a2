# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Segmentation metrics: confusion counts first, scores from counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmii_ros.classes import UNKNOWN


def confusion(labels: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """
    Count the pixels of each true class by the class that they were given.

    Counts of several images add up to those of the set. Pixels of unknown truth do not count;
    pixels that were labelled unknown do, in a column of their own.

    :param labels: uint8 [H, W], class index or UNKNOWN.
    :param truth: uint8 [H, W], class index or UNKNOWN.
    :return: int64 [num_classes, num_classes + 1], rows by truth, last column unknown.
    :raises ValueError: If the sizes differ, or a label is neither a class nor unknown.
    """
    if labels.shape != truth.shape:
        raise ValueError(f'labels of shape {labels.shape} for truth of shape {truth.shape}')
    for image in (labels, truth):
        if ((image >= num_classes) & (image != UNKNOWN)).any():
            raise ValueError(f'a label is neither below {num_classes} nor unknown ({UNKNOWN})')
    known = truth != UNKNOWN
    rows = truth[known].astype(np.int64)
    columns = np.minimum(labels[known], num_classes).astype(np.int64)
    width = num_classes + 1
    counts = np.bincount(rows * width + columns, minlength=num_classes * width)
    return counts.reshape(num_classes, width)


@dataclass(frozen=True)
class Scores:
    """
    Scores of a set of images.

    :param iou: float [num_classes], intersection over union per class; 0 for a class of the truth
        that was never found, NaN for one that is neither in the truth nor in the labels.
    :param miou: Mean over the classes that are not NaN.
    :param pixel_accuracy: Share of the pixels of known truth that have the right label.
    """

    iou: np.ndarray
    miou: float
    pixel_accuracy: float


def scores(counts: np.ndarray) -> Scores:
    """Return the scores of the counts of :func:`confusion`, added up over all images."""
    num_classes = len(counts)
    hits = np.diag(counts).astype(np.float64)
    union = counts.sum(axis=1) + counts[:, :num_classes].sum(axis=0) - hits
    iou = np.divide(hits, union, out=np.full(num_classes, np.nan), where=union > 0)
    total = counts.sum()
    return Scores(
        iou=iou,
        miou=float(np.nanmean(iou)) if (union > 0).any() else float('nan'),
        pixel_accuracy=float(hits.sum() / total) if total else float('nan'),
    )
