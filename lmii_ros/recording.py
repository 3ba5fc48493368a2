# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Recordings: the frames of a source as a bag, at a steady rate."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Iterator

import cv2
import numpy as np
from tqdm import tqdm

from lmii_ros import frames
from lmii_ros import sources
from lmii_ros.bags import ImageBagWriter
from lmii_ros.classes import UNKNOWN
from lmii_ros.datasets import CAMVID_VOID
from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import SYNTHETIC

TOPIC = '/camera/image_raw'
INFO_TOPIC = '/camera/camera_info'
LABELS_TOPIC = '/camera/ground_truth'
FRAME_ID = 'camera_optical_frame'
START_NS = 10**9
"""Stamp of the first frame: the same source makes the same bag, and 0 means no stamp."""
JPEG_QUALITY = 95


class RecordingError(ValueError):
    """A recording was asked for that cannot be made; the text is one line."""


@dataclass(frozen=True)
class Recording:
    """
    What to record.

    :param source: See :func:`lmii_ros.sources.open_source`.
    :param out: The bag to make, a folder.
    :param labels: Ground truth of the source, see there; empty for none.
    :param topic: Image topic of a source that is a bag.
    :param size: (width, height) of the frames in pixels, None for their own.
    :param rate: Frames a second.
    :param encoding: Of :func:`lmii_ros.frames.encode`, or 'jpeg' or 'png' for CompressedImage.
    :param frames: How many at most, 0 for all; the synthetic scene has no end.
    :param fov_deg: Horizontal field of view for camera_info, in degrees; None leaves it
        uncalibrated (zeros, as sensor_msgs/CameraInfo has it).
    :param void: Label that becomes UNKNOWN, which is 255; None for 11 if the folders are of
        CamVid's layout (`val` with labels in `valannot`), else for none.
    """

    source: str
    out: Path
    labels: str = ''
    topic: str = ''
    size: tuple[int, int] | None = None
    rate: float = 15.0
    encoding: str = 'bgr8'
    frames: int = 0
    fov_deg: float | None = None
    void: int | None = None


def record(recording: Recording) -> tuple[int, int]:
    """
    Make the bag, with an image, its camera_info and, where there is one, its label image a frame.

    :return: How many frames it has, and how many with labels.
    :raises RecordingError: If the recording is not possible.
    :raises SourceError: If the source cannot be read.
    :raises FrameError: If a frame does not fit the encoding.
    :raises BagError: If the bag exists.
    """
    if not 0.001 <= recording.rate <= 1e6:
        raise RecordingError(f'rate is {recording.rate}, expected 0.001 to 1000000 a second')
    if recording.frames < 0:
        raise RecordingError(f'{recording.frames} frames, expected 0 for all, or more')
    if recording.source in ('', SYNTHETIC) and not recording.frames:
        raise RecordingError('the synthetic scene has no end; say how many frames')
    if recording.fov_deg is not None and not 0 < recording.fov_deg < 180:
        raise RecordingError(f'field of view is {recording.fov_deg}, expected 0 to 180 degrees')
    frames = sources.open_source(
        recording.source, labels=recording.labels, topic=recording.topic, size=recording.size,
        rate=recording.rate)
    unknown = _void(recording)
    count = labelled = 0
    with _unfinished_removed(ImageBagWriter(recording.out), recording.out) as bag:
        for frame in tqdm(islice(frames, recording.frames or None), 'record', disable=None):
            stamp_ns = START_NS + round(count * 1e9 / recording.rate)
            _write_image(bag, stamp_ns, frame.image, recording.encoding)
            height, width = frame.image.shape[:2]
            bag.write_camera_info(
                INFO_TOPIC, stamp_ns, FRAME_ID, width, height,
                _matrix(width, height, recording.fov_deg))
            if frame.labels is not None:
                labels = np.where(frame.labels == unknown, np.uint8(UNKNOWN), frame.labels)
                bag.write_image(LABELS_TOPIC, stamp_ns, FRAME_ID, labels, 'mono8')
                labelled += 1
            count += 1
    return count, labelled


@contextmanager
def _unfinished_removed(writer: ImageBagWriter, path: Path) -> Iterator[ImageBagWriter]:
    """Leave no bag behind that looks whole where its source could not be read to the end."""
    try:
        with writer as bag:
            yield bag
    except Exception:
        shutil.rmtree(path, ignore_errors=True)
        raise


def _void(recording: Recording) -> int:
    if recording.void is not None:
        return recording.void
    is_camvid = recording.labels and (
        Path(recording.labels).name == f'{Path(recording.source).name}annot')
    return CAMVID_VOID if is_camvid else UNKNOWN


def _write_image(bag: ImageBagWriter, stamp_ns: int, image: np.ndarray, encoding: str) -> None:
    if encoding not in frames.COMPRESSED:
        bag.write_frame(TOPIC, stamp_ns, FRAME_ID, image, encoding)
        return
    options = (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY) if encoding == 'jpeg' else ()
    bag.write_compressed(
        f'{TOPIC}/compressed', stamp_ns, FRAME_ID,
        cv2.imencode(f'.{encoding}', image, options)[1], f'bgr8; {encoding} compressed bgr8')


def _matrix(width: int, height: int, fov_deg: float | None) -> np.ndarray:
    if fov_deg is None:
        return np.zeros((3, 3))
    return PinholeCamera.from_fov(width, height, fov_deg).matrix()
