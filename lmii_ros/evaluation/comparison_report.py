# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The page of a comparison: one HTML file that needs nothing else."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from lmii_ros.evaluation import page
from lmii_ros.evaluation import figures
from lmii_ros.evaluation import plots
from lmii_ros.evaluation import timelines
from lmii_ros.evaluation.comparison import RESAMPLES
from lmii_ros.evaluation.comparison import Comparison
from lmii_ros.evaluation.result_folder import Results

_PICTURES = 12


def write(comparison: Comparison, path: Path) -> None:
    """
    Write a comparison as one HTML file that needs nothing else.

    :raises OSError: If it cannot be written.
    """
    path.write_text(page.render('compare.html.j2', **_values(comparison)), encoding='utf-8')


def _values(comparison: Comparison) -> dict[str, Any]:
    before, after = comparison.before, comparison.after
    worse, better = comparison.names('worse'), comparison.names('better')
    if worse:
        text = f'Significantly worse: {", ".join(worse)}.'
    else:
        text = 'Nothing is significantly worse.'
    if better:
        text += f' Significantly better: {", ".join(better)}.'
    known = [change for change in comparison.changes if not np.isnan(change.low)]
    drawn = {}
    if known:
        drawn['changes'] = plots.change_per_class(
            [change.name for change in known],
            *(100 * np.array([getattr(change, key) for change in known])
              for key in ('change', 'low', 'high')))
    if len(comparison.paired[0]) > 1:
        drawn['timeline'] = timelines.timeline_of_change(*comparison.paired)
    empty = not len(comparison.paired[0])
    return {
        'title': f'{after.directory.name} against {before.directory.name}',
        'runs': [
            ('A', str(before.directory), before.name, page.operating_point(before)),
            ('B', str(after.directory), after.name, page.operating_point(after))],
        'verdict': page.Verdict(
            'bad' if empty or worse else 'warn' if len(comparison.notes) > 1 else 'good',
            'There is nothing to compare.' if empty else text, comparison.notes),
        'comparison': comparison,
        'colors': dict(zip(before.classes.classes, map(page.color, before.classes.colors))),
        'others': _others(before, after),
        'points': _points(before, after),
        'figures': {
            name: Markup(figures.svg(figure, name)) for name, figure in drawn.items()},
        'pictures': _pictures(before, after),
        'resamples': RESAMPLES,
        'commands': [
            shlex.join(map(str, run.run.get('command') or [])) for run in (before, after)],
    }


def _others(before: Results, after: Results) -> list[tuple[str, str, str]]:
    """Return the scores that have no interval, of all frames of each run, as text."""
    rows = [('frames', *(f'{run.metrics["frames"]["total"]:,}' for run in (before, after))),
            ('labelled', *(f'{run.metrics["frames"]["labelled"]:,}' for run in (before, after)))]
    for name, group, key, digits in (
            ('drivable precision', 'drivable', 'precision', 2),
            ('drivable recall', 'drivable', 'recall', 2),
            ('boundary F', 'drivable', 'boundary_f', 2),
            ('flips', 'temporal', 'flip_rate', 2),
            ('calibration error', 'calibration', 'ece', 2)):
        values = [(run.metrics['scores'].get(group) or {}).get(key) for run in (before, after)]
        if values != [None, None]:
            rows.append((name, *(page.percent(value, digits) for value in values)))
    latencies = [page.latency_percentiles(run) for run in (before, after)]
    for name in ('p50', 'p90', 'p99'):
        if any(name in latency for latency in latencies):
            rows.append((f'latency {name}', *(
                f'{latency[name]:.3g} ms' if name in latency else '–' for latency in latencies)))
    return rows


def _points(before: Results, after: Results) -> list[tuple[str, str, str]]:
    sides = [
        dict(page.flat({
            **run.metrics['source'], **run.metrics['operating_point'],
            'machine': run.run.get('machine') or {}}))
        for run in (before, after)]
    names = dict.fromkeys([*sides[0], *sides[1]])
    return [(name, *(side.get(name, '–') for side in sides)) for name in names]


def _pictures(before: Results, after: Results) -> list[Any]:
    """Return the frames of which both runs have pictures, those that have lost most first."""
    old_pictures, new_pictures = (
        {(picture.get('bag', ''), picture['stamp_ns']): picture
         for picture in run.metrics.get('pictures') or []} for run in (before, after))
    pairs = [
        (picture, new_pictures[key]) for key, picture in old_pictures.items()
        if key in new_pictures]

    def change(pair: tuple[dict[str, Any], dict[str, Any]]) -> float:
        scores = [picture.get('miou') for picture in pair]
        return 0.0 if None in scores else scores[1] - scores[0]

    shown = []
    for old, new in sorted(pairs, key=change)[:_PICTURES]:
        images = [('camera', before, old, 'camera'), ('truth', before, old, 'truth'),
                  ('prediction of A', before, old, 'prediction'),
                  ('prediction of B', after, new, 'prediction')]
        shown.append(page.Picture(
            before.place(old),
            f'mIoU {page.percent(old.get("miou"))} → {page.percent(new.get("miou"))}',
            tuple((kind, page.data_uri(run.directory / picture[key]))
                  for kind, run, picture, key in images
                  if picture.get(key) and (run.directory / picture[key]).is_file())))
    return shown
