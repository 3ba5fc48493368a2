# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Accuracy of what the live node made of a bag that was played to it, and what it missed."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from contextlib import closing
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path
from typing import Any
from typing import Mapping
from typing import Sequence

import numpy as np
from tqdm import tqdm

from lmii_ros import frames
from lmii_ros import machine
from lmii_ros.bags import BagError
from lmii_ros.bags import BagImage
from lmii_ros.bags import BagReader
from lmii_ros.classes import ClassTable
from lmii_ros.evaluation import results
from lmii_ros.evaluation.bag_frames import BagFrames
from lmii_ros.evaluation.pictures import Pictures
from lmii_ros.evaluation.read_ahead import read_ahead
from lmii_ros.evaluation.tally import Tally

LABELS_TOPIC = '/segmentation_node/labels'
CONFIDENCE_TOPIC = '/segmentation_node/confidence'
LOST = 'lost'
"""Reason for frames that the node never received."""
LABELS_LOST = 'labels_lost'
"""Reason for frames whose labels the node published, but that did not arrive."""
UNACCOUNTED = 'unaccounted'
"""Reason for frames of which the node's diagnostics do not tell anything."""
DROPPED = 'dropped'
"""Status of a frame where several reasons were told, but not for which frames."""


@dataclass(frozen=True)
class LiveEvaluation:
    """
    What to evaluate.

    :param bag: Path, see :class:`lmii_ros.bags.BagReader`; a rosbag2.
    :param out: Folder for the results; files of an earlier evaluation there are replaced.
    :param image_topic: Topic of the images; None if the bag has only one besides the labels.
    :param labels_topic: Topic of the ground truth; None for none.
    :param tolerance_ms: How far the stamps of an image and its ground truth may be apart.
    :param rate: Speed at which the bag is played, 1 for that of the recording.
    :raises ValueError: If the tolerance or the rate is none.
    """

    bag: Path
    out: Path
    image_topic: str | None = None
    labels_topic: str | None = None
    tolerance_ms: float = 10.0
    rate: float = 1.0

    def __post_init__(self) -> None:
        for name, value, low, high in (
                ('tolerance', self.tolerance_ms, 0, 1e6), ('rate', self.rate, 0.01, 100)):
            if not low <= value <= high:
                raise ValueError(f'{name} is {value}, expected {low} to {high:g}')

    def image_source(self) -> tuple[str, str]:
        """
        Return the topic of the images and how they come there, ``raw`` or ``compressed``.

        :raises BagError: If the bag or one of the topics is not there, the images could be of
            several topics, or the bag is of ROS 1.
        """
        with BagReader(self.bag) as reader:
            if reader.is_ros1:
                raise BagError(
                    f'{self.bag}: a bag of ROS 1 cannot be played; convert it first: '
                    'rosbags-convert --src OLD.bag --dst NEW')
            besides = []
            if self.labels_topic is not None:
                besides = [reader.image_topic(self.labels_topic)]
            topic = reader.image_topic(self.image_topic, besides)
            kind = reader.image_topics()[topic]
            return topic, 'compressed' if kind == 'sensor_msgs/msg/CompressedImage' else 'raw'


@dataclass
class Drive:
    """
    What was seen while the bag was played.

    :param labels: A bag of what the node published, on :data:`LABELS_TOPIC` and
        :data:`CONFIDENCE_TOPIC`, in the order of arrival.
    :param classes: What the labels mean.
    :param operating_point: Of the node, see :func:`lmii_ros.evaluation.results.operating_point`.
    :param received: Frames that came in at the node.
    :param labelled: Frames whose labels it published.
    :param dropped: Frames that it dropped, by reason.
    :param latencies_s: By stamp in nanoseconds, from the arrival of an image to that of its
        labels.
    :param command: The command line, for run.json.
    :param facts: More for run.json.
    """

    labels: Path
    classes: ClassTable
    operating_point: dict[str, Any]
    received: int
    labelled: int
    dropped: Counter[str]
    latencies_s: Mapping[int, float]
    command: Sequence[str] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def score(evaluation: LiveEvaluation, drive: Drive) -> dict[str, Any]:
    """
    Evaluate what was labelled and write the files of docs/evaluation.md, metrics.json last.

    :return: The content of metrics.json.
    :raises BagError: If nothing of the bag can be read.
    :raises OSError: If the results cannot be written.
    """
    out = evaluation.out
    classes = drive.classes
    image_topic, _ = evaluation.image_source()
    with ExitStack() as stack:
        reader = stack.enter_context(BagReader(evaluation.bag))
        labels = _Received(stack.enter_context(BagReader(drive.labels)), LABELS_TOPIC)
        confidences = _Received(stack.enter_context(BagReader(drive.labels)), CONFIDENCE_TOPIC)
        tally = Tally(
            classes, stack.enter_context((out / results.FRAMES).open('w')),
            with_truth=evaluation.labels_topic is not None)
        pictures = Pictures(classes)
        bag_frames = BagFrames(
            reader, image_topic, evaluation.labels_topic, round(1e6 * evaluation.tolerance_ms),
            classes)
        reasons = _reasons(drive, reader.count(image_topic), labels.count)
        reason = next(iter(reasons)) if len(reasons) == 1 else DROPPED
        stamps = set()
        repeated = 0
        read = stack.enter_context(closing(read_ahead(bag_frames.read())))
        for frame in tqdm(read, 'score', total=reader.count(image_topic), disable=None):
            repeated += frame.stamp_ns in stamps
            stamps.add(frame.stamp_ns)
            seen, confidence = labels.take(frame.stamp_ns), confidences.take(frame.stamp_ns)
            if seen is None or frame.image is None:
                tally.add_dropped(
                    frame.index, frame.stamp_ns, frame.reason or reason, frame.match)
                continue
            latency_s = drive.latencies_s.get(frame.stamp_ns)
            miou = tally.add_labelled(
                frame.index, frame.stamp_ns, seen, confidence, frame.match, frame.truth,
                None if latency_s is None else 1000 * latency_s)
            pictures.offer(
                frame.index, frame.stamp_ns, miou, frame.image, seen, frame.truth)
        tally.add_unmatched_labels(bag_frames.unmatched_labels)
    faults = bag_frames.faults()
    if repeated:
        faults.append(
            f'{repeated} images have the stamp of an earlier one, so that it is not certain which '
            'labels are theirs')
    missing = tally.frames.total - tally.frames.labelled
    dropped = _reasons(drive, tally.frames.total, tally.frames.labelled)
    if dropped.total() != missing:
        faults.append(
            f'{missing} frames were not labelled, but the counts of the node tell of '
            f'{dropped.total()}')
        dropped = Counter({UNACCOUNTED: missing} if missing else {})
    if not tally.frames.labelled:
        faults.append('no frame was labelled')
    document = results.metrics_document(
        {'bag': evaluation.bag.resolve().name, 'image_topic': image_topic,
         'labels_topic': evaluation.labels_topic, 'tolerance_ms': evaluation.tolerance_ms,
         'live_rate': evaluation.rate},
        drive.operating_point, classes, replace(tally.frames, dropped=dropped), tally.counts,
        pictures.write(out), faults)
    results.write(out / results.RUN, {
        'format': results.FORMAT,
        'command': list(drive.command),
        **drive.facts,
        'sent': tally.frames.total,
        'received': drive.received,
        'labelled': tally.frames.labelled,
        'latency_ms': results.latency(latencies(drive)),
        'machine': machine.facts(),
    })
    results.write(out / results.METRICS, document)
    return document


def latencies(drive: Drive) -> list[float]:
    """Return the latencies in seconds, of frames whose image arrived before their labels."""
    return [latency for latency in drive.latencies_s.values() if latency > 0]


def _reasons(drive: Drive, sent: int, arrived: int) -> Counter[str]:
    """Return why frames were not labelled, by the node's account."""
    lost = Counter({LOST: sent - drive.received, LABELS_LOST: drive.labelled - arrived})
    # What is not positive goes.
    return +(drive.dropped + lost)


class _Received:
    """Images of a topic, which come in the order of the frames but not for each."""

    def __init__(self, reader: BagReader, topic: str) -> None:
        self.count = reader.count(topic)
        self._images = (reader.image(message) for message in reader.messages([topic]))
        self._next: BagImage | None = next(self._images, None)

    def take(self, stamp_ns: int) -> np.ndarray | None:
        """Return the pixels of that stamp, uint8 [H, W], or None if the next are not of it."""
        if self._next is None or self._next.stamp_ns != stamp_ns:
            return None
        image, self._next = self._next, next(self._images, None)
        return frames.decode_labels(image.message)
