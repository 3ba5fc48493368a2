# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a user gets for camera images: labels, pictures of them, and counts of what was dropped."""

from __future__ import annotations

import itertools

import cv2
from lmii_ros import frames
from lmii_ros.classes import CAMVID
from lmii_ros.drivable import drivable_area
from lmii_ros.rendering import overlay
from lmii_ros.segmenter import Segmenter
from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import RoadScene
import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from rclpy.qos import DurabilityPolicy  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from rclpy.qos import ReliabilityPolicy  # noqa: E402
from ros_client import NODE  # noqa: E402
from ros_client import compressed  # noqa: E402
from ros_client import image  # noqa: E402
from ros_client import nanoseconds  # noqa: E402
from ros_client import pixels  # noqa: E402
from sensor_msgs.msg import CameraInfo  # noqa: E402
from sensor_msgs.msg import CompressedImage  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

try:
    import vision_msgs.msg as vision
except ImportError:
    vision = None

OUTPUTS = {
    'labels': Image, 'color': Image, 'overlay': Image, 'overlay/compressed': CompressedImage,
    'confidence': Image, 'drivable': Image, 'camera_info': CameraInfo}
STAMP = 1_700_000_000_123_456_789
HEIGHT, WIDTH = 64, 96


@pytest.fixture(scope='module')
def node(start_module_node, tiny_weights):
    """Return a node that loses no frame that comes alone."""
    node = start_module_node(
        'segmentation_node', weights=tiny_weights, threads=1, stale_after=2.0,
        **{'qos_overrides./image.subscription.reliability': 'reliable'})
    node.wait_for_output(r'engine \w+ on cpu')
    return node


@pytest.fixture
def segmenter(tiny_weights):
    return Segmenter(tiny_weights, threads=1)


def scene(seed=0, height=HEIGHT, width=WIDTH):
    return RoadScene(seed=seed, camera=PinholeCamera.from_fov(width, height)).render(1.0).image


SCENE = scene().reshape(HEIGHT, -1)


class Camera:
    """Publishes images and collects what the node makes of them."""

    def __init__(self, client, *outputs):
        self.client = client
        self.received = {
            name: client.listen(OUTPUTS[name], f'{client.namespace}{NODE}/{name}')
            for name in outputs}
        self.publisher = client.publisher(Image, f'{client.namespace}/image')
        self._send_until_each_output_has_found_us()

    def _send_until_each_output_has_found_us(self):
        info = self.client.publisher(
            CameraInfo, f'{self.client.namespace}/camera_info')
        for index in range(1, 100):
            info.publish(CameraInfo(width=WIDTH, height=HEIGHT))
            self.publisher.publish(image(SCENE, 'bgr8', index))
            self.client.spin(0.1)
            if all(self.received.values()):
                break
        assert all(self.received.values())
        self.client.until(lambda: all(
            nanoseconds(messages[-1]) == index for messages in self.received.values()))
        self.forget()

    def forget(self):
        for messages in self.received.values():
            messages.clear()

    def outputs(self, message):
        """Send an image and return the one message that came on each output."""
        self.forget()
        self.publisher.publish(message)
        self.client.until(lambda: all(self.received.values()))
        for messages in self.received.values():
            assert len(messages) == 1
        return {name: messages[0] for name, messages in self.received.items()}

    def labels(self, message):
        return pixels(self.outputs(message)['labels'])


def test_labels_are_those_of_the_segmenter_and_every_output_is_of_the_frame(
        node, client, segmenter):
    frame = scene(2)
    camera = Camera(client, *OUTPUTS)
    outputs = camera.outputs(image(frame.reshape(HEIGHT, -1), 'bgr8', STAMP))
    expected, = segmenter.segment([frame], confidence=True)
    drivable = drivable_area(expected.labels, CAMVID.indices(CAMVID.drivable))
    blended = overlay(frame, expected.labels, drivable, CAMVID.palette(), 0.5)
    for name, encoding, array in (
            ('labels', 'mono8', expected.labels),
            ('confidence', 'mono8', expected.confidence),
            ('color', 'rgb8', CAMVID.palette()[expected.labels]),
            ('drivable', 'mono8', drivable),
            ('overlay', 'rgb8', blended)):
        message = outputs[name]
        assert message.encoding == encoding
        assert (message.height, message.width) == (HEIGHT, WIDTH)
        assert message.step == WIDTH * (3 if encoding == 'rgb8' else 1)
        assert len(message.data) == message.step * HEIGHT
        np.testing.assert_array_equal(pixels(message), array, name)
    assert len(np.unique(expected.labels)) > 1
    assert outputs['overlay/compressed'].format == 'rgb8; jpeg compressed bgr8'
    picture = frames.decode(outputs['overlay/compressed'])
    assert np.abs(picture[..., ::-1].astype(int) - blended).mean() < 12
    assert (outputs['camera_info'].height, outputs['camera_info'].width) == (HEIGHT, WIDTH)
    for message in outputs.values():
        assert nanoseconds(message) == STAMP
        assert message.header.frame_id == 'front_camera'


@pytest.mark.parametrize('encoding', [
    'bgr8', 'rgb8', 'bgra8', 'mono8', 'mono16', 'bayer_rggb8', 'uyvy', 'yuyv', 'nv12'])
def test_encodings(node, client, segmenter, encoding):
    data, step = frames.encode(scene(1), encoding)
    message = image(data, encoding, height=HEIGHT, width=WIDTH, step=step)
    expected, = segmenter.segment([frames.decode(message)])
    np.testing.assert_array_equal(
        Camera(client, 'labels').labels(message), expected.labels)


def test_big_endian_16_bit_and_padded_rows(node, client, segmenter):
    camera = Camera(client, 'labels')
    wide = scene(1).astype('>u2') * 257
    padded = np.full((HEIGHT, WIDTH * 3 + 13), 99, np.uint8)
    padded[:, :WIDTH * 3] = scene(1).reshape(HEIGHT, -1)
    expected, = segmenter.segment([scene(1)])
    for message in (
            image(wide.reshape(HEIGHT, -1).view(np.uint8), '16UC3', width=WIDTH, is_bigendian=1),
            image(padded, 'bgr8', width=WIDTH)):
        np.testing.assert_array_equal(camera.labels(message), expected.labels)


def test_size_and_encoding_change_between_frames(node, client, segmenter):
    camera = Camera(client, 'labels', 'overlay')
    for size, encoding in (
            ((64, 96), 'bgr8'), ((120, 160), 'rgb8'), ((48, 48), 'mono8'), ((1, 1), 'bgr8'),
            ((480, 640), 'nv12'), ((64, 96), 'bgr8')):
        frame = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
        data, step = frames.encode(frame, encoding)
        message = image(data, encoding, height=size[0], width=size[1], step=step)
        expected, = segmenter.segment([frames.decode(message)])
        np.testing.assert_array_equal(camera.labels(message), expected.labels)


def test_best_effort_and_reliable_subscribers(node, client):
    best_effort = client.listen(
        Image, f'{NODE}/labels', QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    camera = Camera(client, 'labels')
    client.until(lambda: best_effort)
    del best_effort[:]
    camera.outputs(image(SCENE, 'bgr8', STAMP))
    client.until(lambda: best_effort)
    assert nanoseconds(best_effort[0]) == STAMP


def test_stamps_pass_through_whatever_they_are(node, client):
    camera = Camera(client, 'labels')
    before_1970 = image(SCENE, 'bgr8')
    before_1970.header.stamp.sec = -5
    stamps = [STAMP, 0, STAMP + 1, STAMP - 10 ** 9, 10 ** 9 * (2 ** 31 - 1), 7, 7]
    messages = [image(SCENE, 'bgr8', stamp) for stamp in stamps]
    for message in (*messages, before_1970):
        assert camera.outputs(message)['labels'].header == message.header


def test_without_subscribers_nothing_is_labelled_nor_published(node, client):
    publisher = client.publisher(Image, 'image')
    # Those of the tests before have gone.
    for name in OUTPUTS:
        client.until(lambda: not client.node.count_subscribers(f'{NODE}/{name}'))
    before = client.status()
    for index in range(20):
        publisher.publish(image(SCENE, 'bgr8', index + 1))
        client.spin(0.02)
    after = client.status(
        lambda status: status.count('frames received') > before.count('frames received') + 10)
    assert after.count('frames labelled') == before.count('frames labelled')
    assert after.count('frames received') - before.count('frames received') == (
        after.dropped['no_subscriber'] - before.dropped.get('no_subscriber', 0))
    assert after.level == DiagnosticStatus.OK


def test_camera_info_alone_needs_no_labels(node, client):
    infos = client.listen(CameraInfo, f'{NODE}/camera_info')
    camera = Camera(client)
    for name in OUTPUTS.keys() - {'camera_info'}:
        client.until(lambda: not client.node.count_subscribers(f'{NODE}/{name}'))
    before = client.status()
    camera.publisher.publish(image(SCENE, 'bgr8', STAMP))
    client.until(lambda: [info for info in infos if nanoseconds(info) == STAMP])
    assert (infos[-1].height, infos[-1].width) == (HEIGHT, WIDTH)
    after = client.status(lambda status: status.dropped.get('no_subscriber', 0) > (
        before.dropped.get('no_subscriber', 0)))
    assert after.count('frames labelled') == before.count('frames labelled')


def test_camera_info_of_another_size_is_not_passed_on(node, client):
    camera = Camera(client, 'labels', 'camera_info')
    info = client.publisher(CameraInfo, 'camera_info')
    for index, (fields, passed_on) in enumerate((
            ({'width': 2 * WIDTH, 'height': 2 * HEIGHT}, False),
            ({'width': 2 * WIDTH, 'height': 2 * HEIGHT, 'binning_x': 2, 'binning_y': 2}, True),
            ({}, True), ({'width': WIDTH, 'height': HEIGHT}, True))):
        info.publish(CameraInfo(**fields))
        client.spin(0.3)
        camera.forget()
        camera.publisher.publish(image(SCENE, 'bgr8', STAMP + index))
        client.until(lambda: camera.received['labels'])
        client.spin(0.3)
        assert bool(camera.received['camera_info']) is passed_on
    node.wait_for_output(
        f'camera_info is of {2 * WIDTH}x{2 * HEIGHT}, the image of {WIDTH}x{HEIGHT}: not passed')


@pytest.mark.skipif(vision is None, reason='vision_msgs is not installed')
def test_label_info_tells_whoever_comes_late_what_the_labels_mean(node, client):
    infos = client.listen(vision.LabelInfo, f'{NODE}/label_info', QoSProfile(
        depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    client.until(lambda: infos)
    assert {each.class_id: each.class_name for each in infos[0].class_map} == dict(
        enumerate(CAMVID.classes))
    assert infos[0].threshold == 0.0
    assert client.set('min_confidence', 0.25) == ''
    client.until(lambda: infos[-1].threshold == 0.25)
    assert client.set('min_confidence', 0.0) == ''


def test_frames_that_all_go_without_labels_are_an_error(node, client):
    camera = Camera(client, 'labels')
    client.status(lambda status: status.level == DiagnosticStatus.OK)
    broken = image(SCENE[:, :WIDTH], 'bgr8', STAMP, width=WIDTH)
    # Until then, since a report tells of what was dropped since the one before.
    timer = client.node.create_timer(0.05, lambda: camera.publisher.publish(broken))
    status = client.status(lambda status: status.level == DiagnosticStatus.ERROR)
    client.node.destroy_timer(timer)
    assert status.message.startswith('frames come, but no labels for ')
    assert 'frames dropped: bad_step ' in status.message
    camera.outputs(image(SCENE, 'bgr8', STAMP))
    client.status(lambda status: status.level == DiagnosticStatus.OK)


def test_an_output_without_subscriber_is_not_published(node, client):
    # Subscribed to by nobody else, but listened for at the end: nothing was kept for later.
    camera = Camera(client, 'color')
    camera.outputs(image(SCENE, 'bgr8', STAMP))
    late = client.listen(Image, f'{NODE}/labels')
    client.spin(0.5)
    assert not late
    camera.outputs(image(SCENE, 'bgr8', STAMP + 1))
    client.until(lambda: late)
    assert nanoseconds(late[0]) == STAMP + 1


def test_stale_after_a_while_and_well_again(node, client):
    camera = Camera(client, 'labels')
    client.status(lambda status: status.level == DiagnosticStatus.OK)
    camera.forget()
    stale = client.status(lambda status: status.level == DiagnosticStatus.STALE)
    assert stale.message.startswith('no frames for ')
    assert not camera.received['labels']
    camera.outputs(image(SCENE, 'bgr8', STAMP))
    client.status(lambda status: status.level == DiagnosticStatus.OK)


def test_frames_in_quick_succession_keep_their_own_labels(start_node, tiny_weights, client):
    # In a namespace, since two nodes of one name both do what a service call asks for, each in its
    # own time.
    node = start_node(
        'segmentation_node', '-r', '__ns:=/succession', weights=tiny_weights, threads=1)
    node.wait_for_output(r'engine \w+ on cpu')
    client.namespace = '/succession'
    scenes = [scene(seed, 480, 640) for seed in (1, 2)]
    segmenter = Segmenter(tiny_weights, threads=1)
    expected = {}
    for input_height in (64, 96):
        segmenter.input_height = input_height
        for at, frame in enumerate(scenes):
            expected[input_height, at] = segmenter.segment([frame])[0].labels.copy()
    # Else a mix of two could not be told from the one.
    assert all(
        np.any(one != other) for one, other in itertools.combinations(expected.values(), 2))
    # Pictures alternate, so does the input height; publishing one, which these outputs make take
    # longer, overlaps labelling the next.
    camera = Camera(client, 'labels', 'color', 'overlay', 'overlay/compressed')
    for input_height in (64, 96, 64):
        assert client.set('input_height', input_height) == ''
        camera.forget()
        # A busy machine labels few of them, so as many as it takes.
        for index in range(1, 2001):
            camera.publisher.publish(image(scenes[index % 2].reshape(480, -1), 'bgr8', index))
            client.spin(0.001)
            if len(camera.received['labels']) > 30:
                break
        client.until(lambda: all(
            messages and nanoseconds(messages[-1]) == index
            for messages in camera.received.values()))
        assert len(camera.received['labels']) > 5
        for message in camera.received['labels']:
            np.testing.assert_array_equal(
                pixels(message), expected[input_height, nanoseconds(message) % 2])
        for message in camera.received['overlay']:
            at = nanoseconds(message) % 2
            area = drivable_area(
                expected[input_height, at], CAMVID.indices(CAMVID.drivable))
            np.testing.assert_array_equal(pixels(message), overlay(
                scenes[at], expected[input_height, at], area, CAMVID.palette(), 0.5))


def test_newest_frame_wins(start_node, tiny_weights, client):
    # With the QoS that cameras meet, and frames that come faster than the network is.
    node = start_node(
        'segmentation_node', '-r', '__ns:=/burst', weights=tiny_weights, threads=1,
        input_height=1536)
    node.wait_for_output(r'engine \w+ on cpu')
    client.namespace = '/burst'
    labels = client.listen(Image, f'/burst{NODE}/labels')
    publisher = client.publisher(Image, '/burst/image')
    client.until(lambda: client.node.count_publishers(f'/burst{NODE}/labels'))
    index = 0
    while not labels:
        index += 1
        publisher.publish(image(SCENE, 'bgr8', index))
        client.spin(0.05)
    for index in range(index + 1, index + 301):
        publisher.publish(image(SCENE, 'bgr8', index))
        client.spin(0.002)
    client.until(lambda: nanoseconds(labels[-1]) == index)
    status = client.status(lambda status: (
        status.count('frames received')
        == status.count('frames labelled') + sum(status.dropped.values())))
    stamps = [nanoseconds(message) for message in labels]
    assert stamps == sorted(set(stamps))
    assert len(stamps) <= status.count('frames labelled') < index
    assert status.dropped['superseded'] > 0
    assert set(status.dropped) <= {'superseded', 'no_subscriber'}
    assert status.level == DiagnosticStatus.OK


def test_compressed_transport_with_the_shipped_weights(start_node, client):
    node = start_node(
        'segmentation_node', '-r', '__ns:=/front', '-r', 'image:=image_raw',
        image_transport='compressed', **{
            'qos_overrides./front/image_raw/compressed.subscription.reliability': 'reliable'})
    node.wait_for_output(r'engine \w+ on cpu')
    frame = scene(2, 180, 240)
    segmenter = Segmenter('lpsnet_s_camvid')
    labels = client.listen(Image, f'/front{NODE}/labels')
    # The name that image_transport gives what belongs to image_raw.
    publisher = client.publisher(CompressedImage, '/front/image_raw/compressed')
    client.until(lambda: client.node.count_publishers(f'/front{NODE}/labels'))
    for extension in ('png', 'jpeg'):
        message = compressed(cv2.imencode(f'.{extension}', frame)[1].tobytes(), extension, STAMP)
        del labels[:]
        while not labels:
            publisher.publish(message)
            client.spin(0.5)
        expected, = segmenter.segment([frames.decode(message)])
        np.testing.assert_array_equal(pixels(labels[0]), expected.labels)
        assert nanoseconds(labels[0]) == STAMP
        assert labels[0].header.frame_id == 'front_camera'
        client.spin(1.0)
