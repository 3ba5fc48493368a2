# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Networks on every engine and precision, against eager torch and against the machine's peak."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import Any
from typing import Callable

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lmii_ros import engines
from lmii_ros import machine
from lmii_ros import networks
from lmii_ros import weights
from lmii_ros.benchmark import interleaved
from lmii_ros.benchmark import peak
from lmii_ros.classes import CAMVID
from lmii_ros.engines import Engine
from lmii_ros.engines import EngineError
from lmii_ros.engines.torch import select_device
from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import RoadScene
from lmii_ros.weights import WeightInfo

EAGER = 'eager torch fp32'
TINY = (16, 32)
"""
Height and width of the frames that are timed. What an engine does around the network, resizing
frames and labelling their pixels, then costs next to nothing.
"""


@dataclass(frozen=True)
class NetworkBenchmark:
    """
    What to measure.

    :param subjects: Paths or names of weight files, or names of networks, which then have random
        weights and give no labels that mean anything.
    :param sizes: Widths and heights at which the networks see frames.
    :param contenders: Engine and precision of each to measure; all that are installed if empty.
    :param batch: Frames a run.
    :param device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    :param threads: CPU threads.
    :param rounds: Turns that each takes.
    """

    subjects: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...] = ((1024, 512),)
    contenders: tuple[tuple[str, str], ...] = ()
    batch: int = 1
    device: str = 'auto'
    threads: int = 1
    rounds: int = 7


def run(benchmark: NetworkBenchmark) -> dict[str, Any]:
    """
    Measure, and return the results as plain values for a table or JSON.

    The agreement is the share of pixels of a road scene, at the network's input size, that have
    eager torch's label. Of the peak, CPU time counts on a CPU, and wall time on a GPU.

    :raises WeightError: If there are neither weights nor a network of a name.
    :raises EngineError: If a contender or the device is not there.
    """
    torch.set_num_threads(benchmark.threads)
    cv2.setNumThreads(benchmark.threads)
    # On CUDA eager torch and the peak are to round fp32 as the engines do, which have no TF32.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return {
        'batch': benchmark.batch,
        'threads': benchmark.threads,
        'device': str(select_device(benchmark.device)),
        'machine': machine.facts(),
        'networks': [
            _measure(subject, size, benchmark)
            for subject in benchmark.subjects for size in benchmark.sizes],
    }


def table(results: dict[str, Any]) -> str:
    """Return the results of :func:`run` as tables for a terminal."""
    lines = [str(results['machine'])]
    for network in results['networks']:
        lines += [
            '',
            '{name}, input {input}, batch {}, {} threads, {}: {gmac:.2f} GMAC a run'.format(
                results['batch'], results['threads'], results['device'], **network),
            f'{"":<18}{"CPU ms":>9}{"wall ms":>9}{"x eager (CPU)":>15}{"(wall)":>8}{"GMAC/s":>9}'
            f'{"of peak":>9}{"agreement":>11}']
        lines += [
            '{name:<18}{cpu_ms:9.2f}{wall_ms:9.2f}{times_eager_cpu:15.2f}{times_eager_wall:8.2f}'
            '{gmac_per_s:9.1f}{share:>9}{label_agreement:11.4f}'.format(
                **engine,
                share='-' if engine['peak_share'] is None else f'{engine["peak_share"]:.0%}')
            for engine in network['engines']]
        lines += [
            f'peak in {precision}: {found["gmac_per_s"]:.1f} GMAC/s, by {found["by"]}'
            for precision, found in network['peaks'].items()]
    return '\n'.join(lines)


def _measure(subject: str, size: tuple[int, int], benchmark: NetworkBenchmark) -> dict[str, Any]:
    info, network = _load(subject)
    device = select_device(benchmark.device)
    eager = _Eager(network, info, device)
    input_size = size[::-1]
    scene = RoadScene(camera=PinholeCamera.from_fov(*size)).render(1.0).image
    expected = eager.label(scene)
    found = _engines(info, network, benchmark)
    batch = [np.full((*TINY, 3), 127, np.uint8)] * benchmark.batch
    runs: dict[str, Callable[[], object]] = {
        EAGER: eager.prepared([cv2.resize(frame, size) for frame in batch])}
    for name, engine in found.items():
        runs[name] = partial(engine.segment, batch, input_size, confidence=False)
    precisions = [precision for precision in peak.DTYPES if precision == 'fp32' or any(
        precision == engine.precision for engine in found.values())]
    macs = {}
    for precision in precisions:
        for name, candidate in peak.candidates(precision, device, benchmark.threads).items():
            macs[precision, name] = peak.MACS[name.rpartition(' ')[2]]
            runs[f'{precision} {name}'] = candidate
    timings = interleaved.measure(runs, benchmark.rounds)
    seconds = {
        name: timing.cpu_s if device.type == 'cpu' else timing.wall_s
        for name, timing in timings.items()}
    # The best seen at all: against medians, engines could be beyond it.
    peaks = {precision: max(
        (count / seconds[f'{precision} {name}'].min() / 1e9, name)
        for (of, name), count in macs.items() if of == precision) for precision in precisions}
    gmac = benchmark.batch * eager.macs(size) / 1e9
    return {
        'name': subject,
        'input': f'{size[0]}x{size[1]}',
        'gmac': gmac,
        'peaks': {precision: {'gmac_per_s': speed, 'by': name}
                  for precision, (speed, name) in peaks.items()},
        'engines': [{
            'name': name,
            'cpu_ms': 1000 * float(np.median(timings[name].cpu_s)),
            'wall_ms': 1000 * float(np.median(timings[name].wall_s)),
            'times_eager_cpu': interleaved.ratio(timings[EAGER].cpu_s, timings[name].cpu_s),
            'times_eager_wall': interleaved.ratio(timings[EAGER].wall_s, timings[name].wall_s),
            'gmac_per_s': gmac / float(np.median(seconds[name])),
            'peak_share': (
                gmac / float(np.median(seconds[name])) / peaks[precision][0]
                if precision in peaks else None),
            'label_agreement': agreement,
        } for name, precision, agreement in (
            (EAGER, 'fp32', 1.0),
            *((name, engine.precision, _agreement(engine, scene, expected))
              for name, engine in found.items()))],
    }


def _load(subject: str) -> tuple[WeightInfo, nn.Module]:
    if subject not in networks.NETWORKS:
        return weights.load(weights.find(subject))
    torch.manual_seed(0)
    info = WeightInfo(
        network=subject, classes=CAMVID, mean=(0.5,) * 3, std=(0.25,) * 3, input_size=(512, 1024))
    return info, networks.build(subject, len(CAMVID)).eval()


def _engines(
    info: WeightInfo, network: nn.Module, benchmark: NetworkBenchmark,
) -> dict[str, Engine]:
    """Return the contenders by name; without a choice, those that work here."""
    found = {}
    for name, precision in benchmark.contenders or [
            (name, precision) for name in engines.ENGINES for precision in engines.PRECISIONS]:
        try:
            engines.choose(name, benchmark.device)
            engine = engines.create(
                name, network, info, device=benchmark.device, precision=precision,
                threads=benchmark.threads)
        except EngineError:
            if benchmark.contenders:
                raise
            continue
        found[f'{engine.name} {engine.precision}'] = engine
    return found


def _agreement(engine: Engine, scene: np.ndarray, expected: np.ndarray) -> float:
    (labels,), _ = engine.segment([scene], scene.shape[:2], confidence=False)
    return float((labels == expected).mean())


class _Eager:
    """A copy of the network as torch runs it: float32 images in, logits out."""

    def __init__(self, network: nn.Module, info: WeightInfo, device: torch.device) -> None:
        self._network = copy.deepcopy(network).eval().to(device)
        self._mean, self._std = (
            torch.tensor(values, device=device).reshape(1, 3, 1, 1)
            for values in (info.mean, info.std))
        self._device = device

    @torch.no_grad()
    def label(self, frame: np.ndarray) -> np.ndarray:
        """Return labels uint8 [H, W] of a frame that the network sees at its own size."""
        logits = self._network(self._images([frame]))
        logits = F.interpolate(
            logits, frame.shape[:2], mode='bilinear', align_corners=self._network.align_corners)
        return logits.argmax(1)[0].cpu().numpy().astype(np.uint8)

    def prepared(self, frames: list[np.ndarray]) -> Callable[[], None]:
        """Return a function that runs the network on frames of the size that it sees."""
        images = self._images(frames)

        @torch.no_grad()
        def run() -> None:
            self._network(images)
            if self._device.type == 'cuda':
                torch.cuda.synchronize(self._device)

        return run

    def macs(self, size: tuple[int, int]) -> int:
        """Return the multiply-accumulates of its convolutions and matrix products, for a frame."""
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            self._network(torch.zeros(1, 3, size[1], size[0], device=self._device))
        return counter.get_total_flops() // 2

    def _images(self, frames: list[np.ndarray]) -> torch.Tensor:
        images = torch.from_numpy(np.stack(frames)[..., ::-1].transpose(0, 3, 1, 2).copy())
        return (images.to(self._device) / 255 - self._mean) / self._std
