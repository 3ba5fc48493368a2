# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A node that plays a bag to the segmentation node and measures what a vehicle would get."""

from __future__ import annotations

import hashlib
import shutil
import signal
import struct
import subprocess
import sys
import time
from concurrent.futures import Future as Written
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from datetime import timezone
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import FloatingPointRange
from rcl_interfaces.msg import ParameterDescriptor
from rcl_interfaces.srv import GetParameters
from rclpy.clock import Clock
from rclpy.clock import ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image

from lmii_ros import weights
from lmii_ros.bags import BagReader
from lmii_ros.bags import ImageBagWriter
from lmii_ros.evaluation import live
from lmii_ros.evaluation import results
from lmii_ros.evaluation.live import Drive
from lmii_ros.evaluation.live import LiveEvaluation
from lmii_ros.nodes import bag_player_node
from lmii_ros.nodes import process
from lmii_ros.nodes.process import NodeFailed
from lmii_ros.nodes.statistics import FrameCounts
from lmii_ros.nodes.statistics import INACTIVE
from lmii_ros.nodes.statistics import status_name
from lmii_ros.nodes.statistics import status_of

SPOOL = 'live'
"""Folder of the bag of what the node published."""
TICK_S = 0.1
QUIET_S = 2.5
"""After so long without a message none will come; diagnostics come every second."""
SETTLE_TIMEOUT_S = 60.0
PLAYER_TIMEOUT_S = 5.0
FACTS = ('weights', 'network', 'engine', 'device', 'precision', 'input height')
"""What diagnostics tell of the operating point."""
WARM_UP_NS = 1
"""Stamp of the image with which the node is warmed up, which is of no recording."""
_CDR_STAMP = struct.Struct('<iI')
_CDR_STAMP_OFFSET = 4

PARAMETERS = (
    ('bag', '', 'Rosbag2 folder, or .mcap or .db3 file.'),
    ('out', '', 'Folder for the results.'),
    ('topic', '', 'Image topic of the bag; empty for its only one.'),
    ('labels', '', 'Topic of the ground truth in the bag; empty for none.'),
    ('tolerance_ms', 10.0, 'How far the stamps of image and ground truth may be apart.'),
    ('rate', 1.0, 'Speed at which the bag is played, 1 for that of the recording.'),
    ('command', [''], 'Command line to note in the results.'),
)
_RANGES = {'tolerance_ms': (0.0, 1e6), 'rate': (0.01, 100.0)}


class EvaluationNode(Node):
    """
    Waits for the segmentation node, plays the bag, and keeps what it publishes.

    The first image of the bag is sent once beforehand, for the node prepares its network for the
    size of the images when the first comes, which takes seconds.

    Images are known by their stamps, which stay those of the recording. The latency of a frame
    is the time from the arrival of its image here to that of its labels, on one steady clock, so
    it holds whatever clock the stamps are of. Scores are made after the drive, so as to leave the
    machine to the node; see :mod:`lmii_ros.evaluation.live`.

    :ivar evaluation: What to evaluate.
    :ivar drive: What was seen, once the bag has ended.
    """

    def __init__(self) -> None:
        super().__init__('evaluation_node')
        self.finished = Future()
        values = {}
        for name, default, description in PARAMETERS:
            descriptor = ParameterDescriptor(description=description, read_only=True)
            if name in _RANGES:
                low, high = _RANGES[name]
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=low, to_value=high)]
            values[name] = self.declare_parameter(name, default, descriptor).value
        for name in ('bag', 'out'):
            if not values[name]:
                raise NodeFailed(f'parameter {name} is empty: {_description(name)}')
        self.evaluation = LiveEvaluation(
            bag=Path(values['bag']), out=Path(values['out']), image_topic=values['topic'] or None,
            labels_topic=values['labels'] or None, tolerance_ms=values['tolerance_ms'],
            rate=values['rate'])
        self._command = [part for part in values['command'] if part]
        self.drive: Drive | None = None
        self._node_name = self.resolve_topic_name('segmentation_node')
        self._spool: ImageBagWriter | None = None
        # A thread of its own, so that no message waits while another is compressed.
        self._writing = ThreadPoolExecutor(1)
        self._write_error: BaseException | None = None
        self._player: subprocess.Popen | None = None
        self._played_by = self._started_at = ''
        self._weights: Path | None = None
        self._asked: Future | None = None
        self._before: dict[str, str] = {}
        self._status: dict[str, str] = {}
        self._active = False
        self._status_time = self._last_message = 0.0
        self._started = self._ended = self._warmed_up = 0.0
        self._arrived: dict[int, float] = {}
        self._latencies_s: dict[int, float] = {}

    def start(self) -> None:
        """Subscribe, and wait for the segmentation node. See :class:`process.RunnableNode`."""
        evaluation = self.evaluation
        try:
            self._topic, image_transport = evaluation.image_source()
            evaluation.out.mkdir(parents=True, exist_ok=True)
            for name in (results.METRICS, results.RUN):
                (evaluation.out / name).unlink(missing_ok=True)
            spool = evaluation.out / SPOOL
            if spool.is_dir():
                shutil.rmtree(spool)
            self._spool = ImageBagWriter(spool).__enter__()
        except (ValueError, OSError) as error:
            raise NodeFailed(str(error)) from error
        message_type, self._image = {
            'raw': (Image, 'image'),
            'compressed': (CompressedImage, 'image/compressed')}[image_transport]
        # Best effort fits whatever the recorded topic's reliability was.
        self._images = self.create_subscription(
            message_type, self._image, self._on_image,
            QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT), raw=True)
        for name, topic in (
                ('labels', live.LABELS_TOPIC), ('confidence', live.CONFIDENCE_TOPIC)):
            self.create_subscription(
                Image, f'{self._node_name}/{name}',
                lambda message, topic=topic: self._on_output(topic, message),
                QoSProfile(depth=100))
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 5)
        self._warmer = self.create_publisher(message_type, self._image, QoSProfile(depth=1))
        self._weights_service = self.create_client(
            GetParameters, f'{self._node_name}/get_parameters')
        self.create_timer(TICK_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.get_logger().info(f'waiting for {self._node_name}')

    def stop(self) -> None:
        """End the player, and close what was kept."""
        if self._player is not None and self._player.poll() is None:
            self._player.terminate()
            try:
                self._player.wait(PLAYER_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._player.kill()
                self._player.wait()
        self._close_spool()

    def _close_spool(self) -> None:
        self._writing.shutdown()
        if self._spool is not None:
            self._spool.__exit__()
        self._spool = None

    def _on_image(self, data: bytes) -> None:
        # Only the stamp, at the start of the header: the rest takes longer than the network.
        seconds, nanoseconds = _CDR_STAMP.unpack_from(data, _CDR_STAMP_OFFSET)
        self._last_message = time.monotonic()
        self._arrived[10 ** 9 * seconds + nanoseconds] = self._last_message

    def _on_output(self, topic: str, message: Image) -> None:
        self._last_message = time.monotonic()
        stamp_ns = 10 ** 9 * message.header.stamp.sec + message.header.stamp.nanosec
        if stamp_ns == WARM_UP_NS:
            return
        if topic == live.LABELS_TOPIC:
            arrived = self._arrived.pop(stamp_ns, None)
            if arrived is not None:
                self._latencies_s[stamp_ns] = self._last_message - arrived
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)
        self._writing.submit(
            self._spool.write_image, topic, stamp_ns, message.header.frame_id, pixels,
            message.encoding, time.time_ns()).add_done_callback(self._on_written)

    def _on_written(self, written: Written) -> None:
        self._write_error = self._write_error or written.exception()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        found = status_of(message, status_name(self._node_name))
        if found is not None:
            text, self._status = found
            self._active = text != INACTIVE
            self._status_time = time.monotonic()

    def _tick(self) -> None:
        if self.finished.done():
            return
        try:
            if self._write_error is not None:
                raise self._write_error
            if self._player is None:
                if self._is_ready() and self._is_warm():
                    self._play()
            elif not self._ended:
                self._check_player()
            elif self._is_settled():
                self._finish()
        except (NodeFailed, ValueError, OSError) as error:
            self.finished.set_exception(NodeFailed(str(error)))

    def _is_ready(self) -> bool:
        if self._weights is not None:
            return True
        if not (self._active and self._status.get('weights')):
            return False
        if self._asked is None:
            if self._weights_service.service_is_ready():
                self._asked = self._weights_service.call_async(
                    GetParameters.Request(names=['weights']))
            return False
        if not self._asked.done():
            return False
        value, = self._asked.result().values
        self._weights = weights.find(value.string_value)
        return True

    def _is_warm(self) -> bool:
        counts = self._counts()
        if counts.received:
            # Labelled it is, or no image.
            return counts.are_complete
        now = time.monotonic()
        # The node itself, and this one.
        if now - self._warmed_up > QUIET_S and self._warmer.get_subscription_count() > 1:
            # Again, should it have been lost.
            self._warmed_up = now
            self._warmer.publish(self._first_image())
        return False

    def _first_image(self) -> bytes:
        with BagReader(self.evaluation.bag) as reader:
            for message in reader.messages([self._topic]):
                data = bytearray(message.data)
                _CDR_STAMP.pack_into(data, _CDR_STAMP_OFFSET, 0, WARM_UP_NS)
                return bytes(data)
        raise NodeFailed(f'{self.evaluation.bag}: no image of {self._topic}')

    def _play(self) -> None:
        self.destroy_publisher(self._warmer)
        self._before = self._status
        self._played_by, command = bag_player_node.command(
            self.evaluation, self._topic, self._image, self._images.topic_name)
        self.get_logger().info(f'playing {self.evaluation.bag} with {self._played_by}')
        self._started_at = datetime.now(timezone.utc).isoformat(timespec='seconds')
        self._started = self._last_message = time.monotonic()
        # An interrupt in the midst of it would leave a player that nobody knows.
        with process.interrupts_held():
            self._player = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def _check_player(self) -> None:
        code = self._player.poll()
        if code:
            raise NodeFailed(f'{self._played_by} ended with exit code {code}, see above')
        if code == 0:
            self._ended = time.monotonic()

    def _is_settled(self) -> bool:
        now = time.monotonic()
        if now - self._ended > SETTLE_TIMEOUT_S:
            return True
        return (
            self._status_time > self._last_message + 1
            and now - max(self._ended, self._last_message) > QUIET_S
            and self._counts().are_complete)

    def _counts(self) -> FrameCounts:
        """Return the node's counts of frames in this drive."""
        return FrameCounts.between(self._before, self._status)

    def _finish(self) -> None:
        self._close_spool()
        # With a target rate it may be another one than the parameter says.
        name = self._status['weights']
        weight_file = self._weights.with_name(name)
        weight_file = weight_file if weight_file.is_file() else weights.find(name)
        counts = self._counts()
        changed = {
            name: [self._before[name], self._status[name]] for name in FACTS
            if self._before[name] != self._status[name]}
        if changed:
            self.get_logger().warning(f'the operating point changed during the drive: {changed}')
        self.drive = Drive(
            labels=self.evaluation.out / SPOOL, classes=weights.read_info(weight_file).classes,
            operating_point={
                **{name: self._status[name] for name in FACTS[:-1]},
                'sha256': hashlib.sha256(weight_file.read_bytes()).hexdigest(),
                'input_height': int(self._status['input height'])},
            received=counts.received, labelled=counts.labelled, dropped=counts.dropped,
            latencies_s=self._latencies_s, command=self._command,
            facts={
                'started': self._started_at, 'wall_s': self._ended - self._started,
                'player': self._played_by, 'operating_point_changed': changed})
        self.finished.set_result(None)


def _description(name: str) -> str:
    return next(text for key, _, text in PARAMETERS if key == name)


def main() -> int:
    """Run the node as a process; then score what was seen, and print the scores."""
    made: list[EvaluationNode] = []

    def make() -> EvaluationNode:
        made.append(EvaluationNode())
        return made[0]

    code = process.run(make)
    if not made or made[0].drive is None:
        return code
    # The node's end ignores them; from here on, any may end the process.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        return _score(made[0].evaluation, made[0].drive)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def _score(evaluation: LiveEvaluation, drive: Drive) -> int:
    document = live.score(evaluation, drive)
    print(results.table(document))
    latency = results.latency(live.latencies(drive))
    if latency:
        print('latency p50 {p50:.0f} ms, p99 {p99:.0f} ms'.format(**latency))
    print(f'results: {evaluation.out}')
    print(results.write_report(evaluation.out), flush=True)
    if document['faults']:
        raise ValueError(results.fault(document, evaluation.out))
    return 0


if __name__ == '__main__':
    sys.exit(main())
