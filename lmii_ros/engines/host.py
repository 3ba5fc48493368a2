# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""What engines have in common that read frames, and turn logits into labels, on the host."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from typing import Callable
from typing import NamedTuple
from typing import Sequence

import numpy as np
from torch import nn

from lmii_ros.engines.inputs import InputReader
from lmii_ros.engines.upsampling import Upsampler
from lmii_ros.networks.deployment import PathNetwork
from lmii_ros.weights import WeightInfo

MAX_COMPILED = 4
"""
Input sizes that are kept compiled in memory, some 100 MB each; the one not used for longest makes
room.
"""


class CompiledNetwork(NamedTuple):
    """A network compiled for one batch and input size, with buffers that stay its own."""

    inputs: Sequence[np.ndarray]
    """float32 [N, h, w, 3] for each path of the network: normalised red, green, blue."""
    infer: Callable[[], np.ndarray]
    """Runs it and returns float32 [N, num_classes, h, w]; overwritten by the next call."""


class _Size(NamedTuple):
    reader: InputReader
    compiled: CompiledNetwork
    upsampler: Upsampler


class HostEngine(ABC):
    """
    :class:`lmii_ros.engines.Engine` but for running the network.

    :param network: Trained network; it is copied, not changed.
    :param info: Its metadata.
    """

    def __init__(self, network: nn.Module, info: WeightInfo) -> None:
        self._network = PathNetwork(network)
        self._info = info
        self._sizes: dict[tuple[int, ...], _Size] = {}

    def segment(
        self,
        frames: Sequence[np.ndarray],
        input_size: tuple[int, int],
        *,
        confidence: bool,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """See :meth:`lmii_ros.engines.Engine.segment`."""
        reader, compiled, upsampler = self._size(len(frames), input_size)
        reader.read(frames, compiled.inputs)
        return upsampler.label(compiled.infer(), frames[0].shape[:2], confidence=confidence)

    def _size(self, count: int, input_size: tuple[int, int]) -> _Size:
        key = (count, *input_size)
        if key not in self._sizes:
            path_sizes = self._network.input_sizes(input_size)
            size = _Size(
                InputReader(input_size, path_sizes, self._info.mean, self._info.std),
                self._compile([(count, *path_size, 3) for path_size in path_sizes]),
                Upsampler(self._network.align_corners))
            if len(self._sizes) == MAX_COMPILED:
                del self._sizes[next(iter(self._sizes))]
        else:
            size = self._sizes.pop(key)
        self._sizes[key] = size
        return size

    @abstractmethod
    def _compile(self, shapes: Sequence[tuple[int, ...]]) -> CompiledNetwork:
        """Compile the network for inputs of these shapes."""
