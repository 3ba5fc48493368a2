# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Writing images into rosbag2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Connection
from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag2 import CompressionFormat
from rosbags.rosbag2 import CompressionMode
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores
from rosbags.typesys import get_types_from_idl
from rosbags.typesys import get_types_from_msg
from rosbags.typesys import get_typestore

from lmii_ros import frames
from lmii_ros.bags.reading import BagError
from lmii_ros.bags.reading import BagMessage


class ImageBagWriter:
    """
    Writes images into a new rosbag2 folder, with mcap storage; to be used in a `with` block.

    The time of a message in the bag is `time_ns`, by default its stamp.

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
        self._connections: dict[str, Connection] = {}
        self._originals: dict[tuple[str, str], Connection] = {}

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
            self, topic: str, stamp_ns: int, frame_id: str, array: np.ndarray, encoding: str,
            time_ns: int | None = None) -> None:
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
        self._write(topic, 'sensor_msgs/msg/Image', stamp_ns, time_ns, frame_id, dict(
            height=height, width=width, encoding=encoding, is_bigendian=0,
            step=data.size // max(1, height), data=data))

    def write_frame(
            self, topic: str, stamp_ns: int, frame_id: str, image: np.ndarray, encoding: str
    ) -> None:
        """
        Write a frame as a sensor_msgs/Image of any encoding.

        :param stamp_ns: Its stamp, in nanoseconds.
        :param image: uint8 [H, W, 3] BGR.
        :param encoding: See :func:`lmii_ros.frames.encode`.
        :raises FrameError: If the frame does not fit the encoding, or there is none such.
        :raises BagError: If the topic was written with another type before.
        """
        data, step = frames.encode(image, encoding)
        height, width = image.shape[:2]
        self._write(topic, 'sensor_msgs/msg/Image', stamp_ns, None, frame_id, dict(
            height=height, width=width, encoding=encoding, is_bigendian=0, step=step,
            data=data.reshape(-1)))

    def write_compressed(
            self, topic: str, stamp_ns: int, frame_id: str, jpeg_bytes: Any, format: str,
            time_ns: int | None = None) -> None:
        """
        Write a sensor_msgs/CompressedImage.

        :param stamp_ns: Its stamp, in nanoseconds.
        :param jpeg_bytes: The JPEG (or PNG) file as bytes or uint8 array.
        :param format: As image_transport has it, such as 'bgr8; jpeg compressed bgr8'.
        :raises BagError: If the topic was written with another type before.
        """
        self._write(topic, 'sensor_msgs/msg/CompressedImage', stamp_ns, time_ns, frame_id, dict(
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
        self._write(topic, 'sensor_msgs/msg/CameraInfo', stamp_ns, None, frame_id, dict(
            height=height, width=width, distortion_model='plumb_bob', d=np.zeros(5),
            k=k.reshape(-1), r=np.eye(3).reshape(-1), p=np.c_[k, np.zeros(3)].reshape(-1),
            binning_x=0, binning_y=0,
            roi=types['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False)))

    def write_original(self, message: BagMessage) -> None:
        """
        Write a message of another rosbag2 as it is, under its topic and time.

        :raises BagError: If the definition of its type is neither in that bag nor known.
        """
        connection = message.connection
        key = (connection.topic, connection.msgtype)
        if key not in self._originals:
            self._originals[key] = self._original(connection)
        self._put(self._originals[key], message.time_ns, message.data)

    def _original(self, connection: Connection) -> Connection:
        kind, definition = connection.msgtype, connection.msgdef
        try:
            how = {'typestore': self._typestore}
            if definition.format != MessageDefinitionFormat.NONE:
                typestore = get_typestore(Stores.EMPTY)
                typestore.register(
                    get_types_from_msg(definition.data, kind)
                    if definition.format == MessageDefinitionFormat.MSG
                    else get_types_from_idl(definition.data))
                how = {'msgdef': definition.data, 'rihs01': typestore.hash_rihs01(kind)}
            return self._writer.add_connection(
                connection.topic, kind, **how,
                offered_qos_profiles=connection.ext.offered_qos_profiles)
        # Definitions come from whoever wrote the bag; parsing them can raise anything.
        except Exception as error:
            raise BagError(
                f'{self._path}: cannot take {connection.topic}: the definition of {kind} is '
                f'missing or malformed ({type(error).__name__})') from error

    def _write(
            self, topic: str, kind: str, stamp_ns: int, time_ns: int | None, frame_id: str,
            fields: dict[str, Any]) -> None:
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
        self._put(connection, int(stamp_ns) if time_ns is None else time_ns, data)

    def _put(self, connection: Connection, time_ns: int, data: bytes) -> None:
        try:
            self._writer.write(connection, time_ns, data)
        except OSError as error:
            raise BagError(f'{self._path}: cannot be written: {error.strerror}') from error
