# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Paired timing: contenders take turns, so that a machine that slows down slows all of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Callable
from typing import Mapping

import numpy as np

TIMED_CALLS = 2
"""A turn."""


@dataclass(frozen=True)
class Timing:
    """
    What one contender took.

    :param wall_s: Seconds of each call.
    :param cpu_s: Seconds that this process's threads were busy in each call: what is left of the
        wall time when other processes take turns on the cores.
    """

    wall_s: np.ndarray
    cpu_s: np.ndarray


def measure(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """
    Call each contender in turn, round by round.

    :param contenders: Functions without arguments, by name; each is called once beforehand.
    :param rounds: How often all take their turn.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for run in contenders.values():
        run()
    for _ in range(rounds):
        for name, run in contenders.items():
            # Not timed: it finds the caches as the other contenders left them.
            run()
            for _ in range(TIMED_CALLS):
                wall, cpu = time.perf_counter(), time.process_time()
                run()
                times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: Timing(*np.array(pairs).T) for name, pairs in times.items()}


def ratio(baseline: np.ndarray, contender: np.ndarray) -> float:
    """Return how many times faster the contender is: the median over pairs of one turn each."""
    return float(np.median(baseline / contender))
