# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Whether the node holds the rate that it is asked for, over DDS, and under a disturbance."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from typing import Any
from typing import Callable
from typing import Sequence

import numpy as np
import rclpy

from lmii_ros import machine
from lmii_ros.nodes import child_nodes
from lmii_ros.nodes.benchmark import BUSY_LOOP
from lmii_ros.nodes.benchmark import BenchmarkError
from lmii_ros.nodes.benchmark import OURS
from lmii_ros.nodes.benchmark import PICTURES
from lmii_ros.nodes.benchmark import QUIET_S
from lmii_ros.nodes.child_nodes import ChildNodes
from lmii_ros.nodes.observer_node import ObserverNode
from lmii_ros.operating_point import OperatingPoint
from lmii_ros.operating_point import Target
from lmii_ros.operating_point import tuning
from lmii_ros.operating_point.tuning import Tuning

NAMESPACE = f'/lmii_rates_{os.getpid()}'
OUTPUTS = ('labels', 'overlay')
CALIBRATION_TIMEOUT_S = 300.0
SETTLING_S = 60.0
"""More than the controller takes to step down and, to where it can stay, up again."""
FIXED_SETTLING_S = 3.0
BEFORE_S = 10.0
AFTER_S = 30.0
HELD = 0.98
"""Share of the camera's frames that must be labelled for a rate to be held."""
BETTER = 0.01
"""A candidate is better by more expected mIoU than this (1 point)."""
MAX_TRIED = 2
"""So many better candidates in succession that do not hold the rate end the search for more."""
FIXED_S = 10.0
"""So long each of them has."""
HELD_S = 2.0
"""So long it must be held, but for one frame, to be back."""
HEADER = (
    f'{"":<12}{"Hz":>7}{"sent":>7}{"lost":>6}{"held %":>8}{"p99 ms":>8}{"mIoU %":>8}'
    f'{"best %":>8}{"load":>6}{"switches":>10}  operating point')


@dataclass(frozen=True)
class RatesBenchmark:
    """
    What to measure.

    :param weight_files: Offered to the node.
    :param size: Width and height of the camera's frames.
    :param targets: Frames per second of camera and node.
    :param seconds: For which each is measured.
    :param disturbed: The target at which another process takes a core; 0 for none.
    :param load_s: For how long it does.
    :param headroom: The node's parameter, like the four that follow.
    :param engine: See there.
    :param device: See there.
    :param precision: See there.
    :param threads: See there.
    :param exhaustive: Whether to look for better candidates that hold the rate too: all that are
        fast enough when timed run in the node, but for those that another is faster and better
        than.
    """

    weight_files: tuple[str, ...]
    size: tuple[int, int]
    targets: tuple[float, ...] = (5, 10, 20, 30, 60)
    seconds: float = 20.0
    disturbed: float = 20.0
    load_s: float = 20.0
    headroom: float = 0.8
    engine: str = 'auto'
    device: str = 'auto'
    precision: str = 'auto'
    threads: int = 0
    exhaustive: bool = False


def run(
    benchmark: RatesBenchmark, progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """
    Measure, and return the results as plain values for a table or JSON.

    :param progress: Takes the table's lines on the targets as they are measured.
    :raises BenchmarkError: If no labels come.
    :raises ChildNodeError: If a node ends.
    :raises ValueError: If a weight file, engine or device is not as it should be.
    """
    for target in (*benchmark.targets, benchmark.disturbed or 1.0):
        _tuning(benchmark, target)
    with child_nodes.observing():
        results: dict[str, Any] = {
            'frame': f'{benchmark.size[0]}x{benchmark.size[1]}',
            'weights': list(benchmark.weight_files),
            'seconds': benchmark.seconds,
            'machine': machine.facts(),
            'targets': [_target(benchmark, target, progress) for target in benchmark.targets],
        }
        if benchmark.disturbed:
            results['disturbance'] = _disturbance(benchmark)
        return results


def table(results: dict[str, Any]) -> str:
    """Return the results of :func:`run` as a table for a terminal."""
    lines = [f'{results["frame"]}, {results["machine"]}', HEADER]
    for row in results['targets']:
        lines.append(_target_row(row))
        lines += [_fixed_row(one) for one in row.get('fixed', ())]
    disturbance = results.get('disturbance')
    if disturbance:
        lines += ['', f'{disturbance["target"]:g} frames/s, with another process on one core '
                  f'for {disturbance["load_s"]:g} s', HEADER]
        lines += [_row(name, disturbance[name]) for name in ('before', 'during', 'after')]
        lines.append(
            'rate back after {} s; {} frames lost in all, {} switches'.format(
                '-' if disturbance['back_s'] is None else f'{disturbance["back_s"]:.1f}',
                sum(disturbance[name]['lost'] for name in ('before', 'during', 'after')),
                disturbance['switches']))
    return '\n'.join(lines)


def _target_row(row: dict[str, Any]) -> str:
    return _row(f'{row["target"]:g} frames/s', row)


def _fixed_row(row: dict[str, Any]) -> str:
    return _row('  fixed', row)


def _row(name: str, row: dict[str, Any]) -> str:
    def number(key: str, width: int, digits: int = 1) -> str:
        value = row.get(key)
        return f'{"-":>{width}}' if value is None else f'{value:{width}.{digits}f}'

    return (
        f'{name:<12}{number("hz", 7)}{row["sent"]:7}{row["lost"]:6}{number("held_percent", 8)}'
        f'{number("latency_p99_ms", 8)}{number("miou_percent", 8)}'
        f'{number("best_miou_percent", 8)}{number("load", 6)}{row["switches"]:10}  '
        f'{row["point"]}{"; misses the target" if row["misses"] else ""}')


class _Session:
    """
    Camera, node and observer, with the node labelling at the point that it has chosen.

    :param fixed: A point that it is given instead.
    """

    def __init__(
        self,
        benchmark: RatesBenchmark,
        target: float,
        children: ChildNodes,
        fixed: OperatingPoint | None = None,
    ) -> None:
        self._children = children
        self._observer = ObserverNode(NAMESPACE, OURS, OUTPUTS)
        point = {
            'weights': benchmark.weight_files[0], 'precision': benchmark.precision,
            'offered_weights': list(benchmark.weight_files), 'target_fps': float(target),
            'headroom': float(benchmark.headroom),
        } if fixed is None else {
            'weights': str(fixed.weights), 'precision': fixed.precision,
            'input_height': fixed.input_height}
        self._node = children.start(OURS, {
            'engine': benchmark.engine, 'device': benchmark.device,
            'threads': benchmark.threads, **point}, NAMESPACE)
        child_nodes.wait_for_publisher(self._observer, f'{NAMESPACE}/{OURS}/labels', self._node)
        width, height = benchmark.size
        self._camera = children.start('camera_simulator_node', {
            'width': width, 'height': height, 'preload': PICTURES, 'wait_for_subscribers': 1,
            'rate': float(target)}, NAMESPACE)
        deadline = time.monotonic() + CALIBRATION_TIMEOUT_S
        told = 'input height' if fixed else 'operating point'
        while told not in self._observer.told or not self._observer.received:
            self.spin(0.1)
            if time.monotonic() > deadline:
                raise BenchmarkError(f'no labels within {CALIBRATION_TIMEOUT_S:.0f} s')
        self.spin(SETTLING_S if fixed is None else FIXED_SETTLING_S)

    def close(self) -> None:
        self._observer.destroy_node()

    def spin(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            rclpy.spin_once(self._observer, timeout_sec=deadline - time.monotonic())
            for process in (self._node, self._camera):
                child_nodes.check_running(process)

    def record(self) -> None:
        """Forget all frames before now."""
        self._observer.forget()

    def told(self) -> dict[str, str]:
        return self._observer.told

    def frames(self) -> tuple[np.ndarray, np.ndarray]:
        """Return stamp and latency (NaN if not labelled) of each recorded frame, in seconds."""
        stamps = np.array(self._observer.stamps, np.int64)
        received = self._observer.received.get('labels', {})
        latencies = [
            (received[stamp] - stamp) / 1e9 if stamp in received else np.nan for stamp in stamps]
        return stamps / 1e9, np.array(latencies, float)

    def end_camera(self) -> None:
        """Let no more frames come, and wait for the last labels."""
        self._camera.terminate()
        self._camera.wait()
        while self._observer.silence_s() < QUIET_S:
            rclpy.spin_once(self._observer, timeout_sec=0.1)
            child_nodes.check_running(self._node)


def _target(
    benchmark: RatesBenchmark, target: float, progress: Callable[[str], None],
) -> dict[str, Any]:
    row = {'target': target, **_measured(benchmark, target, benchmark.seconds)}
    progress(_target_row(row))
    if benchmark.exhaustive:
        row['fixed'] = _fixed(benchmark, target, row['miou_percent'], progress)
        row['best_miou_percent'] = max([row['miou_percent'], *(
            one['miou_percent'] for one in row['fixed'] if one['held_percent'] >= 100 * HELD)])
    return row


def _fixed(
    benchmark: RatesBenchmark,
    target: float,
    miou_percent: float,
    progress: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Let the node run at better points, the fastest first, until it does not hold the rate."""
    tried: list[dict[str, Any]] = []
    for timing in tuning.run_better(_tuning(benchmark, target), miou_percent / 100 + BETTER):
        if len(tried) >= MAX_TRIED and all(
                one['held_percent'] < 100 * HELD for one in tried[-MAX_TRIED:]):
            break
        point = timing.candidate.point
        tried.append({
            **_measured(benchmark, target, FIXED_S, point),
            'point': str(point), 'miou_percent': 100 * timing.candidate.miou})
        progress(_fixed_row(tried[-1]))
    return tried


def _measured(
    benchmark: RatesBenchmark, target: float, seconds: float, fixed: OperatingPoint | None = None,
) -> dict[str, Any]:
    with ChildNodes() as children:
        session = _Session(benchmark, target, children, fixed)
        try:
            session.record()
            session.spin(seconds)
            told = session.told()
            session.end_camera()
            return _summary(*session.frames(), told)
        finally:
            session.close()


def _disturbance(benchmark: RatesBenchmark) -> dict[str, Any]:
    with ChildNodes() as children:
        session = _Session(benchmark, benchmark.disturbed, children)
        try:
            session.record()
            told = [session.told()]
            session.spin(BEFORE_S)
            told.append(session.told())
            times = [time.time()]
            load: subprocess.Popen = children.run('-c', BUSY_LOOP)
            session.spin(benchmark.load_s)
            told.append(session.told())
            load.terminate()
            times.append(time.time())
            session.spin(AFTER_S)
            told.append(session.told())
            session.end_camera()
            stamps, latencies = session.frames()
        finally:
            session.close()
    parts = np.searchsorted(stamps, times)
    before, during, after = (
        _summary(some_stamps, some_latencies, after_it) for some_stamps, some_latencies, after_it
        in zip(np.split(stamps, parts), np.split(latencies, parts), told[1:]))
    return {
        'target': benchmark.disturbed,
        'load_s': benchmark.load_s,
        'before': before,
        'during': during,
        'after': after,
        'back_s': _back_s(stamps, latencies, times[0]),
        'switches': int(told[-1].get('switches', 0)) - int(told[0].get('switches', 0)),
    }


def _summary(
    stamps: np.ndarray, latencies: np.ndarray, told: dict[str, str],
) -> dict[str, Any]:
    labelled = latencies[np.isfinite(latencies)]
    span_s = stamps[-1] - stamps[0] if len(stamps) > 1 else np.nan
    return {
        'sent': len(stamps),
        'lost': len(stamps) - len(labelled),
        'held_percent': 100 * len(labelled) / max(len(stamps), 1),
        # A frame less than the camera's, over the time between its first and last.
        'hz': (len(labelled) - 1) / span_s if len(labelled) > 1 else None,
        'latency_p99_ms': 1000 * float(np.percentile(labelled, 99)) if len(labelled) else None,
        'point': told.get('operating point', ''),
        'miou_percent': float(told['expected mIoU (%)']) if 'expected mIoU (%)' in told else None,
        'switches': int(told.get('switches', 0)),
        'misses': 'misses the target' in told,
        'load': os.getloadavg()[0],
    }


def _back_s(
    stamps: Sequence[float], latencies: np.ndarray, since: float,
) -> float | None:
    """Return after how many seconds it was held again, 0 if it always was, None if never."""
    missed = False
    for first in np.flatnonzero(stamps >= since):
        if stamps[-1] - stamps[first] < HELD_S:
            break
        window = latencies[(stamps >= stamps[first]) & (stamps < stamps[first] + HELD_S)]
        # A frame is more than 2 % of those of two seconds.
        if np.isnan(window).sum() > max(1, (1 - HELD) * len(window)):
            missed = True
        elif missed:
            return float(stamps[first] - since)
    return None if missed else 0.0


def _tuning(benchmark: RatesBenchmark, target: float) -> Tuning:
    return Tuning(
        benchmark.weight_files, benchmark.size, Target(target, benchmark.headroom, cameras=1),
        engine=benchmark.engine, device=benchmark.device, precision=benchmark.precision,
        threads=benchmark.threads)
