# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Workers of a Ray cluster that evaluate bags."""

from __future__ import annotations

import os
from typing import Iterator
from typing import Sequence

import ray
from ray.exceptions import RayError

from lmii_ros.evaluation import fleet
from lmii_ros.evaluation.fleet import Fleet
from lmii_ros.evaluation.fleet import Outcome
from lmii_ros.evaluation.fleet import Task

RETRIES = 1
"""How often Ray does a task again whose worker or machine died."""


def outcomes(tasks: Sequence[Task], settings: Fleet) -> Iterator[Outcome]:
    """
    Do tasks, and yield how each ended, in the order in which they end.

    The cluster is the one that RAY_ADDRESS names, else a new one of this machine alone, with as
    many workers as the settings say.
    """
    if not tasks:
        return
    _connect(settings)
    gpu = settings.device != 'cpu' and ray.cluster_resources().get('GPU', 0) > 0
    remote = ray.remote(
        num_cpus=settings.threads, num_gpus=int(gpu), max_retries=RETRIES)(fleet.run)
    left = {remote.remote(task): task for task in tasks}
    try:
        while left:
            (reference, *_), _ = ray.wait(list(left))
            task = left.pop(reference)
            try:
                yield Outcome(task, ray.get(reference))
            except RayError as error:
                yield Outcome(task, ' '.join(str(error).split()))
    finally:
        ray.shutdown()


def _connect(settings: Fleet) -> None:
    if os.environ.get('RAY_ADDRESS'):
        ray.init(log_to_driver=False)
        return
    ray.init(
        address='local', num_cpus=settings.workers * settings.threads, log_to_driver=False,
        include_dashboard=False)
