# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""
LMIINet: a light CNN for local features and a linear-attention block for global ones.

Qiu, Xu, Gao, Li, Yu: "LMIINet: Long- and short-range multi-information interaction network for
real-time semantic segmentation", arXiv 2410.02224. No code is public, and the paper gives no
table of stages, so this is a reconstruction.

From the paper: LFIB blocks with combination-coefficient learning as the CNN unit, one block of
focused linear attention beside channel attention between encoder and decoder, two long
connections taken over from LETNet, 0.72 M parameters, 11.74 G multiply-accumulates at 512x1024.

From the same group's papers: the stem, downsampling, long connections, upsampling and pixel
attention (LETNet, T-ITS 2023); the combination coefficient from channel means and standard
deviations (DIIN, TIM 2024); 3/6/6 blocks and their dilations (HAFormer, TIP 2024).

Our reading, chosen so that both totals agree: 64 channels at 1/16; a three-tap channel gate
(ECA, CVPR 2020) where the paper's LFIB has a "CRU"; the focused attention as in
FLatten-Transformer (ICCV 2023) without its positional table, which would not fit the budget;
PReLU in the coefficient's bottleneck, where ReLU left units dead from the start; classification
before the last bilinear resize, which commutes with it.
"""

from __future__ import annotations

from typing import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from lmii_ros.networks.blocks import ChannelShuffle
from lmii_ros.networks.blocks import conv_norm_act
from lmii_ros.networks.blocks import init_weights
from lmii_ros.networks.blocks import PReLU

BN_EPS = 1e-3
HEADS = 4


class LMIINet(nn.Module):
    """
    LMIINet, for images of any size.

    :param num_classes: Channels of the output.
    """

    align_corners = False
    """How the logits are to be resized bilinearly."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _conv(3, 32, 3), _conv(32, 32, 3), _conv(32, 32, 3, stride=2))
        self.down1 = Downsample(32, 64)
        self.stage1 = nn.Sequential(*(LFIB(64, dilation) for dilation in (2, 2, 2)))
        self.down2 = Downsample(64, 128)
        self.stage2 = nn.Sequential(*(LFIB(128, dilation) for dilation in (4, 4, 8, 8, 16, 16)))
        self.down3 = _conv(128, 64, 3, stride=2)
        self.stage3 = nn.Sequential(*(LFIB(64, dilation) for dilation in (2, 2, 4, 4, 8, 8)))
        self.flatten_block = FlattenBlock(64)
        self.up1 = Upsample(64, 16)
        self.long2 = long_connection(128, 16)
        self.decode2 = LFIB(16, 2)
        self.up2 = Upsample(16, 16)
        self.long1 = long_connection(64, 16)
        self.decode1 = LFIB(16, 2)
        self.up3 = Upsample(16, 16)
        self.pixel_attention = nn.Sequential(nn.Conv2d(16, 16, 1), nn.Sigmoid())
        self.norm = nn.Sequential(nn.BatchNorm2d(16, eps=BN_EPS), PReLU(16))
        self.classifier = nn.Conv2d(16, num_classes, 1)
        init_weights(self)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """
        Return the class logits of normalised images, at half their size.

        :param image: float [N, 3, H, W], of any H and W.
        :return: float [N, num_classes, ceil(H / 2), ceil(W / 2)].
        """
        half = self.stem(image)
        quarter = self.stage1(self.down1(half))
        eighth = self.stage2(self.down2(quarter))
        x = self.flatten_block(self.stage3(self.down3(eighth)))
        x = self.decode2(self.up1(x, eighth) + self.long2(eighth))
        x = self.decode1(self.up2(x, quarter) + self.long1(quarter))
        x = self.up3(x, half)
        x = self.norm(x * self.pixel_attention(x))
        return self.classifier(x)

    def input_sizes(self, size: Sequence[int]) -> list[tuple[int, int]]:
        """Return height and width at which its only path sees an image of a size."""
        return [(size[0], size[1])]

    forward_paths = forward


class CombinationCoefficient(nn.Module):
    """
    Weigh each channel by a gate learned from its mean and its standard deviation.

    DIIN (TIM 2024), figure 2b; there the weighed feature is added to another branch.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.from_mean = _bottleneck(channels)
        self.from_std = _bottleneck(channels)

    def forward(
        self, x: torch.Tensor, mean: torch.Tensor, std: torch.Tensor,
    ) -> torch.Tensor:
        """
        Return the weighed feature.

        :param mean: Of each channel of ``x``, as :func:`_moments` gives it.
        :param std: The same.
        """
        gate = torch.sigmoid(self.from_mean(mean)) + torch.sigmoid(self.from_std(std))
        return x * (0.5 * gate)


class LFIB(nn.Module):
    """
    Lightweight Feature Interaction Bottleneck: two half-width branches that inform each other.

    One branch is a factorised 3x3 convolution, the other a dilated depthwise-separable one. Each
    receives the other's input through a combination coefficient.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        half = channels // 2
        self.expand = _conv(channels, channels, 1)
        self.left_to_right = CombinationCoefficient(half)
        self.right_to_left = CombinationCoefficient(half)
        self.local = nn.Sequential(_conv(half, half, (3, 1)), _conv(half, half, (1, 3)))
        self.context = nn.Sequential(
            _conv(half, half, 3, dilation=dilation, depthwise=True), _conv(half, half, 1))
        self.channel_gate = ChannelGate()
        self.project = _conv(channels, channels, 3, depthwise=True)
        self.shuffle = ChannelShuffle(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expanded = self.expand(x)
        mean, std = _moments(expanded)
        left, right = zip(*(values.chunk(2, dim=1) for values in (expanded, mean, std)))
        mixed = torch.cat([
            self.local(left[0] + self.right_to_left(*right)),
            self.context(right[0] + self.left_to_right(*left)),
        ], dim=1)
        return self.shuffle(self.project(x + mixed + self.channel_gate(expanded, mean)))


class ChannelGate(nn.Module):
    """Weigh each channel by its own mean and its two neighbours' (ECA-Net, CVPR 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.taps = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        """
        Return the weighed feature.

        :param mean: Of each channel of ``x``, [N, C, 1, 1].
        """
        means = mean.flatten(2).transpose(1, 2)
        return x * torch.sigmoid(self.taps(means)).transpose(1, 2).unsqueeze(-1)


class FlattenBlock(nn.Module):
    """Transformer block: focused linear attention and channel attention, then an MLP."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = FocusedLinearAttention(channels, HEADS)
        self.channel_attention = ChannelAttention(channels)
        self.local_to_global = CombinationCoefficient(channels)
        self.global_to_local = CombinationCoefficient(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = _over_channels(self.norm1, x)
        far = self.attention(normed)
        near = self.channel_attention(normed)
        x = (
            x + far + self.local_to_global(near, *_moments(near))
            + near + self.global_to_local(far, *_moments(far)))
        return x + _over_channels(lambda tokens: self.mlp(self.norm2(tokens)), x)


class FocusedLinearAttention(nn.Module):
    """
    Attention whose cost is linear in the number of pixels (FLatten-Transformer, ICCV 2023).

    Queries and keys are made positive and sharpened by cubing at unchanged length; a depthwise
    convolution of the values restores the rank that linear attention loses.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        width = channels // heads
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.scale = nn.Parameter(torch.zeros(channels))
        self.restore_rank = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        query, key, value = self.qkv(x).flatten(2).transpose(1, 2).chunk(3, dim=-1)  # [n, hw, c]
        # Cubes and sums over all pixels overflow in half precision.
        with torch.autocast(x.device.type, enabled=False):
            scale = F.softplus(self.scale.float())
            query = self._split(_focus(query.float(), scale))                # [n, heads, hw, d]
            key = self._split(_focus(key.float(), scale))
            value = self._split(value.float())
            weight = 1 / (query @ key.mean(2, keepdim=True).transpose(2, 3) + 1e-6)
            attended = query @ (key.transpose(2, 3) @ (value / (h * w))) * weight
        attended = attended.transpose(2, 3).reshape(n, c, h, w)
        maps = value.transpose(2, 3).reshape(n * self.heads, c // self.heads, h, w)
        restored = self.restore_rank(maps.to(x.dtype)).reshape(n, c, h, w)
        return self.project(attended.to(x.dtype) + restored)

    def _split(self, tokens: torch.Tensor) -> torch.Tensor:
        n, pixels, channels = tokens.shape
        return tokens.reshape(n, pixels, self.heads, channels // self.heads).transpose(1, 2)


class ChannelAttention(nn.Module):
    """Two 3x3 convolutions through a third of the channels, then squeeze and excitation (HAT)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels // 3, 3, padding=1), nn.GELU(),
            nn.Conv2d(channels // 3, channels, 3, padding=1))
        self.excite = nn.Sequential(_bottleneck(channels), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x)
        return x * self.excite(x.mean((2, 3), keepdim=True))


class Downsample(nn.Module):
    """Halve the size; the new channels come from a convolution, the old ones from max-pooling."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels - in_channels, 3, stride=2, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.norm = nn.Sequential(
            nn.BatchNorm2d(out_channels, eps=BN_EPS), PReLU(out_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(torch.cat([self.conv(x), self.pool(x)], dim=1))


class Upsample(nn.Module):
    """Double the size by a transposed convolution, cut to that of the encoder's feature."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.deconv = nn.Sequential(
            nn.ConvTranspose2d(
                in_channels, out_channels, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(out_channels, eps=BN_EPS),
            nn.ReLU6(),
        )

    def forward(self, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return self.deconv(x)[..., :like.shape[-2], :like.shape[-1]]


def long_connection(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return the factorised convolution of LETNet's long connection."""
    middle = in_channels // 2
    return nn.Sequential(
        nn.Conv2d(in_channels, middle, (3, 1), padding=(1, 0)),
        nn.Conv2d(middle, out_channels, (1, 3), padding=(0, 1)))


def _conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int | tuple[int, int],
    *,
    stride: int = 1,
    dilation: int = 1,
    depthwise: bool = False,
) -> nn.Sequential:
    return conv_norm_act(
        in_channels, out_channels, kernel_size, PReLU(out_channels),
        stride=stride, dilation=dilation, depthwise=depthwise, eps=BN_EPS)


def _moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation of each channel, [N, C, 1, 1]."""
    mean = x.mean((2, 3), keepdim=True)
    # The square of a small deviation underflows in half precision.
    variance = (x - mean).float().square().mean((2, 3), keepdim=True)
    return mean, (variance + 1e-5).sqrt().to(x.dtype)


def _bottleneck(channels: int) -> nn.Sequential:
    hidden = max(4, channels // 8)
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 1), PReLU(hidden), nn.Conv2d(hidden, channels, 1))


def _focus(tokens: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    tokens = (F.relu(tokens) + 1e-6) / scale
    cubed = tokens ** 3
    return cubed / cubed.norm(dim=-1, keepdim=True) * tokens.norm(dim=-1, keepdim=True)


def _over_channels(function, x: torch.Tensor) -> torch.Tensor:
    return function(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
