# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Plots of scores and latency."""

from __future__ import annotations

from typing import Sequence

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lmii_ros.classes import ClassTable
from lmii_ros.evaluation import figures
from lmii_ros.evaluation.figures import ACCENT
from lmii_ros.evaluation.figures import CARD
from lmii_ros.evaluation.figures import INK
from lmii_ros.evaluation.figures import MUTED
from lmii_ros.evaluation.figures import SECOND

_NUMBERED_CLASSES = 25
"""Above this many classes a confusion matrix has no room for numbers."""
_CELL = 0.34
"""Of a confusion matrix, in inches."""
# Transparent where there is nothing, so that it fits light and dark pages.
_SHADES = LinearSegmentedColormap.from_list(
    'shades', [to_rgba(ACCENT, 0.0), to_rgba(ACCENT, 1.0)])


@matplotlib.rc_context(figures.STYLE)
def confusion_matrix(confusion: np.ndarray, classes: ClassTable) -> Figure:
    """
    Draw which class the pixels of each true class were given, in percent of the true class.

    :param confusion: int64 [classes, classes + 1] of :func:`lmii_ros.metrics.confusion`.
    """
    number = len(classes)
    totals = confusion.sum(axis=1, keepdims=True)
    share = np.divide(
        confusion, totals, out=np.full(confusion.shape, np.nan), where=totals > 0)
    names = [figures.plain(name) for name in classes.classes]
    columns = [*names, 'unknown'] if confusion[:, number].any() else names
    share = share[:, :len(columns)]
    numbered = number <= _NUMBERED_CLASSES
    cell = _CELL if numbered else _CELL * _NUMBERED_CLASSES / number
    figure, (axes,) = figures.blank(1.3 + cell * len(columns), 1.2 + cell * number)
    axes.grid(False)
    axes.pcolormesh(
        share, cmap=_SHADES, vmin=0, vmax=1, edgecolor=CARD,
        linewidth=1.2 if numbered else 0, rasterized=not numbered)
    size = 8.5 if numbered else max(2.0, 72 * cell * 0.8)
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=90, fontsize=size)
    axes.set_yticks(np.arange(number) + 0.5, names, fontsize=size)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position('top')
    axes.set_xlabel('labelled as')
    axes.set_ylabel('truth')
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    if numbered:
        for (row, column), value in np.ndenumerate(share):
            if value >= 0.005:
                axes.text(
                    column + 0.5, row + 0.5, f'{100 * value:.0f}', ha='center', va='center',
                    fontsize=8, color=CARD if value > 0.7 else INK)
    return figure


@matplotlib.rc_context(figures.STYLE)
def precision_recall(
    precision: np.ndarray, recall: np.ndarray, published: tuple[float, float],
) -> Figure:
    """
    Draw precision over recall of the drivable area for all thresholds of its confidence.

    :param precision: As of :func:`lmii_ros.metrics.precision_recall`, as is `recall`.
    :param published: Precision and recall of the area that the node publishes.
    """
    figure, (axes,) = figures.blank(4.6, 3.2)
    axes.plot(recall, precision, color=ACCENT, label='by confidence')
    axes.plot(
        *published[::-1], 'o', color=SECOND, markersize=6, label='published area', clip_on=False,
        zorder=3)
    # Good networks are in the corner: the axes begin not far from it.
    low = max(0.0, np.floor(10 * np.nan_to_num(min(published)) - 1) / 10)
    axes.set(xlim=(low, 1), ylim=(low, 1), xlabel='recall', ylabel='precision')
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)))
    figures.in_percent(axes.xaxis, axes.yaxis)
    axes.legend(loc='lower left')
    return figure


@matplotlib.rc_context(figures.STYLE)
def calibration(pixels: np.ndarray, confidence: np.ndarray, accuracy: np.ndarray) -> Figure:
    """
    Draw how often a pixel is right by how sure the network was, and how many are how sure.

    :param pixels: Pixels by bin of confidence, [bins]; the bins are equal parts of 0..1.
    :param confidence: Their mean confidence (0..1), NaN for empty bins; `accuracy` likewise.
    """
    figure, (upper, lower) = figures.blank(
        4.6, 3.6, (3, 1))
    width = 1 / len(pixels)
    centres = (np.arange(len(pixels)) + 0.5) * width
    upper.plot([0, 1], [0, 1], '--', color=MUTED, linewidth=1, label='perfectly calibrated')
    upper.bar(centres, np.nan_to_num(accuracy), 0.9 * width, color=ACCENT, alpha=0.3)
    upper.plot(
        confidence, accuracy, 'o-', color=ACCENT, markersize=3.5, label='this network',
        clip_on=False)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel='pixels right')
    upper.legend(loc='upper left')
    lower.bar(centres, pixels / max(1, pixels.sum()), 0.9 * width, color=ACCENT, alpha=0.55)
    lower.set(xlabel='confidence', ylabel='of pixels')
    lower.yaxis.set_major_locator(MaxNLocator(3))
    figures.in_percent(lower.xaxis, upper.yaxis, lower.yaxis)
    return figure


@matplotlib.rc_context(figures.STYLE)
def latency_histogram(counts: np.ndarray, edges: np.ndarray, marks: dict[str, float]) -> Figure:
    """
    Draw how many frames took how long.

    :param counts: Frames by bin, [bins].
    :param edges: Of the bins, in milliseconds, [bins + 1].
    :param marks: Names of percentiles and their values in milliseconds.
    """
    figure, (axes,) = figures.blank(4.6, 2.6)
    axes.bar(edges[:-1], counts, np.diff(edges), align='edge', color=ACCENT, alpha=0.55)
    top = 1.35 * counts.max()
    axes.set_ylim(0, top)
    for row, (name, value) in enumerate(marks.items()):
        axes.axvline(value, color=SECOND, linewidth=1)
        late = value > 0.6 * edges[-1] + 0.4 * edges[0]
        axes.annotate(
            f'{figures.plain(name)} {value:.3g} ms', (value, top * (1 - 0.09 * row)),
            (-3 if late else 3, 0), textcoords='offset points', va='top',
            ha='right' if late else 'left')
    axes.grid(axis='x', visible=False)
    axes.set(xlim=(edges[0], edges[-1]), xlabel='milliseconds', ylabel='frames')
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    return figure


@matplotlib.rc_context(figures.STYLE)
def change_per_class(
    names: Sequence[str], change: np.ndarray, low: np.ndarray, high: np.ndarray,
) -> Figure:
    """
    Draw the change of each score with its interval, all in points (0..100).

    :param names: Of the scores, from top to bottom.
    :param change: float [scores]; the interval's ends `low` and `high` likewise.
    """
    figure, (axes,) = figures.blank(5.0, 0.7 + 0.27 * len(names))
    axes.axvline(0, color=MUTED, linewidth=1)
    for row, (middle, left, right) in enumerate(zip(change, low, high)):
        sure = left > 0 or right < 0
        color = (ACCENT if middle > 0 else SECOND) if sure else MUTED
        axes.plot([left, right], [row, row], color=color, linewidth=2, solid_capstyle='round')
        axes.plot(
            [middle], [row], 'o', markersize=5.5, markeredgecolor=color,
            markerfacecolor=color if sure else CARD)
    axes.set_yticks(range(len(names)), [figures.plain(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis='y', visible=False)
    axes.set_xlabel('change in points, with 95 % interval')
    axes.margins(x=0.05)
    return figure
