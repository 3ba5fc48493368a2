# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""
Arithmetic in 8 bits, with ranges recorded on real images.

The convolutions' inputs and weights are rounded to 256 steps in the network itself; an engine that
knows int8 turns these roundings into int8 arithmetic. Weights are symmetric for each output
channel, inputs have one range for a convolution: from zero if they follow a ReLU, else symmetric
(Jacob et al., CVPR 2018).
"""

from __future__ import annotations

from typing import Iterable
from typing import Mapping

import torch
from torch import nn

from lmii_ros.engines import EngineError

QUANTILE = 0.9999
"""Share of an input's values that its range has room for; the rest is clipped."""
MAX_SAMPLES = 20_000
"""Values of an input that are looked at in each image, evenly spaced."""


def observe(
    network: nn.Module, images: Iterable[torch.Tensor],
) -> dict[str, tuple[float, float]]:
    """
    Run a network on images and return the range of each convolution's input, by its name.

    Left out are convolutions of the image itself, and of a single pixel: gates from averages over
    the image, which cost nothing and set the weight of whole channels.

    :param network: With folded batch normalisation.
    :param images: What it takes.
    """
    ranges: dict[str, tuple[float, float]] = {}

    def record(name: str, x: torch.Tensor) -> None:
        if x.shape[-2:].numel() == 1:
            return
        values = x.flatten()
        values = values[::1 + values.numel() // MAX_SAMPLES].float()
        low, high = torch.quantile(
            values, torch.tensor([1 - QUANTILE, QUANTILE])).tolist()
        before = ranges.get(name, (low, high))
        ranges[name] = min(low, before[0]), max(high, before[1])

    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: record(name, inputs[0]))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.in_channels > 3]
    try:
        with torch.inference_mode():
            for image in images:
                network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return ranges


def quantize(network: nn.Module, ranges: Mapping[str, tuple[float, float]]) -> None:
    """
    Make a network round what :func:`observe` has recorded, in place.

    :raises EngineError: If a range is not of a convolution of this network.
    """
    modules = dict(network.named_modules())
    for name, (low, high) in ranges.items():
        if not isinstance(modules.get(name), nn.Conv2d):
            raise EngineError(f'the activation range {name} is of no convolution of the network')
        parent, _, child = name.rpartition('.')
        setattr(modules[parent], child, QuantizedConv2d(modules[name], low, high))


class QuantizedConv2d(nn.Module):
    """
    A convolution whose input and weights are rounded to 8 bits.

    :param conv: The convolution.
    :param low: Lowest value of the input, not clipped.
    :param high: Highest value.
    """

    def __init__(self, conv: nn.Conv2d, low: float, high: float) -> None:
        super().__init__()
        self.conv = conv
        self.signed = low < 0
        largest = max(-low, high, 1e-6)
        self.register_buffer('scale', torch.tensor(largest / (127 if self.signed else 255)))
        self.register_buffer(
            'weight_scale', (conv.weight.detach().abs().amax((1, 2, 3)) / 127).clamp_min(1e-9))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.fake_quantize_per_tensor_affine(
            x, float(self.scale), 0, *((-128, 127) if self.signed else (0, 255)))
        weight = torch.fake_quantize_per_channel_affine(
            self.conv.weight, self.weight_scale, torch.zeros_like(
                self.weight_scale, dtype=torch.int32), 0, -127, 127)
        return self.conv._conv_forward(x, weight, self.conv.bias)
