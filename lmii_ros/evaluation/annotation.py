# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A bag of what the network made of another one."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

from lmii_ros import rendering
from lmii_ros.bags import BagError
from lmii_ros.bags import BagMessage
from lmii_ros.bags import BagReader
from lmii_ros.bags import ImageBagWriter
from lmii_ros.classes import ClassTable
from lmii_ros.drivable import drivable_area
from lmii_ros.evaluation.bag_frames import BagFrame
from lmii_ros.segmenter import Segmentation

NODE = '/segmentation_node'


class Annotation:
    """
    Writes what the segmentation node would publish, under its topics, in a `with` block.

    :param path: The folder of the bag to make.
    :param classes: What the labels mean.
    :param originals: A bag whose topics are written too, in the order of recording, or None.
    :raises BagError: If the path exists, or the originals are of ROS 1.
    """

    def __init__(self, path: Path, classes: ClassTable, originals: BagReader | None) -> None:
        if originals is not None and originals.is_ros1:
            raise BagError(
                f'{originals.path}: topics of ROS 1 cannot go into a rosbag2 as they are; convert '
                'it first: rosbags-convert --src OLD.bag --dst NEW')
        self._writer = ImageBagWriter(path)
        self._classes = classes
        self._palette = classes.palette()
        self._drivable = classes.indices(classes.drivable)
        self.faults: dict[str, str] = {}
        """By topic, why an original was left out."""
        self._originals = iter(()) if originals is None else _whole(originals)
        self._next_original = next(self._originals, None)

    def __enter__(self) -> Annotation:
        self._writer.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        # After an interrupt nobody waits for the rest of a long bag.
        if kind is None:
            self._write_originals(None)
        self._writer.__exit__(kind, *error)

    def add(self, frame: BagFrame, segmentation: Segmentation) -> None:
        """Write what was seen in a frame, after the originals that were recorded before it."""
        self._write_originals(frame.time_ns)
        area = drivable_area(segmentation.labels, self._drivable)
        overlay = rendering.overlay(
            frame.image, segmentation.labels, area, self._palette, rendering.OPACITY)
        for name, image, encoding in (
                ('labels', segmentation.labels, 'mono8'),
                ('color', rendering.colorize(segmentation.labels, self._palette), 'rgb8'),
                ('confidence', segmentation.confidence, 'mono8'),
                ('drivable', area, 'mono8')):
            self._writer.write_image(
                f'{NODE}/{name}', frame.stamp_ns, frame.frame_id, image, encoding, frame.time_ns)
        self._writer.write_compressed(
            f'{NODE}/overlay/compressed', frame.stamp_ns, frame.frame_id,
            rendering.jpeg(overlay, rendering.JPEG_QUALITY), rendering.JPEG_FORMAT, frame.time_ns)

    def _write_originals(self, until_ns: int | None) -> None:
        while self._next_original is not None and (
                until_ns is None or self._next_original.time_ns <= until_ns):
            self._write_original(self._next_original)
            self._next_original = next(self._originals, None)

    def _write_original(self, message: BagMessage) -> None:
        topic = message.connection.topic
        # What an earlier run of the node left gives way to what this network made.
        if topic.startswith(f'{NODE}/') or topic in self.faults:
            return
        try:
            self._writer.write_original(message)
        except BagError as error:
            self.faults[topic] = str(error)


def _whole(reader: BagReader) -> Iterator[BagMessage]:
    """Yield the messages up to where the bag is damaged, which its evaluation reports."""
    try:
        yield from reader.messages()
    except BagError:
        return
