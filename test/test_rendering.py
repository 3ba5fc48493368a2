# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Pictures show exactly the colours that they promise."""

from __future__ import annotations

from lmii_ros.classes import CAMVID
from lmii_ros.classes import CITYSCAPES
from lmii_ros.classes import UNKNOWN
from lmii_ros.rendering import colorize
from lmii_ros.rendering import contact_sheet
from lmii_ros.rendering import DRIVABLE_COLOR
from lmii_ros.rendering import overlay
import numpy as np
import pytest

SIZE = (13, 17)


@pytest.fixture
def labels():
    labels = np.random.default_rng(1).integers(0, len(CAMVID), SIZE, np.uint8)
    labels[0, :3] = UNKNOWN
    return labels


@pytest.fixture
def frame():
    return np.random.default_rng(2).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.fixture
def drivable(labels):
    return np.where(labels == 3, 255, 0).astype(np.uint8)


def test_each_label_gets_its_colour():
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    palette = np.random.default_rng(3).integers(0, 256, (256, 3), np.uint8)
    picture = colorize(labels, palette)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, palette[labels])


def test_colours_of_a_class_table(labels):
    picture = colorize(labels, CAMVID.palette())
    assert (picture[labels == 3] == (128, 64, 128)).all()
    assert (picture[labels == UNKNOWN] == 0).all()


def test_the_palette_decides_the_channel_order(labels):
    rgb = CAMVID.palette()
    bgr = colorize(labels, rgb[:, ::-1])
    np.testing.assert_array_equal(bgr[..., ::-1], colorize(labels, rgb))


def test_no_opacity_leaves_the_camera_frame(frame, labels, drivable):
    picture = overlay(frame, labels, drivable, CAMVID.palette(), 0.0)
    np.testing.assert_array_equal(picture, frame[..., ::-1])


def test_full_opacity_leaves_the_colours(frame, labels, drivable):
    picture = overlay(frame, labels, drivable, CAMVID.palette(), 1.0)
    expected = CAMVID.palette()[labels]
    expected[drivable > 0] = DRIVABLE_COLOR
    np.testing.assert_array_equal(picture, expected)


def test_half_opacity_is_half_way(frame, labels, drivable):
    picture = overlay(frame, labels, drivable, CAMVID.palette(), 0.5)
    colors = CAMVID.palette()[labels].astype(float)
    colors[drivable > 0] = DRIVABLE_COLOR
    assert np.abs(picture - (frame[..., ::-1] + colors) / 2).max() <= 0.5


def test_drivable_shows_only_where_it_is(frame, labels):
    picture = overlay(frame, labels, np.zeros(SIZE, np.uint8), CAMVID.palette(), 1.0)
    np.testing.assert_array_equal(picture, CAMVID.palette()[labels])


def test_inputs_are_not_changed(frame, labels, drivable):
    palette = CAMVID.palette()
    inputs = frame, labels, drivable, palette
    before = [array.copy() for array in inputs]
    overlay(*inputs, 0.5)
    for array, copy in zip(inputs, before):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize('table', [CAMVID, CITYSCAPES])
def test_no_class_has_the_drivable_colour(table):
    assert DRIVABLE_COLOR not in table.colors


def test_contact_sheet():
    red = np.zeros((30, 60, 3), np.uint8)
    red[..., 0] = 255
    blue = np.zeros((60, 60, 3), np.uint8)
    blue[..., 2] = 255
    sheet = contact_sheet([[red, red, red], [blue, blue, blue]], ['first', ''], width=100)
    line = sheet.shape[0] - 50 - 100
    assert sheet.shape[1:] == (300, 3)
    assert line % 2 == 0
    line //= 2
    assert (sheet[line:line + 50] == (255, 0, 0)).all()
    assert (sheet[-100:] == (0, 0, 255)).all()
    assert sheet[:line].any(), 'the caption is written'
    assert not sheet[line + 50:-100].any(), 'the empty caption is not'


def test_contact_sheet_keeps_the_order_of_pictures():
    pictures = [np.full((10, 10, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = contact_sheet([pictures], ['x'], width=10)
    assert sheet[-1, ::10, 0].tolist() == [10, 20, 30]
