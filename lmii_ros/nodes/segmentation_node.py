# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The segmentation node: camera images in, labels, overlays and drivable area out."""

from __future__ import annotations

import os
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from typing import Any
from typing import Callable
from typing import NoReturn
from typing import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterDescriptor
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock import ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.lifecycle import LifecycleState
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from lmii_ros import frames
from lmii_ros.engines import NonFiniteOutput
from lmii_ros.frames import FrameError
from lmii_ros.nodes import parameters
from lmii_ros.nodes import process
from lmii_ros.nodes.image_message import deserialize
from lmii_ros.nodes.newest_frame import NewestFrame
from lmii_ros.nodes.operation import Operation
from lmii_ros.nodes.outputs import Outputs
from lmii_ros.nodes.parameters import Settings
from lmii_ros.nodes.parameters import QOS_OVERRIDES
from lmii_ros.nodes.parameters import SettingsError
from lmii_ros.nodes.process import NodeFailed
from lmii_ros.nodes.statistics import FrameStatistics
from lmii_ros.operating_point import Cancelled

if TYPE_CHECKING:
    from lmii_ros.segmenter import Segmentation

DIAGNOSTICS_PERIOD_S = 1.0
WARNING_PERIOD_S = 5.0
STOP_TIMEOUT_S = 1.0
"""How long the end of the process waits for a frame that is in the network."""
HUNG_S = 60.0
"""So does any other transition, in which a large network may still be compiled; then only a new
process helps, for the device may be stuck."""
STEPS = ('waiting', 'decoding', 'segmenting', 'publishing')
"""What a frame goes through, as diagnostics name it."""
MAX_LATENCY_S = 60.0
"""A stamp older than this, or in the future, is of another clock and tells no latency."""


class SegmentationNode(LifecycleNode):
    """
    A managed node (lifecycle) around a :class:`lmii_ros.segmenter.Segmenter`.

    The executor's thread only receives: it leaves the newest image in a slot, from which a thread
    of our own takes it and labels it; another one publishes, while the next image is labelled.
    Topics and parameters are those of the README.
    """

    def __init__(self) -> None:
        super().__init__('segmentation_node')
        self.finished = Future()
        try:
            self._settings = parameters.declare(self)
        except SettingsError as error:
            raise NodeFailed(str(error)) from error
        self._autostart: bool = self.declare_parameter('autostart', True, ParameterDescriptor(
            description='Whether the node configures and activates itself.',
            read_only=True)).value
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._statistics = FrameStatistics()
        self._operation: Operation | None = None
        self._outputs: Outputs | None = None
        self._camera_info: CameraInfo | None = None
        self._newest: NewestFrame[tuple[Any, float]] | None = None
        self._worker: threading.Thread | None = None
        self._input_subscriptions: list = []
        self._why_not = ''
        try:
            self._diagnostics = self.create_publisher(
                DiagnosticArray, '/diagnostics', 1, qos_overriding_options=QOS_OVERRIDES)
        except ValueError as error:
            raise NodeFailed(f'cannot publish /diagnostics: {error}') from error
        # Under simulated time a paused clock must not silence the diagnostics.
        self.create_timer(
            DIAGNOSTICS_PERIOD_S, self._publish_diagnostics,
            clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.create_service(Trigger, '~/calibrate', self._on_calibrate)

    def start(self) -> None:
        """Configure and activate, with autostart. See :class:`process.RunnableNode`."""
        if not self._autostart:
            return
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != TransitionCallbackReturn.SUCCESS:
                raise NodeFailed(self._why_not)

    def stop(self) -> None:
        """End the worker, or leave it behind if its frame takes too long."""
        self._stop_receiving(STOP_TIMEOUT_S)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the network, run it once, and create the publishers."""
        # torch takes seconds to import; in here a signal in the meantime ends the process cleanly.
        operation = None
        try:
            operation = Operation(self._settings, self.get_logger())
            segmenter = operation.segmenter
            self._outputs = Outputs(self, segmenter.info.classes)
        except Exception as error:
            if operation is not None:
                operation.close()
            # Whatever it is: rclpy would drop it without a word.
            return self._refuse('configure', error)
        self._operation = operation
        self._statistics = FrameStatistics()
        self.get_logger().info(
            f'{segmenter.weight_file.name}: {segmenter.info.network} with the classes of '
            f'{segmenter.info.classes.name}, engine {segmenter.engine.name} on '
            f'{segmenter.engine.device} in {segmenter.engine.precision}: {segmenter.why_engine}')
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe, and start to label."""
        newest = NewestFrame()
        self._newest = newest
        try:
            self._subscribe()
        except Exception as error:
            self._stop_receiving()
            return self._refuse('activate', error)
        super().on_activate(state)
        self._statistics.activated()
        self._operation.resume()
        worker = threading.Thread(
            target=self._work, args=(newest,), name='segmentation', daemon=True)
        worker.start()
        # Only now, since a signal may come in between, and only what runs can be waited for.
        self._worker = worker
        self._outputs.publish_label_info(self._settings.min_confidence)
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Finish the frame that is in the network, and receive no more."""
        self._stop_receiving()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the network and the publishers."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release all that is held, from whatever state."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release all that is held, so that the node can be configured again."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def _refuse(self, transition: str, error: Exception) -> TransitionCallbackReturn:
        # On one line, which not every library's messages are.
        self._why_not = f'cannot {transition}: {" ".join(str(error).split()) or repr(error)}'
        self.get_logger().debug(traceback.format_exc())
        if not self._autostart:
            self.get_logger().error(self._why_not)
        return TransitionCallbackReturn.FAILURE

    def _release(self) -> None:
        self._stop_receiving()
        if self._outputs is not None:
            self._outputs.close()
        self._outputs = None
        if self._operation is not None:
            self._operation.close()
        self._operation = None

    def _subscribe(self) -> None:
        # Sensor data (REP 2003), with its depth: what comes while the process does not get the
        # processor is counted as superseded, by the slot, and not lost unseen.
        sensor_data = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        message_type, topic = Image, 'image'
        if self._settings.image_transport == 'compressed':
            message_type, topic = CompressedImage, self._compressed_topic()
        self._input_subscriptions.append(self.create_subscription(
            message_type, topic, partial(self._on_image, message_type.__name__), sensor_data,
            qos_overriding_options=QOS_OVERRIDES, raw=True))
        self._input_subscriptions.append(self.create_subscription(
            CameraInfo, 'camera_info', self._on_camera_info, sensor_data,
            qos_overriding_options=QOS_OVERRIDES))

    def _compressed_topic(self) -> str:
        """Return the name below that of image, as image_transport has it, or its remapping."""
        topic = 'image/compressed'
        if self.resolve_topic_name(topic) != self.resolve_topic_name(topic, only_expand=True):
            return topic
        return self.resolve_topic_name('image') + '/compressed'

    def _stop_receiving(self, timeout_s: float = HUNG_S) -> None:
        for subscription in self._input_subscriptions:
            self.destroy_subscription(subscription)
        self._input_subscriptions = []
        if self._newest is not None and self._newest.close():
            self._statistics.dropped('deactivated')
        if self._operation is not None:
            self._operation.cancel()
        if self._worker is not None:
            self._worker.join(timeout_s)
            if self._worker.is_alive():
                self._fail(NodeFailed(
                    f'the frame in the network has not come back for {timeout_s:g} s'))
        # Another camera may be there when it goes on.
        self._newest = self._worker = self._camera_info = None

    def _on_image(self, name: str, data: bytes) -> None:
        try:
            message = deserialize(data, name)
        except FrameError as error:
            self._statistics.received()
            self._drop(error.reason, str(error))
            return
        self._statistics.received(_nanoseconds(message.header.stamp))
        if not self._outputs.wanted():
            self._statistics.dropped('no_subscriber')
            if self._outputs.wanted('camera_info'):
                with suppress(FrameError):
                    self._outputs.publish_camera_info(
                        message.header, self._camera_info, frames.size(message))
        elif self._newest.put((message, time.monotonic())):
            self._statistics.dropped('superseded')
            self._operation.lost()

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = message

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        configured = self._operation is not None
        try:
            settings = self._settings.changed(changes, configured=configured)
            if configured:
                self._operation.check(settings)
        except (ValueError, OSError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        if self._worker is not None and settings.min_confidence != self._settings.min_confidence:
            self._outputs.publish_label_info(settings.min_confidence)
        self._settings = settings
        if configured and any(change.name == 'input_height' for change in changes):
            self._operation.retry()
        return SetParametersResult(successful=True)

    def _on_calibrate(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._worker is None or not self._settings.target_fps:
            response.message = 'nothing to measure: ' + (
                'target_fps is 0' if self._worker else 'the node is not active')
            return response
        self._operation.calibrate()
        response.success = True
        response.message = 'measuring anew with the next frame that is labelled'
        return response

    def _work(self, newest: NewestFrame) -> None:
        try:
            with ThreadPoolExecutor(1, 'publishing') as publisher:
                published = publisher.submit(lambda: None)
                for item in iter(newest.take, None):
                    taken = time.monotonic()
                    publish = self._label(*item, taken, published.result)
                    # Labels are valid until the call after the next.
                    published.result()
                    if publish is not None:
                        published = publisher.submit(publish)
                        self._operation.labelled(time.monotonic() - taken)
                published.result()
        except NodeFailed as error:
            self._fail(error)
        except Exception:
            # Labels after an error that nobody foresaw are not to be trusted. Once the process has
            # been told to end, though, the error is that nothing can be published any more.
            if self.context.ok():
                self._fail(NodeFailed(f'labelling failed\n{traceback.format_exc()}'))

    def _fail(self, error: NodeFailed) -> None:
        # The executor sees it after its next callback: within a second, of the diagnostics.
        self.finished.set_exception(error)

    def _label(
        self, message: Any, received: float, taken: float, finish: Callable[[], object],
    ) -> Callable[[], None] | None:
        """Return what publishes the labels of an image, or None if it could not be labelled."""
        settings = self._settings
        times = [received, taken]
        try:
            frame = frames.decode(message)
            times.append(time.monotonic())
            segmentation = self._operation.segment(
                partial(frames.decode, message), frame, settings,
                confidence=self._outputs.wanted('confidence'), finish=finish)
            times.append(time.monotonic())
        except FrameError as error:
            self._drop(error.reason, str(error))
            return None
        except NonFiniteOutput as error:
            self._drop('non_finite_output', str(error))
            return None
        except Cancelled:
            self._statistics.dropped('deactivated')
            return None
        return partial(
            self._publish, message.header, frame, segmentation, settings, times)

    def _publish(
        self,
        header: Header,
        frame: np.ndarray,
        segmentation: Segmentation,
        settings: Settings,
        times: Sequence[float],
    ) -> None:
        self._outputs.publish(header, frame, segmentation, self._camera_info, settings)
        latency = (self.get_clock().now().nanoseconds - _nanoseconds(header.stamp)) / 1e9
        self._statistics.labelled(
            latency if 0 <= latency < MAX_LATENCY_S else None,
            dict(zip(STEPS, np.diff([*times, time.monotonic()]))))

    def _drop(self, reason: str, why: str) -> None:
        self._statistics.dropped(reason)
        self.get_logger().warning(
            f'frame dropped: {why}', throttle_duration_sec=WARNING_PERIOD_S)

    def _publish_diagnostics(self) -> None:
        facts, paused, warning = {}, '', ''
        if self._operation is not None:
            facts, paused, warning = (
                self._operation.facts(), self._operation.paused,
                self._operation.warning() or self._outputs.warning())
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status = [self._statistics.report(
            f'{self.get_fully_qualified_name()}: segmentation', facts,
            active=self._worker is not None, stale_after=self._settings.stale_after,
            paused=paused, warning=warning)]
        self._diagnostics.publish(message)


def _nanoseconds(stamp: Time) -> int:
    # Not rclpy.time.Time: it refuses what is before 1970, and stamps are what they are.
    return 10 ** 9 * stamp.sec + stamp.nanosec


def main() -> NoReturn:
    """Run the node as a process."""
    # OpenMP reads it when torch is imported: threads that spin while they wait make a frame last
    # ten times as long as soon as another process wants the core.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    process.end(process.run(SegmentationNode))


if __name__ == '__main__':
    main()
