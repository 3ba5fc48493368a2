# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The checkpoint of a training: written after each epoch, to go on from after a kill."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Iterator

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from lmii_ros import engines
from lmii_ros.datasets import Dataset
from lmii_ros.training.recipe import Recipe

ORPHANS_S = 10.0
"""So long processes that prepared images for a run that was killed may hold its folder."""
CHECKPOINT = 'checkpoint.pt'


class CheckpointError(ValueError):
    """A checkpoint is of another run, or cannot be read or written; the text is one line."""


@dataclass(frozen=True)
class Checkpoint:
    """
    What a training needs to go on as if it had never ended, besides its data.

    :param folder: Where it is kept.
    :param recipe: Of the training.
    :param training: What is trained on.
    :param network: The network in training.
    :param average: The average of its weights.
    :param optimizer: With its moments.
    """

    folder: Path
    recipe: Recipe
    training: Dataset
    network: nn.Module
    average: AveragedModel
    optimizer: torch.optim.Optimizer

    @property
    def _path(self) -> Path:
        return self.folder / CHECKPOINT

    @cached_property
    def _images(self) -> str:
        # Without their folder, which may be moved.
        names = '\n'.join(path.name for path in self.training.images)
        return hashlib.sha256(names.encode()).hexdigest()

    def save(self, epoch: int) -> None:
        """
        Replace the file by one of the present state; a kill leaves one or the other.

        :param epoch: The number of epochs done.
        :raises CheckpointError: If it cannot be written.
        """
        temporary = self._path.with_suffix('.part')
        try:
            torch.save({
                'recipe': self.recipe.to_json(),
                'images': self._images,
                'epoch': epoch,
                'network': self.network.state_dict(),
                'average': self.average.state_dict(),
                'optimizer': self.optimizer.state_dict(),
            }, temporary)
            temporary.replace(self._path)
        # Of a full disk torch tells by either.
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                f'{self._path} cannot be written ({str(error).splitlines()[0]}); is the disk '
                'full? The same command goes on after the epoch before') from error

    def resume(self, device: torch.device) -> int:
        """
        Restore the state of the file if there is one; return the number of epochs done.

        :raises CheckpointError: If it is of another recipe or of other images, or damaged.
        """
        path = self._path
        if not path.exists():
            return 0
        try:
            state = torch.load(path, map_location=device, weights_only=True)
            if not self.recipe.is_that_of(state['recipe']):
                raise CheckpointError(
                    f'{path} belongs to another recipe; continue with that one or use another '
                    '--out')
            # Older checkpoints do not tell.
            if state.get('images', self._images) != self._images:
                raise CheckpointError(
                    f'{path} belongs to other training images; continue with the same --data or '
                    'use another --out')
            self.network.load_state_dict(state['network'])
            self.average.load_state_dict(state['average'])
            self.optimizer.load_state_dict(state['optimizer'])
            return state['epoch']
        except CheckpointError:
            raise
        # Of a damaged file torch raises anything from EOFError to KeyError.
        except Exception as error:
            if engines.is_out_of_memory(error):
                raise
            raise CheckpointError(
                f'{path}: not a whole checkpoint of this run ({type(error).__name__}); remove it '
                'to begin anew or use another --out') from error


@contextmanager
def claimed(out: Path) -> Iterator[None]:
    """
    Have a folder for a run alone: of two that write there neither could be resumed.

    One may be alive unseen, as processes of torchrun are after it was killed.

    :raises CheckpointError: If another process has it.
    :raises OSError: If it cannot be written to.
    """
    out.mkdir(parents=True, exist_ok=True)
    folder = os.open(out, os.O_RDONLY)
    try:
        deadline = time.monotonic() + ORPHANS_S
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise CheckpointError(
                        f'another training writes to {out}; end it, or use another folder'
                    ) from error
                time.sleep(0.1)
        # What cannot be written is better said now than after an epoch.
        tempfile.TemporaryFile(dir=out).close()
        yield
    finally:
        os.close(folder)
