# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The benchmarks count what they say, and what they compare gives the same labels."""

from __future__ import annotations

import json
import sys

from lmii_ros import cli
from lmii_ros.benchmark import network
import pytest
import torch

pytest.importorskip('openvino')
pytest.importorskip('rclpy')

TIMEOUT_S = 120.0


def start(start_process, *arguments):
    return start_process(sys.executable, '-m', 'lmii_ros.cli', 'benchmark', *arguments)


@pytest.fixture
def results(start_process, tmp_path):
    """Return a function that runs a benchmark and returns its JSON and what it has printed."""
    def run(*arguments):
        process = start(start_process, *arguments, '--json', tmp_path / 'results.json')
        assert process.wait(TIMEOUT_S) == 0, process.output
        assert 'Traceback' not in process.output
        assert not process.has_left_processes()
        return json.loads((tmp_path / 'results.json').read_text()), process.output
    return run


def test_a_network_on_every_engine(results, tiny_weights):
    found, output = results(
        'network', '--weights', tiny_weights, '--sizes', '96x64', '--batch', '2', '--rounds', '1')
    entry, = found['networks']
    contenders = {contender['name']: contender for contender in entry['engines']}
    assert {'eager torch fp32', 'openvino fp32', 'torch fp32'} <= contenders.keys()
    assert entry['peaks'].keys() == {name.split()[-1] for name in contenders}
    for name, contender in contenders.items():
        assert name in output
        if name.endswith('fp32'):
            assert contender['label_agreement'] > 0.999
        assert 0 < contender['peak_share'] < 1
        assert contender['gmac_per_s'] * contender['cpu_ms'] / 1000 == pytest.approx(entry['gmac'])
    assert contenders['eager torch fp32']['times_eager_cpu'] == 1


def test_multiply_accumulates_and_names_of_networks():
    found = network.run(network.NetworkBenchmark(
        subjects=('lpsnet_s',), sizes=((512, 256), (1024, 512)), contenders=(('torch', 'fp32'),),
        rounds=1))
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    # Those of the published network.
    assert [entry['gmac'] for entry in found['networks']] == [
        pytest.approx(0.651, rel=0.01), pytest.approx(2.605, rel=0.01)]


def test_eager_torch_leaves_the_network_to_the_engines_as_it_was():
    info, net = network._load('lpsnet_s')
    network._Eager(net, info, torch.device('meta'))
    assert {parameter.device.type for parameter in net.parameters()} == {'cpu'}


def test_a_pipeline_gives_the_naive_labels(results, tiny_weights):
    found, _ = results(
        'pipeline', '--weights', tiny_weights, '--size', '96x64', '--input-height', '64',
        '--rounds', '1')
    assert [entry['name'] for entry in found['pipelines']] == [
        'naive', 'torch fp32', 'openvino fp32']
    assert all(entry['label_agreement'] > 0.999 for entry in found['pipelines'])


def test_both_nodes_label_what_the_camera_sends(results, tiny_weights):
    found, output = results(
        'node', '--weights', tiny_weights, '--size', '96x64', '--rate', '10', '--frames', '12',
        '--precision', 'fp32', '--threads', '1', '--naive')
    nodes = {node['name']: node for node in found['nodes']}
    assert nodes.keys() == {'naive_node', 'segmentation_node'}
    for name, node in nodes.items():
        assert name in output
        assert node['sent'] == 12 == node['labelled'] + sum(node['dropped'].values())
        assert node['labelled'] > 0
        assert node['label_agreement'] > 0.999
        assert 0 < node['latency_p50_ms'] <= node['latency_p99_ms']
    ours = nodes['segmentation_node']
    assert ours['steps_ms'].keys() == {'waiting', 'decoding', 'segmenting', 'publishing'}
    assert 0 < ours['beside_network_ms'] < sum(ours['steps_ms'].values())


def test_a_node_that_nobody_listens_to_only_receives(results, tiny_weights):
    found, _ = results(
        'node', '--weights', tiny_weights, '--size', '96x64', '--rate', '20', '--frames', '10',
        '--outputs')
    node, = found['nodes']
    assert node['labelled'] == 0 and node['latency_p50_ms'] is None
    assert sum(node['dropped'].values()) == 10
    assert node['dropped']['no_subscriber'] > 0


@pytest.mark.parametrize('arguments, line', [
    (['network', '--weights', 'nothing'], 'no weight file nothing; shipped'),
    (['network', '--contenders', 'torch:fp1'], 'no precision'),
    (['node', '--outputs', 'nothing'], 'no output nothing; there are: labels, color'),
    (['node', '--outputs', 'color', '--naive'], 'the naive node gives labels and overlay'),
])
def test_what_cannot_be_measured_is_said_in_a_line(start_process, arguments, line):
    process = start(start_process, *arguments)
    assert process.wait(TIMEOUT_S) == 1
    last, = process.lines
    assert last.startswith('lmii benchmark: ') and line in last


@pytest.mark.parametrize('arguments', [
    ('network', '--rounds', '0'), ('network', '--batch', '0'), ('pipeline', '--threads', '0'),
    ('node', '--rounds', '0'), ('node', '--frames', '1')])
def test_counts_that_cannot_be_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(['benchmark', *arguments])
    assert exit_.value.code == 2
    assert f'argument {arguments[1]}: ' in capsys.readouterr().err
