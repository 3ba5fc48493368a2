# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Newest frame wins: the one place where a frame waits for the network."""

from __future__ import annotations

import threading
from typing import Generic
from typing import TypeVar

Item = TypeVar('Item')


class NewestFrame(Generic[Item]):
    """A slot between two threads; it holds at most the newest item, and hands it out once."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._item: Item | None = None
        self._closed = False

    def put(self, item: Item) -> bool:
        """Leave an item; return whether an older one was dropped for it."""
        with self._condition:
            dropped = self._item is not None
            self._item = item
            self._condition.notify()
        return dropped

    def take(self) -> Item | None:
        """Wait for an item and return it, or None once the slot is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._item is not None or self._closed)
            item, self._item = self._item, None
            return None if self._closed else item

    def close(self) -> bool:
        """Let the taker go; return whether an item that waited was dropped."""
        with self._condition:
            self._closed = True
            self._condition.notify()
            return self._item is not None
