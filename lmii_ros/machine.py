# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a measured time depends on: the machine that it was measured on."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np


def processor() -> str:
    """Return the processor's name as the system gives it, on 64-bit ARM that of the board."""
    return (
        _cpuinfo('model name') or _board() or platform.processor() or platform.machine())


def computes_in_bf16() -> bool:
    """Return whether the system says that the processor has instructions for bf16 (x86)."""
    return not {'avx512_bf16', 'amx_bf16'}.isdisjoint(_cpuinfo('flags').split())


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def facts() -> dict[str, object]:
    """Return what a figure cannot be understood without: machine, load and versions."""
    # All others here are wanted where torch, which takes seconds, is not.
    import torch
    return {
        'processor': processor(),
        'cores': cores(),
        'gpu': torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        'load': [round(load, 1) for load in os.getloadavg()],
        'python': platform.python_version(),
        'torch': torch.__version__,
        'openvino': _version('openvino'),
        'opencv': cv2.__version__,
        'numpy': np.__version__,
    }


def _board() -> str:
    with suppress(OSError):
        return Path('/proc/device-tree/model').read_text(errors='replace').strip('\0 \n')
    return ''


def _cpuinfo(key: str) -> str:
    try:
        with open('/proc/cpuinfo') as file:
            for line in file:
                if line.startswith(key):
                    return line.partition(':')[2].strip()
    except OSError:
        pass
    return ''


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
