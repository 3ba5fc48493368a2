# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A node with several cameras: each gets its own labels, and none starves another."""

from __future__ import annotations

from itertools import count
import re

import cv2
from lmii_ros.camera import Calibration
from lmii_ros.camera import CameraPose
from lmii_ros.drivable import Grid
from lmii_ros.drivable import GroundProjection
from lmii_ros.segmenter import Segmenter
import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from lmii_ros.nodes.newest_frame import NewestFrame  # noqa: E402
from nav_msgs.msg import OccupancyGrid  # noqa: E402
from ros_client import compressed  # noqa: E402
from ros_client import NODE  # noqa: E402
from ros_client import image  # noqa: E402
from ros_client import nanoseconds  # noqa: E402
from ros_client import pixels  # noqa: E402
from sensor_msgs.msg import CameraInfo  # noqa: E402
from sensor_msgs.msg import CompressedImage  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

SIZES = {'front': (64, 96), 'left': (80, 64)}
MATRICES = {
    name: [60.0, 0, width / 2, 0, 60, height / 2, 0, 0, 1]
    for name, (height, width) in SIZES.items()}
GRID = Grid(length=30.0, width=20.0, resolution=0.1)
POSES = {'front': [1.0, 0.0, 1.5, 0.0, 0.3, 0.0], 'left': [0.0, 0.5, 2.5, 0.0, 0.6, 0.4]}
STAMPS = count(1)
RELIABLE = {
    f'qos_overrides./{camera}/image.subscription.reliability': 'reliable' for camera in SIZES}
OTHER = ('-r', '__ns:=/other')
"""For a node beside that of the module."""


@pytest.fixture(scope='module')
def node(start_module_node, tiny_weights):
    node = start_module_node(
        'segmentation_node', weights=tiny_weights, threads=1, stale_after=2.5,
        cameras=list(SIZES), **RELIABLE,
        **{f'{camera}.camera_pose': pose for camera, pose in POSES.items()})
    node.wait_for_output(r'engine \w+ on cpu')
    return node


class Camera:
    """Publishes noise as one camera, and collects the labels of its frames."""

    def __init__(self, client, name, size=None):
        self.client, self.name = client, name
        self.size = size or SIZES[name]
        self.labels = client.listen(Image, f'{client.namespace}{NODE}/{name}/labels')
        self._publisher = client.publisher(Image, f'{client.namespace}/{name}/image')
        for _ in range(200):
            self.send()
            client.spin(0.1)
            if self.labels:
                break
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
    superseded = client.status_of('left').dropped.get('superseded', 0)
    for _ in range(20):
        left.send()

        def is_labelled():
            for _ in range(10):
                front.send()
            return nanoseconds(left.sent) in left.stamps()

        client.until(is_labelled, 5.0)
    assert client.status_of('left').dropped.get('superseded', 0) == superseded
    assert client.status_of('front').dropped['superseded'] > 0


def test_diagnostics_tell_of_each_camera(node, client):
    front = Camera(client, 'front')
    Camera(client, 'left')
    before = client.status_of('left').count('frames labelled')

    def level(camera):
        front.send()
        return client.status_of(camera).level

    client.until(lambda: level('left') == DiagnosticStatus.STALE)
    assert level('front') == DiagnosticStatus.OK
    assert client.status_of('left').count('frames labelled') == before


def test_what_is_broken_of_one_camera_is_told_of_it(node, client):
    cameras = [Camera(client, name) for name in SIZES]
    for camera in cameras:
        camera.send_with(step=len(camera.name))
    for camera in cameras:
        node.wait_for_output(
            rf'\[segmentation_node\.{camera.name}\]: frame dropped: .*\b{len(camera.name)}\b')
        status = client.status_of(camera.name, lambda status: 'bad_step' in status.dropped)
        assert status.dropped['bad_step'] == 1


def test_each_camera_has_its_own_place_on_the_vehicle(node, client):
    for name, (height, width) in SIZES.items():
        camera = Camera(client, name)
        received = client.listen(OccupancyGrid, f'{NODE}/{name}/drivable_grid')
        infos = client.publisher(CameraInfo, f'{name}/camera_info')
        for _ in range(200):
            infos.publish(CameraInfo(width=width, height=height, k=MATRICES[name]))
            client.spin(0.05)
            camera.send()
            client.spin(0.05)
            if received:
                break
        projection = GroundProjection(
            Calibration(width, height, tuple(MATRICES[name])), CameraPose(*POSES[name]), GRID)
        nothing = np.zeros((height, width), np.uint8)
        np.testing.assert_array_equal(
            np.array(received[-1].data).reshape(GRID.shape) >= 0,
            projection.occupancy(nothing, nothing) >= 0)
    assert client.set('left.camera_pose', [0.0] * 6) == ''

    def status():
        camera.send()
        return client.status_of('left')

    client.until(lambda: 'left.camera_pose is not set' in status().message)
    assert client.set('left.camera_pose', POSES['left']) == ''


def test_all_cameras_go_on_after_a_deactivation(node, client):
    cameras = [Camera(client, name) for name in SIZES]
    assert client.change_state('deactivate')
    assert client.change_state('activate')
    for camera in cameras:
        client.until(lambda camera=camera: camera.send() is not None and camera.labels)


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


def test_compressed_images_of_each_camera(start_node, client, tiny_weights):
    client.namespace = '/other'
    node = start_node(
        'segmentation_node', *OTHER, '-r', 'left/image:=cam/raw', weights=tiny_weights, threads=1,
        cameras=list(SIZES), image_transport='compressed')
    node.wait_for_output(r'engine \w+ on cpu')
    data = cv2.imencode('.jpg', np.zeros((64, 96, 3), np.uint8))[1].tobytes()
    for name, topic in {'front': '/other/front/image', 'left': '/other/cam/raw'}.items():
        labels = client.listen(Image, f'{client.namespace}{NODE}/{name}/labels')
        publisher = client.publisher(CompressedImage, f'{topic}/compressed')

        def is_labelled():
            publisher.publish(compressed(data, 'jpeg', 7))
            client.spin(0.05)
            return labels

        client.until(is_labelled)
        assert nanoseconds(labels[0]) == 7


def test_a_frame_rate_is_held_for_each_camera(start_node, client, rated_weights):
    client.namespace = '/other'
    node = start_node(
        'segmentation_node', *OTHER, weights=rated_weights, threads=1, target_fps=10.0,
        headroom=0.8, cameras=list(SIZES), **{
            name.replace('/', '/other/', 1): value for name, value in RELIABLE.items()})
    node.wait_for_output(r'engine \w+ on cpu')
    cameras = [Camera(client, name) for name in SIZES]
    node.wait_for_output('96x64 at 10 frames/s from each of 2 cameras')
    values = client.status_of('left', lambda status: 'budget (ms)' in status.values).values
    assert values['target rate (Hz)'] == '10'
    assert float(values['budget (ms)']) == pytest.approx(40.0)
    for _ in range(20):
        client.spin(0.1)
        for camera in cameras:
            camera.send()
            client.until(lambda camera=camera: nanoseconds(camera.sent) in camera.stamps())
    # Of two sizes, but neither is a glitch.
    assert len(re.findall('candidates timed', node.output)) == 1


def test_what_is_not_to_be_one_more_takes_the_place_of_what_waits():
    newest = NewestFrame()
    assert not newest.replace('a', 1)
    newest.put('a', 2)
    assert newest.replace('a', 3) and not newest.replace('b', 4)
    assert newest.take() == ('a', 3)
    assert newest.close() == ()


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
