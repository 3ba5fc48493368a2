# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Data sets: images with a label image each."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Sequence

import cv2
import numpy as np

from lmii_ros.classes import CAMVID
from lmii_ros.classes import UNKNOWN
from lmii_ros.classes import ClassTable

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')
CAMVID_VOID = 11
CAMVID_TERMS = (
    'Trained on CamVid, which is for research use; cite Brostow, Fauqueur, Cipolla, "Semantic '
    'object classes in video" (2009).')


class DatasetError(ValueError):
    """A data set is missing, incomplete or has labels out of range."""


@dataclass(frozen=True)
class Dataset:
    """
    Images and label images on disk.

    :param classes: What the label indices mean.
    :param images: Paths of the images.
    :param labels: Path of the label image of each, one class index a pixel.
    :param void: The label that stands for unknown in the label images.
    :param terms: What there is to know about the use of the data, for those who train on it.
    """

    classes: ClassTable
    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    void: int
    terms: str = ''

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> np.ndarray:
        """
        Return an image as uint8 [H, W, 3] in blue, green, red order.

        :raises DatasetError: If the file cannot be read.
        """
        return _read(self.images[index], cv2.IMREAD_COLOR)

    def truth(self, index: int) -> np.ndarray:
        """
        Return the labels of an image as uint8 [H, W], UNKNOWN where the truth is void.

        :raises DatasetError: If the file cannot be read or has a label that is no class.
        """
        path = self.labels[index]
        labels = _read(path, cv2.IMREAD_UNCHANGED)
        if labels.ndim != 2 or labels.dtype != np.uint8:
            raise DatasetError(f'{path}: expected 8-bit labels, one channel')
        labels[labels == self.void] = UNKNOWN
        wrong = (labels >= len(self.classes)) & (labels != UNKNOWN)
        if wrong.any():
            raise DatasetError(
                f'{path}: label {labels[wrong][0]} is none of the {len(self.classes)} classes '
                f'of {self.classes.name} nor void ({self.void})')
        return labels


def hold_out(dataset: Dataset, drives: Sequence[str]) -> tuple[Dataset, Dataset]:
    """
    Part a data set by drives, since images of one drive resemble each other.

    :param drives: How the file names of the drives begin, up to the first underscore.
    :return: The images of the other drives, and those of these.
    :raises DatasetError: If there is no image of one of them, or of any other.
    """
    found = [path.stem.partition('_')[0] for path in dataset.images]
    for drive in drives:
        if drive not in found:
            raise DatasetError(
                f'no image of drive {drive!r}; there are: {", ".join(sorted(set(found)))}')
    if set(found) == set(drives):
        raise DatasetError(f'no drive is left without {", ".join(drives)}')
    return tuple(
        replace(
            dataset,
            images=tuple(p for p, d in zip(dataset.images, found) if (d in drives) == held),
            labels=tuple(p for p, d in zip(dataset.labels, found) if (d in drives) == held))
        for held in (False, True))


def camvid(root: Path, split: str) -> Dataset:
    """
    Open CamVid in the folder layout of the SegNet tutorial.

    Folders ``train``, ``val``, ``test`` with images, and ``trainannot``, ``valannot``,
    ``testannot`` with labels of the same stem; 11 is void.

    :param root: Folder that holds these.
    :param split: Name of a folder, or several joined by ``+`` (``train+val``).
    :raises DatasetError: If a folder or a label image is missing.
    """
    images: list[Path] = []
    labels: list[Path] = []
    for name in split.split('+'):
        folder = Path(root) / name
        if not folder.is_dir():
            raise DatasetError(
                f'no folder {folder}; expected CamVid with folders {name} and {name}annot')
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise DatasetError(f'no images ({", ".join(IMAGE_SUFFIXES)}) in {folder}')
        for path in found:
            label = folder.with_name(f'{name}annot') / f'{path.stem}.png'
            if not label.is_file():
                raise DatasetError(f'no label image {label} for {path}')
            images.append(path)
            labels.append(label)
    return Dataset(CAMVID, tuple(images), tuple(labels), CAMVID_VOID, CAMVID_TERMS)


def _read(path: Path, flags: int) -> np.ndarray:
    image = cv2.imread(str(path), flags)
    if image is None:
        raise DatasetError(f'{path}: not a readable image')
    return image
