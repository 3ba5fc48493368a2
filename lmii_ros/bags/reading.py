# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Reading images out of rosbag2 and ROS 1 bags, of damaged ones what they still hold."""

from __future__ import annotations

import heapq
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Collection
from typing import Iterator

from rosbags.interfaces import Connection
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag2 import Reader as Ros2Reader
from rosbags.typesys import Stores
from rosbags.typesys import get_typestore

from lmii_ros.bags.cut_mcap import CutMcap
from lmii_ros.bags.cut_mcap import is_cut

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')

_SUFFIXES = ('.mcap', '.db3', '.bag')
_RESCUE = {
    '.db3': '; if it is damaged, `sqlite3 OLD.db3 .recover | sqlite3 NEW.db3` may rescue a part',
    '.bag': '; if it is damaged, `rosbag reindex` may rescue a part'}


class BagError(ValueError):
    """A bag cannot be read or written as asked; the text is one line that names it."""


@dataclass(frozen=True)
class BagMessage:
    """
    One message of a bag as it was recorded.

    :param connection: Topic, type and definition, as rosbags has them.
    :param time_ns: When it was recorded, in nanoseconds.
    :param data: Its bytes, CDR in rosbag2.
    """

    connection: Connection
    time_ns: int
    data: bytes


@dataclass(frozen=True)
class BagImage:
    """
    One image message of a bag.

    :param topic: Topic that it was recorded from.
    :param time_ns: When it was recorded, in nanoseconds.
    :param stamp_ns: Stamp of its header, in nanoseconds.
    :param frame_id: Frame of its header.
    :param message: The Image or CompressedImage, for :func:`lmii_ros.frames.decode`.
    """

    topic: str
    time_ns: int
    stamp_ns: int
    frame_id: str
    message: Any


class BagReader:
    """
    A bag that is open for reading; to be closed, or used in a `with` block.

    :param path: A rosbag2 folder (mcap or sqlite3, also compressed), a single .mcap or .db3
        file, or a ROS 1 .bag file.
    :raises BagError: If nothing of it can be read.
    """

    path: Path
    fault: str
    """What is wrong with the bag where it can be read in part only, else empty."""
    is_ros1: bool

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.is_ros1 = self.path.suffix == '.bag' and not self.path.is_dir()
        # The definitions in a bag are not needed for images, which have been the same in all
        # distributions, and may be missing or wrong for other topics.
        self._typestore = get_typestore(Stores.ROS1_NOETIC if self.is_ros1 else Stores.ROS2_JAZZY)
        self._stack = ExitStack()
        self._readers, self.fault = self._open()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its files."""
        self._stack.close()

    @property
    def connections(self) -> list[Connection]:
        """Topics with type and definition, one for each file of the bag."""
        return [connection for reader in self._readers for connection in reader.connections]

    def image_topics(self) -> dict[str, str]:
        """Return the image topics with their message types, those of :data:`IMAGE_TYPES`."""
        return {
            connection.topic: connection.msgtype
            for connection in sorted(self.connections, key=lambda connection: connection.topic)
            if connection.msgtype in IMAGE_TYPES}

    def image_topic(self, topic: str | None, besides: Collection[str] = ()) -> str:
        """
        Return the image topic of that name.

        :param topic: None for the only one that is not among `besides`.
        :raises BagError: If there is no such topic, or several for None; the message lists those
            that are there.
        """
        topics = self.image_topics()
        have = ', '.join(topics) or 'none'
        if self.fault:
            have += f'; {self.fault}'
        if topic is None:
            found = [name for name in topics if name not in besides]
            if len(found) != 1:
                raise BagError(f'{self.path}: name one of its image topics: {have}')
            return found[0]
        if topic not in topics:
            raise BagError(f'{self.path}: no image topic {topic!r}; it has: {have}')
        return topic

    def count(self, topic: str) -> int:
        """Return how many messages of a topic the bag says that it has."""
        return sum(
            connection.msgcount for connection in self.connections if connection.topic == topic)

    def messages(self, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
        """
        Yield the messages of these topics, or of all, in the order in which they were recorded.

        :raises BagError: If the bag is damaged, or ends too early, after all messages that each of
            its files has up to there; the line tells of all that are.
        """
        name = 'all topics' if topics is None else ' and '.join(topics)
        faults: list[str] = []
        count = 0
        for message in heapq.merge(
                *(self._of_file(reader, topics, faults) for reader in self._readers),
                key=lambda message: message.time_ns):
            yield message
            count += 1
        if self.fault:
            faults.insert(0, self.fault)
        if faults:
            raise BagError(f'{self.path}: after {count} messages of {name}: {"; ".join(faults)}')

    def _of_file(
        self, reader: Ros1Reader | Ros2Reader, topics: Collection[str] | None, faults: list[str],
    ) -> Iterator[BagMessage]:
        connections = [
            connection for connection in reader.connections
            if topics is None or connection.topic in topics]
        # To rosbags none are all.
        if not connections:
            return
        count = 0
        try:
            # Of what it scans rosbags refuses times that jump back.
            for message in (
                    reader.storage.messages_scan(connections)
                    if isinstance(reader.path, CutMcap) else reader.messages(connections)):
                yield BagMessage(*message)
                count += 1
        # Parsing damaged bytes can raise anything from struct.error to zstd's own.
        except Exception as error:
            file = Path(str(reader.path)).name
            faults.append(f'{file} is damaged after {count} of them: {_line(error)}')

    def image(self, message: BagMessage) -> BagImage:
        """
        Return a message of one of :data:`IMAGE_TYPES`.

        :raises BagError: If its bytes are damaged.
        """
        kind = message.connection.msgtype
        try:
            image = (
                self._typestore.deserialize_ros1(message.data, kind) if self.is_ros1
                else self._typestore.deserialize_cdr(message.data, kind))
            header = image.header
            stamp_ns = header.stamp.sec * 10**9 + header.stamp.nanosec
        except Exception as error:
            raise BagError(
                f'{self.path}: damaged message of {message.connection.topic} at '
                f'{message.time_ns} ns: {_line(error)}') from error
        return BagImage(
            message.connection.topic, message.time_ns, stamp_ns, header.frame_id, image)

    def _open(self) -> tuple[list[Ros1Reader | Ros2Reader], str]:
        path = self.path
        if not path.exists():
            raise BagError(f'{path}: no such bag')
        files, faults = [path], []
        if path.is_dir():
            files = sorted(
                file for file in path.iterdir() if is_bag_file(file) and file.suffix != '.bag')
            if (path / 'metadata.yaml').exists():
                try:
                    return [self._opened(path)], ''
                except Exception as error:
                    faults.append(_line(error))
            else:
                faults.append(
                    'no metadata.yaml, so not a finished rosbag2; `ros2 bag reindex` makes one')
        readers = []
        for file in files:
            try:
                if is_cut(file):
                    readers.append(self._opened(CutMcap(file)))
                    faults.append(f'{file.name} is cut short')
                else:
                    readers.append(self._opened(file))
            except Exception as error:
                faults.append(f'{file.name}: {_line(error)}')
        fault = '; '.join(faults)
        if not readers:
            hint = ''.join(_RESCUE.get(suffix, '') for suffix in {file.suffix for file in files})
            raise BagError(f'{path}: cannot be read as a bag: {fault}{hint}')
        return readers, fault

    def _opened(self, path: Any) -> Ros1Reader | Ros2Reader:
        return self._stack.enter_context(Ros1Reader(path) if self.is_ros1 else Ros2Reader(path))


def is_bag_file(path: Path) -> bool:
    """Return whether a file has a name of one of a bag, of ROS 1 or of rosbag2."""
    # macOS leaves a file ._a.mcap beside a.mcap.
    return path.suffix in _SUFFIXES and not path.name.startswith('.')


def image_topics(path: str | Path) -> dict[str, str]:
    """
    Return the image topics of a bag with their message types, those of :data:`IMAGE_TYPES`.

    :param path: As for :class:`BagReader`.
    :raises BagError: If it cannot be opened at all; a bag that is cut short can be.
    """
    with BagReader(path) as reader:
        return reader.image_topics()


def read_images(path: str | Path, topic: str | None = None) -> Iterator[BagImage]:
    """
    Yield the images of one topic in the order of the bag, one in memory at a time.

    :param path: As for :class:`BagReader`.
    :param topic: The topic; None if the bag has only one of images.
    :raises BagError: At the first image, if the bag or topic does not exist; later, where the
        bag is damaged or cut short, after all that could be read before.
    """
    with BagReader(path) as reader:
        for message in reader.messages([reader.image_topic(topic)]):
            yield reader.image(message)


def _line(error: Exception) -> str:
    return ' '.join(str(error).split()) or type(error).__name__
