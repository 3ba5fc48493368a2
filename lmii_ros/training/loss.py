# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""What training minimises."""

from __future__ import annotations

from typing import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lmii_ros.classes import UNKNOWN

TEMPERATURE = 2.0


def class_weights(frequencies: np.ndarray) -> np.ndarray:
    """Return 1 / log(1.1 + frequency) per class as float32 (ENet, arXiv 1606.02147)."""
    return (1 / np.log(1.1 + frequencies)).astype(np.float32)


def resized(logits: torch.Tensor, size: Sequence[int], align_corners: bool) -> torch.Tensor:
    """Return logits [N, classes, h, w] in fp32, resized bilinearly to a height and width."""
    logits = logits.float()
    if logits.shape[-2:] == tuple(size):
        return logits
    return F.interpolate(logits, size, mode='bilinear', align_corners=align_corners)


class CrossEntropy(nn.Module):
    """
    Weighted cross entropy of the labelled pixels, of all or of the hardest.

    :param weights: float [classes].
    :param hard_share: Share of the labelled pixels, those of the largest loss, that count (online
        hard example mining, arXiv 1604.03540).
    """

    def __init__(self, weights: torch.Tensor, hard_share: float = 1.0) -> None:
        super().__init__()
        self.register_buffer('weights', weights)
        self.hard_share = hard_share

    def forward(
        self, logits: torch.Tensor, truth: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return the sum of the weighted losses, and of the weights, by which it is to be divided.

        Apart, since of a batch that is spread over processes only the sums may be added.

        :param logits: float [N, classes, H, W].
        :param truth: int64 [N, H, W], UNKNOWN where there is nothing to learn.
        """
        if self.hard_share == 1:
            loss = F.cross_entropy(
                logits, truth, self.weights, ignore_index=UNKNOWN, reduction='sum')
            return loss, self.weights[truth[truth != UNKNOWN]].sum()
        losses = F.cross_entropy(
            logits, truth, self.weights, ignore_index=UNKNOWN, reduction='none')
        known = truth != UNKNOWN
        count = int(self.hard_share * known.sum())
        hardest, indices = losses[known].topk(count, sorted=False)
        return hardest.sum(), self.weights[truth[known][indices]].sum()


def missed_overlap(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """
    Return one less the mean IoU of the classes that occur, of probabilities in place of labels.

    Unlike cross entropy it weighs a rare class as much as a frequent one (Rahman and Wang:
    "Optimizing intersection-over-union in deep neural networks for image segmentation", ISVC
    2016).

    :param logits: float [N, classes, H, W].
    :param truth: int64 [N, H, W], UNKNOWN where there is nothing to learn.
    """
    classes = logits.shape[1]
    known = truth != UNKNOWN
    index = truth[known]
    probabilities = logits.movedim(1, -1)[known].softmax(1)
    hits = probabilities.gather(1, index[:, None])[:, 0]
    counts = torch.bincount(index, minlength=classes)
    overlap = torch.zeros(classes, device=logits.device).index_add(0, index, hits)
    union = probabilities.sum(0) + counts - overlap
    occurs = counts > 0
    return 1 - (overlap[occurs] / union[occurs]).mean() if occurs.any() else logits.sum() * 0


def distillation(
    logits: torch.Tensor, teacher: torch.Tensor, align_corners: bool,
) -> torch.Tensor:
    """
    Return the mean divergence of the classes' probabilities from a teacher's, softened.

    Hinton, Vinyals, Dean: "Distilling the knowledge in a neural network", arXiv 1503.02531.

    :param logits: [N, classes, h, w].
    :param teacher: The teacher's logits for the same images, of any height and width.
    :param align_corners: How the teacher's logits are resized.
    """
    teacher = resized(teacher, logits.shape[-2:], align_corners)
    divergence = F.kl_div(
        F.log_softmax(logits.float() / TEMPERATURE, 1), F.log_softmax(teacher / TEMPERATURE, 1),
        reduction='none', log_target=True)
    return TEMPERATURE ** 2 * divergence.sum(1).mean()
