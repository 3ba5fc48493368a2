# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""PyTorch as an engine: the reference on the CPU, and CUDA."""

from __future__ import annotations

from typing import Sequence

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lmii_ros.engines import EngineError
from lmii_ros.engines import NonFiniteOutput
from lmii_ros.engines import choose_precision
from lmii_ros.networks.deployment import DeployedNetwork
from lmii_ros.weights import WeightInfo


def select_device(name: str) -> torch.device:
    """
    Return the device of that name.

    :param name: ``cpu``, ``cuda``, ``cuda:N``, or ``auto`` for CUDA if there is a GPU, else CPU.
    :raises EngineError: If there is no such device on this machine.
    """
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device('meta')
    if device.type not in ('cpu', 'cuda'):
        raise EngineError(f'no device {name!r}; expected auto, cpu, cuda or cuda:N')
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise EngineError(
            f'device {name!r} was asked for, but torch {torch.__version__} finds '
            f'{torch.cuda.device_count()} CUDA devices; use device auto or cpu, or install a '
            'torch with CUDA and the NVIDIA driver')
    return device


class TorchEngine:
    """
    :class:`lmii_ros.engines.Engine` on PyTorch in fp32.

    On CUDA the frames go up as bytes after resizing and come back as one byte a pixel.

    :param network: Trained network; it is copied, not changed.
    :param info: Its metadata.
    :param device: See :func:`select_device`.
    :param precision: ``auto`` or ``fp32``.
    :param threads: CPU threads, 0 to leave torch's setting.
    :raises EngineError: If there is no such device or precision.
    """

    name = 'torch'

    def __init__(
        self,
        network: nn.Module,
        info: WeightInfo,
        *,
        device: str = 'auto',
        precision: str = 'auto',
        threads: int = 0,
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._device = select_device(device)
        self.device = str(self._device)
        self.precision = choose_precision(precision, info, ('fp32',))
        self._network = DeployedNetwork(network, info.mean, info.std).to(
            self._device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def segment(
        self,
        frames: Sequence[np.ndarray],
        input_size: tuple[int, int],
        *,
        confidence: bool,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """See :meth:`lmii_ros.engines.Engine.segment`."""
        height, width = input_size
        images = np.stack([
            cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
            for frame in frames])
        logits = self._network(torch.from_numpy(images).to(self._device))
        if not torch.isfinite(logits).all():
            raise NonFiniteOutput('the network gave values that are not finite')
        logits = F.interpolate(
            logits, frames[0].shape[:2], mode='bilinear',
            align_corners=self._network.align_corners)
        # max is several times faster than argmax on the CPU.
        best, labels = logits.max(dim=1)
        certainty = None
        if confidence:
            softmax = 1 / (logits - best[:, None]).exp_().sum(dim=1)
            certainty = (255 * softmax).round_().to(torch.uint8).cpu().numpy()
        return labels.to(torch.uint8).cpu().numpy(), certainty
