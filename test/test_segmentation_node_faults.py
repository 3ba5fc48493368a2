# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Broken images, broken networks, wrong arguments and signals: the node says what, and how."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
import re
import signal
import sys
import time

from lmii_ros import frames
from lmii_ros import weights
import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from ros_client import NODE  # noqa: E402
from ros_client import image  # noqa: E402
from ros_client import nanoseconds  # noqa: E402
from ros_client import stamp  # noqa: E402
from sensor_msgs.msg import CompressedImage  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

HEIGHT, WIDTH = 64, 96
FRAME = np.random.default_rng(3).integers(1, 256, (HEIGHT, WIDTH * 3), np.uint8)
FLOOD = 300
STOP_LIMIT_S = 2.0


@pytest.fixture(scope='module')
def node(start_module_node, tiny_weights):
    return start_module_node('segmentation_node', weights=tiny_weights, threads=1)


def good_frames_flow(client, publisher, labels):
    """Send frames until one is labelled, as a camera would."""
    first = good_frames_flow.stamp + 1
    del labels[:]
    for _ in range(100):
        good_frames_flow.stamp += 1
        publisher.publish(image(FRAME, 'bgr8', good_frames_flow.stamp))
        client.spin(0.1)
        if any(nanoseconds(message) >= first for message in labels):
            return
    raise AssertionError('no frame was labelled')


good_frames_flow.stamp = 10 ** 18


def test_why_no_frames_come_is_told(start_node, tiny_weights, client):
    client.namespace = '/silent'
    node = start_node(
        'segmentation_node', '-r', '__ns:=/silent', weights=tiny_weights, threads=1,
        stale_after=0.5)
    node.wait_for_output(r'waiting for images on /silent/image \(sensor_msgs/msg/Image\)')

    def is_told(reason):
        return client.status(lambda status: (
            status.level == DiagnosticStatus.STALE
            and re.fullmatch(f'no frames for .* s: {reason}', status.message)))

    is_told('nothing is published on /silent/image')
    node.wait_for_output('no images: nothing is published on /silent/image')
    for message_type, topic, reason in (
            (CompressedImage, 'image/compressed', 'nothing is published on /silent/image; '
             'image_transport compressed would find images on /silent/image/compressed'),
            (CompressedImage, 'image', '/silent/image is of type '
             'sensor_msgs/msg/CompressedImage, expected sensor_msgs/msg/Image'),
            (Image, 'image', 'what publishes on /silent/image sends none')):
        publisher = client.node.create_publisher(message_type, f'/silent/{topic}', 1)
        is_told(reason)
        client.node.destroy_publisher(publisher)


def garbage(generator):
    """Return an image message of which nothing needs to fit anything else."""
    def one_of(*values):
        return values[generator.integers(len(values))]

    def size():
        return int(one_of(0, 1, 3, 64, 96, 640, 2 ** 31, 2 ** 32 - 1, generator.integers(2 ** 32)))

    message = Image(
        height=size(), width=size(), step=size(), is_bigendian=int(generator.integers(256)),
        encoding=one_of(*frames.ENCODINGS, '', 'x' * 10000, '\n\x01\U0001f697', '32FC1', 'BGR8'))
    message.header.frame_id = one_of('', '/', 'ÿ' * 300, 'camera\n')
    message.header.stamp = stamp(0)
    message.header.stamp.sec = int(generator.integers(-2 ** 31, 2 ** 31))
    message.header.stamp.nanosec = int(generator.integers(2 ** 32))
    message.data.frombytes(generator.bytes(int(one_of(0, 1, 100, 6144, 20000))))
    return message


def test_a_flood_of_garbage_is_dropped_and_counted(node, client):
    labels = client.listen(Image, f'{NODE}/labels')
    publisher = client.publisher(Image, 'image')
    good_frames_flow(client, publisher, labels)
    before = client.status()
    warnings = node.output.count('frame dropped')
    started = time.monotonic()
    generator = np.random.default_rng(0)
    for _ in range(FLOOD):
        publisher.publish(garbage(generator))
        client.spin(0.005)
    for fields in (
            {'encoding': 'bayer'}, {'width': 0}, {'height': 2 ** 31}, {'step': 5},
            {'height': HEIGHT + 1}):
        publisher.publish(image(FRAME, **{'encoding': 'bgr8', **fields}))
        client.spin(0.1)
    after = client.status(
        lambda status: status.count('frames received') >= before.count('frames received') + 100)
    # Labels may have been missing for longer than stale_after already.
    assert after.level in (DiagnosticStatus.WARN, DiagnosticStatus.ERROR)
    assert 'frames dropped: ' in after.message
    assert {'unknown_encoding', 'bad_size', 'bad_step', 'truncated_data'} <= set(after.dropped)
    elapsed = time.monotonic() - started
    assert 1 <= node.output.count('frame dropped') - warnings <= 2 + elapsed / 5
    good_frames_flow(client, publisher, labels)
    client.status(lambda status: status.level == DiagnosticStatus.OK)
    balanced = client.status(lambda status: status.count('frames received') == (
        status.count('frames labelled') + sum(status.dropped.values())))
    assert set(balanced.dropped) <= {
        'superseded', 'no_subscriber', 'unknown_encoding', 'bad_size', 'bad_step',
        'truncated_data'}


def test_data_that_is_no_message_at_all(node, client):
    labels = client.listen(Image, f'{NODE}/labels')
    publisher = client.publisher(Image, 'image')
    good_frames_flow(client, publisher, labels)
    generator = np.random.default_rng(0)
    for size in (0, 1, 4, 20, 500):
        publisher.publish(b'\x00\x01\x00\x00' + generator.bytes(size))
        client.spin(0.05)
    good_frames_flow(client, publisher, labels)
    balanced = client.status(lambda status: status.count('frames received') == (
        status.count('frames labelled') + sum(status.dropped.values())))
    assert balanced.dropped['malformed'] >= 4
    assert 'Traceback' not in node.output


def test_lines_are_few_and_no_tracebacks(node):
    # After the tests before, with their hundreds of faults.
    assert len(node.lines) < 40
    assert 'Traceback' not in node.output


def overflowing(tiny_weights, path, mean):
    """Write finite weights that give infinite values for images, other than those of the mean."""
    info, network = weights.load(tiny_weights)
    network.classifier.weight.data.fill_(3e38)
    weights.save(path, replace(info, mean=mean), network)
    return path


def test_output_that_is_not_finite_is_never_published(
        start_node, client, tiny_weights, tmp_path):
    client.namespace = '/overflow'
    path = overflowing(tiny_weights, tmp_path / 'overflow.safetensors', (0.0, 0.0, 0.0))
    node = start_node('segmentation_node', '-r', '__ns:=/overflow', weights=path, threads=1)
    labels = client.listen(Image, f'/overflow{NODE}/labels')
    publisher = client.publisher(Image, '/overflow/image')
    black = image(np.zeros_like(FRAME), 'bgr8', 1)
    client.until(lambda: (publisher.publish(black), client.spin(0.1), labels)[-1])
    for index in range(10):
        publisher.publish(image(FRAME, 'bgr8', 100 + index))
        # Not spun meanwhile: the only diagnostics that tell could come now.
        time.sleep(0.05)
    status = client.status(lambda status: status.level == DiagnosticStatus.ERROR)
    assert status.message == 'the network gives values that are not finite'
    assert status.dropped['non_finite_output'] > 0
    assert {nanoseconds(message) for message in labels} == {1}
    publisher.publish(black)
    client.status(lambda status: status.level == DiagnosticStatus.OK)
    assert node.running


def write(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize('parameters, line', [
    ({'weights': 'nothing'}, 'cannot configure: no weight file nothing; shipped with the package '
     'are: '),
    ({'weights': lambda tiny, folder: write(folder / 'x.safetensors', b'\xff' * 1000)},
     'cannot configure: weight file .*x.safetensors cannot be read'),
    ({'weights': lambda tiny, folder: write(
        folder / 'x.safetensors', tiny.read_bytes()[:-100])},
     'cannot configure: weight file .*x.safetensors cannot be read'),
    ({'weights': lambda tiny, folder: overflowing(tiny, folder / 'x.safetensors', (0.5,) * 3)},
     'cannot configure: the network gave values that are not finite'),
    ({'engine': 'magic'}, "cannot configure: no engine 'magic'; there are: auto, "),
    ({'device': 'tpu'}, "cannot configure: no device 'tpu'"),
    ({'device': 'cuda:7'}, "cannot configure: device 'cuda:7' was asked for"),
    ({'drivable_classes': ['Lane']}, "cannot configure: no class 'Lane' in class table 'camvid'"),
    ({'opacity': 2.0}, 'opacity out of range'),
    ({'opacity': 'much'}, "'opacity' to 'much' of type 'STRING', expecting type 'DOUBLE'"),
    ({'input_height': 10}, 'input_height 10 is neither 0 nor at least 64'),
    ({'image_transport': 'fax'}, "image_transport 'fax' is none of raw, compressed"),
    ({'qos_overrides./image.subscription.reliability': 'certain'},
     'cannot activate: Unexpected QoS override for policy `reliability`: `certain`'),
])
def test_what_cannot_work_is_said_in_one_line(
        start_node, tiny_weights, tmp_path, parameters, line):
    values = {'weights': tiny_weights, **parameters}
    values = {
        name: value(tiny_weights, tmp_path) if callable(value) else value
        for name, value in values.items()}
    node = start_node('segmentation_node', **values)
    assert node.wait() == 1
    node.wait_for_output(line)
    faults = [text for text in node.lines if not text.startswith('[INFO]')]
    assert len(faults) == 1, node.output


def test_misspelt_parameters_are_named(start_node, tiny_weights, tmp_path):
    file = tmp_path / 'parameters.yaml'
    file.write_text(
        '/**:\n  ros__parameters:\n    use_sim_time: false\n    wheel_radius: 0.3\n'
        '    qos_overrides: {/image: {subscription: {depth: 2}}}\n')
    node = start_node(
        'segmentation_node', '--params-file', str(file), '-p', 'front.camera_pose:=[0.0]',
        weights=tiny_weights, threads=1, taget_fps=30.0)
    node.wait_for_output('tiny.safetensors: ')
    ignored = [line.split('ignored ')[1] for line in node.lines if 'ignored ' in line]
    assert ignored == [
        'front.camera_pose, which is no parameter of this node; is camera_pose meant?',
        'taget_fps, which is no parameter of this node; is target_fps meant?']


def test_arguments_that_ros_does_not_know(start_node):
    node = start_node('segmentation_node', '--unknown')
    assert node.wait() == 1
    assert node.lines == ["cannot use the arguments after --ros-args: ['--unknown']"]


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_when_idle(start_node, client, tiny_weights, number):
    # The client's, and those that tests before have left.
    before = {str(path) for path in Path('/dev/shm').glob('fastrtps_*')}
    # The empty list, which has no type in YAML, is as good as the default.
    node = start_node(
        'segmentation_node', weights=tiny_weights, threads=1, drivable_classes=[])
    client.status(lambda status: status.message != 'inactive')
    segments = set()
    if Path('/dev/shm').is_dir():
        # Not all that a process maps may show while it maps more.
        segments = client.until(lambda: shared_memory(node.popen.pid) - before)
    check_end(node, number)
    assert not [path for path in segments if Path(path).exists()]


def shared_memory(process):
    """Return the files of Fast DDS that a process has mapped."""
    maps = Path(f'/proc/{process}/maps').read_text()
    return set(re.findall(r'/dev/shm/fastrtps_[0-9a-f]{16}', maps))


def check_end(node, number):
    code, seconds = node.signal(number)
    assert code == 0, node.output
    assert not re.search('Traceback|[Ee]xception', node.output), node.output
    assert seconds < STOP_LIMIT_S


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_under_full_load(start_node, client, number):
    namespace = '-r', '__ns:=/load'
    node = start_node('segmentation_node', *namespace)
    start_node(
        'camera_simulator_node', *namespace, rate=50.0, preload=4, width=640, height=480,
        wait_for_subscribers=1)
    outputs = [
        client.listen(Image, f'/load{NODE}/{name}')
        for name in ('labels', 'color', 'overlay', 'confidence', 'drivable')]
    client.until(lambda: all(len(messages) > 2 for messages in outputs))
    check_end(node, number)


def test_a_signal_while_the_network_is_prepared_for_another_size(start_node, client):
    namespace = '-r', '__ns:=/prepare'
    node = start_node('segmentation_node', *namespace)
    client.listen(Image, f'/prepare{NODE}/labels')
    start_node(
        'camera_simulator_node', *namespace, rate=5.0, preload=1, width=1280, height=720,
        wait_for_subscribers=1)
    node.wait_for_output('frames of 1280x720: preparing')
    check_end(node, signal.SIGINT)


def handles_signals(node):
    """Return whether the process has set a handler for SIGTERM; Python sets none by itself."""
    with open(f'/proc/{node.popen.pid}/status') as file:
        caught = next(line for line in file if line.startswith('SigCgt'))
    return int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1


@pytest.mark.parametrize('seconds', [0.0, 0.3, 1.5])
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_while_starting(start_node, number, seconds):
    node = start_node('segmentation_node')
    while not handles_signals(node):
        time.sleep(0.01)
    time.sleep(seconds)
    check_end(node, number)


INTERRUPTED_IN_A_CONSTRUCTOR = """
import os, signal, sys
from lmii_ros.nodes import process

class HalfMade:
    def __init__(self):
        os.kill(os.getpid(), signal.SIGINT)
        self.made = True

    def __del__(self):
        print('ended', self.made)

sys.exit(process.run(HalfMade))
"""


def test_a_signal_that_leaves_an_object_half_made(start_process):
    process = start_process(sys.executable, '-c', INTERRUPTED_IN_A_CONSTRUCTOR)
    assert process.wait() == 0, process.output
    assert process.output == ''
