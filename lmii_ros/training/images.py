# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a network is shown in training: augmented images of a data set and synthetic scenes."""

from __future__ import annotations

import numpy as np
from torch.utils.data import Dataset as TorchDataset

from lmii_ros.classes import UNKNOWN
from lmii_ros.datasets import Dataset
from lmii_ros.datasets import DatasetError
from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import RoadScene
from lmii_ros.simulation import SimulatedFrame
from lmii_ros.training import augmentation
from lmii_ros.training.recipe import Recipe
from lmii_ros.training.weather import vary_weather

SYNTHETIC_SCENES = 64
SYNTHETIC_MOMENTS = 4


class TrainingImages(TorchDataset):
    """
    One epoch of augmented training images.

    What an image becomes depends on seed, epoch and index alone, so that a resumed run sees the
    same images.

    :param synthetic: What a share of the images is replaced by.
    :param frequencies: Share of each class in the labelled pixels, see :func:`frequencies`.
    """

    def __init__(
        self,
        dataset: Dataset,
        synthetic: list[SimulatedFrame],
        frequencies: np.ndarray,
        recipe: Recipe,
        epoch: int,
    ) -> None:
        self._dataset = dataset
        self._synthetic = synthetic
        self._frequencies = frequencies
        self._recipe = recipe
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        recipe = self._recipe
        rng = np.random.default_rng([recipe.seed, self._epoch, index])
        image, labels = self._crop(index, rng)
        if recipe.class_mix and rng.random() < recipe.class_mix:
            other = self._crop(int(rng.integers(len(self))), rng)
            image, labels = augmentation.paste_classes(image, labels, *other, rng)
        image = augmentation.vary_color(image, recipe.color, rng)
        if recipe.weather and rng.random() < recipe.weather:
            image = vary_weather(image, rng)
        return image, labels

    def _crop(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        recipe = self._recipe
        if rng.random() < recipe.synthetic_share:
            frame = self._synthetic[rng.integers(len(self._synthetic))]
            image, labels = frame.image, frame.labels
        else:
            image, labels = self._dataset.image(index), self._dataset.truth(index)
        focus = None
        if recipe.rare_crops and rng.random() < recipe.rare_crops:
            focus = _pixel_of_a_rare_class(labels, self._frequencies, rng)
        return augmentation.crop(
            image, labels, recipe.input_size, recipe.crop_size, recipe.scale, rng, focus)


def synthetic_frames(recipe: Recipe) -> list[SimulatedFrame]:
    """Draw the synthetic scenes once: making a scene takes longer than a training step."""
    if not recipe.synthetic_share:
        return []
    frames = []
    for index in range(SYNTHETIC_SCENES):
        rng = np.random.default_rng([recipe.seed, index])
        camera = PinholeCamera.from_fov(480, 360, horizontal_fov_deg=rng.uniform(45, 70))
        scene = RoadScene(seed=int(rng.integers(2 ** 31)), camera=camera)
        frames += [scene.render(time_s) for time_s in rng.uniform(0, 60, SYNTHETIC_MOMENTS)]
    return frames


def frequencies(dataset: Dataset) -> np.ndarray:
    """
    Return the share of each class in all labelled pixels.

    :return: float64 [classes].
    :raises DatasetError: If an image or its labels cannot be used.
    """
    counts = np.zeros(256, np.int64)
    for index in range(len(dataset)):
        truth = dataset.truth(index)
        if truth.shape != dataset.image(index).shape[:2]:
            raise DatasetError(
                f'{dataset.labels[index]} is {truth.shape}, not the size of '
                f'{dataset.images[index]}')
        counts += np.bincount(truth.ravel(), minlength=256)
    counts = counts[:len(dataset.classes)]
    return counts / max(counts.sum(), 1)


def _pixel_of_a_rare_class(
    labels: np.ndarray, frequencies: np.ndarray, rng: np.random.Generator,
) -> tuple[int, int] | None:
    """Return x and y of a pixel whose class is drawn by one over its frequency in the data."""
    present = np.unique(labels)
    present = present[present != UNKNOWN]
    if not len(present):
        return None
    odds = 1 / np.maximum(frequencies[present], 1e-6)
    chosen = rng.choice(present, p=odds / odds.sum())
    rows, columns = np.nonzero(labels == chosen)
    index = rng.integers(len(rows))
    return int(columns[index]), int(rows[index])
