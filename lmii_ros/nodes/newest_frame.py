# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Newest frame wins: the one place where frames wait for the network."""

from __future__ import annotations

import threading
from typing import Generic
from typing import Hashable
from typing import TypeVar

Source = TypeVar('Source', bound=Hashable)
Item = TypeVar('Item')


class NewestFrame(Generic[Source, Item]):
    """A slot for each source between threads; it holds its newest item, and hands it out once."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._items: dict[Source, Item] = {}
        self._closed = False

    def put(self, source: Source, item: Item) -> bool:
        """Leave an item of a source; return whether an older one was dropped for it."""
        with self._condition:
            dropped = source in self._items
            # In the place of the older one, so that no source waits for more than one of another.
            self._items[source] = item
            self._condition.notify()
        return dropped

    def replace(self, source: Source, item: Item) -> bool:
        """Leave an item of a source if an older one waits, which is dropped; return whether so."""
        with self._condition:
            waits = source in self._items
            if waits:
                self._items[source] = item
        return waits

    def take(self) -> tuple[Source, Item] | None:
        """Wait for an item and return it with its source, or None once the slots are closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._items or self._closed)
            if self._closed:
                return None
            source = next(iter(self._items))
            return source, self._items.pop(source)

    def close(self) -> tuple[Source, ...]:
        """Let the taker go; return the sources of which an item that waited was dropped."""
        with self._condition:
            self._closed = True
            self._condition.notify()
            return tuple(self._items)
