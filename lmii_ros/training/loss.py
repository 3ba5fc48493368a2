# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""What training minimises."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lmii_ros.classes import UNKNOWN

TEMPERATURE = 2.0


def class_weights(frequencies: np.ndarray) -> np.ndarray:
    """Return 1 / log(1.1 + frequency) per class as float32 (ENet, arXiv 1606.02147)."""
    return (1 / np.log(1.1 + frequencies)).astype(np.float32)


class CrossEntropy(nn.Module):
    """
    Weighted cross entropy of the labelled pixels, of all or of the hardest.

    :param weights: float [classes].
    :param align_corners: How the logits are resized to the labels.
    :param hard_share: Share of the labelled pixels, those of the largest loss, that count (online
        hard example mining, arXiv 1604.03540).
    """

    def __init__(self, weights: torch.Tensor, align_corners: bool, hard_share: float = 1.0):
        super().__init__()
        self.register_buffer('weights', weights)
        self.align_corners = align_corners
        self.hard_share = hard_share

    def forward(
        self, logits: torch.Tensor, truth: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return the sum of the weighted losses, and of the weights, by which it is to be divided.

        Apart, since of a batch that is spread over processes only the sums may be added.

        :param logits: [N, classes, h, w].
        :param truth: int64 [N, H, W], UNKNOWN where there is nothing to learn.
        """
        logits = logits.float()
        if logits.shape[-2:] != truth.shape[-2:]:
            logits = F.interpolate(
                logits, truth.shape[-2:], mode='bilinear', align_corners=self.align_corners)
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
    teacher = F.interpolate(
        teacher.float(), logits.shape[-2:], mode='bilinear', align_corners=align_corners)
    divergence = F.kl_div(
        F.log_softmax(logits.float() / TEMPERATURE, 1), F.log_softmax(teacher / TEMPERATURE, 1),
        reduction='none', log_target=True)
    return TEMPERATURE ** 2 * divergence.sum(1).mean()
