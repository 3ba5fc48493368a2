# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""What ONNX Runtime runs networks with; not yet run on a GPU."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnxruntime

TENSORRT = 'TensorrtExecutionProvider'
CUDA = 'CUDAExecutionProvider'
CPU = 'CPUExecutionProvider'


@cache
def cuda_provider(number: int) -> str | None:
    """
    Return what runs networks on a CUDA device: TensorRT, else CUDA, else None.

    Each is tried, since those that are listed as available are those that the package was built
    with, whether or not there are a GPU and their libraries.

    :param number: Of the CUDA device.
    """
    listed = onnxruntime.get_available_providers()
    return next((
        name for name in (TENSORRT, CUDA) if name in listed and runs(name, number)), None)


def runs(provider: str, number: int) -> bool:
    """Return whether a provider runs a network of a single node."""
    # Here, since who has only the CPU in ONNX Runtime need not wait for it.
    from onnx import TensorProto
    from onnx import helper
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in 'xy')
    # Of the version that torch exports, for onnx may be newer than what ONNX Runtime reads.
    model = helper.make_model(
        helper.make_graph([helper.make_node('Relu', ['x'], ['y'])], 'one_node', [x], [y]),
        opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    options = {} if provider == CPU else {'device_id': number}
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=[(provider, options)], enable_fallback=0)
        session.run(None, {'x': np.ones((1, 8), np.float32)})
    # Of its own, RuntimeError and others, as each library has it.
    except Exception:
        return False
    return session.get_providers()[0] == provider
