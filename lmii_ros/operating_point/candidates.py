# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""What there is to choose from: offered weight files, input heights, precisions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from mmap import ACCESS_READ
from mmap import mmap
from pathlib import Path
from typing import Sequence

import numpy as np

from lmii_ros import weights
from lmii_ros.engines import PRECISIONS
from lmii_ros.operating_point import Candidate
from lmii_ros.operating_point import OperatingPoint
from lmii_ros.operating_point import OperatingPointError
from lmii_ros.weights import WeightInfo

AUTO = 'auto'
STEP = 32
"""Input heights are multiples of this, but for that of the training."""


@dataclass(frozen=True)
class Offer:
    """
    A weight file to choose from.

    :param path: Of the file.
    :param info: Its metadata.
    """

    path: Path
    info: WeightInfo

    @cached_property
    def digest(self) -> str:
        """Return what tells the file from others of its name."""
        with self.path.open('rb') as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            return hashlib.sha256(data).hexdigest()


def offers(names: Sequence[str | Path], weight_file: str | Path) -> list[Offer]:
    """
    Return the weight files to choose from.

    :param names: Paths of files or names of shipped ones. ``auto`` is every shipped one of the
        same classes as ``weight_file``, if that is a shipped one, else it alone.
    :param weight_file: The file whose classes all must have.
    :raises WeightError: If there is no such file, or its metadata is not that of a weight file.
    :raises OperatingPointError: If a file has other classes or tells no mIoU.
    """
    first = weights.find(weight_file)
    classes = weights.read_info(first).classes
    paths = []
    for name in names:
        if name == AUTO:
            paths.append(first)
            paths += _shipped_beside(first, classes)
        elif name:
            paths.append(weights.find(name))
    if not paths:
        raise OperatingPointError(
            f'no weight files are offered; expected {AUTO}, paths, or names of shipped ones')
    found = [Offer(path, weights.read_info(path)) for path in dict.fromkeys(
        path.resolve() for path in paths)]
    for offer in found:
        if offer.info.classes != classes:
            raise OperatingPointError(
                f'weight file {offer.path} has the classes of {offer.info.classes.name}, '
                f'expected those of {first}, {classes.name}, which the labels mean')
        if not offer.info.miou:
            raise OperatingPointError(
                f'weight file {offer.path} does not say its mIoU at any input height, which a '
                'target rate needs; set target_fps 0 and choose input_height instead')
    return found


def _shipped_beside(first: Path, classes: object) -> list[Path]:
    folder = weights.shipped_folder()
    if first.parent != folder:
        return []
    return [
        path for path in sorted(folder.glob(f'*{weights.SUFFIX}'))
        if weights.read_info(path).classes == classes]


def candidates(
    offered: Sequence[Offer], frame_height: int, *, precision: str = AUTO, input_height: int = 0,
) -> list[Candidate]:
    """
    Return the operating points to choose from.

    The heights are the multiples of :data:`STEP` between the smallest and largest at which the
    file's mIoU was measured, up to the camera's height or, if that is larger, the training's; and
    the training's own, where measured. The expected mIoU is interpolated linearly between the
    measured heights, never beyond them, less the precision's measured loss.

    :param offered: Weight files.
    :param frame_height: Height of the camera's frames.
    :param precision: The only one, or ``auto`` for fp32 and those whose loss the file tells.
    :param input_height: The only one, or 0; the nearest measured one tells the mIoU of a height
        beyond the measured ones.
    """
    found = []
    for offer in offered:
        measured = sorted(offer.info.miou)
        heights = [input_height] if input_height else _ladder(offer.info, frame_height)
        for name in PRECISIONS if precision == AUTO else (precision,):
            if precision == AUTO and name != 'fp32' and name not in offer.info.precision_loss:
                continue
            loss = offer.info.precision_loss.get(name, 0.0)
            found += [
                Candidate(
                    OperatingPoint(offer.path, name, height),
                    float(np.interp(height, measured, [offer.info.miou[at] for at in measured]))
                    - loss,
                    asked_for=precision != AUTO)
                for height in heights]
    return found


def _ladder(info: WeightInfo, frame_height: int) -> list[int]:
    lowest, highest = min(info.miou), max(info.miou)
    highest = max(lowest, min(
        highest, max(STEP * -(-frame_height // STEP), info.input_size[0])))
    heights = set(range(STEP * -(-lowest // STEP), highest + 1, STEP))
    # Measured exactly, and often the best.
    heights |= {info.input_size[0]} & info.miou.keys()
    return sorted(heights) or [lowest]
