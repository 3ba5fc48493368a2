# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The operating point for a target rate: found by measuring, left and retaken with the load."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any
from typing import Callable

import numpy as np

from lmii_ros.nodes.parameters import Settings
from lmii_ros.nodes.standby import Standby

if TYPE_CHECKING:
    from lmii_ros.operating_point import OperatingPoint
    from lmii_ros.operating_point import Target
    from lmii_ros.operating_point import Timing
    from lmii_ros.operating_point.search import Choice
    from lmii_ros.segmenter import Segmenter

DECISION_PERIOD_S = 0.1
SEARCH_LIMIT_S = 12.0
"""
So long a node that waits for its first labels looks for a better point; with what there must be to
fall back on, it takes some 15 s on two cores. What was timed is kept, so the next search goes on.
"""
MAX_BLIND_S = 10.0
"""So long frames are not judged while a network is made ready beside them, which slows them."""
MAX_BLIND_OVERLOADED_S = 3.0
"""The same after a step down, for it may not have been enough."""
CALM_S = 20.0
"""
So long after a switch no further network is made ready unless it is needed: that slows the frames,
and what has slowed them before may do so still.
"""


@dataclass(frozen=True)
class Sample:
    """What is measured of a frame: its decoding too, and the confidence if that is wanted."""

    decode: Callable[[], np.ndarray]
    frame_size: tuple[int, int]
    confidence: bool


def find_point(
    sample: Sample,
    settings: Settings,
    target: Target,
    logger: Any,
    *,
    anew: bool,
    cancelled: Callable[[], bool],
) -> tuple[Choice, list[Timing]]:
    """
    Return the best point for the target rate, and all those to switch between.

    :param sample: That candidates are timed with.
    :param settings: Those the node is configured with.
    :param target: To choose the point for.
    :param logger: The node's.
    :param anew: Whether to time again what is known from before.
    :param cancelled: Tells whether to give up.
    :raises Cancelled: If it was told to.
    :raises ValueError: If there is nothing to choose from, or none of it runs.
    :raises OutOfMemory: If the device's memory does not suffice.
    """
    from lmii_ros.operating_point.calibration import Calibration
    from lmii_ros.operating_point.candidates import candidates
    from lmii_ros.operating_point.candidates import offers
    from lmii_ros.operating_point.search import ladder
    from lmii_ros.operating_point.search import search
    height, width = sample.frame_size
    goal = f'{width}x{height} at {target}'
    started = time.monotonic()
    offered = offers(settings.offered_weights, settings.weights)
    calibration = Calibration(
        sample.decode, offered, engine=settings.engine, device=settings.device,
        threads=settings.threads, confidence=sample.confidence or settings.min_confidence > 0,
        transport=settings.image_transport, anew=anew, cancelled=cancelled,
        progress=lambda line: logger.info(f'calibrating for {goal}: {line}'))
    points = candidates(
        offered, height, precision=settings.precision, input_height=settings.input_height)
    choice = search(
        points, lambda candidate: calibration.measure(candidate, target.budget_s),
        target.budget_s, limit_s=SEARCH_LIMIT_S)
    logger.info(
        f'{goal}: {choice.timing} of {1000 * target.budget_s:.1f} ms; {calibration.measured} '
        f'candidates timed, {time.monotonic() - started:.2f} s')
    if not choice.whole:
        logger.info(
            f'the search was ended after {SEARCH_LIMIT_S:g} s and goes on at the next start; '
            'lmii tune does all of it')
    if not choice.fits:
        logger.warning(f'no candidate is fast enough: {choice.miss()}')
    return choice, ladder(points, choice)


class RateKeeper:
    """
    Leaves the chosen point when the frames take too long there, and takes better ones again.

    The worker's thread calls :meth:`labelled`, :meth:`pass_over` and :meth:`renew`, and nothing
    does once it is closed; the others may be called from any thread.

    :param choice: The point that the node is to begin with.
    :param ladder: All points to switch between.
    :param target: The rate to keep to.
    :param make: Makes the network of a point ready; called in a thread of the standby.
    :param logger: The node's.
    :param lowest_priority: As of :class:`lmii_ros.nodes.standby.Standby`.
    """

    def __init__(
        self,
        choice: Choice,
        ladder: list[Timing],
        target: Target,
        make: Callable[[OperatingPoint], Segmenter],
        logger: Any,
        *,
        lowest_priority: bool,
    ) -> None:
        from lmii_ros.operating_point.controller import Controller
        self._choice = choice
        self._target = target
        self._make = make
        self._logger = logger
        self._lowest_priority = lowest_priority
        self._controller = Controller(ladder, ladder.index(choice.timing), target)
        self._next_decision = 0.0
        self._switched_at = -math.inf
        self._beside_standby = False
        self._lost = 0
        self._lost_seen = 0
        self._standby = self._new_standby()
        self._make_ready()

    def close(self, *, wait: bool = False) -> None:
        """
        Drop the networks on standby.

        :param wait: Whether to wait for what is being made ready.
        """
        self._standby.close(wait=wait)

    def renew(self) -> None:
        """Make all networks on standby ready again: there are frames of another size now."""
        self._standby.close()
        self._standby = self._new_standby()
        self._make_ready()

    def lost(self) -> None:
        """Count a frame that came while another one of its camera was waiting already."""
        self._lost += 1

    def pass_over(self) -> None:
        """Leave unjudged how long a frame took, and what was lost meanwhile."""
        self._lost_seen = self._lost

    def labelled(self, took_s: float, segmenter: Segmenter) -> Segmenter:
        """
        Take note of a frame that was labelled; return the network to go on with.

        :param took_s: Seconds from its taking until the next one could be taken.
        :param segmenter: That labelled it.
        """
        controller, now = self._controller, time.monotonic()
        lost, self._lost_seen = self._lost - self._lost_seen, self._lost
        working_s = self._standby.working_s
        if self._beside_standby and not working_s:
            controller.forget()
        self._beside_standby = working_s > 0
        if 0 < working_s < (MAX_BLIND_OVERLOADED_S if controller.overloaded else MAX_BLIND_S):
            return segmenter
        controller.labelled(now, took_s)
        controller.lost(now, lost)
        if now < self._next_decision:
            return segmenter
        self._next_decision = now + DECISION_PERIOD_S
        for wanted in controller.decide(now):
            ready = self._switch(wanted, now, segmenter)
            if ready is not None:
                self._switched_at = now
                return ready
        if controller.overloaded or now - self._switched_at >= CALM_S:
            self._make_ready()
        return segmenter

    def facts(self) -> dict[str, object]:
        """Return what diagnostics tell of the point and its target."""
        choice, timing = self._choice, self._timing
        facts: dict[str, object] = {
            'target rate (Hz)': f'{self._target.fps:g}',
            'expected mIoU (%)': f'{100 * timing.candidate.miou:.1f}',
            'calibrated p90 (ms)': f'{1000 * timing.p90_s:.1f}',
            'budget (ms)': f'{1000 * choice.budget_s:.1f}',
            'operating point': f'{timing.candidate.point}, ' + (
                'as chosen' if timing == choice.timing else
                'stepped down' if timing.p90_s < choice.timing.p90_s else 'stepped up'),
        }
        miss = self._miss()
        if miss:
            facts['misses the target'] = miss
        return facts

    def warning(self) -> str:
        """Return what diagnostics warn of, empty for nothing."""
        controller = self._controller
        if controller.overloaded and not controller.lower:
            return 'too slow for the target even at the fastest operating point'
        miss = self._miss()
        return miss and f'misses the target: {miss}'

    @property
    def _timing(self) -> Timing:
        return self._controller.ladder[self._controller.index]

    def _miss(self) -> str:
        """Return by how much nothing fits, empty if the machine has turned out faster."""
        choice = self._choice
        if choice.fits or self._timing.p90_s > choice.timing.p90_s:
            return ''
        return choice.miss()

    def _switch(self, wanted: int, now: float, segmenter: Segmenter) -> Segmenter | None:
        """Go on at a point of the ladder; return None if its network is not ready."""
        controller = self._controller
        before, after = self._timing, controller.ladder[wanted]
        ready = self._standby.exchange(after.candidate.point, before.candidate.point, segmenter)
        if ready is None:
            return None
        took_ms = 1000 * controller.p90_s
        controller.switched(now, wanted)
        self._logger.warning(
            f'operating point: from {before.candidate.point} (frames took p90 {took_ms:.1f} ms) '
            f'to {after}')
        return ready

    def _new_standby(self) -> Standby:
        return Standby(self._make, self._logger, lowest_priority=self._lowest_priority)

    def _make_ready(self) -> None:
        controller = self._controller
        for index, timing in enumerate(controller.ladder):
            if timing.candidate.point in self._standby.failed:
                controller.exclude(index)
        higher = controller.higher
        # The fastest first, which helps whatever the load.
        self._standby.want([
            controller.ladder[index].candidate.point
            for index in (*reversed(controller.lower), *([] if higher is None else [higher]))])
