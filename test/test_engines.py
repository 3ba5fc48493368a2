# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The engines give the same labels, and say what they cannot do."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lmii_ros import engines
from lmii_ros import machine
from lmii_ros import networks
from lmii_ros import weights
from lmii_ros.classes import CAMVID
from lmii_ros.engines import EngineError
from lmii_ros.engines import NonFiniteOutput
from lmii_ros.engines import Precisions
from lmii_ros.engines import compiled
from lmii_ros.engines.torch import FramePath
from lmii_ros.engines.torch import Resize
from lmii_ros.networks.deployment import DeployedNetwork
from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import RoadScene
from lmii_ros.weights import WeightInfo

FAST = [
    name for name in ('openvino', 'onnxruntime')
    if all(importlib.util.find_spec(module) for module in engines.PACKAGES[name])]
needs_openvino = pytest.mark.skipif(
    'openvino' not in FAST, reason='openvino or numba is not installed')
needs_onnxruntime = pytest.mark.skipif(
    'onnxruntime' not in FAST, reason='onnxruntime or numba is not installed')

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


def engine(name='openvino', net=None, info=INFO, **options):
    return engines.create(name, net or network(), info, device='cpu', **options)


def label(labeller, input_size=(64, 96)):
    return labeller.segment([picture(64, 96)], input_size, confidence=False)[0].copy()


@pytest.mark.parametrize('name', FAST)
@pytest.mark.parametrize('frame_size, input_size', [
    ((64, 96), (64, 96)), ((90, 121), (64, 80)), ((48, 64), (67, 93)), ((1, 1), (16, 16))])
def test_engines_give_the_labels_of_torch(name, frame_size, input_size):
    frames = [picture(*frame_size, seed) for seed in range(2)]
    expected, certainty = engine('torch').segment(frames, input_size, confidence=True)
    ours = engine(name, precision='fp32')
    labels, their_certainty = ours.segment(frames, input_size, confidence=True)
    quick, nothing = ours.segment(frames, input_size, confidence=False)
    assert labels.shape == (2, *frame_size) and labels.dtype == np.uint8
    assert (labels == expected).mean() > 0.9999
    np.testing.assert_array_equal(quick, labels)
    assert nothing is None
    assert np.abs(their_certainty.astype(int) - certainty).max() <= 1


@pytest.mark.parametrize('name', FAST)
@pytest.mark.parametrize('shipped', ['lpsnet_s_camvid', 'lmiinet_camvid'])
def test_engines_give_the_labels_of_torch_with_shipped_weights(name, shipped):
    info, net = weights.load(weights.find(shipped))
    frame = RoadScene(camera=PinholeCamera.from_fov(317, 239)).render(1.0).image
    expected, certainty = engine('torch', net, info).segment([frame], (180, 240), confidence=True)
    assert len(np.unique(expected)) > 4
    labels, ours = engine(name, net, info, precision='fp32').segment(
        [frame], (180, 240), confidence=True)
    assert (labels == expected).mean() > 0.99995
    assert np.abs(ours.astype(int) - certainty).max() <= 1


@pytest.mark.parametrize('name', FAST)
def test_frames_take_no_memory_that_grows_with_them(name):
    labeller = engine(name, precision='fp32')
    frame = picture(720, 960)
    for confidence in (False, True):
        for _ in range(3):
            labeller.segment([frame], (240, 320), confidence=confidence)
        # This sees what NumPy and numba allocate: here a few rows of values.
        tracemalloc.start()
        for _ in range(3):
            labeller.segment([frame], (240, 320), confidence=confidence)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < frame.nbytes / 10


@pytest.mark.parametrize('name', FAST)
def test_labels_stay_until_the_call_after_the_next(name):
    labeller = engine(name)
    first, _ = labeller.segment([picture(64, 96)], (64, 96), confidence=False)
    before = first.copy()
    second, _ = labeller.segment([picture(64, 96, 1)], (64, 96), confidence=False)
    assert (second != before).any()
    np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize('size', [(64, 96), (120, 130)])
def test_the_frame_path_of_the_device_gives_the_labels_of_the_host(size):
    frames = [picture(90, 121, seed) for seed in range(2)]
    expected, certainty = engine('torch').segment(frames, size, confidence=True)
    path = FramePath(DeployedNetwork(network(), INFO.mean, INFO.std), torch.float32)
    with torch.inference_mode():
        finite, labels, ours = path(
            torch.from_numpy(np.stack(frames)), Resize((90, 121), size), (90, 121), True)
    assert finite
    assert labels.dtype == ours.dtype == torch.uint8
    assert (labels.numpy() == expected).mean() > 0.999
    assert np.abs(ours.numpy().astype(int) - certainty).max() <= 1


@pytest.mark.parametrize('size, new_size', [
    ((90, 121), (64, 96)), ((48, 64), (67, 93)), ((48, 64), (24, 32)), ((1, 1), (3, 4)),
    ((3, 4), (1, 1)), ((72, 128), (51, 91))])
def test_resizing_on_the_device_is_that_of_opencv(size, new_size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    ours = Resize(size, new_size)(torch.from_numpy(image)[None])[0].numpy()
    difference = ours - cv2.resize(image, new_size[::-1], interpolation=cv2.INTER_LINEAR)
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.01


@pytest.mark.parametrize('shipped', ['lpsnet_s_camvid', 'lmiinet_camvid'])
def test_half_precision_changes_little(shipped):
    info, net = weights.load(weights.find(shipped))
    frame = [RoadScene(camera=PinholeCamera.from_fov(317, 239)).render(1.0).image]
    exact, _ = engine('torch', net, info).segment(frame, (180, 240), confidence=False)
    half = engine('torch', net, info, precision='fp16')
    assert half.precision == 'fp16'
    assert (half.segment(frame, (180, 240), confidence=False)[0] == exact).mean() > 0.998


@pytest.mark.parametrize('name', FAST)
def test_output_that_is_not_finite_is_told(name):
    net = network()
    with torch.no_grad():
        net.classifier.bias[:] = torch.inf
    with pytest.raises(NonFiniteOutput):
        engine(name, net).segment([picture(64, 96)], (64, 96), confidence=False)


@needs_openvino
def test_the_second_start_finds_the_compiled_network(cache):
    label(engine())
    folder, = cache.iterdir()
    written = (folder / 'network.xml').stat().st_mtime_ns
    label(engine())
    assert (folder / 'network.xml').stat().st_mtime_ns == written
    other = network()
    with torch.no_grad():
        other.classifier.bias += 1
    label(engine(net=other))
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize('name', FAST)
def test_networks_whose_weights_do_not_tell_their_arguments_are_not_mixed_up(cache, name):
    for ratios in ((0.5, 0.5), (0.75, 0.25)):
        arguments = SMALL | {'ratios': ratios}
        net, info = network(arguments=arguments), replace(INFO, arguments=arguments)
        expected = label(engine('torch', net, info))
        assert (label(engine(name, net, info, precision='fp32')) == expected).mean() > 0.999


@needs_openvino
@pytest.mark.parametrize('ratios', [(0.75, 0.25), (1.0, 0.95), (0.25, 0.2), (0.5, 0.5), (1.0,)])
def test_one_export_serves_all_sizes(cache, ratios):
    arguments = SMALL | {'ratios': ratios}
    net, info = network(arguments=arguments), replace(INFO, arguments=arguments)
    labeller, reference = engine(net=net, info=info), engine('torch', net, info)
    for size in ((64, 96), (40, 56), (97, 131), (33, 32)):
        agree = label(labeller, size) == label(reference, size)
        assert agree.mean() > 0.999, size
    assert len(list(cache.iterdir())) == 1


@needs_openvino
def test_many_sizes_and_networks_fill_neither_memory_nor_disk(cache, monkeypatch):
    from lmii_ros.engines.host import MAX_COMPILED
    labeller = engine()
    first = label(labeller)
    for height in range(32, 32 + 8 * 16, 16):
        label(labeller, (height, 32))
    assert len(labeller._sizes) == MAX_COMPILED
    used, = {size for size in labeller._sizes if size[1:] == (96, 32)}
    label(labeller, (96, 32))
    for height in range(160, 160 + 16 * (MAX_COMPILED - 1), 16):
        label(labeller, (height, 32))
    assert used in labeller._sizes
    np.testing.assert_array_equal(label(labeller), first)
    monkeypatch.setattr(compiled, 'MAX_KEPT', 3)
    for bias in range(4):
        other = network()
        with torch.no_grad():
            other.classifier.bias += bias
        label(engine(net=other))
    assert len(list(cache.iterdir())) == 3


@needs_openvino
def test_nodes_that_start_at_once_share_a_compiled_network(cache):
    program = (
        'from test_engines import engine, label\n'
        'label(engine())\n'
        'print("done")\n')
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', program], cwd=Path(__file__).parent, stdout=subprocess.PIPE,
            text=True)
        for _ in range(3)]
    assert [process.communicate(timeout=120)[0] for process in processes] == ['done\n'] * 3
    assert len(list(cache.iterdir())) == 1


@needs_openvino
def test_nothing_is_told_to_anyone_of_a_start(tmp_path):
    # What OpenVINO tells a server it does in a thread, and remembers in the user's home.
    pytest.importorskip('openvino')
    program = (
        'import threading; import lmii_ros.engines.openvino; '
        'assert threading.active_count() == 1, threading.enumerate()')
    subprocess.run(
        [sys.executable, '-c', program], cwd=Path(__file__).parents[1], check=True,
        env={**os.environ, 'HOME': str(tmp_path)})
    assert not list(tmp_path.glob('intel*'))


@needs_openvino
def test_signals_are_handled_after_a_network_was_dropped_by_another_thread():
    pytest.importorskip('openvino')
    program = (
        'import gc, signal, threading\n'
        'import numpy as np\n'
        'from lmii_ros.segmenter import Segmenter\n'
        'frame = np.zeros((64, 96, 3), np.uint8)\n'
        'held = [Segmenter("lpsnet_s_camvid", engine="openvino", input_height=64)]\n'
        'held[0].segment([frame])\n'
        'def drop():\n'
        '    held.clear()\n'
        '    gc.collect()\n'
        'thread = threading.Thread(target=drop)\n'
        'thread.start()\n'
        'thread.join()\n'
        'signal.signal(signal.SIGUSR1, lambda number, _: print("handled"))\n'
        'signal.raise_signal(signal.SIGUSR1)\n')
    process = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (0, 'handled\n'), process.stderr[-2000:]


def test_without_a_folder_that_can_be_written_all_is_made_anew_at_each_start(tmp_path):
    package = Path(engines.__file__).parents[1]
    shutil.copytree(
        package, tmp_path / 'source' / package.name, ignore=shutil.ignore_patterns('__pycache__'))
    # None can be made here, even by a user who may write everywhere.
    (tmp_path / 'source' / package.name / 'engines' / '__pycache__').touch()
    (tmp_path / 'home').touch()
    (tmp_path / 'temporary').mkdir()
    program = (
        'import numpy as np\n'
        'from lmii_ros import engines, networks\n'
        'from lmii_ros.classes import CAMVID\n'
        'from lmii_ros.weights import WeightInfo\n'
        f'network = networks.build("lpsnet", len(CAMVID), **{SMALL!r}).eval()\n'
        'info = WeightInfo(network="lpsnet", classes=CAMVID, mean=(0.5,) * 3, std=(0.2,) * 3,\n'
        '                  input_size=(64, 96))\n'
        'engine = engines.create("openvino", network, info, device="cpu")\n'
        'engine.segment([np.zeros((64, 96, 3), np.uint8)], (64, 96), confidence=False)\n'
        'print(engines.__file__)\n')
    environment = {
        name: value for name, value in os.environ.items()
        if name not in ('NUMBA_CACHE_DIR', 'XDG_CACHE_HOME')}
    process = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, timeout=300,
        cwd=tmp_path / 'source', env=environment | {
            'HOME': str(tmp_path / 'home'), 'TMPDIR': str(tmp_path / 'temporary'),
            'PYTHONPATH': f'{tmp_path / "source"}:{environment.get("PYTHONPATH", "")}'})
    assert process.returncode == 0, process.stderr[-2000:]
    assert process.stdout.startswith(str(tmp_path))
    assert not list((tmp_path / 'temporary').iterdir())


@needs_openvino
@pytest.mark.parametrize('align_corners', [True, False])
@pytest.mark.parametrize('coarse, fine', [
    ((12, 15), (180, 240)), ((23, 30), (361, 479)), ((90, 120), (180, 240)), ((5, 7), (3, 4)),
    ((1, 1), (9, 7)), ((40, 30), (40, 30))])
def test_labels_from_coarse_logits_are_those_of_resized_ones(coarse, fine, align_corners):
    from lmii_ros.engines import upsampling
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(2, 11, *coarse)).astype(np.float32) * 4
    upsampler = upsampling.Upsampler(align_corners)
    labels, certainty = upsampler.label(logits, fine, confidence=True)
    quick, nothing = upsampler.label(logits, fine, confidence=False)
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
    with pytest.raises(
            EngineError, match="no engine 'caffe'; there are: auto, openvino, onnxruntime, torch"):
        engines.choose('caffe', 'auto')


@pytest.mark.parametrize('machine, installed, expected', [
    ('x86_64', ('openvino', 'onnxruntime', 'onnx', 'numba'), 'openvino'),
    ('aarch64', ('openvino', 'onnxruntime', 'onnx', 'numba'), 'onnxruntime'),
    ('aarch64', ('openvino', 'numba'), 'openvino'),
    ('x86_64', ('onnxruntime', 'onnx', 'numba'), 'onnxruntime'),
    ('x86_64', ('openvino', 'onnxruntime', 'onnx'), 'torch')])
def test_auto_takes_the_fastest_that_is_installed(monkeypatch, machine, installed, expected):
    monkeypatch.setattr(platform, 'machine', lambda: machine)
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name in installed or None)
    name, why = engines.choose('auto', 'cpu')
    assert name == expected
    assert 'CPU' in why


@pytest.mark.parametrize('name, packages', [
    ('openvino', 'openvino numba'), ('onnxruntime', 'onnxruntime onnx numba')])
def test_an_engine_that_is_not_installed_names_its_packages(monkeypatch, name, packages):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda module: None)
    with pytest.raises(
            EngineError, match=f'engine {name} is not installed; pip install {packages}'):
        engines.choose(name, 'auto')


@pytest.mark.parametrize('loss, expected', [
    ({}, 'fp32'), ({'bf16': 0.0019}, 'bf16'), ({'bf16': 0.0021}, 'fp32'),
    ({'bf16': -0.01}, 'bf16'),
])
def test_auto_takes_a_lower_precision_only_where_its_loss_is_known_and_small(loss, expected):
    info = replace(INFO, precision_loss=loss)
    both, fp32 = ('fp32', 'bf16'), ('fp32',)
    assert engines.choose_precision('auto', info, Precisions(both, both)) == expected
    assert engines.choose_precision('auto', info, Precisions(fp32, fp32)) == 'fp32'
    by_name = Precisions(both, fp32)
    assert engines.choose_precision('auto', info, by_name) == 'fp32'
    assert engines.choose_precision('bf16', info, by_name) == 'bf16'


def test_auto_takes_int8_only_with_calibrated_weights():
    info = replace(INFO, precision_loss={'int8': 0.0, 'bf16': 0.0})
    all_three = Precisions(('fp32', 'bf16', 'int8'), ('fp32', 'bf16', 'int8'))
    assert engines.choose_precision('auto', info, all_three) == 'bf16'
    info = replace(info, activation_ranges={'x': (0.0, 1.0)})
    assert engines.choose_precision('auto', info, all_three) == 'int8'


def test_fp16_that_is_slow_or_whose_loss_is_not_known_is_there_by_name_only(monkeypatch):
    by_name = Precisions(('fp32', 'fp16'), ('fp32',))
    assert engines.precisions('torch', 'cpu') == by_name
    info = replace(INFO, precision_loss={'fp16': 0.0})
    assert engine('torch', info=info).precision == 'fp32'
    assert engine('torch', info=info, precision='fp16').precision == 'fp16'
    if 'onnxruntime' in FAST:
        from lmii_ros.engines import onnxruntime
        assert engines.precisions('onnxruntime', 'cpu') == Precisions(('fp32',), ('fp32',))
        monkeypatch.setattr(onnxruntime, 'cuda_provider', lambda number: onnxruntime.TENSORRT)
        assert engines.precisions('onnxruntime', 'cuda') == by_name


@needs_openvino
@pytest.mark.parametrize('flags, unasked', [
    ('avx2 avx512f avx512_bf16', True), ('avx512f amx_bf16', True),
    ('avx2 avx512f avx512_vnni', False), ('', False)])
def test_bf16_that_is_emulated_is_there_by_name_only(monkeypatch, flags, unasked):
    import openvino
    if 'BF16' not in openvino.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES'):
        pytest.skip('OpenVINO has no bf16 on this processor')
    monkeypatch.setattr(machine, '_cpuinfo', lambda key: flags)
    precisions = engines.precisions('openvino', 'cpu')
    assert 'bf16' in precisions.supported
    assert ('bf16' in precisions.unasked) is unasked
    info = replace(INFO, precision_loss={'bf16': 0.0})
    assert engine(info=info).precision == ('bf16' if unasked else 'fp32')


def test_a_precision_that_is_not_there_is_refused():
    with pytest.raises(EngineError, match="no precision 'bf16' .* there are: auto, fp16, fp32"):
        engine('torch', precision='bf16')
    with pytest.raises(EngineError, match='int8 needs a weight file that was calibrated'):
        engine('torch', precision='int8')


@pytest.mark.parametrize('name', ['auto', *engines.ENGINES])
@pytest.mark.parametrize('device', ['tpu', '', 'meta', 'cuda:', 'cuda:x', 'cuda:-1', 'cpu:0'])
def test_what_is_no_device_is_none_for_any_engine(name, device):
    with pytest.raises(EngineError, match=f"no device '{device}'; expected auto, cpu, cuda or"):
        engines.choose(name, device)
    if name in (*FAST, 'torch'):
        with pytest.raises(EngineError, match=f"no device '{device}'; expected auto, cpu, cuda"):
            engines.create(name, network(), INFO, device=device)


@pytest.mark.parametrize('name', [name for name in (*FAST, 'torch') if name != 'openvino'])
def test_only_openvino_runs_on_an_intel_gpu(name):
    with pytest.raises(EngineError, match=f"engine {name} runs on the cpu or cuda, not on 'gpu'"):
        engines.create(name, network(), INFO, device='gpu')


@needs_openvino
def test_openvino_does_not_run_on_cuda():
    with pytest.raises(EngineError, match="openvino runs on the cpu .* not on 'cuda'"):
        engines.create('openvino', network(), INFO, device='cuda')


@needs_openvino
def test_a_missing_intel_gpu_is_told():
    import openvino
    if 'GPU' in openvino.Core().available_devices:
        pytest.skip('there is one')
    assert engines.choose('auto', 'gpu') == ('openvino', 'the one for Intel GPUs')
    with pytest.raises(EngineError, match='no Intel GPU .* use device auto or cpu'):
        engines.create('openvino', network(), INFO, device='gpu')


@needs_openvino
def test_one_of_several_intel_gpus_is_found(monkeypatch):
    import openvino
    if any('GPU' in name for name in openvino.Core().available_devices):
        pytest.skip('there is one')
    monkeypatch.setattr(openvino.Core, 'available_devices', ['CPU', 'GPU.0', 'GPU.1'])
    # OpenVINO is asked about it, which says itself that there is none.
    with pytest.raises(RuntimeError, match='(?i)gpu'):
        engines.precisions('openvino', 'gpu')


@needs_onnxruntime
@pytest.mark.parametrize('device, message', [
    ('cuda', 'this onnxruntime runs on the cpu only'), ('cuda:1', 'pip install onnxruntime-gpu')])
def test_devices_that_onnxruntime_has_not(device, message):
    with pytest.raises(EngineError, match=message):
        engines.create('onnxruntime', network(), INFO, device=device)


@pytest.fixture
def onnxruntime_built_for_gpus(monkeypatch):
    """Make onnxruntime list what its package for NVIDIA's GPUs lists, and no GPU be found."""
    onnxruntime = pytest.importorskip('onnxruntime')
    from lmii_ros.engines import providers
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: [
        providers.TENSORRT, providers.CUDA, providers.CPU])
    if torch.cuda.is_available() or any(
            providers.runs(name, 0) for name in (providers.TENSORRT, providers.CUDA)):
        pytest.skip('there is a GPU')
    providers.cuda_provider.cache_clear()
    yield
    providers.cuda_provider.cache_clear()


@needs_onnxruntime
@pytest.mark.filterwarnings('ignore:Specified provider')
@pytest.mark.parametrize('machine', ['aarch64', 'x86_64'])
def test_auto_is_the_cpu_where_onnxruntime_was_built_for_gpus_but_finds_none(
        monkeypatch, machine, onnxruntime_built_for_gpus):
    monkeypatch.setattr(platform, 'machine', lambda: machine)
    _, why = engines.choose('auto', 'auto')
    assert 'no CUDA device is used' in why
    found = engines.create('onnxruntime', network(), INFO)
    assert (found.device, found.precision) == ('cpu', 'fp32')
    assert (label(found) == label(engine('torch'))).mean() > 0.9999
    assert engines.choose('auto', 'cuda')[0] == 'torch', 'which tells what is missing'
    with pytest.raises(EngineError, match="device 'cuda' .* but onnxruntime cannot use it"):
        engines.create('onnxruntime', network(), INFO, device='cuda')


@needs_onnxruntime
def test_what_onnxruntime_is_tried_with_runs_where_the_provider_works():
    from lmii_ros.engines import providers
    assert providers.runs(providers.CPU, 0)
