# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The search for an operating point at the desk: table, curve, parameters for the node."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable

import cv2
import numpy as np
import yaml

from lmii_ros import frames
from lmii_ros import machine
from lmii_ros import weights
from lmii_ros.engines import PRECISIONS
from lmii_ros.operating_point import Candidate
from lmii_ros.operating_point import OperatingPointError
from lmii_ros.operating_point import Target
from lmii_ros.operating_point import Timing
from lmii_ros.operating_point.calibration import Calibration
from lmii_ros.operating_point.candidates import AUTO
from lmii_ros.operating_point.candidates import candidates
from lmii_ros.operating_point.candidates import offers
from lmii_ros.operating_point.search import better
from lmii_ros.operating_point.search import Choice
from lmii_ros.operating_point.search import front
from lmii_ros.operating_point.search import Measure
from lmii_ros.operating_point.search import search
from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import RoadScene


@dataclass(frozen=True)
class Tuning:
    """
    What to find.

    :param weight_files: To choose from, see :func:`lmii_ros.operating_point.candidates.offers`.
    :param size: Width and height of the camera's frames.
    :param target: The rate to hold.
    :param engine: As of the node's parameter, like the four that follow.
    :param device: See there.
    :param precision: See there.
    :param threads: See there.
    :param image_transport: See there.
    :param exhaustive: Whether to time all candidates.
    :param anew: Whether to measure what was measured before.
    """

    weight_files: tuple[str, ...]
    size: tuple[int, int]
    target: Target
    engine: str = 'auto'
    device: str = 'auto'
    precision: str = 'auto'
    threads: int = 0
    image_transport: str = 'raw'
    exhaustive: bool = False
    anew: bool = False

    def __post_init__(self) -> None:
        if self.precision not in (AUTO, *PRECISIONS):
            raise OperatingPointError(
                f'no precision {self.precision!r}; expected {AUTO}, {", ".join(PRECISIONS)}')
        if self.threads < 0:
            raise OperatingPointError(f'{self.threads} threads, expected 0 or more')


def run(tuning: Tuning, progress: Callable[[str], None] = lambda line: None) -> Choice:
    """
    Search among the candidates, for frames of the synthetic road.

    :param progress: Takes a line on what is being done.
    :raises ValueError: If a weight file, the engine or the device is not as it should be.
    """
    points, measure = _candidates(tuning, progress)
    return search(points, measure, tuning.target.budget_s, exhaustive=tuning.exhaustive)


def run_better(tuning: Tuning, miou: float) -> list[Timing]:
    """
    Return candidates of more than an expected mIoU that may hold the target rate.

    See :func:`lmii_ros.operating_point.search.better`.

    :raises ValueError: As :func:`run`.
    """
    points, measure = _candidates(tuning, lambda line: None)
    return better(points, measure, tuning.target.period_s, miou)


def _candidates(
    tuning: Tuning, progress: Callable[[str], None],
) -> tuple[list[Candidate], Measure]:
    """Return the candidates, and what times one of them with frames of the synthetic road."""
    offered = offers(tuning.weight_files, tuning.weight_files[0])
    calibration = Calibration(
        _decoder(tuning), offered, engine=tuning.engine, device=tuning.device,
        threads=tuning.threads, transport=tuning.image_transport, anew=tuning.anew,
        progress=progress)
    return (
        candidates(offered, tuning.size[1], precision=tuning.precision),
        lambda candidate: calibration.measure(candidate, tuning.target.budget_s))


def _decoder(tuning: Tuning) -> Callable[[], np.ndarray]:
    """Return what makes a frame, uint8 [H, W, 3] BGR, of what comes from the camera."""
    frame = RoadScene(camera=PinholeCamera.from_fov(*tuning.size)).render(1.0).image
    if tuning.image_transport == 'compressed':
        return partial(frames.decode_compressed, cv2.imencode('.jpg', frame)[1])
    return lambda: frame


def table(tuning: Tuning, choice: Choice) -> str:
    """Return all candidates that were timed, for a terminal."""
    best = front(choice.timings)
    lines = [
        '{}x{} at {}, headroom {:g}: p90 of at most {:.1f} ms'.format(
            *tuning.size, tuning.target, tuning.target.headroom, 1000 * choice.budget_s),
        f'{machine.processor()}, {machine.cores()} cores, load '
        f'{os.getloadavg()[0]:.1f}, {len(choice.timings)} candidates timed in '
        f'{choice.took_s:.1f} s',
        f'{"":<24}{"precision":>10}{"height":>8}{"p50 ms":>9}{"p90 ms":>9}{"frames/s":>10}'
        f'{"mIoU %":>8}']
    for timing in sorted(choice.timings, key=lambda timing: timing.p90_s):
        point = timing.candidate.point
        note = '  chosen' if timing == choice.timing else '  on the curve' * (timing in best)
        lines.append(
            f'{point.weights.stem:<24}{point.precision:>10}{point.input_height:8}'
            f'{1000 * timing.p50_s:9.1f}{1000 * timing.p90_s:9.1f}{1 / timing.p90_s:10.1f}'
            f'{100 * timing.candidate.miou:8.1f}{note}')
    if not choice.fits:
        lines.append(f'no candidate is fast enough: {choice.miss()}')
    return '\n'.join(lines)


def write(tuning: Tuning, choice: Choice, folder: Path) -> list[Path]:
    """
    Write the curve as PNG and the parameters as YAML, and return the files' paths.

    :param folder: It must exist.
    :raises OperatingPointError: If matplotlib is not installed; the parameters are written.
    """
    name = f'{tuning.size[0]}x{tuning.size[1]}_{tuning.target.fps:g}fps' + (
        f'_{tuning.target.cameras}cameras' if tuning.target.cameras > 1 else '')
    paths = [folder / f'curve_{name}.png', folder / f'operating_point_{name}.yaml']
    point = choice.timing.candidate.point
    parameters = {
        'weights': _for_the_node(tuning.weight_files[0]),
        'offered_weights': [_for_the_node(name) for name in tuning.weight_files],
        'target_fps': float(tuning.target.fps),
        'headroom': float(tuning.target.headroom),
        'engine': tuning.engine,
        'device': tuning.device,
        'precision': tuning.precision,
        'threads': tuning.threads,
        'image_transport': tuning.image_transport,
    }
    paths[1].write_text(
        f'# On {machine.processor()}, for {tuning.target}: {choice.timing}.\n'
        '# The node looks this up, or measures it on another machine. To fix it instead, set\n'
        f'# target_fps 0.0, weights {_for_the_node(str(point.weights))}, '
        f'input_height {point.input_height} and precision {point.precision}.\n'
        + yaml.safe_dump({'/**': {'ros__parameters': parameters}}, sort_keys=False))
    _plot(tuning, choice, paths[0])
    return paths


def _for_the_node(name: str) -> str:
    """Return the name of a shipped file, else a path for any working directory."""
    path = Path(name).resolve()
    if not path.is_file():
        return name
    return path.stem if path.parent == weights.shipped_folder() else str(path)


def _plot(tuning: Tuning, choice: Choice, path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise OperatingPointError(
            f'no curve is drawn without matplotlib (pip install matplotlib); the parameters are '
            f'in {path.parent}') from error
    figure = Figure(figsize=(8, 5), layout='constrained')
    axes = figure.subplots()

    def rates(timings: list[Timing]) -> list[float]:
        return [1 / timing.p90_s for timing in timings]

    def accuracies(timings: list[Timing]) -> list[float]:
        return [100 * timing.candidate.miou for timing in timings]

    families: dict[str, list[Timing]] = {}
    for timing in choice.timings:
        point = timing.candidate.point
        families.setdefault(f'{point.weights.stem}, {point.precision}', []).append(timing)
    for label, timings in sorted(families.items()):
        axes.scatter(rates(timings), accuracies(timings), s=24, label=label)
        for timing, rate, accuracy in zip(timings, rates(timings), accuracies(timings)):
            axes.annotate(
                timing.candidate.point.input_height, (rate, accuracy), fontsize=7,
                xytext=(3, 3), textcoords='offset points')
    best = front(choice.timings)
    axes.plot(rates(best), accuracies(best), color='grey', linewidth=1, zorder=0)
    axes.scatter(
        rates([choice.timing]), accuracies([choice.timing]), s=160, facecolors='none',
        edgecolors='black', linewidths=1.5, label='chosen')
    axes.axvline(1 / choice.budget_s, color='black', linestyle=':', linewidth=1)
    axes.annotate(
        f' {tuning.target} with headroom {tuning.target.headroom:g}',
        (1 / choice.budget_s, 0.02), xycoords=('data', 'axes fraction'), fontsize=8)
    axes.set_xscale('log')
    for formatted in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        formatted('{x:g}')
    axes.set_xlabel('frames/s that 90 % of the frames allow')
    axes.set_ylabel('expected mIoU (%)')
    axes.set_title(f'{tuning.size[0]}x{tuning.size[1]} on {machine.processor()}', fontsize=10)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
