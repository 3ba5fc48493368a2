# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Weight files calibrated for int8, and ONNX files."""

from __future__ import annotations

from dataclasses import replace
import importlib.util
import json

import cv2
import numpy as np
import pytest
import torch

from lmii_ros import cli
from lmii_ros import datasets
from lmii_ros import networks
from lmii_ros import weights
from lmii_ros.classes import CAMVID
from lmii_ros.engines import precisions
from lmii_ros.evaluation.dataset import precision_loss
from lmii_ros.networks.deployment import DeployedNetwork
from lmii_ros.segmenter import Segmenter
from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import RoadScene

needs_openvino = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ('openvino', 'numba'))),
    reason='openvino or numba is not installed')

SHIPPED = 'lpsnet_s_camvid'
HEIGHT = 240


@pytest.fixture(scope='module')
def scene():
    return RoadScene(camera=PinholeCamera.from_fov(320, 240))


@pytest.fixture(scope='module')
def dataset(tmp_path_factory, scene):
    """Return a data set whose truth is what the shipped network says of its images."""
    folder = tmp_path_factory.mktemp('dataset')
    segmenter = Segmenter(SHIPPED, engine='torch', device='cpu')
    for split in ('train', 'val'):
        for name in (split, f'{split}annot'):
            (folder / name).mkdir()
        for index in range(2):
            image = scene.render(float(index)).image
            labels = segmenter.segment([image])[0].labels
            cv2.imwrite(str(folder / split / f'{index}.png'), image)
            cv2.imwrite(str(folder / f'{split}annot' / f'{index}.png'), labels)
    return folder


def export(*arguments):
    return cli.main(['export', SHIPPED, *map(str, arguments)])


def test_the_mean_of_weights(tmp_path):
    info, network = weights.load(weights.find(SHIPPED))
    other, mean = tmp_path / 'other.safetensors', tmp_path / 'mean.safetensors'
    changed = {name: 3 * tensor for name, tensor in network.state_dict().items()}
    network.load_state_dict(changed)
    weights.save(other, info, network)
    assert export('--mean-with', other, '--out', mean) == 0
    found, averaged = weights.load(mean)
    for name, tensor in averaged.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, changed[name] * 2 / 3, rtol=2 ** -9, atol=1e-6)
    # All tell that of weights before them; ranges and mIoU of their own would be of no mean.
    assert (found.miou, found.precision_loss) == (info.miou, info.precision_loss)
    assert not found.activation_ranges
    weights.save(other, replace(info, miou={360: 0.5}), network)
    assert export('--mean-with', other, '--out', mean) == 0
    assert weights.read_info(mean).miou == {}


@needs_openvino
def test_int8_is_calibrated_and_measured_on_a_data_set(tmp_path, dataset, scene, capsys):
    source, path = tmp_path / 'source.safetensors', tmp_path / 'x.safetensors'
    info, network = weights.load(weights.find(SHIPPED))
    weights.save(source, replace(info, recipe=info.recipe | {'split': 'train'}), network)
    assert cli.main([
        'export', str(source), '--int8', '--calibrate', str(dataset), '--out', str(path)]) == 0
    assert 'int8 costs ' in capsys.readouterr().out
    info, network = weights.load(path)
    before, unchanged = weights.load(weights.find(SHIPPED))
    assert 0 < info.precision_loss['int8'] < 0.1
    assert info.miou == before.miou
    for name, tensor in unchanged.state_dict().items():
        # The file holds half precision, whichever the shipped one does.
        torch.testing.assert_close(network.state_dict()[name], tensor, rtol=2 ** -11, atol=1e-7)
    frame = scene.render(5.0).image
    exact = Segmenter(path, engine='openvino', precision='fp32', input_height=HEIGHT)
    rounded = Segmenter(path, engine='openvino', precision='int8', input_height=HEIGHT)
    expected = exact.segment([frame])[0].labels
    labels = rounded.segment([frame])[0].labels
    assert rounded.engine.precision == 'int8'
    assert 0.97 < (labels == expected).mean() < 1


def test_int8_is_not_measured_on_what_was_trained_on_nor_made_for_other_classes(
        tmp_path, dataset, capsys):
    path = tmp_path / 'x.safetensors'
    assert export('--int8', '--calibrate', dataset, '--out', path) == 1
    assert 'was trained on val, which cannot tell what int8 costs it' in capsys.readouterr().err
    own = tmp_path / 'own'
    for folder, source in (('images', 'train'), ('labels', 'trainannot')):
        (own / folder).mkdir(parents=True)
        for split in ('train', 'val'):
            (own / folder / split).symlink_to(dataset / source)
    (own / 'classes.yaml').write_text(json.dumps(
        CAMVID.to_dict() | {'name': 'own', 'classes': ['Air', *CAMVID.classes[1:]]}))
    assert export('--int8', '--calibrate', own, '--out', path) == 1
    assert 'those of own: class 0 is Sky and Air' in capsys.readouterr().err
    assert not path.exists()


@needs_openvino
def test_int8_runs_in_8_bits(tmp_path, dataset):
    path = tmp_path / 'x.safetensors'
    assert export('--int8', '--calibrate', dataset / 'train', '--out', path) == 0
    segmenter = Segmenter(path, engine='openvino', precision='int8', input_height=HEIGHT)
    engine = segmenter.engine
    engine._settings['PERF_COUNT'] = True
    request = engine._request([(1, 180, 240, 3), (1, 60, 80, 3)])
    request.infer()
    convolutions = [
        layer.exec_type for layer in request.get_profiling_info()
        if layer.node_type == 'Convolution']
    # All but those of the image, one for each path.
    assert sum(name.upper().endswith('I8') for name in convolutions) >= len(convolutions) - 2 > 50


def test_int8_without_labels_is_not_taken_unasked(tmp_path, dataset, capsys):
    path = tmp_path / 'x.safetensors'
    assert export('--int8', '--calibrate', dataset / 'train', '--out', path) == 0
    assert 'without labels nobody knows what int8 costs' in capsys.readouterr().out
    info, _ = weights.load(path)
    assert 'int8' not in info.precision_loss
    assert Segmenter(path, device='cpu').engine.precision != 'int8'


@needs_openvino
@pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has CUDA')
def test_beside_a_gpu_too_the_loss_is_measured_of_what_cpus_compute_with(dataset, capsys):
    loss = precision_loss(
        weights.find(SHIPPED), 'cuda', 1.0, datasets.open_dataset(dataset, 'val'))
    assert set(loss) == {'bf16', 'int8'} & set(precisions('openvino', 'cpu').supported)
    assert all(0 <= lost < 0.1 for lost in loss.values())
    assert "what fp16 costs was not measured: device 'cuda' was asked for, but torch" in (
        capsys.readouterr().out)


@needs_openvino
def test_int8_is_taken_unasked_by_the_loss_of_another_file(tmp_path, dataset, capsys):
    measured, other = tmp_path / 'measured.safetensors', tmp_path / 'other.safetensors'
    info, network = weights.load(weights.find(SHIPPED))
    weights.save(measured, replace(info, precision_loss={'int8': 0.0015}), network)
    arguments = ('--int8', '--calibrate', dataset / 'train', '--out', other, '--loss-of')
    assert export(*arguments, measured) == 0
    assert weights.read_info(other).precision_loss['int8'] == 0.0015
    assert 'nobody knows' not in capsys.readouterr().out
    if 'int8' in precisions('openvino', 'cpu').supported:
        assert Segmenter(other, engine='openvino', device='cpu').engine.precision == 'int8'
    # Else int8 would be taken by the loss of another network.
    other.unlink()
    yard = replace(info.classes, name='yard', classes=tuple('abcdefghijk'), drivable=('a',))
    for unfit in (
            replace(info, precision_loss={}),
            replace(info, network='lpsnet_m', precision_loss={'int8': 0.001}),
            replace(info, classes=yard, precision_loss={'int8': 0.001})):
        weights.save(measured, unfit, networks.build(unfit.network, len(unfit.classes)))
        assert export(*arguments, measured) == 1
        assert f'{measured} does not tell what int8 costs lpsnet_s with the classes of camvid' in (
            capsys.readouterr().err)
        assert not other.exists()


def test_a_target_that_cannot_be_is_refused_before_the_work(tmp_path, dataset, capsys):
    for out, line in ((tmp_path, 'is a folder, expected a file'),
                      (tmp_path / 'none' / 'x.safetensors', 'No such file or directory')):
        assert export('--int8', '--calibrate', dataset, '--out', out) == 1
        assert line in capsys.readouterr().err
    assert not list(tmp_path.parent.glob('*.part'))


def test_onnx_takes_bytes_and_gives_logits(tmp_path, scene):
    onnxruntime = pytest.importorskip('onnxruntime')
    path = tmp_path / 'x.onnx'
    assert export('--onnx', path, '--input-height', HEIGHT, '--size', '640x480') == 0
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    node, = session.get_inputs()
    assert (node.name, node.type, node.shape) == ('image', 'tensor(uint8)', [1, HEIGHT, 320, 3])
    image = scene.render(0.0).image[None]
    logits, = session.run(['logits'], {'image': image})
    info, network = weights.load(weights.find(SHIPPED))
    with torch.inference_mode():
        expected = DeployedNetwork(network, info.mean, info.std)(torch.from_numpy(image))
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-3)


@pytest.mark.parametrize('arguments, message', [
    ((), 'nothing to do; give --mean-with WEIGHTS, --int8 or --onnx FILE'),
    (('--mean-with', 'lmiinet_camvid'), 'lmiinet_camvid has another network than '),
    (('--int8',), '--int8 needs --calibrate IMAGES'),
    (('--int8', '--calibrate', '/nowhere'), '/nowhere: no such file or folder'),
])
def test_what_cannot_be_exported_is_told_in_one_line(arguments, message, capsys):
    assert export(*arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith(f'lmii export: {message}')
    assert error.count('\n') == 1


def test_a_weight_file_with_absurd_ranges_is_refused():
    info, _ = weights.load(weights.find(SHIPPED))
    for limits in ([1.0, 0.0], [float('nan'), 1.0], [1.0], 'x'):
        values = json.loads(info.to_json()) | {'activation_ranges': {'a': limits}}
        with pytest.raises(weights.WeightError):
            weights.WeightInfo.from_json(json.dumps(values))
    values = json.loads(info.to_json())
    del values['activation_ranges']
    assert weights.WeightInfo.from_json(json.dumps(values)).activation_ranges == {}
