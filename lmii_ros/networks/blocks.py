# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""What both networks are made of."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class DepthwiseConv2d(nn.Conv2d):
    """
    Depthwise convolution that computes in fp32 while being trained under autocast on a CPU.

    There (torch 2.13, oneDNN) its bf16 weight gradient is garbage now and then. The output is
    rounded as any convolution's, as fp32 would slow down all that follows.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not (self.training and x.is_cpu):
            return super().forward(x)
        autocast = torch.is_autocast_enabled('cpu')
        dtype = torch.get_autocast_dtype('cpu') if autocast else x.dtype
        with torch.autocast('cpu', enabled=False):
            return super().forward(x.float()).to(dtype)


class PReLU(nn.PReLU):
    """
    PReLU whose gradients take a third of torch's time on a CPU.

    There (torch 2.13) the backward pass selects element by element, which no compiler vectorises;
    here it is the same sums and products on whole tensors. Inference and export see plain PReLU.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and x.is_cpu and torch.is_grad_enabled():
            return _PReLUFunction.apply(x, self.weight)
        return super().forward(x)


class _PReLUFunction(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, slopes)
        return torch.prelu(x, slopes.to(x.dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, slopes = ctx.saved_tensors
        shape = (-1,) + (1,) * (x.ndim - 2)
        above = torch.ops.aten.threshold_backward(grad, x, 0)
        below = grad - above
        grad_x = above.addcmul_(below, slopes.to(x.dtype).view(shape))
        grad_slopes = below.mul_(x).sum([0, *range(2, x.ndim)])
        return grad_x, grad_slopes.to(slopes.dtype)


class ChannelShuffle(nn.Module):
    """
    Interleave the two halves of the channels (ShuffleNet, arXiv 1707.01083).

    :param channels: Number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.channel_shuffle(x, 2)

    def as_convolution(self) -> nn.Conv2d:
        """Return a 1x1 convolution that does the same, exactly."""
        conv = nn.Conv2d(self.channels, self.channels, 1, bias=False)
        order = torch.arange(self.channels).reshape(2, -1).t().flatten()
        conv.weight.data = torch.eye(self.channels)[order, :, None, None]
        return conv.requires_grad_(False)


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel_size: int | tuple[int, int],
    act: nn.Module,
    *,
    stride: int = 1,
    dilation: int = 1,
    depthwise: bool = False,
    eps: float = 1e-5,
) -> nn.Sequential:
    """
    Return convolution without bias, batch normalisation and activation, in this order.

    The padding keeps the size at stride 1 and gives ``ceil(size / stride)`` otherwise. Being a
    plain Sequential, :func:`lmii_ros.networks.deployment.fold_batch_norm` can fold it.
    """
    height, width = (kernel_size,) * 2 if isinstance(kernel_size, int) else kernel_size
    conv = DepthwiseConv2d if depthwise else nn.Conv2d
    return nn.Sequential(
        conv(
            in_channels, out_channels, (height, width), stride=stride, dilation=dilation,
            padding=(dilation * (height // 2), dilation * (width // 2)),
            groups=in_channels if depthwise else 1, bias=False),
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
