# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The segmenter gives the network's labels, at the frame's size, or says that it cannot."""

from __future__ import annotations

import subprocess
import sys

import cv2
from lmii_ros import engines
from lmii_ros import networks
from lmii_ros import weights
from lmii_ros.classes import CAMVID
from lmii_ros.classes import UNKNOWN
from lmii_ros.engines import EngineError
from lmii_ros.engines import NonFiniteOutput
from lmii_ros.engines.torch import select_device
from lmii_ros.networks.deployment import DeployedNetwork
from lmii_ros.segmenter import Segmenter
from lmii_ros.weights import WeightError
from lmii_ros.weights import WeightInfo
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

ARGUMENTS = {'depths': [1, 1, 1, 1, 1], 'widths': [8, 8, 16, 16, 16], 'ratios': [1.0, 0.5]}
TINY = ('lpsnet', ARGUMENTS)


def save(path, name, arguments):
    """Write a weight file of a random network that uses all classes, and return its path."""
    torch.manual_seed(4)
    network = networks.build(name, len(CAMVID), **arguments).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0.0, 0.3)
            nn.init.normal_(module.bias, 0.0, 0.3)
    weights.save(path, WeightInfo(
        network=name, arguments=arguments, classes=CAMVID, mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.25, 0.3), input_size=(64, 96)), network)
    return path


@pytest.fixture(scope='module')
def weight_file(tmp_path_factory):
    return save(tmp_path_factory.mktemp('weights') / 'tiny.safetensors', *TINY)


@pytest.fixture(scope='module')
def segmenter(weight_file):
    return Segmenter(weight_file, device='cpu')


def picture(height, width, seed=1):
    """Return a frame of smooth random colours."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def reference(weight_file, frame, input_size):
    """Return the probabilities of the classes, worked out step by step."""
    info, network = weights.load(weight_file)
    resized = cv2.resize(frame, input_size[::-1], interpolation=cv2.INTER_LINEAR)
    with torch.inference_mode():
        logits = DeployedNetwork(network, info.mean, info.std)(torch.from_numpy(resized)[None])
        logits = F.interpolate(
            logits, frame.shape[:2], mode='bilinear', align_corners=network.align_corners)
    return logits.softmax(1)[0].numpy()


@pytest.mark.parametrize('name, arguments', [TINY, ('lmiinet', {})])
@pytest.mark.parametrize('size', [(64, 96), (91, 133), (48, 64)])
def test_labels_are_those_of_the_network(tmp_path, name, arguments, size):
    path = save(tmp_path / 'x.safetensors', name, arguments)
    segmenter = Segmenter(path, engine='torch', device='cpu')
    frame = picture(*size)
    result, = segmenter.segment([frame], confidence=True)
    probabilities = reference(path, frame, segmenter.input_size(size))
    assert result.labels.shape == size
    assert result.labels.dtype == np.uint8
    assert len(np.unique(result.labels)) > 2
    second, first = np.sort(probabilities, axis=0)[-2:]
    clear = first - second > 1e-4
    assert clear.mean() > 0.98
    np.testing.assert_array_equal(result.labels[clear], probabilities.argmax(0)[clear])
    assert result.confidence.shape == size
    assert result.confidence.dtype == np.uint8
    assert np.abs(result.confidence - 255 * first).max() < 0.51


def test_confidence_only_if_asked_for(segmenter):
    frame = picture(48, 64)
    plain, = segmenter.segment([frame])
    assert plain.confidence is None
    labels = plain.labels.copy()
    asked, = segmenter.segment([frame], confidence=True)
    np.testing.assert_array_equal(asked.labels, labels)
    assert asked.confidence.max() > asked.confidence.min()


@pytest.mark.parametrize('confidence', [False, True])
def test_minimum_confidence_makes_the_rest_unknown(segmenter, confidence):
    frame = picture(91, 133)
    full, = segmenter.segment([frame], confidence=True)
    labels, certainty = full.labels.copy(), full.confidence.copy()
    limit = float(np.median(certainty)) / 255
    result, = segmenter.segment([frame], confidence=confidence, min_confidence=limit)
    below = certainty < 255 * limit
    assert 0.1 < below.mean() < 0.9
    np.testing.assert_array_equal(result.labels, np.where(below, UNKNOWN, labels))
    if confidence:
        np.testing.assert_array_equal(result.confidence, certainty)
    else:
        assert result.confidence is None


def test_minimum_confidence_is_the_probability(segmenter, weight_file):
    frame = picture(64, 96)
    best = reference(weight_file, frame, (64, 96)).max(0)
    limit = float(np.median(best))
    result, = segmenter.segment([frame], min_confidence=limit)
    rounding = 0.51 / 255
    assert (result.labels[best < limit - rounding] == UNKNOWN).all()
    assert (result.labels[best > limit + rounding] != UNKNOWN).all()


def test_a_batch_is_as_its_frames_alone(segmenter):
    frames = [picture(61, 83, seed) for seed in (1, 2, 3)]
    batch = segmenter.segment(frames, confidence=True)
    labels = [result.labels.copy() for result in batch]
    assert (labels[0] != labels[1]).mean() > 0.1
    for frame, together in zip(frames, labels):
        alone, = segmenter.segment([frame])
        # Another batch size may add up in another order, which tips a few ties.
        assert (alone.labels != together).mean() < 1e-3


def test_frames_are_not_changed_and_may_be_views(segmenter):
    wide = picture(60, 160)
    view = wide[::2, ::-2]
    before = wide.copy()
    labels = segmenter.segment([view])[0].labels.copy()
    np.testing.assert_array_equal(wide, before)
    np.testing.assert_array_equal(
        segmenter.segment([np.ascontiguousarray(view)])[0].labels, labels)


@pytest.mark.parametrize('size', [(1, 1), (1, 50), (50, 1), (2, 3), (37, 53), (101, 99)])
def test_odd_sizes(segmenter, size):
    result, = segmenter.segment([picture(*size)], confidence=True)
    assert result.labels.shape == result.confidence.shape == size
    assert result.labels.max() < len(CAMVID)


def test_input_size(weight_file):
    segmenter = Segmenter(weight_file, device='cpu')
    assert segmenter.input_size((480, 640)) == (64, 80), 'the height is that of the training'
    segmenter.input_height = 360
    assert segmenter.input_size((480, 640)) == (360, 480)
    assert segmenter.input_size((1080, 1920)) == (360, 640)
    assert segmenter.input_size((600, 960)) == (360, 576)
    assert segmenter.input_size((720, 1270)) == (360, 640), 'rounded to the nearest'
    assert segmenter.input_size((1000, 10)) == (360, 16), 'never zero'
    assert Segmenter(weight_file, device='cpu', input_height=96).input_size((96, 96)) == (96, 96)


def test_input_height_may_change_between_frames(weight_file):
    segmenter = Segmenter(weight_file, device='cpu')
    frame = picture(90, 120)
    low = segmenter.segment([frame])[0].labels.copy()
    segmenter.input_height = 128
    high = segmenter.segment([frame])[0].labels
    assert high.shape == (90, 120)
    assert (low != high).any()


COMPILED = """
import sys

from lmii_ros.engines import inputs
from lmii_ros.engines import upsampling
from lmii_ros.segmenter import Segmenter
import numpy as np


def compiled():
    functions = [*vars(inputs).values(), *vars(upsampling).values()]
    return [len(one.signatures) for one in functions if hasattr(one, 'signatures')]


segmenter = Segmenter(sys.argv[1], engine=sys.argv[2], device='cpu')
segmenter.prepare((48, 64))
before = compiled()
for confidence in (False, True):
    segmenter.segment([np.zeros((48, 64, 3), np.uint8)], confidence=confidence)
assert any(before)
assert compiled() == before, 'a frame has waited for a loop to be compiled'
"""


@pytest.mark.parametrize('engine', ['openvino', 'onnxruntime'])
def test_no_frame_waits_for_what_can_be_prepared(weight_file, engine):
    for package in engines.PACKAGES[engine]:
        pytest.importorskip(package)
    result = subprocess.run(
        [sys.executable, '-c', COMPILED, str(weight_file), engine], capture_output=True,
        text=True, timeout=100)
    assert result.returncode == 0, result.stderr[-2000:]


def test_the_segmenter_knows_its_weights(segmenter, weight_file):
    assert segmenter.weight_file == weight_file
    assert segmenter.info.classes == CAMVID
    assert segmenter.engine.device == 'cpu'
    assert segmenter.engine.precision == 'fp32'


def test_a_missing_weight_file():
    with pytest.raises(WeightError, match='no weight file nothing; shipped'):
        Segmenter('nothing')


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_spoil_in_memory(weight_file, value):
    info, network = weights.load(weight_file)
    with torch.no_grad():
        network.classifier.weight[3, 2] = value
    engine = engines.create('torch', network, info, device='cpu')
    with pytest.raises(NonFiniteOutput, match='not finite'):
        engine.segment([picture(48, 64)], (48, 64), confidence=False)


def test_finite_weights_that_overflow(tmp_path, weight_file):
    info, network = weights.load(weight_file)
    with torch.no_grad():
        network.classifier.weight[:] = 3e38
    weights.save(tmp_path / 'x.safetensors', info, network)
    segmenter = Segmenter(tmp_path / 'x.safetensors', device='cpu')
    with pytest.raises(NonFiniteOutput):
        segmenter.segment([picture(48, 64)])


def test_an_unknown_engine(weight_file):
    expected = "no engine 'abacus'; there are: auto, openvino, onnxruntime, torch"
    with pytest.raises(EngineError, match=expected):
        Segmenter(weight_file, engine='abacus')


@pytest.mark.parametrize('device', ['tpu', '', 'meta', 'cuda:x', 'cuda:-1', 'mps'])
def test_what_is_no_device(weight_file, device):
    with pytest.raises(EngineError, match='expected auto, cpu, cuda or cuda:N') as caught:
        Segmenter(weight_file, device=device)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('device', [
    'cuda:63',
    pytest.param('cuda', marks=pytest.mark.skipif(
        torch.cuda.is_available(), reason='this machine has CUDA')),
])
def test_a_cuda_device_that_is_not_there(weight_file, device):
    with pytest.raises(EngineError, match=f"device '{device}' was asked for") as caught:
        Segmenter(weight_file, device=device)
    assert '\n' not in str(caught.value)


def test_the_device_auto():
    assert select_device('auto').type == ('cuda' if torch.cuda.is_available() else 'cpu')


OUT_OF_MEMORY = """
import resource
import sys

import numpy as np
from lmii_ros.engines import OutOfMemory
from lmii_ros.segmenter import Segmenter

segmenter = Segmenter(sys.argv[1], engine='torch', device='cpu')
frame = np.zeros((48, 64, 3), np.uint8)
segmenter.segment([frame])
with open('/proc/self/statm') as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 500 * 2 ** 20, resource.RLIM_INFINITY))
segmenter.input_height = int(sys.argv[2])
try:
    segmenter.segment([frame])
except OutOfMemory as error:
    print(error)
segmenter.input_height = 48
segmenter.segment([frame])
print('goes on')
"""


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='limits memory the Linux way')
@pytest.mark.parametrize('height', [
    pytest.param(4000, id='the network'), pytest.param(40000, id='the resized frame')])
def test_out_of_memory_is_told_and_survived(weight_file, height):
    result = subprocess.run(
        [sys.executable, '-c', OUT_OF_MEMORY, str(weight_file), str(height)],
        capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr[-2000:]
    assert f'out of memory on cpu at input size {height}x' in result.stdout
    assert result.stdout.endswith('goes on\n')


NETWORK_OUT_OF_MEMORY = """
import resource

from lmii_ros import weights
from lmii_ros.engines import OutOfMemory
from lmii_ros.segmenter import Segmenter

Segmenter('lpsnet_s_camvid', engine='torch', device='cpu')
info, network = weights.load(weights.find('lpsnet_s_camvid'))
network.extra = network.classifier.__class__(4096, 4096, 3)
weights.load = lambda path: (info, network)
with open('/proc/self/statm') as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100 * 2 ** 20, resource.RLIM_INFINITY))
try:
    Segmenter('lpsnet_s_camvid', engine='torch', device='cpu')
except OutOfMemory as error:
    print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='limits memory the Linux way')
def test_a_network_that_does_not_fit_into_memory_is_told():
    result = subprocess.run(
        [sys.executable, '-c', NETWORK_OUT_OF_MEMORY], capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.startswith('out of memory on device cpu for the network of ')


@pytest.mark.parametrize('message', [
    'CUDA out of memory. Tried to allocate 20.00 MiB',
    'CUDA error: out of memory',
    '[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : bfc_arena.cc:376 Failed to allocate memory for '
    'requested buffer of size 1073741824',
    'CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`',
    'cuDNN error: CUDNN_STATUS_ALLOC_FAILED',
    'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "CUDACachingAllocator.cpp":1131',
    '[GPU] Exceeded max size of memory object allocation: requested 4831838208 bytes',
    '[GPU] clEnqueueNDRangeKernel, error code: -5 CL_OUT_OF_RESOURCES',
    "DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes",
    'std::bad_alloc',
    '(-4:Insufficient memory) Failed to allocate 64 bytes in function OutOfMemoryError'])
def test_libraries_say_that_memory_ran_out_in_many_ways(message):
    assert engines.is_out_of_memory(RuntimeError(message))
    assert not engines.is_out_of_memory(RuntimeError(f'shape mismatch, {message[:3]}'))
