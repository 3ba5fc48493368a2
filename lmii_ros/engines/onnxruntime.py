# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime as an engine: the fastest on arm64 CPUs, and TensorRT's way on NVIDIA's GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import numpy as np
import onnxruntime
from torch import nn

from lmii_ros.engines import EngineError
from lmii_ros.engines import Precisions
from lmii_ros.engines import choose_precision
from lmii_ros.engines import parse_device
from lmii_ros.engines.compiled import compiled
from lmii_ros.engines.host import CompiledNetwork
from lmii_ros.engines.host import HostEngine
from lmii_ros.engines.providers import CPU
from lmii_ros.engines.providers import CUDA
from lmii_ros.engines.providers import TENSORRT
from lmii_ros.engines.providers import cuda_provider
from lmii_ros.networks.deployment import export_onnx
from lmii_ros.weights import WeightInfo

MODEL = 'network.onnx'


class OnnxRuntimeEngine(HostEngine):
    """
    :class:`lmii_ros.engines.Engine` on ONNX Runtime: on a CPU, or on TensorRT or else CUDA.

    The network is exported when an input size is first used on this machine, and TensorRT then
    builds its engine, which takes minutes; both are kept. Not yet run on a GPU.

    :param network: Trained network; it is copied, not changed.
    :param info: Its metadata.
    :param device: ``auto`` for CUDA where it works, else the CPU; ``cpu``, ``cuda`` or ``cuda:N``.
    :param precision: ``auto``, ``fp32``, or ``fp16`` with TensorRT, for which ``auto`` is
        fp32.
    :param threads: CPU threads, 0 for ONNX Runtime's choice.
    :raises EngineError: If there is no such device or precision.
    """

    name = 'onnxruntime'
    keeps_priority = True

    def __init__(
        self, network: nn.Module, info: WeightInfo, device: str, precision: str, threads: int,
    ) -> None:
        super().__init__(network, info)
        self._provider = _provider(device)
        _, self._number = parse_device(device)
        self.device = 'cpu' if self._provider == CPU else f'cuda:{self._number}'
        self.precision = choose_precision(precision, info, self.precisions(device))
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        # Threads that spin between frames keep cores busy, and starve on busy ones.
        self._options.add_session_config_entry('session.intra_op.allow_spinning', '0')

    @staticmethod
    def precisions(device: str) -> Precisions:
        """See :func:`lmii_ros.engines.precisions`."""
        # TensorRT computes all of a network in fp16. The loss in the weight files was measured
        # with torch, where LMIINet keeps its attention in fp32, which overflows in fp16.
        return Precisions(
            ('fp32', 'fp16') if _provider(device) == TENSORRT else ('fp32',), ('fp32',))

    def _compile(self, shapes: Sequence[tuple[int, ...]]) -> CompiledNetwork:
        sizes = '-'.join('x'.join(map(str, shape[:3])) for shape in shapes)
        folder = compiled(
            self._network, self._info, f'onnxruntime-{onnxruntime.__version__}-{sizes}',
            lambda folder: export_onnx(self._network, shapes, np.float32, folder / MODEL))
        session = onnxruntime.InferenceSession(
            str(folder / MODEL), self._options, providers=self._providers(folder))
        if session.get_providers()[0] != self._provider:
            # It takes the next provider, with no more than a line in its log.
            raise EngineError(
                f'onnxruntime cannot run this network with {self._provider}, as its log tells; '
                'use engine torch or device cpu')
        inputs = [np.zeros(shape, np.float32) for shape in shapes]
        output, = session.get_outputs()
        logits = np.empty(output.shape, np.float32)
        binding = session.io_binding()
        binding.bind_output(
            output.name, element_type=np.float32, shape=logits.shape,
            buffer_ptr=logits.ctypes.data)

        def infer() -> np.ndarray:
            # Each time, since for a GPU this is what sends the bytes up.
            for node, image in zip(session.get_inputs(), inputs):
                binding.bind_cpu_input(node.name, image)
            session.run_with_iobinding(binding)
            return logits

        return CompiledNetwork(inputs, infer)

    def _providers(self, folder: Path) -> list[str | tuple[str, dict[str, object]]]:
        if self._provider == CPU:
            return [CPU]
        # For convolutions CUDA would round fp32 to 10 bits (TF32). TensorRT does from Ampere on,
        # and ONNX Runtime has no option for it: only NVIDIA_TF32_OVERRIDE=0 in the environment
        # turns it off.
        cuda = (CUDA, {'device_id': self._number, 'use_tf32': 0})
        if self._provider == CUDA:
            return [cuda, CPU]
        return [(TENSORRT, {
            'device_id': self._number,
            'trt_fp16_enable': self.precision == 'fp16',
            'trt_engine_cache_enable': True,
            'trt_engine_cache_path': str(folder),
            'trt_engine_cache_prefix': self.precision,
        }), cuda, CPU]


def _provider(device: str) -> str:
    """
    Return what ONNX Runtime has for a device of this name.

    :raises EngineError: If there is no such device.
    """
    kind, number = parse_device(device)
    if kind == 'gpu':
        raise EngineError(f'engine onnxruntime runs on the cpu or cuda, not on {device!r}')
    found = None if kind == 'cpu' else cuda_provider(number)
    if found or kind != 'cuda':
        return found or CPU
    if CUDA not in onnxruntime.get_available_providers():
        raise EngineError(
            f'device {device!r} was asked for, but this onnxruntime runs on the cpu only; use '
            'device auto or cpu, or pip install onnxruntime-gpu')
    raise EngineError(
        f'device {device!r} was asked for, but onnxruntime cannot use it: there is no such GPU, '
        'or its libraries (CUDA, cuDNN) are missing or of other versions than it was built for; '
        'use device auto or cpu')
