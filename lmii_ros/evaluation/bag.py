# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Accuracy on a bag: every frame once, as fast as the machine can."""

from __future__ import annotations

import time
from array import array
from contextlib import ExitStack
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from datetime import timezone
from pathlib import Path
from typing import Any
from typing import Generator
from typing import Sequence

from tqdm import tqdm

from lmii_ros import machine
from lmii_ros.bags import BagReader
from lmii_ros.engines import NonFiniteOutput
from lmii_ros.evaluation import results
from lmii_ros.evaluation.annotation import Annotation
from lmii_ros.evaluation.bag_frames import BagFrame
from lmii_ros.evaluation.bag_frames import BagFrames
from lmii_ros.evaluation.pictures import Pictures
from lmii_ros.evaluation.read_ahead import read_ahead
from lmii_ros.evaluation.tally import Tally
from lmii_ros.segmenter import Segmentation
from lmii_ros.segmenter import Segmenter

NON_FINITE = 'non_finite_output'
ANNOTATED = 'annotated'
"""Folder of the annotated bag."""


@dataclass(frozen=True)
class BagEvaluation:
    """
    What to evaluate.

    :param bag: Path, see :class:`lmii_ros.bags.BagReader`.
    :param out: Folder for the results; files of an earlier evaluation there are replaced, but
        for an annotated bag, beside which no other is made.
    :param image_topic: Topic of the images; None if the bag has only one besides the labels.
    :param labels_topic: Topic of the ground truth; None for none.
    :param tolerance_ms: How far the stamps of an image and its ground truth may be apart.
    :param annotate: Whether to write labels and pictures into a bag.
    :param with_originals: Whether that is to have all topics of the evaluated one too.
    :raises ValueError: If the tolerance is none.
    """

    bag: Path
    out: Path
    image_topic: str | None = None
    labels_topic: str | None = None
    tolerance_ms: float = 10.0
    annotate: bool = False
    with_originals: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance_ms <= 1e6:
            raise ValueError(f'tolerance is {self.tolerance_ms} ms, expected 0 to 1000000')


def evaluate(
    segmenter: Segmenter, evaluation: BagEvaluation, command: Sequence[str] = (), *,
    progress: bool = True,
) -> dict[str, Any]:
    """
    Evaluate a bag and write the files of docs/evaluation.md, metrics.json last.

    Reading, network and counting each have a thread, so that only the slowest takes time; memory
    does not grow with the bag.

    :param command: The command line, for run.json.
    :param progress: Whether to show a progress bar on a terminal.
    :return: The content of metrics.json; its `faults` tell what of the bag could not be read.
    :raises BagError: If the bag or a topic does not exist, or nothing of it can be read.
    :raises OSError: If the results cannot be written.
    """
    started = datetime.now(timezone.utc)
    classes = segmenter.info.classes
    out = evaluation.out
    with ExitStack() as stack:
        reader = stack.enter_context(BagReader(evaluation.bag))
        labels_topic = evaluation.labels_topic
        if labels_topic is not None:
            reader.image_topic(labels_topic)
        image_topic = reader.image_topic(
            evaluation.image_topic, besides=[labels_topic] if labels_topic else [])
        annotation = None
        if evaluation.annotate:
            originals = None
            if evaluation.with_originals:
                originals = stack.enter_context(BagReader(evaluation.bag))
            annotation = stack.enter_context(Annotation(out / ANNOTATED, classes, originals))
        # After all that can be refused, so that a refusal leaves earlier results alone.
        out.mkdir(parents=True, exist_ok=True)
        (out / results.METRICS).unlink(missing_ok=True)
        tally = Tally(
            classes, stack.enter_context((out / results.FRAMES).open('w')),
            with_truth=labels_topic is not None)
        pictures = Pictures(classes)
        frames = BagFrames(
            reader, image_topic, labels_topic, round(1e6 * evaluation.tolerance_ms), classes)
        network = _Network(segmenter)
        start = time.perf_counter()
        # Closed in this order: the thread that reads ends before its bag is closed.
        labelled = stack.enter_context(closing(
            read_ahead(network.label(read_ahead(frames.read())))))
        for frame, segmentation in tqdm(
                labelled, 'evaluate', total=reader.count(image_topic),
                disable=None if progress else True):
            _add(tally, pictures, frame, segmentation)
            if annotation is not None and segmentation is not None:
                annotation.add(frame, segmentation)
        tally.add_unmatched_labels(frames.unmatched_labels)
        wall_s = time.perf_counter() - start - network.prepare_s
    faults = frames.faults() + (list(annotation.faults.values()) if annotation else [])
    if NON_FINITE in tally.frames.dropped:
        faults.append(
            f'the network gave values that are not finite for {tally.frames.dropped[NON_FINITE]} '
            'frames')
    document = results.metrics_document(
        {'bag': evaluation.bag.resolve().name, 'image_topic': image_topic,
         'labels_topic': labels_topic, 'tolerance_ms': evaluation.tolerance_ms},
        results.operating_point(segmenter), classes, tally.frames, tally.counts,
        pictures.write(out), faults)
    results.write(out / results.RUN, {
        'format': results.FORMAT,
        'command': list(command),
        'started': started.isoformat(timespec='seconds'),
        'prepare_s': network.prepare_s,
        'network_s': sum(network.seconds),
        'wall_s': wall_s,
        'frames_per_s': tally.frames.total / wall_s,
        'latency_ms': results.latency(network.seconds),
        'machine': machine.facts(),
    })
    results.write(out / results.METRICS, document)
    return document


class _Network:
    """The stage between reading and counting, and how long it takes."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._sizes: set[tuple[int, int]] = set()
        self.prepare_s = 0.0
        # Eight bytes a frame.
        self.seconds = array('d')

    def label(
        self, frames: Generator[BagFrame, None, None],
    ) -> Generator[tuple[BagFrame, Segmentation | None], None, None]:
        """Yield each frame with its segmentation, None if there is none."""
        with closing(frames):
            for frame in frames:
                yield frame, None if frame.image is None else self._segmented(frame)

    def _segmented(self, frame: BagFrame) -> Segmentation | None:
        size = frame.image.shape[:2]
        start = time.perf_counter()
        try:
            if size not in self._sizes:
                self._segmenter.prepare(size)
                self._sizes.add(size)
                self.prepare_s += time.perf_counter() - start
                start = time.perf_counter()
            # One by one as in the node, for the same labels bit for bit.
            segmentation, = self._segmenter.segment([frame.image], confidence=True)
        except NonFiniteOutput:
            return None
        self.seconds.append(time.perf_counter() - start)
        # The engine may use its arrays for the next frame.
        return Segmentation(segmentation.labels.copy(), segmentation.confidence.copy())


def _add(
    tally: Tally, pictures: Pictures, frame: BagFrame, segmentation: Segmentation | None,
) -> None:
    if segmentation is None:
        tally.add_dropped(
            frame.index, frame.stamp_ns, frame.reason or NON_FINITE, frame.match)
        return
    miou = tally.add_labelled(
        frame.index, frame.stamp_ns, segmentation.labels, segmentation.confidence, frame.match,
        frame.truth)
    pictures.offer(
        frame.index, frame.stamp_ns, miou, frame.image, segmentation.labels, frame.truth)
