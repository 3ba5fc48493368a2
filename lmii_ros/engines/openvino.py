# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""OpenVINO as an engine: the fastest on x86 CPUs."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Sequence

import cv2
import numpy as np
import openvino
import torch
from torch import nn

from lmii_ros.engines import EngineError
from lmii_ros.engines import NonFiniteOutput
from lmii_ros.engines import choose_precision
from lmii_ros.engines import upsampling
from lmii_ros.engines.compiled import compiled
from lmii_ros.networks.deployment import DeployedNetwork
from lmii_ros.weights import WeightInfo

MODEL = 'network.xml'
MAX_COMPILED = 4
"""Input sizes that are kept compiled in memory, some 100 MB each; the oldest makes room."""


class OpenVINOEngine:
    """
    :class:`lmii_ros.engines.Engine` on OpenVINO's CPU plugin.

    The network is exported when an input size is first used on this machine, which takes some
    seconds, and compiled when it is first used by this process.

    :param network: Trained network; it is copied, not changed.
    :param info: Its metadata.
    :param device: ``auto`` or ``cpu``.
    :param precision: ``auto``, ``fp32``, or ``bf16`` on a CPU that computes with it.
    :param threads: CPU threads, 0 for OpenVINO's choice.
    :raises EngineError: If another device is asked for, or a precision that the CPU has not.
    """

    name = 'openvino'
    device = 'cpu'

    def __init__(
        self,
        network: nn.Module,
        info: WeightInfo,
        *,
        device: str = 'auto',
        precision: str = 'auto',
        threads: int = 0,
    ) -> None:
        if device not in ('auto', 'cpu'):
            raise EngineError(f'engine openvino runs on the cpu, not on {device!r}')
        self._network = DeployedNetwork(network, info.mean, info.std)
        self._core = openvino.Core()
        abilities = self._core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
        self.precision = choose_precision(
            precision, info, ('fp32', 'bf16') if 'BF16' in abilities else ('fp32',))
        self._settings = {
            'PERFORMANCE_HINT': 'LATENCY',
            'NUM_STREAMS': 1,
            # Pinned threads wait for their core when another process has it.
            'ENABLE_CPU_PINNING': False,
            'INFERENCE_NUM_THREADS': threads,
            # The default is bf16 on CPUs that have it, without a word.
            'INFERENCE_PRECISION_HINT': 'bf16' if self.precision == 'bf16' else 'f32',
        }
        self._requests: dict[tuple[int, ...], openvino.InferRequest] = {}

    def segment(
        self,
        frames: Sequence[np.ndarray],
        input_size: tuple[int, int],
        *,
        confidence: bool,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """See :meth:`lmii_ros.engines.Engine.segment`."""
        height, width = input_size
        request = self._request(len(frames), height, width)
        images = request.get_input_tensor().data
        for frame, image in zip(frames, images):
            cv2.resize(frame, (width, height), dst=image, interpolation=cv2.INTER_LINEAR)
        request.infer()
        logits = request.get_output_tensor().data
        if not np.isfinite(logits).all():
            raise NonFiniteOutput('the network gave values that are not finite')
        return upsampling.label(
            logits, frames[0].shape[:2], align_corners=self._network.align_corners,
            confidence=confidence)

    def _request(self, count: int, height: int, width: int) -> openvino.InferRequest:
        shape = (count, height, width, 3)
        if shape not in self._requests:
            name = f'openvino-{version("openvino")}-{count}x{height}x{width}'
            folder = compiled(
                self._network, name, lambda folder: self._export(shape, folder / MODEL))
            if len(self._requests) == MAX_COMPILED:
                del self._requests[next(iter(self._requests))]
            self._requests[shape] = self._core.compile_model(
                folder / MODEL, 'CPU', self._settings).create_infer_request()
        return self._requests[shape]

    def _export(self, shape: tuple[int, ...], path: Path) -> None:
        with warnings.catch_warnings():
            # Of sizes that become constants, as they shall; and of torch's tracing being
            # deprecated, whose result OpenVINO runs faster than that of torch.export.
            warnings.simplefilter('ignore')
            model = openvino.convert_model(
                self._network, input=list(shape),
                example_input=torch.zeros(shape, dtype=torch.uint8))
        openvino.save_model(model, path, compress_to_fp16=False)
