# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The files shipped beside the package: weights, configuration, launch files."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping

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
        profile already.
    """
    if any(name in environment for name in PROFILE_VARIABLES):
        return {}
    return dict.fromkeys(
        PROFILE_VARIABLES, str(share_directory() / 'config' / 'fastdds.xml'))
