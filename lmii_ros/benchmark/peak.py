# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""
What a machine can compute at most, as far as libraries get it there.

The candidates are a matrix product and a 3x3 convolution, both large enough to be bound by
arithmetic, on torch and on OpenVINO; the fastest of them stands for the peak.
"""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lmii_ros.engines import PACKAGES

SIZE = 1024
"""Rows and columns of the matrices."""
CHANNELS = 256
SIDE = 48
"""Of the convolution, whose images are square."""
MACS = {
    'matmul': SIZE ** 3,
    'convolution': 9 * CHANNELS ** 2 * SIDE ** 2,
}
"""Multiply-accumulates of each candidate, by the last word of its name."""
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
"""The precisions whose peak can be measured, by name."""


def candidates(
    precision: str, device: torch.device, threads: int,
) -> dict[str, Callable[[], object]]:
    """
    Return functions to be timed, by name.

    :param precision: Of :data:`DTYPES`.
    :param device: Where torch computes; OpenVINO is tried on a CPU only.
    :param threads: CPU threads of OpenVINO, 0 for its choice.
    """
    dtype = DTYPES[precision]
    matrix = torch.rand(SIZE, SIZE).to(device, dtype)
    image = torch.rand(1, CHANNELS, SIDE, SIDE).to(
        device, dtype, memory_format=torch.channels_last)
    kernel = torch.rand(CHANNELS, CHANNELS, 3, 3).to(
        device, dtype, memory_format=torch.channels_last)

    def finished(run: Callable[[], torch.Tensor]) -> None:
        run()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)

    found = {
        'torch matmul': partial(finished, lambda: matrix @ matrix),
        'torch convolution': partial(finished, lambda: F.conv2d(image, kernel, padding=1)),
    }
    if device.type == 'cpu' and all(map(importlib.util.find_spec, PACKAGES['openvino'])):
        found |= _openvino_candidates(precision, threads)
    return found


class _MatMul(nn.Module):

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(SIZE, SIZE))

    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        return matrix @ self.weight


def _openvino_candidates(precision: str, threads: int) -> dict[str, Callable[[], object]]:
    from lmii_ros.engines.openvino import openvino
    from lmii_ros.engines.openvino import settings
    from lmii_ros.engines.openvino import shared_core
    found = {}
    for name, module, shape in (
            ('openvino matmul', _MatMul(), (SIZE, SIZE)),
            ('openvino convolution', nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
             (1, CHANNELS, SIDE, SIDE))):
        model = openvino.convert_model(
            module.eval(), input=list(shape), example_input=torch.zeros(shape))
        request = shared_core().compile_model(
            model, 'CPU', settings('cpu', precision, threads)).create_infer_request()
        request.get_input_tensor().data[:] = np.random.default_rng(0).random(shape, np.float32)
        found[name] = request.infer
    return found
