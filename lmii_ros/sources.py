# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Sources of frames without a camera: a folder, a video, a bag, or the synthetic scene."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from typing import Callable
from typing import Iterator

import cv2
import numpy as np

from lmii_ros.bags import BagError
from lmii_ros.bags import BagImage
from lmii_ros.bags import BagReader
from lmii_ros.bags import is_bag_file
from lmii_ros.bags.matching import Match
from lmii_ros.bags.matching import Stamped
from lmii_ros.bags.matching import match
from lmii_ros.datasets import is_image_file
from lmii_ros.frames import FrameError
from lmii_ros.frames import decode
from lmii_ros.frames import decode_compressed
from lmii_ros.frames import decode_label_png
from lmii_ros.frames import decode_labels
from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import RoadScene
from lmii_ros.simulation import SYNTHETIC


class SourceError(ValueError):
    """A source has no frames, or one that cannot be read; the text is one line that names it."""


@dataclass(frozen=True)
class SourceFrame:
    """
    One frame.

    :param image: uint8 [H, W, 3] BGR; perhaps read-only.
    :param labels: uint8 [H, W], or None if there are none for this frame.
    """

    image: np.ndarray
    labels: np.ndarray | None


def open_source(
        source: str, *, labels: str = '', topic: str = '', size: tuple[int, int] | None = None,
        seed: int = 0, rate: float = 15.0) -> Iterator[SourceFrame]:
    """
    Return the frames of a source, in order and once; those of the synthetic scene never end.

    :param source: '' or 'synthetic', a folder of .jpg and .png files (in the order of their
        names), a video file, or a bag as :class:`lmii_ros.bags.BagReader` takes it.
    :param labels: For a folder, the folder of one-channel PNG label images with the same stems,
        one for each picture. For a bag, its topic of label images, matched by equal stamps
        (:func:`lmii_ros.bags.matching.match`); an image that none matches has no labels. The
        synthetic scene always has labels.
    :param topic: The image topic of a bag; may be empty if it has only one besides `labels`.
    :param size: (width, height) in pixels of the frames, or None for their own; images are
        resized bilinearly, labels by nearest neighbour.
    :param seed: Which synthetic scene.
    :param rate: Frames a second of the synthetic scene.
    :raises SourceError: Here if the source cannot be opened, from the iterator at a frame that
        cannot be read.
    """
    if size is not None and min(size) < 1:
        raise SourceError(f'frames of {size[0]}x{size[1]} pixels; expected at least 1x1')
    if source in ('', SYNTHETIC):
        return _synthetic(size, seed, rate)
    path = Path(source)
    if not path.exists():
        raise SourceError(
            f'{source}: no such file or folder; expected a folder of pictures, a video, a bag, '
            f'or {SYNTHETIC!r}')
    if is_bag_file(path) or path.is_dir() and (
            (path / 'metadata.yaml').exists() or any(map(is_bag_file, path.iterdir()))):
        frames = _bag(path, topic, labels)
    elif path.is_dir():
        frames = _folder(path, labels)
    elif labels:
        raise SourceError(f'{source}: labels {labels!r} given, but a video has none')
    else:
        frames = _video(path)
    return frames if size is None else (_resized(frame, size) for frame in frames)


def _synthetic(size: tuple[int, int] | None, seed: int, rate: float) -> Iterator[SourceFrame]:
    if not rate > 0:
        raise SourceError(f'rate is {rate} frames a second, expected more than 0')
    scene = RoadScene(seed=seed, camera=PinholeCamera.from_fov(*size) if size else None)
    rendered = (scene.render(index / rate) for index in count())
    return (SourceFrame(frame.image, frame.labels) for frame in rendered)


def _folder(path: Path, labels: str) -> Iterator[SourceFrame]:
    files = sorted(filter(is_image_file, path.iterdir()))
    if not files:
        raise SourceError(f'{path}: no .jpg or .png files in this folder')
    if labels and not Path(labels).is_dir():
        raise SourceError(f'{labels}: not a folder of label images')
    pairs = [(file, Path(labels, f'{file.stem}.png') if labels else None) for file in files]
    for file, label_file in pairs:
        if label_file is not None and not label_file.exists():
            raise SourceError(f'{label_file}: missing, the label image of {file}')
    return (_read_pair(*pair) for pair in pairs)


def _read_pair(file: Path, label_file: Path | None) -> SourceFrame:
    try:
        image = decode_compressed(file.read_bytes())
    except (OSError, FrameError) as error:
        raise SourceError(f'{file}: not a readable picture: {error}') from error
    if label_file is None:
        return SourceFrame(image, None)
    try:
        labels = decode_label_png(label_file.read_bytes())
    except (OSError, FrameError) as error:
        raise SourceError(f'{label_file}: not a readable label image: {error}') from error
    return _paired(image, labels, str(label_file))


def _paired(image: np.ndarray, labels: np.ndarray, name: str) -> SourceFrame:
    if labels.shape != image.shape[:2]:
        raise SourceError(
            f'{name}: labels of {labels.shape[1]}x{labels.shape[0]} pixels, '
            f'the image has {image.shape[1]}x{image.shape[0]}')
    return SourceFrame(image, labels)


def _video(path: Path) -> Iterator[SourceFrame]:
    capture = cv2.VideoCapture(str(path))
    read, image = capture.read()
    if not read:
        raise SourceError(f'{path}: no frame can be read; expected a video file')

    def frames(image: np.ndarray) -> Iterator[SourceFrame]:
        read = True
        while read:
            yield SourceFrame(image, None)
            read, image = capture.read()

    return frames(image)


def _bag(path: Path, topic: str, labels: str) -> Iterator[SourceFrame]:
    try:
        with BagReader(path) as reader:
            if labels:
                reader.image_topic(labels)
            topic = reader.image_topic(topic or None, besides=[labels])
    except BagError as error:
        raise SourceError(str(error)) from error
    return _bag_frames(path, topic, labels)


def _bag_frames(path: Path, topic: str, labels: str) -> Iterator[SourceFrame]:
    faults = []

    def images(reader: BagReader) -> Iterator[Stamped[BagImage]]:
        try:
            for message in reader.messages([topic, labels] if labels else [topic]):
                image = reader.image(message)
                yield Stamped(image.stamp_ns, image.topic == labels, image)
        # Told after the images that still wait for their labels.
        except BagError as error:
            faults.append(str(error))

    matched = False
    with BagReader(path) as reader:
        found = images(reader)
        for pair in match(found, 0) if labels else (Match(one.message, None) for one in found):
            if pair.image is None:
                continue
            pixels = _decoded(path, pair.image, decode)
            if pair.labels is None:
                yield SourceFrame(pixels, None)
            else:
                matched = True
                yield _paired(
                    pixels, _decoded(path, pair.labels, decode_labels),
                    f'{path}: {labels} at {pair.image.stamp_ns} ns')
    if faults:
        raise SourceError(faults[0])
    if labels and not matched:
        raise SourceError(f'{path}: no image of {labels} has the stamp of one of {topic}')


def _decoded(path: Path, image: BagImage, decoder: Callable[[Any], np.ndarray]) -> np.ndarray:
    try:
        return decoder(image.message)
    except FrameError as error:
        raise SourceError(f'{path}: {image.topic} at {image.stamp_ns} ns: {error}') from error


def _resized(frame: SourceFrame, size: tuple[int, int]) -> SourceFrame:
    return SourceFrame(
        cv2.resize(frame.image, size, interpolation=cv2.INTER_LINEAR),
        None if frame.labels is None else cv2.resize(
            frame.labels, size, interpolation=cv2.INTER_NEAREST))
