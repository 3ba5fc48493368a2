# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The other side of the network: what a user's nodes do to those under test."""

from __future__ import annotations

from dataclasses import dataclass
import time
from typing import Any
from typing import Callable

from builtin_interfaces.msg import Time
from conftest import TIMEOUT_S
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from lifecycle_msgs.srv import GetState
import numpy as np
from rcl_interfaces.srv import DescribeParameters
from rcl_interfaces.srv import ListParameters
from rcl_interfaces.srv import SetParameters
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image

NODE = '/segmentation_node'
ATTEMPTS = 3
"""To call a service: DDS loses the answer of a server that has not yet found the client's end."""


@dataclass(frozen=True)
class Status:
    """What /diagnostics said of the segmentation node."""

    level: bytes
    message: str
    values: dict[str, str]

    def count(self, key: str) -> int:
        """Return a count, 0 where it is not mentioned."""
        return int(self.values.get(key, 0))

    @property
    def dropped(self) -> dict[str, int]:
        """Return the frames dropped, by reason."""
        start = 'frames dropped: '
        return {
            key.removeprefix(start): int(value) for key, value in self.values.items()
            if key.startswith(start)}


class Client:
    """
    A node in a context of its own, which works only while a test waits for something.

    :ivar namespace: Of the segmentation node that it asks and whose diagnostics it reads.
    """

    def __init__(self) -> None:
        self.namespace = ''
        self._context = Context()
        rclpy.init(args=[], context=self._context)
        self.node = Node('client', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._statuses: list[tuple[str, Status]] = []
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def close(self) -> None:
        """Leave the network."""
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            node, _, camera = status.name.partition(': segmentation')
            if node == f'{self.namespace}{NODE}':
                self._statuses.append((camera.strip(), Status(
                    status.level, status.message,
                    {pair.key: pair.value for pair in status.values})))

    def spin(self, seconds: float) -> None:
        """Receive for some time; for what is not to arrive."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=max(0.0, deadline - time.monotonic()))

    def until(self, condition: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> Any:
        """Receive until a condition is true, and return its value."""
        value = self._spin_until(condition, timeout_s)
        assert value, f'not within {timeout_s} s'
        return value

    def _spin_until(self, condition: Callable[[], Any], timeout_s: float) -> Any:
        """Receive until a condition is true or the time is over; return its last value."""
        deadline = time.monotonic() + timeout_s
        while True:
            value = condition()
            if value or time.monotonic() >= deadline:
                return value
            self._executor.spin_once(timeout_sec=0.05)

    def listen(self, message_type: type, topic: str, qos: QoSProfile | None = None) -> list:
        """Subscribe, and return the list to which what is received will be appended."""
        received = []
        self.node.create_subscription(
            message_type, topic, received.append, qos or QoSProfile(depth=1000))
        return received

    def publisher(self, message_type: type, topic: str, qos: QoSProfile | None = None) -> Any:
        """Return a publisher that has found a subscriber."""
        publisher = self.node.create_publisher(
            message_type, topic, qos or QoSProfile(depth=1000))
        self.until(publisher.get_subscription_count)
        return publisher

    def status(
        self, condition: Callable[[Status], Any] = lambda status: True,
        timeout_s: float = TIMEOUT_S,
    ) -> Status:
        """Return the first diagnostics from now on for which a condition is true."""
        return self.status_of('', condition, timeout_s)

    def status_of(
        self, camera: str, condition: Callable[[Status], Any] = lambda status: True,
        timeout_s: float = TIMEOUT_S,
    ) -> Status:
        """Return the same of one of several cameras."""
        self._statuses.clear()
        return self.until(lambda: next((
            status for name, status in self._statuses if name == camera and condition(status)),
            None), timeout_s)

    def call(self, service_type: type, name: str, **fields: object) -> Any:
        """Call a service of the segmentation node and return its response."""
        client = self.node.create_client(service_type, f'{self.namespace}{NODE}/{name}')
        try:
            self.until(client.service_is_ready)
            for _ in range(ATTEMPTS):
                future = client.call_async(service_type.Request(**fields))
                if self._spin_until(future.done, TIMEOUT_S / ATTEMPTS):
                    return future.result()
            raise AssertionError(f'{name} did not answer')
        finally:
            self.node.destroy_client(client)

    def state(self) -> str:
        """Return the lifecycle state."""
        return self.call(GetState, 'get_state').current_state.label

    def ask_for(self, transition: str) -> Future:
        """Ask for a lifecycle transition, and return the answer to come."""
        identifier = getattr(Transition, f'TRANSITION_{transition.upper()}')
        client = self.node.create_client(ChangeState, f'{self.namespace}{NODE}/change_state')
        self.until(client.service_is_ready)
        return client.call_async(ChangeState.Request(transition=Transition(id=identifier)))

    def change_state(self, transition: str) -> bool:
        """Ask for a lifecycle transition, and return whether it was made."""
        answer = self.ask_for(transition)
        self.until(answer.done)
        return answer.result().success

    def set(self, name: str, value: object) -> str:
        """Set a parameter; return why it was refused, '' if it was not."""
        message = Parameter(name, value=value).to_parameter_msg()
        result, = self.call(SetParameters, 'set_parameters', parameters=[message]).results
        assert result.successful is not bool(result.reason)
        return result.reason

    def parameters(self) -> dict[str, Any]:
        """Return the descriptors of all parameters by name."""
        names = self.call(ListParameters, 'list_parameters').result.names
        described = self.call(DescribeParameters, 'describe_parameters', names=names)
        return {descriptor.name: descriptor for descriptor in described.descriptors}


def image(pixels: np.ndarray, encoding: str, stamp_ns: int = 0, **fields: object) -> Image:
    """
    Return an image message.

    :param pixels: uint8 [rows, step]; the fields say what they mean.
    :param fields: Of the message, where they are not those of bgr8 without padding.
    """
    message = Image(
        encoding=encoding, height=pixels.shape[0], width=pixels.shape[1] // 3,
        step=pixels.shape[1])
    message.header.stamp = stamp(stamp_ns)
    message.header.frame_id = 'front_camera'
    message.data.frombytes(pixels.tobytes())
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def compressed(data: bytes, format: str, stamp_ns: int = 0) -> CompressedImage:
    """Return a compressed image message."""
    message = CompressedImage(format=format, data=data)
    message.header.stamp = stamp(stamp_ns)
    message.header.frame_id = 'front_camera'
    return message


def stamp(nanoseconds: int) -> Time:
    """Return nanoseconds as a stamp."""
    return Time(sec=nanoseconds // 10 ** 9, nanosec=nanoseconds % 10 ** 9)


def nanoseconds(message: Any) -> int:
    """Return the stamp of a message in nanoseconds."""
    return message.header.stamp.sec * 10 ** 9 + message.header.stamp.nanosec


def pixels(message: Image) -> np.ndarray:
    """Return the data of a message whose rows are not padded, uint8 [H, W] or [H, W, C]."""
    channels = message.step // message.width
    array = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, channels)
    return array[..., 0] if channels == 1 else array
