# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Reads the folder that an evaluation of a bag writes; docs/evaluation.md says what is in it."""

from __future__ import annotations

import json
import sys
from array import array
from dataclasses import dataclass
from dataclasses import fields
from pathlib import Path
from typing import Any
from typing import Iterator

import numpy as np

from lmii_ros.classes import ClassTable
from lmii_ros.evaluation.results import FORMAT
from lmii_ros.evaluation.results import FRAMES
from lmii_ros.evaluation.results import METRICS
from lmii_ros.evaluation.results import RUN
from lmii_ros.metrics import Counts
from lmii_ros.metrics import CountsError

LABELLED = 'labelled'
"""Status of a frame that was labelled; any other is the reason why not."""
# Numbers that are no counts.
_MEASURED = ('miou', 'latency_ms')
_COUNT, _TEXT, _NUMBER = (int,), (str,), (int, float)
_KNOWN, _PATH = (int, float, type(None)), (str, type(None))
_WORDS = {
    _COUNT: 'a whole number', _TEXT: 'a text', _NUMBER: 'a number', _KNOWN: 'a number or null',
    _PATH: 'a text or null'}
# What reports rely on; see _check.
_METRICS = {
    'frames': {
        'total': _COUNT, 'labelled': _COUNT, 'dropped': {'*': _COUNT}, 'truth': {'*': _COUNT}},
    'scores': {
        'miou': _KNOWN, 'pixel_accuracy': _KNOWN, 'drivable': {'*': _KNOWN},
        'temporal': {'*': _KNOWN}, 'calibration': {'*': _KNOWN}},
    'pictures': [{
        'bag': _PATH, 'index': _COUNT, 'stamp_ns': _COUNT, 'why': _TEXT, 'miou': _KNOWN,
        'camera': _PATH, 'truth': _PATH, 'prediction': _PATH, 'difference': _PATH}],
    'faults': [_TEXT]}
_RUN = {
    'command': [_TEXT], 'machine': {},
    'latency_ms': {
        'p50': _KNOWN, 'p90': _KNOWN, 'p99': _KNOWN,
        'histogram': {'counts': [_COUNT], 'edges': [_NUMBER]}}}
_DEPTH = 20


class ResultError(ValueError):
    """A folder does not hold the results of an evaluation; the text is one line that names it."""


@dataclass(frozen=True)
class Frames:
    """
    The frames of a bag, or of several one after the other, N of them, in their order.

    :param bag: The bag of each, N of them; empty in the results of one bag alone.
    :param stamp_ns: int64 [N], in nanoseconds.
    :param status: :data:`LABELLED` or the reason why a frame was not labelled, N of them.
    :param miou: float64 [N], NaN where there is no truth or no label.
    :param true_positive: int64 [N, classes], pixels with a truth; zero where nothing was counted.
    :param truth_pixels: int64 [N, classes], likewise.
    :param label_pixels: int64 [N, classes], likewise.
    :param drivable: int64 [N, 3], true positive, false positive and false negative pixels.
    :param latency_ms: float64 [N], from capture to label, NaN where it was not measured.
    """

    bag: tuple[str, ...]
    stamp_ns: np.ndarray
    status: tuple[str, ...]
    miou: np.ndarray
    true_positive: np.ndarray
    truth_pixels: np.ndarray
    label_pixels: np.ndarray
    drivable: np.ndarray
    latency_ms: np.ndarray

    def __len__(self) -> int:
        return len(self.status)

    def take(self, indices: np.ndarray) -> Frames:
        """Return the frames of these indices, in their order."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return Frames(**{
            name: tuple(column[index] for index in indices) if isinstance(column, tuple)
            else column[indices] for name, column in columns.items()})

    @property
    def labelled(self) -> np.ndarray:
        """Return which frames were labelled, bool [N]."""
        return np.array([status == LABELLED for status in self.status], bool)

    @property
    def scored(self) -> np.ndarray:
        """Return which frames have pixels with label and truth, bool [N]."""
        return self.truth_pixels.any(axis=1)

    @property
    def breaks(self) -> str:
        """Return what keeps the frames from being one drive in its order, else empty."""
        if len(set(self.bag)) > 1:
            return 'of several bags'
        return 'the stamps jump back' if (np.diff(self.stamp_ns) < 0).any() else ''

    @property
    def seconds(self) -> np.ndarray:
        """Return seconds since the first stamp, float64 [N]; row numbers if it is no one drive."""
        if self.breaks:
            return np.arange(len(self), dtype=np.float64)
        return (self.stamp_ns - self.stamp_ns[:1]) / 1e9


@dataclass(frozen=True)
class Results:
    """
    What one evaluation found.

    :param directory: Where it was read from.
    :param metrics: Content of metrics.json.
    :param classes: Its class table.
    :param counts: Its counts.
    :param frames: Content of frames.jsonl, none where it is missing.
    :param run: Content of run.json, empty where there is none.
    """

    directory: Path
    metrics: dict[str, Any]
    classes: ClassTable
    counts: Counts
    frames: Frames
    run: dict[str, Any]

    @property
    def name(self) -> str:
        """Return the name of the bag."""
        return str(self.metrics['source'].get('bag', self.directory.name))

    def place(self, picture: dict[str, Any]) -> str:
        """Return where one of the pictures of metrics.json is: its frame, bag and time in that."""
        bag = picture.get('bag', '')
        first_ns = picture['stamp_ns']
        if bag in self.frames.bag:
            first_ns = int(self.frames.stamp_ns[self.frames.bag.index(bag)])
        return (
            f'Frame {picture["index"]}' + (f' of {bag}' if bag else '')
            + f' at {(picture["stamp_ns"] - first_ns) / 1e9:.2f} s')


def read(directory: str | Path) -> Results:
    """
    Read a folder of results.

    :raises ResultError: If a file is missing, damaged or of another format.
    """
    directory = Path(directory)
    path = directory / METRICS
    if not path.is_file():
        raise ResultError(
            f'{directory}: no metrics.json; expected a folder written by `lmii evaluate bag`')
    metrics = _document(path)
    if metrics.get('format') != FORMAT:
        raise ResultError(
            f'{directory}: metrics.json of format {metrics.get("format")!r}, expected {FORMAT}')
    for key in ('source', 'operating_point', 'classes', 'frames', 'counts', 'scores'):
        if not isinstance(metrics.get(key), dict):
            raise ResultError(f'{directory}: metrics.json has no {key!r}')
    _check(path, metrics, _METRICS)
    frames = metrics['frames']
    dropped = sum((frames.get('dropped') or {}).values())
    if min(frames['labelled'], dropped, frames['total'] - frames['labelled'] - dropped) < 0:
        raise ResultError(
            f'{path}: {frames["labelled"]} frames labelled and {dropped} dropped of '
            f'{frames["total"]}')
    classes = ClassTable.from_dict(metrics['classes'])
    try:
        counts = Counts.from_dict(metrics['counts'])
    except CountsError as error:
        raise ResultError(f'{path}: {error}') from error
    if len(counts.confusion) != len(classes):
        raise ResultError(
            f'{path}: counts of {len(counts.confusion)} classes with a table of '
            f'{len(classes)}')
    return Results(
        directory, metrics, classes, counts, _frames(directory / FRAMES, len(classes)),
        _run(directory / RUN))


def _frames(path: Path, classes: int) -> Frames:
    widths = {
        'stamp_ns': 1, 'miou': 1, 'true_positive': classes, 'truth_pixels': classes,
        'label_pixels': classes, 'drivable': 3, 'latency_ms': 1}
    # Packed line by line: all lines as Python's objects would be many times as large.
    columns = {name: array('d' if name in _MEASURED else 'q') for name in widths}
    status, bag = [], []
    for number, line in enumerate(_lines(path), 1):
        values = _json(f'{path}, line {number}', line)
        try:
            status.append(sys.intern(values['status']))
            bag.append(sys.intern(values.get('bag', '')))
            for name, width in widths.items():
                row = values.get(name)
                row = [row] if width == 1 else row
                if row in (None, [None]):
                    row = [np.nan if name in _MEASURED else 0] * width
                if len(row) != width:
                    raise ValueError(f'{len(row)} values of {name}, expected {width}')
                columns[name].extend(row)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ResultError(
                f'{path}, line {number}: not a frame of this class table: '
                f'{type(error).__name__} {error}') from error
    return Frames(bag=tuple(bag), status=tuple(status), **{
        name: np.array(column).reshape((-1, widths[name]) if widths[name] > 1 else -1)
        for name, column in columns.items()})


def _lines(path: Path) -> Iterator[bytes]:
    if path.is_file():
        with path.open('rb') as file:
            yield from file


def _run(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    run = _document(path)
    _check(path, run, _RUN)
    histogram = (run.get('latency_ms') or {}).get('histogram') or {}
    edges, counts = (len(histogram.get(key) or []) for key in ('edges', 'counts'))
    if histogram and edges != counts + 1:
        raise ResultError(
            f'{path}: a histogram of {counts} counts with {edges} edges, expected one more')
    return run


def _document(path: Path) -> dict[str, Any]:
    document = _json(path, path.read_bytes())
    if not isinstance(document, dict):
        raise ResultError(f'{path} is {document!r:.40}, expected an object')
    level = [document]
    for _ in range(_DEPTH):
        level = [
            inner for value in level if isinstance(value, (dict, list))
            for inner in (value.values() if isinstance(value, dict) else value)]
    if level:
        raise ResultError(f'{path}: nested deeper than {_DEPTH} levels')
    return document


def _json(name: object, text: bytes) -> Any:
    try:
        return json.loads(text)
    # Text that is not UTF-8 is a ValueError too.
    except (ValueError, RecursionError) as error:
        raise ResultError(f'{name}: not JSON: {error}') from error


def _check(name: object, value: Any, kind: Any) -> None:
    """
    Check the kind of a value, and of those in it.

    :param kind: One of :data:`_WORDS`; or of what may be null, a list of the kind of its items, or
        a dictionary of kinds by key, `*` being every key.
    """
    if isinstance(kind, tuple):
        if not isinstance(value, kind):
            raise ResultError(f'{name} is {value!r:.40}, expected {_WORDS[kind]}')
    elif value is None:
        return
    elif not isinstance(value, type(kind)):
        expected = 'a list' if isinstance(kind, list) else 'an object'
        raise ResultError(f'{name} is {value!r:.40}, expected {expected}')
    elif isinstance(kind, list):
        for index, item in enumerate(value):
            # Where nothing is measured there is no item.
            _check(f'{name}[{index}]', {} if item is None else item, kind[0])
    else:
        for key, inner in kind.items():
            for found in value if key == '*' else [key]:
                _check(f'{name}: {found}', value.get(found), inner)
