# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""From frame to labels and overlay: the package's way against the naive one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any
from typing import Callable

import cv2
import numpy as np
import torch

from lmii_ros import machine
from lmii_ros.benchmark import interleaved
from lmii_ros.benchmark.naive import NaivePipeline
from lmii_ros.operating_point.calibration import renderer
from lmii_ros.segmenter import Segmenter
from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import RoadScene


@dataclass(frozen=True)
class PipelineBenchmark:
    """
    What to measure.

    :param weight_file: Path or name of a weight file.
    :param size: Width and height of the frames.
    :param input_height: Height at which the network sees them.
    :param contenders: Engine and precision of each to measure.
    :param threads: CPU threads.
    :param rounds: Turns that each takes.
    """

    weight_file: str
    size: tuple[int, int]
    input_height: int
    contenders: tuple[tuple[str, str], ...]
    threads: int = 1
    rounds: int = 7


def run(benchmark: PipelineBenchmark) -> dict[str, Any]:
    """
    Measure labels and overlay, and return the results as plain values for a table or JSON.

    The agreement is the share of pixels that have the naive pipeline's label. Ours shows the
    drivable area in the overlay too, which the naive one does not compute.
    """
    torch.set_num_threads(benchmark.threads)
    cv2.setNumThreads(benchmark.threads)
    frame = RoadScene(camera=PinholeCamera.from_fov(*benchmark.size)).render(1.0).image
    pipelines = {}
    for engine, precision in benchmark.contenders:
        segmenter = Segmenter(
            benchmark.weight_file, engine=engine, precision=precision, threads=benchmark.threads,
            input_height=benchmark.input_height)
        segmenter.prepare(frame.shape[:2])
        pipelines[f'{segmenter.engine.name} {segmenter.engine.precision}'] = _ours(segmenter)
    input_size = segmenter.input_size(frame.shape[:2])
    pipelines = {'naive': NaivePipeline(segmenter.weight_file, input_size), **pipelines}
    expected, _ = pipelines['naive'](frame)
    timings = interleaved.measure(
        {name: partial(pipeline, frame) for name, pipeline in pipelines.items()},
        benchmark.rounds)
    naive = timings['naive']
    return {
        'weights': segmenter.weight_file.name,
        'frame': f'{benchmark.size[0]}x{benchmark.size[1]}',
        'input': f'{input_size[1]}x{input_size[0]}',
        'threads': benchmark.threads,
        'machine': machine.facts(),
        'pipelines': [{
            'name': name,
            'cpu_ms': 1000 * float(np.median(timing.cpu_s)),
            'wall_ms': 1000 * float(np.median(timing.wall_s)),
            'times_naive_cpu': interleaved.ratio(naive.cpu_s, timing.cpu_s),
            'times_naive_wall': interleaved.ratio(naive.wall_s, timing.wall_s),
            'label_agreement': float((pipelines[name](frame)[0] == expected).mean()),
        } for name, timing in timings.items()],
    }


def _ours(segmenter: Segmenter) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    render = renderer(segmenter.info.classes)

    def pipeline(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        segmentation, = segmenter.segment([frame])
        return segmentation.labels, render(frame, segmentation.labels)

    return pipeline


def table(results: dict[str, Any]) -> str:
    """Return the results of :func:`run` as a table for a terminal."""
    lines = [
        '{weights}, frame {frame}, input {input}, {threads} threads'.format(**results),
        str(results['machine']),
        f'{"":<16}{"CPU ms":>9}{"wall ms":>9}{"x naive (CPU)":>15}{"(wall)":>8}{"agreement":>11}']
    lines += [
        '{name:<16}{cpu_ms:9.1f}{wall_ms:9.1f}{times_naive_cpu:15.2f}{times_naive_wall:8.2f}'
        '{label_agreement:11.4f}'.format(**pipeline) for pipeline in results['pipelines']]
    return '\n'.join(lines)
