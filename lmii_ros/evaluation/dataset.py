# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Accuracy on a data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lmii_ros import metrics
from lmii_ros.classes import ClassTable
from lmii_ros.datasets import Dataset
from lmii_ros.engines import PRECISIONS
from lmii_ros.engines import EngineError
from lmii_ros.engines import NonFiniteOutput
from lmii_ros.evaluation.tally import known
from lmii_ros.segmenter import Segmenter

LADDER = (0.25, 0.4, 0.55, 0.7, 0.85, 1.0, 1.25)


class EvaluationError(ValueError):
    """The data set cannot be evaluated with these weights."""


def evaluate(segmenter: Segmenter, dataset: Dataset) -> np.ndarray:
    """
    Label every image of a data set and count, at label resolution.

    :return: The counts of :func:`lmii_ros.metrics.confusion`, over all images.
    :raises EvaluationError: As :func:`evaluate_images`.
    """
    return evaluate_images(segmenter, dataset).sum(axis=0)


def evaluate_images(segmenter: Segmenter, dataset: Dataset) -> np.ndarray:
    """
    Label every image of a data set and count, at label resolution, image by image.

    :return: The counts of :func:`lmii_ros.metrics.confusion` of each image, int64
        [images, classes, classes + 1].
    :raises EvaluationError: If the network was trained for other classes, or an image and its
        labels differ in size.
    """
    classes = segmenter.info.classes
    check_classes(segmenter.weight_file, classes, dataset)
    counts = np.zeros((len(dataset), len(classes), len(classes) + 1), np.int64)
    for index in tqdm(range(len(dataset)), 'evaluate', disable=None):
        truth = dataset.truth(index)
        segmentation, = segmenter.segment([dataset.image(index)])
        if segmentation.labels.shape != truth.shape:
            raise EvaluationError(
                f'{dataset.images[index]} is {segmentation.labels.shape}, '
                f'its labels are {truth.shape}')
        counts[index] = metrics.confusion(segmentation.labels, truth, len(classes))
    return counts


def check_classes(weight_file: Path, classes: ClassTable, dataset: Dataset) -> None:
    """
    Raise if a weight file's classes are not those of a data set.

    :raises EvaluationError: With the first difference.
    """
    if classes.classes != dataset.classes.classes:
        raise EvaluationError(
            f'{weight_file} has the classes of {classes.name}, the data set those of '
            f'{dataset.classes.name}: {classes.difference(dataset.classes)}')


def miou_by_height(segmenter: Segmenter, dataset: Dataset) -> dict[int, float]:
    """
    Return the mIoU (0..1) at input heights around that of the training, for the weight file.

    The heights are the training's own and the multiples of 32 next to :data:`LADDER` times it.
    """
    trained = segmenter.info.input_size[0]
    heights = {
        trained, *(32 * max(1, round(trained * factor / 32)) for factor in LADDER)}
    result = {}
    for height in sorted(heights):
        segmenter.input_height = height
        result[height] = metrics.scores(evaluate(segmenter, dataset)).miou
    return result


def precision_loss(
    weight_file: Path, device: str, miou: float, dataset: Dataset,
) -> dict[str, float]:
    """
    Return the loss of mIoU (0..1) at each lower precision; print where it is not known, and why.

    :param device: Where fp16 is computed, as of :class:`lmii_ros.segmenter.Segmenter`.
    :param miou: That in fp32, at the input height of the training.
    """
    loss = {}
    for precision in PRECISIONS:
        if precision == 'fp32':
            continue
        # fp16 is for GPUs, and costs the same where torch computes it on a CPU. The others are
        # for CPUs, also of weights that are trained beside a GPU.
        engine, where = ('torch', device) if precision == 'fp16' else ('openvino', 'cpu')
        try:
            segmenter = Segmenter(weight_file, engine=engine, device=where, precision=precision)
            loss[precision] = miou - metrics.scores(evaluate(segmenter, dataset)).miou
        except (EngineError, NonFiniteOutput) as error:
            print(f'what {precision} costs was not measured: {error}')
    return loss


def table(counts: np.ndarray, classes: ClassTable) -> str:
    """Return the scores as a table for a terminal."""
    scores = metrics.scores(counts)
    rows = [(name, iou) for name, iou in zip(classes.classes, scores.iou)]
    rows += [('mIoU', scores.miou), ('pixel accuracy', scores.pixel_accuracy)]
    return '\n'.join(f'{name:<16}{100 * value:6.2f} %' for name, value in rows)


def to_json(counts: np.ndarray, classes: ClassTable) -> str:
    """Return the scores (0..1, null where there is nothing to score) and the counts as JSON."""
    scores = metrics.scores(counts)
    return json.dumps({
        'miou': known(scores.miou),
        'pixel_accuracy': known(scores.pixel_accuracy),
        'iou': {name: known(iou) for name, iou in zip(classes.classes, scores.iou)},
        'confusion': counts.tolist(),
    }, indent=1)
