# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A camera to test with: frames of a source, with calibration and exact labels."""

from __future__ import annotations

import itertools
import sys
import time
from typing import Iterator

import cv2
from rcl_interfaces.msg import FloatingPointRange
from rcl_interfaces.msg import IntegerRange
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock
from rclpy.clock import ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from lmii_ros import frames
from lmii_ros import sources
from lmii_ros.nodes import process
from lmii_ros.nodes.image_message import compressed_message
from lmii_ros.nodes.image_message import image_message
from lmii_ros.nodes.parameters import QOS_OVERRIDES
from lmii_ros.nodes.process import NodeFailed
from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import SYNTHETIC
from lmii_ros.sources import SourceFrame

SETTLING_S = 0.5
"""How long a subscriber that we know of may not know us yet, and miss a best-effort frame."""
LAST_FRAME_TIMEOUT = Duration(seconds=1)

PARAMETERS = (
    ('source', '', 'Folder, video file or bag; empty for the synthetic road scene.', None),
    ('labels', '', 'Folder of label images for a folder, topic of the labels for a bag.', None),
    ('topic', '', 'Image topic of a bag; empty for its only one.', None),
    ('rate', 10.0, 'Frames per second.',
     FloatingPointRange(from_value=0.1, to_value=1000.0)),
    ('width', 0, 'Width of the images, 0 for the source\'s own.',
     IntegerRange(from_value=0, to_value=8192, step=1)),
    ('height', 0, 'Height of the images, 0 for the source\'s own.',
     IntegerRange(from_value=0, to_value=8192, step=1)),
    ('encoding', 'bgr8', 'Encoding of image, or jpeg or png for image/compressed.', None),
    ('frame_id', 'camera_optical_frame', 'Frame of the images (REP 103: z forward, x right).',
     None),
    ('seed', 0, 'Seed of the synthetic scene.',
     IntegerRange(from_value=0, to_value=2 ** 31 - 1, step=1)),
    ('loop', False, 'Whether a source that ends starts again.', None),
    ('frames', 0, 'Frames to publish at most, 0 for no limit.',
     IntegerRange(from_value=0, to_value=2 ** 31 - 1, step=1)),
    ('preload', 0, 'Frames made before the first is published, and repeated from then on: what '
     'load tests need. 0 makes each frame when it is due.',
     IntegerRange(from_value=0, to_value=10000, step=1)),
    ('wait_for_subscribers', 0, 'Subscribers to wait for before the first frame.',
     IntegerRange(from_value=0, to_value=100, step=1)),
)


class CameraSimulatorNode(Node):
    """
    Publishes image (or image/compressed), camera_info and ground_truth.

    All three carry the time of publishing as stamp. ground_truth is mono8, one class index a
    pixel, 255 where unknown; it is there for frames that the source has labels for.
    """

    def __init__(self) -> None:
        super().__init__('camera_simulator_node')
        self.finished = Future()
        self._parameters = {}
        for name, default, description, value_range in PARAMETERS:
            descriptor = ParameterDescriptor(description=description, read_only=True)
            if isinstance(value_range, IntegerRange):
                descriptor.integer_range = [value_range]
            elif value_range is not None:
                descriptor.floating_point_range = [value_range]
            self._parameters[name] = self.declare_parameter(name, default, descriptor).value
        overriding = {'qos_overriding_options': QOS_OVERRIDES}
        qos = QoSProfile(depth=10)
        if self._parameters['encoding'] in frames.COMPRESSED:
            self._image_publisher = self.create_publisher(
                CompressedImage, 'image/compressed', qos, **overriding)
        else:
            self._image_publisher = self.create_publisher(Image, 'image', qos, **overriding)
        self._info_publisher = self.create_publisher(CameraInfo, 'camera_info', qos, **overriding)
        self._truth_publisher = self.create_publisher(Image, 'ground_truth', qos, **overriding)
        self._frames: Iterator[SourceFrame] = iter(())
        self._published = 0
        self._matched_since: float | None = None

    def start(self) -> None:
        """Open the source and begin to publish. See :class:`process.RunnableNode`."""
        try:
            self._frames = itertools.islice(self._open(), self._parameters['frames'] or None)
        except ValueError as error:
            raise NodeFailed(str(error)) from error
        self.create_timer(
            1 / self._parameters['rate'], self._tick,
            clock=Clock(clock_type=ClockType.STEADY_TIME))

    def stop(self) -> None:
        """Say how much was published."""
        if self._published:
            self.get_logger().info(f'{self._published} frames published')

    def _open(self) -> Iterator[SourceFrame]:
        chosen = self._parameters
        if bool(chosen['width']) != bool(chosen['height']):
            raise ValueError('give both width and height, or neither')

        def once() -> Iterator[SourceFrame]:
            return sources.open_source(
                chosen['source'], labels=chosen['labels'], topic=chosen['topic'],
                size=(chosen['width'], chosen['height']) if chosen['width'] else None,
                seed=chosen['seed'], rate=chosen['rate'])

        if chosen['preload']:
            return itertools.cycle(list(itertools.islice(once(), chosen['preload'])))
        first = once()
        if not chosen['loop']:
            return first
        return itertools.chain(first, itertools.chain.from_iterable(iter(once, None)))

    def _tick(self) -> None:
        if self.finished.done():
            return
        if self._published == 0 and not self._is_matched():
            return
        try:
            frame = next(self._frames, None)
            if frame is None:
                # The last ones are to arrive. Not in stop(), where a signal may have ended ROS.
                for publisher in (self._image_publisher, self._truth_publisher):
                    publisher.wait_for_all_acked(LAST_FRAME_TIMEOUT)
                self.finished.set_result(None)
                return
            self._publish(frame)
        except ValueError as error:
            self.finished.set_exception(NodeFailed(str(error)))

    def _is_matched(self) -> bool:
        wanted = self._parameters['wait_for_subscribers']
        if self._image_publisher.get_subscription_count() < wanted:
            return False
        if wanted and self._matched_since is None:
            self._matched_since = time.monotonic()
        return not wanted or time.monotonic() - self._matched_since > SETTLING_S

    def _publish(self, frame: SourceFrame) -> None:
        header = Header(
            stamp=self.get_clock().now().to_msg(), frame_id=self._parameters['frame_id'])
        if self._truth_publisher.get_subscription_count() and frame.labels is not None:
            self._truth_publisher.publish(image_message(header, frame.labels, 'mono8'))
        self._info_publisher.publish(self._camera_info(header, frame))
        encoding = self._parameters['encoding']
        if encoding in frames.COMPRESSED:
            self._image_publisher.publish(compressed_message(
                header, cv2.imencode('.' + encoding, frame.image)[1],
                f'bgr8; {encoding} compressed bgr8'))
        else:
            data, step = frames.encode(frame.image, encoding)
            height, width = frame.image.shape[:2]
            message = Image(
                header=header, height=height, width=width, encoding=encoding, step=step,
                is_bigendian=0)
            message.data.frombytes(memoryview(data).cast('B'))
            self._image_publisher.publish(message)
        self._published += 1

    def _camera_info(self, header: Header, frame: SourceFrame) -> CameraInfo:
        height, width = frame.image.shape[:2]
        info = CameraInfo(header=header, height=height, width=width)
        # Zeros mean uncalibrated (sensor_msgs/CameraInfo): a folder tells no focal length.
        if self._parameters['source'] in ('', SYNTHETIC):
            matrix = PinholeCamera.from_fov(width, height).matrix()
            info.distortion_model = 'plumb_bob'
            info.d = [0.0] * 5
            info.k = matrix.ravel().tolist()
            info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
            info.p = [*matrix[0], 0.0, *matrix[1], 0.0, *matrix[2], 0.0]
        return info


def main() -> int:
    """Run the node as a process."""
    return process.run(CameraSimulatorNode)


if __name__ == '__main__':
    sys.exit(main())
