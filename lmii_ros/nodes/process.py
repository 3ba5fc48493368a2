# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A node as a process of its own: start, spin, and a clean end."""

from __future__ import annotations

import atexit
import ctypes
import difflib
import gc
import os
import signal
import sys
import threading
from contextlib import contextmanager
from contextlib import suppress
from typing import Callable
from typing import Iterator
from typing import NoReturn
from typing import Protocol

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.signals import uninstall_signal_handlers
from rclpy.task import Future

# Not names of rclpy's public interface, but the only ones that it raises for a command line that
# is wrong, and from its lifecycle services.
RCLError = rclpy_implementation.RCLError
UnknownROSArgsError = rclpy_implementation.UnknownROSArgsError


_signals: list[int] = []
"""Those that have told the process to end."""
_held = False
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
"""Parameters of mallopt(3)."""


class NodeFailed(RuntimeError):
    """A node cannot do its work; the message is one line for the user."""


class _Interrupted(KeyboardInterrupt):
    """
    SIGINT or SIGTERM has come.

    Where KeyboardInterrupt itself passes through exec() of a text, as in the making of a
    dataclass, Python ends with the exit code of SIGINT, even if it is caught later.
    """


class RunnableNode(Protocol):
    """What :func:`run` needs of a node besides being one."""

    finished: Future
    """Done when the node has no more to do; holds a :class:`NodeFailed` if it could not do it."""

    def start(self) -> None:
        """
        Begin, once the node exists.

        :raises NodeFailed: If the node cannot begin.
        """

    def stop(self) -> None:
        """End threads and release what is held; called once, whatever happened."""


def run(make_node: Callable[[], RunnableNode], arguments: list[str] | None = None) -> int:
    """
    Run a node until it is finished or the process is told to end.

    Ends the process itself where the node's :meth:`RunnableNode.stop` has left a thread behind.

    :param make_node: Makes the node, a :class:`rclpy.node.Node`.
    :param arguments: Command line, by default the process's own.
    :return: Exit code: 0 after SIGINT, SIGTERM or a regular end; 1 after one line about what
        failed.
    """
    keep_freed_memory()
    code = _run(make_node, arguments)
    # Nodes are parts of reference cycles; Fast DDS gives back its shared memory only with them. An
    # active node has frozen what there was.
    gc.unfreeze()
    gc.collect()
    if threading.active_count() > 1:
        # It is in a library's call, in the midst of which Python would end with an abort.
        end(code)
    return code


def end(code: int) -> NoReturn:
    """End the process as it is: to take down the libraries of a network takes seconds."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def shut_down() -> None:
    """End the use of ROS, if it has not ended."""
    # The thread in which rclpy handles signals may do it at the same moment.
    with suppress(RCLError):
        rclpy.try_shutdown()


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until a block that must be done as a whole is done."""
    global _held
    _held = True
    try:
        yield
    finally:
        _held = False
    if _signals:
        raise _Interrupted


def _interrupt(number: int, _: object) -> None:
    _signals.append(number)
    if not _held:
        raise _Interrupted


def _report_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    # The interrupt leaves objects of rclpy half made, whose __del__ then fails; and in a __del__
    # Python reports the interrupt itself and goes on. Neither is anything for the user.
    if not _signals:
        sys.__unraisablehook__(unraisable)


def keep_freed_memory() -> None:
    """
    Have the C library keep what an image took for the next one.

    By default memory of that size goes back to the system, which maps and clears it anew for each
    image: a tenth of the time of a node at 30 Hz, and three quarters of that of a subscriber.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    # Only glibc has it.
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)


def _run(make_node: Callable[[], RunnableNode], arguments: list[str] | None) -> int:
    # rclpy passes signals on to the handlers that it finds; with this one, they interrupt even the
    # loading of a network. SIGINT is ignored otherwise in what a script starts in the background.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    sys.unraisablehook = _report_unraisable
    node = None
    try:
        try:
            _init(arguments)
            # Here, to outlive the thread in which rclpy handles signals: it wakes all executors,
            # and crashes on one that is gone.
            executor = SingleThreadedExecutor()
            node = make_node()
            _warn_of_unknown_parameters(node)
            node.start()
            _spin(node, executor)
            return 0
        except Exception as error:
            if _signals:
                # C++ makes an error of its own of the interrupt, or finds that ROS has ended.
                return 0
            if not isinstance(error, (NodeFailed, ParameterException, RCLError)):
                raise
            _report(node, str(error))
            return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        # A second signal must not interrupt the clean-up.
        _ignore_signals()
        if node is not None:
            node.stop()
        shut_down()
        # Ends that thread, and puts back the handlers that rclpy once found.
        uninstall_signal_handlers()
        _ignore_signals()


def _ignore_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _init(arguments: list[str] | None) -> None:
    try:
        rclpy.init(args=arguments)
    except (RCLError, UnknownROSArgsError) as error:
        raise NodeFailed(f'cannot use the arguments after --ros-args: {error}') from error


def _warn_of_unknown_parameters(node: Node) -> None:
    """
    Warn of parameters that were given and that the node does not have: ROS passes over them.

    Of those alone that resemble one that it has: a file may be for many nodes.
    """
    known = node.get_parameters_by_prefix('')
    # Not a name of rclpy's public interface, which tells only of those that are declared.
    for name in sorted(getattr(node, '_parameter_overrides', ())):
        # Those of a topic's QoS are declared with it, perhaps later.
        if name in known or name.startswith('qos_overrides.'):
            continue
        for alike in difflib.get_close_matches(name, known, 1):
            node.get_logger().warning(
                f'ignored {name}, which is no parameter of this node; is {alike} meant?')


def _spin(node: Node, executor: SingleThreadedExecutor) -> None:
    executor.add_node(node)
    # A __del__ may have swallowed the interrupt.
    while rclpy.ok() and not _signals and not node.finished.done():
        try:
            # Not spin_until_future_complete: that of rclpy 7 adds a callback to the future for
            # each message, which takes some 100 MB a day.
            executor.spin_once()
        except RCLError as error:
            # Before rclpy 8 a lifecycle transition that is not possible now ends up here
            # (rclpy#1319); it is the caller's mistake and no reason to stop.
            node.get_logger().warning(str(error))
    if node.finished.done():
        node.finished.result()


def _report(node: Node | None, message: str) -> None:
    if node is not None:
        node.get_logger().fatal(message)
    else:
        print(message, file=sys.stderr)
