# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Engines run a network fast; each is one file that implements :class:`Engine`."""

from __future__ import annotations

import importlib.util
import platform
from typing import NamedTuple
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


_OUT_OF_MEMORY = (
    'out of memory',
    'insufficient memory',
    'failed to allocate memory',
    'exceeded max size of memory object allocation',
    'bad_alloc',
    'defaultcpuallocator',
    'cublas_status_alloc_failed',
    'cudnn_status_alloc_failed',
    # On a Jetson torch's allocator asks NVML, which is not there, for what is free.
    'nvml_success == r',
    'cl_out_of_resources',
)


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error of a library means that memory ran out, each in its own words."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(words in said for words in _OUT_OF_MEMORY)


class Precisions(NamedTuple):
    """What an engine can compute with on a device of this machine, of :data:`PRECISIONS`."""

    supported: tuple[str, ...]
    """What may be asked for by name."""
    unasked: tuple[str, ...]
    """
    Of these, what may be taken without being asked for: fp32, and what is faster than fp32 there
    and computed as it was when the loss in the weight files was measured.
    """


class Engine(Protocol):
    """A network, ready to label frames on one device."""

    name: str
    """Name of the engine, as in :data:`ENGINES`."""
    device: str
    """The device it runs on, as torch names it."""
    precision: str
    """Precision of its arithmetic, one of :data:`PRECISIONS`."""
    keeps_priority: bool
    """
    Whether what computes it may be threads of the priority at which it, or another network of the
    process, was made ready.
    """

    @staticmethod
    def precisions(device: str) -> Precisions:
        """See :func:`precisions`."""

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
            [N, H, W] or None. Valid until the call after the next, so that one frame's labels may
            be published while the next frame is in the network.
        :raises NonFiniteOutput: If the network's output is not finite.
        :raises Exception: Of the engine's library, such as one that :func:`is_out_of_memory`.
        """


PACKAGES = {
    'openvino': ('openvino', 'numba'),
    'onnxruntime': ('onnxruntime', 'onnx', 'numba'),
    'torch': ('torch',),
}
"""The engines by name, with the packages of PyPI that each imports under the same name."""
ENGINES = tuple(PACKAGES)
"""Names of the engines."""

PRECISIONS = ('fp32', 'fp16', 'bf16', 'int8')
"""Names of the precisions, the likely fastest last."""
MAX_PRECISION_LOSS = 0.002
"""Loss of mIoU up to which ``auto`` takes a lower precision: 0.2 points."""


def parse_device(name: str) -> tuple[str, int]:
    """
    Return the kind of device that a name means, and the device's number.

    :param name: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``, or ``gpu`` for an Intel GPU.
    :raises EngineError: If it is none of these.
    """
    kind, colon, number = name.partition(':')
    if kind not in ('auto', 'cpu', 'cuda', 'gpu') or (
            colon and not (kind == 'cuda' and number.isdecimal())):
        raise EngineError(
            f'no device {name!r}; expected auto, cpu, cuda or cuda:N, or gpu for an Intel GPU')
    return kind, int(number or 0)


def choose(name: str, device: str) -> tuple[str, str]:
    """
    Return the name of the engine to use, and why, in words for the user.

    :param name: One of :data:`ENGINES`, or ``auto`` for the fastest that is installed.
    :param device: See :func:`parse_device`.
    :raises EngineError: If the engine is not known, or not installed, or there is no such device.
    """
    if name not in ('auto', *ENGINES):
        raise EngineError(f'no engine {name!r}; there are: auto, {", ".join(ENGINES)}')
    kind, number = parse_device(device)
    if name != 'auto':
        _check_installed(name)
        return name, 'as asked for'
    if kind == 'gpu':
        _check_installed('openvino')
        return 'openvino', 'the one for Intel GPUs'
    machine = platform.machine()
    if kind != 'cpu':
        # Here, since torch takes seconds to import: who only wants the errors should not wait.
        from torch import cuda
        if machine == 'aarch64' and _onnxruntime_on_cuda(number) == 'TensorrtExecutionProvider':
            return 'onnxruntime', 'TensorRT, for a Jetson'
        if cuda.is_available():
            return 'torch', 'the fastest on CUDA'
        if _onnxruntime_on_cuda(number):
            return 'onnxruntime', 'on CUDA, for which this torch was not built'
        if kind == 'cuda':
            # It tells what is missing.
            return 'torch', 'the fastest on CUDA'
    preferred = 'openvino' if machine in ('x86_64', 'AMD64') else 'onnxruntime'
    for engine in (preferred, 'openvino', 'onnxruntime'):
        if _is_installed(engine):
            return engine, (
                f'the fastest installed for a CPU ({machine}); no CUDA device is used')
    return 'torch', f'pip install {" ".join(PACKAGES[preferred])} for a faster one on a CPU'


def choose_precision(name: str, info: WeightInfo, precisions: Precisions) -> str:
    """
    Return the precision to use.

    :param name: One of :data:`PRECISIONS`, or ``auto`` for the lowest whose loss of mIoU was
        measured for these weights and is at most :data:`MAX_PRECISION_LOSS`.
    :param precisions: Of the engine, on the device.
    :raises EngineError: If the precision is not known or not supported.
    """
    if name == 'auto':
        return next(
            (precision for precision in reversed(PRECISIONS)
             if precision in precisions.unasked and (precision != 'int8' or info.activation_ranges)
             and info.precision_loss.get(precision, 1) <= MAX_PRECISION_LOSS), 'fp32')
    if name == 'int8' and not info.activation_ranges:
        raise EngineError(
            'precision int8 needs a weight file that was calibrated for it; '
            'lmii export WEIGHTS --int8 --calibrate IMAGES makes one')
    if name not in precisions.supported:
        raise EngineError(
            f'no precision {name!r} with this engine on this machine; '
            f'there are: auto, {", ".join(sorted(precisions.supported))}')
    return name


def create(
    name: str,
    network: nn.Module,
    info: WeightInfo,
    *,
    device: str = 'auto',
    precision: str = 'auto',
    threads: int = 0,
) -> Engine:
    """
    Make an engine for a network.

    :param name: One of :data:`ENGINES`.
    :param network: As :func:`lmii_ros.weights.load` gives it, with its ``info``.
    :param device: See :func:`parse_device`.
    :param precision: See :func:`choose_precision`.
    :param threads: CPU threads, 0 for the engine's choice.
    :raises EngineError: If there is no such device or precision on this machine, or not for this
        engine.
    """
    return _engine(name)(network, info, device, precision, threads)


def precisions(name: str, device: str) -> Precisions:
    """
    Return what an engine can compute with on a device of this machine.

    :param name: One of :data:`ENGINES`.
    :param device: As of :func:`create`.
    :raises EngineError: If there is no such device on this machine, or not for this engine.
    """
    return _engine(name).precisions(device)


def _engine(name: str) -> type[Engine]:
    # Here, since an engine that is not installed cannot be imported.
    if name == 'openvino':
        from lmii_ros.engines.openvino import OpenVINOEngine as NamedEngine
    elif name == 'onnxruntime':
        from lmii_ros.engines.onnxruntime import OnnxRuntimeEngine as NamedEngine
    else:
        from lmii_ros.engines.torch import TorchEngine as NamedEngine
    return NamedEngine


def _check_installed(engine: str) -> None:
    if not _is_installed(engine):
        raise EngineError(
            f'engine {engine} is not installed; pip install {" ".join(PACKAGES[engine])}')


def _is_installed(engine: str) -> bool:
    return all(importlib.util.find_spec(module) for module in PACKAGES[engine])


def _onnxruntime_on_cuda(number: int) -> str | None:
    if not _is_installed('onnxruntime'):
        return None
    from lmii_ros.engines.providers import cuda_provider
    return cuda_provider(number)
