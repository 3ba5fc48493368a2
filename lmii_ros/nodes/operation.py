# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""At which operating point the node labels: fixed by parameters, or kept for a target rate."""

from __future__ import annotations

import gc
import math
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any
from typing import Callable

import numpy as np

from lmii_ros.engines import OutOfMemory
from lmii_ros.nodes.parameters import MIN_INPUT_HEIGHT
from lmii_ros.nodes.parameters import Settings
from lmii_ros.nodes.process import NodeFailed
from lmii_ros.nodes.standby import Standby

if TYPE_CHECKING:
    from lmii_ros.operating_point import OperatingPoint
    from lmii_ros.operating_point import Timing
    from lmii_ros.operating_point.controller import Controller
    from lmii_ros.operating_point.search import Choice
    from lmii_ros.segmenter import Segmentation
    from lmii_ros.segmenter import Segmenter

PREPARING = 'preparing the network, nothing is labelled'
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
MAX_STRAY = 10
"""So many frames of another size in succession, of a camera, are labelled at the point that was
chosen: a search for what may be a glitch would stop all labels for seconds."""


@dataclass(frozen=True)
class _Demand:
    """What the operating point depends on besides the size of the frames; if it changes, the point
    is chosen anew."""

    target_fps: float
    headroom: float
    offered_weights: tuple[str, ...]
    input_height: int
    by_confidence: bool
    """Whether labels depend on the confidence, so that it is computed for every frame."""


@dataclass(frozen=True)
class _Sample:
    """What is measured of a frame: its decoding too, and the confidence if that is wanted."""

    decode: Callable[[], np.ndarray]
    frame_size: tuple[int, int]
    confidence: bool


class Operation:
    """
    The network that labels, and which one that is.

    :attr:`paused` tells why nothing is labelled for now; it is empty while frames are.

    The worker's thread calls :meth:`segment` and :meth:`labelled`; only there the live network is
    replaced, between two frames. The other methods may be called from any thread.

    :param settings: Those the node is configured with.
    :param logger: The node's.
    :raises ValueError: If a weight file, engine, device or precision is not as it should be.
    :raises OutOfMemory: If the device's memory does not suffice.
    """

    def __init__(self, settings: Settings, logger: Any) -> None:
        from lmii_ros.segmenter import Segmenter
        self._settings = settings
        self._logger = logger
        self.segmenter = Segmenter(
            settings.weights, engine=settings.engine, device=settings.device,
            precision=settings.precision, threads=settings.threads,
            input_height=settings.input_height)
        self.check(settings)
        if not settings.target_fps:
            logger.info(
                'preparing the network, which takes some seconds at its first start on a machine')
            # The first run allocates and chooses kernels: no camera frame is to wait for that.
            self.segmenter.prepare(self.segmenter.info.input_size)
        self._prepared: set[tuple[int, int]] = set()
        self._demand: _Demand | None = None
        self._frame_sizes: dict[str, tuple[int, int]] = {}
        self._strays: Counter[str] = Counter()
        self._judged = True
        self._standby: Standby | None = None
        self._controller: Controller | None = None
        self._choice: Choice | None = None
        self._next_decision = 0.0
        self._switched_at = -math.inf
        self._beside_standby = False
        self._lost = 0
        self._lost_seen = 0
        self._switches = 0
        self._made_do = ''
        self.paused = ''
        self._calibrate_anew = threading.Event()
        self._cancelled = threading.Event()
        # The objects of torch and others are here to stay. To go through them now and then, as
        # Python does, stops every thread for 0.1 s, longer where a thread of low priority does it.
        gc.collect()
        gc.freeze()

    def check(self, settings: Settings) -> None:
        """
        Raise a ValueError if these settings cannot be used with the network's classes.

        :raises ValueError: Of the weight files offered, or of the class table.
        """
        settings.drivable(self.segmenter.info.classes)
        if settings.target_fps:
            from lmii_ros.operating_point.candidates import offers
            offers(settings.offered_weights, settings.weights)

    def resume(self) -> None:
        """Frames are going to come."""
        self._cancelled.clear()

    def cancel(self) -> None:
        """Let a calibration end soon, since no more frames are wanted."""
        self._cancelled.set()

    def close(self) -> None:
        """Release what is held besides the live network."""
        self._stop_control()
        gc.unfreeze()

    def calibrate(self) -> None:
        """Measure anew with the next frame."""
        self._calibrate_anew.set()

    def retry(self) -> None:
        """Settle anew with the next frame, if memory had run out since the last time."""
        if self._made_do:
            self._demand = None

    def lost(self) -> None:
        """Count a frame that came while another one of its camera was waiting already."""
        self._lost += 1

    def facts(self) -> dict[str, object]:
        """Return what diagnostics tell."""
        segmenter, controller, choice = self.segmenter, self._controller, self._choice
        facts: dict[str, object] = {
            'weights': segmenter.weight_file.name,
            'network': segmenter.info.network,
            'engine': segmenter.engine.name,
            'device': segmenter.engine.device,
            'precision': segmenter.engine.precision,
            'input height': segmenter.input_height or segmenter.info.input_size[0],
        }
        if controller is not None and choice is not None:
            timing = controller.ladder[controller.index]
            facts |= {
                'target rate (Hz)': f'{self._settings.target_fps:g}',
                'expected mIoU (%)': f'{100 * timing.candidate.miou:.1f}',
                'calibrated p90 (ms)': f'{1000 * timing.p90_s:.1f}',
                'budget (ms)': f'{1000 * choice.budget_s:.1f}',
                'operating point': f'{timing.candidate.point}, ' + (
                    'as chosen' if timing == choice.timing else
                    'stepped down' if timing.p90_s < choice.timing.p90_s else 'stepped up'),
                'switches': self._switches,
            }
            miss = self._miss()
            if miss:
                facts['misses the target'] = miss
        return facts

    def warning(self) -> str:
        """Return what diagnostics warn of, empty for nothing."""
        if self._made_do:
            return self._made_do
        controller = self._controller
        if self._settings.target_fps and controller is None and self._demand is not None:
            return 'the target rate is not kept: the log tells why'
        if controller is not None and controller.overloaded and not controller.lower:
            return 'too slow for the target even at the fastest operating point'
        miss = self._miss()
        return miss and f'misses the target: {miss}'

    def _miss(self) -> str:
        """Return by how much nothing fits, empty if the machine has turned out faster."""
        controller, choice = self._controller, self._choice
        if choice is None or choice.fits or controller is not None and (
                controller.ladder[controller.index].p90_s > choice.timing.p90_s):
            return ''
        return choice.miss()

    def segment(
        self,
        camera: str,
        decode: Callable[[], np.ndarray],
        frame: np.ndarray,
        settings: Settings,
        *,
        confidence: bool,
        finish: Callable[[], object],
    ) -> Segmentation:
        """
        Label a frame, at a point that is chosen first if the frame's size or settings are new.

        :param camera: That the frame is of.
        :param decode: Returns the frame; a calibration times it too.
        :param frame: uint8 [H, W, 3] in blue, green, red.
        :param settings: Of this frame.
        :param confidence: Whether to give the confidence too.
        :param finish: Waits for what still needs the labels of the frame before; called before
            anything but this frame is labelled, which would overwrite them.
        :raises NodeFailed: If there is no network that can label it.
        :raises NonFiniteOutput: If the network's output is not finite.
        :raises Cancelled: If a calibration was told to end.
        """
        def label() -> Segmentation:
            segmentation, = self.segmenter.segment(
                [frame], confidence=confidence, min_confidence=settings.min_confidence)
            return segmentation

        try:
            self._settle(camera, _Sample(decode, frame.shape[:2], confidence), settings, finish)
            return label()
        except OutOfMemory as error:
            finish()
            self._make_do(error, frame.shape[:2])
        # Only here, since the error holds the memory that the failed attempt had got.
        try:
            return label()
        except OutOfMemory as error:
            raise NodeFailed(f'{error}; use a smaller network or input_height') from error

    def labelled(self, took_s: float) -> None:
        """
        Take note of a frame that was labelled; perhaps go on at another point.

        :param took_s: Seconds from its taking until the next one could be taken.
        """
        controller, now = self._controller, time.monotonic()
        if controller is None:
            return
        lost, self._lost_seen = self._lost - self._lost_seen, self._lost
        if not self._judged:
            # It may take seconds to prepare for its size, which says nothing of the point.
            return
        working_s = self._standby.working_s
        if self._beside_standby and not working_s:
            controller.forget()
        self._beside_standby = working_s > 0
        if 0 < working_s < (MAX_BLIND_OVERLOADED_S if controller.overloaded else MAX_BLIND_S):
            return
        controller.labelled(now, took_s)
        controller.lost(now, lost)
        if now < self._next_decision:
            return
        self._next_decision = now + DECISION_PERIOD_S
        if any(self._switch(wanted, now) for wanted in controller.decide(now)):
            self._switched_at = now
        elif controller.overloaded or now - self._switched_at >= CALM_S:
            self._make_ready()

    def _settle(
        self, camera: str, sample: _Sample, settings: Settings, finish: Callable[[], object],
    ) -> None:
        frame_size = sample.frame_size
        demand = _Demand(
            settings.target_fps, settings.headroom, settings.offered_weights,
            settings.input_height, settings.min_confidence > 0)
        anew = self._calibrate_anew.is_set()
        if demand == self._demand and not anew:
            known_size = self._frame_sizes.get(camera)
            self._judged = frame_size == known_size
            if self._judged:
                self._strays[camera] = 0
                return
            if self._choice is None:
                if self._made_do or self.segmenter.input_size(frame_size) in self._prepared:
                    self._frame_sizes[camera] = frame_size
                    return
            elif known_size is None:
                self._join(camera, frame_size, finish)
                return
            elif self._strays[camera] < MAX_STRAY:
                self._strays[camera] += 1
                return
        self._calibrate_anew.clear()
        # Should it be cancelled, or fail, nothing has been settled.
        self._demand = None
        self._made_do = ''
        self._judged = False
        # The others whose size is another one by now come anew.
        self._frame_sizes = {
            name: size for name, size in self._frame_sizes.items() if not self._strays[name]}
        self._strays.clear()
        finish()
        self._settings = settings
        labels_already = self._choice is not None or bool(self._prepared)
        try:
            if settings.target_fps:
                self._frame_sizes[camera] = frame_size
                self._choose(sample, demand, anew=anew)
            else:
                # Others, with a size of their own, are prepared when they come.
                self._frame_sizes = {camera: frame_size}
                self._stop_control()
                self._fix(frame_size, demand)
        except ValueError as error:
            if not labels_already:
                raise NodeFailed(f'no operating point: {error}') from error
            self._logger.error(f'no operating point: {error}; going on as before')
        except OutOfMemory:
            # The network that there is will have to do.
            self._demand = demand
            raise
        self._demand = demand

    def _join(
        self, camera: str, frame_size: tuple[int, int], finish: Callable[[], object],
    ) -> None:
        """Label a camera that has not been seen before at the point that was chosen for others."""
        is_new = frame_size not in self._frame_sizes.values()
        self._frame_sizes[camera] = frame_size
        if not is_new:
            return
        finish()
        self.paused = PREPARING
        # As in _fix.
        with suppress(OutOfMemory):
            self.segmenter.prepare(frame_size)
        self.paused = ''
        if self._standby is not None:
            # What is ready there is not for this size.
            self._standby.close()
            self._standby = self._new_standby()
            self._make_ready()

    def _fix(self, frame_size: tuple[int, int], demand: _Demand) -> None:
        """Label at the point that the parameters name."""
        from lmii_ros import weights
        settings, segmenter = self._settings, self.segmenter
        self.paused = PREPARING
        try:
            if self._choice is not None:
                segmenter = self._load(weights.find(settings.weights), settings.precision, 0)
                self._choice = None
                self._prepared.clear()
            segmenter.input_height = demand.input_height
            self.segmenter = segmenter
            input_size = segmenter.input_size(frame_size)
            if input_size in self._prepared:
                return
            height, width = frame_size
            self._logger.info(
                f'frames of {width}x{height}: preparing the network for '
                f'{input_size[1]}x{input_size[0]}, which may take some seconds')
            self._prepared.add(input_size)
            # Where memory runs out, the frame itself will find out, and make do with less.
            with suppress(OutOfMemory):
                segmenter.prepare(frame_size)
        finally:
            self.paused = ''

    def _choose(self, sample: _Sample, demand: _Demand, *, anew: bool) -> None:
        """Find and take the best point for the target rate."""
        from lmii_ros.operating_point.controller import Controller
        self.paused = 'calibrating, nothing is labelled'
        try:
            # What is still being made ready would slow what is measured.
            self._stop_control(wait=True)
            choice, ladder = self._search(sample, demand, anew=anew)
            if not choice.fits:
                self._logger.warning(f'no candidate is fast enough: {choice.miss()}')
            segmenter = self._make(choice.timing.candidate.point)
        finally:
            self.paused = ''
        self._choice = choice
        self._lost_seen = self._lost
        self._switched_at = -math.inf
        self.segmenter = segmenter
        self._standby = self._new_standby()
        self._controller = Controller(
            ladder, ladder.index(choice.timing), self._settings.frame_rate, demand.headroom)
        self._make_ready()

    def _search(
        self, sample: _Sample, demand: _Demand, *, anew: bool,
    ) -> tuple[Choice, list[Timing]]:
        from lmii_ros.operating_point.calibration import Calibration
        from lmii_ros.operating_point.candidates import candidates
        from lmii_ros.operating_point.candidates import offers
        from lmii_ros.operating_point.search import ladder
        from lmii_ros.operating_point.search import search
        settings = self._settings
        height, width = sample.frame_size
        count = len(settings.cameras)
        target = f'{demand.target_fps:g} frames/s of {width}x{height}' + (
            f' from each of {count} cameras' if count > 1 else '')
        started = time.monotonic()
        offered = offers(demand.offered_weights, settings.weights)
        calibration = Calibration(
            sample.decode, offered, engine=settings.engine, device=settings.device,
            threads=settings.threads, confidence=sample.confidence or demand.by_confidence,
            transport=settings.image_transport, anew=anew,
            cancelled=self._cancelled.is_set,
            progress=lambda line: self._logger.info(f'calibrating for {target}: {line}'))
        budget_s = demand.headroom / settings.frame_rate
        points = candidates(
            offered, height, precision=settings.precision, input_height=demand.input_height)
        choice = search(
            points, lambda candidate: calibration.measure(candidate, budget_s), budget_s,
            limit_s=SEARCH_LIMIT_S)
        self._logger.info(
            f'{target}: {choice.timing} of {1000 * budget_s:.1f} ms; {calibration.measured} '
            f'candidates timed, {time.monotonic() - started:.2f} s')
        if not choice.whole:
            self._logger.info(
                f'the search was ended after {SEARCH_LIMIT_S:g} s and goes on at the next start; '
                'lmii tune does all of it')
        return choice, ladder(points, choice)

    def _new_standby(self) -> Standby:
        return Standby(
            self._make, self._logger, lowest_priority=not self.segmenter.engine.keeps_priority)

    def _make(self, point: OperatingPoint) -> Segmenter:
        segmenter = self._load(point.weights, point.precision, point.input_height)
        for frame_size in set(self._frame_sizes.values()):
            segmenter.prepare(frame_size)
        return segmenter

    def _load(self, weight_file: object, precision: str, input_height: int) -> Segmenter:
        from lmii_ros.segmenter import Segmenter
        settings = self._settings
        return Segmenter(
            weight_file, engine=settings.engine, device=settings.device, precision=precision,
            threads=settings.threads, input_height=input_height)

    def _switch(self, wanted: int, now: float) -> bool:
        """Go on at a point of the ladder; return False if its network is not ready."""
        controller = self._controller
        before, after = (controller.ladder[index] for index in (controller.index, wanted))
        segmenter = self._standby.exchange(
            after.candidate.point, before.candidate.point, self.segmenter)
        if segmenter is None:
            return False
        self.segmenter = segmenter
        took_ms = 1000 * controller.p90_s
        controller.switched(now, wanted)
        self._switches += 1
        self._logger.warning(
            f'operating point: from {before.candidate.point} (frames took p90 {took_ms:.1f} ms) '
            f'to {after}')
        return True

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

    def _make_do(self, error: OutOfMemory, frame_size: tuple[int, int]) -> None:
        """Go on with a smaller input, once."""
        asked = self.segmenter.input_size(frame_size)[0]
        height = asked // 2
        if height < MIN_INPUT_HEIGHT:
            raise NodeFailed(str(error)) from error
        self._logger.error(f'{error}; going on at input height {height}')
        self._made_do = (
            f'memory ran out: at input height {height} instead of {asked}; set input_height to '
            'try again')
        self._stop_control()
        self.segmenter.input_height = height

    def _stop_control(self, *, wait: bool = False) -> None:
        self._controller = None
        if self._standby is not None:
            self._standby.close(wait=wait)
            self._standby = None
