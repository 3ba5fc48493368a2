# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The look of figures, and how they become SVG for a page in light and dark, or PNG."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

# The colours of the page in light, of which no two are too alike with any colour blindness
# (after Okabe and Ito). In an SVG each is replaced by the page's CSS variable of that name, so
# odd values: no class colour should be one of these.
INK = '#17191e'
MUTED = '#5b6371'
LINE = '#d8dde5'
CARD = '#fffffe'
ACCENT = '#0a6fb5'
SECOND = '#c9490b'
_VARIABLES = {
    INK: 'ink', MUTED: 'muted', LINE: 'line', CARD: 'card', ACCENT: 'accent', SECOND: 'second'}
_LETTERS = 24
STYLE = {
    'axes.axisbelow': True,
    'axes.edgecolor': LINE,
    'axes.facecolor': 'none',
    'axes.grid': True,
    'axes.labelcolor': MUTED,
    'axes.spines.right': False,
    'axes.spines.top': False,
    'figure.dpi': 160,
    'figure.facecolor': CARD,
    'font.family': 'DejaVu Sans',
    'font.size': 8.5,
    'grid.color': LINE,
    'grid.linewidth': 0.6,
    'legend.frameon': False,
    'lines.linewidth': 1.4,
    'svg.fonttype': 'none',
    'text.color': INK,
    'xtick.color': MUTED,
    'xtick.labelcolor': MUTED,
    'xtick.major.size': 0,
    'ytick.color': MUTED,
    'ytick.labelcolor': MUTED,
    'ytick.major.size': 0,
}
"""Of all figures, for :func:`matplotlib.rc_context`."""


def blank(
    width: float, height: float, rows: tuple[float, ...] = (1.0,),
) -> tuple[Figure, tuple[Axes, ...]]:
    """
    Return a figure without content and its axes, from top to bottom, over the same x axis.

    Call it, and draw, in :data:`STYLE`.

    :param width: In inches, as is the height; on a phone some 5 of them are all there is.
    :param rows: Relative heights of the axes.
    """
    figure = Figure(figsize=(width, height), layout='constrained')
    axes = figure.subplots(
        len(rows), sharex=True, squeeze=False, gridspec_kw={'height_ratios': rows})
    return figure, tuple(axes[:, 0])


def in_percent(*axes: Axis) -> None:
    """Write the numbers of axes, shares of 0..1, in percent."""
    for axis in axes:
        axis.set_major_formatter(PercentFormatter(1, decimals=None))


def svg(figure: Figure, name: str) -> str:
    """
    Return a figure as an SVG element for a page that has the CSS variables and its own font.

    The same figure gives the same text.

    :param name: Of the figure, unique on the page.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, 'svg.hashsalt': name}), warnings.catch_warnings():
        # The browser has other fonts to take a character from.
        warnings.filterwarnings('ignore', message='Glyph .* missing from')
        figure.savefig(buffer, format='svg', metadata={'Date': None}, facecolor='none')
    text = buffer.getvalue()
    text = text[text.index('<svg'):]
    text = re.sub(r'<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->', '', text, flags=re.S)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    text = re.sub(
        r' id="([^"]*)"', lambda match: match[0] if match[1] in used else '', text)
    text = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        r'<svg viewBox="\1" aria-hidden="true" focusable="false">', text, count=1)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f'var(--{variable})')
    text = re.sub(r'(font(?:-family)?: [^;"]*?)\'DejaVu Sans\'[^;"]*', r'\1var(--font)', text)
    return re.sub(r'\s*\n\s*', '\n', text)


def png(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file."""
    with matplotlib.rc_context(STYLE):
        figure.savefig(path, format='png', metadata={'Software': None})


def plain(text: str) -> str:
    """Return a text that matplotlib draws as it is, dollars and all, on one line, not too long."""
    line = ' '.join(text.split())
    short = line if len(line) <= _LETTERS else f'{line[:_LETTERS - 1]}…'
    return short.replace('$', r'\$')
