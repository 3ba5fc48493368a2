# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Folders and the synthetic scene become bags that hold just what they hold."""

from __future__ import annotations

import cv2
from lmii_ros import bags
from lmii_ros import cli
from lmii_ros import frames
from lmii_ros.simulation import PinholeCamera
import numpy as np
import pytest
from rosbags.rosbag2 import Reader
from rosbags.typesys import get_typestore
from rosbags.typesys import Stores

IMAGE = '/camera/image_raw'
TRUTH = '/camera/ground_truth'
INFO = '/camera/camera_info'


def picture(index):
    return np.random.default_rng(index).integers(0, 256, (48, 64, 3), np.uint8)


def label_image(index):
    return np.random.default_rng(index).integers(0, 12, (48, 64), np.uint8)


@pytest.fixture
def camvid(tmp_path):
    """Return a folder of four pictures, with labels beside it as in CamVid: 11 is void."""
    for name in ('val', 'valannot'):
        (tmp_path / name).mkdir()
    for index in range(4):
        cv2.imwrite(str(tmp_path / 'val' / f'{index}.png'), picture(index))
        cv2.imwrite(str(tmp_path / 'valannot' / f'{index}.png'), label_image(index))
    return tmp_path / 'val'


def make(source, out, *more):
    return cli.main(['bag', 'make', str(source), '--out', str(out), *map(str, more)])


def infos(path):
    store = get_typestore(Stores.ROS2_JAZZY)
    with Reader(path) as reader:
        return [
            store.deserialize_cdr(data, connection.msgtype)
            for connection, _, data in reader.messages() if connection.topic == INFO]


def test_a_folder_with_labels_in_the_layout_of_camvid(camvid, tmp_path, capsys):
    out = tmp_path / 'bag'
    assert make(camvid, out, '--labels', f'{camvid}annot', '--rate', 10) == 0
    assert f'{out}: 4 frames, 4 with labels' in capsys.readouterr().out
    images, truths = (list(bags.read_images(out, topic)) for topic in (IMAGE, TRUTH))
    assert len(images) == len(truths) == 4
    for index, (image, truth, info) in enumerate(zip(images, truths, infos(out))):
        assert image.stamp_ns == image.time_ns == 10**9 + index * 10**8
        assert truth.stamp_ns == image.stamp_ns
        assert info.header.stamp.sec * 10**9 + info.header.stamp.nanosec == image.stamp_ns
        assert image.frame_id == truth.frame_id == info.header.frame_id == 'camera_optical_frame'
        assert image.message.encoding == 'bgr8'
        assert (frames.decode(image.message) == picture(index)).all()
        expected = np.where(label_image(index) == 11, 255, label_image(index))
        assert (frames.decode_labels(truth.message) == expected).all()
        # Zeros are what sensor_msgs/CameraInfo has for uncalibrated.
        assert (info.width, info.height) == (64, 48) and not info.k.any()


def test_void_is_what_it_is_said_to_be(camvid, tmp_path):
    elsewhere = (f'{camvid}annot').replace('valannot', 'truth')
    (camvid.parent / 'valannot').rename(elsewhere)
    for number, (options, void) in enumerate((((), None), (('--void', 3), 3))):
        out = tmp_path / f'bag{number}'
        assert make(camvid, out, '--labels', elsewhere, *options) == 0
        truth = frames.decode_labels(next(bags.read_images(out, TRUTH)).message)
        expected = label_image(0)
        expected[expected == void] = 255
        assert (truth == expected).all()


@pytest.mark.parametrize('encoding', ['rgb8', 'mono8', 'nv12', 'bayer_rggb8', 'jpeg', 'png'])
def test_encodings(camvid, tmp_path, encoding):
    out = tmp_path / 'bag'
    assert make(camvid, out, '--encoding', encoding, '--fov', 60) == 0
    topic = f'{IMAGE}/compressed' if encoding in ('jpeg', 'png') else IMAGE
    assert list(bags.image_topics(out)) == [topic]
    image = next(bags.read_images(out))
    pixels = frames.decode(image.message)
    assert pixels.shape == (48, 64, 3)
    if encoding in ('rgb8', 'png'):
        assert (pixels == picture(0)).all()
    elif encoding == 'jpeg':
        jpeg = cv2.imencode('.jpg', picture(0), (cv2.IMWRITE_JPEG_QUALITY, 95))[1]
        assert (pixels == cv2.imdecode(jpeg, cv2.IMREAD_COLOR)).all()
    else:
        assert image.message.encoding == encoding and image.message.height == 48
    assert (infos(out)[0].k.reshape(3, 3) == PinholeCamera.from_fov(64, 48, 60).matrix()).all()


def test_the_synthetic_scene_has_exact_labels(tmp_path):
    out = tmp_path / 'bag'
    assert make('synthetic', out, '--size', '160x96', '--frames', 2) == 0
    assert [frames.decode(image.message).shape for image in bags.read_images(out, IMAGE)] == [
        (96, 160, 3)] * 2
    assert len(list(bags.read_images(out, TRUTH))) == 2


def test_a_bag_as_source_with_fewer_frames_of_another_size(camvid, tmp_path):
    make(camvid, tmp_path / 'one', '--labels', f'{camvid}annot')
    assert make(
        tmp_path / 'one', tmp_path / 'two', '--labels', TRUTH, '--frames', 3, '--size',
        '32x24') == 0
    images = list(bags.read_images(tmp_path / 'two', IMAGE))
    assert [image.message.width for image in images] == [32, 32, 32]


@pytest.mark.parametrize('options, reason', [
    (('--rate', 0), 'rate is 0'), (('--rate', 'nan'), 'rate is nan'),
    (('--fov', 180), 'field of view'), (('--encoding', 'yuv9'), 'yuv9'),
    (('--labels', 'nowhere'), 'not a folder of label images'), (('--frames', -1), '-1 frames')])
def test_what_cannot_be_recorded_is_one_line(camvid, tmp_path, capsys, options, reason):
    assert make(camvid, tmp_path / 'bag', *options) == 1
    error = capsys.readouterr().err.strip()
    assert reason in error and '\n' not in error and error.startswith('lmii bag: ')


def test_a_source_that_breaks_off_leaves_no_bag_that_looks_whole(camvid, tmp_path, capsys):
    (camvid / '3.png').write_bytes((camvid / '3.png').read_bytes()[:100])
    assert make(camvid, tmp_path / 'bag') == 1
    assert '3.png' in capsys.readouterr().err
    assert not (tmp_path / 'bag').exists()
    assert make(camvid, tmp_path / 'bag', '--frames', 3) == 0


def test_other_refusals(camvid, tmp_path, capsys):
    assert make('synthetic', tmp_path / 'bag') == 1
    assert 'has no end' in capsys.readouterr().err
    assert make(tmp_path / 'none', tmp_path / 'bag') == 1
    assert 'no such file or folder' in capsys.readouterr().err
    assert make(camvid, camvid) == 1
    assert 'exists already' in capsys.readouterr().err


@pytest.mark.parametrize('encoding, transport', [('bgr8', 'raw'), ('jpeg', 'compressed')])
def test_the_transport_of_a_bag_is_told(camvid, tmp_path, capsys, encoding, transport):
    out = tmp_path / 'bag'
    assert make(camvid, out, '--labels', f'{camvid}annot', '--encoding', encoding) == 0
    capsys.readouterr()
    assert cli.main(['bag', 'transport', str(out), '--labels', TRUTH]) == 0
    assert capsys.readouterr().out == f'{transport}\n'
    # Without it, image and labels are two topics to choose from.
    assert cli.main(['bag', 'transport', str(out)]) == 1
    assert 'name one of its image topics' in capsys.readouterr().err
