# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The report of an evaluation: one HTML file that needs nothing else."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from lmii_ros import metrics
from lmii_ros.classes import ClassTable
from lmii_ros.evaluation import page
from lmii_ros.evaluation import figures
from lmii_ros.evaluation import plots
from lmii_ros.evaluation import timelines
from lmii_ros.evaluation import result_folder
from lmii_ros.evaluation.result_folder import Results

FILE = 'report.html'
PICTURES = 12
"""Frames shown of each kind, the worst and the evenly spaced."""
_BINS = 40
_KINDS = ('camera', 'truth', 'prediction', 'difference')


@dataclass(frozen=True)
class Headline:
    """A number at the top of a page: its name, the number as text, and what is to be added."""

    name: str
    value: str
    note: str = ''


@dataclass(frozen=True)
class ClassScore:
    """A row of the table of classes; shares are 0..1, None where there is nothing to score."""

    name: str
    color: str
    drivable: bool
    iou: float | None
    precision: float | None
    recall: float | None
    share: float | None


def write(directory: str | Path) -> Path:
    """
    Write the report of a folder of results into it, and return its path.

    :raises ResultError: If the folder does not hold the results of an evaluation.
    :raises OSError: If the file cannot be written.
    """
    found = result_folder.read(directory)
    path = found.directory / FILE
    path.write_text(_html(found), encoding='utf-8')
    return path


def _html(found: Results) -> str:
    run = found.run
    return page.render(
        'report.html.j2',
        title=found.name,
        subtitle=page.operating_point(found),
        started=_time(run.get('started')),
        verdict=_verdict(found),
        headlines=_headlines(found),
        classes=_class_scores(found.counts.confusion, found.classes),
        temporal={'flip_rate': None, 'truth_flip_rate': None} | (
            found.metrics['scores'].get('temporal') or {}),
        figures=_figures(found),
        latency=page.latency_percentiles(found),
        live=bool(np.isfinite(found.frames.latency_ms).any()),
        dropped=found.metrics['frames'].get('dropped') or {},
        total=found.metrics['frames']['total'],
        legend=list(zip(found.classes.classes, map(page.color, found.classes.colors))),
        pictures=_pictures(found),
        source=list(page.flat(found.metrics['source'])),
        point=list(page.flat(found.metrics['operating_point'])),
        machine=list(page.flat(run.get('machine') or {})),
        timing=[
            (name, f'{run[key]:.2f} {unit}') for name, key, unit in (
                ('preparing the engine', 'prepare_s', 's'), ('network', 'network_s', 's'),
                ('wall time', 'wall_s', 's'), ('frames per second', 'frames_per_s', ''))
            if isinstance(run.get(key), (int, float))],
        command=shlex.join(map(str, run.get('command') or [])),
    )


def _verdict(found: Results) -> page.Verdict:
    frames = found.metrics['frames']
    total, labelled = frames['total'], frames['labelled']
    truth = frames.get('truth') or {}
    matched = truth.get('exact', 0) + truth.get('nearest', 0)
    faults = tuple(map(str, found.metrics.get('faults') or []))
    if labelled == total:
        text = f'All {total:,} frames were labelled'
    else:
        text = f'{labelled:,} of {total:,} frames were labelled ({page.percent(labelled / total)})'
    if found.metrics['source'].get('labels_topic') is None:
        text += '; there is no ground truth to score them against'
    elif not matched:
        text += '; none has a ground truth'
    elif matched == total == truth.get('exact'):
        text += ', each with a ground truth of its own stamp'
    else:
        text += f'; {matched:,} have a ground truth'
        if truth.get('nearest'):
            text += f', {truth["nearest"]:,} of them the nearest by stamp'
    if not labelled:
        level = 'bad'
    else:
        level = 'warn' if faults or labelled < total else 'good'
    return page.Verdict(level, f'{text}.', faults)


def _headlines(found: Results) -> list[Headline]:
    scores = found.metrics['scores']
    drivable = scores.get('drivable') or {}
    temporal = scores.get('temporal') or {}
    latency = page.latency_percentiles(found)
    live = np.isfinite(found.frames.latency_ms).any()
    lines = [
        ('mIoU', scores.get('miou'), 'mean over the classes'),
        ('pixel accuracy', scores.get('pixel_accuracy'), ''),
        ('drivable IoU', drivable.get('iou'), 'of the area connected to the vehicle'),
        ('drivable precision', drivable.get('precision'), 'of what was called drivable, is'),
        ('drivable recall', drivable.get('recall'), 'of what is drivable, was found'),
        ('boundary F', drivable.get('boundary_f'), 'how well its outline fits'),
        ('flips', temporal.get('flip_rate'), 'pixels that change label from frame to frame'),
        ('calibration error', (scores.get('calibration') or {}).get('ece'), 'ECE, less is better'),
    ]
    shown = [
        Headline(name, page.percent(value), note) for name, value, note in lines
        if value is not None]
    if latency:
        name, value = list(latency.items())[-1]
        shown.append(Headline(
            f'latency {name}', f'{value:.3g} ms',
            'from capture to label' if live else 'of the network, a frame'))
    return shown


def _class_scores(confusion: np.ndarray, classes: ClassTable) -> list[ClassScore]:
    if not confusion.any():
        return []
    hits = np.diag(confusion)
    truth = confusion.sum(axis=1)
    labelled = confusion[:, :len(classes)].sum(axis=0)
    iou = metrics.iou(hits, truth, labelled)

    def share(part: np.ndarray, whole: np.ndarray) -> list[float | None]:
        return [int(a) / int(b) if b else None for a, b in zip(part, whole)]

    return [
        ClassScore(name, page.color(rgb), name in classes.drivable, *numbers)
        for name, rgb, *numbers in zip(
            classes.classes, classes.colors, (None if np.isnan(x) else float(x) for x in iou),
            share(hits, labelled), share(hits, truth),
            share(truth, np.full_like(truth, truth.sum())))]


def _figures(found: Results) -> dict[str, Markup]:
    counts = found.counts
    drawn = {}
    if counts.confusion.any():
        drawn['confusion'] = plots.confusion_matrix(counts.confusion, found.classes)
    if counts.confidence[0].any():
        precision, recall = metrics.precision_recall(counts)
        published = metrics.drivable_scores(counts)
        drawn['drivable'] = plots.precision_recall(
            precision, recall, (published.precision, published.recall))
    if counts.calibration.any():
        drawn['calibration'] = plots.calibration(
            counts.calibration[0], *metrics.reliability(counts))
    histogram = _latency_histogram(found)
    if histogram is not None:
        drawn['latency'] = plots.latency_histogram(*histogram, page.latency_percentiles(found))
    frames = found.frames
    if len(frames) > 1 and (
            frames.scored.any() or not frames.labelled.all()
            or np.isfinite(frames.latency_ms).any()):
        drawn['timeline'] = timelines.timeline(frames)
    return {name: Markup(figures.svg(figure, name)) for name, figure in drawn.items()}


def _latency_histogram(found: Results) -> tuple[np.ndarray, np.ndarray] | None:
    live = found.frames.latency_ms[np.isfinite(found.frames.latency_ms)]
    if len(live):
        return np.histogram(live, _BINS)
    histogram = (found.run.get('latency_ms') or {}).get('histogram')
    if not histogram or not any(histogram['counts']):
        return None
    counts, edges = np.array(histogram['counts']), np.array(histogram['edges'])
    used = np.flatnonzero(counts)
    return counts[used[0]:used[-1] + 1], edges[used[0]:used[-1] + 2]


def _pictures(found: Results) -> dict[str, list[page.Picture]]:
    """Return the worst frames, the worst first, and those along the drive."""
    pictures = found.metrics.get('pictures') or []
    worst, even = (
        [picture for picture in pictures if picture['why'] == why] for why in ('worst', 'even'))
    worst.sort(key=lambda picture: picture['miou'] or 0.0)
    return {
        why: [_picture(found, picture) for picture in some[:PICTURES]]
        for why, some in (('worst', worst), ('even', even))}


def _picture(found: Results, picture: dict[str, Any]) -> page.Picture:
    score = picture.get('miou')
    return page.Picture(
        found.place(picture),
        '' if score is None else f'mIoU {page.percent(score)}',
        tuple(
            (kind, page.data_uri(found.directory / picture[kind])) for kind in _KINDS
            if picture.get(kind) and (found.directory / picture[kind]).is_file()))


def _time(started: object) -> str:
    try:
        return f'{datetime.fromisoformat(str(started).replace("Z", "+00:00")):%d %B %Y, %H:%M} UTC'
    except ValueError:
        return ''
