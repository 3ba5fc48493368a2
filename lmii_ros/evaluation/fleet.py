# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Accuracy on many bags: each is one task, and their counts add up exactly."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
from datetime import datetime
from datetime import timezone
from functools import lru_cache
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any
from typing import Iterable
from typing import Iterator
from typing import Sequence

import cv2
from tqdm import tqdm

from lmii_ros import machine
from lmii_ros import weights
from lmii_ros.bags import is_bag_file
from lmii_ros.classes import ClassTable
from lmii_ros.evaluation import bag
from lmii_ros.evaluation import results
from lmii_ros.evaluation.bag import BagEvaluation
from lmii_ros.evaluation.pictures import WORST
from lmii_ros.evaluation.tally import FrameTotals
from lmii_ros.metrics import Counts
from lmii_ros.segmenter import Segmenter

DONE = 'done.json'
"""File in a bag's folder of results that tells with what they were made; written last."""


class FleetError(ValueError):
    """Bags cannot be evaluated together, or not all could be; the text is one line."""


@dataclass(frozen=True)
class Fleet:
    """
    What to evaluate; the options of all bags alike.

    :param folder: Every bag below it is evaluated.
    :param out: Folder for the merged results, and one below it for each bag.
    :param weight_file: Path or name of a weight file.
    :param engine: See :class:`lmii_ros.segmenter.Segmenter`, like the three that follow.
    :param device: See there.
    :param precision: See there.
    :param input_height: See there.
    :param image_topic: See :class:`lmii_ros.evaluation.bag.BagEvaluation`, like the others.
    :param labels_topic: See there.
    :param tolerance_ms: See there.
    :param annotate: See there.
    :param with_originals: See there.
    :param workers: Bags at the same time on a machine; they share its cores.
    """

    folder: Path
    out: Path
    weight_file: str = 'lpsnet_s_camvid'
    engine: str = 'auto'
    device: str = 'auto'
    precision: str = 'auto'
    input_height: int = 0
    image_topic: str | None = None
    labels_topic: str | None = None
    tolerance_ms: float = 10.0
    annotate: bool = False
    with_originals: bool = False
    workers: int = 1

    @property
    def threads(self) -> int:
        """CPU threads of a worker on this machine."""
        return max(1, machine.cores() // self.workers)


@dataclass(frozen=True)
class Task:
    """
    One bag, and all that a worker needs to evaluate it.

    :param name: Path of the bag below the fleet's folder; that of its results below `out`.
    :param evaluation: Of the bag, with absolute paths.
    :param fleet: With the path of the weights.
    :param fingerprint: Of the bag and of what it is evaluated with.
    """

    name: str
    evaluation: BagEvaluation
    fleet: Fleet
    fingerprint: str

    @property
    def out(self) -> Path:
        """Folder of the results."""
        return self.evaluation.out

    def is_done(self) -> bool:
        """Return whether the results are there, of this bag and these settings."""
        try:
            return json.loads((self.out / DONE).read_text()) == {
                'fingerprint': self.fingerprint, 'metrics': _sha256(self.out / results.METRICS)}
        except (OSError, ValueError):
            return False


@dataclass(frozen=True)
class Outcome:
    """
    How a task ended.

    :param task: The task.
    :param error: Why there are no results, in one line; empty if there are.
    :param retried: Whether its worker died, and another one did it.
    """

    task: Task
    error: str = ''
    retried: bool = False


def evaluate(
    fleet: Fleet, scheduler: str = 'local', command: Sequence[str] = (),
) -> dict[str, Any]:
    """
    Evaluate every bag that is not done yet, and merge the results of all.

    Each bag's results are those of `lmii evaluate bag`; the merged counts are their sums, in
    whatever order and wherever they were made.

    :param scheduler: 'local' for processes of this machine, 'ray' for a Ray cluster, whose
        machines need to have bags, weights and `out` under the same paths.
    :param command: The command line, for run.json.
    :return: The content of the merged metrics.json; its `faults` name each bag without results.
    :raises FleetError: If there is no bag, or none could be evaluated, or bags were evaluated at
        different operating points.
    :raises WeightError: If there are no such weights.
    :raises ModuleNotFoundError: If Ray is asked for and not installed.
    :raises OSError: If the results cannot be written.
    """
    started, start = datetime.now(timezone.utc), time.perf_counter()
    todo = list(tasks(fleet))
    if not todo:
        raise FleetError(f'{fleet.folder}: no bag in this folder')
    done = [task for task in todo if task.is_done()]
    left = [task for task in todo if task not in done]
    if scheduler == 'ray':
        from lmii_ros.evaluation.ray_workers import outcomes
    else:
        from lmii_ros.evaluation.local_workers import outcomes
    errors = {}
    with tqdm(total=len(todo), initial=len(done), desc='bags', disable=None) as progress:
        for outcome in outcomes(left, fleet):
            progress.update()
            if outcome.retried:
                progress.write(
                    f'{outcome.task.name}: its process died; done again', file=sys.stderr)
            if outcome.error:
                errors[outcome.task.name] = outcome.error
                progress.write(f'{outcome.task.name}: {outcome.error}', file=sys.stderr)
            else:
                done.append(outcome.task)
    failed = [f'{name}: {error}' for name, error in sorted(errors.items())]
    if not done:
        raise FleetError(f'no bag could be evaluated: {failed[0]}')
    results.write(fleet.out / results.RUN, {
        'format': results.FORMAT, 'command': list(command),
        'started': started.isoformat(timespec='seconds'), 'wall_s': time.perf_counter() - start,
        'scheduler': scheduler, 'workers': fleet.workers, 'bags_evaluated': len(left),
        'latency_ms': None, 'machine': machine.facts()})
    return merge(fleet, [task.name for task in done], failed)


def tasks(fleet: Fleet) -> Iterator[Task]:
    """
    Yield a task for each bag, in the order of their names.

    :raises FleetError: If the folder does not exist, or workers are none.
    :raises ValueError: If the tolerance is none.
    :raises WeightError: If there are no such weights.
    """
    if fleet.workers < 1:
        raise FleetError(f'{fleet.workers} workers, expected at least 1')
    if not fleet.folder.is_dir():
        raise FleetError(f'{fleet.folder}: no such folder')
    folder = fleet.folder.resolve()
    weight_file = weights.find(fleet.weight_file).resolve()
    settings = asdict(fleet) | {'weight_file': _sha256(weight_file), 'format': results.FORMAT}
    for irrelevant in ('folder', 'out', 'workers'):
        del settings[irrelevant]
    out = fleet.out.resolve()
    fleet = replace(fleet, weight_file=str(weight_file))
    for path in sorted(_bags(folder, out)):
        name = path.name if path == folder else path.relative_to(folder).as_posix()
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        content = [
            (file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        evaluation = BagEvaluation(
            bag=path, out=out / name, image_topic=fleet.image_topic,
            labels_topic=fleet.labels_topic, tolerance_ms=fleet.tolerance_ms,
            annotate=fleet.annotate or fleet.with_originals,
            with_originals=fleet.with_originals)
        yield Task(name, evaluation, fleet, hashlib.sha256(
            json.dumps([settings, content], sort_keys=True).encode()).hexdigest())


def _bags(folder: Path, out: Path) -> Iterator[Path]:
    seen = {str(out)}
    # Links last, so that a bag goes by its own name; not twice, nor round and round.
    todo, links = [folder], []
    while todo or links:
        path = todo.pop() if todo else links.pop()
        real = os.path.realpath(path)
        if real in seen:
            continue
        seen.add(real)
        if (path / 'metadata.yaml').exists():
            seen.update(map(os.path.realpath, path.iterdir()))
            yield path
        elif path.is_dir():
            for child in sorted(path.iterdir(), reverse=True):
                (links if child.is_symlink() else todo).append(child)
        elif is_bag_file(path):
            yield path


def run(task: Task) -> str:
    """
    Do a task; called in a worker's process.

    :return: Why there are no results, in one line; empty if there are.
    """
    try:
        cv2.setNumThreads(task.fleet.threads)
        segmenter = _segmenter(task.fleet)
        (task.out / DONE).unlink(missing_ok=True)
        # Of a worker that died; it is not written over.
        shutil.rmtree(task.out / bag.ANNOTATED, ignore_errors=True)
        bag.evaluate(segmenter, task.evaluation, progress=False)
        results.write(task.out / DONE, {
            'fingerprint': task.fingerprint, 'metrics': _sha256(task.out / results.METRICS)})
        return ''
    # Whatever it is: the other bags can be evaluated still.
    except Exception as error:
        kind = '' if isinstance(error, (ValueError, OSError)) else f'{type(error).__name__}: '
        return kind + ' '.join(str(error).split())


@lru_cache(maxsize=1)
def _segmenter(fleet: Fleet) -> Segmenter:
    return Segmenter(
        fleet.weight_file, engine=fleet.engine, device=fleet.device, precision=fleet.precision,
        threads=fleet.threads, input_height=fleet.input_height)


def merge(fleet: Fleet, names: Iterable[str], failed: Iterable[str] = ()) -> dict[str, Any]:
    """
    Add up the results of bags and write them, as docs/evaluation.md has it, metrics.json last.

    :param names: Of the bags, as in :class:`Task`.
    :param failed: A line for each bag without results.
    :return: The content of metrics.json.
    :raises FleetError: If bags were evaluated at different operating points.
    """
    names = sorted(names)
    found = {
        name: json.loads((fleet.out / name / results.METRICS).read_text()) for name in names}
    first = found[names[0]]
    for name, document in found.items():
        for key in ('operating_point', 'classes'):
            if document[key] != first[key]:
                raise FleetError(
                    f'{name} and {names[0]} were evaluated at different operating points, '
                    f'{document[key]} and {first[key]}; name engine, device and precision')
    pictures = [
        _below(name, picture) for name, document in found.items()
        for picture in document['pictures'] if picture['why'] == 'worst']
    pictures.sort(key=lambda picture: picture['miou'])
    document = results.metrics_document(
        {'bag': fleet.folder.resolve().name, 'bags': names, 'image_topic': fleet.image_topic,
         'labels_topic': fleet.labels_topic, 'tolerance_ms': fleet.tolerance_ms},
        first['operating_point'], ClassTable.from_dict(first['classes']),
        reduce(add, (FrameTotals.from_dict(one['frames']) for one in found.values())),
        reduce(add, (Counts.from_dict(one['counts']) for one in found.values())),
        pictures[:WORST],
        [f'{name}: {fault}' for name, one in found.items() for fault in one['faults']]
        + list(failed))
    (fleet.out / results.METRICS).unlink(missing_ok=True)
    with (fleet.out / results.FRAMES).open('w') as lines:
        for name in names:
            with (fleet.out / name / results.FRAMES).open() as file:
                for line in file:
                    lines.write(json.dumps({'bag': name, **json.loads(line)}) + '\n')
    results.write(fleet.out / results.METRICS, document)
    return document


def _below(name: str, picture: dict[str, Any]) -> dict[str, Any]:
    return {'bag': name} | {
        key: f'{name}/{value}' if value and key in ('camera', 'truth', 'prediction', 'difference')
        else value for key, value in picture.items()}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
