# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The drivable area on the ground, in the vehicle's frame, for what plans with it."""

from __future__ import annotations

from lmii_ros.camera import Calibration
from lmii_ros.camera import CameraPose
from lmii_ros.classes import CAMVID
from lmii_ros.drivable import drivable_area
from lmii_ros.drivable import drivable_boundary
from lmii_ros.drivable import Grid
from lmii_ros.drivable import GroundProjection
from lmii_ros.segmenter import Segmenter
from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import RoadScene
import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from geometry_msgs.msg import PolygonStamped  # noqa: E402
from geometry_msgs.msg import TransformStamped  # noqa: E402
from nav_msgs.msg import OccupancyGrid  # noqa: E402
from rclpy.qos import DurabilityPolicy  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from ros_client import NODE  # noqa: E402
from ros_client import image  # noqa: E402
from ros_client import nanoseconds  # noqa: E402
from sensor_msgs.msg import CameraInfo  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

try:
    from tf2_msgs.msg import TFMessage
    import tf2_py  # noqa: F401
except ImportError:
    TFMessage = None

HEIGHT, WIDTH = 96, 128
CAMERA = PinholeCamera.from_fov(WIDTH, HEIGHT, pitch=0.3)
FRAME = RoadScene(seed=1, camera=CAMERA).render(1.0).image
POSE = [1.5, 0.0, CAMERA.mount_height, 0.0, CAMERA.pitch, 0.1]
GRID = Grid(length=12.0, width=8.0, resolution=0.2)


@pytest.fixture(scope='module')
def labels(tiny_weights):
    return Segmenter(tiny_weights, threads=1).segment([FRAME])[0].labels


def before_the_vehicle(labels):
    """Return the class there, which the tests drive on, as what is seen is nonsense."""
    return int(labels[-1, WIDTH // 2])


@pytest.fixture(scope='module')
def node(start_module_node, tiny_weights, labels):
    return start_module_node(
        'segmentation_node', weights=tiny_weights, threads=1,
        drivable_classes=[CAMVID.classes[before_the_vehicle(labels)]], camera_pose=POSE,
        base_frame='base_footprint', grid_length=GRID.length, grid_width=GRID.width,
        grid_resolution=GRID.resolution,
        **{'qos_overrides./image.subscription.reliability': 'reliable'})


class Camera:
    """Publishes the frame with calibrations, and collects what is on the ground."""

    def __init__(self, client):
        self.client = client
        space = client.namespace
        self.labels = client.listen(Image, f'{space}{NODE}/labels')
        self.grids = client.listen(OccupancyGrid, f'{space}{NODE}/drivable_grid')
        self.polygons = client.listen(PolygonStamped, f'{space}{NODE}/drivable_boundary')
        self._images = client.publisher(Image, f'{space}/image')
        self._infos = client.publisher(CameraInfo, f'{space}/camera_info')

    def send_until(self, condition, info, stamp):
        """Send a calibration and the frame again and again, and return what became true."""
        for _ in range(200):
            if info is not None:
                self._infos.publish(info)
            self.client.spin(0.05)
            self._images.publish(image(FRAME.reshape(HEIGHT, -1), 'bgr8', stamp))
            self.client.spin(0.05)
            if condition():
                return condition()
        raise AssertionError('it did not become true')

    def on_the_ground(self, info, stamp):
        """Return the grid and the polygon of a frame."""
        def newest():
            pair = [messages[-1] for messages in (self.grids, self.polygons) if messages]
            stamps = [nanoseconds(message) for message in pair]
            return pair if stamps == [stamp, stamp] else None

        return self.send_until(newest, info, stamp)


def calibration(**fields):
    message = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model='plumb_bob', d=[0.0] * 5)
    message.k = CAMERA.matrix().ravel()
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def expected(labels, matrix=None, lens=(), pose=POSE):
    matrix = CAMERA.matrix() if matrix is None else matrix
    projection = GroundProjection(
        Calibration(WIDTH, HEIGHT, tuple(matrix.ravel()), 'plumb_bob', lens), CameraPose(*pose),
        GRID)
    return projection.occupancy(labels, drivable_area(labels, [before_the_vehicle(labels)]))


def cells(grid):
    return np.array(grid.data, np.int8).reshape(grid.info.height, grid.info.width)


def test_grid_and_boundary_are_those_of_the_labels_in_the_vehicle_s_frame(node, client, labels):
    grid, polygon = Camera(client).on_the_ground(calibration(), 10 ** 18)
    wanted = expected(labels)
    assert set(np.unique(wanted)) == {-1, 0, 100}
    np.testing.assert_array_equal(cells(grid), wanted)
    for message in (grid, polygon):
        assert message.header.frame_id == 'base_footprint'
    info = grid.info
    assert (info.width, info.height) == (60, 40)
    assert info.resolution == pytest.approx(0.2)
    origin = info.origin
    assert (origin.position.x, origin.position.y, origin.position.z) == (0.0, -4.0, 0.0)
    assert origin.orientation.w == 1.0
    np.testing.assert_allclose(
        [(point.x, point.y) for point in polygon.polygon.points],
        drivable_boundary(wanted, GRID), rtol=1e-6)
    assert all(point.z == 0.0 for point in polygon.polygon.points)


def test_the_lens_counts(node, client, labels):
    lens = (-0.3, 0.1, 0.0, 0.0, 0.0)
    grid, _ = Camera(client).on_the_ground(calibration(d=lens), 10 ** 18 + 1)
    wanted = expected(labels, lens=lens)
    assert (wanted != expected(labels)).any()
    np.testing.assert_array_equal(cells(grid), wanted)


def test_a_region_of_a_larger_binned_image(node, client, labels):
    full = CAMERA.matrix() * [[2.0], [3.0], [1.0]] + [[0, 0, 40.5], [0, 0, 21.0], [0, 0, 0]]
    info = calibration(
        width=1000, height=800, k=full.ravel(), binning_x=2, binning_y=3)
    info.roi.x_offset, info.roi.y_offset = 40, 20
    info.roi.width, info.roi.height = 2 * WIDTH, 3 * HEIGHT
    grid, _ = Camera(client).on_the_ground(info, 10 ** 18 + 2)
    np.testing.assert_array_equal(cells(grid), expected(labels))


@pytest.mark.parametrize('model, lens', [
    ('plumb_bob', [-0.3, 0.1, 0.0, 0.0, 0.0]),
    ('equidistant', [0.01, 0.0, 0.0, 0.0]),
])
def test_rectified_images_are_those_of_p(node, client, labels, model, lens):
    wider = CAMERA.matrix() * [[0.8], [0.8], [1.0]]
    info = calibration(
        distortion_model=model, d=lens, p=np.pad(wider, ((0, 0), (0, 1))).ravel())
    assert client.set('rectified', True) == ''
    grid, _ = Camera(client).on_the_ground(info, 10 ** 18 + 3)
    assert client.set('rectified', False) == ''
    np.testing.assert_array_equal(cells(grid), expected(labels, wider))


def test_another_pose_holds_from_the_next_frame_on(node, client, labels):
    camera = Camera(client)
    camera.on_the_ground(calibration(), 10 ** 18 + 4)
    moved = [0.0, 1.0, 2.0, 0.05, 0.5, -0.2]
    assert client.set('camera_pose', moved) == ''
    grid, _ = camera.on_the_ground(calibration(), 10 ** 18 + 5)
    assert client.set('camera_pose', POSE) == ''
    np.testing.assert_array_equal(cells(grid), expected(labels, pose=moved))


@pytest.mark.parametrize('pose, info, reason', [
    (POSE, None, 'no camera_info has come'),
    (POSE, CameraInfo(width=WIDTH, height=HEIGHT), 'the camera is not calibrated'),
    (POSE, calibration(header=Header(frame_id='rear')),
     "camera_info is of the frame 'rear', the image of 'front_camera'"),
    ([0.0, 0.0, 1.0, 0.0, -1.5, 0.0], calibration(), 'the image shows no cell of the grid'),
    (POSE, calibration(width=WIDTH * 2), f'camera_info is of {WIDTH * 2}x{HEIGHT}'),
    (POSE, calibration(distortion_model='odd', d=[0.1]), "distortion model 'odd' is none of"),
    ([0.0] * 6, calibration(),
     'camera_pose is not set, ' + (
         'and tf2, which might tell, is not installed' if TFMessage is None else
         'nor does /tf_static tell: "base_link" passed to')),
])
def test_what_is_missing_for_the_ground_is_told_and_does_not_hinder_the_rest(
        start_node, client, tiny_weights, pose, info, reason):
    client.namespace = '/other'
    node = start_node(
        'segmentation_node', '-r', f'__ns:={client.namespace}', weights=tiny_weights, threads=1,
        camera_pose=pose)
    camera = Camera(client)
    camera.send_until(lambda: camera.labels and reason in node.output, info, 5)
    assert not camera.grids and not camera.polygons
    warned = client.status(lambda status: reason in status.message)
    assert warned.level == DiagnosticStatus.WARN


@pytest.mark.skipif(TFMessage is None, reason='tf2 is not installed')
def test_tf_tells_the_pose_where_no_parameter_does(start_node, client, tiny_weights, labels):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)

    def tell(parent, child, translation, quaternion):
        transform = TransformStamped(child_frame_id=child)
        transform.header.frame_id = parent
        for part, names, values in (
                (transform.transform.translation, 'xyz', translation),
                (transform.transform.rotation, 'xyzw', quaternion)):
            for name, value in zip(names, values):
                setattr(part, name, value)
        client.node.create_publisher(TFMessage, '/tf_static', latched).publish(
            TFMessage(transforms=[transform]))

    # As robot_state_publisher and other sensors' drivers do, long before this node is there.
    x, y, z, _, pitch, yaw = POSE
    sp, cp, sy, cy = np.sin(pitch / 2), np.cos(pitch / 2), np.sin(yaw / 2), np.cos(yaw / 2)
    tell('base_footprint', 'camera_link', (x, y, z), (-sp * sy, sp * cy, cp * sy, cp * cy))
    tell('base_footprint', 'lidar', (0.0, 0.0, 2.0), (0.0, 0.0, 0.0, 1.0))
    client.namespace = '/other'
    node = start_node(
        'segmentation_node', '-r', f'__ns:={client.namespace}', weights=tiny_weights, threads=1,
        drivable_classes=[CAMVID.classes[before_the_vehicle(labels)]],
        base_frame='base_footprint', grid_length=GRID.length, grid_width=GRID.width,
        grid_resolution=GRID.resolution)
    camera = Camera(client)
    camera.send_until(lambda: 'nor does /tf_static tell' in node.output, calibration(), 6)
    # As the camera's driver does.
    tell('camera_link', 'front_camera', (0.0,) * 3, (-0.5, 0.5, -0.5, 0.5))
    grid, _ = camera.on_the_ground(calibration(), 7)
    np.testing.assert_array_equal(cells(grid), expected(labels))
    assert (
        'by /tf_static front_camera is, in base_footprint, at x 1.5, y 0, '
        f'z {z:g} m, roll 0, pitch {pitch:g}, yaw {yaw:g}\n') in node.output
    assert client.set('base_frame', 'front_camera') == ''
    camera.send_until(
        lambda: 'front_camera is at height 0 m in front_camera: set base_frame' in node.output,
        calibration(), 8)
