# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Plots along a drive."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lmii_ros.evaluation import figures
from lmii_ros.evaluation.figures import ACCENT
from lmii_ros.evaluation.figures import MUTED
from lmii_ros.evaluation.figures import SECOND
from lmii_ros.evaluation.result_folder import Frames
from lmii_ros.metrics import iou

_POINTS = 300
"""Of a timeline at most, however long the bag: as many as can be told apart on a screen."""


@matplotlib.rc_context(figures.STYLE)
def timeline(frames: Frames) -> Figure:
    """
    Draw mIoU, frames that were not labelled and latency along the drive.

    What was not measured is left out; something has to be there.
    """
    starts, times = _points(frames)
    sizes = np.diff([*starts, len(frames)])
    heights = {
        row: height for row, height, known in (
            ('miou', 3.0, frames.scored.any()),
            ('drops', 1.0, not frames.labelled.all()),
            ('latency', 2.0, np.isfinite(frames.latency_ms).any())) if known}
    rows = tuple(heights.values())
    figure, axes = figures.blank(9.6, 0.5 + 0.6 * sum(rows), rows)
    for row, axis in zip(heights, axes):
        if row == 'miou':
            _line_and_range(axis, frames.miou, starts, times, ACCENT, _miou(frames, starts))
            axis.set(ylabel='mIoU', ylim=(0, 1))
            figures.in_percent(axis.yaxis)
        elif row == 'drops':
            dropped = np.add.reduceat(~frames.labelled, starts, dtype=np.int64)
            some = dropped > 0
            axis.bar(
                times[some], (dropped / sizes)[some], _widths(times)[some], color=SECOND,
                edgecolor=SECOND, linewidth=0.5)
            axis.set(ylabel='not labelled', ylim=(0, 1), yticks=(0, 1))
            figures.in_percent(axis.yaxis)
        else:
            _line_and_range(axis, frames.latency_ms, starts, times, SECOND)
            axis.set_ylabel('latency, ms')
            axis.set_ylim(bottom=0)
    _time_axis(axes[-1], frames)
    figure.align_ylabels()
    return figure


@matplotlib.rc_context(figures.STYLE)
def timeline_of_change(before: Frames, after: Frames) -> Figure:
    """Draw the change of mIoU along the drive, in points, from the same frames in two runs."""
    starts, times = _points(before)
    change = 100 * (_miou(after, starts) - _miou(before, starts))
    figure, (axes,) = figures.blank(9.6, 2.4)
    width = np.median(np.diff(times)) if len(times) > 1 else 1.0
    for sign, color in ((change >= 0, ACCENT), (change < 0, SECOND)):
        axes.bar(times[sign], change[sign], width, color=color, edgecolor=color, linewidth=0.3)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set_ylabel('change of mIoU, points')
    _time_axis(axes, before)
    return figure


def _widths(times: np.ndarray) -> np.ndarray:
    steps = np.diff(times)
    return np.append(steps, steps[-1:] if len(steps) else 1.0)


def _points(frames: Frames) -> tuple[np.ndarray, np.ndarray]:
    """Return where the groups of frames begin that become points, and the time of each group."""
    starts = np.unique(np.linspace(0, len(frames), _POINTS + 1).astype(int)[:-1])
    return starts, np.add.reduceat(frames.seconds, starts) / np.diff([*starts, len(frames)])


def _miou(frames: Frames, starts: np.ndarray) -> np.ndarray:
    """Return the mIoU of groups of frames, from their counts, as everywhere."""
    return _mean(iou(*(
        np.add.reduceat(count, starts, axis=0) for count in (
            frames.true_positive, frames.truth_pixels, frames.label_pixels))))


def _time_axis(axes: Axes, frames: Frames) -> None:
    axes.set_xlabel(f'frame ({frames.breaks})' if frames.breaks else 'seconds')
    first, last = frames.seconds[[0, -1]]
    axes.set_xlim(first, max(last, first + 1e-3))


def _line_and_range(
    axes: Axes, values: np.ndarray, starts: np.ndarray, times: np.ndarray, color: str,
    line: np.ndarray | None = None,
) -> None:
    groups = np.split(values, starts[1:])
    if line is None:
        line = np.array([_mean(group) for group in groups])
    if len(starts) < len(values):
        low = np.array([np.min(group[np.isfinite(group)], initial=np.inf) for group in groups])
        high = np.array([np.max(group[np.isfinite(group)], initial=-np.inf) for group in groups])
        axes.fill_between(
            times, low, high, where=low <= high, color=color, alpha=0.25, linewidth=0)
    axes.plot(times, line, color=color, linewidth=1.2)
    # Alone between gaps, a point of a line would not be seen.
    known = np.isfinite(line)
    alone = known & ~np.append(known[1:], False) & ~np.insert(known[:-1], 0, False)
    axes.plot(times[alone], line[alone], '.', color=color, markersize=3)


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis of what is not NaN, NaN where there is nothing."""
    known = np.isfinite(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0).sum(axis=-1)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)
