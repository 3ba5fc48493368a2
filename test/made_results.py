# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Folders of results as docs/evaluation.md describes them, from made-up labels."""

from __future__ import annotations

import json

import cv2
from lmii_ros import metrics
from lmii_ros.classes import CAMVID
import numpy as np

SIZE = (36, 48)
ROAD = 3
RATE_HZ = 15
BINS = 15


def _blocks(rng, number):
    """Return labels in patches, as uint8 [H, W]."""
    return cv2.resize(
        rng.integers(0, number, (6, 8), np.uint8), SIZE[::-1], interpolation=cv2.INTER_NEAREST)


def make(
    folder, frames=60, *, classes=CAMVID, error=0.2, worse=None, dropped=(), live=False,
    truth=True, bag='drive', faults=(), pictures=4, seed=0, noise=1, first=0, machine='a machine',
):
    """
    Write the results of a drive in which labels are wrong at random.

    :param error: Share of patches that are labelled otherwise than the truth has it.
    :param worse: Name of a class whose pixels are never labelled right in half of the frames.
    :param dropped: Indices of frames that were not labelled.
    :param noise: Which labels are wrong depends on it, the truth does not.
    :param first: Index of the first frame, for drives that overlap in part.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'frames').mkdir(exist_ok=True)
    number = len(classes)
    confusion = np.zeros((number, number + 1), np.int64)
    lines, shown = [], []
    palette = classes.palette()[:, ::-1]
    for index in range(first, first + frames):
        # Of the frame's own, so that drives that overlap have the same truth.
        rng = np.random.default_rng([seed, index])
        true = _blocks(rng, number)
        luck = np.random.default_rng([seed, index, noise])
        wrong = _blocks(luck, 100) < 100 * error
        labels = np.where(wrong, _blocks(luck, number), true)
        if worse and index % 2:
            place = classes.classes.index(worse)
            labels[true == place] = (place + 1) % number
        stamp = 10**18 + index * 10**9 // RATE_HZ
        line = {
            'index': index - first, 'stamp_ns': stamp, 'status': 'labelled',
            'truth': 'exact' if truth else None, 'miou': None, 'true_positive': None,
            'truth_pixels': None, 'label_pixels': None, 'drivable': None}
        if index in dropped:
            line |= {'status': 'replaced by a newer frame', 'truth': None}
        elif truth:
            counts = metrics.confusion(labels, true, number)
            confusion += counts
            hits, truths, given = (
                np.diag(counts), counts.sum(axis=1), counts[:, :number].sum(axis=0))
            line |= {
                'miou': metrics.scores(counts).miou, 'true_positive': hits.tolist(),
                'truth_pixels': truths.tolist(), 'label_pixels': given.tolist(),
                'drivable': [int(x) for x in (
                    hits[ROAD], given[ROAD] - hits[ROAD], truths[ROAD] - hits[ROAD])]}
        if live and index not in dropped:
            line['latency_ms'] = float(20 + rng.gamma(2, 6))
        lines.append(line)
        if pictures and (index - first) % max(1, frames // pictures) == 0:
            grain = rng.integers(0, 256, (*SIZE, 3), np.uint8)
            images = {
                'camera': cv2.addWeighted(palette[true], 0.5, grain, 0.5, 0),
                'truth': palette[true], 'prediction': palette[labels],
                'difference': np.where((labels == true)[..., None], 255, (0, 0, 255))}
            picture = {
                'index': index - first, 'stamp_ns': stamp, 'miou': line['miou'],
                'why': 'worst' if len(shown) % 2 else 'even'}
            for kind, image in images.items():
                name = f'frames/{index:06}_{kind}.{"jpg" if kind == "camera" else "png"}'
                cv2.imwrite(str(folder / name), np.asarray(image, np.uint8))
                picture[kind] = name if truth or kind in ('camera', 'prediction') else None
            shown.append(picture)
    (folder / 'frames.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    (folder / 'metrics.json').write_text(json.dumps(_metrics(
        confusion, lines, shown, classes, bag, faults, truth), allow_nan=False))
    (folder / 'run.json').write_text(json.dumps({
        'format': 1, 'command': ['lmii', 'evaluate', 'bag', bag, '--out', str(folder.name)],
        'started': '2026-03-01T12:34:56+00:00', 'prepare_s': 1.5, 'network_s': 3.2,
        'wall_s': 3.6, 'frames_per_s': frames / 3.6,
        'latency_ms': {
            'mean': 12.1, 'p50': 11.8, 'p90': 14.0, 'p99': 19.5, 'max': 31.0,
            'histogram': {
                'edges': np.geomspace(1, 100, 31).tolist(),
                'counts': np.histogram(
                    np.random.default_rng(0).gamma(40, 0.3, frames),
                    np.geomspace(1, 100, 31))[0].tolist()}},
        'machine': {'processor': machine, 'cores': 2, 'versions': {'numpy': np.__version__}}}))
    return folder


def _metrics(confusion, lines, shown, classes, bag, faults, truth):
    scores = metrics.scores(confusion)
    drivable = np.sum(
        [line['drivable'] for line in lines if line['drivable']] or [[0] * 3], axis=0)
    hits, over, missed = (int(x) for x in drivable)
    reasons = [line['status'] for line in lines if line['status'] != 'labelled']
    labelled = len(lines) - len(reasons)
    level = np.arange(256)
    known = int(truth)
    pixels = known * np.arange(1, BINS + 1) ** 3
    return {
        'format': 1,
        'source': {
            'bag': bag, 'image_topic': '/camera/image_raw',
            'labels_topic': '/labels' if truth else None, 'tolerance_ms': 20.0},
        'operating_point': {
            'weights': 'lpsnet_s_camvid.safetensors', 'sha256': 'ab' * 32, 'network': 'lpsnet',
            'engine': 'torch', 'device': 'cpu', 'precision': 'fp32', 'input_height': 360},
        'classes': classes.to_dict(),
        'frames': {
            'total': len(lines), 'labelled': labelled,
            'dropped': {reason: reasons.count(reason) for reason in set(reasons)},
            'truth': {
                'exact': known * labelled, 'nearest': 0, 'refused': 0,
                'unmatched_images': 0, 'unmatched_labels': 0}},
        'counts': {
            'confusion': confusion.tolist(),
            'drivable': {
                'true_positive': hits, 'false_positive': over, 'false_negative': missed,
                'confidence': {
                    'drivable': (known * level ** 2).tolist(),
                    'other': (known * (255 - level) ** 2 // 5).tolist()}},
            'boundary': {
                'predicted': 1000 * known, 'predicted_matched': 800 * known,
                'truth': 900 * known, 'truth_matched': 700 * known},
            'temporal': {
                'pixels': 100000, 'flips': 2310, 'truth_pixels': 90000 * known,
                'truth_flips': 1800 * known},
            'calibration': {
                'pixels': pixels.tolist(),
                'correct': (pixels * np.linspace(0.1, 0.9, BINS)).astype(int).tolist(),
                'confidence': (
                    255 * pixels * (np.arange(BINS) + 0.5) / BINS).astype(int).tolist()}},
        'scores': {
            'miou': scores.miou if confusion.any() else None,
            'pixel_accuracy': scores.pixel_accuracy if confusion.any() else None,
            'iou': {
                name: None if np.isnan(value) else float(value)
                for name, value in zip(classes.classes, scores.iou)},
            'drivable': {
                'iou': _share(hits, hits + over + missed),
                'precision': _share(hits, hits + over),
                'recall': _share(hits, hits + missed),
                'boundary_f': 0.789 if truth else None},
            'temporal': {'flip_rate': 0.0231, 'truth_flip_rate': 0.02 if truth else None},
            'calibration': {'ece': 0.062 if truth else None}},
        'pictures': shown,
        'faults': list(faults)}


def _share(part, whole):
    return part / whole if whole else None
