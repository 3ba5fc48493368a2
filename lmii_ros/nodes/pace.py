# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""No more frames of a camera than were asked for: the rest of the machine is for others."""

from __future__ import annotations

import math


class Pace:
    """
    Lets through at most so many frames a second, and all of a camera that sends just as many.

    A frame may come half a period early, and after one that was late by up to a period the next
    ones as if it had not been: cameras and networks jitter.
    """

    def __init__(self) -> None:
        self._period_s = math.nan
        self._due_s = -math.inf

    def admits(self, now_s: float, period_s: float) -> bool:
        """
        Return whether a frame is let through.

        :param now_s: Steady time of its arrival.
        :param period_s: From one frame to the next.
        """
        if period_s != self._period_s:
            self._period_s, self._due_s = period_s, -math.inf
        if now_s < self._due_s - period_s / 2:
            return False
        self._due_s = max(self._due_s, now_s - period_s) + period_s
        return True
