# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Data sets: images with a label image each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Callable
from typing import Iterable
from typing import Mapping
from typing import Sequence

import numpy as np
import yaml

from lmii_ros.classes import CAMVID
from lmii_ros.classes import CITYSCAPES
from lmii_ros.classes import ClassTable
from lmii_ros.classes import ClassTableError
from lmii_ros.classes import UNKNOWN
from lmii_ros.frames import FrameError
from lmii_ros.frames import decode_compressed
from lmii_ros.frames import decode_label_png

_SUFFIXES = ('.jpg', '.jpeg', '.png')
CLASS_FILE = 'classes.yaml'
CAMVID_VOID = 11
CAMVID_TERMS = (
    'Trained on CamVid, which is for research use; cite Brostow, Fauqueur, Cipolla, "Semantic '
    'object classes in video" (2009).')
CITYSCAPES_TERMS = (
    'Trained on Cityscapes, which is for non-commercial use; cite Cordts et al., "The Cityscapes '
    'dataset for semantic urban scene understanding" (2016).')
CAMVID_COLORS = {
    'Sky': {'Sky': (128, 128, 128)},
    'Building': {
        'Archway': (192, 0, 128), 'Bridge': (0, 128, 64), 'Building': (128, 0, 0),
        'Tunnel': (64, 0, 64), 'Wall': (64, 192, 0)},
    'Pole': {'Column_Pole': (192, 192, 128), 'TrafficCone': (0, 0, 64)},
    'Road': {
        'LaneMkgsDriv': (128, 0, 192), 'LaneMkgsNonDriv': (192, 0, 64), 'Road': (128, 64, 128)},
    'Pavement': {
        'ParkingBlock': (64, 192, 128), 'RoadShoulder': (128, 128, 192),
        'Sidewalk': (0, 0, 192)},
    'Tree': {'Tree': (128, 128, 0), 'VegetationMisc': (192, 192, 0)},
    'SignSymbol': {
        'Misc_Text': (128, 128, 64), 'SignSymbol': (192, 128, 128), 'TrafficLight': (0, 64, 64)},
    'Fence': {'Fence': (64, 64, 128)},
    'Car': {
        'Car': (64, 0, 128), 'OtherMoving': (128, 64, 64), 'SUVPickupTruck': (64, 128, 192),
        'Train': (192, 64, 128), 'Truck_Bus': (192, 128, 192)},
    'Pedestrian': {
        'Animal': (64, 128, 64), 'CartLuggagePram': (64, 0, 192), 'Child': (192, 128, 64),
        'Pedestrian': (64, 64, 0)},
    'Bicyclist': {'Bicyclist': (0, 128, 192), 'MotorcycleScooter': (192, 0, 192)},
}
"""
The 31 classes of CamVid's ``label_colors.txt`` with their red, green and blue, under the 11 into
which SegNet (arXiv 1511.00561) groups them; Void is black.
"""
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Cityscapes' label id of each trainId; the other ids up to 33 are not evaluated."""


class DatasetError(ValueError):
    """A data set is missing, incomplete or has labels out of range."""


@dataclass(frozen=True)
class Dataset:
    """
    Images and label images on disk.

    :param classes: What the label indices mean.
    :param images: Paths of the images.
    :param labels: Path of the label image of each.
    :param encoding: Class index, or UNKNOWN, of each value in the label images: of an 8-bit grey
        value, or of a colour (red, green, blue) where these are the keys.
    :param terms: What there is to know about the use of the data, for those who train on it.
    """

    classes: ClassTable
    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    encoding: Mapping[int, int] | Mapping[tuple[int, int, int], int]
    terms: str = ''

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> np.ndarray:
        """
        Return an image as uint8 [H, W, 3] in blue, green, red order.

        :raises DatasetError: If the file cannot be read, or is cut short.
        """
        path = self.images[index]
        try:
            # cv2.imread fills what a JPEG lacks with grey.
            return decode_compressed(path.read_bytes())
        except (OSError, FrameError) as error:
            raise DatasetError(f'{path}: not a readable image: {error}') from error

    def truth(self, index: int) -> np.ndarray:
        """
        Return the labels of an image as uint8 [H, W], UNKNOWN where the truth is void.

        :raises DatasetError: If the file cannot be read or has a label that is no class.
        """
        path = self.labels[index]
        colored = isinstance(next(iter(self.encoding)), tuple)
        channels = 3 if colored else 1
        try:
            data = path.read_bytes()
            labels = decode_compressed(data) if colored else decode_label_png(data)
        except (OSError, FrameError) as error:
            raise DatasetError(f'{path}: not a readable label image: {error}') from error
        values = labels.reshape(labels.shape[:2] + (channels,)).astype(np.int32)
        values = sum(values[..., channel] << 8 * channel for channel in range(channels))
        keys, classes = _sorted_encoding(self.encoding)
        places = np.searchsorted(keys, values).clip(max=len(keys) - 1)
        wrong = keys[places] != values
        if wrong.any():
            raise DatasetError(
                f'{path}: label {labels[wrong][0].tolist()[::-1] if colored else values[wrong][0]}'
                f' is none of the {len(self.classes)} classes of {self.classes.name} nor void')
        return classes[places]


def is_image_file(path: Path) -> bool:
    """Return whether a file has the name of an image."""
    # macOS leaves a file ._a.png beside a.png.
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith('.')


def kind_of(root: Path) -> str | None:
    """Return which of :data:`KINDS` a folder looks like, or None."""
    return next((kind for kind, (mark, _) in KINDS.items() if list(Path(root).glob(mark))), None)


def open_dataset(root: Path, split: str, kind: str = 'auto') -> Dataset:
    """
    Open a data set.

    :param root: Its folder.
    :param split: Name of a split, or several joined by ``+`` (``train+val``).
    :param kind: One of :data:`KINDS`, or ``auto`` to tell by the folders.
    :raises DatasetError: If it is of no known kind, or anything is missing.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f'no folder {root}')
    if kind == 'auto':
        kind = kind_of(root)
    if kind not in KINDS:
        marks = ', '.join(f'{mark} ({name})' for name, (mark, _) in KINDS.items())
        raise DatasetError(
            f'{kind or root} is no known kind of data set; they are told by: {marks}')
    return KINDS[kind][1](root, split)


def hold_out(dataset: Dataset, drives: Sequence[str]) -> tuple[Dataset, Dataset]:
    """
    Part a data set by drives, since images of one drive resemble each other.

    :param drives: How the file names of the drives begin, up to the first underscore.
    :return: The images of the other drives, and those of these.
    :raises DatasetError: If there is no image of one of them, or of any other.
    """
    found = [path.stem.partition('_')[0] for path in dataset.images]
    for drive in drives:
        if drive not in found:
            raise DatasetError(
                f'no image of drive {drive!r}; there are: {", ".join(sorted(set(found)))}')
    if set(found) == set(drives):
        raise DatasetError(f'no drive is left without {", ".join(drives)}')
    return tuple(
        replace(
            dataset,
            images=tuple(p for p, d in zip(dataset.images, found) if (d in drives) == held),
            labels=tuple(p for p, d in zip(dataset.labels, found) if (d in drives) == held))
        for held in (False, True))


def camvid(root: Path, split: str) -> Dataset:
    """
    Open CamVid in the folder layout of the SegNet tutorial.

    Folders ``train``, ``val``, ``test`` with images, and ``trainannot``, ``valannot``,
    ``testannot`` with labels of the same stem; 11 is void.

    :param root: Folder that holds these.
    :param split: Name of a folder, or several joined by ``+`` (``train+val``).
    :raises DatasetError: If a folder or a label image is missing.
    """
    images: list[Path] = []
    labels: list[Path] = []
    for name in split.split('+'):
        folder = Path(root) / name
        if not folder.is_dir():
            raise DatasetError(
                f'no folder {folder}; expected CamVid with folders {name} and {name}annot')
        found = _images(folder)
        annotations = folder.with_name(f'{name}annot')
        images += found
        labels += [annotations / f'{path.stem}.png' for path in found]
        _refuse_without_image(annotations.glob('*.png'), labels)
    return _dataset(CAMVID, images, labels, _identity(CAMVID, CAMVID_VOID), CAMVID_TERMS)


def camvid_original(root: Path, split: str) -> Dataset:
    """
    Open CamVid as its authors released it: 701 images of 960x720 with coloured labels.

    Folders ``701_StillsRaw_full`` and ``LabeledApproved_full``. The splits are those of the SegNet
    tutorial, which follow from the drive and the number of the frame.

    :raises DatasetError: If a folder, an image or a label image is missing.
    """
    images = _images(Path(root) / '701_StillsRaw_full')
    annotations = Path(root) / 'LabeledApproved_full'
    _refuse_without_image(
        annotations.glob('*_L.png'), [annotations / f'{path.stem}_L.png' for path in images])
    splits = {path: _camvid_split(path) for path in images}
    counts = {name: list(splits.values()).count(name) for name in CAMVID_SPLITS}
    if counts != CAMVID_SPLITS:
        raise DatasetError(f'{root} has {counts} images, expected {CAMVID_SPLITS}')
    for name in split.split('+'):
        if name not in counts:
            raise DatasetError(f'no split {name!r} of CamVid; there are: {", ".join(counts)}')
    images = [path for name in split.split('+') for path in images if splits[path] == name]
    encoding = {
        color: CAMVID.classes.index(name)
        for name, members in CAMVID_COLORS.items() for color in members.values()}
    return _dataset(
        CAMVID, images,
        [annotations / f'{path.stem}_L.png' for path in images],
        encoding | {(0, 0, 0): UNKNOWN}, CAMVID_TERMS)


CAMVID_SPLITS = {'train': 367, 'val': 101, 'test': 233}


def _camvid_split(path: Path) -> str:
    drive, _, frame = path.stem.partition('_')
    number = int(''.join(filter(str.isdigit, frame)) or -1)
    if drive == 'Seq05VD' or (drive == '0001TP' and number > 8520):
        return 'test'
    # The part that is labelled at 15 Hz has the odd numbers; what is labelled at 1 Hz is even.
    if drive == '0016E5' and 7959 <= number <= 8159 and number % 2:
        return 'val'
    if drive in ('0001TP', '0006R0', '0016E5'):
        return 'train'
    raise DatasetError(f'{path}: not an image of CamVid, whose names begin with a known drive')


def cityscapes(root: Path, split: str) -> Dataset:
    """
    Open Cityscapes with its 19 evaluated classes.

    Folders ``leftImg8bit/SPLIT/CITY`` and ``gtFine/SPLIT/CITY``; labels are taken from
    ``*_gtFine_labelTrainIds.png``, or where these have not been made, ``*_gtFine_labelIds.png``.

    :raises DatasetError: If a folder or a label image is missing.
    """
    images = []
    for name in split.split('+'):
        folder = Path(root) / 'leftImg8bit' / name
        images += _images(folder, '*/*_leftImg8bit.png')
    bases = [
        Path(root) / 'gtFine' / path.relative_to(Path(root) / 'leftImg8bit').with_name(
            path.name.replace('_leftImg8bit.png', '_gtFine_')) for path in images]
    encodings = {
        'labelTrainIds': _identity(CITYSCAPES, UNKNOWN),
        'labelIds': dict.fromkeys(range(34), UNKNOWN) | {
            label: index for index, label in enumerate(CITYSCAPES_IDS)}}

    def made(kind: str) -> int:
        return sum(Path(f'{base}{kind}.png').is_file() for base in bases)

    kind = max(encodings, key=made)
    labels = [Path(f'{base}{kind}.png') for base in bases]
    for name in split.split('+'):
        _refuse_without_image(
            (Path(root) / 'gtFine' / name).glob(f'*/*_gtFine_{kind}.png'), labels)
    return _dataset(CITYSCAPES, images, labels, encodings[kind], CITYSCAPES_TERMS)


def folder(root: Path, split: str) -> Dataset:
    """
    Open a data set of one's own, described by its ``classes.yaml``.

    That has the keys of :class:`lmii_ros.classes.ClassTable`, and if wanted ``void``, the label of
    pixels without truth (255), and ``terms``, a note on the use of the data. Images are in
    ``images/SPLIT``, labels of the same stem, one class index a pixel, in ``labels/SPLIT``; or
    all in ``images`` and ``labels``, and ``SPLIT.txt`` has the images' names, one a line.

    :raises DatasetError: If a file is missing or ``classes.yaml`` says nothing of use.
    """
    root = Path(root)
    try:
        table = yaml.safe_load((root / CLASS_FILE).read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DatasetError(
            f'{root / CLASS_FILE} cannot be read: {" ".join(str(error).split())}') from error
    try:
        classes = ClassTable.from_dict(table)
    except ClassTableError as error:
        raise DatasetError(f'{root / CLASS_FILE}: {error}') from error
    unknown = sorted(table.keys() - classes.to_dict().keys() - {'void', 'terms'}, key=str)
    if unknown:
        raise DatasetError(f'{root / CLASS_FILE}: unknown key {unknown[0]!r}')
    void = table.get('void', UNKNOWN)
    if not isinstance(void, int) or not len(classes) <= void <= 255:
        raise DatasetError(
            f'{root / CLASS_FILE}: void is {void!r}, expected {len(classes)} to 255')
    images, whole = [], []
    for name in split.split('+'):
        listed = root / f'{name}.txt'
        if listed.is_file():
            images += _listed(listed, root / 'images')
        else:
            images += _images(root / 'images' / name)
            whole.append(name)
    labels = [
        root / 'labels' / path.relative_to(root / 'images').with_suffix('.png') for path in images]
    for name in whole:
        _refuse_without_image((root / 'labels' / name).glob('*.png'), labels)
    return _dataset(
        classes, images, labels, _identity(classes, void), str(table.get('terms', '')))


KINDS: dict[str, tuple[str, Callable[[Path, str], Dataset]]] = {
    'folder': (CLASS_FILE, folder),
    'cityscapes': ('leftImg8bit', cityscapes),
    'camvid_original': ('LabeledApproved_full', camvid_original),
    'camvid': ('*annot', camvid),
}
"""Kinds of data sets by name: the file that tells each, and the function that opens it."""


def _dataset(
    classes: ClassTable,
    images: Sequence[Path],
    labels: Sequence[Path],
    encoding: Mapping,
    terms: str,
) -> Dataset:
    for image, label in zip(images, labels):
        if not label.is_file():
            raise DatasetError(f'no label image {label} for {image}')
    if not images:
        raise DatasetError(f'no images for {classes.name}')
    for label, count in Counter(labels).items():
        if count > 1:
            raise DatasetError(f'{count} images have the label image {label}, expected one')
    return Dataset(classes, tuple(images), tuple(labels), encoding, terms)


def _refuse_without_image(found: Iterable[Path], labels: Sequence[Path]) -> None:
    """Raise if a label image that was found is none of those of the images."""
    alone = {path for path in found if is_image_file(path)} - set(labels)
    if alone:
        raise DatasetError(f'no image for the label image {min(alone)}')


def _listed(file: Path, folder: Path) -> list[Path]:
    """Return the images that a list names, by their paths in a folder, one a line."""
    try:
        # Some editors begin a file with a byte order mark.
        lines = file.read_text('utf-8-sig').splitlines()
    except ValueError as error:
        raise DatasetError(f'{file}: {error}') from error
    images = [folder / line.strip() for line in lines if line.strip()]
    for path in images:
        if not path.is_relative_to(folder) or not path.is_file():
            raise DatasetError(f'no image {path} in {folder}, which {file} names')
    return images


def _images(folder: Path, pattern: str = '*') -> list[Path]:
    if not folder.is_dir():
        raise DatasetError(f'no folder {folder}')
    found = sorted(filter(is_image_file, folder.glob(pattern)))
    if not found:
        raise DatasetError(f'no images ({", ".join(_SUFFIXES)}) in {folder}')
    return found


def _identity(classes: ClassTable, void: int) -> dict[int, int]:
    return {**{index: index for index in range(len(classes))}, void: UNKNOWN}


def _sorted_encoding(encoding: Mapping) -> tuple[np.ndarray, np.ndarray]:
    """Return the label images' values, rising, colours as one number, and the class of each."""
    found = sorted(
        ((key[0] << 16 | key[1] << 8 | key[2]) if isinstance(key, tuple) else key, value)
        for key, value in encoding.items())
    return np.array([key for key, _ in found]), np.array([value for _, value in found], np.uint8)
