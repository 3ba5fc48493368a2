# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""From camera to labels over DDS, with all three as processes: our node and the naive one."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import Image

from lmii_ros import frames
from lmii_ros import machine
from lmii_ros import weights
from lmii_ros.nodes import child_nodes
from lmii_ros.nodes.camera_stream import STEPS
from lmii_ros.nodes.child_nodes import ChildNodes
from lmii_ros.nodes.observer_node import ObserverNode
from lmii_ros.nodes.outputs import TOPICS
from lmii_ros.nodes.statistics import FrameCounts
from lmii_ros.segmenter import input_size_of

OURS = 'segmentation_node'
NAIVE = 'naive_node'
NAIVE_OUTPUTS = ('labels', 'overlay')
PICTURES = 8
"""Different frames that the camera repeats, made beforehand."""
WARM_UP_RATE = 2.0
WARM_UP_TIMEOUT_S = 120.0
"""How long the first labels may take: a network that is new to the machine is compiled."""
QUIET_S = 2.5
"""After so long without a message none will come; the node's own counts come every second."""
NAMESPACE = f'/lmii_benchmark_{os.getpid()}'
"""Of all nodes, so that other cameras in the same domain do not count."""
BUSY_LOOP = 'while True: pass'


class BenchmarkError(ValueError):
    """Something cannot be measured; the message is one line for the user."""


@dataclass(frozen=True)
class NodeBenchmark:
    """
    What to measure.

    :param weight_file: Path or name of a weight file.
    :param size: Width and height of the frames.
    :param rate: Frames per second.
    :param frames: How many, each round.
    :param outputs: What is subscribed to, of :data:`lmii_ros.nodes.outputs.TOPICS`; without any,
        the node only receives.
    :param input_height: Height at which the network sees the frames, 0 for that of its training.
    :param engine: As the node's parameter, like the three that follow.
    :param device: See there.
    :param precision: See there.
    :param threads: See there; of the naive node too.
    :param naive: Whether to measure the naive node too, in turns.
    :param rounds: Turns that each takes.
    :param busy: Processes that take all the processor time they get meanwhile.
    """

    weight_file: str
    size: tuple[int, int]
    rate: float = 30.0
    frames: int = 300
    outputs: tuple[str, ...] = ('labels', 'overlay')
    input_height: int = 0
    engine: str = 'auto'
    device: str = 'auto'
    precision: str = 'auto'
    threads: int = 0
    naive: bool = False
    rounds: int = 1
    busy: int = 0


@dataclass
class Turn:
    """
    What one node did with the frames of one turn.

    :param sent: Frames that the camera published.
    :param sent_hz: How many a second.
    :param latencies_s: From stamp to received labels, of each frame whose labels came.
    :param labelled_s: From the first to the last of them.
    :param dropped: Frames that did not come as labels, by reason.
    :param cpu_s: Processor time of the node's process.
    :param camera_cpu_s: The same of the camera's.
    :param steps_ms: Medians of what a frame went through in the node, by its own account.
    :param labels: Labels of each of the camera's pictures, uint8 [H, W], by its index.
    """

    sent: int
    sent_hz: float
    latencies_s: list[float]
    labelled_s: float
    dropped: Counter[str]
    cpu_s: float
    camera_cpu_s: float
    steps_ms: dict[str, float] = field(default_factory=dict)
    labels: dict[int, np.ndarray] = field(default_factory=dict)


def run(benchmark: NodeBenchmark) -> dict[str, Any]:
    """
    Measure, and return the results as plain values for a table or JSON.

    :raises BenchmarkError: If the naive node shall give what it cannot, or no labels come.
    :raises ChildNodeError: If a node ends.
    :raises WeightError: If there are no such weights.
    :raises EngineError: If the engine or device is not there.
    """
    unknown = set(benchmark.outputs) - TOPICS.keys()
    if unknown:
        raise BenchmarkError(f'no output {", ".join(unknown)}; there are: {", ".join(TOPICS)}')
    if benchmark.naive and not 0 < len(set(benchmark.outputs) & set(NAIVE_OUTPUTS)) == len(
            benchmark.outputs):
        raise BenchmarkError(
            f'the naive node gives {" and ".join(NAIVE_OUTPUTS)}; choose outputs of these')
    weight_file = weights.find(benchmark.weight_file)
    input_size = input_size_of(
        weights.read_info(weight_file), benchmark.input_height, benchmark.size[::-1])
    with child_nodes.observing():
        load = machine.facts()
        turns: dict[str, list[Turn]] = {NAIVE: [], OURS: []} if benchmark.naive else {OURS: []}
        facts = {}
        for _ in range(benchmark.rounds):
            for name, done in turns.items():
                turn, told = _take_turn(name, benchmark, input_size)
                done.append(turn)
                facts.update(told)
        return {
            'weights': weight_file.name,
            'frame': f'{benchmark.size[0]}x{benchmark.size[1]}',
            'input': f'{input_size[1]}x{input_size[0]}',
            'rate': benchmark.rate,
            'outputs': list(benchmark.outputs),
            'threads': benchmark.threads,
            'busy': benchmark.busy,
            'rounds': benchmark.rounds,
            **{key: facts[key] for key in ('engine', 'device', 'precision') if key in facts},
            'machine': {**load, 'rmw': rclpy.get_rmw_implementation_identifier()},
            'nodes': [_summary(name, done, turns) for name, done in turns.items()],
        }


def table(results: dict[str, Any]) -> str:
    """Return the results of :func:`run` as a table for a terminal."""
    lines = [
        '{weights}, frame {frame} at {rate:g} Hz, input {input}, outputs '.format(**results)
        + (', '.join(results['outputs']) or 'none'),
        str(results['machine']),
        f'{"":<18}{"sent":>6}{"labelled":>9}{"Hz":>7}{"p50 ms":>9}{"p99 ms":>9}'
        f'{"CPU ms/frame":>14}{"x naive":>9}{"CPU %":>7}{"camera %":>9}{"agreement":>11}']
    for node in results['nodes']:
        lines.append(
            '{name:<18}{sent:6}{labelled:9}'.format(**node) + ''.join(
                f'{"-":>{width}}' if node[key] is None else f'{node[key]:{width}.{digits}f}'
                for key, width, digits in (
                    ('labelled_hz', 7, 1), ('latency_p50_ms', 9, 1), ('latency_p99_ms', 9, 1),
                    ('cpu_ms_per_frame', 14, 1), ('times_naive_cpu', 9, 2),
                    ('cpu_percent', 7, 1), ('camera_cpu_percent', 9, 1),
                    ('label_agreement', 11, 4))))
    for node in results['nodes']:
        dropped = ', '.join(f'{reason} {count}' for reason, count in node['dropped'].items())
        lines.append(f'{node["name"]}: dropped {dropped or "none"}')
        if node['steps_ms']:
            lines.append(
                '  medians: ' + ', '.join(
                    f'{name} {value:.2f} ms' for name, value in node['steps_ms'].items())
                + f'; beside the network {node["beside_network_ms"]:.2f} ms, '
                f'{node["beside_network_percent"]:.0f} %')
    return '\n'.join(lines)


def _take_turn(
    name: str, benchmark: NodeBenchmark, input_size: tuple[int, int],
) -> tuple[Turn, dict[str, str]]:
    parameters: dict[str, object] = {
        'weights': benchmark.weight_file, 'threads': benchmark.threads,
        'input_height': input_size[0]}
    if name == NAIVE:
        parameters['input_width'] = input_size[1]
    else:
        parameters |= {
            'engine': benchmark.engine, 'device': benchmark.device,
            'precision': benchmark.precision}
    observer = ObserverNode(NAMESPACE, name, benchmark.outputs)
    try:
        with ChildNodes() as children:
            node = children.start(name, parameters, NAMESPACE)
            child_nodes.wait_for_publisher(
                observer, f'{NAMESPACE}/{name}/{(*benchmark.outputs, "labels")[0]}', node)
            if benchmark.outputs:
                _warm_up(observer, children, node, benchmark)
            for _ in range(benchmark.busy):
                children.run('-c', BUSY_LOOP)
            return _measure(observer, children, node, benchmark), observer.told
    finally:
        observer.destroy_node()


def _start_camera(
    observer: ObserverNode, children: ChildNodes, benchmark: NodeBenchmark, **parameters: object,
) -> subprocess.Popen:
    """Return a camera that has begun to publish, once it knows node and observer."""
    observer.forget()
    width, height = benchmark.size
    camera = children.start('camera_simulator_node', {
        'width': width, 'height': height, 'preload': PICTURES, 'wait_for_subscribers': 2,
        **parameters}, NAMESPACE)
    # Only so that the camera waits for us: the images themselves would take processor time.
    subscription = observer.create_subscription(
        Image, 'image', lambda message: None,
        QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    while not observer.stamps:
        rclpy.spin_once(observer, timeout_sec=0.1)
        child_nodes.check_running(camera)
    observer.destroy_subscription(subscription)
    return camera


def _warm_up(
    observer: ObserverNode, children: ChildNodes, node: subprocess.Popen, benchmark: NodeBenchmark,
) -> None:
    """Let the node label a frame, then wait until it has told of the last one."""
    camera = _start_camera(observer, children, benchmark, rate=WARM_UP_RATE, preload=1)
    deadline = time.monotonic() + WARM_UP_TIMEOUT_S
    while len(observer.received) < len(benchmark.outputs):
        rclpy.spin_once(observer, timeout_sec=0.1)
        for process in (node, camera):
            child_nodes.check_running(process)
        if time.monotonic() > deadline:
            raise BenchmarkError(f'no labels within {WARM_UP_TIMEOUT_S:.0f} s')
    camera.terminate()
    while camera.poll() is None or observer.silence_s() < QUIET_S:
        rclpy.spin_once(observer, timeout_sec=0.1)
        child_nodes.check_running(node)


def _measure(
    observer: ObserverNode, children: ChildNodes, node: subprocess.Popen, benchmark: NodeBenchmark,
) -> Turn:
    told = observer.told
    camera = _start_camera(
        observer, children, benchmark, rate=float(benchmark.rate), frames=benchmark.frames)
    began = _cpu_s(node), _cpu_s(camera)
    ended = began
    while camera.poll() is None or observer.silence_s() < QUIET_S:
        seen = observer.last_message
        rclpy.spin_once(observer, timeout_sec=0.1)
        child_nodes.check_running(node)
        if observer.last_message > seen:
            # What a process that has ended had used is not to be read any more.
            ended = _cpu_s(node), _cpu_s(camera) if camera.poll() is None else ended[1]
    if camera.returncode:
        raise BenchmarkError('the camera failed, see above')
    # Labels, or where these were not asked for, another output of the same frame.
    received = next(iter(observer.received.values()), {})
    received = observer.received.get('labels', received)
    arrived = sorted(received.values())
    # Which picture a frame was is known only if no stamp got lost.
    index = {} if len(observer.stamps) < benchmark.frames else {
        stamp: number % PICTURES for number, stamp in enumerate(observer.stamps)}
    return Turn(
        sent=benchmark.frames,
        sent_hz=1e9 * (len(observer.stamps) - 1) / (observer.stamps[-1] - observer.stamps[0]),
        latencies_s=[(at - stamp) / 1e9 for stamp, at in received.items()],
        labelled_s=(arrived[-1] - arrived[0]) / 1e9 if arrived else 0.0,
        dropped=_dropped(benchmark.frames, len(received), told, observer.told),
        cpu_s=ended[0] - began[0],
        camera_cpu_s=ended[1] - began[1],
        steps_ms={
            step: float(observer.told[f'{step} p50 (ms)']) for step in STEPS
            if f'{step} p50 (ms)' in observer.told},
        labels={
            index[stamp]: frames.decode_labels(message)
            for stamp, message in observer.labels.items() if stamp in index},
    )


def _dropped(
    sent: int, labelled: int, before: dict[str, str], after: dict[str, str],
) -> Counter[str]:
    """Return where the frames went that did not come as labels; these counts and those add up."""
    if not after:
        return +Counter({'queue or transport': sent - labelled})
    counts = FrameCounts.between(before, after)
    return counts.dropped + Counter({
        'lost before the node': sent - counts.received,
        'lost after the node': counts.labelled - labelled})


def _cpu_s(process: subprocess.Popen) -> float:
    """Return the processor time that a process has used (proc(5), fields 14 and 15)."""
    fields = Path(f'/proc/{process.pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def _summary(name: str, done: list[Turn], turns: dict[str, list[Turn]]) -> dict[str, Any]:
    latencies = [latency for turn in done for latency in turn.latencies_s]
    labelled = len(latencies)
    p50, p99 = 1000 * np.percentile(latencies, (50, 99)) if latencies else (None, None)
    cpu_s = sum(turn.cpu_s for turn in done)
    sent_s = sum(turn.sent / turn.sent_hz for turn in done)
    steps = {
        step: float(np.median([turn.steps_ms[step] for turn in done]))
        for step in done[0].steps_ms}
    beside = sum(steps.values()) - steps.get('segmenting', 0.0)
    return {
        'name': name,
        'sent': sum(turn.sent for turn in done),
        'sent_hz': sum(turn.sent for turn in done) / sent_s,
        'labelled': labelled,
        'dropped': dict(sum((turn.dropped for turn in done), Counter())),
        'labelled_hz': (
            (labelled - len(done)) / sum(turn.labelled_s for turn in done)
            if labelled > len(done) else None),
        'latency_p50_ms': p50,
        'latency_p99_ms': p99,
        'cpu_ms_per_frame': 1000 * cpu_s / (labelled or sum(turn.sent for turn in done)),
        'cpu_percent': 100 * cpu_s / sent_s,
        'camera_cpu_percent': 100 * sum(turn.camera_cpu_s for turn in done) / sent_s,
        'steps_ms': steps,
        'beside_network_ms': beside if steps else None,
        'beside_network_percent': 100 * beside / sum(steps.values()) if steps else None,
        'times_naive_cpu': float(np.median([
            _cpu_per_frame(naive) / _cpu_per_frame(turn)
            for naive, turn in zip(turns[NAIVE], done)])) if NAIVE in turns else None,
        'label_agreement': _agreement(done, turns[NAIVE]) if NAIVE in turns else None,
    }


def _cpu_per_frame(turn: Turn) -> float:
    return turn.cpu_s / max(len(turn.latencies_s), 1)


def _agreement(done: list[Turn], naive: list[Turn]) -> float | None:
    """Return the share of pixels with the naive node's label, of pictures that both labelled."""
    equal = [
        turn.labels[index] == reference.labels[index]
        for turn, reference in zip(done, naive) for index in turn.labels.keys() & reference.labels]
    return float(np.mean(equal)) if equal else None
