# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Pictures of the worst and of evenly spaced frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lmii_ros import rendering
from lmii_ros.classes import ClassTable

WORST = 6
WORST_PERIOD_NS = 10**9
"""Of which one frame is taken at most: neighbours look alike."""
EVEN = 8
"""Evenly spaced frames that are kept at most; at least half as many of a bag that has them."""
MAX_WIDTH = 960
FOLDER = 'frames'
JPEG_QUALITY = 90


@dataclass(frozen=True)
class _Picture:
    """A frame at the size of its pictures; `labels` and `truth` are uint8 [H, W]."""

    index: int
    stamp_ns: int
    miou: float | None
    image: np.ndarray
    labels: np.ndarray
    truth: np.ndarray | None


class Pictures:
    """
    Keeps the frames with the lowest mIoU, of each second the lowest, and evenly spaced ones.

    Memory is bounded, however many frames there are.

    :param classes: For the colours.
    """

    def __init__(self, classes: ClassTable) -> None:
        self._palette = classes.palette()[:, ::-1].copy()
        self._worst: dict[int, _Picture] = {}
        self._even: list[_Picture] = []
        self._stride = 1
        self._count = 0

    def offer(
        self,
        index: int,
        stamp_ns: int,
        miou: float | None,
        image: np.ndarray,
        labels: np.ndarray,
        truth: np.ndarray | None,
    ) -> None:
        """
        Take a frame, which is kept if it is one of the worst or its turn.

        :param index: Of the frame, ascending.
        :param stamp_ns: Its stamp, in nanoseconds.
        :param miou: Of this frame, None if unknown.
        :param image: uint8 [H, W, 3] BGR.
        :param labels: uint8 [H, W]; `truth` likewise, or None.
        """
        is_worst = miou is not None and self._is_worst(stamp_ns, miou)
        is_even = self._count % self._stride == 0
        self._count += 1
        if not is_worst and not is_even:
            return
        picture = _Picture(
            index, stamp_ns, miou, _small(image, cv2.INTER_AREA),
            _small(labels, cv2.INTER_NEAREST),
            None if truth is None else _small(truth, cv2.INTER_NEAREST))
        if is_worst:
            self._worst[stamp_ns // WORST_PERIOD_NS] = picture
            if len(self._worst) > WORST:
                del self._worst[self._best_of_worst()]
        if is_even:
            self._even.append(picture)
            if len(self._even) > EVEN:
                del self._even[1::2]
                self._stride *= 2

    def _is_worst(self, stamp_ns: int, miou: float) -> bool:
        rival = self._worst.get(stamp_ns // WORST_PERIOD_NS)
        if rival is None and len(self._worst) == WORST:
            rival = self._worst[self._best_of_worst()]
        return rival is None or miou < rival.miou

    def _best_of_worst(self) -> int:
        """Return the second of the best frame, of those alike the latest."""
        return max(self._worst, key=lambda second: (
            self._worst[second].miou, self._worst[second].index))

    def write(self, out: Path) -> list[dict[str, Any]]:
        """
        Write the pictures below a folder, in the place of those of an earlier evaluation.

        :return: Their index, as `pictures` in docs/evaluation.md.
        """
        folder = out / FOLDER
        folder.mkdir(exist_ok=True)
        for old in folder.glob('[0-9]*_*'):
            old.unlink()
        chosen = {picture.index: ('even', picture) for picture in self._even}
        chosen |= {picture.index: ('worst', picture) for picture in self._worst.values()}
        return [
            self._write(folder, why, picture)
            for _, (why, picture) in sorted(chosen.items())]

    def _write(self, folder: Path, why: str, picture: _Picture) -> dict[str, Any]:
        files = {
            'camera': picture.image, 'truth': None,
            'prediction': rendering.colorize(picture.labels, self._palette), 'difference': None}
        if picture.truth is not None:
            files['truth'] = rendering.colorize(picture.truth, self._palette)
            files['difference'] = rendering.difference(picture.labels, picture.truth)
        entry: dict[str, Any] = {
            'index': picture.index, 'stamp_ns': picture.stamp_ns, 'why': why,
            'miou': picture.miou}
        for name, pixels in files.items():
            entry[name] = None
            if pixels is not None:
                suffix = '.jpg' if name == 'camera' else '.png'
                path = folder / f'{picture.index:06d}_{name}{suffix}'
                options = (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY) if suffix == '.jpg' else ()
                path.write_bytes(cv2.imencode(suffix, pixels, options)[1].tobytes())
                entry[name] = f'{FOLDER}/{path.name}'
        return entry


def _small(image: np.ndarray, interpolation: int) -> np.ndarray:
    height, width = image.shape[:2]
    if width <= MAX_WIDTH:
        # A view of a message's data would keep all of it.
        return image.copy()
    size = (MAX_WIDTH, max(1, round(height * MAX_WIDTH / width)))
    return cv2.resize(image, size, interpolation=interpolation)
