# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""What plays an image topic of a bag: `ros2 bag play`, or a node where that is not installed."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import threading
import time

from rcl_interfaces.msg import FloatingPointRange
from rcl_interfaces.msg import IntegerRange
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock as SteadyClock
from rclpy.clock import ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.task import Future
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image

from lmii_ros.bags import BagError
from lmii_ros.bags import BagReader
from lmii_ros.evaluation.live import LiveEvaluation
from lmii_ros.evaluation.read_ahead import read_ahead
from lmii_ros.nodes import process
from lmii_ros.nodes.process import NodeFailed

TYPES = {'sensor_msgs/msg/Image': Image, 'sensor_msgs/msg/CompressedImage': CompressedImage}
POLL_S = 0.05
SETTLING_S = 0.5
"""How long a subscriber that we know of may not know us yet, and miss a best-effort frame."""
LAST_FRAME_TIMEOUT = Duration(seconds=1)


class BagPlayerNode(Node):
    """
    Publishes the images as they were recorded, stamps and all, on image or image/compressed.

    They come at the intervals at which they were recorded, divided by `rate`; /clock tells the
    time of recording. What of a damaged bag can be read is played.
    """

    def __init__(self) -> None:
        super().__init__('bag_player_node')
        self.finished = Future()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: NodeFailed | None = None

        def parameter(name: str, default: object, description: str, **ranges: list) -> object:
            return self.declare_parameter(name, default, ParameterDescriptor(
                description=description, read_only=True, **ranges)).value

        self._bag = parameter('bag', '', 'Rosbag2 folder, or .mcap or .db3 file.')
        self._topic = parameter('topic', '', 'Image topic of the bag; empty for its only one.')
        self._rate = parameter(
            'rate', 1.0, 'Speed, 1 for that of the recording.',
            floating_point_range=[FloatingPointRange(from_value=0.01, to_value=100.0)])
        self._wanted = parameter(
            'wait_for_subscribers', 0, 'Subscribers to wait for before the first frame.',
            integer_range=[IntegerRange(from_value=0, to_value=100, step=1)])

    def start(self) -> None:
        """Open the bag and begin to publish. See :class:`process.RunnableNode`."""
        try:
            reader = BagReader(self._bag)
            topic = reader.image_topic(self._topic or None)
        except BagError as error:
            raise NodeFailed(str(error)) from error
        message_type = TYPES[reader.image_topics()[topic]]
        images = self.create_publisher(
            message_type, 'image' if message_type is Image else 'image/compressed',
            QoSProfile(depth=10))
        clock = self.create_publisher(Clock, '/clock', QoSProfile(depth=1))
        self._thread = threading.Thread(
            target=self._run, args=(reader, topic, images, clock), daemon=True)
        self._thread.start()
        self.create_timer(
            POLL_S, self._poll, clock=SteadyClock(clock_type=ClockType.STEADY_TIME))

    def stop(self) -> None:
        """End the thread that publishes."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(1)

    def _run(
        self, reader: BagReader, topic: str, images: Publisher, clock: Publisher,
    ) -> None:
        try:
            with reader:
                self._play(reader, topic, images, clock)
        except Exception as error:
            # Once the process has been told to end, nothing can be published any more.
            if not self._stopping.is_set() and self.context.ok():
                self._failure = NodeFailed(f'{self._bag}: cannot be played: {error}')

    def _poll(self) -> None:
        # Here, since the executor sees the end of what it has called itself only.
        if not self._thread.is_alive() and not self.finished.done():
            if self._failure is not None:
                self.finished.set_exception(self._failure)
            else:
                self.finished.set_result(None)

    def _play(
        self, reader: BagReader, topic: str, images: Publisher, clock: Publisher,
    ) -> None:
        while images.get_subscription_count() < self._wanted:
            if self._stopping.wait(POLL_S):
                return
        if self._wanted:
            self._stopping.wait(SETTLING_S)
        first = None
        # A little ahead, so that what is due has been read from the disk.
        messages = read_ahead(reader.messages([topic]))
        try:
            for message in messages:
                first = first or (time.monotonic(), message.time_ns)
                due = first[0] + (message.time_ns - first[1]) / 1e9 / self._rate
                if self._stopping.wait(max(0.0, due - time.monotonic())):
                    return
                clock.publish(Clock(clock=Time(nanoseconds=message.time_ns).to_msg()))
                images.publish(bytes(message.data))
        except BagError as error:
            self.get_logger().warning(str(error))
        finally:
            messages.close()
        images.wait_for_all_acked(LAST_FRAME_TIMEOUT)


def command(
    evaluation: LiveEvaluation, topic: str, image: str, published: str,
) -> tuple[str, list[str]]:
    """
    Return what plays a bag, by name and as a command line.

    :param topic: Image topic of the bag.
    :param image: Name under which a node publishes such images, before any remapping.
    :param published: Name under which they are to be published.
    """
    bag, rate = str(evaluation.bag), str(float(evaluation.rate))
    # It needs the metadata.
    if (evaluation.bag / 'metadata.yaml').is_file() and shutil.which('ros2') and (
            importlib.util.find_spec('ros2bag')):
        return 'ros2 bag play', [
            'ros2', 'bag', 'play', bag, '--rate', rate, '--clock',
            # For it does not wait until it has found its subscribers.
            '--delay', '2', '--disable-keyboard-controls', '--topics', topic,
            '--remap', f'{topic}:={published}']
    return 'bag_player_node', [
        sys.executable, '-m', 'lmii_ros.nodes.bag_player_node', '--ros-args',
        '-p', f'bag:="{bag}"', '-p', f'topic:="{topic}"', '-p', f'rate:={rate}',
        '-p', 'wait_for_subscribers:=2', '-r', f'{image}:={published}']


def main() -> int:
    """Run the node as a process."""
    return process.run(BagPlayerNode)


if __name__ == '__main__':
    sys.exit(main())
