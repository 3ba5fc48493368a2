# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Data sets are read as they lie on disk; what is missing or wrong is named."""

from __future__ import annotations

import shutil
import struct
import zlib

import cv2
from lmii_ros.classes import CAMVID
from lmii_ros.classes import CITYSCAPES
from lmii_ros.classes import UNKNOWN
from lmii_ros.datasets import camvid
from lmii_ros.datasets import DatasetError
from lmii_ros.datasets import hold_out
from lmii_ros.datasets import open_dataset
import numpy as np
import pytest
import yaml

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
    (root / 'train' / '._a.png').write_bytes(b'x')
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
    with pytest.raises(DatasetError, match=r'a\.png: .*expected a PNG of one 8-bit channel'):
        camvid(root, 'train').truth(0)


def test_label_images_of_fewer_bits_and_with_a_palette_are_refused(root):
    # OpenCV would give 255 for the 1 of one bit, and colours for what a palette says.
    path = root / 'trainannot' / 'a.png'
    for bits, color_type, row in ((1, 0, b'\x00\x50'), (8, 3, b'\x00\x00\x01\x00\x01')):
        header = struct.pack('>IIBBBBB', 4, 1, bits, color_type, 0, 0, 0)
        palette = [(b'PLTE', bytes(6))] if color_type == 3 else []
        path.write_bytes(b'\x89PNG\r\n\x1a\n' + b''.join(
            struct.pack('>I', len(data)) + name + data
            + struct.pack('>I', zlib.crc32(name + data))
            for name, data in (
                (b'IHDR', header), *palette, (b'IDAT', zlib.compress(row)), (b'IEND', b''))))
        assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is not None
        with pytest.raises(DatasetError, match=r'a\.png: .*8-bit channel, without a palette'):
            camvid(root, 'train').truth(0)


@pytest.mark.parametrize('content', [b'', b'not an image', b'\x89PNG\r\n\x1a\n'])
def test_unreadable_files_are_named(root, content):
    (root / 'train' / 'a.png').write_bytes(content)
    (root / 'trainannot' / 'b.png').write_bytes(content)
    dataset = camvid(root, 'train')
    with pytest.raises(DatasetError, match=r'train.a\.png: not a readable image'):
        dataset.image(0)
    with pytest.raises(DatasetError, match=r'trainannot.b\.png: not a readable label image'):
        dataset.truth(1)


@pytest.mark.parametrize('lost', [100, 1000])
def test_a_picture_that_is_cut_short_is_named(root, lost):
    rng = np.random.default_rng(0)
    noise = cv2.imencode('.jpg', rng.integers(0, 256, (64, 64, 3), np.uint8))[1].tobytes()
    (root / 'val' / 'c.jpg').write_bytes(noise[:-lost])
    with pytest.raises(DatasetError, match=r'val.c\.jpg: not a readable image: .* cut short'):
        camvid(root, 'val').image(0)


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


def test_a_missing_image_is_told_by_its_label_image(root):
    (root / 'train' / 'b.png').unlink()
    with pytest.raises(DatasetError, match=r'no image for the label image .*trainannot.b\.png'):
        camvid(root, 'train')


def test_two_images_of_one_label_image_are_refused(root):
    shutil.copy(root / 'train' / 'a.png', root / 'train' / 'a.jpg')
    with pytest.raises(DatasetError, match=r'2 images have the label image .*trainannot.a\.png'):
        camvid(root, 'train')


# Kinds

COLORS = """
64 128 64 Animal
192 0 128 Archway
0 128 192 Bicyclist
0 128 64 Bridge
128 0 0 Building
64 0 128 Car
64 0 192 CartLuggagePram
192 128 64 Child
192 192 128 Column_Pole
64 64 128 Fence
128 0 192 LaneMkgsDriv
192 0 64 LaneMkgsNonDriv
128 128 64 Misc_Text
192 0 192 MotorcycleScooter
128 64 64 OtherMoving
64 192 128 ParkingBlock
64 64 0 Pedestrian
128 64 128 Road
128 128 192 RoadShoulder
0 0 192 Sidewalk
192 128 128 SignSymbol
128 128 128 Sky
64 128 192 SUVPickupTruck
0 0 64 TrafficCone
0 64 64 TrafficLight
192 64 128 Train
128 128 0 Tree
192 128 192 Truck_Bus
64 0 64 Tunnel
192 192 0 VegetationMisc
0 0 0 Void
64 192 0 Wall
"""
"""The file ``label_colors.txt`` of CamVid."""
GROUPS = {
    'Sky': 'Sky', 'Building': 'Archway Bridge Building Tunnel Wall',
    'Pole': 'Column_Pole TrafficCone', 'Road': 'LaneMkgsDriv LaneMkgsNonDriv Road',
    'Pavement': 'ParkingBlock RoadShoulder Sidewalk', 'Tree': 'Tree VegetationMisc',
    'SignSymbol': 'Misc_Text SignSymbol TrafficLight', 'Fence': 'Fence',
    'Car': 'Car OtherMoving SUVPickupTruck Train Truck_Bus',
    'Pedestrian': 'Animal CartLuggagePram Child Pedestrian',
    'Bicyclist': 'Bicyclist MotorcycleScooter'}


def put(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def camvid_stems():
    """Return the 701 stems of CamVid."""
    return [
        *(f'0001TP_{number:06}' for number in range(6690, 10381, 30)),
        *(f'0006R0_f{number:05}' for number in range(930, 3931, 30)),
        *(f'0016E5_{number:05}' for number in [
            *range(390, 8641, 30)][:71] + [*range(4650, 8641, 30)][1:]),
        *(f'0016E5_{number:05}' for number in range(7959, 8160, 2)),
        *(f'Seq05VD_f{number:05}' for number in range(0, 5101, 30))]


@pytest.fixture(scope='module')
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp('original')
    for stem in camvid_stems():
        put(root / '701_StillsRaw_full' / f'{stem}.png', np.zeros((2, 2, 3), np.uint8))
        put(root / 'LabeledApproved_full' / f'{stem}_L.png', np.zeros((2, 2, 3), np.uint8))
    return root


def test_all_colours_of_camvid(original):
    lines = [line.split() for line in COLORS.split('\n') if line]
    colors = np.array([[int(value) for value in line[:3]] for line in lines], np.uint8)
    put(original / 'LabeledApproved_full' / '0006R0_f00930_L.png',
        colors[:, ::-1].reshape(4, 8, 3))
    dataset = open_dataset(original, 'train')
    index = [path.stem for path in dataset.images].index('0006R0_f00930')
    truth = dataset.truth(index)
    assert truth.dtype == np.uint8
    assert len(lines) == 32
    for (*_, name), label in zip(lines, truth.ravel()):
        groups = [group for group, members in GROUPS.items() if name in members.split()]
        assert groups == ([CAMVID.classes[label]] if label != UNKNOWN else []), name
    assert (truth == UNKNOWN).sum() == 1


def test_the_splits_of_camvid_follow_from_the_names(original):
    splits = {
        name: [path.stem for path in open_dataset(original, name).images]
        for name in ('train', 'val', 'test')}
    assert {name: len(stems) for name, stems in splits.items()} == {
        'train': 367, 'val': 101, 'test': 233}
    assert {stem.split('_')[0] for stem in splits['val']} == {'0016E5'}
    assert [stem.split('_')[0] for stem in splits['test']].count('0001TP') == 62
    assert '0001TP_008520' in splits['train']
    assert '0001TP_008550' in splits['test']
    assert len(open_dataset(original, 'train+val')) == 468
    with pytest.raises(DatasetError, match="no split .trian. of .*: train, val, test"):
        open_dataset(original, 'trian')


def test_an_incomplete_camvid_is_refused(original):
    path = original / '701_StillsRaw_full' / '0006R0_f00960.png'
    content = path.read_bytes()
    path.unlink()
    try:
        with pytest.raises(DatasetError, match='no image for .*0006R0_f00960_L'):
            open_dataset(original, 'train')
        label = original / 'LabeledApproved_full' / '0006R0_f00960_L.png'
        label.rename(original / 'kept.png')
        with pytest.raises(DatasetError, match="'train': 366.*expected .*'train': 367"):
            open_dataset(original, 'train')
        (original / 'kept.png').rename(label)
    finally:
        path.write_bytes(content)


def test_a_colour_that_is_no_class_is_named(original):
    label = np.zeros((2, 2, 3), np.uint8)
    label[1, 1] = (3, 2, 1)
    path = original / 'LabeledApproved_full' / '0006R0_f00960_L.png'
    put(path, label)
    dataset = open_dataset(original, 'train')
    with pytest.raises(DatasetError, match=r'f00960_L\.png: label \[1, 2, 3\] is none of the 11'):
        dataset.truth([path.stem for path in dataset.images].index('0006R0_f00960'))


def write_cityscapes(root, split, city, frame, kind, labels):
    stem = f'{city}_{frame:06}_000019'
    put(root / 'leftImg8bit' / split / city / f'{stem}_leftImg8bit.png',
        np.full((*labels.shape, 3), frame, np.uint8))
    put(root / 'gtFine' / split / city / f'{stem}_gtFine_{kind}.png', labels)
    put(root / 'gtFine' / split / city / f'{stem}_gtFine_instanceIds.png',
        labels.astype(np.uint16))


def test_cityscapes_with_train_ids(tmp_path):
    labels = np.array([*range(19), 255], np.uint8).reshape(4, 5)
    for city, frame in (('bochum', 2), ('aachen', 1), ('aachen', 0)):
        write_cityscapes(tmp_path, 'train', city, frame, 'labelTrainIds', labels)
    dataset = open_dataset(tmp_path, 'train')
    assert dataset.classes == CITYSCAPES
    assert [dataset.image(index)[0, 0, 0] for index in range(3)] == [0, 1, 2]
    assert dataset.truth(2).ravel().tolist() == [*range(19), UNKNOWN]
    put(dataset.labels[1], np.full((4, 5), 19, np.uint8))
    with pytest.raises(DatasetError, match=r'aachen_000001.*TrainIds\.png: label 19 .* 19 cl'):
        dataset.truth(1)
    dataset.labels[1].unlink()
    with pytest.raises(DatasetError, match=r'no label image .*aachen_000001'):
        open_dataset(tmp_path, 'train')
    with pytest.raises(DatasetError, match='no folder .*leftImg8bit.val'):
        open_dataset(tmp_path, 'val')
    write_cityscapes(tmp_path, 'train', 'aachen', 1, 'labelTrainIds', labels)
    shutil.rmtree(tmp_path / 'leftImg8bit' / 'train' / 'bochum')
    with pytest.raises(DatasetError, match='no image for the label image .*bochum_000002'):
        open_dataset(tmp_path, 'train')


def test_cityscapes_with_label_ids(tmp_path):
    write_cityscapes(
        tmp_path, 'val', 'lindau', 3, 'labelIds', np.arange(34, dtype=np.uint8)[None].repeat(4, 0))
    dataset = open_dataset(tmp_path, 'val')
    names = {
        7: 'road', 8: 'sidewalk', 11: 'building', 12: 'wall', 13: 'fence', 17: 'pole',
        19: 'traffic light', 20: 'traffic sign', 21: 'vegetation', 22: 'terrain', 23: 'sky',
        24: 'person', 25: 'rider', 26: 'car', 27: 'truck', 28: 'bus', 31: 'train',
        32: 'motorcycle', 33: 'bicycle'}
    for label, index in enumerate(dataset.truth(0)[0]):
        expected = UNKNOWN if label not in names else CITYSCAPES.classes.index(names[label])
        assert index == expected, label


TABLE = {
    'name': 'yard', 'classes': ['ground', 'wall'], 'colors': [[0, 255, 0], [255, 0, 0]],
    'drivable': ['ground'], 'void': 9, 'terms': 'ours'}


@pytest.fixture
def own(tmp_path):
    (tmp_path / 'classes.yaml').write_text(yaml.safe_dump(TABLE))
    for name, label in (('train/a', 0), ('train/b', 9), ('c', 1)):
        put(tmp_path / 'images' / f'{name}.jpg', np.zeros((4, 4, 3), np.uint8))
        put(tmp_path / 'labels' / f'{name}.png', np.full((4, 4), label, np.uint8))
    (tmp_path / 'val.txt').write_text('c.jpg\n')
    return tmp_path


def test_a_folder_of_ones_own(own):
    dataset = open_dataset(own, 'train+val')
    assert (dataset.classes.name, dataset.classes.classes) == ('yard', ('ground', 'wall'))
    assert dataset.terms == 'ours'
    assert [path.name for path in dataset.images] == ['a.jpg', 'b.jpg', 'c.jpg']
    assert [dataset.truth(index)[0, 0] for index in range(3)] == [0, UNKNOWN, 1]
    with pytest.raises(DatasetError, match='no folder .*images.test'):
        open_dataset(own, 'test')


def test_what_is_wrong_in_a_folder_of_ones_own_is_named(own):
    put(own / 'labels' / 'c.png', np.full((4, 4), 2, np.uint8))
    with pytest.raises(DatasetError, match=r'c\.png: label 2 is none of the 2 classes of yard'):
        open_dataset(own, 'val').truth(0)
    (own / 'val.txt').write_text('d.jpg\n')
    with pytest.raises(DatasetError, match=r'no image .*d\.jpg'):
        open_dataset(own, 'val')
    (own / 'val.txt').write_bytes(b'\xff.jpg')
    with pytest.raises(DatasetError, match=r'val\.txt: .*decode'):
        open_dataset(own, 'val')
    (own / 'val.txt').write_text('\ufeffc.jpg \n \n')
    assert len(open_dataset(own, 'val')) == 1
    # A list may name a part of a folder.
    (own / 'train.txt').write_text('train/a.jpg\n')
    assert len(open_dataset(own, 'train')) == 1
    (own / 'train.txt').unlink()
    (own / 'images' / 'train' / 'b.jpg').unlink()
    with pytest.raises(DatasetError, match=r'no image for the label image .*train.b\.png'):
        open_dataset(own, 'train')
    for void in (1, 256, 'x'):
        (own / 'classes.yaml').write_text(yaml.safe_dump(TABLE | {'void': void}))
        with pytest.raises(DatasetError, match='void is .* expected 2 to 255'):
            open_dataset(own, 'train')
    (own / 'classes.yaml').write_text(yaml.safe_dump(TABLE | {'viod': 7}))
    with pytest.raises(DatasetError, match=r"classes\.yaml: unknown key 'viod'"):
        open_dataset(own, 'train')
    for text in ('a: [', '- 1', '', '1: 2\na: 3'):
        (own / 'classes.yaml').write_text(text)
        with pytest.raises(ValueError, match=r'classes\.yaml'):
            open_dataset(own, 'train')


def test_the_kind_can_be_given(root, tmp_path_factory):
    assert open_dataset(root, 'train').images == open_dataset(root, 'train', 'camvid').images
    with pytest.raises(DatasetError, match=r'no folder .*leftImg8bit'):
        open_dataset(root, 'train', 'cityscapes')
    with pytest.raises(DatasetError, match='kitti is no known kind .*leftImg8bit .cityscapes.'):
        open_dataset(root, 'train', 'kitti')
    with pytest.raises(DatasetError, match=r'is no known kind .*classes\.yaml .folder.'):
        open_dataset(tmp_path_factory.mktemp('empty'), 'train')
    with pytest.raises(DatasetError, match='no folder'):
        open_dataset(root / 'missing', 'train')


def test_drives_are_held_out_whole(root):
    for stem in ('drive1_001', 'drive1_002', 'drive2_001'):
        write(root, 'test', stem, (0, 0, 0), 0)
    rest, held = hold_out(camvid(root, 'test'), ['drive1'])
    assert [path.stem for path in rest.images] == ['drive2_001']
    assert [path.stem for path in held.images] == ['drive1_001', 'drive1_002']
    assert [path.stem for path in held.labels] == ['drive1_001', 'drive1_002']
    with pytest.raises(DatasetError, match="no image of drive 'drive3'; .*drive1, drive2"):
        hold_out(camvid(root, 'test'), ['drive3'])
    with pytest.raises(DatasetError, match='no drive is left'):
        hold_out(camvid(root, 'test'), ['drive1', 'drive2'])
