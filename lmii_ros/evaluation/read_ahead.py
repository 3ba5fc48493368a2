# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Work ahead: one stage of a pipeline runs in its own thread, a few items before the next."""

from __future__ import annotations

from contextlib import closing
from queue import Empty
from queue import Queue
from threading import Event
from threading import Thread
from typing import Generator
from typing import TypeVar

T = TypeVar('T')

DEPTH = 4
"""Items that wait between two stages."""


def read_ahead(items: Generator[T, None, None], depth: int = DEPTH) -> Generator[T, None, None]:
    """
    Yield what a generator yields, which runs in a thread of its own from the first item on.

    Its errors are raised here, after the items before. Closing this closes the generator, in its
    thread, which has ended thereafter.

    :param depth: How many items it may be ahead.
    """
    queue: Queue[tuple[T | None, BaseException | None]] = Queue(depth)
    stop = Event()

    def work() -> None:
        error: BaseException | None = StopIteration()
        try:
            with closing(items):
                for item in items:
                    if stop.is_set():
                        return
                    queue.put((item, None))
        except BaseException as caught:
            error = caught
        queue.put((None, error))

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = queue.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stop.set()
        # Makes room for what the thread may be waiting to hand over.
        while thread.is_alive():
            try:
                queue.get(timeout=0.05)
            except Empty:
                pass
        thread.join()
