# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A node with several cameras: each gets its own labels, and none starves another."""

from __future__ import annotations

from itertools import count
import re

from lmii_ros.segmenter import Segmenter
import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from lmii_ros.nodes.newest_frame import NewestFrame  # noqa: E402
from nav_msgs.msg import OccupancyGrid  # noqa: E402
from ros_client import NODE  # noqa: E402
from ros_client import image  # noqa: E402
from ros_client import nanoseconds  # noqa: E402
from ros_client import pixels  # noqa: E402
from sensor_msgs.msg import CameraInfo  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

SIZES = {'front': (64, 96), 'left': (80, 64)}
POSES = {'front': [1.0, 0.0, 1.5, 0.0, 0.3, 0.0], 'left': [0.0, 0.5, 2.5, 0.0, 0.6, 0.4]}
STAMPS = count(1)
RELIABLE = {
    f'qos_overrides./{camera}/image.subscription.reliability': 'reliable' for camera in SIZES}


@pytest.fixture(scope='module')
def node(start_module_node, tiny_weights):
    node = start_module_node(
        'segmentation_node', weights=tiny_weights, threads=1, stale_after=1.0,
        cameras=list(SIZES), **RELIABLE,
        **{f'{camera}.camera_pose': pose for camera, pose in POSES.items()})
    node.wait_for_output(r'engine \w+ on cpu')
    return node


class Camera:
    """Publishes noise as one camera, and collects the labels of its frames."""

    def __init__(self, client, name, size=None):
        self.client, self.name = client, name
        self.size = size or SIZES[name]
        self.labels = client.listen(Image, f'{NODE}/{name}/labels')
        self._publisher = client.publisher(Image, f'{name}/image')
        while not self.labels:
            self.send()
            client.spin(0.1)
        client.until(lambda: nanoseconds(self.labels[-1]) == nanoseconds(self.sent))
        self.labels.clear()

    def send(self):
        """Send a frame, and return its pixels."""
        stamp = next(STAMPS)
        frame = np.random.default_rng(stamp).integers(0, 256, (*self.size, 3), np.uint8)
        self.sent = image(frame.reshape(len(frame), -1), 'bgr8', stamp)
        self.sent.header.frame_id = self.name
        self._publisher.publish(self.sent)
        return frame

    def send_with(self, **fields):
        """Send the last frame again, with other values in its message."""
        for name, value in fields.items():
            setattr(self.sent, name, value)
        self._publisher.publish(self.sent)

    def stamps(self):
        return [nanoseconds(message) for message in self.labels]


def test_each_camera_gets_the_labels_of_its_own_frames(node, client, tiny_weights):
    cameras = [Camera(client, name) for name in SIZES]
    segmenter = Segmenter(tiny_weights, threads=1)
    for _ in range(20):
        sent = [(camera, camera.send()) for camera in cameras]
        client.until(lambda: all(
            camera.labels and nanoseconds(camera.labels[-1]) == nanoseconds(camera.sent)
            for camera in cameras))
        for camera, frame in sent:
            expected, = segmenter.segment([frame])
            np.testing.assert_array_equal(pixels(camera.labels[-1]), expected.labels)
            assert camera.labels[-1].header == camera.sent.header
    for camera in cameras:
        assert len(camera.labels) == 20


def test_a_camera_that_floods_does_not_starve_another(node, client):
    front, left = (Camera(client, name) for name in SIZES)
    for _ in range(20):
        for _ in range(30):
            front.send()
        left.send()
        client.until(lambda: nanoseconds(left.sent) in left.stamps())
    client.camera = 'left'
    assert 'superseded' not in client.status().dropped
    client.camera = 'front'
    assert client.status(lambda status: status.dropped.get('superseded', 0)).message


def test_diagnostics_tell_of_each_camera(node, client):
    front = Camera(client, 'front')
    Camera(client, 'left')
    client.camera = 'left'
    before = client.status().count('frames labelled')

    def level(camera):
        front.send()
        client.camera = camera
        return client.status().level

    client.until(lambda: level('left') == DiagnosticStatus.STALE)
    assert level('front') == DiagnosticStatus.OK
    client.camera = 'left'
    assert client.status().count('frames labelled') == before


def test_what_is_broken_of_one_camera_is_told_of_it(node, client):
    front, left = (Camera(client, name) for name in SIZES)
    left.send_with(step=1)
    node.wait_for_output('frame of left dropped: ')
    client.camera = 'left'
    assert client.status(lambda status: status.dropped).dropped['bad_step'] == 1
    client.camera = 'front'
    assert 'bad_step' not in client.status().dropped


def test_each_camera_has_its_own_place_on_the_vehicle(node, client):
    grids = {}
    for name, (height, width) in SIZES.items():
        camera = Camera(client, name)
        received = client.listen(OccupancyGrid, f'{NODE}/{name}/drivable_grid')
        infos = client.publisher(CameraInfo, f'{name}/camera_info')
        info = CameraInfo(
            width=width, height=height, k=[60.0, 0, width / 2, 0, 60, height / 2, 0, 0, 1])
        while not received:
            infos.publish(info)
            client.spin(0.05)
            camera.send()
            client.spin(0.05)
        grids[name] = np.array(received[-1].data)
    seen = {name: grid >= 0 for name, grid in grids.items()}
    assert seen['front'].any() and seen['left'].any()
    assert (seen['front'] != seen['left']).any()
    assert client.set('left.camera_pose', [0.0] * 6) == ''
    client.camera = 'left'

    def status():
        camera.send()
        return client.status()

    client.until(lambda: 'left.camera_pose is not set' in status().message)
    assert client.set('left.camera_pose', POSES['left']) == ''


def test_the_cameras_are_fixed(node, client):
    assert 'read-only' in client.set('cameras', ['front'])


@pytest.mark.parametrize('cameras, reason', [
    (['front', 'front'], "cameras ['front', 'front'] has a name twice"),
    (['front', ''], "cameras has the name '', expected letters, digits and underscores"),
    (['front/left'], "cameras has the name 'front/left'"),
    (['1st'], "cameras has the name '1st'"),
])
def test_cameras_that_cannot_be_used_are_refused(start_node, cameras, reason):
    node = start_node('segmentation_node', cameras=cameras)
    assert node.wait() == 1
    assert reason in node.lines[-1]


def test_a_frame_rate_is_held_for_each_camera(start_node, client, rated_weights):
    node = start_node(
        'segmentation_node', weights=rated_weights, threads=1, target_fps=10.0, headroom=0.8,
        cameras=list(SIZES), **RELIABLE)
    node.wait_for_output(r'engine \w+ on cpu')
    cameras = [Camera(client, name, (240, 320)) for name in SIZES]
    node.wait_for_output('10 frames/s of 320x240 from each of 2 cameras')
    client.camera = 'left'
    values = client.status(lambda status: 'budget (ms)' in status.values).values
    assert values['target rate (Hz)'] == '10'
    assert float(values['budget (ms)']) == pytest.approx(40.0)
    for camera in cameras:
        camera.send()
        client.until(lambda camera=camera: camera.labels)
    assert len(re.findall('candidates timed', node.output)) == 1


def test_cameras_of_two_sizes_are_not_measured_again_and_again(
        start_node, client, rated_weights):
    node = start_node(
        'segmentation_node', weights=rated_weights, threads=1, target_fps=2.0,
        cameras=list(SIZES), **RELIABLE)
    node.wait_for_output(r'engine \w+ on cpu')
    cameras = [Camera(client, name) for name in SIZES]
    for _ in range(30):
        for camera in cameras:
            camera.send()
            client.until(
                lambda camera=camera: nanoseconds(camera.sent) in camera.stamps())
    assert len(re.findall('candidates timed', node.output)) <= 2


def test_the_newest_of_each_source_in_turn():
    newest = NewestFrame()
    assert not newest.put('a', 1)
    assert not newest.put('b', 2)
    assert newest.put('a', 3)
    assert newest.take() == ('a', 3)
    assert not newest.put('a', 4)
    assert newest.take() == ('b', 2)
    assert newest.close() == ('a',)
    assert newest.take() is None
