# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Loops over pixels as machine code, which is kept on disk."""

from __future__ import annotations

from pathlib import Path

import numba

from lmii_ros.cache_folder import cache_folder
from lmii_ros.cache_folder import is_writable

# numba keeps it beside the source; where it cannot, it may refuse to compile at all.
if not numba.config.CACHE_DIR and not is_writable(Path(__file__).parent / '__pycache__'):
    numba.config.CACHE_DIR = str(cache_folder('lmii_ros_numba'))

kernel = numba.njit(cache=True, nogil=True)
"""Decorates a function that is compiled for the types that it is first called with."""
