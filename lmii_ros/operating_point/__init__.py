# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""
Operating points: with which network, in which precision, at which size a frame is labelled.

The best accuracy at a latency lies on a curve (LPS-Net, arXiv 2207.13600, section 3); here are the
points of that curve on this machine, the choice for a frame rate, and what keeps to it under load.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class OperatingPointError(ValueError):
    """There is nothing to choose from; the message is one line for the user."""


class Cancelled(Exception):
    """A calibration was told to end."""


@dataclass(frozen=True)
class Target:
    """
    A frame rate to hold.

    :param fps: Frames per second, of each camera.
    :param headroom: Share of the time between two frames that one may take.
    :param cameras: How many share the network.
    :raises OperatingPointError: If one of these is out of range.
    """

    fps: float
    headroom: float
    cameras: int

    def __post_init__(self) -> None:
        if not 0 < self.fps <= 1000:
            raise OperatingPointError(
                f'target of {self.fps:g} frames/s, expected more than 0 and at most 1000')
        if not 0.1 <= self.headroom <= 1:
            raise OperatingPointError(f'headroom {self.headroom:g}, expected 0.1 to 1.0')
        if self.cameras < 1:
            raise OperatingPointError(f'{self.cameras} cameras, expected 1 or more')

    @property
    def period_s(self) -> float:
        """Seconds from one frame to the next, of whichever camera."""
        return 1 / (self.fps * self.cameras)

    @property
    def budget_s(self) -> float:
        """Seconds that a frame may take."""
        return self.headroom * self.period_s

    def __str__(self) -> str:
        return f'{self.fps:g} frames/s' + (
            f' from each of {self.cameras} cameras' if self.cameras > 1 else '')


@dataclass(frozen=True)
class OperatingPoint:
    """
    All that decides labels and latency of a frame.

    :param weights: Path of the weight file.
    :param precision: One of :data:`lmii_ros.engines.PRECISIONS`.
    :param input_height: Height at which the network sees a frame.
    """

    weights: Path
    precision: str
    input_height: int

    def __str__(self) -> str:
        return f'{self.weights.stem} in {self.precision} at height {self.input_height}'


@dataclass(frozen=True)
class Candidate:
    """
    An operating point, and what its weight file says of its accuracy.

    :param miou: Expected mIoU (0..1), see :func:`lmii_ros.operating_point.candidates.candidates`.
    :param asked_for: Whether its precision was asked for by name.
    """

    point: OperatingPoint
    miou: float
    asked_for: bool = False


@dataclass(frozen=True)
class Timing:
    """
    What a frame takes at a candidate, from decoding to messages that can be published.

    :param p50_s: Median in seconds.
    :param p90_s: 90th percentile in seconds.
    """

    candidate: Candidate
    p50_s: float
    p90_s: float

    def __str__(self) -> str:
        return (
            f'{self.candidate.point}, expected mIoU {100 * self.candidate.miou:.1f} %, '
            f'p90 {1000 * self.p90_s:.1f} ms')
