# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Which ground truth belongs to which image of a bag, by stamp, in one pass."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic
from typing import Iterable
from typing import Iterator
from typing import TypeVar

T = TypeVar('T')

WINDOW = 32
"""Images, and label images, that wait for their counterpart at the same time."""


@dataclass(frozen=True)
class Stamped(Generic[T]):
    """
    An image or label image.

    :param stamp_ns: Stamp of its header, in nanoseconds.
    :param is_label: Whether it is a label image.
    :param message: The rest.
    """

    stamp_ns: int
    is_label: bool
    message: T


@dataclass(frozen=True)
class Match(Generic[T]):
    """
    An image and what was found for it; without an image a label image that is left over.

    :param image: The image.
    :param labels: Its label image, or None.
    """

    image: T | None
    labels: T | None
    exact: bool = False


def match(
    messages: Iterable[Stamped[T]], tolerance_ns: int, window: int = WINDOW,
) -> Iterator[Match[T]]:
    """
    Yield every image in its order, with its label image, and label images that belong to none.

    A label image belongs to the image of its stamp, else to the image that is nearest within the
    tolerance and has no nearer one; none is used twice. It may be recorded before its image or
    after it. An image waits until its label image or one too late for it has come, or `window`
    further images have; a label image waits for `window` further ones. So memory is bounded,
    however long the bag is.

    :param messages: Both kinds in the order in which they were recorded, each kind in the order
        of its stamps; stamps that jump back begin anew.
    :param tolerance_ns: How far stamps may be apart, in nanoseconds; 0 for equal stamps only.
    """
    matching: _Matching[T] = _Matching(tolerance_ns, window)
    for message in messages:
        yield from matching.add(message)
    yield from matching.finish()


class _Matching(Generic[T]):
    """The images and label images that wait."""

    def __init__(self, tolerance_ns: int, window: int) -> None:
        self._tolerance_ns = tolerance_ns
        self._window = window
        self._images: deque[Stamped[T]] = deque()
        self._labels: deque[Stamped[T]] = deque()
        self._newest_label_ns = 0
        self._images_since_label = 0

    def add(self, message: Stamped[T]) -> Iterator[Match[T]]:
        if message.is_label:
            self._labels.append(message)
            self._newest_label_ns = message.stamp_ns
            self._images_since_label = 0
        else:
            self._images.append(message)
            self._images_since_label += 1
        while self._images and self._is_decided():
            yield self._resolve()
        while len(self._labels) > self._window:
            yield Match(None, self._labels.popleft().message)

    def finish(self) -> Iterator[Match[T]]:
        while self._images:
            yield self._resolve()
        while self._labels:
            yield Match(None, self._labels.popleft().message)

    def _is_decided(self) -> bool:
        image = self._images[0]
        if len(self._images) > self._window:
            return True
        if any(labels.stamp_ns == image.stamp_ns for labels in self._labels):
            return True
        if (len(self._images) <= self._images_since_label
                or self._newest_label_ns <= image.stamp_ns + self._tolerance_ns):
            return False
        # The next image may be nearer to the label image that is near to this one.
        return len(self._images) > 1 or not self._candidates(image)

    def _resolve(self) -> Match[T]:
        image = self._images[0]
        candidates = self._candidates(image)
        self._images.popleft()
        self._images_since_label = min(self._images_since_label, len(self._images))
        if not candidates:
            return Match(image.message, None)
        labels = min(candidates, key=lambda labels: _distance(labels, image))
        self._labels.remove(labels)
        return Match(image.message, labels.message, labels.stamp_ns == image.stamp_ns)

    def _candidates(self, image: Stamped[T]) -> list[Stamped[T]]:
        """Return what is near to this image and not nearer to another that waits."""
        return [
            labels for labels in self._labels
            if _distance(labels, image) <= self._tolerance_ns and all(
                _distance(labels, other) >= _distance(labels, image) for other in self._images)]


def _distance(one: Stamped[T], other: Stamped[T]) -> int:
    return abs(one.stamp_ns - other.stamp_ns)
