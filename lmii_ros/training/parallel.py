# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Training in several processes, one a GPU, started by torchrun."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

Item = TypeVar('Item')


@dataclass(frozen=True)
class Processes:
    """
    The processes of a run, and which of them this one is.

    :param rank: Number of this process; process 0 writes all files.
    :param count: Number of processes.
    """

    rank: int = 0
    count: int = 1

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def share(self, batch: list[Item]) -> list[Item]:
        """Return this process's part of a batch."""
        return batch[self.rank::self.count]

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum of a value over all processes, without gradient."""
        value = value.detach().clone()
        if self.count > 1:
            distributed.all_reduce(value)
        return value

    def spread(self, network: nn.Module, device: torch.device) -> nn.Module:
        """
        Return a network whose gradients are the mean over all processes.

        On GPUs batch normalisation is over the whole batch. Torch has that for GPUs alone: on
        CPUs each process normalises by its own share, and process 0's running statistics count.
        """
        if self.count == 1:
            return network
        if device.type == 'cuda':
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return DistributedDataParallel(
            network, device_ids=[device] if device.type == 'cuda' else None)


def join() -> Processes:
    """Return the processes that torchrun has started, connected; this one alone without it."""
    count = int(os.environ.get('WORLD_SIZE', 1))
    if count == 1:
        return Processes()
    if not distributed.is_initialized():
        distributed.init_process_group(
            'cpu:gloo,cuda:nccl' if torch.cuda.is_available() else 'gloo')
    return Processes(distributed.get_rank(), count)


def leave() -> None:
    """Part from the other processes; whose threads for that are alive at its end is aborted."""
    if distributed.is_initialized():
        # What was spread refers to itself, and to those threads.
        gc.collect()
        distributed.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """Return the GPU of this process where torchrun started one a GPU."""
    if device.type == 'cuda' and 'LOCAL_RANK' in os.environ:
        return torch.device('cuda', int(os.environ['LOCAL_RANK']))
    return device
