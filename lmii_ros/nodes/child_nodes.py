# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Nodes of this package as processes of a program that observes them, and ends them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from types import TracebackType
from typing import Iterator

import rclpy
from rclpy.node import Node

from lmii_ros.nodes.process import RCLError
from lmii_ros.nodes.process import keep_freed_memory
from lmii_ros.nodes.process import shut_down
from lmii_ros.share import shared_memory_profile

START_TIMEOUT_S = 60.0


class ChildNodeError(ValueError):
    """A node did not start, or has ended; the message is one line for the user."""


class ChildNodes:
    """Processes that end with the ``with`` block."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen] = []

    def __enter__(self) -> ChildNodes:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, traceback: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()

    def start(
        self, name: str, parameters: dict[str, object], namespace: str = '/',
    ) -> subprocess.Popen:
        """
        Start a node.

        :param name: Of its module.
        :param parameters: Values by name.
        :param namespace: Of the node.
        """
        arguments = ['-r', f'__ns:={namespace}']
        for key, value in parameters.items():
            # Quoted, so that an empty text and one that looks like a number stay texts in YAML.
            text = f'"{value}"' if isinstance(value, str) else value
            arguments += ['-p', f'{key}:={text}']
        return self.run('-m', f'lmii_ros.nodes.{name}', '--ros-args', *arguments)

    def run(self, *arguments: str) -> subprocess.Popen:
        """Start Python with arguments."""
        self._processes.append(subprocess.Popen([sys.executable, *arguments]))
        return self._processes[-1]


def use_shared_memory_profile() -> None:
    """Let this process and its children send images through shared memory; before rclpy.init."""
    os.environ |= shared_memory_profile(os.environ)


@contextmanager
def observing() -> Iterator[None]:
    """
    Use ROS in a program of ours, to see what its children do.

    :raises ChildNodeError: If ROS cannot be used.
    """
    use_shared_memory_profile()
    # The observer takes as little of the nodes' processor time as it can.
    keep_freed_memory()
    try:
        rclpy.init(args=[])
    except RCLError as error:
        raise ChildNodeError(f'ROS does not start: {error}') from error
    try:
        yield
    finally:
        shut_down()


def wait_for_publisher(observer: Node, topic: str, process: subprocess.Popen) -> None:
    """
    Spin until a topic has a publisher.

    :raises ChildNodeError: If the process that shall publish ends, or takes too long.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while not observer.count_publishers(topic):
        rclpy.spin_once(observer, timeout_sec=0.1)
        check_running(process)
        if time.monotonic() > deadline:
            raise ChildNodeError(
                f'nobody published {topic} within {START_TIMEOUT_S:.0f} s')


def check_running(process: subprocess.Popen) -> None:
    """Raise a :class:`ChildNodeError` if a process has ended."""
    if process.poll() is not None:
        name = process.args[2].rpartition('.')[2]
        raise ChildNodeError(f'the {name} ended with exit code {process.returncode}, see above')
