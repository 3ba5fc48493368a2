# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Pictures of a segmentation, for people."""

from __future__ import annotations

from typing import Sequence

import cv2
import numpy as np

from lmii_ros.classes import MAX_CLASSES
from lmii_ros.classes import UNKNOWN

OPACITY = 0.5
JPEG_QUALITY = 80
"""Of overlays, unless asked otherwise."""
JPEG_FORMAT = 'rgb8; jpeg compressed bgr8'
"""Of sensor_msgs/CompressedImage, for what :func:`jpeg` returns; as compressed_image_transport."""
DRIVABLE_COLOR = (0, 230, 120)
"""Red, green, blue of the drivable area in overlays; no class of the tables has it."""
_DRIVABLE = MAX_CLASSES
_LINE_HEIGHT = 22


def colorize(labels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """
    Return the labels in their colours.

    :param labels: uint8 [H, W].
    :param palette: uint8 [256, 3], in the channel order that the result is to have.
    :return: uint8 [H, W, 3].
    """
    return cv2.applyColorMap(labels, palette.reshape(256, 1, 3))


def overlay(
    frame: np.ndarray,
    labels: np.ndarray,
    drivable: np.ndarray,
    palette: np.ndarray,
    opacity: float,
) -> np.ndarray:
    """
    Blend the classes' colours and the drivable area into a frame.

    :param frame: uint8 [H, W, 3], blue, green, red.
    :param labels: uint8 [H, W].
    :param drivable: uint8 [H, W], 255 where drivable; shown in :data:`DRIVABLE_COLOR`.
    :param palette: uint8 [256, 3], red, green, blue.
    :param opacity: Share of the colours, 0..1.
    :return: uint8 [H, W, 3], red, green, blue.
    """
    colors = palette.copy()
    colors[_DRIVABLE] = DRIVABLE_COLOR
    shown = np.maximum(labels, drivable & np.uint8(_DRIVABLE))
    return cv2.addWeighted(
        cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), 1 - opacity, colorize(shown, colors), opacity, 0)


def jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    """
    Return the bytes of a JPEG.

    :param picture: uint8 [H, W, 3], red, green, blue.
    :param quality: 1 to 100.
    :return: uint8 [N].
    """
    _, data = cv2.imencode(
        '.jpg', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, quality))
    return data


def difference(labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """
    Show where labels are right and where they are wrong.

    :param labels: uint8 [H, W]; `truth` likewise.
    :return: uint8 [H, W, 3] BGR: white where right, red where wrong, black where the truth is
        unknown.
    """
    picture = np.zeros((*truth.shape, 3), np.uint8)
    picture[truth == labels] = 255
    picture[truth != labels] = (0, 0, 255)
    picture[truth == UNKNOWN] = 0
    return picture


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]], captions: Sequence[str], width: int = 400,
) -> np.ndarray:
    """
    Lay pictures out in rows, each under its caption.

    :param rows: Pictures uint8 [H, W, 3]; each row of as many.
    :param captions: One for each row.
    :param width: Width of each picture on the sheet, in pixels.
    :return: uint8 [H, W, 3], in the pictures' channel order.
    """
    strips = []
    for pictures, caption in zip(rows, captions):
        height = round(width * pictures[0].shape[0] / pictures[0].shape[1])
        line = np.zeros((_LINE_HEIGHT, width * len(pictures), 3), np.uint8)
        cv2.putText(
            line, caption, (6, _LINE_HEIGHT - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.45,
            (255, 255, 255), 1, cv2.LINE_AA)
        strips += [line, np.hstack([
            cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
            for picture in pictures])]
    return np.vstack(strips)
