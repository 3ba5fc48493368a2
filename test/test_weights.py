# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Weight files come back as they were, and each way of being broken is told in one line."""

from __future__ import annotations

import json
import os
import pickle

from lmii_ros import networks
from lmii_ros import weights
from lmii_ros.classes import CAMVID
from lmii_ros.classes import CITYSCAPES
from lmii_ros.share import share_directory
from lmii_ros.weights import WeightError
from lmii_ros.weights import WeightInfo
import pytest
from safetensors.torch import save_file
import torch
from torch import nn

ARGUMENTS = {'depths': [1, 1, 1, 1, 1], 'widths': [4, 4, 4, 4, 4], 'ratios': [1.0, 0.5]}
INFO = WeightInfo(
    network='lpsnet', arguments=ARGUMENTS, classes=CAMVID, mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.25, 0.3), input_size=(48, 64), data='a few images', recipe={'epochs': 3},
    miou={48: 0.25, 96: 0.5}, license='none')
SHIPPED = sorted((share_directory() / 'weights').glob('*.safetensors'))


@pytest.fixture
def network():
    torch.manual_seed(1)
    network = networks.build('lpsnet', len(CAMVID), **ARGUMENTS)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            module.num_batches_tracked += 7
    return network


def assert_equal(loaded, network):
    """Parameters are equal: those of convolutions to half precision, all others exactly."""
    expected = network.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == expected[name].dtype
        if tensor.ndim > 1:
            torch.testing.assert_close(tensor, expected[name], rtol=2 ** -11, atol=1e-7)
        else:
            assert torch.equal(tensor, expected[name]), name


@pytest.fixture
def path(tmp_path, network):
    path = tmp_path / 'tiny.safetensors'
    weights.save(path, INFO, network)
    return path


def refusal(path):
    """Return the one line with which a file is refused."""
    with pytest.raises(WeightError) as caught:
        weights.load(path)
    message = str(caught.value)
    assert '\n' not in message
    assert str(path) in message
    return message


def write(path, network, metadata):
    save_file(network.state_dict(), str(path), metadata=metadata)


def document(**change):
    return json.dumps(json.loads(INFO.to_json()) | change)


def test_round_trip(path, network):
    info, loaded = weights.load(path)
    assert info == INFO
    assert not loaded.training
    assert type(loaded) is type(network)
    assert loaded.ratios == network.ratios
    assert_equal(loaded, network)


def test_a_file_takes_half_of_its_networks_memory(path):
    weights.save(path, INFO, networks.build('lpsnet_s', len(CAMVID)))
    parameters = networks.build('lpsnet_s', len(CAMVID)).state_dict()
    assert path.stat().st_size < 0.52 * sum(
        tensor.nbytes for tensor in parameters.values())


def test_what_half_precision_cannot_hold_is_kept(path, network):
    with torch.no_grad():
        network.classifier.weight[0, 0] = 1e5
    weights.save(path, INFO, network)
    assert torch.equal(weights.load(path)[1].classifier.weight, network.classifier.weight)


def test_a_second_round_trip_changes_nothing(path):
    info, first = weights.load(path)
    weights.save(path, info, first)
    _, second = weights.load(path)
    for name, tensor in second.state_dict().items():
        assert torch.equal(tensor, first.state_dict()[name]), name


def test_a_file_of_single_precision_is_read_too(path, network):
    write(path, network, {'lmii_ros': INFO.to_json()})
    _, loaded = weights.load(path)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name]), name


def test_round_trip_of_a_network_on_channels_last(path, network):
    weights.save(path, INFO, network.to(memory_format=torch.channels_last))
    assert_equal(weights.load(path)[1], network)


def test_a_file_is_replaced_in_one_step(path, network):
    before = path.read_bytes()
    with path.open('rb') as reader:
        with torch.no_grad():
            network.classifier.bias += 1
        weights.save(path, INFO, network)
        assert reader.read() == before, 'who has the old file open still reads the old file'
    assert path.read_bytes() != before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_save_that_fails_leaves_the_old_file(path, network):
    before = path.read_bytes()
    network.paths[0][0][0][1].weight = network.paths[1][0][0][1].weight
    with pytest.raises(RuntimeError):
        weights.save(path, INFO, network)
    assert path.read_bytes() == before


def test_others_may_read_what_the_umask_lets_them(tmp_path, network):
    previous = os.umask(0o022)
    try:
        weights.save(tmp_path / 'a.safetensors', INFO, network)
    finally:
        os.umask(previous)
    assert oct((tmp_path / 'a.safetensors').stat().st_mode & 0o777) == oct(0o644)


def test_a_missing_file(tmp_path):
    assert 'no weight file' in refusal(tmp_path / 'nothing.safetensors')
    assert 'no weight file' in refusal(tmp_path)


@pytest.mark.parametrize('content', [
    b'', b'garbage', b'garbage' * 1000, b'\0' * 64, pickle.dumps({'a': 1}),
    b'\x10\0\0\0\0\0\0\0{"a": not json}'], ids=repr)
def test_what_is_no_safetensors_file(tmp_path, content):
    path = tmp_path / 'x.safetensors'
    path.write_bytes(content)
    assert 'expected a safetensors file' in refusal(path)


def test_a_pickled_checkpoint(tmp_path, network):
    path = tmp_path / 'x.pt'
    torch.save(network.state_dict(), path)
    assert 'expected a safetensors file' in refusal(path)


@pytest.mark.parametrize('share', [0.0, 0.001, 0.01, 0.3, 0.5, 0.9, 0.999, 1.0])
def test_a_truncated_file(path, share):
    content = path.read_bytes()
    path.write_bytes(content[:min(int(len(content) * share), len(content) - 1)])
    assert 'expected a safetensors file' in refusal(path)


def test_a_file_of_something_else(path, network):
    for metadata in (None, {}, {'format': 'pt'}):
        write(path, network, metadata)
        assert "no 'lmii_ros' in its metadata; expected a file written by" in refusal(path)


@pytest.mark.parametrize('text', [
    '', 'x', '{"format": 1', '[]', '3', 'null', '"x"', pytest.param('[' * 100_000, id='deep')])
def test_metadata_that_is_no_document(path, network, text):
    write(path, network, {'lmii_ros': text})
    assert 'malformed metadata' in refusal(path)


@pytest.mark.parametrize('key', sorted(
    # Which files from before int8 do not have.
    json.loads(INFO.to_json()).keys() - {'activation_ranges'}))
def test_metadata_without_a_key(path, network, key):
    values = json.loads(INFO.to_json())
    del values[key]
    write(path, network, {'lmii_ros': json.dumps(values)})
    assert f"metadata has no '{key}'" in refusal(path)


@pytest.mark.parametrize('change, message', [
    ({'format': 2}, 'format 2, expected 1'),
    ({'format': '1'}, 'expected 1'),
    ({'network': 'unet'}, "no network 'unet'; there are: lmiinet, lpsnet"),
    ({'arguments': {}}, "network 'lpsnet'"),
    ({'arguments': ARGUMENTS | {'ratios': [2]}}, 'ratios must be'),
    ({'arguments': ARGUMENTS | {'widths': ['4'] * 5}}, "network 'lpsnet'"),
    ({'arguments': ARGUMENTS | {'speed': 3}}, 'speed'),
    ({'arguments': ARGUMENTS | {'name': 'x'}}, 'name'),
    ({'arguments': ARGUMENTS | {'num_classes': 3}}, 'num_classes'),
    ({'arguments': [1]}, 'malformed'),
    ({'mean': [0.5, 0.5]}, 'expected three each'),
    ({'mean': ['a', 0, 0]}, 'malformed'),
    ({'mean': [float('nan'), 0, 0]}, 'mean'),
    ({'std': [0.2, 0.2, 0]}, 'std > 0'),
    ({'std': [float('nan')] * 3}, 'std'),
    ({'std': [float('inf')] * 3}, 'std'),
    ({'input_size': [48]}, 'malformed'),
    ({'input_size': [48, 0]}, 'input size 48x0, expected at least 1x1'),
    ({'input_size': ['a', 'b']}, 'malformed'),
    ({'input_size': [float('inf'), 64]}, 'in'),
    ({'miou': [1]}, 'malformed'),
    ({'miou': {'high': 0.5}}, 'malformed'),
    ({'recipe': None}, 'malformed'),
    ({'classes': None}, 'class table needs'),
    ({'classes': CAMVID.to_dict() | {'drivable': ['Street']}}, "no class 'Street'"),
])
def test_metadata_that_makes_no_sense(path, network, change, message):
    write(path, network, {'lmii_ros': document(**change)})
    assert message in refusal(path)


def test_another_number_of_classes_than_the_tensors(path, network):
    write(path, network, {'lmii_ros': document(classes=CITYSCAPES.to_dict())})
    message = refusal(path)
    assert 'classifier.' in message
    assert '[11' in message
    assert 'expected [19' in message
    assert '19 classes' in message


def altered(path, network, change):
    tensors = dict(network.state_dict())
    change(tensors)
    save_file(tensors, str(path), metadata={'lmii_ros': INFO.to_json()})
    return refusal(path)


def test_a_missing_tensor(path, network):
    message = altered(path, network, lambda tensors: tensors.pop('classifier.bias'))
    assert 'tensor classifier.bias of lpsnet with 11 classes is missing' in message


def test_an_extra_tensor(path, network):
    message = altered(path, network, lambda tensors: tensors.update(extra=torch.zeros(1)))
    assert 'tensor extra does not belong to lpsnet with 11 classes' in message


def test_a_tensor_of_another_shape(path, network):
    message = altered(
        path, network, lambda tensors: tensors.update({'classifier.bias': torch.zeros(3)}))
    assert 'tensor classifier.bias has shape [3], expected [11]' in message


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('name', ['classifier.weight', 'paths.0.1.0.1.running_var'])
def test_a_value_that_is_not_finite(path, network, name, value):
    with torch.no_grad():
        network.state_dict()[name].view(-1)[-1] = value
    write(path, network, {'lmii_ros': INFO.to_json()})
    assert f'tensor {name} holds values that are not finite' in refusal(path)


@pytest.mark.parametrize('dtype', [torch.complex64, torch.float8_e4m3fn], ids=str)
def test_a_tensor_of_another_kind(path, network, dtype):
    tensor = network.state_dict()['classifier.weight'].to(dtype)
    message = altered(
        path, network, lambda tensors: tensors.update({'classifier.weight': tensor}))
    assert 'classifier.weight' in message


def test_find_takes_a_path(path, monkeypatch):
    assert weights.find(path) == path
    assert weights.find(str(path)) == path
    monkeypatch.chdir(path.parent)
    assert weights.find(path.name).samefile(path)


@pytest.mark.parametrize('name', ['lpsnet_s_camvid', 'lmiinet_camvid'])
@pytest.mark.parametrize('suffix', ['', '.safetensors'])
def test_find_knows_the_shipped_files(name, suffix, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = weights.find(name + suffix)
    assert found.is_file()
    assert found.name == f'{name}.safetensors'


@pytest.mark.parametrize('name', ['nothing', 'nothing.safetensors', 'sub/lpsnet_s_camvid', ''])
def test_find_lists_the_shipped_files(name):
    with pytest.raises(WeightError) as caught:
        weights.find(name)
    message = str(caught.value)
    assert '\n' not in message
    assert f'no weight file {name};' in message
    assert 'lmiinet_camvid' in message
    assert 'lpsnet_s_camvid' in message


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_load(path):
    info, network = weights.load(path)
    assert info.classes == CAMVID
    with torch.inference_mode():
        assert torch.isfinite(network(torch.randn(1, 3, 64, 96))).all()


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_have_a_model_card(path):
    card = path.with_suffix('.md')
    assert card.is_file()
    assert 'mIoU' in card.read_text(encoding='utf-8')
