# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Timings on disk: one JSON file a weight file, machine, engine and camera size."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Mapping

from lmii_ros import drivable
from lmii_ros import engines
from lmii_ros import frames
from lmii_ros import networks
from lmii_ros import rendering
from lmii_ros import segmenter
from lmii_ros.cache_folder import cache_folder
from lmii_ros.cache_folder import make_room
from lmii_ros.operating_point import OperatingPoint

FORMAT = 1
MAX_KEPT = 100
"""Files on disk, some KB each; the one unused for longest makes room."""


def folder() -> Path:
    """Return the folder of the files, which may be deleted at any time."""
    return cache_folder('lmii_ros_calibration')


class TimingCache:
    """
    Latencies measured under the same conditions; a file that is not one of ours is ignored.

    Processes may use the same file at once: it is replaced in one step, and keeps what another one
    had written until just before.

    :param conditions: All that the latencies depend on besides the operating point.
    :param anew: Whether to forget what was measured before.
    """

    def __init__(self, conditions: Mapping[str, object], *, anew: bool = False) -> None:
        self._conditions = {'format': FORMAT, 'code': _code_digest(), **conditions}
        name = json.dumps(self._conditions, sort_keys=True).encode()
        self._name = f'{hashlib.sha256(name).hexdigest()[:24]}.json'
        self._measured: dict[str, tuple[float, float]] = {}
        if anew:
            with suppress(OSError):
                self.path.unlink()
        self._earlier = self._read()

    @property
    def path(self) -> Path:
        """Return that of the file, which may not be there yet."""
        return folder() / self._name

    def get(self, point: OperatingPoint, *, brief: bool = False) -> tuple[float, float] | None:
        """
        Return p50 and p90 in seconds, or None if they were not measured.

        :param brief: Whether of a few frames alone, as were enough to see that it is too slow.
        """
        return (self._earlier | self._measured).get(_name(point, brief))

    def larger(self, point: OperatingPoint) -> list[tuple[float, float]]:
        """Return the same of all greater input heights in the point's precision."""
        return [
            times for name, times in (self._earlier | self._measured).items()
            if name.startswith(f'{point.precision} ')
            and int(name.rpartition(' ')[2]) > point.input_height]

    def put(
        self, point: OperatingPoint, times: tuple[float, float], *, brief: bool = False,
    ) -> None:
        """Keep p50 and p90 in seconds, on disk too where that can be written; see :meth:`get`."""
        self._measured[_name(point, brief)] = times
        timings = self._read() | self._measured
        text = json.dumps(
            {'conditions': self._conditions, 'timings': timings}, indent=1, sort_keys=True)
        # A disk that is full or read-only costs the next start some seconds, no more.
        with suppress(OSError):
            self._write(text)
            make_room(self.path.parent, MAX_KEPT)

    def _write(self, text: str) -> None:
        path = self.path
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix='.part')
        try:
            with open(handle, 'w') as file:
                file.write(text)
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise

    def _read(self) -> dict[str, tuple[float, float]]:
        try:
            document = json.loads(self.path.read_text())
            with suppress(OSError):
                # In use: others make room first.
                self.path.touch()
            if document['conditions'] != self._conditions:
                return {}
            timings = {
                str(name): (float(p50), float(p90))
                for name, (p50, p90) in document['timings'].items()}
        except (
                OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError,
                RecursionError):
            return {}
        if not all(
                math.isfinite(p90) and 0 < p50 <= p90 and name.rpartition(' ')[2].isdecimal()
                for name, (p50, p90) in timings.items()):
            return {}
        return timings


def _name(point: OperatingPoint, brief: bool) -> str:
    return f'{point.precision}{" brief" * brief} {point.input_height}'


@cache
def _code_digest() -> str:
    """Return what changes with the code that the latencies depend on."""
    digest = hashlib.sha256()
    sources = [
        source for package in (engines, networks)
        for source in sorted(Path(package.__file__).parent.glob('*.py'))]
    for module in (drivable, frames, rendering, segmenter):
        sources.append(Path(module.__file__))
    for source in (*sources, Path(__file__).with_name('calibration.py')):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
