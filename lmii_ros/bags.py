# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Bags: camera images out of rosbag2 and ROS 1 bags, and into rosbag2; no ROS needed."""

from __future__ import annotations

import io
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import BinaryIO
from typing import Iterator

import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionFormat
from rosbags.rosbag2 import CompressionMode
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores
from rosbags.typesys import get_typestore

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')

_MCAP_MAGIC = b'\x89MCAP0\r\n'
_MCAP_FOOTER = b'\x02' + (20).to_bytes(8, 'little') + bytes(20) + _MCAP_MAGIC


class BagError(ValueError):
    """A bag cannot be read or written as asked; the text is one line that names it."""


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


def image_topics(path: str | Path) -> dict[str, str]:
    """
    Return the image topics of a bag with their message types, those of :data:`IMAGE_TYPES`.

    :param path: As in :func:`read_images`.
    :raises BagError: If it cannot be opened at all; a bag that is cut short can be.
    """
    path = Path(path)
    reader, _ = _open(path)
    with closing(reader):
        return _image_topics(reader)


def read_images(path: str | Path, topic: str | None = None) -> Iterator[BagImage]:
    """
    Yield the images of one topic in the order of the bag, one in memory at a time.

    :param path: A rosbag2 folder (mcap or sqlite3, also compressed), a single .mcap or .db3
        file, or a ROS 1 .bag file.
    :param topic: The topic; None if the bag has only one of images.
    :raises BagError: At the first image, if the bag or topic does not exist; later, where the
        bag is damaged or cut short, after all that could be read before.
    """
    path = Path(path)
    reader, fault = _open(path)
    with closing(reader):
        topics = _image_topics(reader)
        have = ', '.join(topics) or 'none'
        if fault:
            have += f'; it is cut short: {fault}'
        if topic is None:
            if len(topics) != 1:
                raise BagError(f'{path}: name one of its image topics: {have}')
            topic, = topics
        if topic not in topics:
            raise BagError(f'{path}: no image topic {topic!r}; it has: {have}')
        messages = reader.messages([
            connection for connection in reader.connections
            if connection.topic == topic and connection.msgtype in IMAGE_TYPES])
        count = 0
        while True:
            try:
                connection, time_ns, data = next(messages)
                message = reader.deserialize(data, connection.msgtype)
                header = message.header
            except StopIteration:
                break
            # Parsing damaged bytes can raise anything from struct.error to zstd's own.
            except Exception as error:
                raise BagError(
                    f'{path}: damaged after {count} images of {topic}: {_line(error)}'
                ) from error
            yield BagImage(
                connection.topic, time_ns,
                header.stamp.sec * 10**9 + header.stamp.nanosec, header.frame_id, message)
            count += 1
    if fault:
        raise BagError(f'{path}: cut short after {count} images of {topic}: {fault}')


def _image_topics(reader: AnyReader) -> dict[str, str]:
    return {
        connection.topic: connection.msgtype
        for connection in sorted(reader.connections, key=lambda connection: connection.topic)
        if connection.msgtype in IMAGE_TYPES}


def _open(path: Path) -> tuple[AnyReader, str]:
    """
    Return an open reader, and what is wrong with the bag where it reads up to a point only.

    :raises BagError: If nothing of it can be read.
    """
    if not path.exists():
        raise BagError(f'{path}: no such bag')
    if path.is_dir() and not (path / 'metadata.yaml').exists():
        raise BagError(
            f'{path}: no metadata.yaml, so not a finished rosbag2; name the .mcap or .db3 file '
            'in it, or run `ros2 bag reindex`')
    try:
        return _opened([path]), ''
    except Exception as error:
        fault = _line(error)
    # A recorder that was killed, or a full disk, leaves an mcap without the index at its end.
    files = sorted(path.glob('*.mcap')) if path.is_dir() else [path]
    try:
        cut = [file for file in files if _is_cut(file)]
        if cut:
            return _opened([_CutMcap(file) if file in cut else file for file in files]), fault
    except Exception as error:
        fault = _line(error)
    raise BagError(f'{path}: cannot be read as a bag: {fault}')


def _opened(paths: list[Any]) -> AnyReader:
    # Bags of Humble and before carry no message definitions in sqlite3; those of images and
    # headers have not changed since.
    reader = AnyReader(paths, default_typestore=get_typestore(Stores.ROS2_JAZZY))
    reader.open()
    return reader


def _line(error: Exception) -> str:
    return ' '.join(str(error).split()) or type(error).__name__


def _is_cut(path: Path) -> bool:
    with path.open('rb') as file:
        if file.read(len(_MCAP_MAGIC)) != _MCAP_MAGIC:
            return False
        file.seek(-len(_MCAP_MAGIC), io.SEEK_END)
        return file.read() != _MCAP_MAGIC


class _CutMcap:
    """An mcap file without its end, in the place of a path to a whole one."""

    suffix = '.mcap'

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        return True

    def is_dir(self) -> bool:
        return False

    def open(self, mode: str) -> BinaryIO:
        return io.BufferedReader(_WholeRecords(self.path))


class _WholeRecords(io.RawIOBase):
    """The whole records of an mcap file and an empty footer: what rosbags reads by scanning."""

    def __init__(self, path: Path) -> None:
        self._file = path.open('rb')
        self._at = 0
        self._length = len(_MCAP_MAGIC)
        size = path.stat().st_size
        while True:
            self._file.seek(self._length)
            head = self._file.read(9)
            end = self._length + 9 + int.from_bytes(head[1:], 'little')
            # Zeros follow after a power failure, to a scan millions of empty records.
            if len(head) < 9 or end > size or head[0] == 0:
                break
            self._length = end

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._length + len(_MCAP_FOOTER))[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at < self._length:
            self._file.seek(self._at)
            count = self._file.readinto(memoryview(buffer)[:self._length - self._at])
        else:
            tail = _MCAP_FOOTER[self._at - self._length:][:len(buffer)]
            buffer[:len(tail)] = tail
            count = len(tail)
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class ImageBagWriter:
    """
    Writes images into a new rosbag2 folder, with mcap storage; to be used in a `with` block.

    The time of a message in the bag is its stamp.

    :param path: The folder to make.
    :raises BagError: If the path exists.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        if self._path.exists():
            raise BagError(f'{path}: exists already; choose another path or remove it')
        # Version 9 stores the QoS profiles as a list, which Humble, Iron and the like refuse
        # with "bad conversion"; version 8 stores them as text, which they and all later read.
        self._writer = Writer(self._path, version=8, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._typestore = get_typestore(Stores.ROS2_HUMBLE)
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> ImageBagWriter:
        try:
            self._writer.open()
        except OSError as error:
            raise BagError(f'{self._path}: cannot be written: {error.strerror}') from error
        return self

    def __exit__(self, *_: object) -> None:
        # Finished after an error too: what has been written is then a bag that can be read.
        self._writer.close()

    def write_image(
            self, topic: str, stamp_ns: int, frame_id: str, array: np.ndarray, encoding: str
    ) -> None:
        """
        Write a sensor_msgs/Image.

        :param stamp_ns: Its stamp, in nanoseconds.
        :param array: uint8 [H, W] or [H, W, C], laid out as the encoding says.
        :param encoding: One of 8 bits a channel, such as bgr8, rgb8, mono8.
        :raises BagError: If the array is of another kind, or the topic of another type.
        """
        if array.dtype != np.uint8 or array.ndim not in (2, 3):
            raise BagError(
                f'{self._path}: an image for {topic} is {array.dtype} {list(array.shape)}, '
                'expected uint8 [H, W] or [H, W, C]')
        height, width = array.shape[:2]
        data = array.reshape(-1)
        self._write(topic, 'sensor_msgs/msg/Image', stamp_ns, frame_id, dict(
            height=height, width=width, encoding=encoding, is_bigendian=0,
            step=data.size // max(1, height), data=data))

    def write_compressed(
            self, topic: str, stamp_ns: int, frame_id: str, jpeg_bytes: Any, format: str
    ) -> None:
        """
        Write a sensor_msgs/CompressedImage.

        :param stamp_ns: Its stamp, in nanoseconds.
        :param jpeg_bytes: The JPEG (or PNG) file as bytes or uint8 array.
        :param format: As image_transport has it, such as 'bgr8; jpeg compressed bgr8'.
        :raises BagError: If the topic was written with another type before.
        """
        self._write(topic, 'sensor_msgs/msg/CompressedImage', stamp_ns, frame_id, dict(
            format=format, data=np.frombuffer(jpeg_bytes, np.uint8)))

    def write_camera_info(
            self, topic: str, stamp_ns: int, frame_id: str, width: int, height: int, k: Any
    ) -> None:
        """
        Write a sensor_msgs/CameraInfo of a camera without distortion.

        :param stamp_ns: Its stamp, in nanoseconds.
        :param width: Image width in pixels; `height` likewise.
        :param k: The intrinsic matrix, 3x3 or its nine values row by row, in pixels.
        :raises BagError: If the matrix is not 3x3, or the topic of another type.
        """
        k = np.asarray(k, np.float64)
        if k.size != 9:
            raise BagError(
                f'{self._path}: the camera matrix for {topic} has {k.size} values, expected 9')
        k = k.reshape(3, 3)
        types = self._typestore.types
        self._write(topic, 'sensor_msgs/msg/CameraInfo', stamp_ns, frame_id, dict(
            height=height, width=width, distortion_model='plumb_bob', d=np.zeros(5),
            k=k.reshape(-1), r=np.eye(3).reshape(-1), p=np.c_[k, np.zeros(3)].reshape(-1),
            binning_x=0, binning_y=0,
            roi=types['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False)))

    def _write(
            self, topic: str, kind: str, stamp_ns: int, frame_id: str, fields: dict[str, Any]
    ) -> None:
        connection = self._connections.get(topic)
        if connection is None:
            connection = self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self._typestore)
        if connection.msgtype != kind:
            raise BagError(
                f'{self._path}: topic {topic} holds {connection.msgtype}, cannot take {kind}')
        types = self._typestore.types
        seconds, nanoseconds = divmod(int(stamp_ns), 10**9)
        header = types['std_msgs/msg/Header'](
            types['builtin_interfaces/msg/Time'](seconds, nanoseconds), frame_id)
        message = types[kind](header=header, **fields)
        data = self._typestore.serialize_cdr(message, kind)
        try:
            self._writer.write(connection, int(stamp_ns), data)
        except OSError as error:
            raise BagError(f'{self._path}: cannot be written: {error.strerror}') from error
