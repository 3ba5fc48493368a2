# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The drivable area on the ground: the projection of a camera, and its messages."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from geometry_msgs.msg import Point32
from geometry_msgs.msg import PolygonStamped
from nav_msgs.msg import OccupancyGrid
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from lmii_ros.camera import Calibration
from lmii_ros.camera import CameraError
from lmii_ros.camera import CameraPose
from lmii_ros.drivable import Grid
from lmii_ros.drivable import GroundProjection
from lmii_ros.nodes.parameters import Settings


def projection(
    header: Header,
    frame_size: tuple[int, int],
    camera_info: CameraInfo | None,
    pose: CameraPose,
    settings: Settings,
) -> GroundProjection:
    """
    Return the projection that holds for a frame.

    :param header: The frame's.
    :param frame_size: Its height and width.
    :param camera_info: The camera's newest calibration, if there is any.
    :param pose: Where the camera is.
    :param settings: Of this frame.
    :raises CameraError: If there is none: the message is the reason for the user.
    """
    if camera_info is None:
        raise CameraError('no camera_info has come')
    frames = {camera_info.header.frame_id, header.frame_id} - {''}
    if len(frames) > 1:
        raise CameraError(
            f'camera_info is of the frame {camera_info.header.frame_id!r}, the image of '
            f'{header.frame_id!r}')
    check_size(camera_info, frame_size)
    found = _projection(
        _calibration(camera_info, rectified=settings.rectified), pose, settings.grid)
    if not found.sees_ground:
        raise CameraError(
            f'by camera_info and the pose of the camera in {settings.base_frame} ({pose}), the '
            'image shows no cell of the grid')
    return found


def check_size(camera_info: CameraInfo, frame_size: tuple[int, int]) -> None:
    """
    Check that a calibration is of images of a frame's height and width.

    :raises CameraError: If it is not.
    """
    size = _image_size(camera_info)
    if size not in (frame_size, (0, 0)):
        raise CameraError(
            f'camera_info is of {size[1]}x{size[0]}, the image of '
            f'{frame_size[1]}x{frame_size[0]}')


def grid_message(header: Header, occupancy: np.ndarray, grid: Grid) -> OccupancyGrid:
    """
    Return the message of a grid.

    :param header: With the vehicle's frame.
    :param occupancy: int8 [across, ahead].
    :param grid: Of these cells.
    """
    message = OccupancyGrid(header=header)
    message.info.map_load_time = header.stamp
    message.info.resolution = grid.resolution
    message.info.height, message.info.width = occupancy.shape
    message.info.origin.position.y = grid.right
    message.data.frombytes(occupancy.tobytes())
    return message


def polygon_message(header: Header, points: np.ndarray) -> PolygonStamped:
    """
    Return the message of a polygon on the ground.

    :param header: With the vehicle's frame.
    :param points: float [N, 2], x and y in metres.
    """
    message = PolygonStamped(header=header)
    message.polygon.points = [Point32(x=x, y=y) for x, y in points.tolist()]
    return message


def _image_size(camera_info: CameraInfo) -> tuple[int, int]:
    """Return height and width of the images that a calibration is of; 0 where it is of none."""
    region = camera_info.roi
    return (
        (region.height or camera_info.height) // max(camera_info.binning_y, 1),
        (region.width or camera_info.width) // max(camera_info.binning_x, 1))


def _calibration(camera_info: CameraInfo, *, rectified: bool) -> Calibration:
    """
    Return the calibration of images as they are published: of their region, and binned.

    :param camera_info: The camera's.
    :param rectified: Whether the images are rectified, so that P holds in place of K and D.
    :raises CameraError: If it is none, or not known how to use.
    """
    height, width = _image_size(camera_info)
    # Of P, three rows of four, without the last column, which is about the other camera.
    matrix = (
        camera_info.p.reshape(3, 4)[:, :3] if rectified else camera_info.k.reshape(3, 3)).copy()
    region = camera_info.roi
    for axis, offset, binning in (
            (0, region.x_offset, camera_info.binning_x),
            (1, region.y_offset, camera_info.binning_y)):
        binning = max(binning, 1)
        # The centre of a binned pixel lies between those that it was made of.
        matrix[axis, 2] = (matrix[axis, 2] - offset + 0.5) / binning - 0.5
        matrix[axis, :2] /= binning
    matrix = tuple(matrix.ravel().tolist())
    if rectified:
        return Calibration(width, height, matrix)
    return Calibration(
        width, height, matrix, camera_info.distortion_model, tuple(camera_info.d))


_projection = lru_cache(maxsize=8)(GroundProjection)
"""The projection for a camera, made once: it takes some 0.1 s."""
