# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""
LPS-Net: parallel paths of plain convolutions, grown progressively for speed and accuracy.

Zhang, Yao, Qiu, Mei: "Lightweight and Progressively-Scalable Networks for Semantic
Segmentation", arXiv 2207.13600, IJCV 2023. Written from the paper's description and the facts
of its public code, which agree; the numbers of parameters and multiply-accumulates are those of
the official code (see the tests).

Only 3x3 convolutions with batch normalisation and ReLU: these reach the largest share of a
processor's peak (the paper's first principle). Up to three paths of the same layout see the image
at different sizes and exchange features by resizing and adding after stages 3 and 4.
"""

from __future__ import annotations

from typing import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from lmii_ros.networks.blocks import conv_norm_act
from lmii_ros.networks.blocks import init_weights

STAGES = 5

S = {
    'depths': (1, 3, 3, 10, 10), 'widths': (8, 24, 48, 96, 96), 'ratios': (0.75, 0.25)}
M = {
    'depths': (1, 3, 3, 10, 10), 'widths': (8, 24, 48, 96, 96), 'ratios': (1.0, 0.25)}
L = {
    'depths': (1, 3, 3, 10, 10), 'widths': (8, 24, 64, 160, 160), 'ratios': (1.0, 0.25)}


class LPSNet(nn.Module):
    """
    LPS-Net of any depth, width and resolution ratios.

    :param num_classes: Channels of the output.
    :param depths: Convolutions in each of the five stages, at least one.
    :param widths: Channels of each of the five stages.
    :param ratios: For each of one to three paths, the ratio in (0, 1] by which it sees the image
        resized, in any order.
    :raises ValueError: If the arguments do not describe such a network.
    """

    align_corners = True
    """How the logits are to be resized bilinearly, as they were in the paper's training."""

    def __init__(
        self,
        num_classes: int,
        depths: Sequence[int],
        widths: Sequence[int],
        ratios: Sequence[float],
    ) -> None:
        super().__init__()
        if len(depths) != STAGES or min(depths) < 1:
            raise ValueError(f'depths must be {STAGES} numbers of at least 1, got {list(depths)}')
        if len(widths) != STAGES or min(widths) < 1:
            raise ValueError(f'widths must be {STAGES} numbers of at least 1, got {list(widths)}')
        if not 1 <= len(ratios) <= 3 or not all(0 < ratio <= 1 for ratio in ratios):
            raise ValueError(f'ratios must be 1 to 3 numbers in (0, 1], got {list(ratios)}')
        self.ratios = tuple(sorted(ratios, reverse=True))
        self.paths = nn.ModuleList(_path(depths, widths) for _ in self.ratios)
        self.classifier = nn.Conv2d(widths[-1] * len(self.ratios), num_classes, 1)
        init_weights(self)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """
        Return the class logits of normalised images, at 1/16 of the first path's size.

        :param image: float [N, 3, H, W], of any H and W.
        :return: float [N, num_classes, h, w].
        """
        seen = tuple(image.shape[-2:])
        return self.forward_paths(*(
            image if size == seen else _resize(image, size) for size in self.input_sizes(seen)))

    def input_sizes(self, size: Sequence[int]) -> list[tuple[int, int]]:
        """Return height and width at which each path sees an image of a size."""
        return [_scaled(size, ratio) for ratio in self.ratios]

    def forward_paths(self, *images: torch.Tensor) -> torch.Tensor:
        """
        Return the same for the image as each path sees it.

        :param images: float [N, 3, h, w] each, at :meth:`input_sizes`, resized bilinearly with
            the corners aligned.
        """
        features = list(images)
        for stage in range(STAGES):
            features = [path[stage](x) for path, x in zip(self.paths, features)]
            if stage in (2, 3):
                # Not left out where two happen to be of one size, for a network that is traced
                # at one size runs at others.
                features = [
                    sum(other if other is x else _resize(other, x.shape[-2:])
                        for other in features)
                    for x in features]
        first, *others = features
        return self.classifier(torch.cat(
            [first, *(_resize(x, first.shape[-2:]) for x in others)], dim=1))


def _path(depths: Sequence[int], widths: Sequence[int]) -> nn.ModuleList:
    stages = nn.ModuleList()
    channels = 3
    for index, (depth, width) in enumerate(zip(depths, widths)):
        layers = []
        for layer in range(depth):
            stride = 2 if layer == 0 and index < STAGES - 1 else 1
            layers.append(
                conv_norm_act(channels, width, 3, nn.ReLU(inplace=True), stride=stride))
            channels = width
        stages.append(nn.Sequential(*layers))
    return stages


def _scaled(size: Sequence[int], ratio: float) -> tuple[int, int]:
    return max(1, int(size[0] * ratio)), max(1, int(size[1] * ratio))


def _resize(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    return F.interpolate(x, tuple(size), mode='bilinear', align_corners=True)
