# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The pipeline of the tutorials, written plainly: what all others are measured against."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from lmii_ros import weights
from lmii_ros.rendering import OPACITY


class NaivePipeline:
    """
    Frame to labels and overlay as it is usually written, on the CPU.

    NumPy normalises in float64, torch runs the network eagerly, all logits are resized to the
    frame before the largest is taken, and colours are looked up by indexing.

    :param weight_file: Path or name of a weight file.
    :param input_size: Height and width at which the network sees a frame.
    """

    def __init__(self, weight_file: str | Path, input_size: tuple[int, int]) -> None:
        self._info, self._network = weights.load(weights.find(weight_file))
        self._input_size = input_size
        self._palette = self._info.classes.palette()

    @torch.no_grad()
    def __call__(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return labels uint8 [H, W] and overlay uint8 [H, W, 3] RGB of a BGR frame."""
        height, width = self._input_size
        image = cv2.resize(frame, (width, height))[:, :, ::-1]
        pixels = (image / 255.0 - self._info.mean) / self._info.std
        batch = torch.from_numpy(pixels.transpose(2, 0, 1)).float()[None]
        logits = F.interpolate(
            self._network(batch), frame.shape[:2], mode='bilinear',
            align_corners=self._network.align_corners)
        labels = logits.argmax(1)[0].numpy().astype(np.uint8)
        colors = self._palette[labels]
        overlay = frame[:, :, ::-1] * (1 - OPACITY) + colors * OPACITY
        return labels, overlay.astype(np.uint8)
