# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""OpenVINO as an engine: the fastest on x86 CPUs."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Sequence

import numpy as np
import openvino
import torch
from torch import nn

from lmii_ros.engines import EngineError
from lmii_ros.engines import choose_precision
from lmii_ros.engines.compiled import compiled
from lmii_ros.engines.host import CompiledNetwork
from lmii_ros.engines.host import HostEngine
from lmii_ros.engines.quantization import quantize
from lmii_ros.weights import WeightInfo

MODEL = 'network.xml'
EXAMPLE_SIZE = (96, 128)
"""Height and width that a network is traced with; nothing in the trace depends on them."""
_ABILITIES = {'fp32': 'FP32', 'bf16': 'BF16', 'int8': 'INT8'}
"""OpenVINO's names of what a CPU can do, for our precisions."""


class OpenVINOEngine(HostEngine):
    """
    :class:`lmii_ros.engines.Engine` on OpenVINO's CPU plugin.

    The network is exported when it is first used on this machine, which takes some seconds, and
    compiled when an input size is first used by this process.

    :param network: Trained network; it is copied, not changed.
    :param info: Its metadata.
    :param device: ``auto`` or ``cpu``.
    :param precision: ``auto``, ``fp32``, ``bf16`` on a CPU that computes with it, or ``int8`` with
        weights that were calibrated for it.
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
        self._core = openvino.Core()
        abilities = self._core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
        has_bf16 = 'BF16' in abilities
        self.precision = choose_precision(
            precision, info,
            [name for name, ability in _ABILITIES.items() if ability in abilities])
        super().__init__(network, info)
        if self.precision == 'int8':
            quantize(self._network.network, info.activation_ranges)
        # What int8 leaves is computed in bf16 where it can be.
        rest = 'bf16' if has_bf16 and self.precision != 'fp32' else 'f32'
        self._settings = {
            'PERFORMANCE_HINT': 'LATENCY',
            'NUM_STREAMS': 1,
            # Pinned threads wait for their core when another process has it.
            'ENABLE_CPU_PINNING': False,
            'INFERENCE_NUM_THREADS': threads,
            # The default is bf16 on CPUs that have it, without a word.
            'INFERENCE_PRECISION_HINT': rest,
        }

    def _compile(self, shapes: Sequence[tuple[int, ...]]) -> CompiledNetwork:
        request = self._request(shapes)
        # Views of the request's own memory, which keep it alive.
        output = request.get_output_tensor()

        def infer() -> np.ndarray:
            # Else it copies the output for its own result.
            request.infer(share_outputs=True)
            return output.data

        return CompiledNetwork(
            [request.get_input_tensor(index).data for index in range(len(shapes))], infer)

    def _request(self, shapes: Sequence[tuple[int, ...]]) -> openvino.InferRequest:
        name = f'openvino-{version("openvino")}' + '-int8' * (self.precision == 'int8')
        folder = compiled(self._network, name, lambda folder: self._export(folder / MODEL))
        model = self._core.read_model(folder / MODEL)
        # Of fixed size it is as fast as if it had been exported so.
        model.reshape({
            index: openvino.PartialShape(list(shape)) for index, shape in enumerate(shapes)})
        return self._core.compile_model(model, 'CPU', self._settings).create_infer_request()

    def _export(self, path: Path) -> None:
        sizes = self._network.input_sizes(EXAMPLE_SIZE)
        example = tuple(torch.zeros(1, *size, 3) for size in sizes)
        with warnings.catch_warnings():
            # Of torch's tracing being deprecated, whose result OpenVINO runs faster than that of
            # torch.export.
            warnings.simplefilter('ignore')
            # Its check, which traces again and compares, takes half of the time; a script module
            # of each layer, which it makes of a module, half of the rest.
            traced = torch.jit.trace(
                lambda *images: self._network(*images), example, check_trace=False)
            model = openvino.convert_model(
                traced, input=[[-1, -1, -1, 3]] * len(example), example_input=example)
        openvino.save_model(model, path, compress_to_fp16=False)
