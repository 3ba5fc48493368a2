# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""What became of the frames of a bag or a drive: counts, and a line for each frame."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from dataclasses import field
from typing import Any
from typing import TextIO

import numpy as np

from lmii_ros import metrics
from lmii_ros.classes import ClassTable
from lmii_ros.metrics import Counts

MATCHES = ('exact', 'nearest')


@dataclass(frozen=True)
class FrameTotals:
    """
    How many frames there were, and what became of them; totals of several bags add up.

    :param total: Frames; each is labelled or dropped.
    :param labelled: Frames that were labelled.
    :param dropped: Those that were not, by reason.
    :param truth: Frames by how ground truth was found: `exact`, `nearest`, `unmatched_images`;
        of the first two, those `refused` since it cannot be used; and `unmatched_labels`.
    """

    total: int = 0
    labelled: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    truth: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: FrameTotals) -> FrameTotals:
        """Return the totals of both."""
        return FrameTotals(
            self.total + other.total, self.labelled + other.labelled,
            self.dropped + other.dropped, self.truth + other.truth)

    def to_dict(self) -> dict[str, Any]:
        """Return the totals as plain values, in the layout of docs/evaluation.md."""
        return {
            'total': self.total,
            'labelled': self.labelled,
            'dropped': dict(sorted(self.dropped.items())),
            'truth': {name: self.truth[name] for name in (
                *MATCHES, 'refused', 'unmatched_images', 'unmatched_labels')},
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FrameTotals:
        """Read the values of :meth:`to_dict`."""
        return cls(
            values['total'], values['labelled'], Counter(values['dropped']),
            Counter(values['truth']))


class Tally:
    """
    Adds up the frames of one bag or drive, in their order, and writes a line for each.

    :param classes: What the labels mean.
    :param lines: Where the lines of frames.jsonl go.
    :param with_truth: Whether there is ground truth to match frames with.
    """

    def __init__(self, classes: ClassTable, lines: TextIO, with_truth: bool) -> None:
        self._classes = classes
        self._lines = lines
        self._with_truth = with_truth
        self._before: tuple[int, np.ndarray, np.ndarray | None] | None = None
        self.counts = Counts.zero(len(classes))
        self.frames = FrameTotals()

    def add_dropped(self, index: int, stamp_ns: int, reason: str, match: str | None) -> None:
        """
        Add a frame that was not labelled.

        :param index: Of the frame, from 0.
        :param stamp_ns: Its stamp, in nanoseconds.
        :param reason: Why, in one word.
        :param match: How ground truth was found for it: 'exact', 'nearest' or None.
        """
        self._before = None
        self.frames += FrameTotals(
            total=1, dropped=Counter({reason: 1}), truth=self._matched(match))
        self._write(index, stamp_ns, reason, None, None, None)

    def add_labelled(
        self,
        index: int,
        stamp_ns: int,
        labels: np.ndarray,
        confidence: np.ndarray | None,
        match: str | None,
        truth: np.ndarray | None,
        latency_ms: float | None = None,
    ) -> float | None:
        """
        Add a frame that was labelled.

        :param index: Of the frame, from 0.
        :param stamp_ns: Its stamp, in nanoseconds.
        :param labels: uint8 [H, W], to be left unchanged.
        :param confidence: uint8 [H, W] or None.
        :param match: How ground truth was found for it: 'exact', 'nearest' or None.
        :param truth: uint8 [H, W], or None if there is none that can be used.
        :param latency_ms: From capture to labels, of a live frame.
        :return: The mIoU of this frame alone, None without truth.
        """
        counts = None
        if truth is not None:
            counts = metrics.count(labels, confidence, truth, self._classes)
            self.counts += counts
        before, self._before = self._before, (stamp_ns, labels, truth)
        # Nothing moves from one frame to the next in a bag that is played again.
        if before is not None and before[1].shape == labels.shape and before[0] < stamp_ns:
            self.counts += metrics.count_flips(
                labels, before[1], truth, before[2], len(self._classes))
        refused = Counter({'refused': 1} if match and truth is None else {})
        self.frames += FrameTotals(total=1, labelled=1, truth=self._matched(match) + refused)
        return self._write(
            index, stamp_ns, 'labelled', match if counts else None, counts, latency_ms)

    def add_unmatched_labels(self, count: int) -> None:
        """Add label images that belong to no frame."""
        self.frames += FrameTotals(truth=Counter({'unmatched_labels': count}))

    def _matched(self, match: str | None) -> Counter[str]:
        return Counter({match or 'unmatched_images': 1} if self._with_truth else {})

    def _write(
        self, index: int, stamp_ns: int, status: str, truth: str | None, counts: Counts | None,
        latency_ms: float | None,
    ) -> float | None:
        miou = None
        line = {'index': index, 'stamp_ns': stamp_ns, 'status': status, 'truth': truth}
        names = ('miou', 'true_positive', 'truth_pixels', 'label_pixels', 'drivable')
        if counts is None:
            line |= dict.fromkeys(names)
        else:
            miou = known(metrics.scores(counts.confusion).miou)
            confusion = counts.confusion
            line |= dict(zip(names, (
                miou, np.diag(confusion).tolist(), confusion.sum(axis=1).tolist(),
                confusion[:, :-1].sum(axis=0).tolist(), counts.drivable.tolist())))
        if latency_ms is not None:
            line['latency_ms'] = round(latency_ms, 3)
        self._lines.write(json.dumps(line) + '\n')
        return miou


def known(value: float) -> float | None:
    """Return a score for JSON: None for NaN."""
    return None if np.isnan(value) else float(value)
