# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The files shipped beside the package: weights, configuration, launch files."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Mapping

SHARED_MEMORY = Path('/dev/shm')
SEGMENT_BYTES = 67 << 20
"""What each process takes of it by config/fastdds.xml, its segment and what describes it."""
PROFILE_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
"""Where Fast DDS 3 and 2 look for a profile."""


def share_directory() -> Path:
    """
    Return the folder that holds ``weights`` and ``config``.

    In an installation it is ``share/lmii_ros`` of the prefix that the package lies in, found
    without ROS; in a source checkout its top folder.

    :raises FileNotFoundError: If the package was copied without its files.
    """
    package = Path(__file__).resolve().parent
    installed = [parent / 'share' / package.name for parent in package.parents]
    for folder in (package.parent, *installed):
        if (folder / 'weights').is_dir() and (folder / 'config').is_dir():
            return folder
    raise FileNotFoundError(f'no share/{package.name} in any folder above {package}; reinstall it')


def shared_memory_profile(environment: Mapping[str, str]) -> dict[str, str]:
    """
    Return the variables with which Fast DDS carries images through shared memory.

    :param environment: Where the variables will be set; there are none to set if it names a
        profile already, or if the profile asks for more memory than there is, which is told.
    """
    if any(name in environment for name in PROFILE_VARIABLES):
        return {}
    # Of the images, camera and node have a segment each.
    free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0
    if free < 2 * SEGMENT_BYTES:
        # Fast DDS would go on without any shared memory, and lose small images too.
        print(
            f'images over 512 KB will be lost: {SHARED_MEMORY} has {free >> 20} MiB free, each '
            f'process needs {SEGMENT_BYTES >> 20}; in Docker, --shm-size=1g or --ipc=host',
            file=sys.stderr)
        return {}
    return dict.fromkeys(
        PROFILE_VARIABLES, str(share_directory() / 'config' / 'fastdds.xml'))
