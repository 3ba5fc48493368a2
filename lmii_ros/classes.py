# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Class tables: what each label index means, its colour, and whether it may be driven on."""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import dataclass
from typing import Any
from typing import Iterable

import numpy as np

UNKNOWN = 255
"""Label of a pixel whose class is not known (void in ground truth, below minimum confidence)."""
MAX_CLASSES = 254
"""Overlays need a label for drivable that is no class."""


class ClassTableError(ValueError):
    """A class table is malformed, or a class was asked for that it does not have."""


@dataclass(frozen=True)
class ClassTable:
    """
    The classes of a network or data set, in the order of their label indices.

    :param name: Name of the table, for people.
    :param classes: Class names; the position is the label index.
    :param colors: One (red, green, blue) in 0..255 per class.
    :param drivable: Names of the classes that a vehicle may drive on.
    :raises ClassTableError: If the parts do not fit together.
    """

    name: str
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    drivable: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= MAX_CLASSES:
            raise ClassTableError(
                f'class table {self.name!r} has {len(self.classes)} classes, '
                f'expected 1 to {MAX_CLASSES}')
        if len(set(self.classes)) != len(self.classes):
            raise ClassTableError(f'class table {self.name!r} names a class twice')
        if len(self.colors) != len(self.classes):
            raise ClassTableError(
                f'class table {self.name!r} has {len(self.colors)} colours '
                f'for {len(self.classes)} classes')
        for color in self.colors:
            if len(color) != 3 or not all(0 <= value <= 255 for value in color):
                raise ClassTableError(
                    f'class table {self.name!r}: {color} is not a colour, three values in 0..255')
        self.indices(self.drivable)

    def __len__(self) -> int:
        return len(self.classes)

    def indices(self, names: Iterable[str]) -> tuple[int, ...]:
        """
        Return the label indices of the named classes.

        :raises ClassTableError: If a name is not in the table; the message lists those that are.
        """
        for name in names:
            if name not in self.classes:
                raise ClassTableError(
                    f'no class {name!r} in class table {self.name!r}; '
                    f'it has: {", ".join(self.classes)}')
        return tuple(self.classes.index(name) for name in names)

    def palette(self) -> np.ndarray:
        """Return the colours as uint8 [256, 3] RGB, indexed by label; black where no class is."""
        palette = np.zeros((256, 3), np.uint8)
        palette[:len(self)] = self.colors
        return palette

    def difference(self, other: ClassTable) -> str:
        """Return the first difference to the classes of another table, in words for the user."""
        if len(self) != len(other):
            return f'{len(self)} classes and {len(other)}'
        return next((
            f'class {index} is {mine} and {theirs}'
            for index, (mine, theirs) in enumerate(zip(self.classes, other.classes))
            if mine != theirs), '')

    def to_dict(self) -> dict[str, Any]:
        """Return the table as plain values for JSON or YAML."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ClassTable:
        """
        Build a table from the values of :meth:`to_dict`.

        :raises ClassTableError: If a key is missing or of the wrong kind.
        """
        try:
            for key in ('classes', 'colors', 'drivable'):
                if not isinstance(values[key], (list, tuple)):
                    raise ClassTableError(
                        f'class table: {key} is {values[key]!r}, expected a list')
            return cls(
                name=str(values['name']),
                classes=tuple(str(name) for name in values['classes']),
                colors=tuple(tuple(int(value) for value in color) for color in values['colors']),
                drivable=tuple(str(name) for name in values['drivable']),
            )
        except ClassTableError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            found = sorted(map(str, values)) if isinstance(values, dict) else repr(values)
            raise ClassTableError(
                f'a class table needs name, classes, colors and drivable; got {found}') from error


CAMVID = ClassTable(
    name='camvid',
    classes=(
        'Sky', 'Building', 'Pole', 'Road', 'Pavement', 'Tree', 'SignSymbol', 'Fence', 'Car',
        'Pedestrian', 'Bicyclist'),
    colors=(
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (0, 0, 192),
        (128, 128, 0), (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192)),
    drivable=('Road',),
)
"""CamVid's 11 classes in the order of the SegNet tutorial, with CamVid's official colours."""

CITYSCAPES = ClassTable(
    name='cityscapes',
    classes=(
        'road', 'sidewalk', 'building', 'wall', 'fence', 'pole', 'traffic light', 'traffic sign',
        'vegetation', 'terrain', 'sky', 'person', 'rider', 'car', 'truck', 'bus', 'train',
        'motorcycle', 'bicycle'),
    colors=(
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153),
        (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152),
        (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100),
        (0, 80, 100), (0, 0, 230), (119, 11, 32)),
    drivable=('road',),
)
"""The 19 evaluated classes of Cityscapes by trainId, with the official colours."""
