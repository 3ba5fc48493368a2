# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""From frame to labels and overlay: the package's way against the naive one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import torch

from lmii_ros import rendering
from lmii_ros.benchmark import interleaved
from lmii_ros.benchmark.naive import NaivePipeline
from lmii_ros.drivable import drivable_area
from lmii_ros.segmenter import Segmenter
from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import RoadScene

OPACITY = 0.5


@dataclass(frozen=True)
class PipelineBenchmark:
    """
    What to measure.

    :param weight_file: Path or name of a weight file.
    :param size: Width and height of the frames.
    :param input_height: Height at which the network sees them.
    :param engines: Engines to measure.
    :param threads: CPU threads.
    :param rounds: Turns that each takes.
    """

    weight_file: str
    size: tuple[int, int]
    input_height: int
    engines: tuple[str, ...]
    threads: int = 1
    rounds: int = 7


def run(benchmark: PipelineBenchmark) -> dict[str, Any]:
    """
    Measure, and return the results as plain values for a table or JSON.

    Labels are compared pixel by pixel with the naive pipeline's; the overlay is timed with them.
    """
    torch.set_num_threads(benchmark.threads)
    cv2.setNumThreads(benchmark.threads)
    frame = RoadScene(camera=PinholeCamera.from_fov(*benchmark.size)).render(1.0).image
    contenders, labels = {}, {}
    for engine in benchmark.engines:
        segmenter = Segmenter(
            benchmark.weight_file, engine=engine, threads=benchmark.threads,
            input_height=benchmark.input_height)
        input_size = segmenter.input_size(frame.shape[:2])
        palette = segmenter.info.classes.palette()
        drivable = segmenter.info.classes.indices(segmenter.info.classes.drivable)
        segmenter.prepare(frame.shape[:2])

        def ours(segmenter=segmenter, palette=palette, drivable=drivable):
            segmentation, = segmenter.segment([frame])
            rendering.overlay(
                frame, segmentation.labels, drivable_area(segmentation.labels, drivable), palette,
                OPACITY)
            return segmentation.labels

        contenders[engine] = ours
        labels[engine] = ours()
    naive = NaivePipeline(benchmark.weight_file, input_size, OPACITY)
    truth, _ = naive(frame)
    timings = interleaved.measure(
        {'naive': lambda: naive(frame), **contenders}, benchmark.rounds)
    baseline = timings['naive']
    return {
        'weights': benchmark.weight_file,
        'frame': list(benchmark.size),
        'input': list(reversed(input_size)),
        'threads': benchmark.threads,
        'machine': interleaved.machine(),
        'pipelines': [{
            'name': name,
            'ms_wall': round(1000 * float(sorted(timing.wall_s)[len(timing.wall_s) // 2]), 2),
            'ms_cpu': round(1000 * float(sorted(timing.cpu_s)[len(timing.cpu_s) // 2]), 2),
            'times_naive_wall': round(interleaved.ratio(baseline.wall_s, timing.wall_s), 2),
            'times_naive_cpu': round(interleaved.ratio(baseline.cpu_s, timing.cpu_s), 2),
            'label_agreement': round(float((labels.get(name, truth) == truth).mean()), 5),
        } for name, timing in timings.items()],
    }
