# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Compiled networks on disk, so that only the first start on a machine waits for them."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Callable

from torch import nn

from lmii_ros import networks
from lmii_ros.cache_folder import cache_folder
from lmii_ros.cache_folder import make_room
from lmii_ros.engines import quantization
from lmii_ros.weights import WeightInfo

MAX_KEPT = 32
"""Compiled networks on disk, some 10 MB each; the one unused for longest makes room."""


def compiled(
    network: nn.Module, info: WeightInfo, what: str, build: Callable[[Path], None],
) -> Path:
    """
    Return the folder of a compiled network, which is built if it is not there.

    Folders lie in :func:`lmii_ros.cache_folder.cache_folder`. Processes that build the same one at
    once do not disturb each other.

    :param network: The network; other weights or other code of networks make another folder.
    :param info: Its metadata; so do other arguments.
    :param what: All else that decides the result: engine, its version, input size.
    :param build: Writes the result into an empty folder.
    """
    cache = cache_folder('lmii_ros')
    folder = cache / f'{what}-{_digest(network, info)}'
    if folder.is_dir():
        folder.touch()
        return folder
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
    make_room(cache, MAX_KEPT)
    return folder


def _digest(network: nn.Module, info: WeightInfo) -> str:
    digest = hashlib.sha256()
    # Not all of them show in the weights.
    digest.update(json.dumps([info.network, info.arguments], sort_keys=True).encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().data)
    for source in (*sorted(Path(networks.__file__).parent.glob('*.py')), quantization.__file__):
        digest.update(Path(source).read_bytes())
    return digest.hexdigest()[:16]
