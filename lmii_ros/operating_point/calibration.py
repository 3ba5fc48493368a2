# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Times candidates on this machine, each once: what was measured is kept on disk."""

from __future__ import annotations

import array
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Callable
from typing import Sequence

import numpy as np

from lmii_ros import engines
from lmii_ros import machine
from lmii_ros import rendering
from lmii_ros.classes import ClassTable
from lmii_ros.drivable import drivable_area
from lmii_ros.operating_point import Cancelled
from lmii_ros.operating_point import Candidate
from lmii_ros.operating_point import OperatingPoint
from lmii_ros.operating_point import Timing
from lmii_ros.operating_point.cache import TimingCache
from lmii_ros.operating_point.candidates import Offer
from lmii_ros.segmenter import Segmenter

WARM_UP = 2
ROUNDS = 2
"""The calmest round counts: what happens to disturb one says nothing of the candidate."""
MAX_ROUNDS = 4
"""So many where the median fits the budget and the p90 does not, which may be a disturbance."""
MIN_FRAMES = 10
MAX_FRAMES = 20
MAX_S = 0.25
"""So long a round lasts, if that makes at least MIN_FRAMES."""
HOPELESS = 1.5
"""One whose first frames all take this many times the budget is not timed any further."""


class Calibration:
    """
    Times candidates for one camera, with one engine.

    :param decode: Returns a frame as from a message, uint8 [H, W, 3] in blue, green, red; it is
        timed too.
    :param offered: Weight files of the candidates.
    :param engine: Name or ``auto``, see :func:`lmii_ros.engines.choose`.
    :param device: As of :class:`lmii_ros.segmenter.Segmenter`.
    :param threads: CPU threads, 0 for the engine's choice.
    :param anew: Whether to measure what was measured before.
    :param confidence: Whether the confidence is computed too.
    :param transport: How frames come, ``raw`` or ``compressed``; what was measured otherwise does
        not count.
    :param progress: Takes a line on what is being done.
    :param cancelled: Whether to stop.
    :raises EngineError: If the engine is not there.
    """

    def __init__(
        self,
        decode: Callable[[], np.ndarray],
        offered: Sequence[Offer],
        *,
        engine: str = 'auto',
        device: str = 'auto',
        threads: int = 0,
        anew: bool = False,
        confidence: bool = False,
        transport: str = 'raw',
        progress: Callable[[str], None] = lambda line: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._decode = decode
        self._frame_size = decode().shape[:2]
        self._engine, _ = engines.choose(engine, device)
        self._device = device
        self._threads = threads
        self._confidence = confidence
        self._transport = transport
        self._progress = progress
        self._cancelled = cancelled
        self._segmenter: Segmenter | None = None
        self._precisions = engines.precisions(self._engine, device)
        self._caches = {
            offer.path: TimingCache(self._key(offer), anew=anew) for offer in offered}
        self.measured = 0
        """How many candidates were timed, not looked up."""

    def measure(self, candidate: Candidate, budget_s: float) -> Timing | None:
        """
        Return what a frame takes, or None where this machine cannot run the candidate.

        :param budget_s: Seconds that the p90 should fit; what takes far longer is timed briefly.
        :raises Cancelled: If told to stop.
        """
        point = candidate.point
        if point.precision not in (
                self._precisions.supported if candidate.asked_for else self._precisions.unasked):
            if candidate.asked_for:
                self._progress(f'{point} cannot be run: not a precision of {self._engine} here')
            return None
        cache = self._caches[point.weights]
        times = cache.get(point)
        if times is None:
            # For a smaller budget; of a few frames, which say no more than that it is too slow.
            times = cache.get(point, brief=True)
            if times is not None and times[1] <= HOPELESS * budget_s:
                times = None
        if times is None:
            self._check_cancelled()
            self._progress(f'timing {point}')
            try:
                times, brief = self._time(point, budget_s)
            except Cancelled:
                raise
            except Exception as error:
                # Of whatever library: one network that cannot run must not stop the others.
                self._progress(f'{point} cannot be run: {error}')
                return None
            self.measured += 1
            cache.put(point, times, brief=brief)
        # Latency grows with size: where a larger one was faster, the machine was slow for a while.
        return Timing(candidate, *min([times, *cache.larger(point)], key=lambda pair: pair[1]))

    def _time(
        self, point: OperatingPoint, budget_s: float,
    ) -> tuple[tuple[float, float], bool]:
        """Return p50 and p90 in seconds, and whether a few frames were enough for them."""
        segmenter = self._segmenter
        if segmenter is None or (segmenter.weight_file, segmenter.engine.precision) != (
                point.weights, point.precision):
            # First, so that no two networks are in memory.
            self._segmenter = segmenter = None
            self._segmenter = segmenter = Segmenter(
                point.weights, engine=self._engine, device=self._device,
                precision=point.precision, threads=self._threads)
        segmenter.input_height = point.input_height
        render = renderer(segmenter.info.classes)

        def publish(frame: np.ndarray, labels: np.ndarray) -> None:
            for pixels in (labels, render(frame, labels)):
                # As a message takes them.
                array.array('B').frombytes(memoryview(pixels).cast('B'))

        with ThreadPoolExecutor(1) as publisher:
            published = publisher.submit(lambda: None)

            def path() -> None:
                nonlocal published
                self._check_cancelled()
                frame = self._decode()
                segmentation, = segmenter.segment([frame], confidence=self._confidence)
                # As the node does it: while the next frame is labelled.
                published.result()
                published = publisher.submit(publish, frame, segmentation.labels)

            for _ in range(WARM_UP):
                path()
            rounds = []
            while True:
                taken = _round(path, HOPELESS * budget_s)
                rounds.append((float(np.median(taken)), float(np.percentile(taken, 90))))
                p50_s, p90_s = min(rounds, key=lambda pair: pair[1])
                wanted = MAX_ROUNDS if p50_s <= budget_s < p90_s else ROUNDS
                brief = len(taken) < MIN_FRAMES
                if brief or len(rounds) >= wanted:
                    return (p50_s, p90_s), brief

    def _check_cancelled(self) -> None:
        if self._cancelled():
            raise Cancelled

    def _key(self, offer: Offer) -> dict[str, object]:
        from torch import cuda
        gpu = None
        if self._device not in ('cpu', 'gpu') and cuda.is_available():
            gpu = cuda.get_device_name(None if self._device == 'auto' else self._device)
        height, width = self._frame_size
        return {
            'processor': machine.processor(),
            'cores': machine.cores(),
            'gpu': gpu,
            'engine': self._engine,
            'engine version': import_module(self._engine).__version__,
            'device': self._device,
            'threads': self._threads,
            'weights': offer.digest,
            'frame': [height, width],
            'confidence': self._confidence,
            'transport': self._transport,
        }


def _round(path: Callable[[], None], hopeless_s: float) -> list[float]:
    """Return the seconds that frames took, of only a few if all take longer than that."""
    taken: list[float] = []
    started = time.perf_counter()
    while len(taken) < MAX_FRAMES and (
            len(taken) < MIN_FRAMES or time.perf_counter() - started < MAX_S):
        before = time.perf_counter()
        path()
        taken.append(time.perf_counter() - before)
        if len(taken) == 3 and min(taken) > hopeless_s:
            break
    return taken


def renderer(classes: ClassTable) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """
    Return what the node makes of labels besides publishing them, with its default parameters.

    It takes a frame, uint8 [H, W, 3] in blue, green, red, and its labels, uint8 [H, W], and
    returns the overlay with the drivable area, uint8 [H, W, 3] in red, green, blue.
    """
    palette = classes.palette()
    drivable = classes.indices(classes.drivable)

    def render(frame: np.ndarray, labels: np.ndarray) -> np.ndarray:
        area = drivable_area(labels, drivable)
        return rendering.overlay(frame, labels, area, palette, rendering.OPACITY)

    return render
