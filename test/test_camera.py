# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Which pixel shows a point, of cameras as they are calibrated and mounted."""

from __future__ import annotations

from functools import reduce
import math

import cv2
from lmii_ros.camera import Calibration
from lmii_ros.camera import CameraError
from lmii_ros.camera import CameraPose
from lmii_ros.simulation import PinholeCamera
import numpy as np
import pytest

WIDTH, HEIGHT = 640, 480
PINHOLE = PinholeCamera.from_fov(WIDTH, HEIGHT)
MATRIX = tuple(PINHOLE.matrix().ravel())
MOUNTED = CameraPose(z=PINHOLE.mount_height, pitch=PINHOLE.pitch)
LENSES = {
    'plumb_bob': (-0.28, 0.09, 0.001, -0.002, 0.01),
    'rational_polynomial': (0.35, 0.05, 0.0005, -0.0004, 0.002, 0.61, 0.14, 0.01),
    'equidistant': (-0.02, 0.004, -0.002, 0.0003),
}


def points(count=5000):
    return np.random.default_rng(0).uniform([-5, -20, 0], [40, 20, 3], (count, 3))


def test_without_distortion_it_is_the_simulated_camera():
    pixels = Calibration(WIDTH, HEIGHT, MATRIX).project(MOUNTED.optical(points()))
    expected = PINHOLE.project(points())
    inside = ((expected > -0.5) & (expected < (WIDTH - 0.5, HEIGHT - 0.5))).all(1)
    np.testing.assert_array_equal(~np.isnan(pixels).any(1), inside)
    np.testing.assert_allclose(pixels[inside], expected[inside], atol=1e-9)


@pytest.mark.parametrize('model', LENSES)
def test_the_ray_of_the_pixel_leads_to_the_point(model):
    lens = LENSES[model]
    optical = MOUNTED.optical(points())
    pixels = Calibration(WIDTH, HEIGHT, MATRIX, model, lens).project(optical)
    seen = ~np.isnan(pixels[:, 0])
    assert seen.sum() > 1000
    undistort = cv2.fisheye.undistortPoints if model == 'equidistant' else cv2.undistortPoints
    rays = undistort(pixels[seen, None], PINHOLE.matrix(), np.array(lens))[:, 0]
    expected = optical[seen, :2] / optical[seen, 2:]
    assert np.abs(rays - expected).max() < 0.002
    straight = Calibration(WIDTH, HEIGHT, MATRIX).project(optical)
    assert np.nanmax(np.abs(pixels - straight)) > 5


def test_what_lies_outside_does_not_come_back_through_a_lens_that_folds():
    # Beyond 38 degrees this polynomial leads back towards the middle, as many calibrations do.
    calibration = Calibration(WIDTH, HEIGHT, MATRIX, 'plumb_bob', (-0.55, 0.0, 0.0, 0.0, 0.0))
    tangents = np.linspace(0, 30, 1000)
    pixels = calibration.project(np.stack(
        [tangents, np.zeros(1000), np.ones(1000)], axis=1))
    seen = ~np.isnan(pixels[:, 0])
    assert not seen[tangents > 0.8].any()
    assert (np.diff(pixels[seen, 0]) > 0).all()


@pytest.mark.parametrize('pose, point', [
    (CameraPose(1.0, 0.5, 2.0), (11.0, 0.5, 2.0)),
    (CameraPose(0.0, 0.0, 2.0, pitch=np.pi / 4), (2.0, 0.0, 0.0)),
    (CameraPose(0.0, 0.0, 2.0, yaw=np.pi / 2), (0.0, 7.0, 2.0)),
    (CameraPose(0.0, 0.0, 2.0, yaw=-np.pi / 2, pitch=np.pi / 4), (0.0, -2.0, 0.0)),
])
def test_the_optical_axis_leads_where_the_pose_says(pose, point):
    pixel = Calibration(WIDTH, HEIGHT, MATRIX).project(pose.optical(np.array([point])))
    np.testing.assert_allclose(pixel, [[PINHOLE.cx, PINHOLE.cy]], atol=1e-9)


def test_roll_pitch_and_yaw_together_are_those_of_a_urdf_joint():
    # By hand: the camera's body is Rz(90) Ry(30) Rx(90). Its x is Rz Ry x = (0, cos 30, -sin 30),
    # its y (left) is Rz Ry z = (0, sin 30, cos 30), its z (up) is Rz Ry -y = (1, 0, 0).
    pose = CameraPose(1.0, 2.0, 3.0, roll=np.pi / 2, pitch=np.pi / 6, yaw=np.pi / 2)
    body = np.array([5.0, 0.5, 0.25])
    axes = np.array([
        [0.0, np.sqrt(0.75), -0.5], [0.0, 0.5, np.sqrt(0.75)], [1.0, 0.0, 0.0]])
    optical = pose.optical((body @ axes + (1.0, 2.0, 3.0))[None])
    np.testing.assert_allclose(optical, [[-0.5, -0.25, 5.0]], atol=1e-12)


@pytest.mark.parametrize('pose', [
    CameraPose(1.0, -2.0, 3.0),
    CameraPose(0.5, 0.0, 1.2, roll=0.1, pitch=-0.4, yaw=3.0),
    CameraPose(z=2.0, roll=-3.0, pitch=0.4, yaw=-1.0),
    CameraPose(z=2.0, roll=0.3, pitch=np.pi / 2, yaw=0.7),
    CameraPose(z=2.0, roll=0.3, pitch=-np.pi / 2, yaw=0.7),
])
def test_the_pose_of_an_optical_frame(pose):
    def turned(angle, *axis):
        return np.array([*(math.sin(angle / 2) * np.array(axis)), math.cos(angle / 2)])

    def product(first, second):
        (*v, v0), (*w, w0) = first, second
        return np.array([
            *(v0 * np.array(w) + w0 * np.array(v) + np.cross(v, w)), v0 * w0 - np.dot(v, w)])

    # About z, y, x as a URDF joint, then by the fixed joint that every URDF gives a camera.
    quaternion = reduce(product, (
        turned(pose.yaw, 0, 0, 1), turned(pose.pitch, 0, 1, 0), turned(pose.roll, 1, 0, 0),
        np.array([-0.5, 0.5, -0.5, 0.5])))
    found = CameraPose.of_optical_frame((pose.x, pose.y, pose.z), 2 * quaternion)
    points = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(found.optical(points), pose.optical(points), atol=1e-8)


def test_left_is_left_up_is_up_and_a_roll_turns_the_image():
    def pixel(roll):
        pose = CameraPose(z=1.0, roll=roll)
        return Calibration(WIDTH, HEIGHT, MATRIX).project(
            pose.optical(np.array([[10.0, 2.0, 1.0], [10.0, 0.0, 2.0]])))

    left, up = pixel(0.0)
    assert left[0] < PINHOLE.cx and left[1] == pytest.approx(PINHOLE.cy)
    assert up[1] < PINHOLE.cy and up[0] == pytest.approx(PINHOLE.cx)
    # About x, forward: the camera's left side is up, so what is up is to its left.
    left, up = pixel(np.pi / 2)
    assert left[1] > PINHOLE.cy and left[0] == pytest.approx(PINHOLE.cx)
    assert up[0] < PINHOLE.cx and up[1] == pytest.approx(PINHOLE.cy)


def test_what_is_behind_is_not_seen():
    pixels = Calibration(WIDTH, HEIGHT, MATRIX).project(np.array(
        [[0.0, 0.0, -1.0], [0.0, 0.0, 0.0], [0.1, 0.1, -5.0]]))
    assert np.isnan(pixels).all()


@pytest.mark.parametrize('arguments, message', [
    ((WIDTH, HEIGHT, (0.0,) * 9), 'not calibrated'),
    ((0, 0, MATRIX), 'not calibrated'),
    ((WIDTH, HEIGHT, (float('nan'),) * 9), 'not finite'),
    ((WIDTH, HEIGHT, MATRIX, 'plumb_bob', (float('inf'),) * 5), 'not finite'),
    ((WIDTH, HEIGHT, MATRIX, 'plumb_bob', (0.1, 0.2, 0.3)), 'has 3 coefficients, not 4 or 5'),
    ((WIDTH, HEIGHT, MATRIX, 'equidistant', (0.1,) * 5), 'has 5 coefficients, not 4'),
    ((WIDTH, HEIGHT, MATRIX, 'thin_prism', (0.1,)), "'thin_prism' is none of plumb_bob"),
])
def test_a_camera_that_tells_nothing_is_refused(arguments, message):
    with pytest.raises(CameraError, match=message):
        Calibration(*arguments)


def test_a_model_without_coefficients_is_none():
    for distortion in ((), (0.0,) * 5):
        calibration = Calibration(WIDTH, HEIGHT, MATRIX, 'whatever', distortion)
        assert not calibration.is_distorted
        assert not np.isnan(calibration.project(np.array([[0.0, 0.0, 1.0]]))).any()
