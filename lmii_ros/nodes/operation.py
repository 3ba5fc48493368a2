# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""At which operating point the node labels: fixed by parameters, or kept for a target rate."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any
from typing import Callable
from typing import Iterator

import numpy as np

from lmii_ros.engines import OutOfMemory
from lmii_ros.nodes.parameters import MIN_INPUT_HEIGHT
from lmii_ros.nodes.parameters import Settings
from lmii_ros.nodes.process import NodeFailed
from lmii_ros.nodes.rate_keeper import RateKeeper
from lmii_ros.nodes.rate_keeper import Sample
from lmii_ros.nodes.rate_keeper import find_point

if TYPE_CHECKING:
    from lmii_ros.operating_point import OperatingPoint
    from lmii_ros.operating_point import Target
    from lmii_ros.segmenter import Segmentation
    from lmii_ros.segmenter import Segmenter

PREPARING = 'preparing the network, nothing is labelled'
MAX_STRAY = 10
"""So many frames of another size in succession, of a camera, are labelled at the point that was
chosen: a search for what may be a glitch would stop all labels for seconds."""


@dataclass(frozen=True)
class _Demand:
    """What the operating point depends on besides the size of the frames; if it changes, the point
    is chosen anew."""

    target: Target | None
    offered_weights: tuple[str, ...]
    input_height: int
    by_confidence: bool
    """Whether labels depend on the confidence, so that it is computed for every frame."""


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
        if settings.target is None:
            logger.info(
                'preparing the network, which takes some seconds at its first start on a machine')
            # The first run allocates and chooses kernels: no camera frame is to wait for that.
            self.segmenter.prepare(self.segmenter.info.input_size)
        self._prepared: set[tuple[int, int]] = set()
        self._demand: _Demand | None = None
        self._frame_sizes: dict[str, tuple[int, int]] = {}
        self._strays: Counter[str] = Counter()
        self._judged = True
        self._keeper: RateKeeper | None = None
        self._chosen = False
        """Whether the live network was chosen for a target rate, not by the parameters."""
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
        if settings.target is not None:
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
        self._stop_keeping()
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
        keeper = self._keeper
        if keeper is not None:
            keeper.lost()

    def facts(self) -> dict[str, object]:
        """Return what diagnostics tell."""
        segmenter, keeper = self.segmenter, self._keeper
        facts: dict[str, object] = {
            'weights': segmenter.weight_file.name,
            'network': segmenter.info.network,
            'engine': segmenter.engine.name,
            'device': segmenter.engine.device,
            'precision': segmenter.engine.precision,
            'input height': segmenter.input_height or segmenter.info.input_size[0],
        }
        if keeper is not None:
            facts |= keeper.facts() | {'switches': self._switches}
        return facts

    def warning(self) -> str:
        """Return what diagnostics warn of, empty for nothing."""
        if self._made_do:
            return self._made_do
        keeper = self._keeper
        if keeper is not None:
            return keeper.warning()
        if self._settings.target is not None and self._demand is not None:
            return 'the target rate is not kept: the log tells why'
        return ''

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
            self._settle(camera, Sample(decode, frame.shape[:2], confidence), settings, finish)
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
        keeper = self._keeper
        if keeper is None:
            return
        if not self._judged:
            # It may take seconds to prepare for its size, which says nothing of the point.
            keeper.pass_over()
            return
        segmenter = keeper.labelled(took_s, self.segmenter)
        if segmenter is not self.segmenter:
            self.segmenter = segmenter
            self._switches += 1

    def _settle(
        self, camera: str, sample: Sample, settings: Settings, finish: Callable[[], object],
    ) -> None:
        frame_size = sample.frame_size
        demand = _Demand(
            settings.target, settings.offered_weights, settings.input_height,
            settings.min_confidence > 0)
        anew = self._calibrate_anew.is_set()
        if demand == self._demand and not anew:
            known_size = self._frame_sizes.get(camera)
            self._judged = frame_size == known_size
            if self._judged:
                self._strays[camera] = 0
                return
            if not self._chosen:
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
        labels_already = self._chosen or bool(self._prepared)
        try:
            if demand.target is not None:
                self._frame_sizes[camera] = frame_size
                self._choose(sample, demand.target, anew=anew)
            else:
                # Others, with a size of their own, are prepared when they come.
                self._frame_sizes = {camera: frame_size}
                self._stop_keeping()
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
        # As in _fix.
        with self._pausing(PREPARING), suppress(OutOfMemory):
            self.segmenter.prepare(frame_size)
        if self._keeper is not None:
            self._keeper.renew()

    def _fix(self, frame_size: tuple[int, int], demand: _Demand) -> None:
        """Label at the point that the parameters name."""
        from lmii_ros import weights
        settings, segmenter = self._settings, self.segmenter
        with self._pausing(PREPARING):
            if self._chosen:
                segmenter = self._load(weights.find(settings.weights), settings.precision, 0)
                self._chosen = False
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

    def _choose(self, sample: Sample, target: Target, *, anew: bool) -> None:
        """Find and take the best point for a target rate."""
        with self._pausing('calibrating, nothing is labelled'):
            # What is still being made ready would slow what is measured.
            self._stop_keeping(wait=True)
            choice, ladder = find_point(
                sample, self._settings, target, self._logger, anew=anew,
                cancelled=self._cancelled.is_set)
            segmenter = self._make(choice.timing.candidate.point)
        self._chosen = True
        self.segmenter = segmenter
        self._keeper = RateKeeper(
            choice, ladder, target, self._make, self._logger,
            lowest_priority=not segmenter.engine.keeps_priority)

    @contextmanager
    def _pausing(self, why: str) -> Iterator[None]:
        """Tell why nothing is labelled for as long as a block takes."""
        self.paused = why
        try:
            yield
        finally:
            self.paused = ''

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

    def _make_do(self, error: OutOfMemory, frame_size: tuple[int, int]) -> None:
        """Go on with a smaller input, once."""
        asked = self.segmenter.input_size(frame_size)[0]
        height = asked // 2
        if self._made_do or height < MIN_INPUT_HEIGHT:
            raise NodeFailed(f'{error}; use a smaller network or input_height') from error
        self._logger.error(f'{error}; going on at input height {height}')
        self._made_do = (
            f'memory ran out: at input height {height} instead of {asked}; set input_height to '
            'try again')
        self._stop_keeping()
        self.segmenter.input_height = height

    def _stop_keeping(self, *, wait: bool = False) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.close(wait=wait)
