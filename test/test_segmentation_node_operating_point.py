# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A node that holds a frame rate: what it chooses, how it switches, what it refuses."""

from __future__ import annotations

from dataclasses import replace
import json
import re
import signal
import time

from lmii_ros import weights
from lmii_ros.operating_point import cache
from lmii_ros.segmenter import Segmenter
import numpy as np
import pytest

operation = pytest.importorskip('lmii_ros.nodes.operation')

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from ros_client import NODE  # noqa: E402
from ros_client import image  # noqa: E402
from ros_client import nanoseconds  # noqa: E402
from ros_client import pixels  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

HEIGHT, WIDTH = 240, 320
SCENE = np.random.default_rng(5).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
SCENE[:, :140] //= 4
TIMEOUT_S = 60.0
LADDER = (64, 96, 128, 160, 192, 224, 256)


@pytest.fixture(scope='module')
def node(start_module_node, rated_weights):
    return start_module_node(
        'segmentation_node', weights=rated_weights, threads=1, target_fps=4.0, engine='torch',
        **{'qos_overrides./image.subscription.reliability': 'reliable'})


class Camera:
    """Publishes one frame under a new stamp each time, and collects labels and overlays."""

    stamp = 0
    period_s = 0.25
    sent = 0.0

    def __init__(self, client, node):
        self.client = client
        node.wait_for_output(r'engine \w+ on cpu')
        self.received = {
            name: client.listen(Image, f'{NODE}/{name}') for name in ('labels', 'overlay')}
        self._publisher = client.publisher(Image, 'image')
        while not all(self.received.values()):
            self._send()
            client.spin(0.2)
        client.until(lambda: nanoseconds(self.received['labels'][-1]) == Camera.stamp, TIMEOUT_S)

    def hold(self, fps):
        """Set the node's target; return why it was refused, '' if it was not."""
        Camera.period_s = 1 / fps if fps else 0.0
        return self.client.set('target_fps', fps)

    def _send(self, scene=SCENE):
        # Of what comes faster, the node lets a part pass by.
        self.client.spin(Camera.sent + Camera.period_s - time.monotonic())
        Camera.sent = time.monotonic()
        self.publish(scene)

    def publish(self, scene=SCENE):
        """Send a frame at once."""
        Camera.stamp += 1
        self._publisher.publish(image(scene.reshape(len(scene), -1), 'bgr8', Camera.stamp))

    def see(self, scene=SCENE):
        """Send a frame and return its labels."""
        self._send(scene)
        self.client.until(lambda: all(
            messages and nanoseconds(messages[-1]) == Camera.stamp
            for messages in self.received.values()), TIMEOUT_S)
        return pixels(self.received['labels'][-1])

    def facts(self, condition=lambda facts: True):
        """Return the diagnostics' values once they are as wanted."""
        self.see()
        return self.client.status(lambda status: condition(status.values), TIMEOUT_S).values


@pytest.fixture
def camera(node, client):
    return Camera(client, node)


@pytest.fixture(scope='module')
def expected(rated_weights):
    """Return the labels of the scene at each input height."""
    labels = {}
    for height in LADDER:
        segmenter = Segmenter(rated_weights, threads=1, engine='torch', input_height=height)
        labels[height] = segmenter.segment([SCENE])[0].labels
    return labels


def heights_of(labels, expected):
    """Return the input heights whose labels these are."""
    return {height for height, wanted in expected.items() if np.array_equal(labels, wanted)}


def test_it_takes_the_best_that_fits_and_says_so(node, camera, expected):
    found = node.wait_for_output(
        r'320x240 at 4 frames/s: rated in fp32 at height (\d+), expected mIoU (\S+) %, p90 \S+ ms '
        r'of 200.0 ms; \d+ candidates timed')
    assert (found[1], found[2]) == ('256', '50.0')
    assert heights_of(camera.see(), expected) == {256}
    facts = camera.facts(lambda facts: 'operating point' in facts)
    assert facts['operating point'] == 'rated in fp32 at height 256, as chosen'
    assert facts['input height'] == '256'
    assert facts['target rate (Hz)'] == '4'
    assert facts['expected mIoU (%)'] == '50.0'
    assert 'misses the target' not in facts


def test_a_camera_that_is_faster_is_not_followed(node, camera):
    labels = camera.received['labels']
    before = camera.client.status(lambda status: status.level == DiagnosticStatus.OK)
    labels.clear()
    for _ in range(40):
        camera.publish()
        camera.client.spin(0.05)
    # 2 s and a bit, and what may come early after a pause.
    assert 6 <= len(labels) <= 12
    status = camera.client.status(
        lambda status: status.count('frames received') == before.count('frames received') + 40)
    assert status.level == DiagnosticStatus.OK
    assert status.dropped['over_target'] >= 25


def test_single_frames_of_another_size_are_labelled_without_a_search(node, camera, expected):
    shorter = SCENE[:-4]
    for _ in range(2):
        for _ in range(operation.MAX_STRAY):
            assert camera.see(shorter).shape == shorter.shape[:2]
        assert heights_of(camera.see(), expected) == {256}
    assert '320x236' not in node.output
    for _ in range(operation.MAX_STRAY + 1):
        camera.see(shorter)
    node.wait_for_output('320x236 at 4 frames/s: rated in fp32')
    for _ in range(operation.MAX_STRAY + 1):
        camera.see()
    assert node.output.count('320x240 at 4 frames/s: rated in fp32') == 2


def test_it_steps_down_without_losing_a_frame_or_mixing_two_sizes(node, camera, expected):
    # As if all had been measured on a machine that is a hundred times as fast.
    for path in cache.folder().iterdir():
        document = json.loads(path.read_text())
        document['timings'] = {
            f'fp32 {height}': [2e-9 * height ** 2, 2e-9 * height ** 2] for height in LADDER}
        path.write_text(json.dumps(document))
    assert camera.hold(1000.0) == ''
    camera.see()
    node.wait_for_output(r'320x240 at 1000 frames/s: rated in fp32 at height 256.* 0 candidates')
    seen = []
    before = camera.facts()
    for messages in camera.received.values():
        messages.clear()
    first = Camera.stamp + 1
    for _ in range(600):
        heights = heights_of(camera.see(), expected)
        # Labels are those of one size, the same for all rows, and sizes only shrink here.
        assert len(heights) == 1
        seen += heights
        if seen[-1] == 64:
            break
    assert seen[0] == 256 and seen[-1] == 64
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) > 2
    for messages in camera.received.values():
        assert [nanoseconds(message) for message in messages] == list(
            range(first, Camera.stamp + 1))
    facts = camera.facts(lambda facts: facts.get('input height') == '64')
    assert int(facts['switches']) == len(set(seen)) - 1
    assert facts['operating point'] == 'rated in fp32 at height 64, stepped down'
    assert before.get('frames dropped: superseded') == facts.get('frames dropped: superseded')
    assert node.output.count('operating point: from rated') == len(set(seen)) - 1


def test_it_measures_anew_when_asked_to(node, camera, expected):
    answer = camera.client.call(Trigger, 'calibrate')
    assert answer.success and 'measuring anew' in answer.message
    camera.see()
    node.wait_for_output(r'320x240 at 1000 frames/s: rated in fp32 at height .* [1-9]\d* cand')
    node.wait_for_output(r'no candidate is fast enough: rated .* more than the 0.8 ms it may take')
    facts = camera.facts(lambda facts: 'misses the target' in facts)
    assert 'more than the 0.8 ms' in facts['misses the target']
    assert heights_of(camera.see(), expected)


def test_target_and_headroom_change_while_it_runs_and_0_is_off(node, camera, expected):
    assert camera.hold(1.0) == ''
    assert heights_of(camera.see(), expected) == {256}
    assert camera.client.set('headroom', 0.5) == ''
    camera.see()
    facts = camera.facts(lambda facts: facts.get('budget (ms)') == '500.0')
    assert facts['target rate (Hz)'] == '1'
    assert camera.client.set('input_height', 128) == ''
    assert heights_of(camera.see(), expected) == {128}
    assert camera.hold(0.0) == ''
    assert heights_of(camera.see(), expected) == {128}
    assert camera.client.set('input_height', 0) == ''
    assert heights_of(camera.see(), expected) == {64}
    camera.facts(lambda facts: 'target rate (Hz)' not in facts)
    answer = camera.client.call(Trigger, 'calibrate')
    assert not answer.success and answer.message == 'nothing to measure: target_fps is 0'


def test_offered_weights_change_while_it_runs(node, camera, rated_weights, tmp_path):
    info, network = weights.load(rated_weights)
    better = tmp_path / 'better.safetensors'
    weights.save(better, info.__class__(**{
        **vars(info), 'miou': {64: 0.6, 256: 0.7}}), network)
    assert camera.hold(1.0) == ''
    assert camera.client.set('offered_weights', [str(rated_weights), str(better)]) == ''
    camera.see()
    facts = camera.facts(lambda facts: facts['weights'] == 'better.safetensors')
    assert facts['operating point'] == 'better in fp32 at height 256, as chosen'
    assert camera.client.set('offered_weights', ['auto']) == ''
    camera.see()
    camera.facts(lambda facts: facts['weights'] == 'rated.safetensors')


def test_weights_that_turn_out_not_to_run_leave_it_labelling_as_before(
        node, camera, rated_weights, tmp_path):
    info, network = weights.load(rated_weights)
    other = tmp_path / 'other.safetensors'
    # The tensors do not fit the network that the metadata tell.
    weights.save(other, replace(info, network='lpsnet_s', arguments={}), network)
    assert camera.hold(1.0) == ''
    before = camera.see()
    assert camera.client.set('offered_weights', [str(other)]) == ''
    assert np.array_equal(camera.see(), before)
    node.wait_for_output('no candidate can be run on this machine; going on as before')
    status = camera.client.status(lambda status: 'target rate' in status.message)
    assert status.message == 'the target rate is not kept: the log tells why'
    assert camera.client.set('offered_weights', ['auto']) == ''
    camera.see()
    camera.facts(lambda facts: 'operating point' in facts)


def test_the_confidence_counts_where_labels_depend_on_it(node, camera):
    assert camera.hold(1.0) == ''
    camera.see()
    assert camera.client.set('min_confidence', 0.1) == ''
    camera.see()
    camera.facts(lambda facts: 'operating point' in facts)
    found = re.findall(r'320x240 at 1 frames/s: .* (\d+) candidates timed', node.output)
    assert int(found[-1]) > 0
    assert camera.client.set('min_confidence', 0.0) == ''
    camera.see()


def test_nonsense_is_refused_with_the_reason(node, camera, tiny_weights, tmp_path):
    (tmp_path / 'broken.safetensors').write_bytes(b'nothing')
    for name, value, reason in (
            ('target_fps', -1.0, 'out of range'),
            ('target_fps', float('nan'), 'out of range'),
            ('target_fps', float('inf'), 'out of range'),
            ('target_fps', 1e6, 'out of range'),
            ('target_fps', 30, 'DOUBLE'),
            ('headroom', 0.0, 'out of range'),
            ('headroom', 1.5, 'out of range'),
            ('offered_weights', [''], 'no weight files are offered'),
            ('offered_weights', ['nothing'], 'no weight file nothing'),
            ('offered_weights', [str(tiny_weights)], 'does not say its mIoU at any input height'),
            ('offered_weights', [str(tmp_path / 'broken.safetensors')], 'cannot be read')):
        assert reason in camera.client.set(name, value), (name, value)
    camera.see()


def test_without_anything_to_choose_from_configure_fails(start_node, tiny_weights):
    node = start_node('segmentation_node', weights=tiny_weights, target_fps=10.0)
    assert node.wait(TIMEOUT_S) == 1
    assert 'does not say its mIoU at any input height' in node.lines[-1]


def test_two_nodes_that_start_at_once_share_what_they_measure(start_node, rated_weights, client):
    nodes = [
        start_node(
            'segmentation_node', '-r', f'__ns:=/{name}', '-r', 'image:=/both', threads=2,
            weights=rated_weights, target_fps=2.0, engine='torch')
        for name in ('left', 'right')]
    labels = [
        client.listen(Image, f'/{name}{NODE}/labels') for name in ('left', 'right')]
    publisher = client.publisher(Image, '/both')

    def seen():
        publisher.publish(image(SCENE.reshape(HEIGHT, -1), 'bgr8', 1))
        client.spin(0.1)
        return all(labels)

    client.until(seen, TIMEOUT_S)
    for node in nodes:
        node.wait_for_output(r'rated in fp32 at height 256.* \d+ candidates timed')
    for path in cache.folder().iterdir():
        assert path.suffix == '.json'
        json.loads(path.read_text())
    for node in nodes:
        assert node.signal(signal.SIGTERM)[0] == 0
