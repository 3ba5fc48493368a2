# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The networks are the published ones in size, take any image, and deploy without a change."""

from __future__ import annotations

import copy
import gc
import weakref

from lmii_ros import networks
from lmii_ros.networks import lpsnet
from lmii_ros.networks.blocks import PReLU
from lmii_ros.networks.deployment import DeployedNetwork
from lmii_ros.networks.deployment import PathNetwork
from lmii_ros.networks.deployment import fold_batch_norm
import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

MEAN = (0.5, 0.4, 0.3)
STD = (0.2, 0.25, 0.3)
SMALL = {'depths': (1, 2, 2, 2, 1), 'widths': (4, 8, 8, 8, 8), 'ratios': (1.0, 0.5)}
BOTH = pytest.mark.parametrize('name, arguments', [('lmiinet', {}), ('lpsnet', SMALL)])


def build(name, arguments, num_classes=11, seed=1):
    """Return a network in inference mode whose batch normalisation does something."""
    torch.manual_seed(seed)
    network = networks.build(name, num_classes, **arguments)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0.0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.3)
    return network.eval()


def pixels(*size, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))


def assert_close(found, expected):
    """Check logits to a ten-thousandth of the largest."""
    largest = np.abs(expected).max()
    assert np.std(expected) > 0.01
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * max(1.0, largest))


@pytest.mark.parametrize('name, size, parameters, macs', [
    ('lmiinet', (512, 1024), 0.72e6, 11.74e9),
    ('lpsnet_s', (1024, 2048), 3.375e6, 10.42e9),
    ('lpsnet_m', (1024, 2048), 3.375e6, 17.72e9),
    ('lpsnet_l', (1024, 2048), 9.159e6, 43.81e9),
])
def test_size_and_cost_are_the_published_ones(name, size, parameters, macs):
    tolerance = 0.01 if name == 'lmiinet' else 0.001
    with FakeTensorMode(), FlopCounterMode(display=False) as counter:
        network = networks.build(name, 19)
        network(torch.empty(1, 3, *size))
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == pytest.approx(parameters, rel=tolerance)
    assert counter.get_total_flops() / 2 == pytest.approx(macs, rel=tolerance)


@pytest.mark.parametrize('size', [(360, 480), (361, 479), (33, 47), (16, 31), (2, 3), (1, 1)])
def test_lmiinet_gives_half_of_any_size(size):
    network = build('lmiinet', {}, num_classes=5)
    with torch.inference_mode():
        logits = network(torch.randn(2, 3, *size))
    assert logits.shape == (2, 5, -(-size[0] // 2), -(-size[1] // 2))
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize('ratios, expected', [
    ((1.0,), (23, 30)),
    ((0.5,), (12, 15)),
    ((0.75, 0.25), (17, 23)),
    ((0.25, 1.0, 0.5), (23, 30)),
    ((1.0, 1.0), (23, 30)),
])
def test_lpsnet_gives_a_sixteenth_of_its_largest_path(ratios, expected):
    network = build('lpsnet', SMALL | {'ratios': ratios}, num_classes=5)
    with torch.inference_mode():
        logits = network(torch.randn(1, 3, 361, 480))
    assert logits.shape == (1, 5, *expected)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize('size', [(33, 47), (17, 1), (1, 1)])
def test_lpsnet_takes_small_images(size):
    network = build('lpsnet', SMALL | {'ratios': (1.0, 0.25, 0.125)})
    with torch.inference_mode():
        assert torch.isfinite(network(torch.randn(1, 3, *size))).all()


def test_lpsnet_order_of_ratios_does_not_matter():
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        results = [
            build('lpsnet', SMALL | {'ratios': ratios})(images)
            for ratios in ((1.0, 0.5, 0.25), (0.25, 1.0, 0.5))]
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_lpsnet_paths_exchange_features():
    network = build('lpsnet', SMALL | {'ratios': (1.0, 0.25)})
    # The classifier sees the first path alone, so a change in the other shows only if it is added.
    with torch.no_grad():
        network.classifier.weight[:, SMALL['widths'][-1]:] = 0
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        before = network(images)
        network.paths[1][0][0][0].weight.mul_(2)
        assert (network(images) - before).abs().max() > 1e-3


def test_the_channels_of_images_matter():
    for name, arguments in (('lmiinet', {}), ('lpsnet', SMALL)):
        network = build(name, arguments)
        images = torch.randn(1, 3, 32, 32)
        with torch.inference_mode():
            assert (network(images) - network(images.flip(1))).abs().max() > 1e-3


@pytest.mark.parametrize('name, arguments, message', [
    ('unet', {}, r"no network 'unet'; there are: lmiinet, lpsnet, lpsnet_s, lpsnet_m, lpsnet_l"),
    ('lmiinet', {'widths': (1,)}, "network 'lmiinet': .*widths"),
    ('lpsnet', {}, "network 'lpsnet': .*depths"),
    ('lpsnet', SMALL | {'depths': (1, 1, 1, 1)}, r'depths must be 5 .* got \[1, 1, 1, 1\]'),
    ('lpsnet', SMALL | {'depths': (1, 1, 0, 1, 1)}, r'depths must be 5 .* at least 1'),
    ('lpsnet', SMALL | {'widths': (4,) * 6}, r'widths must be 5'),
    ('lpsnet', SMALL | {'widths': (4, 4, 4, -4, 4)}, r'widths must be 5'),
    ('lpsnet', SMALL | {'ratios': ()}, r'ratios must be 1 to 3 .* got \[\]'),
    ('lpsnet', SMALL | {'ratios': (1, 0.5, 0.25, 0.125)}, r'ratios must be 1 to 3'),
    ('lpsnet', SMALL | {'ratios': (1, 0)}, r'ratios must be 1 to 3 numbers in \(0, 1\]'),
    ('lpsnet', SMALL | {'ratios': (1.5,)}, r'ratios must be 1 to 3 numbers in \(0, 1\]'),
    ('lpsnet', SMALL | {'ratios': 0.5}, "network 'lpsnet'"),
])
def test_what_is_no_network_is_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        networks.build(name, 11, **arguments)
    assert '\n' not in str(caught.value)


def test_the_shipped_sizes_of_lpsnet():
    for name, values in (('s', lpsnet.S), ('m', lpsnet.M), ('l', lpsnet.L)):
        by_name = networks.build(f'lpsnet_{name}', 3).state_dict()
        by_values = networks.build('lpsnet', 3, **values).state_dict()
        assert {key: value.shape for key, value in by_name.items()} == {
            key: value.shape for key, value in by_values.items()}


@BOTH
def test_every_parameter_learns(name, arguments):
    torch.manual_seed(0)
    network = networks.build(name, 11, **arguments).train()
    logits = network(torch.randn(2, 3, 64, 96))
    F.cross_entropy(logits, torch.randint(11, (2, *logits.shape[-2:]))).backward()
    without = [
        key for key, parameter in network.named_parameters()
        # A one-sided input leaves the slope for the other side without gradient, by chance.
        if parameter.grad is None or (parameter.ndim > 1 and not parameter.grad.any())]
    assert not without


@BOTH
def test_folding_leaves_the_output(name, arguments):
    network = build(name, arguments)
    images = torch.randn(2, 3, 90, 120)
    with torch.inference_mode():
        expected = network(images)
        found = fold_batch_norm(network)(images)
    assert_close(found.numpy(), expected.numpy())


@BOTH
def test_folding_leaves_no_normalisation_behind_a_convolution(name, arguments):
    left = [
        path for path, module in fold_batch_norm(build(name, arguments)).named_modules()
        if isinstance(module, nn.BatchNorm2d)]
    # These follow a concatenation or a product.
    assert left == (['down1.norm.0', 'down2.norm.0', 'norm.0'] if name == 'lmiinet' else [])


@BOTH
def test_folding_does_not_change_the_network(name, arguments):
    network = build(name, arguments).train()
    before = copy.deepcopy(network.state_dict())
    structure = str(network)
    folded = fold_batch_norm(network)
    assert not folded.training
    assert network.training
    assert str(network) == structure
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.zero_()
    assert torch.equal(network.state_dict()['classifier.weight'], before['classifier.weight'])


@BOTH
def test_deployed_network_takes_camera_pixels(name, arguments):
    network = build(name, arguments)
    frames = pixels(2, 64, 96)
    rgb = frames.numpy()[..., ::-1] / 255
    normalised = torch.from_numpy(((rgb - MEAN) / STD).transpose(0, 3, 1, 2)).float()
    deployed = DeployedNetwork(network, MEAN, STD)
    with torch.inference_mode():
        expected = network(normalised)
        found = deployed(frames)
    assert_close(found.numpy(), expected.numpy())
    assert deployed.align_corners is network.align_corners is (name == 'lpsnet')


@BOTH
def test_onnx_runtime_agrees(name, arguments, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    path = tmp_path / 'network.onnx'
    # 90x120 is 6x8 at 1/16: both are rounded up on the way down and cut on the way up.
    frames = pixels(1, 90, 120)
    deployed = DeployedNetwork(build(name, arguments), MEAN, STD).eval()
    torch.onnx.export(
        deployed, (frames,), str(path), dynamo=True, input_names=['frames'],
        output_names=['logits'], verbose=False)
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    assert session.get_inputs()[0].type == 'tensor(uint8)'
    found, = session.run(None, {'frames': frames.numpy()})
    with torch.inference_mode():
        expected = deployed(frames)
    assert_close(found, expected.numpy())
    best = expected.topk(2, dim=1).values
    clear = (best[:, 0] - best[:, 1] > 2e-4 * best.max().clamp(min=1)).numpy()
    assert clear.mean() > 0.95
    assert (found.argmax(1) == expected.argmax(1).numpy())[clear].all()


# Training

@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize('shape', [(2, 3, 5, 7), (4, 3)])
def test_prelu_has_the_gradients_of_torch(dtype, shape):
    torch.manual_seed(1)
    x = torch.randn(shape, dtype=dtype)
    x[0] = 0
    grad = torch.randn(shape, dtype=dtype)
    found = []
    for module in (PReLU(3), torch.nn.PReLU(3)):
        module = module.to(dtype)
        with torch.no_grad():
            module.weight.copy_(torch.tensor([0.25, -0.5, 0.0]))
        leaf = x.clone().requires_grad_()
        output = module(leaf)
        output.backward(grad)
        found.append((output.detach(), leaf.grad, module.weight.grad))
    tolerance = {'rtol': 2e-2, 'atol': 2e-2} if dtype == torch.bfloat16 else {}
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs, **tolerance)


def test_what_engines_run_does_not_keep_the_trained_network():
    network = networks.build('lpsnet_s', 11)
    original = weakref.ref(network)
    deployed = PathNetwork(network)
    del network
    gc.collect()
    assert original() is None
    assert deployed.input_sizes((512, 1024)) == [(384, 768), (128, 256)]
