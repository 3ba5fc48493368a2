# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The drivable area: what is drivable and reaches the ground before the vehicle; on the ground."""

from __future__ import annotations

from lmii_ros.camera import Calibration
from lmii_ros.camera import CameraPose
from lmii_ros.classes import CAMVID
from lmii_ros.classes import UNKNOWN
from lmii_ros.drivable import drivable_area
from lmii_ros.drivable import drivable_boundary
from lmii_ros.drivable import FREE
from lmii_ros.drivable import Grid
from lmii_ros.drivable import GroundProjection
from lmii_ros.drivable import NOT_DRIVABLE
from lmii_ros.drivable import UNSEEN
from lmii_ros.simulation import PinholeCamera
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


CAMERA = PinholeCamera.from_fov(640, 480, mount_height=1.5, pitch=0.2)
GRID = Grid(length=20.0, width=10.0, resolution=0.25)


def projection(grid=GRID, camera=CAMERA):
    return GroundProjection(
        Calibration(camera.width, camera.height, tuple(camera.matrix().ravel())),
        CameraPose(z=camera.mount_height, pitch=camera.pitch), grid)


def painted(is_road):
    """Return what the camera sees of ground whose points (x, y) are road or pavement."""
    pixels = np.stack(np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height)), axis=-1)
    ground = CAMERA.ground(pixels)
    labels = np.where(is_road(ground[..., 0], ground[..., 1]), ROAD, PAVEMENT)
    return np.where(np.isnan(ground[..., 0]), SKY, labels).astype(np.uint8)


def occupancy(labels):
    return projection().occupancy(labels, drivable_area(labels, [ROAD]))


def centres(grid=GRID):
    """Return x and y of each cell's centre."""
    across, ahead = grid.shape
    x = (np.arange(ahead) + 0.5) * grid.resolution
    y = (np.arange(across) + 0.5 - across / 2) * grid.resolution
    return np.meshgrid(x, y)


def test_a_cell_is_what_the_ground_is_there():
    def lane(x, y):
        return (y > -2.1) & (y < 3.4) & (x < 15.2)

    cells = occupancy(painted(lane))
    x, y = centres()
    assert cells.shape == x.shape == (40, 80)
    assert cells.dtype == np.int8
    seen = cells != UNSEEN
    half = GRID.resolution / 2
    corners = CAMERA.project(np.stack([
        np.stack([x + dx, y + dy, np.zeros_like(x)], axis=-1)
        for dx in (-half, half) for dy in (-half, half)]))
    inside = ((corners > -0.5) & (corners < (CAMERA.width - 0.5, CAMERA.height - 0.5))).all(-1)
    assert seen[inside.all(0)].all()
    assert not seen[~inside.any(0)].any()
    assert 0.2 < inside.all(0).mean() < 0.9
    certain = inside.all(0) & lane(x + half, y + half) & lane(x + half, y - half)
    edge = (np.abs(y + 2.1) < 0.3) | (np.abs(y - 3.4) < 0.3) | (np.abs(x - 15.2) < 0.5)
    assert (cells[certain & ~edge] == FREE).all()
    assert (cells[seen & ~lane(x, y)] == NOT_DRIVABLE).all()
    assert (cells == FREE).sum() > 500


def test_a_cell_that_is_drivable_in_part_is_not_free():
    cells = occupancy(painted(lambda x, y: y < 0.1))
    x, y = centres()
    near = (x > 4) & (x < 10)
    assert (cells[near & (y > 0)] != FREE).all()
    assert (cells[near & (y < 0)] == FREE).any()


def test_unknown_ground_is_unseen():
    labels = painted(lambda x, y: y < 10)
    labels[:, 500:] = UNKNOWN
    cells = projection().occupancy(labels, drivable_area(labels, [ROAD]))
    assert set(np.unique(cells)) == {UNSEEN, FREE}
    labels[:] = UNKNOWN
    assert (projection().occupancy(labels, drivable_area(labels, [ROAD])) == UNSEEN).all()


def test_ground_behind_what_stands_there_is_not_free():
    labels = painted(lambda x, y: y < 10)
    base = CAMERA.project(np.array([8.0, 0.0, 0.0])).astype(int)
    labels[base[1] - 150:base[1], base[0] - 20:base[0] + 20] = CAMVID.classes.index('Car')
    cells = occupancy(labels)
    x, y = centres()
    assert (cells[(x > 8.5) & (np.abs(y) < 0.2)] == NOT_DRIVABLE).all()
    assert (cells[(x > 4) & (x < 7.5) & (np.abs(y) < 1)] == FREE).all()


def test_the_boundary_encloses_the_free_cells():
    cells = occupancy(painted(lambda x, y: (y > -2) & (y < 3) & (x < 15)))
    outline = drivable_boundary(cells, GRID)
    x, y = outline.T
    area = np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2
    free = (cells == FREE).sum() * GRID.resolution ** 2
    # Counterclockwise, and through the middle of the outer cells.
    assert 0.8 * free < area < free
    assert -2 < y.min() < -1.5 and 2.5 < y.max() < 3 and 14 < x.max() < 15


def test_the_boundary_is_that_of_the_largest_area():
    cells = np.full(GRID.shape, NOT_DRIVABLE, np.int8)
    cells[2:4, 2:4] = FREE
    cells[20:31, 40:61] = FREE
    outline = drivable_boundary(cells, GRID)
    np.testing.assert_allclose(outline.min(0), (10.125, 0.125))
    np.testing.assert_allclose(outline.max(0), (15.125, 2.625))


def test_where_no_area_is_free_there_is_no_boundary():
    cells = np.full(GRID.shape, UNSEEN, np.int8)
    assert drivable_boundary(cells, GRID).shape == (0, 2)
    cells[3, 4:20] = FREE
    assert drivable_boundary(cells, GRID).shape == (0, 2)


def test_what_is_smaller_than_a_cell_takes_its_freedom():
    labels = painted(lambda x, y: y < 10)
    # In the middle of a cell, of which it shows at none of the corners.
    column, row = CAMERA.project(np.array([4.125, 0.125, 0.0])).astype(int)
    labels[row - 2:row + 2, column - 2:column + 2] = CAMVID.classes.index('Pole')
    assert occupancy(labels)[20, 16] == NOT_DRIVABLE
    labels[labels != ROAD] = UNKNOWN
    cells = occupancy(labels)
    assert cells[20, 16] == UNSEEN
    assert (cells == UNSEEN).sum() == (occupancy(painted(lambda x, y: y < 10)) == UNSEEN).sum() + 1


def test_a_pose_from_which_no_ground_is_seen():
    assert projection().sees_ground
    up = PinholeCamera.from_fov(640, 480, pitch=-1.4)
    assert not projection(camera=up).sees_ground
    labels = np.full((480, 640), ROAD, np.uint8)
    assert (projection(camera=up).occupancy(labels, labels) == UNSEEN).all()
