# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Synthetic scenes: deterministic frames whose labels agree with the geometry."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lmii_ros.classes import CAMVID
from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import RoadScene

ROAD, PAVEMENT = CAMVID.indices(('Road', 'Pavement'))
SMALL = PinholeCamera.from_fov(240, 180)


def same(one, other) -> bool:
    return one.image.tobytes() == other.image.tobytes() and (
        one.labels.tobytes() == other.labels.tobytes())


@pytest.fixture(scope='module')
def scenes() -> list[RoadScene]:
    return [RoadScene(seed, SMALL) for seed in range(8)]


def test_camera_matrix_and_field_of_view():
    camera = PinholeCamera.from_fov(640, 480, 60.0)
    matrix = camera.matrix()
    assert matrix.shape == (3, 3)
    assert matrix[0, 0] == matrix[1, 1] == pytest.approx(320 / math.tan(math.radians(30)))
    assert matrix[0, 2] == 319.5 and matrix[1, 2] == 239.5


def test_camera_axes():
    camera = PinholeCamera.from_fov(640, 480, pitch=0.1)
    middle, left, high, near = camera.project(
        np.array([(20.0, 0, 0), (20.0, 1, 0), (20.0, 0, 1), (10.0, 0, 0)]))
    assert middle[0] == pytest.approx(camera.cx)
    assert left[0] < middle[0] and high[1] < middle[1] < near[1]
    far = camera.project(np.array((1e9, 0.0, 0.0)))
    assert far[1] == pytest.approx(camera.horizon_row, abs=1e-3)


@pytest.mark.parametrize('pitch', [-0.1, 0.0, 0.05, 0.6])
def test_ground_round_trip(pitch: float):
    camera = PinholeCamera.from_fov(641, 479, 52.0, mount_height=1.7, pitch=pitch)
    rng = np.random.default_rng(0)
    points = np.stack([rng.uniform(2, 100, 500), rng.uniform(-20, 20, 500), np.zeros(500)], -1)
    pixels = camera.project(points)
    assert np.abs(camera.ground(pixels) - points).max() < 1e-6
    assert np.abs(camera.project(camera.ground(pixels)) - pixels).max() < 1e-6


def test_what_the_camera_cannot_see_is_nan():
    camera = PinholeCamera.from_fov(64, 48)
    assert np.isnan(camera.ground(np.array((10.0, camera.horizon_row - 1.0)))).all()
    assert np.isnan(camera.project(np.array((-5.0, 0.0, 0.0)))).all()


@pytest.mark.parametrize('change', [
    {'width': 0}, {'fx': 0.0}, {'mount_height': -1.0}, {'pitch': 1.6}])
def test_impossible_camera_is_refused(change: dict):
    values = {'width': 64, 'height': 48, 'fx': 60.0, 'fy': 60.0, 'cx': 31.5, 'cy': 23.5}
    with pytest.raises(ValueError):
        PinholeCamera(**{**values, **change})


def test_frames_depend_on_seed_and_time_only(scenes: list[RoadScene]):
    times = [0.0, 3.7, 500.0, 0.033]
    first = [scenes[3].render(time) for time in times]
    fresh = RoadScene(3, SMALL)
    second = [fresh.render(time) for time in reversed(times)][::-1]
    assert all(same(one, other) for one, other in zip(first, second))
    assert not same(scenes[4].render(3.7), first[1])
    assert not same(first[0], first[3])


def test_a_returned_frame_may_be_changed(scenes: list[RoadScene]):
    frame = scenes[1].render(2.0)
    kept = frame.image.copy()
    frame.image[:] = 0
    frame.labels[:] = 0
    assert np.array_equal(scenes[1].render(2.0).image, kept)


def test_labels_of_consecutive_frames_mostly_agree(scenes: list[RoadScene]):
    for scene in scenes:
        before, after = scene.render(4.0).labels, scene.render(4.033).labels
        assert (before == after).mean() > 0.9


def test_scenes_differ_in_layout_and_light(scenes: list[RoadScene]):
    assert len({round(scene.road_half_width, 3) for scene in scenes}) == len(scenes)
    assert np.std([scene.render(1.0).image.mean() for scene in scenes]) > 10


def test_road_coordinates_round_trip(scenes: list[RoadScene]):
    offsets = np.linspace(-6, 6, 13)
    for scene in scenes:
        points = scene.road_points(7.3, np.linspace(3, 90, 13), offsets)
        assert np.abs(scene.road_offset(7.3, points) - offsets).max() < 1e-9


def test_road_points_are_labelled_road(scenes: list[RoadScene]):
    """Where nothing stands in the way, what projects from the road is labelled Road."""
    hits = []
    for scene in scenes:
        for time in (0.0, 5.0, 31.0):
            labels = scene.render(time).labels
            ahead, offset = np.meshgrid([6.0, 8.0, 10.0], [-0.4, 0.0, 0.4])
            pixels = np.rint(SMALL.project(scene.road_points(time, ahead, offset))).astype(int)
            inside = ((pixels >= 0) & (pixels < (SMALL.width, SMALL.height))).all(-1)
            columns, rows = pixels[inside].T
            hits.append((labels[rows, columns] == ROAD).mean())
    assert np.mean(hits) > 0.9
    assert np.median(hits) == 1.0


def test_ground_labels_agree_with_geometry(scenes: list[RoadScene]):
    """Road pixels lie within the road, Pavement outside it, save for side roads."""
    rows, columns = np.mgrid[:SMALL.height, :SMALL.width]
    points = SMALL.ground(np.stack([columns, rows], -1))
    checked = 0
    for scene in scenes:
        for time in (0.0, 9.0):
            labels = scene.render(time).labels
            near = points[..., 0] < 60.0
            offset = np.abs(scene.road_offset(time, points))
            paved = near & (labels == PAVEMENT)
            assert (offset[paved] > scene.road_half_width - 1e-3).all()
            beyond = near & (labels == ROAD) & (offset > scene.road_half_width + 1e-3)
            side = np.sign(scene.road_offset(time, points)[beyond])
            assert not beyond.any() or (
                scene.side_road is not None and (side == scene.side_road).all())
            checked += int(paved.sum())
    assert checked > 1000


def test_all_classes_appear(scenes: list[RoadScene]):
    counts = np.zeros(256, int)
    for scene in scenes:
        for time in (0.0, 6.0, 12.0):
            counts += np.bincount(scene.render(time).labels.ravel(), minlength=256)
    assert (counts[:len(CAMVID)] > 100).all()
    assert counts[len(CAMVID):].sum() == 0


@pytest.mark.parametrize('width, height', [
    (64, 48), (97, 61), (1, 1), (480, 360), (641, 479), (1920, 1080)])
def test_sizes(width: int, height: int):
    frame = RoadScene(2, PinholeCamera.from_fov(width, height)).render(1.5)
    assert frame.image.shape == (height, width, 3) and frame.image.dtype == np.uint8
    assert frame.labels.shape == (height, width) and frame.labels.dtype == np.uint8
    assert frame.labels.max() < len(CAMVID)


@pytest.mark.parametrize('pitch', [-1.0, -0.3, 0.4, 1.2])
def test_cameras_that_see_only_sky_or_only_ground(pitch: float):
    camera = PinholeCamera.from_fov(160, 120, 90.0, mount_height=2.5, pitch=pitch)
    scene = RoadScene(5, camera)
    frame = scene.render(2.0)
    assert frame.labels.max() < len(CAMVID)
    assert same(scene.render(2.0), frame)
    if pitch > 1.0:
        assert (frame.labels == ROAD).mean() > 0.2


@pytest.mark.parametrize('time', [-12.5, 1e6])
def test_the_street_has_no_end(time: float):
    labels = RoadScene(6, SMALL).render(time).labels
    assert (labels == ROAD).mean() > 0.1
    assert len(np.unique(labels)) > 4
