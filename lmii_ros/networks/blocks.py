# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""What both networks are made of."""

from __future__ import annotations

from torch import nn


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel_size: int | tuple[int, int],
    act: nn.Module,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    eps: float = 1e-5,
) -> nn.Sequential:
    """
    Return convolution without bias, batch normalisation and activation, in this order.

    The padding keeps the size at stride 1 and gives ``ceil(size / stride)`` otherwise. Being a
    plain Sequential, :func:`lmii_ros.networks.deployment.fold_batch_norm` can fold it.
    """
    height, width = (kernel_size,) * 2 if isinstance(kernel_size, int) else kernel_size
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, (height, width), stride=stride, dilation=dilation,
            padding=(dilation * (height // 2), dilation * (width // 2)), groups=groups,
            bias=False),
        nn.BatchNorm2d(out_channels, eps=eps),
        act,
    )


def init_weights(network: nn.Module) -> None:
    """Draw the convolution weights from He's normal distribution (arXiv 1502.01852), in place."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity='relu')
            if module.bias is not None:
                nn.init.zeros_(module.bias)
