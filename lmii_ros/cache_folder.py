# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Where on disk is kept what would take long to make again."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path


def cache_folder(name: str) -> Path:
    """
    Return a folder for what may be deleted while no node starts; it exists.

    It lies in ``$XDG_CACHE_HOME`` (``~/.cache``). Where that cannot be written it is a temporary
    one of this process, so that what it holds is made again at each start.

    :raises OSError: If there is no folder for temporary files either.
    """
    folder = Path(os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')) / name
    # It is relative where the user has no home.
    if not folder.is_absolute() or not is_writable(folder):
        folder = _temporary() / name
        folder.mkdir(exist_ok=True)
    return folder


def is_writable(folder: Path) -> bool:
    """Return whether files can be made in a folder, which is made too."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def make_room(folder: Path, kept: int) -> None:
    """Delete all but so many of a folder's files and folders: those unused for longest."""
    for old in sorted(folder.iterdir(), key=_last_use)[:-kept]:
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            with suppress(OSError):
                old.unlink()


def _last_use(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        # Another process has just removed it.
        return 0.0


@cache
def _temporary() -> Path:
    folder = tempfile.mkdtemp(prefix='lmii_ros_')
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
