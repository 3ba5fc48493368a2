# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The simulated camera publishes what its source holds, when it should."""

from __future__ import annotations

import signal

import cv2
from lmii_ros import frames
from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import RoadScene
import numpy as np
import pytest

pytest.importorskip('rclpy')

from rclpy.qos import DurabilityPolicy  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from ros_client import nanoseconds  # noqa: E402
from ros_client import pixels  # noqa: E402
from sensor_msgs.msg import CameraInfo  # noqa: E402
from sensor_msgs.msg import CompressedImage  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

COUNT = 6
HEIGHT, WIDTH = 48, 64
CAMERA = 'camera_simulator_node'


@pytest.fixture
def folder(tmp_path):
    """Return a folder of pictures in which each is of one value, and one of their labels."""
    images, labels = tmp_path / 'images', tmp_path / 'labels'
    images.mkdir()
    labels.mkdir()
    for index in range(COUNT):
        picture = np.full((HEIGHT, WIDTH, 3), 10 * index, np.uint8)
        cv2.imwrite(str(images / f'{index}.png'), picture)
        truth = np.full((HEIGHT, WIDTH), index, np.uint8)
        truth[:, index:] = 255
        cv2.imwrite(str(labels / f'{index}.png'), truth)
    return images, labels


def by_stamp(messages):
    return {nanoseconds(message): message for message in messages}


def test_every_picture_of_a_folder_once_then_the_end(start_node, client, folder):
    images = client.listen(Image, 'image')
    camera = start_node(CAMERA, source=folder[0], rate=20.0, wait_for_subscribers=1)
    assert camera.wait() == 0
    client.until(lambda: len(images) == COUNT)
    assert [pixels(message)[0, 0, 0] for message in images] == [
        10 * index for index in range(COUNT)]
    camera.wait_for_output(f'{COUNT} frames published')
    assert all(message.header.frame_id == 'camera_optical_frame' for message in images)
    stamps = [nanoseconds(message) for message in images]
    assert stamps == sorted(set(stamps))


def test_a_picture_can_be_kept_for_who_subscribes_late(start_node, client, folder):
    start_node(CAMERA, source=folder[0], rate=1.0, loop=True, **{
        'qos_overrides./image.publisher.durability': 'transient_local'})
    # One that asks for what was kept gets nothing from a camera that keeps nothing.
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    images = client.listen(Image, 'image', latched)
    client.until(lambda: images)


def test_a_loop_with_labels_goes_on_at_the_rate(start_node, client, folder):
    images = client.listen(Image, 'image')
    truths = client.listen(Image, 'ground_truth')
    infos = client.listen(CameraInfo, 'camera_info')
    camera = start_node(
        CAMERA, source=folder[0], labels=folder[1], loop=True, rate=20.0, frame_id='left')
    client.until(lambda: images and truths and infos)
    del images[:], truths[:], infos[:]
    client.until(lambda: min(map(len, (images, truths, infos))) >= 3 * COUNT)
    code, _ = camera.signal(signal.SIGTERM)
    assert code == 0
    client.spin(0.2)
    truth, info = by_stamp(truths), by_stamp(infos)
    for message in images[1:-1]:
        value = int(pixels(message)[0, 0, 0]) // 10
        expected = np.full((HEIGHT, WIDTH), value, np.uint8)
        expected[:, value:] = 255
        np.testing.assert_array_equal(pixels(truth[nanoseconds(message)]), expected)
        assert truth[nanoseconds(message)].encoding == 'mono8'
        assert info[nanoseconds(message)].header == message.header
        # Not calibrated, as sensor_msgs has it.
        assert not any(info[nanoseconds(message)].k)
    stamps = np.array([nanoseconds(message) for message in images]) / 1e9
    assert np.median(np.diff(stamps)) == pytest.approx(1 / 20, rel=0.2)
    assert images[0].header.frame_id == 'left'


def test_no_more_frames_than_asked_for(start_node, client):
    images = client.listen(Image, 'image')
    camera = start_node(
        CAMERA, width=64, height=48, preload=2, frames=3, rate=20.0, wait_for_subscribers=1)
    assert camera.wait() == 0
    client.until(lambda: len(images) == 3)
    camera.wait_for_output('3 frames published')


def test_the_synthetic_scene_with_its_camera(start_node, client):
    images = client.listen(Image, 'image')
    truths = client.listen(Image, 'ground_truth')
    infos = client.listen(CameraInfo, 'camera_info')
    start_node(
        CAMERA, width=160, height=120, seed=3, rate=5.0, preload=2, encoding='rgb8')
    client.until(lambda: min(map(len, (images, truths, infos))) >= 3)
    scene = RoadScene(seed=3, camera=PinholeCamera.from_fov(160, 120))
    rendered = [scene.render(index / 5.0) for index in range(2)]
    stamps = by_stamp(images).keys() & by_stamp(truths).keys() & by_stamp(infos).keys()
    for key in stamps:
        picture = frames.decode(by_stamp(images)[key])
        assert any(
            (picture == frame.image).all()
            and (pixels(by_stamp(truths)[key]) == frame.labels).all() for frame in rendered)
    info = infos[0]
    matrix = PinholeCamera.from_fov(160, 120).matrix()
    np.testing.assert_array_equal(info.k.reshape(3, 3), matrix)
    np.testing.assert_array_equal(info.p.reshape(3, 4)[:, :3], matrix)
    assert (info.width, info.height) == (160, 120)
    assert info.distortion_model == 'plumb_bob' and list(info.d) == [0.0] * 5


@pytest.mark.parametrize('encoding', ['nv12', 'jpeg'])
def test_encodings(start_node, client, folder, encoding):
    kind, topic = (Image, 'image') if encoding == 'nv12' else (CompressedImage, 'image/compressed')
    images = client.listen(kind, topic)
    start_node(CAMERA, source=folder[0], encoding=encoding, rate=20.0, wait_for_subscribers=1)
    client.until(lambda: len(images) == COUNT)
    for index, message in enumerate(images):
        assert np.abs(frames.decode(message).astype(int) - 10 * index).max() <= 4


def test_waits_for_subscribers(start_node, client, folder):
    camera = start_node(CAMERA, source=folder[0], rate=50.0, wait_for_subscribers=2)
    first = client.listen(Image, 'image')
    client.until(lambda: client.node.count_publishers('image'))
    client.spin(1.0)
    assert not first and camera.running
    second = client.listen(Image, 'image')
    assert camera.wait() == 0
    client.until(lambda: len(first) == len(second) == COUNT)


@pytest.mark.parametrize('values, line', [
    ({'source': 'nothing'}, 'nothing: no such file or folder'),
    ({'width': 64}, 'give both width and height, or neither'),
    ({'rate': 0.0}, 'rate out of range'),
    ({'encoding': 'bgr9', 'width': 64, 'height': 48}, "cannot encode a frame as 'bgr9'"),
    ({'encoding': 'nv12', 'width': 63, 'height': 48}, '63x48 in nv12; width and height must be'),
])
def test_what_cannot_work_is_said_in_one_line(start_node, values, line):
    camera = start_node(CAMERA, **values)
    assert camera.wait() == 1
    camera.wait_for_output(line)
    faults = [text for text in camera.lines if not text.startswith('[INFO]')]
    assert len(faults) == 1, camera.output


@pytest.mark.parametrize('options', [{}, {'preload': COUNT}])
def test_a_broken_picture_ends_it_with_one_line(start_node, folder, options):
    (folder[0] / '3.png').write_bytes((folder[0] / '3.png').read_bytes()[:60])
    camera = start_node(CAMERA, source=folder[0], rate=50.0, **options)
    assert camera.wait() == 1
    camera.wait_for_output(r'3\.png: not a readable picture')
    faults = [text for text in camera.lines if not text.startswith('[INFO]')]
    assert len(faults) == 1, camera.output


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals(start_node, client, number):
    images = client.listen(Image, 'image')
    camera = start_node(CAMERA, width=64, height=48, rate=100.0)
    client.until(lambda: images)
    code, seconds = camera.signal(number)
    assert code == 0, camera.output
    assert seconds < 2.0
    assert 'Traceback' not in camera.output
