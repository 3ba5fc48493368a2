# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A widened LPS-Net computes what the narrower one did, and can learn more."""

from __future__ import annotations

from lmii_ros.networks.lpsnet import LPSNet
from lmii_ros.training.growth import widen
import pytest
import torch

DEPTHS = (1, 2, 2, 2, 2)
NARROW = (4, 6, 8, 10, 12)
WIDE = (4, 9, 20, 10, 30)


def trained(widths, ratios=(1.0, 0.5), depths=DEPTHS, num_classes=5, seed=1):
    """Return a network whose statistics, scales and biases are those of no fresh one."""
    torch.manual_seed(seed)
    network = LPSNet(num_classes, depths, widths, ratios)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for _ in range(3):
            network(torch.randn(2, 3, 48, 64) + 0.3)
    return network.eval()


@pytest.mark.parametrize('ratios', [(1.0,), (1.0, 0.5), (1.0, 0.75, 0.25)])
@pytest.mark.parametrize('training', [False, True])
def test_the_logits_stay_the_same(ratios, training):
    narrow = trained(NARROW, ratios).train(training)
    wide = LPSNet(5, DEPTHS, WIDE, ratios).train(training)
    widen(narrow, wide)
    image = torch.randn(2, 3, 50, 70)
    with torch.no_grad():
        torch.testing.assert_close(wide(image), narrow(image), rtol=1e-3, atol=1e-4)


def test_equal_widths_are_a_plain_copy():
    narrow = trained(NARROW, (0.75, 0.25))
    same = LPSNet(5, DEPTHS, NARROW, (1.0, 0.25))
    widen(narrow, same)
    for name, tensor in narrow.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name]), name


def test_copies_learn_different_things():
    wide = LPSNet(5, DEPTHS, WIDE, (1.0, 0.5)).train()
    widen(trained(NARROW), wide)
    wide(torch.randn(2, 3, 48, 64)).square().sum().backward()
    gradients = wide.paths[0][2][0][0].weight.grad.flatten(1)
    assert len(torch.unique(gradients, dim=0)) == WIDE[2]


@pytest.mark.parametrize('change, message', [
    ({'widths': (4, 6, 8, 10, 11)}, r'widths \[4, 6, 8, 10, 12\] cannot become'),
    ({'depths': (1, 2, 2, 2, 3)}, 'depths'),
    ({'ratios': (1.0,)}, '2 paths cannot become 1'),
    ({'num_classes': 6}, '5 classes cannot become 6'),
])
def test_what_does_not_fit_is_refused(change, message):
    arguments = {'num_classes': 5, 'depths': DEPTHS, 'widths': NARROW, 'ratios': (1.0, 0.5)}
    with pytest.raises(ValueError, match=message):
        widen(trained(NARROW), LPSNet(**(arguments | change)))
