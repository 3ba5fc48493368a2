# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Folders, videos, bags and the synthetic scene give the frames that are in them."""

from __future__ import annotations

from itertools import islice

import cv2
from lmii_ros.bags import ImageBagWriter
from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import RoadScene
from lmii_ros.sources import SourceError
from lmii_ros.sources import open_source
import numpy as np
import pytest


def flat(value, height=48, width=64):
    return np.full((height, width, 3), (value, 10, 20), np.uint8)


def label_image(value):
    labels = np.full((48, 64), value, np.uint8)
    labels[:, 32:] = 255
    return labels


@pytest.fixture
def folder(tmp_path):
    """Return a folder of three pictures, with their labels in a folder beside it."""
    images, labels = tmp_path / 'images', tmp_path / 'labels'
    images.mkdir()
    labels.mkdir()
    for name, value in (('b.png', 2), ('a.PNG', 1), ('c.jpg', 3)):
        data = cv2.imencode(name[1:].lower(), flat(value * 50))[1]
        (images / name).write_bytes(data)
        cv2.imwrite(str(labels / f'{name[0]}.png'), label_image(value))
    (images / 'notes.txt').write_text('not a picture')
    # What macOS leaves.
    (images / '._a.png').write_bytes(b'x')
    (images / '._run.mcap').write_bytes(b'x')
    return images, labels


def values(frames):
    """Return the values that the frames were made of: whole tens, but for the loss of JPEG."""
    return [10 * round(float(frame.image[..., 0].mean()) / 10) for frame in frames]


def refusal(*arguments, **options):
    """Return the one line with which a source, or one of its frames, is refused."""
    with pytest.raises(SourceError) as caught:
        list(open_source(*map(str, arguments), **options))
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_a_folder_in_the_order_of_names(folder):
    frames = list(open_source(str(folder[0])))
    assert values(frames) == [50, 100, 150]
    assert all(frame.labels is None for frame in frames)
    assert frames[0].image.dtype == np.uint8 and frames[0].image.shape == (48, 64, 3)


def test_a_folder_with_labels_of_the_same_stems(folder):
    frames = list(open_source(str(folder[0]), labels=str(folder[1])))
    for value, frame in enumerate(frames, 1):
        assert frame.labels.dtype == np.uint8
        assert (frame.labels == label_image(value)).all()


def test_frames_of_another_size_keep_their_label_values(folder):
    frames = list(open_source(str(folder[0]), labels=str(folder[1]), size=(100, 30)))
    assert values(frames) == [50, 100, 150]
    for value, frame in enumerate(frames, 1):
        assert frame.image.shape == (30, 100, 3)
        assert frame.labels.shape == (30, 100)
        assert set(np.unique(frame.labels)) == {value, 255}


def test_resized_images_are_interpolated(tmp_path):
    step = np.zeros((4, 4, 3), np.uint8)
    step[:, 2:] = 200
    cv2.imwrite(str(tmp_path / 'step.png'), step)
    frame, = open_source(str(tmp_path), size=(8, 4))
    assert set(np.unique(frame.image)) == {0, 50, 150, 200}


def test_folders_that_cannot_be_used(tmp_path, folder, capfd):
    images, labels = folder
    assert 'no such file' in refusal(tmp_path / 'none')
    (tmp_path / 'empty').mkdir()
    assert str(tmp_path / 'empty') in refusal(tmp_path / 'empty')
    assert 'nolabels' in refusal(images, labels=str(tmp_path / 'nolabels'))
    cv2.imwrite(str(labels / 'b.png'), np.zeros((4, 6), np.uint8))
    text = refusal(images, labels=str(labels))
    assert str(labels / 'b.png') in text and '6x4' in text and '64x48' in text
    cv2.imwrite(str(labels / 'b.png'), flat(0))
    assert str(labels / 'b.png') in refusal(images, labels=str(labels))
    (labels / 'b.png').unlink()
    with pytest.raises(SourceError, match='b.png: missing'):
        open_source(str(images), labels=str(labels))
    (images / 'b.png').write_bytes((images / 'b.png').read_bytes()[:60])
    assert str(images / 'b.png') in refusal(images)
    assert capfd.readouterr().err == ''


def test_a_video(tmp_path):
    path = tmp_path / 'drive.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    assert writer.isOpened()
    for value in (50, 100, 150):
        writer.write(flat(value))
    writer.release()
    frames = list(open_source(str(path)))
    assert values(frames) == [50, 100, 150]
    assert len({id(frame.image) for frame in frames}) == 3
    assert [frame.image.shape for frame in open_source(str(path), size=(32, 20))] == [
        (20, 32, 3)] * 3
    assert 'video' in refusal(path, labels='somewhere')


def test_a_file_that_is_no_video_is_refused_at_once(tmp_path):
    path = tmp_path / 'drive.avi'
    path.write_bytes(bytes(1000))
    with pytest.raises(SourceError, match='drive.avi: no frame can be read'):
        open_source(str(path))


@pytest.fixture
def bag(tmp_path):
    """Return a bag of five images; the second and the last have no labels."""
    path = tmp_path / 'bag'
    with ImageBagWriter(path) as writer:
        for index in range(5):
            writer.write_image('/camera', 10**9 * (index + 1), 'c', flat(index * 50), 'bgr8')
            if index in (0, 2, 3):
                writer.write_image(
                    '/labels', 10**9 * (index + 1), 'c', label_image(index), 'mono8')
            writer.write_image('/strangers', 10**9 * (index + 9), 'c', label_image(0), 'mono8')
    return path


@pytest.mark.parametrize('inside', [False, True])
def test_a_bag(bag, inside):
    source = str(bag / 'bag.mcap' if inside else bag)
    assert values(open_source(source, topic='/camera')) == [0, 50, 100, 150, 200]
    frames = list(open_source(source, topic='/camera', labels='/labels', size=(32, 24)))
    assert values(frames) == [0, 50, 100, 150, 200]
    assert [None if frame.labels is None else frame.labels[0, 0] for frame in frames] == [
        0, None, 2, 3, None]
    assert frames[0].labels.shape == (24, 32)


@pytest.mark.parametrize('stamps', [[1, 2, 3, 4, 5, 1, 2, 3, 4, 5], [1, 3, 2, 4, 5]])
def test_labels_are_found_where_stamps_jump_back(tmp_path, stamps):
    with ImageBagWriter(tmp_path / 'bag') as writer:
        for time, stamp in enumerate(stamps):
            writer.write_image(
                '/camera', 10**9 * stamp, 'c', flat(stamp * 20), 'bgr8', 10**9 * time)
            writer.write_image(
                '/labels', 10**9 * stamp, 'c', label_image(stamp), 'mono8', 10**9 * time + 1)
    frames = list(open_source(str(tmp_path / 'bag'), topic='/camera', labels='/labels'))
    assert values(frames) == [20 * stamp for stamp in stamps]
    assert [None if frame.labels is None else frame.labels[0, 0] for frame in frames] == stamps


def test_the_only_topic_besides_the_labels_needs_no_name(tmp_path):
    with ImageBagWriter(tmp_path / 'bag') as writer:
        writer.write_image('/camera', 7, 'c', flat(90), 'rgb8')
        writer.write_image('/labels', 7, 'c', label_image(4), 'mono8')
    frame, = open_source(str(tmp_path / 'bag'), labels='/labels')
    assert frame.image[0, 0].tolist() == [20, 10, 90]
    assert (frame.labels == label_image(4)).all()


def test_bags_that_cannot_be_used(bag):
    with pytest.raises(SourceError, match='/camera, /labels'):
        open_source(str(bag))
    with pytest.raises(SourceError, match='/nothing'):
        open_source(str(bag), topic='/nothing')
    with pytest.raises(SourceError, match='/nothing'):
        open_source(str(bag), topic='/camera', labels='/nothing')
    assert 'has the stamp' in refusal(bag, topic='/camera', labels='/strangers')
    assert '/camera at 1000000000 ns' in refusal(bag, topic='/labels', labels='/camera')
    data = (bag / 'bag.mcap').read_bytes()
    (bag / 'bag.mcap').write_bytes(data[:-9])
    assert 'after 5 messages of /camera: ' in refusal(bag, topic='/camera')
    frames = open_source(str(bag), topic='/camera', labels='/labels')
    assert values(islice(frames, 5)) == [0, 50, 100, 150, 200]
    with pytest.raises(SourceError, match='after 8 messages of /camera and /labels: '):
        next(frames)
    (bag / 'metadata.yaml').unlink()
    assert 'metadata.yaml' in refusal(bag, topic='/camera')


@pytest.mark.parametrize('source', ['', 'synthetic'])
def test_the_synthetic_scene(source):
    frames = list(islice(open_source(source, seed=3, size=(160, 120), rate=2.0), 3))
    scene = RoadScene(seed=3, camera=PinholeCamera.from_fov(160, 120))
    for index, frame in enumerate(frames):
        expected = scene.render(index / 2.0)
        assert (frame.image == expected.image).all()
        assert (frame.labels == expected.labels).all()
    assert (frames[0].image != frames[2].image).any()


def test_sizes_and_rates_that_cannot_be():
    assert '0x4' in refusal('', size=(0, 4))
    assert 'rate' in refusal('', rate=0.0)
