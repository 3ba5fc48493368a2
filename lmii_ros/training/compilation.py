# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A network's blocks, compiled for its training."""

from __future__ import annotations

from typing import Iterator

import torch
from torch import nn

# LMIINet's blocks are of ten kinds of channels, dilation and size; torch gives up at eight.
KINDS_OF_A_BLOCK = 64


def compile_blocks(network: nn.Module) -> None:
    """
    Have a network's blocks compiled at their first call, in place; parameters keep their names.

    Block by block, since the compiler takes minutes for those of LMIINet, which share their code,
    and hours for the whole network.
    """
    torch._dynamo.config.cache_size_limit = KINDS_OF_A_BLOCK
    for block in _blocks(network):
        block.compile(dynamic=False)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the largest parts that are no plain list of parts with parts of their own."""
    for child in module.children():
        is_list = isinstance(child, (nn.Sequential, nn.ModuleList))
        if is_list and any(list(part.children()) for part in child):
            yield from _blocks(child)
        elif list(child.children()):
            yield child
