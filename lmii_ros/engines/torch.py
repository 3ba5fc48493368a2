# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""PyTorch as an engine: the reference on the CPU, and CUDA."""

from __future__ import annotations

from threading import Lock
from typing import Sequence

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lmii_ros.engines import EngineError
from lmii_ros.engines import NonFiniteOutput
from lmii_ros.engines import Precisions
from lmii_ros.engines import choose_precision
from lmii_ros.engines import parse_device
from lmii_ros.networks.deployment import DeployedNetwork
from lmii_ros.weights import WeightInfo

MAX_CAPTURED = 4
"""Frame and input sizes whose graph is kept; the one not used for longest makes room."""
_CUDA = Lock()
"""
Held by who uses CUDA. While a graph is captured, no other may be, and no thread of the process may
launch or allocate anything; and the flags that it is captured with are the process's.
"""


def select_device(name: str) -> torch.device:
    """
    Return the device of that name.

    :param name: ``cpu``, ``cuda``, ``cuda:N``, or ``auto`` for CUDA if there is a GPU, else CPU.
    :raises EngineError: If there is no such device on this machine.
    """
    kind, number = parse_device(name)
    if kind == 'gpu':
        raise EngineError(f'engine torch runs on the cpu or cuda, not on {name!r}')
    if kind == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    if kind == 'cuda' and number >= torch.cuda.device_count():
        raise EngineError(
            f'device {name!r} was asked for, but torch {torch.__version__} finds '
            f'{torch.cuda.device_count()} CUDA devices; use device auto or cpu, or install a '
            'torch with CUDA and the NVIDIA driver')
    return torch.device(name)


class Resize(nn.Module):
    """
    OpenCV's bilinear resize of bytes (INTER_LINEAR) on any device, in its integer arithmetic.

    On x86 with OpenCV 5 equal to it when images become smaller; when they become larger, some
    values in a thousand differ by one.

    :param size: Height and width of the images.
    :param new_size: Those of the result.
    """

    def __init__(self, size: tuple[int, int], new_size: tuple[int, int]) -> None:
        super().__init__()
        for name, old, new in zip(('rows', 'columns'), size, new_size):
            position = ((np.arange(new) + 0.5) * (1 / (new / old)) - 0.5).astype(np.float32)
            before = np.floor(position)
            weight = np.where((before < 0) | (before >= old - 1), 0, position - before)
            before = before.clip(0, old - 1).astype(np.int64)
            shares = np.rint(np.stack([1 - weight, weight]) * 2048).astype(np.int32)
            self.register_buffer(name, torch.from_numpy(
                np.stack([before, np.minimum(before + 1, old - 1)])))
            self.register_buffer(f'{name}_shares', torch.from_numpy(shares))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return uint8 [N, H, W, 3] resized, as int32."""
        images = images.int()
        left, right = self.columns_shares[:, :, None]
        wide = images[:, :, self.columns[0]] * left + images[:, :, self.columns[1]] * right >> 4
        upper, lower = self.rows_shares[:, :, None, None]
        return ((wide[:, self.rows[0]] * upper >> 16) + (wide[:, self.rows[1]] * lower >> 16)
                + 2) >> 2


class FramePath(nn.Module):
    """
    From camera pixels to labels, all on one device.

    :param network: As :class:`DeployedNetwork`, in fp32.
    :param dtype: Of the network's arithmetic; normalisation and resizing stay in fp32.
    """

    def __init__(self, network: DeployedNetwork, dtype: torch.dtype) -> None:
        super().__init__()
        self.normalization, self.network = network
        self.network.to(dtype=dtype, memory_format=torch.channels_last)
        self._dtype = dtype
        self._align_corners = network.align_corners

    def forward(
        self,
        images: torch.Tensor,
        resize: Resize | None,
        frame_size: tuple[int, int],
        confidence: bool,
    ) -> tuple[torch.Tensor, ...]:
        """
        Return whether all logits are finite, labels, and their confidence if asked for.

        :param images: uint8 [N, H, W, 3], blue, green, red.
        :param resize: To the size at which the network sees them, if they do not have it.
        :param frame_size: Height and width of the labels.
        :return: bool [], uint8 [N, H, W], uint8 [N, H, W].
        """
        if resize is not None:
            images = resize(images)
        logits = self.network(self.normalization(images).to(self._dtype)).float()
        finite = torch.isfinite(logits).all()
        logits = F.interpolate(
            logits, frame_size, mode='bilinear', align_corners=self._align_corners)
        # max is several times faster than argmax on the CPU.
        best, labels = logits.max(dim=1)
        labels = labels.to(torch.uint8)
        if not confidence:
            return finite, labels
        softmax = 1 / (logits - best[:, None]).exp_().sum(dim=1)
        return finite, labels, (255 * softmax).round_().to(torch.uint8)


class CapturedFramePath:
    """
    A frame path for frames of one shape as one CUDA graph: bytes up, bytes down.

    Launching its hundreds of kernels one by one takes longer than they run. Not yet run on a GPU.

    :param path: On the device.
    :param shape: Of the frames: [N, H, W, 3].
    :param input_size: Height and width at which the network sees them.
    :param device: The CUDA device.
    """

    def __init__(
        self,
        path: FramePath,
        shape: tuple[int, ...],
        input_size: tuple[int, int],
        device: torch.device,
    ) -> None:
        # Only between pinned memory and the device do copies not pass through another buffer.
        self._sent = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        self._frames = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._stream = torch.cuda.Stream(device)
        self._graph = torch.cuda.CUDAGraph()
        # The graph reads its buffers, so it has to stay.
        self._resize = None
        if shape[1:3] != input_size:
            self._resize = Resize(shape[1:3], input_size).to(device)
        arguments = self._frames, self._resize, shape[1:3], True
        self._stream.wait_stream(torch.cuda.current_stream(device))
        # TF32 would round fp32 to 10 bits.
        with torch.cuda.device(device), torch.backends.cudnn.flags(
                enabled=True, benchmark=True, allow_tf32=False):
            with torch.cuda.stream(self._stream):
                # cuDNN tries its algorithms, which cannot be recorded.
                for _ in range(3):
                    path(*arguments)
            self._stream.synchronize()
            with torch.cuda.graph(self._graph, stream=self._stream):
                self._results = path(*arguments)
        self._received = [
            [torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
             for result in self._results]
            for _ in range(2)]

    def __call__(self, frames: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """Return what :class:`FramePath` gives, on the host; valid until the call after next."""
        for frame, sent in zip(frames, self._sent.numpy()):
            np.copyto(sent, frame)
        self._received.reverse()
        with torch.cuda.stream(self._stream):
            self._frames.copy_(self._sent, non_blocking=True)
            self._graph.replay()
            for result, received in zip(self._results, self._received[0]):
                received.copy_(result, non_blocking=True)
        self._stream.synchronize()
        return self._received[0]


class TorchEngine:
    """
    :class:`lmii_ros.engines.Engine` on PyTorch.

    On a CPU it is the reference that the other engines are compared with, and allocates its
    results for each frame. On CUDA all runs on the device, see :class:`CapturedFramePath`.

    :param network: Trained network; it is copied, not changed.
    :param info: Its metadata.
    :param device: See :func:`select_device`.
    :param precision: ``auto``, ``fp32`` or ``fp16``. On a CPU ``auto`` is fp32, since fp16 is slow
        there and serves only to measure what it costs.
    :param threads: CPU threads, 0 to leave torch's setting.
    :raises EngineError: If there is no such device or precision.
    """

    name = 'torch'
    keeps_priority = False

    def __init__(
        self, network: nn.Module, info: WeightInfo, device: str, precision: str, threads: int,
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._device = select_device(device)
        self.device = str(self._device)
        self.precision = choose_precision(precision, info, self.precisions(device))
        dtype = torch.float16 if self.precision == 'fp16' else torch.float32
        path = FramePath(DeployedNetwork(network, info.mean, info.std), dtype)
        with _CUDA:
            self._path = path.to(self._device)
        self._captured: dict[tuple, CapturedFramePath] = {}

    @staticmethod
    def precisions(device: str) -> Precisions:
        """See :func:`lmii_ros.engines.precisions`."""
        supported = 'fp32', 'fp16'
        return Precisions(
            supported, ('fp32',) if select_device(device).type == 'cpu' else supported)

    @torch.inference_mode()
    def segment(
        self,
        frames: Sequence[np.ndarray],
        input_size: tuple[int, int],
        *,
        confidence: bool,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """See :meth:`lmii_ros.engines.Engine.segment`."""
        if self._device.type == 'cpu':
            height, width = input_size
            images = np.stack([
                cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
                for frame in frames])
            results = self._path(
                torch.from_numpy(images), None, frames[0].shape[:2], confidence)
        else:
            # With the confidence, which costs next to nothing there, so that one graph does.
            with _CUDA:
                results = self._capture((len(frames), *frames[0].shape), input_size)(frames)
        finite, labels, *certainty = results
        if not finite:
            raise NonFiniteOutput('the network gave values that are not finite')
        return labels.numpy(), certainty[0].numpy() if confidence else None

    def _capture(
        self, shape: tuple[int, ...], input_size: tuple[int, int],
    ) -> CapturedFramePath:
        key = shape, input_size
        if key not in self._captured:
            if len(self._captured) == MAX_CAPTURED:
                del self._captured[next(iter(self._captured))]
            captured = CapturedFramePath(self._path, shape, input_size, self._device)
        else:
            captured = self._captured.pop(key)
        self._captured[key] = captured
        return captured
