# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""
Growth of a trained LPS-Net into a wider one that computes the same.

LPS-Net is scaled up one dimension at a time (arXiv 2207.13600). So that a step keeps what the
smaller network has learned, additional channels are copies of trained ones whose outgoing weights
are shared out among the copies (Net2WiderNet; Chen, Goodfellow, Shlens: "Net2Net", ICLR 2016).
"""

from __future__ import annotations

import torch
from torch import nn

from lmii_ros.networks.lpsnet import LPSNet
from lmii_ros.networks.lpsnet import STAGES


def widen(narrow: LPSNet, wide: LPSNet) -> None:
    """
    Give a network the function of a narrower one, in place.

    At equal ratios the logits are the same, in training too, until the first step. Copies receive
    different gradients, since the shares are drawn at random from torch's generator. At equal
    widths this is a plain copy; ratios may differ, as no weight depends on them.

    :param narrow: A trained network.
    :param wide: Network of the same number of paths, depths and classes, nowhere narrower.
    :raises ValueError: If it is anything else.
    """
    if len(narrow.paths) != len(wide.paths):
        raise ValueError(f'{len(narrow.paths)} paths cannot become {len(wide.paths)}')
    if narrow.classifier.out_channels != wide.classifier.out_channels:
        raise ValueError(
            f'{narrow.classifier.out_channels} classes cannot become '
            f'{wide.classifier.out_channels}')
    if _depths(narrow) != _depths(wide):
        raise ValueError(f'depths {_depths(narrow)} cannot become {_depths(wide)}')
    if any(old > new for old, new in zip(_widths(narrow), _widths(wide))):
        raise ValueError(f'widths {_widths(narrow)} cannot become {_widths(wide)}')
    sources = torch.arange(3)
    for stage, (old_width, new_width) in enumerate(zip(_widths(narrow), _widths(wide))):
        # Paths add up their features, so that a channel must mean the same in all of them.
        outputs = torch.cat([
            torch.arange(old_width), torch.randint(old_width, (new_width - old_width,))])
        for old_path, new_path in zip(narrow.paths, wide.paths):
            inputs = sources
            for old_block, new_block in zip(old_path[stage], new_path[stage]):
                _widen_conv(old_block[0], new_block[0], inputs, outputs)
                _widen_norm(old_block[1], new_block[1], outputs)
                inputs = outputs
        sources = outputs
    width = _widths(narrow)[-1]
    _widen_conv(
        narrow.classifier, wide.classifier,
        torch.cat([path * width + sources for path in range(len(narrow.paths))]),
        torch.arange(narrow.classifier.out_channels))


@torch.no_grad()
def _widen_conv(
    narrow: nn.Conv2d, wide: nn.Conv2d, inputs: torch.Tensor, outputs: torch.Tensor,
) -> None:
    """
    Copy a convolution's rows, and share out each column among the copies of its input.

    :param inputs: int64 [in_channels]: which old channel each new input is.
    :param outputs: int64 [out_channels]: the same of the outputs.
    """
    shares = torch.rand(len(outputs), len(inputs)) + 0.5
    totals = torch.zeros(len(outputs), narrow.in_channels).index_add_(1, inputs, shares)
    shares /= totals[:, inputs]
    wide.weight.copy_(narrow.weight[outputs][:, inputs] * shares[:, :, None, None])
    if narrow.bias is not None:
        wide.bias.copy_(narrow.bias[outputs])


def _widen_norm(narrow: nn.BatchNorm2d, wide: nn.BatchNorm2d, outputs: torch.Tensor) -> None:
    wide.load_state_dict({
        name: tensor[outputs] if tensor.ndim else tensor
        for name, tensor in narrow.state_dict().items()})


def _depths(network: LPSNet) -> list[int]:
    return [len(network.paths[0][stage]) for stage in range(STAGES)]


def _widths(network: LPSNet) -> list[int]:
    return [network.paths[0][stage][0][0].out_channels for stage in range(STAGES)]
