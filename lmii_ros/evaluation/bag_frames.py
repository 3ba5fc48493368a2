# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The frames of a bag with their ground truth, and what of both could not be had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generator
from typing import Iterator

import numpy as np

from lmii_ros import frames
from lmii_ros.bags import BagError
from lmii_ros.bags import BagImage
from lmii_ros.bags import BagReader
from lmii_ros.bags.matching import Match
from lmii_ros.bags.matching import Stamped
from lmii_ros.bags.matching import match
from lmii_ros.classes import UNKNOWN
from lmii_ros.classes import ClassTable
from lmii_ros.frames import FrameError

DAMAGED = 'damaged_message'
"""Why a frame was dropped whose message does not parse; other reasons are FrameError's."""


@dataclass(frozen=True)
class BagFrame:
    """
    An image of a bag.

    :param index: Position among the images of its topic, from 0.
    :param time_ns: When it was recorded, in nanoseconds.
    :param stamp_ns: Stamp of its header, in nanoseconds; `time_ns` if it has none.
    :param frame_id: Frame of its header.
    :param image: uint8 [H, W, 3] BGR, perhaps read-only; None if it does not decode.
    :param reason: Why not, in one word, else empty.
    :param match: 'exact' or 'nearest' if ground truth was found by stamp, else None.
    :param truth: uint8 [H, W], class index or UNKNOWN; None if there is none that can be used.
    """

    index: int
    time_ns: int
    stamp_ns: int
    frame_id: str
    image: np.ndarray | None
    reason: str
    match: str | None
    truth: np.ndarray | None


class BagFrames:
    """
    Reads a bag once, from its beginning to its end or to where it is damaged.

    :param reader: Open; it is used in the thread that reads the frames.
    :param image_topic: Topic of the images.
    :param labels_topic: Topic of the ground truth, or None.
    :param tolerance_ns: See :func:`lmii_ros.bags.matching.match`.
    :param classes: What the labels mean.
    """

    def __init__(
        self, reader: BagReader, image_topic: str, labels_topic: str | None, tolerance_ns: int,
        classes: ClassTable,
    ) -> None:
        self._reader = reader
        self._image_topic = image_topic
        self._labels_topic = labels_topic
        self._tolerance_ns = tolerance_ns
        self._classes = classes
        self._faults: dict[str, tuple[int, str]] = {}
        self.unmatched_labels = 0
        """Label images that belong to no image; complete when all frames have been read."""

    def faults(self) -> list[str]:
        """Return one line for each kind of fault, in the order of their first occurrence."""
        return [
            first if times == 1 else f'{first} ({times} times in all)'
            for times, first in self._faults.values()]

    def read(self) -> Generator[BagFrame, None, None]:
        """Yield the frames in the order of the bag, up to where it is damaged; see `faults`."""
        size = None
        matched = 0
        index = -1
        for index, found in enumerate(self._images()):
            frame = self._frame(index, found)
            matched += frame.match is not None
            if frame.image is not None:
                if size not in (None, frame.image.shape[:2]):
                    self._add_fault(
                        'size', f'frame {index}: the image size changes from {_size(size)} to '
                        f'{_size(frame.image.shape)}')
                size = frame.image.shape[:2]
            yield frame
        if index < 0:
            self._add_fault('empty', f'no image of {self._image_topic} can be read')
        elif self._labels_topic and not matched:
            self._add_fault(
                'unmatched', f'no image of {self._labels_topic} has a stamp within '
                f'{self._tolerance_ns / 1e6:g} ms of one of {self._image_topic}')

    def _add_fault(self, kind: str, line: str) -> None:
        times, first = self._faults.get(kind, (0, line))
        self._faults[kind] = (times + 1, first)

    def _images(self) -> Iterator[Match[BagImage]]:
        messages = self._messages()
        if self._labels_topic is None:
            yield from (Match(message.message, None) for message in messages)
            return
        for found in match(messages, self._tolerance_ns):
            if found.image is not None:
                yield found
            else:
                self.unmatched_labels += 1

    def _messages(self) -> Iterator[Stamped[BagImage]]:
        topics = [topic for topic in (self._image_topic, self._labels_topic) if topic]
        try:
            for message in self._reader.messages(topics):
                try:
                    image = self._reader.image(message)
                except BagError as error:
                    self._add_fault(DAMAGED, str(error))
                    # Without a message it is dropped, in its place.
                    image = BagImage(
                        message.connection.topic, message.time_ns, message.time_ns, '', None)
                yield Stamped(image.stamp_ns, image.topic == self._labels_topic, image)
        except BagError as error:
            self._add_fault('end', str(error))

    def _frame(self, index: int, found: Match[BagImage]) -> BagFrame:
        pixels, reason = None, ''
        if found.image.message is None:
            reason = DAMAGED
        else:
            try:
                pixels = frames.decode(found.image.message)
            except FrameError as error:
                reason = error.reason
                self._add_fault(reason, f'frame {index}: {error}')
        kind = truth = None
        if found.labels is not None:
            kind = 'exact' if found.exact else 'nearest'
            if pixels is not None:
                truth = self._truth(index, found.labels, pixels.shape[:2])
        return BagFrame(
            index, found.image.time_ns, found.image.stamp_ns, found.image.frame_id, pixels, reason,
            kind, truth)

    def _truth(
        self, index: int, labels: BagImage, size: tuple[int, int],
    ) -> np.ndarray | None:
        if labels.message is None:
            return None
        try:
            truth = frames.decode_labels(labels.message)
        except FrameError as error:
            self._add_fault(f'labels {error.reason}', f'labels of frame {index}: {error}')
            return None
        if truth.shape != size:
            self._add_fault(
                'labels size', f'labels of frame {index} are {_size(truth.shape)}, '
                f'the image is {_size(size)}')
            return None
        wrong = (truth >= len(self._classes)) & (truth != UNKNOWN)
        if wrong.any():
            self._add_fault(
                'labels value', f'labels of frame {index}: {truth[wrong][0]} is none of the '
                f'{len(self._classes)} classes of {self._classes.name} nor unknown ({UNKNOWN})')
            return None
        return truth


def _size(shape: tuple[int, ...]) -> str:
    return f'{shape[1]}x{shape[0]}'
