# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Frames in, labels out: the one way in which node, evaluation and benchmark run a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import numpy as np

from lmii_ros import engines
from lmii_ros import weights
from lmii_ros.classes import UNKNOWN
from lmii_ros.engines import OutOfMemory
from lmii_ros.weights import WeightInfo

STRIDE = 16
"""Widths are multiples of this, the deepest stride of the networks."""


@dataclass(frozen=True)
class Segmentation:
    """
    What was seen in one frame; valid until the segmenter's call after the next.

    :param labels: uint8 [H, W], class index at the frame's size, UNKNOWN below the minimum
        confidence.
    :param confidence: uint8 [H, W], probability of the label's class times 255, or None if it was
        not asked for.
    """

    labels: np.ndarray
    confidence: np.ndarray | None


class Segmenter:
    """
    A network at one operating point.

    :param weight_file: Path of a weight file, or name of a shipped one.
    :param engine: Engine name or ``auto``, see :func:`lmii_ros.engines.choose`.
    :param device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``gpu``.
    :param precision: ``auto`` or a precision, see :func:`lmii_ros.engines.choose_precision`.
    :param threads: CPU threads, 0 for the engine's choice.
    :param input_height: Height at which the network sees a frame, 0 for that of its training. May
        be set between frames.
    :raises ValueError: If the input height is negative.
    :raises WeightError: If the weight file does not load.
    :raises EngineError: If the engine or device is not there.
    :raises OutOfMemory: If the device's memory does not suffice for the network.
    """

    def __init__(
        self,
        weight_file: str | Path,
        *,
        engine: str = 'auto',
        device: str = 'auto',
        precision: str = 'auto',
        threads: int = 0,
        input_height: int = 0,
    ) -> None:
        if input_height < 0:
            raise ValueError(f'input height {input_height}, expected 0 or more')
        self.weight_file = weights.find(weight_file)
        self.info, network = weights.load(self.weight_file)
        name, self.why_engine = engines.choose(engine, device)
        try:
            self.engine = engines.create(
                name, network, self.info, device=device, precision=precision, threads=threads)
        except Exception as error:
            if not engines.is_out_of_memory(error):
                raise
            raise OutOfMemory(
                f'out of memory on device {device} for the network of {self.weight_file}'
            ) from error
        self.input_height = input_height
        self._below = np.empty(0, bool)

    def input_size(self, frame_size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width at which the network sees frames of a size."""
        return input_size_of(self.info, self.input_height, frame_size)

    def prepare(self, frame_size: tuple[int, int]) -> None:
        """
        Do what the first frames of a size would else wait for, which may take seconds.

        :param frame_size: Height and width of the frames.
        :raises OutOfMemory: If the device's memory does not suffice.
        """
        # Without confidence and with it, for engines may compile each.
        for confidence in (False, True):
            self.segment([np.zeros((*frame_size, 3), np.uint8)], confidence=confidence)

    def segment(
        self,
        frames: Sequence[np.ndarray],
        *,
        confidence: bool = False,
        min_confidence: float = 0.0,
    ) -> list[Segmentation]:
        """
        Label frames of one size, as one batch.

        :param frames: uint8 [H, W, 3] each, blue, green, red.
        :param confidence: Whether to give the confidence too.
        :param min_confidence: Pixels below this confidence (0..1) become UNKNOWN.
        :raises NonFiniteOutput: If the network's output is not finite.
        :raises OutOfMemory: If the device's memory does not suffice.
        """
        height, width = self.input_size(frames[0].shape[:2])
        try:
            labels, certainty = self.engine.segment(
                frames, (height, width), confidence=confidence or min_confidence > 0)
        except Exception as error:
            if not engines.is_out_of_memory(error):
                raise
            raise OutOfMemory(
                f'out of memory on {self.engine.device} at input size {height}x{width}'
            ) from error
        if min_confidence > 0:
            if self._below.shape != certainty.shape:
                self._below = np.empty(certainty.shape, bool)
            np.less(certainty, 255 * min_confidence, out=self._below)
            np.copyto(labels, UNKNOWN, where=self._below)
        if not confidence:
            return [Segmentation(image, None) for image in labels]
        return [Segmentation(*pair) for pair in zip(labels, certainty)]


def input_size_of(
    info: WeightInfo, input_height: int, frame_size: tuple[int, int],
) -> tuple[int, int]:
    """
    Return height and width at which a network sees frames.

    The height is the asked-for one; the width keeps the aspect to the next multiple of
    :data:`STRIDE`.

    :param info: Of its weight file.
    :param input_height: 0 for that of its training.
    :param frame_size: Height and width of the frames.
    """
    height = input_height or info.input_size[0]
    width = height * frame_size[1] / frame_size[0]
    return height, max(STRIDE, STRIDE * round(width / STRIDE))
