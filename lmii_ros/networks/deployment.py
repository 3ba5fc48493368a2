# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The form in which a trained network is run: uint8 camera pixels in, logits out."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lmii_ros.networks.blocks import ChannelShuffle


class Normalization(nn.Module):
    """
    Camera pixels to what a network takes.

    :param mean: Mean of the red, green and blue channel, of values in 0..1.
    :param std: Standard deviation of the same.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # Reversed: the pixels come as blue, green, red and are swapped after being normalised.
        self.register_buffer('offset', 255 * torch.tensor(mean[::-1]).reshape(1, 3, 1, 1))
        self.register_buffer('scale', 1 / (255 * torch.tensor(std[::-1]).reshape(1, 3, 1, 1)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return uint8 [N, H, W, 3] blue, green, red as float [N, 3, H, W] red, green, blue."""
        pixels = images.permute(0, 3, 1, 2).to(self.offset.dtype)
        return ((pixels - self.offset) * self.scale).flip(1)


class DeployedNetwork(nn.Sequential):
    """
    A network with its normalisation in front and its batch normalisation folded away.

    This is what defines a network's logits for an image, to all engines: uint8 [N, H, W, 3] in
    blue, green, red order to float [N, num_classes, h, w].

    :param network: Trained network; it is copied, not changed.
    :param mean: As of :class:`Normalization`.
    :param std: As of :class:`Normalization`.
    """

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(Normalization(mean, std), fold_batch_norm(network))
        self.align_corners: bool = network.align_corners


class PathNetwork(nn.Module):
    """
    The same for engines that normalise and resize outside: each path's own image in, logits out.

    :param network: Trained network; it is copied, not changed.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = fold_batch_norm(network)
        # In bf16 a matrix multiplication is three times as fast as moving the channels.
        for module in self.network.modules():
            for name, child in module.named_children():
                if isinstance(child, ChannelShuffle):
                    setattr(module, name, child.as_convolution())
        self.align_corners: bool = network.align_corners
        # Not those of the original, a method that would keep it in memory.
        self.input_sizes = self.network.input_sizes

    def forward(self, *images: torch.Tensor) -> torch.Tensor:
        """
        Return the logits float [N, num_classes, h, w].

        :param images: float [N, h, w, 3] each, normalised red, green, blue, in the layout of
            camera pixels and at the size that ``input_sizes`` tells.
        """
        return self.network.forward_paths(*(image.permute(0, 3, 1, 2) for image in images))


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """
    Return a copy in inference mode whose convolutions have absorbed their batch normalisation.

    Folded is each convolution that a batch normalisation directly follows in a Sequential.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for sequential in network.modules():
        if not isinstance(sequential, nn.Sequential):
            continue
        layers = []
        for layer in sequential:
            if isinstance(layer, nn.BatchNorm2d) and layers and isinstance(
                    layers[-1], (nn.Conv2d, nn.ConvTranspose2d)):
                layers[-1] = fuse_conv_bn_eval(
                    layers[-1], layer, transpose=isinstance(layers[-1], nn.ConvTranspose2d))
            else:
                layers.append(layer)
        if len(layers) < len(sequential):
            del sequential[:]
            sequential.extend(layers)
    return network


def export_onnx(
    network: nn.Module, shapes: Sequence[Sequence[int]], dtype: type, path: Path,
) -> None:
    """
    Write a network as an ONNX file, for inputs of fixed shapes.

    :param network: A :class:`DeployedNetwork` or :class:`PathNetwork`.
    :param shapes: Shape of each input; they are named ``image`` or ``image0``, ``image1`` and so
        on, the output ``logits``.
    :param dtype: NumPy's type of the inputs.
    """
    inputs = tuple(torch.from_numpy(np.zeros(shape, dtype)) for shape in shapes)
    names = [f'image{index}' for index in range(len(inputs))] if len(inputs) > 1 else ['image']
    with warnings.catch_warnings():
        # Of sizes that become constants, as they shall; and of this exporter being deprecated: the
        # newer one needs ten times as long for the same network.
        warnings.simplefilter('ignore')
        torch.onnx.export(
            network.eval(), inputs, str(path), input_names=names, output_names=['logits'],
            opset_version=17, dynamo=False)
