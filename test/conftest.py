# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A ROS network of the tests' own, and nodes in it as processes."""

from __future__ import annotations

from contextlib import contextmanager
import fcntl
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import tempfile
import time
from typing import Callable
from typing import Iterator

import pytest

TIMEOUT_S = 30.0
"""How long a busy machine may take for what should take a moment."""
STOP_TIMEOUT_S = 10.0
_DOMAINS = range(1, 100)
_TOP = Path(__file__).resolve().parents[1]


def _own_domain() -> tuple[int, object]:
    """Return a domain that no other run of these tests on this machine has, and its lock."""
    for domain in _DOMAINS:
        lock = open(Path(tempfile.gettempdir(), f'lmii_ros_test_domain_{domain}.lock'), 'a')
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        return domain, lock
    raise RuntimeError('no ROS domain is free')


_CACHE = tempfile.TemporaryDirectory(prefix='lmii_ros_test_cache_')

# At import: the first rclpy.init, of any test, reads these, and the nodes inherit them.
_DOMAIN, _DOMAIN_LOCK = _own_domain()
os.environ |= {
    'ROS_DOMAIN_ID': str(_DOMAIN),
    # The one that a distribution does not know does nothing, but Jazzy warns of Humble's.
    'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
    **({'ROS_LOCALHOST_ONLY': '1'} if os.environ.get('ROS_DISTRO') == 'humble' else {}),
    'FASTDDS_DEFAULT_PROFILES_FILE': str(_TOP / 'config' / 'fastdds.xml'),
    'FASTRTPS_DEFAULT_PROFILES_FILE': str(_TOP / 'config' / 'fastdds.xml'),
    # Compiled networks of this run's own.
    'XDG_CACHE_HOME': _CACHE.name,
    # What users see, whatever the shell of the one who tests is set to.
    'RCUTILS_COLORIZED_OUTPUT': '0',
    'OMP_WAIT_POLICY': 'PASSIVE',
}

# A shell that runs the tests in the background lets them and their children ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)


class Process:
    """
    A process whose output is captured, in a session of its own.

    :param command: Program and arguments.
    :param output_file: For stdout and stderr, in the order in which they are written.
    :param environment: Variables besides the test's own.
    """

    def __init__(
        self, command: list[str], output_file: Path, environment: dict[str, str] | None = None,
    ) -> None:
        self._output_file = output_file
        self.started = time.monotonic()
        with output_file.open('wb') as file:
            self.popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                env=os.environ | (environment or {}), start_new_session=True)

    @property
    def output(self) -> str:
        """Return what the process has written so far."""
        return self._output_file.read_text(errors='replace')

    @property
    def lines(self) -> list[str]:
        """Return the lines that are not empty."""
        return [line for line in self.output.splitlines() if line.strip()]

    @property
    def running(self) -> bool:
        """Return whether the process has not ended."""
        return self.popen.poll() is None

    def wait_for_output(self, pattern: str, timeout_s: float = TIMEOUT_S) -> re.Match:
        """Wait until the output holds a regular expression, and return its match."""
        deadline = time.monotonic() + timeout_s
        while True:
            running = self.running
            match = re.search(pattern, self.output)
            if match:
                return match
            assert running, f'ended before {pattern!r}:\n{self.output}'
            assert time.monotonic() < deadline, f'no {pattern!r}:\n{self.output}'
            time.sleep(0.02)

    def wait(self, timeout_s: float = TIMEOUT_S) -> int:
        """Wait for the end and return the exit code."""
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f'still running after {timeout_s} s:\n{self.output}') from None

    def signal(self, number: int) -> tuple[int, float]:
        """Send a signal, wait for the end, return exit code and the seconds that it took."""
        started = time.monotonic()
        self.popen.send_signal(number)
        code = self.wait(STOP_TIMEOUT_S)
        return code, time.monotonic() - started

    def has_left_processes(self) -> bool:
        """Return whether processes of the session still run."""
        try:
            os.killpg(self.popen.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def wait_for_left_processes(self) -> None:
        """Wait until no process of the session runs: some end after the one that started them."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.has_left_processes():
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def close(self) -> None:
        """End the process and whatever it has started."""
        if self.running:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()


StartProcess = Callable[..., Process]
StartNode = Callable[..., Process]


@contextmanager
def _processes(folder: Path) -> Iterator[StartProcess]:
    started: list[Process] = []

    def start(*command: object, environment: dict[str, str] | None = None) -> Process:
        process = Process(
            [str(part) for part in command], folder / f'process_{len(started)}.txt',
            {'ROS_LOG_DIR': str(folder), **(environment or {})})
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            process.close()


def _node_starter(start: StartProcess) -> StartNode:
    def start_node(
        name: str, *arguments: str, environment: dict[str, str] | None = None,
        **parameters: object,
    ) -> Process:
        values = [f'{key}:={_yaml(value)}' for key, value in parameters.items()]
        return start(
            sys.executable, '-m', f'lmii_ros.nodes.{name}', '--ros-args',
            *(part for value in values for part in ('-p', value)), *arguments,
            environment=environment)
    return start_node


def _yaml(value: object) -> str:
    if isinstance(value, (str, Path)):
        return f'"{value}"'
    if isinstance(value, (list, tuple)):
        return f'[{", ".join(map(_yaml, value))}]'
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[StartProcess]:
    """Return a function that starts a command as a :class:`Process`, ended after the test."""
    with _processes(tmp_path) as start:
        yield start


@pytest.fixture
def start_node(start_process: StartProcess) -> StartNode:
    """
    Return a function that starts a node, by its module's name, as a :class:`Process`.

    Keywords are parameters; further arguments follow ``--ros-args`` as they are.
    """
    pytest.importorskip('rclpy')
    return _node_starter(start_process)


@pytest.fixture(scope='module')
def start_module_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartNode]:
    """Return the same as start_node, for nodes that the tests of a module share."""
    pytest.importorskip('rclpy')
    with _processes(tmp_path_factory.mktemp('nodes')) as start:
        yield _node_starter(start)


@pytest.fixture
def client() -> Iterator[object]:
    """Return a :class:`ros_client.Client`."""
    pytest.importorskip('rclpy')
    from ros_client import Client
    client = Client()
    yield client
    client.close()


@pytest.fixture(scope='session')
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the weight file of a network that takes a moment; what it sees is nonsense."""
    import torch
    from lmii_ros import networks
    from lmii_ros import weights
    from lmii_ros.classes import CAMVID
    arguments = {'depths': [1] * 5, 'widths': [4, 4, 8, 8, 8], 'ratios': [0.5]}
    torch.manual_seed(0)
    network = networks.build('lpsnet', len(CAMVID), **arguments)
    with torch.no_grad():
        # Else a single class wins nearly everywhere.
        network.classifier.weight.mul_(20)
    path = tmp_path_factory.mktemp('weights') / 'tiny.safetensors'
    weights.save(path, weights.WeightInfo(
        network='lpsnet', arguments=arguments, classes=CAMVID, mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25), input_size=(64, 96)), network)
    return path


@pytest.fixture(scope='session')
def rated_weights(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same weight file, but one that tells an mIoU at input heights of 64 to 256."""
    from dataclasses import replace
    from lmii_ros import weights
    info, network = weights.load(tiny_weights)
    path = tmp_path_factory.mktemp('weights') / 'rated.safetensors'
    weights.save(path, replace(info, miou={64: 0.3, 128: 0.4, 256: 0.5}), network)
    return path
