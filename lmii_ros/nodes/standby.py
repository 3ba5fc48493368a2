# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Networks made ready in the background, so that a switch to one costs no frame."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING
from typing import Any
from typing import Callable
from typing import Sequence

if TYPE_CHECKING:
    from lmii_ros.operating_point import OperatingPoint
    from lmii_ros.segmenter import Segmenter

LOWEST_PRIORITY = 19
"""As of nice(1)."""
KEPT = 2
"""Networks, the newest, that stay ready though no longer wanted: a load may go as it came."""


class Standby:
    """
    Holds the networks that may be needed next, and the last few that were.

    :param make: Makes a network ready; called in a thread of its own, one at a time.
    :param logger: The node's.
    :param lowest_priority: Whether that thread, and all that it starts, is of the lowest priority.
    """

    def __init__(
        self,
        make: Callable[[OperatingPoint], Segmenter],
        logger: Any,
        *,
        lowest_priority: bool,
    ) -> None:
        self._make = make
        self._logger = logger
        self._lowest_priority = lowest_priority
        self.failed: set[OperatingPoint] = set()
        """Points that could not be made ready, and are not tried again."""
        self._lock = threading.Lock()
        self._wanted: list[OperatingPoint] = []
        self._ready: dict[OperatingPoint, Segmenter] = {}
        self._closed = False
        self._thread: threading.Thread | None = None
        self._working_since: float | None = None

    @property
    def working_s(self) -> float:
        """Return for how long networks have been in the making, 0 if none is."""
        since = self._working_since
        return 0.0 if since is None else time.monotonic() - since

    def want(self, points: Sequence[OperatingPoint]) -> None:
        """Make these ready, in this order, and drop others but for the newest :data:`KEPT`."""
        with self._lock:
            self._wanted = list(points)
            others = [point for point in self._ready if point not in points]
            for point in others[:-KEPT]:
                del self._ready[point]
            if self._thread is None and self._missing() is not None:
                self._working_since = time.monotonic()
                self._thread = threading.Thread(
                    target=self._work, name='standby', daemon=True)
                self._thread.start()

    def exchange(
        self, wanted: OperatingPoint, live: OperatingPoint, segmenter: Segmenter,
    ) -> Segmenter | None:
        """
        Return the network for a point, and keep the live one in its place; None if not ready.

        :param wanted: To be live.
        :param live: Of the network that is live.
        """
        with self._lock:
            ready = self._ready.pop(wanted, None)
            if ready is not None:
                self._ready[live] = segmenter
            return ready

    def close(self, *, wait: bool = False) -> None:
        """
        Drop all; what is just being made is dropped when it is done.

        :param wait: Whether to wait for that.
        """
        with self._lock:
            self._closed = True
            self._wanted = []
            self._ready.clear()
            thread = self._thread
        if wait and thread is not None:
            thread.join()

    def _missing(self) -> OperatingPoint | None:
        return next((
            point for point in self._wanted
            if point not in self._ready and point not in self.failed), None)

    def _work(self) -> None:
        if self._lowest_priority:
            # On Linux that is this thread's alone. At the same priority as the live network, with
            # which it shares the cores, it delays single frames by 0.2 s.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
        while True:
            with self._lock:
                point = self._missing()
                if point is None:
                    self._thread = self._working_since = None
                    return
            try:
                segmenter = self._make(point)
            except Exception as error:
                # The live one goes on; this one will not be switched to.
                self._logger.warning(f'{point} cannot be made ready: {error}')
                self.failed.add(point)
                continue
            with self._lock:
                # Even if it is not wanted at the moment: it has cost seconds, and may be again.
                if not self._closed:
                    self._ready[point] = segmenter
            # Not held here until the next one is ready.
            del segmenter
