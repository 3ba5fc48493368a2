# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Processes of this machine that evaluate bags."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from queue import SimpleQueue
from typing import Iterator
from typing import Sequence

from lmii_ros.evaluation import fleet
from lmii_ros.evaluation.fleet import Fleet
from lmii_ros.evaluation.fleet import Outcome
from lmii_ros.evaluation.fleet import Task

ATTEMPTS = 2


def outcomes(tasks: Sequence[Task], settings: Fleet) -> Iterator[Outcome]:
    """Do tasks, and yield how each ended, in the order in which they end."""
    # A pool breaks as a whole with one of its processes: each has its own, so that it is known
    # whose bag it was.
    idle: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
    pools = min(settings.workers, len(tasks))
    for _ in range(pools):
        idle.put(_pool())

    def run(task: Task) -> Outcome:
        pool = idle.get()
        try:
            for attempt in range(ATTEMPTS):
                try:
                    return Outcome(task, pool.submit(fleet.run, task).result(), attempt > 0)
                except BrokenProcessPool:
                    pool.shutdown()
                    pool = _pool()
            return Outcome(task, f'the process that evaluated it died, {ATTEMPTS} times')
        finally:
            idle.put(pool)

    with ThreadPoolExecutor(max(1, pools)) as threads:
        try:
            for future in as_completed([threads.submit(run, task) for task in tasks]):
                yield future.result()
        finally:
            # Those that have not begun never will, where this is not read to its end.
            threads.shutdown(wait=False, cancel_futures=True)
            for _ in range(pools):
                idle.get().shutdown()


def _pool() -> ProcessPoolExecutor:
    # A fork of a process with threads, as torch's and OpenCV's, may hang.
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn'))
