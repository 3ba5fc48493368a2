# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Two evaluations side by side: what changed, and whether that is more than chance."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from lmii_ros.evaluation.result_folder import Frames
from lmii_ros.evaluation.result_folder import ResultError
from lmii_ros.evaluation.result_folder import Results
from lmii_ros.metrics import iou

RESAMPLES = 2000
INTERVAL = (2.5, 97.5)
"""Percentiles of the resampled changes between which 95 % of them lie."""
OVERALL = ('mIoU', 'pixel accuracy', 'drivable IoU')
_SEED = 20240511
_CHUNK = 2_000_000


class Regression(ValueError):
    """A score is significantly worse than before."""


@dataclass(frozen=True)
class Change:
    """
    One score in two runs, over the frames that both have, as shares of 0..1.

    :param before: In run A, NaN where there is nothing to score.
    :param after: In run B, likewise.
    :param low: Lower end of the 95 % interval of the change, NaN without one.
    :param high: Upper end, likewise.
    """

    name: str
    before: float
    after: float
    low: float
    high: float

    @property
    def change(self) -> float:
        """Return by how much the score has risen."""
        return self.after - self.before

    @property
    def verdict(self) -> str:
        """Return ``better`` or ``worse`` where the interval leaves no doubt, else nothing."""
        return 'better' if self.low > 0 else 'worse' if self.high < 0 else ''


@dataclass(frozen=True)
class Comparison:
    """
    Run B against run A.

    :param paired: The frames that both have labelled and that have a truth, as they are in A and
        in B, in the order of A.
    :param only: How many such frames only A and only B have.
    :param block: Frames in a block of the bootstrap.
    :param overall: Changes of :data:`OVERALL`.
    :param classes: Changes of the IoU of each class.
    :param notes: What is to be known of the comparison, a line each.
    """

    before: Results
    after: Results
    paired: tuple[Frames, Frames]
    only: tuple[int, int]
    block: int
    overall: tuple[Change, ...]
    classes: tuple[Change, ...]
    notes: tuple[str, ...]

    @property
    def changes(self) -> tuple[Change, ...]:
        """Return all changes, the overall ones first."""
        return self.overall + self.classes

    def names(self, verdict: str) -> list[str]:
        """Return the names of the scores that are significantly ``better`` or ``worse``."""
        return [change.name for change in self.changes if change.verdict == verdict]


def compare(before: Results, after: Results, block: int = 0) -> Comparison:
    """
    Compare two runs over the frames that both have.

    Frames are paired by bag and stamp, and so by what is to be seen in them: only the networks
    differ.
    The interval of a change comes from 2000 bootstrap resamples of the pairs (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993), each of which is scored from its summed
    counts. Consecutive frames of a video are alike, so blocks of them are drawn, circularly
    (Politis and Romano 1992); by default of the cube root of the number of frames (Hall,
    Horowitz and Jing 1995). The random numbers are always the same.

    :param block: Frames in a block; 1 takes frames as independent, 0 is the default above.
    :raises ResultError: If the runs have other classes.
    :raises ValueError: If the block is negative.
    """
    if block < 0:
        raise ValueError(f'a block of {block} frames, expected 1 or more, or 0')
    if before.classes.classes != after.classes.classes:
        raise ResultError(
            f'{before.directory} has the classes of {before.classes.name}, '
            f'{after.directory} those of {after.classes.name}')
    rows_before, rows_after = _pairs(before.frames, after.frames)
    pair = before.frames.take(rows_before), after.frames.take(rows_after)
    count = len(rows_before)
    block = min(count, block or max(1, round(count ** (1 / 3))))
    classes = len(before.classes)
    scores = [_scores(_counts(frames).sum(axis=0, keepdims=True), classes)[0] for frames in pair]
    low = high = np.full(len(scores[0]), np.nan)
    if count > 1:
        low, high = _interval(*map(_counts, pair), classes, block)
    changes = tuple(
        Change(name, *map(float, values)) for name, *values in zip(
            (*OVERALL, *before.classes.classes), *scores, low, high))
    only = tuple(
        int(run.frames.scored.sum()) - count for run in (before, after))
    return Comparison(
        before, after, pair, only, block, changes[:len(OVERALL)], changes[len(OVERALL):],
        tuple(_notes(before, after, pair, only)))


def table(comparison: Comparison) -> str:
    """Return the comparison as a table for a terminal."""
    lines = [
        f'{letter}  {run.directory}  ({run.name}, {run.metrics["operating_point"].get("weights")})'
        for letter, run in (('A', comparison.before), ('B', comparison.after))]
    lines += [*comparison.notes, '']
    width = max(16, *(len(change.name) + 2 for change in comparison.changes))
    lines.append(f'{"":<{width}}{"A":>9}{"B":>9}{"change":>9}   {"95 % interval":<18}')
    for change in comparison.changes:
        interval = '' if np.isnan(change.low) else (
            f'[{100 * change.low:+.2f}, {100 * change.high:+.2f}]')
        numbers = ''.join(
            f'{"-" if np.isnan(value) else format(100 * value, form):>9}' for value, form in (
                (change.before, '.2f'), (change.after, '.2f'), (change.change, '+.2f')))
        lines.append(f'{change.name:<{width}}{numbers}   {interval:<18}{change.verdict}'.rstrip())
    return '\n'.join(lines)


def require_no_regression(comparison: Comparison) -> None:
    """
    Do nothing if nothing is significantly worse.

    :raises Regression: Naming what is.
    """
    worse = comparison.names('worse')
    if worse:
        raise Regression(
            f'{comparison.after.directory} is significantly worse than '
            f'{comparison.before.directory} in: {", ".join(worse)}')


def _pairs(before: Frames, after: Frames) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the frames that both have scored, in the order of the first."""
    place = {key: row for key, row in _keys(after)}
    rows = [(row, place[key]) for key, row in _keys(before) if key in place]
    return tuple(np.array(rows, np.int64).reshape(-1, 2).T)


def _keys(frames: Frames) -> list[tuple[tuple[str, int, int], int]]:
    """Return bag and stamp of each scored frame, how often it was there before, and its row."""
    seen: Counter[tuple[str, int]] = Counter()
    keys = []
    for row in np.flatnonzero(frames.scored):
        frame = frames.bag[row], int(frames.stamp_ns[row])
        keys.append(((*frame, seen[frame]), int(row)))
        seen[frame] += 1
    return keys


def _counts(frames: Frames) -> np.ndarray:
    """Return all that scores come from, float64 [frames, 3 classes + 3]; integers below 2**53."""
    return np.hstack([
        frames.true_positive, frames.truth_pixels, frames.label_pixels, frames.drivable,
    ]).astype(np.float64)


def _scores(counts: np.ndarray, classes: int) -> np.ndarray:
    """Return :data:`OVERALL` and the IoU of each class, [rows, 3 + classes], of summed counts."""
    hits, truth, label = (
        counts[:, start:start + classes] for start in range(0, 3 * classes, classes))
    by_class = iou(hits, truth, label)
    known = np.isfinite(by_class)
    drivable = counts[:, 3 * classes:]
    parts = [
        (np.where(known, by_class, 0).sum(axis=1), known.sum(axis=1)),
        (hits.sum(axis=1), truth.sum(axis=1)),
        (drivable[:, 0], drivable.sum(axis=1))]
    return np.column_stack([
        *(np.divide(part, whole, out=np.full(len(counts), np.nan), where=whole > 0)
          for part, whole in parts), by_class])


def _interval(
    before: np.ndarray, after: np.ndarray, classes: int, block: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the interval of the change of each score."""
    generator = np.random.default_rng(_SEED)
    count = len(before)
    changes = []
    rows = max(1, min(RESAMPLES, _CHUNK // count))
    for first in range(0, RESAMPLES, rows):
        number = min(rows, RESAMPLES - first)
        starts = generator.integers(count, size=(number, -(-count // block), 1))
        drawn = ((starts + np.arange(block)) % count).reshape(number, -1)[:, :count]
        drawn += count * np.arange(number)[:, None]
        times = np.bincount(drawn.ravel(), minlength=number * count).reshape(number, count)
        times = times.astype(np.float64)
        changes.append(_scores(times @ after, classes) - _scores(times @ before, classes))
    change = np.concatenate(changes)
    # A rare class may be in few of the resamples; one that is in none has no interval.
    known = np.isfinite(change).any(axis=0)
    low, high = np.full((2, change.shape[1]), np.nan)
    low[known], high[known] = np.nanpercentile(change[:, known], INTERVAL, axis=0)
    return low, high


def _notes(
    before: Results, after: Results, pair: tuple[Frames, Frames], only: tuple[int, int],
) -> list[str]:
    count = len(pair[0])
    notes = [
        f'{count:,} frames with a ground truth are in both; '
        f'{only[0]:,} only in A and {only[1]:,} only in B are left out']
    if not count:
        notes.append(
            'no frame of A and B has the same stamp in the same bag: are these runs of the same '
            'bags?')
    elif count < 30:
        notes.append(f'{count} frames are few: take the intervals as a hint')
    if (pair[0].truth_pixels != pair[1].truth_pixels).any():
        notes.append('the ground truth of A and B differs: the change may be that of the truth')
    if before.classes.drivable != after.classes.drivable:
        notes.append('A and B call other classes drivable')
    return notes
