# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Processes of this machine that evaluate bags."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import CancelledError
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from queue import SimpleQueue
from threading import Event
from threading import RLock
from threading import Thread
from typing import Iterator
from typing import Sequence

from tqdm import tqdm

from lmii_ros.evaluation import fleet
from lmii_ros.evaluation.fleet import Fleet
from lmii_ros.evaluation.fleet import Outcome
from lmii_ros.evaluation.fleet import Task

ATTEMPTS = 2


def outcomes(tasks: Sequence[Task], settings: Fleet) -> Iterator[Outcome]:
    """Do tasks, and yield how each ended, in the order in which they end."""
    workers = [_Worker() for _ in range(min(settings.workers, len(tasks)))]
    idle: SimpleQueue[_Worker] = SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def run(task: Task) -> Outcome:
        worker = idle.get()
        try:
            return worker.run(task)
        finally:
            idle.put(worker)

    with ThreadPoolExecutor(max(1, len(workers))) as threads:
        try:
            for future in as_completed([threads.submit(run, task) for task in tasks]):
                yield future.result()
        finally:
            # Before the end only if this is interrupted.
            threads.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.end()


class _Worker:
    """
    A process that does one task after the other, and is replaced if it dies.

    It is a pool of its own, since a pool breaks as a whole with one of its processes, and does
    not tell whose task it was.
    """

    def __init__(self) -> None:
        self._ending = Event()
        self._start()

    def _start(self) -> None:
        self._pool = ProcessPoolExecutor(
            # A fork of a process with threads, as torch's and OpenCV's, may hang.
            1, mp_context=multiprocessing.get_context('spawn'), initializer=_begin)
        # An interrupt from the terminal goes to all; the parent sees to the end. A process that
        # is started inherits what is blocked, and so is spared it while it imports too.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            self._pid = self._pool.submit(os.getpid)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def run(self, task: Task) -> Outcome:
        for attempt in range(ATTEMPTS):
            try:
                return Outcome(task, self._pool.submit(fleet.run, task).result(), attempt > 0)
            except (BrokenProcessPool, CancelledError):
                if self._ending.is_set():
                    return Outcome(task, 'interrupted')
                self._pool.shutdown()
                self._start()
        return Outcome(task, f'the process that evaluated it died, {ATTEMPTS} times')

    def end(self) -> None:
        """End the process, in the midst of a task too."""
        self._ending.set()
        try:
            # One that still imports has its first task already, which no shutdown takes away.
            os.kill(self._pid.result(), signal.SIGTERM)
        except (BrokenProcessPool, CancelledError, ProcessLookupError):
            pass
        # Once: a second call, after one that does not wait, would not wait either.
        self._pool.shutdown(cancel_futures=True)


def _begin() -> None:
    # tqdm's own lock is a semaphore too, which an ended process leaves behind, and Python warns.
    tqdm.set_lock(RLock())
    Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """End this process when its parent has, which a kill keeps from doing so itself."""
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
