# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Compiled networks on disk, so that only the first start on a machine waits for them."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Callable

from torch import nn

from lmii_ros import networks

MAX_KEPT = 32
"""Compiled networks on disk, some 10 MB each; the one unused for longest makes room."""


def compiled(network: nn.Module, what: str, build: Callable[[Path], None]) -> Path:
    """
    Return the folder of a compiled network, which is built if it is not there.

    Folders lie under ``$XDG_CACHE_HOME/lmii_ros`` (``~/.cache/lmii_ros``) and may be deleted
    while no node starts. Processes that build the same one at once do not disturb each other.

    :param network: The network; other weights or other network code make another folder.
    :param what: All else that decides the result: engine, its version, input size.
    :param build: Writes the result into an empty folder.
    """
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'lmii_ros'
    folder = cache / f'{what}-{_digest(network)}'
    if folder.is_dir():
        folder.touch()
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=cache))
    try:
        build(temporary)
        temporary.rename(folder)
    except OSError:
        # Another process was first.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in sorted(cache.iterdir(), key=_last_use)[:-MAX_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _last_use(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        # Another process has just removed it.
        return 0.0


def _digest(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().data)
    for source in sorted(Path(networks.__file__).parent.glob('*.py')):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
