# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Engines run a network fast; each is one file that implements :class:`Engine`."""

from __future__ import annotations

from typing import Protocol
from typing import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lmii_ros.weights import WeightInfo
    from torch import nn


class EngineError(ValueError):
    """An engine or device was asked for that this machine does not have."""


class NonFiniteOutput(RuntimeError):
    """The network gave values that are not finite, so there are no labels."""


class OutOfMemory(RuntimeError):
    """The device has too little memory for the network at this input size."""


class Engine(Protocol):
    """A network, ready to label frames on one device."""

    name: str
    """Name of the engine, as in :data:`ENGINES`."""
    device: str
    """The device it runs on, as torch names it."""

    def segment(
        self,
        frames: Sequence[np.ndarray],
        input_size: tuple[int, int],
        *,
        confidence: bool,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """
        Label frames of one size.

        The frames are resized bilinearly to ``input_size``, and the logits bilinearly back to
        the size of the frames before the largest is taken; every engine gives these labels.

        :param frames: uint8 [H, W, 3] each, blue, green, red.
        :param input_size: Height and width at which the network sees them.
        :param confidence: Whether to compute the confidence too.
        :return: Labels uint8 [N, H, W]; confidence (softmax of the label's class, 0..255) uint8
            [N, H, W] or None. Valid until the next call.
        :raises NonFiniteOutput: If the network's output is not finite.
        :raises OutOfMemory: If the device's memory does not suffice.
        """


ENGINES = ('torch',)
"""Names of the engines, the preferred one first."""


def create(
    name: str, network: nn.Module, info: WeightInfo, *, device: str = 'auto', threads: int = 0,
) -> Engine:
    """
    Make an engine for a network.

    :param name: One of :data:`ENGINES`, or ``auto`` for the best that is installed.
    :param network: As :func:`lmii_ros.weights.load` gives it, with its ``info``.
    :param device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    :param threads: CPU threads, 0 for as many as torch thinks best.
    :raises EngineError: If there is no such engine or device on this machine.
    """
    if name not in ('auto', *ENGINES):
        raise EngineError(f'no engine {name!r}; there are: auto, {", ".join(ENGINES)}')
    from lmii_ros.engines.torch import TorchEngine
    return TorchEngine(network, info, device=device, threads=threads)
