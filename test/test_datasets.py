# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""CamVid is read as it lies on disk; what is missing or wrong is named."""

from __future__ import annotations

import cv2
from lmii_ros.classes import CAMVID
from lmii_ros.classes import UNKNOWN
from lmii_ros.datasets import camvid
from lmii_ros.datasets import DatasetError
import numpy as np
import pytest

SIZE = (6, 8)


def write(root, split, stem, value, label, suffix='.png'):
    """Write an image of one colour and a label image of one class."""
    for folder in (root / split, root / f'{split}annot'):
        folder.mkdir(parents=True, exist_ok=True)
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:] = value
    cv2.imwrite(str(root / split / f'{stem}{suffix}'), image)
    cv2.imwrite(str(root / f'{split}annot' / f'{stem}.png'), np.full(SIZE, label, np.uint8))


@pytest.fixture
def root(tmp_path):
    write(tmp_path, 'train', 'b', (10, 20, 30), 1)
    write(tmp_path, 'train', 'a', (40, 50, 60), 0)
    write(tmp_path, 'val', 'c', (70, 80, 90), 10, '.jpg')
    return tmp_path


def rewrite_label(root, image):
    cv2.imwrite(str(root / 'trainannot' / 'a.png'), image)


def test_images_come_sorted_with_their_own_labels(root):
    stems = [f'{17 * index % 31:02}' for index in range(1, 31)]
    for index, stem in enumerate(stems):
        write(root, 'train', stem, (0, 0, 0), index % 11)
    dataset = camvid(root, 'train')
    assert dataset.classes == CAMVID
    assert len(dataset) == 32
    assert [path.stem for path in dataset.images] == [*sorted(stems), 'a', 'b']
    assert [dataset.truth(index)[0, 0] for index in range(32)] == [
        *(stems.index(stem) % 11 for stem in sorted(stems)), 0, 1]


def test_images_are_blue_green_red(root):
    image = camvid(root, 'train').image(1)
    assert image.shape == (*SIZE, 3)
    assert image.dtype == np.uint8
    assert (image == (10, 20, 30)).all()


def test_joined_splits(root):
    dataset = camvid(root, 'train+val')
    assert [path.stem for path in dataset.images] == ['a', 'b', 'c']
    assert dataset.truth(2).tolist() == np.full(SIZE, 10).tolist()


def test_jpeg_images_have_png_labels(root):
    dataset = camvid(root, 'val')
    assert dataset.images[0].suffix == '.jpg'
    assert dataset.labels[0].name == 'c.png'
    assert np.abs(dataset.image(0).astype(int) - (70, 80, 90)).max() <= 3


def test_other_files_are_not_images(root):
    (root / 'train' / 'notes.txt').write_text('x')
    (root / 'train' / '.DS_Store').write_bytes(b'x')
    assert len(camvid(root, 'train')) == 2


def test_grey_images_become_three_channels(root):
    cv2.imwrite(str(root / 'train' / 'a.png'), np.full(SIZE, 7, np.uint8))
    assert (camvid(root, 'train').image(0) == np.full((*SIZE, 3), 7)).all()


def test_void_becomes_unknown(root):
    labels = np.zeros(SIZE, np.uint8)
    labels[0] = 11
    labels[1] = 10
    rewrite_label(root, labels)
    truth = camvid(root, 'train').truth(0)
    assert truth.dtype == np.uint8
    assert (truth[0] == UNKNOWN).all()
    assert (truth[1] == 10).all()
    assert (truth[2:] == 0).all()


@pytest.mark.parametrize('label', [12, 100, 254])
def test_a_label_out_of_range_is_named(root, label):
    labels = np.zeros(SIZE, np.uint8)
    labels[3, 4] = label
    rewrite_label(root, labels)
    with pytest.raises(DatasetError, match=rf'a\.png: label {label} .*11 classes of camvid'):
        camvid(root, 'train').truth(0)


@pytest.mark.parametrize('labels', [
    np.zeros((*SIZE, 3), np.uint8), np.zeros((*SIZE, 4), np.uint8), np.zeros(SIZE, np.uint16)],
    ids=['bgr', 'bgra', '16bit'])
def test_label_images_of_another_kind_are_refused(root, labels):
    rewrite_label(root, labels)
    with pytest.raises(DatasetError, match=r'a\.png: expected 8-bit labels'):
        camvid(root, 'train').truth(0)


@pytest.mark.parametrize('content', [b'', b'not an image', b'\x89PNG\r\n\x1a\n'])
def test_unreadable_files_are_named(root, content):
    (root / 'train' / 'a.png').write_bytes(content)
    (root / 'trainannot' / 'b.png').write_bytes(content)
    dataset = camvid(root, 'train')
    with pytest.raises(DatasetError, match=r'train.a\.png: not a readable image'):
        dataset.image(0)
    with pytest.raises(DatasetError, match=r'trainannot.b\.png: not a readable image'):
        dataset.truth(1)


@pytest.mark.parametrize('split', ['test', 'train+test'])
def test_a_missing_split_is_named(root, split):
    with pytest.raises(DatasetError, match='no folder .*test; expected CamVid'):
        camvid(root, split)


def test_a_folder_without_images_is_named(root):
    (root / 'test').mkdir()
    with pytest.raises(DatasetError, match='no images .*test'):
        camvid(root, 'test')


def test_a_missing_label_image_is_named(root):
    (root / 'trainannot' / 'b.png').unlink()
    with pytest.raises(DatasetError, match=r'no label image .*trainannot.b\.png'):
        camvid(root, 'train')
