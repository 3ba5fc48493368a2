# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Segmentation metrics: integer counts first, scores from counts, so that sums are exact."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import fields
from typing import Any
from typing import Sequence

import cv2
import numpy as np

from lmii_ros import boundary
from lmii_ros.classes import UNKNOWN
from lmii_ros.classes import ClassTable
from lmii_ros.drivable import drivable_area

CALIBRATION_BINS = 15
_EXACT_FLOAT32 = 1 << 24


class CountsError(ValueError):
    """Counts that were read are malformed, or of another number of classes."""


@dataclass(frozen=True)
class Counts:
    """
    What of some frames was right and wrong, in pixels; sums of counts are those of all frames.

    C is the number of classes. Pixels of unknown truth count in `temporal`'s first two only.

    :param confusion: int64 [C, C + 1], see :func:`confusion`.
    :param drivable: int64 [3], pixels of the drivable area of the labels against that of the
        truth (:func:`count`): true positive, false positive, false negative.
    :param confidence: int64 [2, 256], histograms of the drivable confidence (:func:`count`) of
        the pixels whose true class is drivable, and of the others.
    :param boundary: int64 [4], pixels on the boundary of the drivable area, see
        :func:`lmii_ros.boundary.count`.
    :param temporal: int64 [4], pairs of pixels of consecutive frames, those whose label differs;
        the pairs whose truth is known, those whose truth differs.
    :param calibration: int64 [3, CALIBRATION_BINS], by confidence of the label: pixels, pixels
        with the right label, sum of the confidence in 255ths.
    """

    confusion: np.ndarray
    drivable: np.ndarray
    confidence: np.ndarray
    boundary: np.ndarray
    temporal: np.ndarray
    calibration: np.ndarray

    @classmethod
    def zero(cls, num_classes: int, **counts: np.ndarray) -> Counts:
        """Return counts of nothing, except those given."""
        return cls(**{
            name: counts.get(name, np.zeros(shape, np.int64))
            for name, shape in _shapes(num_classes).items()})

    def __add__(self, other: Counts) -> Counts:
        """
        Return the counts of both.

        :raises CountsError: If they are of other numbers of classes.
        """
        if len(self.confusion) != len(other.confusion):
            raise CountsError(
                f'counts of {len(self.confusion)} and of {len(other.confusion)} classes do not '
                'add up')
        return Counts(*(
            getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as plain values, in the layout of docs/evaluation.md."""
        drivable, other = self.confidence.tolist()
        return {
            'confusion': self.confusion.tolist(),
            'drivable': {
                **_named(self.drivable, _DRIVABLE),
                'confidence': {'drivable': drivable, 'other': other}},
            'boundary': _named(self.boundary, _BOUNDARY),
            'temporal': _named(self.temporal, _TEMPORAL),
            'calibration': _named(self.calibration, _CALIBRATION),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Counts:
        """
        Read the values of :meth:`to_dict`.

        :raises CountsError: If they are none.
        """
        try:
            drivable = values['drivable']
            counts = {
                'confusion': values['confusion'],
                'drivable': [drivable[name] for name in _DRIVABLE],
                'confidence': [drivable['confidence'][name] for name in ('drivable', 'other')],
                'boundary': [values['boundary'][name] for name in _BOUNDARY],
                'temporal': [values['temporal'][name] for name in _TEMPORAL],
                'calibration': [values['calibration'][name] for name in _CALIBRATION],
            }
            arrays = {name: np.array(value) for name, value in counts.items()}
            shapes = _shapes(len(arrays['confusion']))
        except (KeyError, TypeError, ValueError) as error:
            raise CountsError(f'malformed counts: {type(error).__name__} {error}') from error
        for name, shape in shapes.items():
            found = arrays[name]
            if found.shape != shape or found.dtype.kind != 'i' or (found < 0).any():
                raise CountsError(
                    f'malformed counts: {name} is {found.dtype} {list(found.shape)}, expected '
                    f'whole numbers {list(shape)}')
        return cls(**{name: array.astype(np.int64) for name, array in arrays.items()})


_DRIVABLE = ('true_positive', 'false_positive', 'false_negative')
_BOUNDARY = ('predicted', 'predicted_matched', 'truth', 'truth_matched')
_TEMPORAL = ('pixels', 'flips', 'truth_pixels', 'truth_flips')
_CALIBRATION = ('pixels', 'correct', 'confidence')


def _shapes(num_classes: int) -> dict[str, tuple[int, ...]]:
    return {
        'confusion': (num_classes, num_classes + 1), 'drivable': (len(_DRIVABLE),),
        'confidence': (2, 256), 'boundary': (len(_BOUNDARY),), 'temporal': (len(_TEMPORAL),),
        'calibration': (len(_CALIBRATION), CALIBRATION_BINS)}


def _named(values: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    return dict(zip(names, values.tolist()))


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
    return _joint(labels, truth, None, num_classes)[..., 0]


def count(
    labels: np.ndarray, confidence: np.ndarray | None, truth: np.ndarray, classes: ClassTable,
) -> Counts:
    """
    Compare the labels of a frame with its truth; `temporal` is left 0.

    The true drivable area is what of the drivable classes connects to the ego vehicle, also
    across pixels of unknown truth. The drivable confidence stands in for the probability that a
    pixel is drivable, of which only that of the label's class, c, is known: it is c where the
    label is drivable (with further drivable classes it may be more), and min(1 - c, n c) where
    not, n being the number of drivable classes: the most that is left for them, since none has
    more than the label's class. It is 0 where the label is unknown.

    `boundary` is that of :func:`lmii_ros.boundary.count`.

    :param labels: uint8 [H, W], class index or UNKNOWN.
    :param confidence: uint8 [H, W], of the label's class in 255ths; None to leave those counts 0.
    :param truth: uint8 [H, W], class index or UNKNOWN.
    :raises ValueError: If the sizes differ, or a label is neither a class nor unknown.
    """
    num_classes = len(classes)
    joint = _joint(labels, truth, confidence, num_classes)
    drivable = classes.indices(classes.drivable)
    known = np.uint8(255) * (truth != UNKNOWN)
    area = drivable_area(labels, drivable)
    true_area = drivable_area(truth, (*drivable, UNKNOWN)) & known
    hits, called, true = (
        cv2.countNonZero(image) for image in (area & true_area, area & known, true_area))
    counts = Counts.zero(
        num_classes,
        confusion=joint.sum(axis=2),
        drivable=np.array([hits, called - hits, true - hits]),
        boundary=boundary.count(area, true_area, known))
    if confidence is None:
        return counts
    return counts + Counts.zero(
        num_classes, confidence=_drivable_confidence(joint, drivable),
        calibration=_calibration(joint))


def count_flips(
    labels: np.ndarray, before: np.ndarray, truth: np.ndarray | None,
    truth_before: np.ndarray | None, num_classes: int,
) -> Counts:
    """
    Compare the labels of two consecutive frames of one size, pixel by pixel.

    Most pixels of a steady video show the same thing in the next frame, so what flips more often
    than the truth does is noise; moving things flip the truth too.

    :param labels: uint8 [H, W]; `before` likewise, of the frame before.
    :param truth: uint8 [H, W] or None, as is `truth_before`; both are needed.
    :return: Counts, of which all but `temporal` is 0.
    """
    temporal = np.array([labels.size, np.count_nonzero(labels != before), 0, 0])
    if truth is not None and truth_before is not None:
        known = (truth != UNKNOWN) & (truth_before != UNKNOWN)
        temporal[2] = np.count_nonzero(known)
        temporal[3] = np.count_nonzero(known & (truth != truth_before))
    return Counts.zero(num_classes, temporal=temporal)


def _joint(
    labels: np.ndarray, truth: np.ndarray, confidence: np.ndarray | None, num_classes: int,
) -> np.ndarray:
    """
    Count pixels of known truth by truth, label and confidence.

    :return: int64 [num_classes, num_classes + 1, 256], or [..., 1] without confidence.
    """
    if labels.shape != truth.shape:
        raise ValueError(f'labels of shape {labels.shape} for truth of shape {truth.shape}')
    # Unknown comes last; what is no class is beyond the ranges, so that it is missed in the sum.
    class_or_last = np.full(256, 255, np.uint8)
    class_or_last[:num_classes] = np.arange(num_classes)
    class_or_last[UNKNOWN] = num_classes
    images = [cv2.LUT(image.reshape(1, -1), class_or_last) for image in (truth, labels)]
    sizes = [num_classes + 1, num_classes + 1]
    if confidence is not None:
        images.append(confidence.reshape(1, -1))
        sizes.append(256)
    ranges = [bound for size in sizes for bound in (0, size)]
    total = np.zeros(sizes, np.int64)
    # Some ten times as fast as bincount; it counts in float32, so not too many pixels at once.
    for start in range(0, labels.size, _EXACT_FLOAT32):
        total += cv2.calcHist(
            [image[:, start:start + _EXACT_FLOAT32] for image in images],
            list(range(len(sizes))), None, sizes, ranges).astype(np.int64)
    if total.sum() != labels.size:
        raise ValueError(f'a label is neither below {num_classes} nor unknown ({UNKNOWN})')
    return total[:num_classes].reshape(num_classes, num_classes + 1, -1)


def _drivable_confidence(joint: np.ndarray, drivable: Sequence[int]) -> np.ndarray:
    steps = np.arange(256)
    is_drivable = np.isin(np.arange(len(joint)), drivable)
    # The class's own confidence, that of another class, and 0 for unknown labels.
    places = np.stack([np.minimum(255 - steps, len(drivable) * steps), steps, np.zeros(256, int)])
    label_kind = np.append(is_drivable.astype(int), 2)
    histograms = np.zeros((2, 256), np.int64)
    for row, rows in enumerate((joint[is_drivable], joint[~is_drivable])):
        by_label = rows.sum(axis=0)
        for kind in range(3):
            np.add.at(histograms[row], places[kind], by_label[label_kind == kind].sum(axis=0))
    return histograms


def _calibration(joint: np.ndarray) -> np.ndarray:
    labelled = joint[:, :-1]
    pixels = labelled.sum(axis=(0, 1))
    correct = np.trace(labelled)
    steps = np.arange(256)
    # Of width 1 / CALIBRATION_BINS, the upper edge included.
    bins = np.maximum(-(-steps * CALIBRATION_BINS // 255) - 1, 0)
    calibration = np.zeros((3, CALIBRATION_BINS), np.int64)
    for row, values in enumerate((pixels, correct, pixels * steps)):
        np.add.at(calibration[row], bins, values)
    return calibration


def iou(true_positive: np.ndarray, truth: np.ndarray, label: np.ndarray) -> np.ndarray:
    """
    Return the intersection over union of pixel counts, NaN where a class is in neither.

    The counts are of any one shape; the last axis is the class.
    """
    union = np.asarray(truth + label - true_positive, np.float64)
    return np.divide(true_positive, union, out=np.full(union.shape, np.nan), where=union > 0)


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
    hits = np.diag(counts)
    by_class = iou(hits, counts.sum(axis=1), counts[:, :len(counts)].sum(axis=0))
    total = counts.sum()
    return Scores(
        iou=by_class,
        miou=float(np.nanmean(by_class)) if np.isfinite(by_class).any() else float('nan'),
        pixel_accuracy=float(hits.sum() / total) if total else float('nan'),
    )


@dataclass(frozen=True)
class DrivableScores:
    """
    Scores of the drivable area; NaN where there is nothing to score.

    :param iou: Intersection over union.
    :param precision: Share of what is called drivable that is.
    :param recall: Share of what is drivable that is called so.
    :param boundary_f: Harmonic mean of the matched shares of the predicted and of the true
        boundary pixels, of all frames together (Csurka et al. take the mean over images).
    """

    iou: float
    precision: float
    recall: float
    boundary_f: float


def drivable_scores(counts: Counts) -> DrivableScores:
    """Return the scores of the drivable area."""
    hits, false_positive, false_negative = counts.drivable.tolist()
    predicted, predicted_matched, truth, truth_matched = counts.boundary.tolist()
    precision = predicted_matched / max(1, predicted)
    recall = truth_matched / max(1, truth)
    return DrivableScores(
        iou=_ratio(hits, hits + false_positive + false_negative),
        precision=_ratio(hits, hits + false_positive),
        recall=_ratio(hits, hits + false_negative),
        boundary_f=(
            float('nan') if not predicted + truth
            else 2 * precision * recall / (precision + recall) if precision + recall else 0.0))


def precision_recall(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    """
    Return precision and recall of calling drivable what has a drivable confidence of i / 255.

    :return: float [256] each, by i; NaN where no pixel is called drivable, or none is.
    """
    hits, false = (np.cumsum(row[::-1])[::-1] for row in counts.confidence)
    with np.errstate(invalid='ignore'):
        return hits / (hits + false), hits / hits[0]


def flip_rates(counts: Counts) -> tuple[float, float]:
    """Return the share of pixels whose label flips from frame to frame, and that of the truth."""
    pixels, flips, truth_pixels, truth_flips = counts.temporal.tolist()
    return _ratio(flips, pixels), _ratio(truth_flips, truth_pixels)


def reliability(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    """
    Return mean confidence and accuracy (0..1) of each bin of confidence, NaN for empty ones.

    Both are equal where the confidence is calibrated (Guo et al., "On Calibration of Modern Neural
    Networks", ICML 2017, section 2).
    """
    pixels, correct, confidence = counts.calibration
    with np.errstate(invalid='ignore'):
        return confidence / 255 / pixels, correct / pixels


def calibration_error(counts: Counts) -> float:
    """
    Return the expected calibration error (0..1), NaN without pixels.

    The mean over the pixels of the distance between their bin's confidence and accuracy (Guo et
    al., equation 3).
    """
    pixels, correct, confidence = counts.calibration
    return _ratio(float(np.abs(correct - confidence / 255).sum()), int(pixels.sum()))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float('nan')
