# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Keeps a frame rate under load: down soon, up with patience."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import Sequence

import numpy as np

from lmii_ros.operating_point import Target
from lmii_ros.operating_point import Timing
from lmii_ros.operating_point.search import MIN_STEP

WINDOW_S = 3.0
"""Frames of so many last seconds are judged, more only if they are fewer than MIN_FRAMES."""
MIN_FRAMES = 10
PAUSE_S = 1.0
"""After so long without a frame, if that is rare, what was seen before tells nothing any more."""
MIN_SLOW = 5
"""Fewer frames than this that took too long may be chance."""
MAX_SLOW = 0.5
"""
Share of the window's frames that may take longer than the period. On few cores they come to fill
it just about, for seconds now and then, without a loss: once one frame waits for the one before,
labelling, publishing and the subscriber's work always coincide.
"""
SUSTAINED_S = 0.5
SUSTAINED_FRAMES = 8
SUSTAINED_SLOW = 1.1
"""Once half of the frames of so long, and at least so many, take so many periods, it is enough."""
SAME_LOAD_S = 5.0
"""Two points that follow each other within so long were under the same load."""
MAX_LOST = 0.02
LOST_WINDOW_S = 10.0
"""Share of the frames of so many last seconds that is too much to lose."""
LOSING = 0.05
LOSING_S = 2.0
LOSING_TIMES = 3
"""It is enough, too, to lose this share of so many seconds' frames, at so many different times."""
LOWER_SHARES = (0.8, 0.6)
"""
A point to step down to takes at most these shares of the time, where there is one: the first where
that is expected to do, else the second.
"""
HIGHER_SHARE = 1.25
"""
A point above the one that was chosen by measurement takes at most this share of the present one's
time: what is only expected is tried step by step.
"""
NEARLY = 1.15
"""Else at most this many times that of the fastest, which may be far worse and hardly faster."""
PATIENCE_S = 20.0
"""
So long a better point must be expected to fit before it is taken. With 10 s, a process that took a
core for 20 s was tried against once more while it lasted, which lost frames again.
"""
PROVEN = 10
"""A point that had to be left within this many times its waiting time has failed."""
REMEMBERED = 2
"""What was seen of a point that was left is forgotten after this many times the waiting time."""
MAX_FAILURES = 5
"""The waiting time doubles with each failure, up to this many times."""
CALMER = 0.75
"""Once frames take less than this share of what they took before, the load is another one."""


class Controller:
    """
    Decides when to leave an operating point, by what frames took there; it holds no clock.

    A frame that takes too long is made up for by a fast one, since one may wait meanwhile: only
    two in succession lose a frame. So what is judged, and called p90 here, is the p90 of the means
    of two frames in succession.

    Down: when most of these means exceed the frame period, half a second of frames does so by
    far, or frames are lost. Up: when for a
    while a better point was expected to fit the budget. What to expect of a point is its
    calibrated p90, plus what frames always took beyond that, times the present slowdown; but of
    one that had to be left, and those below it, what was seen there.

    It does not oscillate: budget and period lie apart (the headroom), what was seen of a point
    is remembered until the load is another one, and each time that a step up does not last, the
    next one waits twice as long.

    :param ladder: Points to switch between, the fastest first, each better than the one before;
        see :func:`lmii_ros.operating_point.search.front`.
    :param index: Of the present one.
    :param target: What to keep to.
    """

    def __init__(self, ladder: Sequence[Timing], index: int, target: Target) -> None:
        self.ladder = tuple(ladder)
        self.index = index
        self._home = index
        self._period_s = target.period_s
        self._budget_s = target.budget_s
        # A point goes on to fit while it is nearer to the budget than to the period.
        self._limit_s = (self._budget_s + self._period_s) / 2
        self._overhead_s = float('inf')
        self._failures = 0
        self._last_up: float | None = None
        self._came_from = index
        self._compared: tuple[float, float, float] | None = None
        self._excluded: set[int] = set()
        self.overloaded = False
        """Whether it was at the last decision."""
        self._left: dict[int, float] = {}
        self._left_at = 0.0
        self._restart(0.0)

    @property
    def lower(self) -> tuple[int, ...]:
        """Return the indices of points to step down to, the best first; none at the fastest."""
        below = self._below
        if not below:
            return ()
        here_s, fastest_s = (self.ladder[at].p90_s for at in (self.index, below[0]))
        limits_s = [max(share * here_s, NEARLY * fastest_s) for share in LOWER_SHARES]
        return tuple(dict.fromkeys(
            max(at for at in below if self.ladder[at].p90_s <= limit_s) for limit_s in limits_s))

    @property
    def higher(self) -> int | None:
        """
        Return the index of the point to step up to once it has fitted for long, None if none fits.

        It is the best that fits nearly as long as any; from below the chosen point, that at most.
        """
        here_s = self.ladder[self.index].p90_s
        highest = self._home if self.index < self._home else max(self.index + 1, *(
            at for at, timing in enumerate(self.ladder) if timing.p90_s <= HIGHER_SHARE * here_s))
        least = self.ladder[self.index].candidate.miou + MIN_STEP
        since = {
            at: since for at, since in self._fits_since.items()
            if at not in self._excluded and at <= highest
            and (at <= self._home or self.ladder[at].candidate.miou >= least)}
        # As a load goes away, better points fit one after the other.
        latest = min(since.values(), default=0.0) + PATIENCE_S / 2
        return max((at for at in since if since[at] <= latest), default=None)

    @property
    def p90_s(self) -> float:
        """Return the p90 of what frames take, in seconds; see the class."""
        return _percentile(self._means_s, 0.9)

    @property
    def _below(self) -> list[int]:
        return [at for at in range(self.index) if at not in self._excluded]

    @property
    def _median_s(self) -> float:
        return _percentile(self._means_s, 0.5)

    @property
    def _taken_s(self) -> list[float]:
        return [took_s for _, took_s in self._frames]

    @property
    def _means_s(self) -> list[float]:
        taken_s = self._taken_s
        return [(one + next_) / 2 for one, next_ in pairwise(taken_s)] or taken_s

    def exclude(self, index: int) -> None:
        """Never go to a point again."""
        self._excluded.add(index)

    def forget(self) -> None:
        """
        Judge from the next frame on alone: what came before was not the point's doing.

        Better points that fitted until then still do, unless the next frames say otherwise.
        """
        self._frames.clear()
        self._outcomes.clear()

    def labelled(self, now: float, took_s: float) -> None:
        """Take note of a frame: when it was labelled, and for how long it was worked on."""
        if len(self._frames) > 1:
            first, last = self._frames[0][0], self._frames[-1][0]
            interval_s = (last - first) / (len(self._frames) - 1)
            if now - last > max(PAUSE_S, SUSTAINED_FRAMES * interval_s):
                self.forget()
                self._fits_since.clear()
        self._frames.append((now, took_s))
        self._outcomes.append((now, False))

    def lost(self, now: float, count: int) -> None:
        """Take note of frames that came while another one was waiting already."""
        self._outcomes.extend([(now, True)] * count)

    def decide(self, now: float) -> tuple[int, ...]:
        """Return the indices of points to switch to, the preferred first; none to stay."""
        self._drop_old(now)
        self.overloaded = self._is_overloaded(now)
        if self.overloaded:
            self._fits_since.clear()
            return self._down(now)
        if len(self._frames) < MIN_FRAMES:
            return ()
        took_s = self.p90_s
        self._remember(now)
        self._overhead_s = min(
            self._overhead_s, max(0.0, took_s - self.ladder[self.index].p90_s))
        self._fits_since = {
            at: self._fits_since.get(at, now) for at in range(self.index + 1, len(self.ladder))
            if self._fits(at, took_s)}
        goal = self.higher
        if goal is None:
            return ()
        return (goal,) if now - self._fits_since[goal] >= self.patience_s else ()

    @property
    def patience_s(self) -> float:
        """Return how long the chosen point must be expected to fit before it is taken again."""
        return PATIENCE_S * 2 ** self._failures

    def switched(self, now: float, index: int) -> None:
        """Take note of having switched, to the point asked for or to another."""
        if index > self.index:
            self._last_up = now
            self._came_from = self.index
        elif index < self.index and self._last_up is not None:
            proven = now - self._last_up > PROVEN * self.patience_s
            self._failures = max(0, self._failures - 1) if proven else min(
                self._failures + 1, MAX_FAILURES)
            self._last_up = None
        self._compare(now)
        if index < self.index and self._frames:
            self._left[self.index] = self._median_s
            self._left_at = now
        self.index = index
        self._restart(now)

    def _compare(self, now: float) -> None:
        """Learn from two points in short succession how much of a frame's time is overhead."""
        if len(self._frames) < SUSTAINED_FRAMES:
            return
        here_s, took_s = self.ladder[self.index].p90_s, self.p90_s
        if self._compared is not None and now - self._compared[0] < SAME_LOAD_S:
            _, there_s, other_s = self._compared
            # took = slowdown * (calibrated + overhead) at both.
            if (took_s - other_s) * (here_s - there_s) > 0:
                overhead_s = (here_s * other_s - there_s * took_s) / (took_s - other_s)
                self._overhead_s = min(self._overhead_s, max(0.0, overhead_s))
        self._compared = (now, here_s, took_s)

    def _remember(self, now: float) -> None:
        """Keep what was seen of points that were left, for as long as the load is the same."""
        # Medians: a short disturbance says nothing of the point at which it came.
        median_s = self._median_s
        if now - self._since < WINDOW_S or not self._at_first_s:
            self._at_first_s = max(self._at_first_s, median_s)
        calmer = median_s < CALMER * self._at_first_s
        if calmer or now - self._left_at > REMEMBERED * self.patience_s:
            self._left.clear()
        for index in [index for index in self._left if index <= self.index]:
            del self._left[index]

    def _restart(self, now: float) -> None:
        self._frames: deque[tuple[float, float]] = deque()
        self._outcomes: deque[tuple[float, bool]] = deque()
        self._since = now
        self._at_first_s = 0.0
        self._fits_since: dict[int, float] = {}

    def _drop_old(self, now: float) -> None:
        while self._outcomes and self._outcomes[0][0] < now - LOST_WINDOW_S:
            self._outcomes.popleft()
        while len(self._frames) > MIN_FRAMES and self._frames[0][0] < now - WINDOW_S:
            self._frames.popleft()

    def _is_overloaded(self, now: float) -> bool:
        if not self._frames:
            return False
        means_s = self._means_s
        slow = sum(mean_s > self._period_s for mean_s in means_s)
        if slow >= MIN_SLOW and slow > MAX_SLOW * len(self._frames):
            return True
        # Before the first is lost. Of both, since a few frames that take far too long raise the
        # means, and many that nearly do, between fast ones, are made up for.
        count = max(SUSTAINED_FRAMES, sum(at >= now - SUSTAINED_S for at, _ in self._frames))
        if len(means_s) >= count and SUSTAINED_SLOW * self._period_s < min(
                _percentile(some_s[-count:], 0.5) for some_s in (self._taken_s, means_s)):
            return True
        return self._is_losing(now)

    def _is_losing(self, now: float) -> bool:
        """Return whether it loses frames, though each may be fast: they may jam."""
        # A camera that is faster than the target loses frames as it should.
        recent = [outcome for outcome in self._outcomes if outcome[0] >= now - LOSING_S]
        lost_at = [at for at, was_lost in recent if was_lost]
        if (
                len(set(lost_at)) >= LOSING_TIMES
                and len(lost_at) > LOSING * len(recent)
                and len(recent) * self._period_s < (1 + LOSING) * (now - recent[0][0])):
            return True
        lost = sum(was_lost for _, was_lost in self._outcomes)
        labelled = len(self._outcomes) - lost
        return (
            lost >= MIN_SLOW
            and lost > MAX_LOST * len(self._outcomes)
            and labelled * self._period_s < (now - self._outcomes[0][0]) * (1 - MAX_LOST))

    def _down(self, now: float) -> tuple[int, ...]:
        here_s = self.ladder[self.index].p90_s
        # A load that has just come is in few of the frames yet.
        took_s = max(self.p90_s, _percentile(self._means_s[-SUSTAINED_FRAMES // 2:], 0.5))
        lower = self.lower
        enough = [at for at in lower if took_s * self.ladder[at].p90_s / here_s <= self._limit_s]
        # What a step up has just come from did, and will do again if the step is the reason.
        has_just_come = self._last_up is not None and now - self._last_up < SAME_LOAD_S
        before = [self._came_from] if has_just_come and self._came_from in self._below else []
        # What does not do is better than to stay, if nothing else is ready; at last whatever is.
        return tuple(dict.fromkeys((*before, *enough, *reversed(lower), *reversed(self._below))))

    def _fits(self, index: int, took_s: float) -> bool:
        """Return whether a better point is expected to fit, given the present one's p90."""
        here, there = (self.ladder[at].p90_s + self._overhead_s for at in (self.index, index))
        expected_s, seen_s = took_s * there / here, 0.0
        if self._left:
            left = sorted(self._left)
            seen_s = float(np.interp(
                self.ladder[index].p90_s, [self.ladder[at].p90_s for at in (self.index, *left)],
                [took_s, *(took_s * self._left[at] / self._at_first_s for at in left)]))
        # What was seen holds all that came together with the network's work, for which there is
        # the headroom.
        if index in self._fits_since:
            return expected_s <= self._limit_s and seen_s <= self._period_s
        return expected_s <= self._budget_s and seen_s <= self._limit_s


def _percentile(values: Sequence[float], share: float) -> float:
    # NumPy takes ten times as long for so few.
    return sorted(values)[round(share * (len(values) - 1))]
