# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A trained network that another one learns from."""

from __future__ import annotations

import torch
from torch import nn

from lmii_ros import weights
from lmii_ros.datasets import Dataset
from lmii_ros.networks.deployment import Normalization
from lmii_ros.segmenter import STRIDE
from lmii_ros.training.loss import resized
from lmii_ros.training.recipe import Recipe
from lmii_ros.training.recipe import RecipeError
from lmii_ros.weights import WeightInfo


class Teacher(nn.Module):
    """A network for frames as the data set has them, which it sees at its own scale."""

    def __init__(self, info: WeightInfo, network: nn.Module, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.normalize = Normalization(info.mean, info.std)
        self.network = network
        self.align_corners = network.align_corners

    @torch.no_grad()
    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the logits, float [N, classes, h, w], of frames, uint8 [N, H, W, 3]."""
        frames = self.normalize(frames)
        size = [
            max(STRIDE, STRIDE * round(self.scale * pixels / STRIDE))
            for pixels in frames.shape[-2:]]
        frames = resized(frames, size, align_corners=False)
        with torch.autocast(frames.device.type, torch.bfloat16):
            return self.network(frames.contiguous(memory_format=torch.channels_last))


def teacher_of(recipe: Recipe, training: Dataset, device: torch.device) -> Teacher | None:
    """
    Return the teacher that a recipe names, None if it names none.

    :raises RecipeError: If it has other classes than the data.
    """
    if not recipe.teacher:
        return None
    info, network = weights.load(weights.find(recipe.teacher))
    if info.classes.classes != training.classes.classes:
        raise RecipeError(
            f'teacher {recipe.teacher}: expected the classes of {training.classes.name}, found '
            f'those of {info.classes.name}')
    scale = info.input_size[0] / recipe.input_size[0]
    return Teacher(info, network, scale).eval().to(device, memory_format=torch.channels_last)
