# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""``lmii benchmark``: speed."""

from __future__ import annotations

import argparse
import json
import sys

from lmii_ros.cli import arguments


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to those of ``lmii``."""
    benchmark = commands.add_parser('benchmark', help='measure speed')
    subjects = benchmark.add_subparsers(dest='subject', required=True)
    network = subjects.add_parser(
        'network', help='networks on every engine, against eager torch, in turns')
    network.add_argument(
        '--weights', nargs='+', default=['lpsnet_s_camvid'], metavar='WEIGHTS',
        help='paths or names of weight files; or of networks, for random weights (%(default)s)')
    network.add_argument(
        '--sizes', type=arguments.size, nargs='+', default=[(1024, 512)], metavar='SIZE',
        help='at which the networks see frames (1024x512)')
    network.add_argument(
        '--batch', type=arguments.at_least(1), default=1, help='frames a run (%(default)s)')
    network.add_argument('--device', default='auto', help='auto, cpu or cuda (%(default)s)')
    _add_contenders(network, [], 'all there are')
    network.set_defaults(run=_benchmark_network)

    pipeline = subjects.add_parser(
        'pipeline', help='from frame to labels and overlay, against the naive way, in turns')
    pipeline.add_argument(
        '--weights', default='lpsnet_s_camvid', help='path or name (%(default)s)')
    pipeline.add_argument(
        '--size', type=arguments.size, default='1280x720', help='of frames (%(default)s)')
    pipeline.add_argument(
        '--input-height', type=int, default=512,
        help='at which the network sees the frames (%(default)s)')
    _add_contenders(pipeline, ['torch:fp32', 'openvino:fp32'], '%(default)s')
    pipeline.set_defaults(run=_benchmark_pipeline)

    node = subjects.add_parser(
        'node', help='from camera to labels over ROS 2, with all three as processes')
    node.add_argument('--weights', default='lpsnet_s_camvid', help='path or name (%(default)s)')
    node.add_argument(
        '--size', type=arguments.size, default='1280x720', help='of frames (%(default)s)')
    node.add_argument('--rate', type=float, default=30.0, help='frames per second (%(default)s)')
    node.add_argument(
        '--frames', type=arguments.at_least(2), default=300, help='each round (%(default)s)')
    node.add_argument(
        '--outputs', nargs='*', default=['labels', 'overlay'], metavar='OUTPUT',
        help='topics of the node to subscribe to; none, and it only receives (labels overlay)')
    node.add_argument(
        '--input-height', type=int, default=0,
        help='at which the network sees the frames (that of its training)')
    arguments.add_engine(node)
    node.add_argument('--threads', type=int, default=0, help='0 for the engine\'s choice')
    node.add_argument(
        '--naive', action='store_true', help='the node of the tutorials too, in turns')
    node.add_argument(
        '--rounds', type=arguments.at_least(1), default=1, help='(%(default)s)')
    node.add_argument(
        '--busy', type=int, default=0,
        help='processes beside it that take all the processor time they get (%(default)s)')
    _add_json(node)
    node.set_defaults(run=_benchmark_node)

    rates = subjects.add_parser(
        'rates', help='whether the node holds the rate it is asked for, over ROS 2')
    rates.add_argument(
        '--weights', nargs='+', default=['lpsnet_s_camvid', 'auto'], metavar='WEIGHTS',
        help='offered to the node, see lmii tune (all shipped ones for CamVid)')
    rates.add_argument(
        '--size', type=arguments.size, default='1280x720', help='of frames (%(default)s)')
    rates.add_argument(
        '--targets', type=float, nargs='+', default=[5, 10, 20, 30, 60], metavar='FPS',
        help='frames per second (%(default)s)')
    rates.add_argument('--seconds', type=float, default=20.0, help='each (%(default)s)')
    rates.add_argument(
        '--disturbed', type=float, default=20.0, metavar='FPS',
        help='rate at which another process takes a core, 0 for none (%(default)s)')
    rates.add_argument('--headroom', type=float, default=0.8, help='(%(default)s)')
    arguments.add_engine(rates)
    rates.add_argument('--threads', type=int, default=0, help='0 for the engine\'s choice')
    rates.add_argument(
        '--exhaustive', action='store_true',
        help='time all better candidates and run those that fit, to see whether one holds it')
    _add_json(rates)
    rates.set_defaults(run=_benchmark_rates)


def _add_contenders(parser: argparse.ArgumentParser, default: list[str], said: str) -> None:
    """Add what takes turns."""
    parser.add_argument(
        '--contenders', nargs='+', metavar='ENGINE:PRECISION', default=default, help=f'({said})')
    for name, default in (('--threads', 1), ('--rounds', 7)):
        parser.add_argument(
            name, type=arguments.at_least(1), default=default, help='(%(default)s)')
    _add_json(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--json', type=arguments.result_file, help='file for the same as JSON')


def _benchmark_network(options: argparse.Namespace) -> None:
    from lmii_ros.benchmark import network
    results = network.run(network.NetworkBenchmark(
        subjects=tuple(options.weights),
        sizes=tuple(options.sizes),
        contenders=_contenders(options), batch=options.batch, device=options.device,
        threads=options.threads, rounds=options.rounds))
    _show(network.table(results), results, options)


def _benchmark_pipeline(options: argparse.Namespace) -> None:
    from lmii_ros.benchmark import pipeline
    results = pipeline.run(pipeline.PipelineBenchmark(
        weight_file=options.weights, size=options.size, input_height=options.input_height,
        contenders=_contenders(options), threads=options.threads, rounds=options.rounds))
    _show(pipeline.table(results), results, options)


def _benchmark_node(options: argparse.Namespace) -> None:
    from lmii_ros.nodes import benchmark
    results = benchmark.run(benchmark.NodeBenchmark(
        weight_file=options.weights, size=options.size, rate=options.rate, frames=options.frames,
        outputs=tuple(options.outputs), input_height=options.input_height, engine=options.engine,
        device=options.device, precision=options.precision, threads=options.threads,
        naive=options.naive, rounds=options.rounds, busy=options.busy))
    _show(benchmark.table(results), results, options)


def _benchmark_rates(options: argparse.Namespace) -> None:
    from lmii_ros.nodes import rates_benchmark
    benchmark = rates_benchmark.RatesBenchmark(
        weight_files=tuple(options.weights), size=options.size, targets=tuple(options.targets),
        seconds=options.seconds, disturbed=options.disturbed, headroom=options.headroom,
        engine=options.engine, device=options.device, precision=options.precision,
        threads=options.threads, exhaustive=options.exhaustive)
    # It takes many minutes.
    results = rates_benchmark.run(benchmark, lambda line: print(line, file=sys.stderr))
    _show(rates_benchmark.table(results), results, options)


def _contenders(options: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    return tuple(
        (engine, precision or 'fp32') for engine, _, precision in (
            contender.partition(':') for contender in options.contenders))


def _show(table: str, results: dict[str, object], options: argparse.Namespace) -> None:
    print(table)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
