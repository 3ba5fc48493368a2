# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The segmentation networks, built by name."""

from __future__ import annotations

from functools import partial
from typing import Callable

from torch import nn

from lmii_ros.networks import lpsnet
from lmii_ros.networks.lmiinet import LMIINet
from lmii_ros.networks.lpsnet import LPSNet

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    'lmiinet': LMIINet,
    'lpsnet': LPSNet,
    'lpsnet_s': partial(LPSNet, **lpsnet.S),
    'lpsnet_m': partial(LPSNet, **lpsnet.M),
    'lpsnet_l': partial(LPSNet, **lpsnet.L),
}
"""What :func:`build` knows; ``lpsnet`` takes depths, widths and ratios of one's own."""


def build(name: str, num_classes: int, /, **arguments: object) -> nn.Module:
    """
    Build a network with random weights.

    It maps normalised float images [N, 3, H, W] to logits [N, num_classes, h, w] at its own
    resolution; its attribute ``align_corners`` says how to resize these bilinearly. Its method
    ``input_sizes`` tells at which sizes its paths see an image, and ``forward_paths`` takes the
    images at these sizes.

    :param name: One of :data:`NETWORKS`.
    :param arguments: The network's further arguments.
    :raises ValueError: If the name or the arguments are not known.
    """
    if name not in NETWORKS:
        raise ValueError(f'no network {name!r}; there are: {", ".join(NETWORKS)}')
    try:
        return NETWORKS[name](num_classes, **arguments)
    except TypeError as error:
        raise ValueError(f'network {name!r}: {error}') from error
