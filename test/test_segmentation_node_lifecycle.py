# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The segmentation node's states and parameters, as a user changes them while it runs."""

from __future__ import annotations

from lmii_ros.classes import CAMVID
from lmii_ros.classes import UNKNOWN
from lmii_ros.drivable import drivable_area
from lmii_ros.rendering import overlay
from lmii_ros.segmenter import Segmenter
import numpy as np
import pytest

pytest.importorskip('rclpy')

from ros_client import NODE  # noqa: E402
from ros_client import image  # noqa: E402
from ros_client import nanoseconds  # noqa: E402
from ros_client import pixels  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

HEIGHT, WIDTH = 64, 96
FRAME = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
FRAME[:, :40] //= 4


@pytest.fixture(scope='module')
def node(start_module_node, tiny_weights):
    node = start_module_node(
        'segmentation_node', weights=tiny_weights, threads=1, autostart=False,
        **{'qos_overrides./image.subscription.reliability': 'reliable'})
    return node


@pytest.fixture
def configured(node, client):
    """Return a client of the node, which is configured."""
    if client.state() == 'unconfigured':
        assert client.change_state('configure')
    return client


@pytest.fixture
def active(configured):
    """Return a client of the node, which is active, and inactive after the test."""
    assert configured.change_state('activate')
    yield configured
    assert configured.change_state('deactivate')


class Camera:
    """Publishes one frame, under a new stamp each time."""

    stamp = 0

    def __init__(self, client, *outputs):
        self._client = client
        self._received = {name: client.listen(Image, f'{NODE}/{name}') for name in outputs}
        self._publisher = client.publisher(Image, 'image')
        for _ in range(100):
            self.send()
            client.spin(0.1)
            if all(self._received.values()):
                break

    def send(self):
        Camera.stamp += 1
        self._publisher.publish(image(FRAME.reshape(HEIGHT, -1), 'bgr8', Camera.stamp))

    def see(self):
        """Return the pixels of each output of one frame."""
        self.send()
        self._client.until(lambda: all(
            nanoseconds(messages[-1]) == Camera.stamp for messages in self._received.values()))
        return [pixels(messages[-1]) for messages in self._received.values()]

    def sees_nothing(self):
        """Return whether no output comes for a frame, in the time that many would take."""
        counts = [len(messages) for messages in self._received.values()]
        self.send()
        self._client.spin(1.0)
        return counts == [len(messages) for messages in self._received.values()]


def test_round_trips_through_the_states(node, client):
    assert client.state() == 'unconfigured'
    labels = client.listen(Image, f'{NODE}/labels')
    for _ in range(3):
        assert client.change_state('configure')
        assert client.state() == 'inactive'
        assert client.status().message == 'inactive'
        assert client.change_state('activate')
        camera = Camera(client, 'labels')
        camera.see()
        assert client.change_state('deactivate')
        assert camera.sees_nothing()
        assert client.change_state('cleanup')
        assert client.state() == 'unconfigured'
        client.until(lambda: not client.node.count_publishers(f'{NODE}/labels'))
    stamps = [nanoseconds(message) for message in labels]
    assert stamps == sorted(set(stamps))


def test_frames_are_missed_only_from_activation_on(configured):
    configured.spin(2.5)
    assert configured.change_state('activate')
    assert configured.status().message == 'labelling'
    assert configured.change_state('deactivate')


def test_an_impossible_transition_is_refused_and_the_node_lives_on(node, active):
    answer = active.ask_for('activate')
    active.spin(0.5)
    # Before rclpy 8 the node logs a warning instead of an answer.
    assert not answer.result().success if answer.done() else 'not registered' in node.output
    assert active.state() == 'active'
    Camera(active, 'labels').see()
    assert node.running


def test_what_the_network_was_loaded_with_is_fixed_until_cleanup(
        node, configured, tiny_weights, tmp_path):
    client = configured
    other = tmp_path / 'other.safetensors'
    other.write_bytes(tiny_weights.read_bytes())
    for name, value in (
            ('weights', str(other)), ('engine', 'openvino'), ('device', 'cuda'), ('threads', 2),
            ('image_transport', 'compressed')):
        assert client.set(name, value) == (
            f'{name} is fixed while the node is configured; clean it up first')
    assert client.set('weights', str(tiny_weights)) == ''
    assert client.change_state('cleanup')
    assert client.set('weights', str(other)) == ''
    assert client.change_state('configure')
    assert client.status().values['weights'] == 'other.safetensors'
    assert client.change_state('cleanup')
    assert client.set('weights', 'nothing') == ''
    assert not client.change_state('configure')
    node.wait_for_output('cannot configure: no weight file nothing; shipped with the package are')
    assert client.state() == 'unconfigured'
    assert client.set('weights', str(tiny_weights)) == ''
    assert client.change_state('configure')


def test_every_parameter_is_described(node, configured):
    described = configured.parameters()
    own = {
        name: descriptor for name, descriptor in described.items()
        if not name.startswith(('qos_overrides.', 'use_sim_time', 'start_type_description'))}
    assert set(own) == {
        'weights', 'engine', 'device', 'precision', 'threads', 'image_transport', 'cameras',
        'input_height', 'target_fps', 'headroom', 'offered_weights', 'drivable_classes',
        'min_confidence', 'opacity', 'jpeg_quality', 'camera_pose', 'rectified', 'base_frame',
        'grid_length', 'grid_width', 'grid_resolution', 'stale_after', 'autostart'}
    for name, descriptor in own.items():
        assert descriptor.description.endswith('.'), name
    integers = {name: own[name].integer_range[0] for name in (
        'threads', 'input_height', 'jpeg_quality')}
    assert {name: (value.from_value, value.to_value) for name, value in integers.items()} == {
        'threads': (0, 256), 'input_height': (0, 4096), 'jpeg_quality': (1, 100)}
    floats = {name: own[name].floating_point_range[0] for name in (
        'target_fps', 'headroom', 'min_confidence', 'opacity', 'grid_length', 'grid_width',
        'grid_resolution', 'stale_after')}
    assert {name: (value.from_value, value.to_value) for name, value in floats.items()} == {
        'target_fps': (0, 1000), 'headroom': (0.1, 1), 'min_confidence': (0, 1),
        'opacity': (0, 1), 'grid_length': (1, 200), 'grid_width': (1, 200),
        'grid_resolution': (0.01, 1), 'stale_after': (0.1, 3600)}
    assert own['autostart'].read_only and own['cameras'].read_only
    for topic in ('/diagnostics.publisher', f'{NODE}/labels.publisher'):
        assert f'qos_overrides.{topic}.durability' in described


def test_parameters_take_effect_on_the_next_frame(node, active, tiny_weights):
    segmenter = Segmenter(tiny_weights, threads=1)
    camera = Camera(active, 'labels', 'overlay', 'drivable')

    def expected(opacity=0.5, drivable=('Road',), min_confidence=0.0):
        labels = segmenter.segment([FRAME], min_confidence=min_confidence)[0].labels
        area = drivable_area(labels, CAMVID.indices(drivable))
        return labels, overlay(FRAME, labels, area, CAMVID.palette(), opacity), area

    def check(**options):
        for found, wanted in zip(camera.see(), expected(**options)):
            np.testing.assert_array_equal(found, wanted)

    check()
    assert active.set('opacity', 0.25) == ''
    check(opacity=0.25)
    assert active.set('opacity', 0.5) == ''
    name = CAMVID.classes[int(expected()[0][-1, WIDTH // 2])]
    assert active.set('drivable_classes', [name, 'Pole']) == ''
    check(drivable=(name, 'Pole'))
    assert expected(drivable=(name,))[2].any()
    assert active.set('drivable_classes', ['']) == ''
    assert active.set('min_confidence', 0.8) == ''
    check(min_confidence=0.8)
    assert 0 < (expected(min_confidence=0.8)[0] == UNKNOWN).mean() < 1
    assert active.set('min_confidence', 0.0) == ''
    segmenter.input_height = 128
    assert (expected()[0] != camera.see()[0]).any()
    assert active.set('input_height', 128) == ''
    check()
    assert active.status().values['input height'] == '128'
    assert active.set('input_height', 0) == ''
    segmenter.input_height = 0
    check()


@pytest.mark.parametrize('name, value, reason', [
    ('drivable_classes', ['Road', 'Lane'], "no class 'Lane' in class table 'camvid'; it has: "
     + ', '.join(CAMVID.classes)),
    ('input_height', 10, 'input_height 10 is neither 0 nor at least 64'),
    ('input_height', -1, 'out of range'),
    ('opacity', 2.0, 'out of range'),
    ('opacity', float('nan'), 'out of range'),
    ('min_confidence', -0.1, 'out of range'),
    ('jpeg_quality', 0, 'out of range'),
    ('stale_after', 0.0, 'out of range'),
    ('camera_pose', [0.0, 1.0], 'is not six numbers: x, y, z, roll, pitch, yaw'),
    ('camera_pose', [0.0, 0.0, float('nan'), 0.0, 0.0, 0.0], 'is not six numbers'),
    ('camera_pose', [1.0, 0.0, 0.0, 0.0, 0.1, 0.0], 'on the ground, expected z above 0'),
    ('camera_pose', [0.0, 0.0, -1.5, 0.0, 0.0, 0.0], 'the camera 1.5 m below the ground'),
    ('camera_pose', [0.0, 0.0, 1.5, 0.0, 5.0, 0.0], 'expected radians, within pi of 0'),
    ('base_frame', '', 'base_frame is empty'),
    ('grid_resolution', 0.01, 'make 6000000 cells, more than 250000'),
    ('opacity', 'much', 'DOUBLE'),
    ('input_height', 64.0, 'INTEGER'),
    ('autostart', True, 'read-only'),
])
def test_what_cannot_be_used_is_refused_with_the_reason(node, configured, name, value, reason):
    assert reason in configured.set(name, value)
