# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The drivable area is what is drivable and reaches the ground before the vehicle."""

from __future__ import annotations

from lmii_ros.classes import CAMVID
from lmii_ros.classes import UNKNOWN
from lmii_ros.drivable import drivable_area
import numpy as np
import pytest

SKY, ROAD, PAVEMENT = (CAMVID.classes.index(name) for name in ('Sky', 'Road', 'Pavement'))


def scene():
    """Return a sky above a road, 40 rows of 60 columns each."""
    labels = np.full((80, 60), SKY, np.uint8)
    labels[40:] = ROAD
    return labels


def test_the_road_ahead_is_drivable():
    labels = scene()
    mask = drivable_area(labels, [ROAD])
    assert mask.shape == labels.shape
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, np.where(labels == ROAD, 255, 0))


def test_a_road_beyond_a_pavement_is_not():
    labels = scene()
    labels[50:55] = PAVEMENT
    mask = drivable_area(labels, [ROAD])
    assert not mask[:55].any()
    assert (mask[55:] == 255).all()


def test_a_road_round_a_pavement_is():
    labels = scene()
    labels[50:55, :50] = PAVEMENT
    np.testing.assert_array_equal(drivable_area(labels, [ROAD]) > 0, labels == ROAD)


def test_areas_that_touch_at_a_corner_are_not_connected():
    labels = np.full((40, 40), SKY, np.uint8)
    labels[20:, :20] = ROAD
    labels[:20, 20:] = ROAD
    np.testing.assert_array_equal(drivable_area(labels, [ROAD]) > 0, np.pad(
        np.ones((20, 20), bool), ((20, 0), (0, 20))))


def test_a_road_at_the_side_of_the_lower_edge_is_not_before_the_vehicle():
    labels = np.full((80, 60), PAVEMENT, np.uint8)
    labels[:, :10] = ROAD
    assert not drivable_area(labels, [ROAD]).any()


def test_ground_hidden_in_the_lowest_rows_does_not_cut_the_road_off():
    labels = scene()
    labels[-5:] = UNKNOWN
    mask = drivable_area(labels, [ROAD])
    np.testing.assert_array_equal(mask > 0, labels == ROAD)


def test_unknown_is_never_drivable():
    labels = np.full((20, 30), UNKNOWN, np.uint8)
    assert not drivable_area(labels, range(len(CAMVID))).any()


def test_several_drivable_classes_are_one_area():
    labels = scene()
    labels[50:55] = PAVEMENT
    mask = drivable_area(labels, CAMVID.indices(['Road', 'Pavement']))
    np.testing.assert_array_equal(mask > 0, labels != SKY)


def test_two_areas_before_the_vehicle_both_count():
    labels = scene()
    labels[:, 28:32] = PAVEMENT
    np.testing.assert_array_equal(drivable_area(labels, [ROAD]) > 0, labels == ROAD)


def test_nothing_is_drivable_where_no_class_is():
    assert not drivable_area(scene(), []).any()
    assert not drivable_area(np.full((80, 60), SKY, np.uint8), [ROAD]).any()


def test_class_zero_can_be_drivable():
    assert (drivable_area(np.zeros((9, 9), np.uint8), [0]) == 255).all()


def test_noise_of_thousands_of_areas():
    labels = np.where(np.random.default_rng(1).random((240, 320)) < 0.3, ROAD, SKY)
    labels = labels.astype(np.uint8)
    labels[-30:] = ROAD
    mask = drivable_area(labels, [ROAD])
    assert (mask[-30:] == 255).all()
    assert not mask[labels != ROAD].any()
    assert (mask[:100] == 0).mean() > 0.9


@pytest.mark.parametrize('size', [(1, 1), (1, 2), (2, 1), (1, 100), (100, 1), (3, 3), (4, 4)])
def test_sizes_down_to_a_pixel(size):
    assert (drivable_area(np.full(size, ROAD, np.uint8), [ROAD]) == 255).all()
    assert not drivable_area(np.full(size, SKY, np.uint8), [ROAD]).any()


def test_labels_that_are_a_view_and_are_not_changed():
    wide = np.full((80, 120), SKY, np.uint8)
    wide[40:] = ROAD
    before = wide.copy()
    np.testing.assert_array_equal(drivable_area(wide[:, ::2], [ROAD]), drivable_area(
        wide[:, ::2].copy(), [ROAD]))
    np.testing.assert_array_equal(wide, before)
