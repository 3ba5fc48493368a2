# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The files of an evaluation, as docs/evaluation.md describes them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import Sequence

import numpy as np

from lmii_ros import metrics
from lmii_ros.classes import ClassTable
from lmii_ros.evaluation.tally import FrameTotals
from lmii_ros.evaluation.tally import known
from lmii_ros.metrics import Counts

if TYPE_CHECKING:
    # Reports are made of the files alone, without waiting for torch.
    from lmii_ros.segmenter import Segmenter

FORMAT = 1
METRICS = 'metrics.json'
FRAMES = 'frames.jsonl'
RUN = 'run.json'
LATENCY_STEP = 1.05
"""Factor between the edges of the latency histogram."""


def operating_point(segmenter: Segmenter) -> dict[str, Any]:
    """Return what the labels of a segmenter depend on."""
    return {
        'weights': segmenter.weight_file.name,
        'sha256': hashlib.sha256(segmenter.weight_file.read_bytes()).hexdigest(),
        'network': segmenter.info.network,
        'engine': segmenter.engine.name,
        'device': segmenter.engine.device,
        'precision': segmenter.engine.precision,
        'input_height': segmenter.input_height or segmenter.info.input_size[0],
    }


def metrics_document(
    source: dict[str, Any],
    point: dict[str, Any],
    classes: ClassTable,
    frames: FrameTotals,
    counts: Counts,
    pictures: Sequence[dict[str, Any]],
    faults: Sequence[str],
) -> dict[str, Any]:
    """
    Return the content of metrics.json.

    :param source: What was evaluated.
    :param point: Of :func:`operating_point`.
    :param classes: What the labels mean.
    :param frames: What became of the frames.
    :param counts: Of all frames with truth.
    :param pictures: Of :meth:`lmii_ros.evaluation.pictures.Pictures.write`.
    :param faults: One line each.
    """
    return {
        'format': FORMAT,
        'source': source,
        'operating_point': point,
        'classes': classes.to_dict(),
        'frames': frames.to_dict(),
        'counts': counts.to_dict(),
        'scores': scores(counts, classes),
        'pictures': list(pictures),
        'faults': list(faults),
    }


def scores(counts: Counts, classes: ClassTable) -> dict[str, Any]:
    """Return the scores of counts, each 0..1, or None where there is nothing to score."""
    overall = metrics.scores(counts.confusion)
    drivable = metrics.drivable_scores(counts)
    flip_rate, truth_flip_rate = metrics.flip_rates(counts)
    return {
        'miou': known(overall.miou),
        'pixel_accuracy': known(overall.pixel_accuracy),
        'iou': {name: known(iou) for name, iou in zip(classes.classes, overall.iou)},
        'drivable': {
            'iou': known(drivable.iou), 'precision': known(drivable.precision),
            'recall': known(drivable.recall), 'boundary_f': known(drivable.boundary_f)},
        'temporal': {'flip_rate': known(flip_rate), 'truth_flip_rate': known(truth_flip_rate)},
        'calibration': {'ece': known(metrics.calibration_error(counts))},
    }


def latency(seconds: Sequence[float]) -> dict[str, Any] | None:
    """Return the distribution of latencies, in milliseconds; None without any."""
    if not seconds:
        return None
    milliseconds = 1000 * np.asarray(seconds)
    low, high = milliseconds.min(), milliseconds.max()
    steps = max(1, int(np.ceil(np.log(high / low) / np.log(LATENCY_STEP))))
    edges = low * LATENCY_STEP ** np.arange(steps + 1)
    # The last bin holds the maximum, whatever the rounding.
    edges[-1] = max(edges[-1], high)
    counts, _ = np.histogram(milliseconds, edges)
    p50, p90, p99 = np.percentile(milliseconds, (50, 90, 99))
    return {
        'mean': float(milliseconds.mean()), 'p50': float(p50), 'p90': float(p90),
        'p99': float(p99), 'max': float(high),
        'histogram': {'edges': edges.tolist(), 'counts': counts.tolist()}}


def write(path: Path, document: dict[str, Any]) -> None:
    """Write a document as JSON, in one step: where it is, it is whole."""
    temporary = path.with_name(f'{path.name}.part')
    temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + '\n')
    temporary.replace(path)


def table(document: dict[str, Any]) -> str:
    """Return the scores of metrics.json as a table for a terminal."""
    values = document['scores']
    drivable = values['drivable']
    rows = [*values['iou'].items(), ('mIoU', values['miou'])]
    rows += [
        ('pixel accuracy', values['pixel_accuracy']),
        ('drivable IoU', drivable['iou']),
        ('  precision', drivable['precision']),
        ('  recall', drivable['recall']),
        ('  boundary F', drivable['boundary_f']),
        ('label flips', values['temporal']['flip_rate']),
        ('truth flips', values['temporal']['truth_flip_rate']),
        ('calibr. error', values['calibration']['ece'])]
    frames = document['frames']
    truth = frames['truth']
    lines = [
        f'{name:<16}' + ('     -' if value is None else f'{100 * value:6.2f} %')
        for name, value in rows]
    dropped = ', '.join(f'{count} {reason}' for reason, count in frames['dropped'].items())
    return '\n'.join([
        *lines,
        f'{frames["total"]} frames, {frames["labelled"]} labelled, dropped: {dropped or "none"}',
        'ground truth: {exact} exact, {nearest} nearest, {refused} refused; {unmatched_images} '
        'images and {unmatched_labels} label images without a match'.format(**truth)])


def write_report(out: Path) -> str:
    """Write the report beside the results, and return a line that says where, or why not."""
    try:
        from lmii_ros.evaluation import report
    except ModuleNotFoundError as error:
        return f'no report: the Python package {error.name} is not installed'
    return f'report: {report.write(out)}'


def fault(document: dict[str, Any], out: Path) -> str:
    """Return the faults of a metrics.json that has some as one line."""
    first, *more = document['faults']
    what = 'the bags' if 'bags' in document['source'] else 'the bag'
    return f'not all of {what} could be used: {first}' + (
        f'; and {len(more)} more, see {out / METRICS}' if more else '')
