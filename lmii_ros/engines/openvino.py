# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""OpenVINO as an engine: the fastest on x86 CPUs, and the one for Intel GPUs."""

from __future__ import annotations

import sys
import warnings
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Sequence

import numpy as np
import torch
from torch import nn

from lmii_ros import machine
from lmii_ros.engines import EngineError
from lmii_ros.engines import Precisions
from lmii_ros.engines import choose_precision
from lmii_ros.engines import parse_device
from lmii_ros.engines.compiled import compiled
from lmii_ros.engines.host import CompiledNetwork
from lmii_ros.engines.host import HostEngine
from lmii_ros.engines.quantization import quantize
from lmii_ros.weights import WeightInfo

# With it, each start of a node would tell a server on the internet, from a thread that stays.
sys.modules.setdefault('openvino_telemetry', None)
import openvino  # noqa: E402

MODEL = 'network.xml'
EXAMPLE_SIZE = (96, 128)
"""Height and width that a network is traced with; nothing in the trace depends on them."""
_PRECISIONS = {'cpu': ('fp32', 'bf16', 'int8'), 'gpu': ('fp32', 'fp16', 'int8')}
"""What OpenVINO may have on a device, and fp32."""
_HINTS = {'fp32': 'f32', 'fp16': 'f16', 'bf16': 'bf16'}
"""OpenVINO's names of our precisions."""


class OpenVINOEngine(HostEngine):
    """
    :class:`lmii_ros.engines.Engine` on OpenVINO. Not yet run on an Intel GPU.

    The network is exported when it is first used on this machine, which takes some seconds, and
    compiled when an input size is first used by this process.

    :param network: Trained network; it is copied, not changed.
    :param info: Its metadata.
    :param device: ``auto`` or ``cpu``, or ``gpu`` for an Intel GPU.
    :param precision: ``auto``, ``fp32``; ``bf16`` or ``fp16`` where OpenVINO has it on the device;
        ``int8`` with weights that were calibrated for it. On a GPU ``auto`` is fp32.
    :param threads: CPU threads, 0 for OpenVINO's choice.
    :raises EngineError: If another device is asked for, or a precision that the device has not.
    """

    name = 'openvino'
    keeps_priority = False

    def __init__(
        self, network: nn.Module, info: WeightInfo, device: str, precision: str, threads: int,
    ) -> None:
        precisions = self.precisions(device)
        self.device = _device(device)
        self._plugin = self.device.upper()
        self.precision = choose_precision(precision, info, precisions)
        super().__init__(network, info)
        if self.precision == 'int8':
            quantize(self._network.network, info.activation_ranges)
        rest = self.precision
        if rest == 'int8':
            # For what int8 leaves: the lowest of the others that may be taken unasked.
            rest = 'bf16' if 'bf16' in precisions.unasked else 'fp32'
        self._settings = settings(self.device, rest, threads)

    @staticmethod
    def precisions(device: str) -> Precisions:
        """See :func:`lmii_ros.engines.precisions`."""
        device = _device(device)
        if device not in _PRECISIONS:
            raise EngineError(
                f'engine openvino runs on the cpu or an Intel gpu, not on {device!r}')
        core = shared_core()
        # Two GPUs are GPU.0 and GPU.1; GPU means the first.
        if device.upper() not in {name.partition('.')[0] for name in core.available_devices}:
            raise EngineError(
                'OpenVINO finds no Intel GPU on this machine (its driver: apt install '
                'intel-opencl-icd); use device auto or cpu')
        abilities = core.get_property(device.upper(), 'OPTIMIZATION_CAPABILITIES')
        supported = tuple(name for name in _PRECISIONS[device] if name.upper() in abilities)
        if device == 'gpu':
            # What the others cost there is not known: the loss in the weight files was measured
            # on CPUs, for fp16 with torch, where LMIINet keeps its attention in fp32.
            return Precisions(supported, ('fp32',))
        # OpenVINO has bf16 wherever there is AVX-512, and emulates it, which is slow.
        return Precisions(supported, tuple(
            name for name in supported if name != 'bf16' or machine.computes_in_bf16()))

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
        folder = compiled(
            self._network, self._info, name, lambda folder: self._export(folder / MODEL))
        model = shared_core().read_model(folder / MODEL)
        # Of fixed size it is as fast as if it had been exported so.
        model.reshape({
            index: openvino.PartialShape(list(shape)) for index, shape in enumerate(shapes)})
        compiled_model = shared_core().compile_model(model, self._plugin, self._settings)
        if self.device == 'cpu':
            # All networks of the process share a pool of a thread a core, each started when it is
            # first needed; one thread alone is the caller's.
            self.keeps_priority = (
                1 < compiled_model.get_property('INFERENCE_NUM_THREADS') < machine.cores())
        return compiled_model.create_infer_request()

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
            # Each operation has constants of its own, LMIINet 7000 in all. With equal ones shared
            # the conversion takes two thirds of the time; torch has no public way to it.
            torch._C._jit_pass_constant_pooling(traced.graph)
            model = openvino.convert_model(
                traced, input=[[-1, -1, -1, 3]] * len(example), example_input=example)
        openvino.save_model(model, path, compress_to_fp16=False)


@cache
def shared_core() -> openvino.Core:
    """
    Return the one core of the process.

    Each core gives the thread that first uses it a stack for signals, and unmaps that when it
    ends, in whatever thread: with more than one, the next signal that Python handles may be the
    end.
    """
    return openvino.Core()


def settings(device: str, precision: str, threads: int) -> dict[str, object]:
    """
    Return what a model is to be compiled with.

    :param device: ``cpu`` or ``gpu``.
    :param precision: Of what is not int8 in the model: fp32, fp16 or bf16.
    :param threads: CPU threads, 0 for OpenVINO's choice.
    """
    chosen = {
        'PERFORMANCE_HINT': 'LATENCY',
        'NUM_STREAMS': 1,
        # The default is bf16 on CPUs that have it, without a word.
        'INFERENCE_PRECISION_HINT': _HINTS[precision],
    }
    if device == 'cpu':
        # Pinned threads wait for their core when another process has it.
        chosen |= {'ENABLE_CPU_PINNING': False, 'INFERENCE_NUM_THREADS': threads}
    return chosen


def _device(name: str) -> str:
    kind, _ = parse_device(name)
    return 'cpu' if kind == 'auto' else kind
