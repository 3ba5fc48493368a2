# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The engines give the same labels, and say what they cannot do."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lmii_ros import engines
from lmii_ros import networks
from lmii_ros.classes import CAMVID
from lmii_ros.engines import EngineError
from lmii_ros.engines import NonFiniteOutput
from lmii_ros.engines import compiled
from lmii_ros.engines.torch import TorchEngine
from lmii_ros.weights import WeightInfo

INSTALLED = all(importlib.util.find_spec(module) for module in ('openvino', 'numba'))
needs_openvino = pytest.mark.skipif(not INSTALLED, reason='openvino or numba is not installed')

SMALL = {'depths': (1, 1, 1, 2, 2), 'widths': (8, 8, 16, 16, 16), 'ratios': (0.75, 0.25)}
INFO = WeightInfo(
    network='lpsnet', arguments=SMALL, classes=CAMVID, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25),
    input_size=(64, 96))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    return tmp_path / 'lmii_ros'


def network(name='lpsnet', arguments=SMALL):
    torch.manual_seed(1)
    return networks.build(name, len(CAMVID), **arguments).eval()


def picture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def openvino_engine(info=INFO, net=None, **options):
    from lmii_ros.engines.openvino import OpenVINOEngine
    return OpenVINOEngine(net or network(), info, **options)


def label(engine, input_size=(64, 96)):
    return engine.segment([picture(64, 96)], input_size, confidence=False)[0]


@needs_openvino
@pytest.mark.parametrize('frame_size, input_size', [
    ((64, 96), (64, 96)), ((90, 121), (64, 80)), ((48, 64), (67, 93))])
def test_openvino_gives_the_labels_of_torch(frame_size, input_size):
    frames = [picture(*frame_size, seed) for seed in range(2)]
    expected, certainty = TorchEngine(network(), INFO, device='cpu').segment(
        frames, input_size, confidence=True)
    labels, ours = openvino_engine(precision='fp32').segment(frames, input_size, confidence=True)
    assert labels.shape == (2, *frame_size) and labels.dtype == np.uint8
    assert len(np.unique(expected)) > 1
    assert (labels == expected).mean() > 0.999
    assert np.abs(ours.astype(int) - certainty).max() <= 1


@needs_openvino
def test_openvino_runs_lmiinet():
    info = replace(INFO, network='lmiinet', arguments={})
    net = network('lmiinet', {})
    frame = picture(45, 61)
    expected, _ = TorchEngine(net, info, device='cpu').segment([frame], (45, 61), confidence=False)
    labels, _ = openvino_engine(info, net, precision='fp32').segment(
        [frame], (45, 61), confidence=False)
    assert (labels == expected).mean() > 0.999


@needs_openvino
def test_openvino_tells_output_that_is_not_finite():
    net = network()
    with torch.no_grad():
        net.classifier.bias[:] = torch.inf
    with pytest.raises(NonFiniteOutput):
        openvino_engine(net=net).segment([picture(64, 96)], (64, 96), confidence=False)


@needs_openvino
def test_the_second_start_finds_the_compiled_network(cache):
    label(openvino_engine())
    folder, = cache.iterdir()
    written = (folder / 'network.xml').stat().st_mtime_ns
    label(openvino_engine())
    assert (folder / 'network.xml').stat().st_mtime_ns == written
    other = network()
    with torch.no_grad():
        other.classifier.bias += 1
    label(openvino_engine(net=other))
    label(openvino_engine(), (64, 64))
    assert len(list(cache.iterdir())) == 3


@needs_openvino
def test_many_sizes_fill_neither_memory_nor_disk(cache, monkeypatch):
    from lmii_ros.engines.openvino import MAX_COMPILED
    monkeypatch.setattr(compiled, 'MAX_KEPT', 6)
    engine = openvino_engine()
    first = label(engine)
    for height in range(32, 32 + 8 * 16, 16):
        label(engine, (height, 32))
    assert len(engine._requests) == MAX_COMPILED
    assert len(list(cache.iterdir())) == 6
    np.testing.assert_array_equal(label(engine), first)


@needs_openvino
def test_nodes_that_start_at_once_share_a_compiled_network(cache):
    program = (
        'from test_engines import label, openvino_engine\n'
        'label(openvino_engine())\n'
        'print("done")\n')
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', program], cwd=Path(__file__).parent, stdout=subprocess.PIPE,
            text=True)
        for _ in range(3)]
    assert [process.communicate(timeout=120)[0] for process in processes] == ['done\n'] * 3
    assert len(list(cache.iterdir())) == 1


@needs_openvino
@pytest.mark.parametrize('align_corners', [True, False])
@pytest.mark.parametrize('coarse, fine', [
    ((12, 15), (180, 240)), ((23, 30), (361, 479)), ((90, 120), (180, 240)), ((5, 7), (3, 4)),
    ((1, 1), (9, 7)), ((40, 30), (40, 30))])
def test_labels_from_coarse_logits_are_those_of_resized_ones(coarse, fine, align_corners):
    from lmii_ros.engines import upsampling
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(2, 11, *coarse)).astype(np.float32) * 4
    labels, certainty = upsampling.label(
        logits, fine, align_corners=align_corners, confidence=True)
    quick, nothing = upsampling.label(
        logits, fine, align_corners=align_corners, confidence=False)
    resized = F.interpolate(
        torch.from_numpy(logits), fine, mode='bilinear', align_corners=align_corners)
    # Where two classes are as good as equal, rounding decides.
    two = resized.topk(2, dim=1).values
    clear = (two[:, 0] - two[:, 1] > 1e-4).numpy()
    assert clear.mean() > 0.99
    expected = resized.argmax(1).numpy()
    assert (labels == expected)[clear].all()
    assert (quick == expected)[clear].all()
    assert nothing is None
    softmax = 255 * resized.softmax(1).amax(1).numpy()
    assert np.abs(certainty - softmax).max() <= 0.51


def test_unknown_engines_are_refused():
    with pytest.raises(EngineError, match="no engine 'caffe'; there are: auto, openvino, torch"):
        engines.choose('caffe', 'auto')


def test_auto_takes_the_fastest_for_the_device():
    assert engines.choose('auto', 'cuda')[0] == 'torch'
    name, why = engines.choose('auto', 'cpu')
    assert name == ('openvino' if INSTALLED else 'torch')
    assert 'CPU' in why


@pytest.mark.parametrize('loss, expected', [
    ({}, 'fp32'), ({'bf16': 0.0019}, 'bf16'), ({'bf16': 0.0021}, 'fp32'),
    ({'bf16': -0.01}, 'bf16'),
])
def test_auto_takes_a_lower_precision_only_where_its_loss_is_known_and_small(loss, expected):
    info = replace(INFO, precision_loss=loss)
    assert engines.choose_precision('auto', info, ('fp32', 'bf16')) == expected
    assert engines.choose_precision('auto', info, ('fp32',)) == 'fp32'


def test_a_precision_that_is_not_there_is_refused():
    with pytest.raises(EngineError, match="no precision 'bf16' .* there are: auto, fp32"):
        TorchEngine(network(), INFO, device='cpu', precision='bf16')


@needs_openvino
def test_openvino_does_not_run_on_cuda():
    with pytest.raises(EngineError, match="openvino runs on the cpu, not on 'cuda'"):
        openvino_engine(device='cuda')
