# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The segmentation node: camera images in, labels, overlays and drivable area out."""

from __future__ import annotations

import os
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from typing import Callable
from typing import NoReturn

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterDescriptor
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock import ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.lifecycle import LifecycleState
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.task import Future
from std_srvs.srv import Trigger

from lmii_ros import frames
from lmii_ros.engines import NonFiniteOutput
from lmii_ros.frames import FrameError
from lmii_ros.nodes import parameters
from lmii_ros.nodes import process
from lmii_ros.nodes.camera_stream import CameraStream
from lmii_ros.nodes.mounting import Mounting
from lmii_ros.nodes.newest_frame import NewestFrame
from lmii_ros.nodes.operation import Operation
from lmii_ros.nodes.parameters import QOS_OVERRIDES
from lmii_ros.nodes.parameters import Settings
from lmii_ros.nodes.parameters import SettingsError
from lmii_ros.nodes.process import NodeFailed
from lmii_ros.nodes.statistics import status_name
from lmii_ros.operating_point import Cancelled

DIAGNOSTICS_PERIOD_S = 1.0
STOP_TIMEOUT_S = 1.0
"""How long the end of the process waits for a frame that is in the network."""
HUNG_S = 60.0
"""So does any other transition, in which a large network may still be compiled; then only a new
process helps, for the device may be stuck."""


class SegmentationNode(LifecycleNode):
    """
    A managed node (lifecycle) around a :class:`lmii_ros.segmenter.Segmenter`.

    The executor's thread only receives: it leaves the newest image of each camera in a slot, from
    which a thread of our own takes it and labels it, the cameras' in turn; another one publishes,
    while the next image is labelled. Topics and parameters are those of the README.
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
        mounting = Mounting(self)
        self._streams = [
            CameraStream(self, camera, mounting) for camera in self._settings.cameras]
        self._operation: Operation | None = None
        self._newest: NewestFrame[CameraStream, tuple[Any, float]] | None = None
        self._worker: threading.Thread | None = None
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
            for stream in self._streams:
                stream.configure(segmenter.info.classes)
        except Exception as error:
            for stream in self._streams:
                stream.close()
            if operation is not None:
                operation.close()
            # Whatever it is: rclpy would drop it without a word.
            return self._refuse('configure', error)
        self._operation = operation
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
            for stream in self._streams:
                stream.subscribe(self._settings.image_transport, self._on_image)
        except Exception as error:
            self._stop_receiving()
            return self._refuse('activate', error)
        super().on_activate(state)
        for stream in self._streams:
            stream.statistics.activated()
        self._operation.resume()
        worker = threading.Thread(
            target=self._work, args=(newest,), name='segmentation', daemon=True)
        worker.start()
        # Only now, since a signal may come in between, and only what runs can be waited for.
        self._worker = worker
        self._publish_label_info(self._settings)
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
        for stream in self._streams:
            stream.close()
        if self._operation is not None:
            self._operation.close()
        self._operation = None

    def _stop_receiving(self, timeout_s: float = HUNG_S) -> None:
        for stream in self._streams:
            stream.unsubscribe()
        if self._newest is not None:
            for stream in self._newest.close():
                stream.statistics.dropped('deactivated')
        if self._operation is not None:
            self._operation.cancel()
        if self._worker is not None:
            self._worker.join(timeout_s)
            if self._worker.is_alive():
                self._fail(NodeFailed(
                    f'the frame in the network has not come back for {timeout_s:g} s'))
        self._newest = self._worker = None

    def _on_image(self, stream: CameraStream, message: Any, received: float) -> None:
        target_fps = self._settings.target_fps
        if target_fps and not stream.pace.admits(received, 1 / target_fps):
            # In the place of one that waits it is no frame more, but a newer one.
            replaced = self._newest.replace(stream, (message, received))
            stream.statistics.dropped('superseded' if replaced else 'over_target')
            return
        if self._newest.put(stream, (message, received)):
            stream.statistics.dropped('superseded')
            self._operation.lost()

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        configured = self._operation is not None
        try:
            settings = self._settings.changed(changes, configured=configured)
            if configured:
                self._operation.check(settings)
        except (ValueError, OSError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        if self._worker is not None and settings.min_confidence != self._settings.min_confidence:
            self._publish_label_info(settings)
        self._settings = settings
        if configured and any(change.name == 'input_height' for change in changes):
            self._operation.retry()
        return SetParametersResult(successful=True)

    def _on_calibrate(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._worker is None or self._settings.target is None:
            response.message = 'nothing to measure: ' + (
                'target_fps is 0' if self._worker else 'the node is not active')
            return response
        self._operation.calibrate()
        response.success = True
        response.message = 'measuring anew with the next frame that is labelled'
        return response

    def _publish_label_info(self, settings: Settings) -> None:
        for stream in self._streams:
            stream.outputs.publish_label_info(settings.min_confidence)

    def _work(self, newest: NewestFrame) -> None:
        try:
            with ThreadPoolExecutor(1, 'publishing') as publisher:
                published = publisher.submit(lambda: None)
                for stream, item in iter(newest.take, None):
                    taken = time.monotonic()
                    publish = self._label(stream, *item, taken, published.result)
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
        self,
        stream: CameraStream,
        message: Any,
        received: float,
        taken: float,
        finish: Callable[[], object],
    ) -> Callable[[], None] | None:
        """Return what publishes the labels of an image, or None if it could not be labelled."""
        settings = self._settings
        times = [received, taken]
        try:
            frame = frames.decode(message)
            times.append(time.monotonic())
            segmentation = self._operation.segment(
                stream.camera, partial(frames.decode, message), frame, settings,
                confidence=stream.outputs.wanted('confidence'), finish=finish)
            times.append(time.monotonic())
        except FrameError as error:
            stream.drop(error.reason, str(error))
            return None
        except NonFiniteOutput as error:
            stream.drop('non_finite_output', str(error))
            return None
        except Cancelled:
            stream.statistics.dropped('deactivated')
            return None
        return partial(stream.publish, message.header, frame, segmentation, settings, times)

    def _publish_diagnostics(self) -> None:
        facts, paused, warning = {}, '', ''
        if self._operation is not None:
            facts, paused, warning = (
                self._operation.facts(), self._operation.paused, self._operation.warning())
        node = self.get_fully_qualified_name()
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status = [
            stream.statistics.report(
                status_name(node, stream.camera), facts, active=self._worker is not None,
                stale_after=self._settings.stale_after, paused=paused,
                warning=warning or stream.warning(), why_silent=stream.why_silent)
            for stream in self._streams]
        self._diagnostics.publish(message)


def main() -> NoReturn:
    """Run the node as a process."""
    # OpenMP reads it when torch is imported: threads that spin while they wait make a frame last
    # ten times as long as soon as another process wants the core.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    process.end(process.run(SegmentationNode))


if __name__ == '__main__':
    main()
