# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Pictures of an evaluation on a data set: its confusion matrix, and the worst images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from lmii_ros import metrics
from lmii_ros import rendering
from lmii_ros.datasets import Dataset
from lmii_ros.evaluation import figures
from lmii_ros.evaluation import plots
from lmii_ros.segmenter import Segmenter

WORST = 10
CONFUSION_FILE = 'confusion.png'
WORST_FILE = 'worst.png'


def write(segmenter: Segmenter, dataset: Dataset, counts: np.ndarray, out: Path) -> None:
    """
    Write the confusion matrix and the ten images of the lowest mIoU, the worst first.

    Of each of these: camera, truth, prediction, difference as in
    :func:`lmii_ros.rendering.difference`.

    :param counts: Of :func:`lmii_ros.evaluation.dataset.evaluate_images`.
    :param out: An existing folder.
    :raises OSError: If a file cannot be written.
    """
    figures.png(
        plots.confusion_matrix(counts.sum(axis=0), dataset.classes), out / CONFUSION_FILE)
    miou = np.array([metrics.scores(of_image).miou for of_image in counts])
    worst = [index for index in np.argsort(miou, kind='stable') if not np.isnan(miou[index])]
    if worst:
        sheet = _sheet(segmenter, dataset, {int(index): miou[index] for index in worst[:WORST]})
        (out / WORST_FILE).write_bytes(cv2.imencode('.png', sheet)[1].tobytes())


def _sheet(segmenter: Segmenter, dataset: Dataset, miou: dict[int, float]) -> np.ndarray:
    palette = dataset.classes.palette()[:, ::-1].copy()
    rows, captions = [], []
    for index, value in miou.items():
        image, truth = dataset.image(index), dataset.truth(index)
        segmentation, = segmenter.segment([image])
        rows.append([
            image, rendering.colorize(truth, palette),
            rendering.colorize(segmentation.labels, palette),
            rendering.difference(segmentation.labels, truth)])
        captions.append(f'{dataset.images[index].name}   mIoU {100 * value:.2f} %')
    return rendering.contact_sheet(rows, captions)
