# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The best candidate that is fast enough, with few of them timed."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from dataclasses import field
from itertools import groupby
from typing import Callable
from typing import Iterable
from typing import Sequence

from lmii_ros.engines import PRECISIONS
from lmii_ros.operating_point import Candidate
from lmii_ros.operating_point import OperatingPointError
from lmii_ros.operating_point import Timing

MIN_GAIN = 0.002
"""Gains of expected mIoU up to this (0.2 points) are not worth to time another height."""
MIN_STEP = 0.01
"""
Least gain of expected mIoU (1 point) of another file or precision to be worth its export, and of a
point that was not timed, or lies beyond the chosen one, to be worth a switch.
"""
UNLIKELY = 1.1
"""What others say takes this many times the budget is not timed."""
RESERVE = 0.6
"""
Share of the chosen one's latency; the best candidate that is so fast is timed too, or if there is
none, the fastest, to fall back on; and the smallest of the chosen one's file. Neither is where two
heights of its file and precision have been timed, which tell what it takes.
"""

Measure = Callable[[Candidate], 'Timing | None']


@dataclass(frozen=True)
class Choice:
    """
    What was found.

    :param timing: Of the chosen candidate.
    :param timings: Of all candidates that were timed.
    :param budget_s: What the p90 was to fit into, in seconds.
    :param whole: Whether the search had the time to end.
    :param took_s: How long it took, in seconds.
    """

    timing: Timing
    timings: tuple[Timing, ...]
    budget_s: float
    whole: bool
    took_s: float = field(compare=False)

    @property
    def fits(self) -> bool:
        """Return whether the chosen candidate is fast enough."""
        return self.timing.p90_s <= self.budget_s

    def miss(self) -> str:
        """Return by how much the chosen candidate misses the budget, in words for the user."""
        p90_s = self.timing.p90_s
        return (
            f'{self.timing} is {1000 * (p90_s - self.budget_s):.1f} ms more than the '
            f'{1000 * self.budget_s:.1f} ms it may take, {p90_s / self.budget_s:.2f} times')


def search(
    candidates: Iterable[Candidate],
    measure: Measure,
    budget_s: float,
    *,
    exhaustive: bool = False,
    limit_s: float = math.inf,
) -> Choice:
    """
    Find the candidate of the best expected mIoU whose p90 fits a budget, else the fastest.

    Latency grows with the input height. So along the heights of a file and precision the
    largest that fits is found by bisection, guided by the heights already timed; and of a file
    only those candidates are timed that would gain more than :data:`MIN_STEP` over the best
    so far. Precisions are taken to be slower than those after them in
    :data:`lmii_ros.engines.PRECISIONS`: to time each would take a file's first search another
    export, and those that the machine emulates are not offered
    (:class:`lmii_ros.engines.Precisions`).

    :param measure: Times a candidate, or returns None where the machine cannot run it; nor then
        larger ones of the file and precision.
    :param budget_s: Seconds.
    :param exhaustive: Whether to time all candidates instead.
    :param limit_s: After so many seconds the search ends with the best so far; what there must be
        to fall back on is timed even then.
    :raises OperatingPointError: If no candidate can be run.
    """
    timed: dict[Candidate, Timing] = {}
    refused: dict[tuple[str, str], int] = {}
    started = time.monotonic()

    def timing_of(candidate: Candidate) -> Timing | None:
        family, height = _family(candidate), candidate.point.input_height
        if candidate not in timed and height < refused.get(family, math.inf):
            timing = measure(candidate)
            if timing is None:
                refused[family] = height
            else:
                timed[candidate] = timing
        return timed.get(candidate)

    whole = True

    def is_late() -> bool:
        nonlocal whole
        if timed and time.monotonic() - started > limit_s:
            whole = False
        return not whole

    families = _families(candidates)
    if exhaustive:
        for candidate in candidates:
            timing_of(candidate)
    else:
        best = None
        for rungs in families:
            rungs = [
                rung for rung in rungs if not _is_hopeless(rung, best, timed.values(), budget_s)]
            # The first are of the likely fastest network, the largest of which may fit. Where the
            # budget was exceeded already, the smallest of a later file is likely to be too slow,
            # and ends its search.
            exceeded = any(timing.p90_s > budget_s for timing in timed.values())
            guess = len(rungs) - 1 if not timed else 0 if exceeded else len(rungs) // 2
            best = _largest_that_fits(rungs, guess, timing_of, budget_s, is_late) or best
    if not timed:
        raise OperatingPointError('no candidate can be run on this machine')
    choice = choose(tuple(timed.values()), budget_s)
    if not exhaustive:
        for rungs in families:
            if choice.candidate in rungs and not _are_told(rungs, timed):
                timing_of(rungs[0])
        reserve = _reserve(families, timed, RESERVE * choice.p90_s, late=not whole)
        if reserve is not None:
            timing_of(reserve)
    timings = tuple(timed.values())
    return Choice(
        choose(timings, budget_s), timings, budget_s, whole, time.monotonic() - started)


def choose(timings: Sequence[Timing], budget_s: float) -> Timing:
    """Return that of the best expected mIoU among those that fit, else the fastest."""
    fitting = [timing for timing in timings if timing.p90_s <= budget_s]
    if not fitting:
        return min(timings, key=lambda timing: timing.p90_s)
    return max(fitting, key=lambda timing: (timing.candidate.miou, -timing.p90_s))


def front(timings: Iterable[Timing]) -> list[Timing]:
    """Return those that no other is both faster and better than, the fastest first."""
    kept: list[Timing] = []
    for timing in sorted(timings, key=lambda timing: (timing.p90_s, -timing.candidate.miou)):
        if not kept or timing.candidate.miou > kept[-1].candidate.miou:
            kept.append(timing)
    return kept


def better(
    candidates: Iterable[Candidate], measure: Measure, period_s: float, miou: float,
) -> list[Timing]:
    """
    Return those of more than an expected mIoU of which a frame may take less than its period.

    Timed are all of them, and of each file and precision the next larger one; returned those that
    no other is both faster and better than, the fastest first.

    :param measure: As of :func:`search`.
    """
    timings = []
    for _, members in groupby(sorted(candidates, key=_by_height), _family):
        for candidate in members:
            if candidate.miou <= miou:
                continue
            timing = measure(candidate)
            if timing is None or timing.p50_s > period_s:
                break
            timings.append(timing)
    return front(timings)


def ladder(candidates: Iterable[Candidate], choice: Choice) -> list[Timing]:
    """
    Return the points to switch between under load, the fastest first, each better than the last.

    They are those that were timed, and others of the same file and precision, whose latency
    follows from theirs: a search that timed all that may be needed would take too long, and what
    was timed while the machine was slow may do later.
    """
    points = list(choice.timings)
    home = choice.timing
    for _, members in groupby(sorted(candidates, key=_by_height), _family):
        members = list(members)
        known = [timing for timing in choice.timings if timing.candidate in members]
        heights = sorted(timing.candidate.point.input_height for timing in known)
        for candidate in members:
            height = candidate.point.input_height
            if height not in heights and (len(heights) > 1 or heights and height > heights[0]):
                expected = predict(known, candidate)
                # What was chosen by measurement is not to give way to what was not measured.
                if (expected.p90_s < home.p90_s) == (candidate.miou < home.candidate.miou):
                    points.append(expected)
    kept: list[Timing] = []
    for timing in front(points):
        if timing in choice.timings or not kept or (
                timing.candidate.miou >= kept[-1].candidate.miou + MIN_STEP):
            kept.append(timing)
    return kept


def _by_height(candidate: Candidate) -> tuple[tuple[str, str], int]:
    return _family(candidate), candidate.point.input_height


def _family(candidate: Candidate) -> tuple[str, str]:
    return str(candidate.point.weights), candidate.point.precision


def _families(candidates: Iterable[Candidate]) -> list[list[Candidate]]:
    """
    Return, by file and precision, those worth their latency, the smallest height first.

    They are in the order in which they are to be searched.
    """
    families: list[list[Candidate]] = []
    for _, members in groupby(sorted(candidates, key=_by_height), _family):
        rungs: list[Candidate] = []
        for candidate in members:
            if not rungs or candidate.miou > rungs[-1].miou:
                rungs.append(candidate)
        families.append(rungs)
    best = {}
    for rungs in families:
        weights, miou = rungs[-1].point.weights, rungs[-1].miou
        best[weights] = max(miou, best.get(weights, miou))
    # Of a file's precisions, which are nearly as good, what is likely to be the fastest first.
    families.sort(key=lambda rungs: (
        -best[rungs[-1].point.weights], -PRECISIONS.index(rungs[-1].point.precision)))
    # Before all, that of the least accurate file: it is ready and timed the soonest, so that a
    # search that is short of time has something, and what is no better is not timed at all.
    first = min(families, key=lambda rungs: best[rungs[-1].point.weights], default=None)
    return sorted(families, key=lambda rungs: rungs is not first)


def _is_hopeless(
    candidate: Candidate, best: Candidate | None, timed: Iterable[Timing], budget_s: float,
) -> bool:
    if best is not None and candidate.miou <= best.miou + MIN_STEP:
        return True
    point = candidate.point
    for precision in PRECISIONS[PRECISIONS.index(point.precision) + 1:]:
        known = [
            timing for timing in timed
            if _family(timing.candidate) == (str(point.weights), precision)]
        if known and _least_s(known, candidate) > budget_s:
            return True
    return False


def _largest_that_fits(
    rungs: Sequence[Candidate],
    guess: int,
    measure: Measure,
    budget_s: float,
    is_late: Callable[[], bool],
) -> Candidate | None:
    fitting, unfit = 0, len(rungs)
    known: list[Timing] = []
    while fitting < unfit and not is_late():
        if fitting and rungs[unfit - 1].miou <= rungs[fitting - 1].miou + MIN_GAIN:
            break
        timing = measure(rungs[guess])
        if timing is not None:
            known.append(timing)
        if timing is not None and timing.p90_s <= budget_s:
            fitting = guess + 1
        else:
            unfit = guess
        while known and fitting < unfit and _least_s(known, rungs[unfit - 1]) > budget_s:
            unfit -= 1
        left = rungs[fitting:unfit] if known else ()
        expected = sum(predict(known, rung).p90_s <= budget_s for rung in left)
        guess = min(fitting + max(expected - 1, 0), unfit - 1)
    return rungs[fitting - 1] if fitting else None


def predict(known: Sequence[Timing], candidate: Candidate) -> Timing:
    """
    Return the timing to expect of a candidate.

    :param known: At least one timing of the same file and precision. Two tell a straight line
        over the pixels; one is taken to be proportional to them, which is the least that a smaller
        size takes. One in which a larger size was faster tells nothing: the machine was slow.
    """
    wanted = _area(candidate)
    known = [timing for timing in known if not any(
        other.p90_s <= timing.p90_s and _area(other.candidate) > _area(timing.candidate)
        for other in known)]
    known.sort(key=lambda timing: abs(_area(timing.candidate) - wanted))
    first = known[0]
    in_proportion = wanted / _area(first.candidate)
    if len(known) == 1:
        return Timing(candidate, in_proportion * first.p50_s, in_proportion * first.p90_s)
    # Between two, if there are such, else beyond the nearest ones.
    second = next((
        timing for timing in known[1:]
        if (_area(timing.candidate) > wanted) != (_area(first.candidate) > wanted)), known[1])
    share = (wanted - _area(first.candidate)) / (_area(second.candidate) - _area(first.candidate))
    least = min(in_proportion, 1.0)
    return Timing(
        candidate,
        max(first.p50_s + share * (second.p50_s - first.p50_s), least * first.p50_s),
        max(first.p90_s + share * (second.p90_s - first.p90_s), least * first.p90_s))


def _least_s(known: Sequence[Timing], candidate: Candidate) -> float:
    """
    Return the least p90 to expect of a candidate, in seconds.

    :param known: At least one timing of the same file, and of the same precision or a faster one.
    """
    smaller = [timing for timing in known if _area(timing.candidate) <= _area(candidate)]
    if not smaller:
        # In proportion to it alone: a line through one that was timed in a slow moment misleads.
        smallest = min(known, key=lambda timing: _area(timing.candidate))
        return predict([smallest], candidate).p90_s / UNLIKELY
    least_s = max(timing.p90_s for timing in smaller)
    if len(known) == 1:
        return least_s
    return max(least_s, predict(known, candidate).p90_s / UNLIKELY)


def _area(candidate: Candidate) -> int:
    return candidate.point.input_height ** 2


def _are_told(rungs: Iterable[Candidate], timed: dict[Candidate, Timing]) -> bool:
    """Return whether two timings tell of the heights of a file and precision what they take."""
    return sum(rung in timed for rung in rungs) > 1


def _reserve(
    families: Sequence[Sequence[Candidate]],
    timed: dict[Candidate, Timing],
    limit_s: float,
    *,
    late: bool,
) -> Candidate | None:
    """
    Return the best candidate that is expected to take at most so long, else the fastest.

    :param late: Whether any will do that is so fast.
    :return: None if it has been timed, or others tell what it takes.
    """
    expected = {}
    for rungs in families:
        known = [timed[rung] for rung in rungs if rung in timed]
        if known:
            expected |= {predict(known, rung): rungs for rung in rungs}
    told = [timing for timing, rungs in expected.items() if _are_told(rungs, timed)]
    if late and any(timing.p90_s <= limit_s for timing in told):
        return None
    reserve = choose(tuple(expected), limit_s)
    if reserve.candidate in timed or reserve in told:
        return None
    return reserve.candidate
