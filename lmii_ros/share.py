# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The files shipped beside the package: weights, configuration, launch files."""

from __future__ import annotations

from pathlib import Path


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
