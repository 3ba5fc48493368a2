# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Random changes of a training image that leave its labels true."""

from __future__ import annotations

import cv2
import numpy as np

from lmii_ros.classes import UNKNOWN


def crop(
    image: np.ndarray,
    labels: np.ndarray,
    size: tuple[int, int],
    crop_size: tuple[int, int],
    scale: tuple[float, float],
    rng: np.random.Generator,
    focus: tuple[int, int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Scale, shift and flip an image at random to a crop of fixed size.

    :param image: uint8 [H, W, 3].
    :param labels: uint8 [H, W].
    :param size: Height and width that the image just covers at scale 1.
    :param crop_size: Height and width of the crop.
    :param scale: Smallest and largest scale, drawn log-uniformly.
    :param focus: x and y of a pixel of the image that must be in the crop.
    :return: Image and labels of the crop; UNKNOWN where the crop reaches beyond the image.
    """
    height, width = crop_size
    fit = max(size[0] / image.shape[0], size[1] / image.shape[1])
    zoom = fit * np.exp(rng.uniform(*np.log(scale)))
    x, y = focus or (None, None)
    left = rng.uniform(*_offsets(width, zoom, image.shape[1], x))
    top = rng.uniform(*_offsets(height, zoom, image.shape[0], y))
    # Pixel centres lie at half coordinates, so that scale 1 is the plain resize of inference.
    matrix = np.array([
        [zoom, 0, left + 0.5 * zoom - 0.5],
        [0, zoom, top + 0.5 * zoom - 0.5]])
    if rng.random() < 0.5:
        matrix[0] = -matrix[0]
        matrix[0, 2] += width - 1
    image = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
    labels = cv2.warpAffine(
        labels, matrix, (width, height), flags=cv2.INTER_NEAREST, borderValue=UNKNOWN)
    return image, labels


def _offsets(
    crop_length: int, zoom: float, length: int, focus: int | None,
) -> tuple[float, float]:
    """Return the range of where in the crop the image may begin, along one axis."""
    slack = crop_length - zoom * length
    low, high = min(0, slack), max(0, slack)
    if focus is not None:
        center = zoom * (focus + 0.5)
        low, high = max(low, 0.5 - center), min(high, crop_length - 0.5 - center)
    return low, max(low, high)


def paste_classes(
    image: np.ndarray,
    labels: np.ndarray,
    other: np.ndarray,
    other_labels: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Paste the pixels of half the classes of another image onto an image (ClassMix, 2007.07936).

    Things are then seen before what they never stood before.

    :param image: uint8 [H, W, 3].
    :param labels: uint8 [H, W].
    :param other: uint8 [H, W, 3].
    :param other_labels: uint8 [H, W]; what is UNKNOWN there is not pasted.
    :return: Image and labels, new ones.
    """
    classes = np.unique(other_labels[other_labels != UNKNOWN])
    pasted = np.zeros(256, bool)
    pasted[rng.choice(classes, (len(classes) + 1) // 2, replace=False)] = True
    mask = pasted[other_labels]
    return np.where(mask[..., None], other, image), np.where(mask, other_labels, labels)


def vary_color(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """
    Change an image's exposure, contrast, colour cast and saturation, blur it or add noise.

    :param image: uint8 [H, W, 3].
    :param strength: 0 changes nothing, 1 a lot.
    """
    if strength == 0:
        return image
    gamma = np.exp(rng.normal(0, 0.3 * strength))
    saturation = np.exp(rng.normal(0, 0.5 * strength))
    contrast = np.exp(rng.normal(0, 0.3 * strength))
    cast = np.exp(rng.normal(0, 0.1 * strength, 3))
    brightness = rng.normal(0, 0.15 * strength)
    pixels = cv2.LUT(image, (np.linspace(0, 1, 256) ** gamma).astype(np.float32))
    middle = np.mean(cv2.mean(pixels)[:3])
    # Away from the grey of each pixel, then from that of the image: both in one matrix.
    saturate = saturation * np.eye(3) + (1 - saturation) / 3
    matrix = contrast * cast[:, None] * saturate
    shift = np.full((3, 1), (1 - contrast) * middle + brightness)
    pixels = cv2.transform(pixels, np.hstack([matrix, shift]))
    chance = rng.random()
    if chance < 0.2 * strength:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.5, 2.0))
    elif chance > 1 - 0.2 * strength:
        pixels += rng.normal(0, 0.05, pixels.shape).astype(np.float32)
    return cv2.convertScaleAbs(np.maximum(pixels, 0, out=pixels), alpha=255)
