# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Training of one network by a recipe, resumable after a kill at any moment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Callable
from typing import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from lmii_ros import metrics
from lmii_ros import networks
from lmii_ros import weights
from lmii_ros.classes import CAMVID
from lmii_ros.datasets import Dataset
from lmii_ros.datasets import DatasetError
from lmii_ros.datasets import hold_out
from lmii_ros.networks.deployment import Normalization
from lmii_ros.networks.lpsnet import LPSNet
from lmii_ros.training import growth
from lmii_ros.training import images
from lmii_ros.training import parallel
from lmii_ros.training.checkpoint import Checkpoint
from lmii_ros.training.compilation import compile_blocks
from lmii_ros.training.loss import class_weights
from lmii_ros.training.loss import CrossEntropy
from lmii_ros.training.loss import distillation
from lmii_ros.training.loss import missed_overlap
from lmii_ros.training.loss import resized
from lmii_ros.training.parallel import Processes
from lmii_ros.training.progress import Progress
from lmii_ros.training.recipe import Recipe
from lmii_ros.training.recipe import RecipeError
from lmii_ros.training.teacher import Teacher
from lmii_ros.training.teacher import teacher_of
from lmii_ros.weights import WeightInfo

MAX_GRADIENT_NORM = 5.0
VALIDATE_EVERY = 5


class WorkerError(ValueError):
    """A process that prepares images was ended by the system."""


def train(
    recipe: Recipe,
    training: Dataset,
    validation: Dataset | None,
    out: Path,
    *,
    device: torch.device,
    workers: int = 1,
    compiled: bool = False,
    stop_after: int | None = None,
) -> Path:
    """
    Train a network, or go on where an earlier call was interrupted.

    Writes into ``out`` a checkpoint after each epoch, what
    :class:`lmii_ros.training.progress.Progress` says, and the weight file of the averaged weights
    at the end. Under torchrun the processes share each batch, and the first of them writes.

    :param training: What is trained on.
    :param validation: What is measured on every :data:`VALIDATE_EVERY` epochs, and at the end,
        unless the recipe holds out drives of ``training`` for that.
    :param out: Folder for the results; made if missing.
    :param workers: Processes that prepare images, for each process that trains.
    :param compiled: Whether torch compiles the network's blocks, for which it needs a C++
        compiler.
    :param stop_after: End after so many of the recipe's epochs, with the weights averaged so far;
        a later call goes on from there.
    :return: Path of the weight file.
    :raises CheckpointError: If ``out`` holds a checkpoint of another recipe or of other images, or
        one that is damaged, or if it cannot be written there.
    :raises DatasetError: If an image or its labels cannot be used, there are neither labelled
        pixels nor a teacher, or no drive is held out.
    :raises RecipeError: If the recipe's initial weights or teacher are of another network or other
        classes, a batch has fewer images than there are processes, synthetic scenes are asked for
        beside other classes than theirs, or the loss is no longer finite.
    :raises WorkerError: If a process that prepares images was ended by the system.
    :raises ValueError: If ``stop_after`` is less than 1.
    """
    if stop_after is not None and stop_after < 1:
        raise ValueError(f'stop after {stop_after} epochs, expected 1 or more')
    processes = parallel.join()
    if recipe.held_out_drives:
        training, validation = hold_out(training, recipe.held_out_drives.split('+'))
    _check(recipe, training, processes)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    network = _initial_network(recipe, training).to(device, memory_format=torch.channels_last)
    average = AveragedModel(network, multi_avg_fn=_averaging(recipe.ema_decay), use_buffers=True)
    if compiled:
        compile_blocks(network)
    optimizer = torch.optim.AdamW(
        _parameter_groups(network, recipe.weight_decay), lr=recipe.learning_rate, fused=True)
    teacher = teacher_of(recipe, training, device)
    frequencies = images.frequencies(training)
    if not teacher and not frequencies.any():
        raise DatasetError(
            f'no pixel in {training.labels[0].parent} has a class, and there is no teacher: '
            'nothing to learn from')
    if validation:
        # What of it cannot be used is better said now than after some epochs.
        images.frequencies(validation)
    objective = _Objective(
        recipe, processes, teacher, network.align_corners,
        CrossEntropy(torch.from_numpy(class_weights(frequencies)), recipe.hard_share).to(device))
    learner = _Learner(
        recipe, processes, device, processes.spread(network, device),
        Normalization(recipe.mean, recipe.std).to(device), objective, optimizer, average)
    synthetic = images.synthetic_frames(recipe)
    checkpoint = Checkpoint(out, recipe, training, network, average, optimizer)
    first_epoch = checkpoint.resume(device)
    steps = _steps(recipe, len(training))
    epochs = min(recipe.epochs, stop_after or recipe.epochs)
    progress = Progress(out, epochs, steps, first_epoch) if processes.writes else None
    for epoch in range(first_epoch, epochs + 1):
        # After the checkpoint, and so also of an epoch whose measuring was interrupted.
        if validation and progress and progress.lacks_miou(epoch) and (
                epoch == epochs or epoch % VALIDATE_EVERY == 0):
            progress.measured(_validate(average.module, recipe, validation, device))
        if epoch == epochs:
            break
        batches = _batches(recipe, len(training), epoch)
        loader = DataLoader(
            images.TrainingImages(training, synthetic, frequencies, recipe, epoch),
            batch_sampler=[processes.share(batch) for batch in batches],
            num_workers=workers, pin_memory=device.type == 'cuda')
        network.train()
        offsets = np.random.default_rng([recipe.seed, epoch]).integers(
            recipe.loss_stride, size=(steps, 2))
        for step, (frames, truth) in enumerate(_prepared(loader)):
            top, left = offsets[step]
            truth = truth[:, top::recipe.loss_stride, left::recipe.loss_stride]
            loss = learner.step(
                frames, truth, _learning_rate(recipe, epoch + step / steps), len(batches[step]))
            if not math.isfinite(loss):
                # Never to be saved: what the normalisation has averaged is lost for good.
                raise RecipeError(
                    f'the loss is not finite in epoch {epoch + 1}; a lower learning_rate than '
                    f'{recipe.learning_rate:g} may help, from the last checkpoint in {out} or '
                    'anew')
            if progress:
                progress.step(loss)
        if progress:
            # The log first: a resumed run drops what it says of epochs that are done again.
            progress.epoch(epoch + 1)
            checkpoint.save(epoch + 1)
    path = out / f'{recipe.network}{weights.SUFFIX}'
    if progress:
        progress.close()
        weights.save(path, weight_info(recipe, training), average.module.cpu())
    return path


def weight_info(recipe: Recipe, training: Dataset) -> WeightInfo:
    """Return the metadata of the weight file that this recipe makes of this data."""
    data = f'{training.classes.name} {recipe.split}, {len(training)} images'
    if recipe.held_out_drives:
        data += f', without {recipe.held_out_drives}'
    if recipe.synthetic_share:
        data += f', {recipe.synthetic_share:.0%} of each epoch replaced by synthetic scenes'
    return WeightInfo(
        network=recipe.network,
        arguments=recipe.arguments,
        classes=training.classes,
        mean=recipe.mean,
        std=recipe.std,
        input_size=recipe.input_size,
        data=data,
        recipe=recipe.to_dict(),
        license=training.terms,
    )


def inherit_miou(path: Path, recipe: Recipe, split: str) -> None:
    """
    Give a weight file the mIoU of the weights before a split was trained on.

    What is trained on all labelled images cannot be measured on any of them. The initial weights,
    or those that the recipe names instead, tell their own, or that of weights before them.

    :param path: Of the weight file that this recipe made.
    :param split: What they were measured on; splits joined by ``+``.
    """
    source = recipe.miou_of or recipe.initial_weights
    if not source:
        return
    before = weights.read_info(weights.find(source))
    told = f'its mIoU is that of the weights before {split} was trained on'
    # A file that does not tell what it was trained on may have been trained on the split.
    trained_on = before.recipe.get('split', split)
    if before.network != recipe.network or (
            set(split.split('+')) & set(trained_on.split('+')) and told not in before.data):
        return
    info, network = weights.load(path)
    weights.save(path, replace(
        info, miou=before.miou, precision_loss=before.precision_loss,
        data=f'{info.data}; {told}'), network)


def _prepared(loader: DataLoader) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the batches; what fails in a process that prepares images is said in one line."""
    try:
        yield from loader
    except DatasetError as error:
        # torch puts the traceback before it.
        said = str(error).strip().splitlines()[-1]
        raise DatasetError(said.partition('DatasetError: ')[2] or said) from error
    except RuntimeError as error:
        if 'DataLoader worker' not in str(error):
            raise
        raise WorkerError(
            f'a process that prepares images has ended ({str(error).splitlines()[0]}); memory or '
            '/dev/shm may be too small for it: --workers 0 needs none') from error


def _initial_network(recipe: Recipe, training: Dataset) -> nn.Module:
    network = networks.build(recipe.network, len(training.classes), **recipe.arguments)
    if recipe.initial_weights:
        info, initial = weights.load(weights.find(recipe.initial_weights))
        try:
            if info.classes.classes != training.classes.classes:
                raise ValueError(f'its classes are {info.classes.name}')
            if isinstance(network, LPSNet) and isinstance(initial, LPSNet):
                growth.widen(initial, network)
            else:
                network.load_state_dict(initial.state_dict())
        except (RuntimeError, ValueError) as error:
            raise RecipeError(
                f'initial_weights {recipe.initial_weights}: expected weights that fit '
                f'{recipe.network} for {training.classes.name}, found {info.network}: '
                f'{str(error).splitlines()[-1].strip()}') from error
    return network


@dataclass(frozen=True)
class _Objective:
    """What a training minimises."""

    recipe: Recipe
    processes: Processes
    teacher: Teacher | None
    align_corners: bool
    cross_entropy: CrossEntropy

    def loss(
        self, logits: torch.Tensor, frames: torch.Tensor, truth: torch.Tensor, batch_size: int,
    ) -> torch.Tensor:
        """
        Return the loss of this process's part of a batch; the batch's is the processes' mean.

        :param logits: float [N, classes, h, w].
        :param frames: uint8 [N, H, W, 3], which they are of.
        :param truth: int64 [N, height, width], of the same, perhaps not of every pixel.
        :param batch_size: Images in the whole batch.
        """
        count = self.processes.count
        at_labels = resized(logits, truth.shape[-2:], self.align_corners)
        loss, weight = self.cross_entropy(at_labels, truth)
        loss = count * loss / self.processes.sum(weight).clamp(min=1e-6)
        share = count * len(frames) / batch_size
        if self.recipe.overlap_weight:
            loss = loss + share * self.recipe.overlap_weight * missed_overlap(at_labels, truth)
        if self.teacher:
            loss = loss + share * distillation(
                logits, self.teacher(frames), self.teacher.align_corners)
        return loss


@dataclass(frozen=True)
class _Learner:
    """
    A network in training, and all that changes its weights.

    :param network: As :meth:`lmii_ros.training.parallel.Processes.spread` returned it.
    :param average: Of its weights.
    """

    recipe: Recipe
    processes: Processes
    device: torch.device
    network: nn.Module
    normalize: Normalization
    objective: _Objective
    optimizer: torch.optim.Optimizer
    average: AveragedModel

    def step(
        self, frames: torch.Tensor, truth: torch.Tensor, learning_rate: float, batch_size: int,
    ) -> float:
        """
        Learn from this process's part of a batch, and return the loss of the batch.

        :param frames: uint8 [N, H, W, 3].
        :param truth: uint8 [N, height, width], of the same, perhaps not of every pixel.
        :param batch_size: Images in the whole batch.
        """
        for group in self.optimizer.param_groups:
            group['lr'] = learning_rate
        frames = frames.to(self.device, non_blocking=True)
        truth = truth.to(self.device, non_blocking=True).long()
        with _autocast(self.recipe, self.device):
            logits = self.network(
                self.normalize(frames).contiguous(memory_format=torch.channels_last))
        loss = self.objective.loss(logits, frames, truth, batch_size)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT_NORM)
        # bf16 gradients of depthwise convolutions are garbage now and then on some CPUs.
        if torch.isfinite(norm):
            self.optimizer.step()
            self.average.update_parameters(self.network)
        return self.processes.sum(loss).item() / self.processes.count


def _check(recipe: Recipe, training: Dataset, processes: Processes) -> None:
    """Raise a RecipeError if a recipe does not fit the data or the processes."""
    if min(recipe.batch_size, len(training)) < processes.count:
        raise RecipeError(
            f'batch_size {recipe.batch_size} and {len(training)} images, expected at least '
            f'{processes.count}, one for each process')
    if recipe.synthetic_share and training.classes.classes != CAMVID.classes:
        raise RecipeError(
            f'synthetic_share is {recipe.synthetic_share:g}, expected 0: synthetic scenes have '
            f'the classes of {CAMVID.name}, the data set those of {training.classes.name}')


def _steps(recipe: Recipe, length: int) -> int:
    # Only full ones: of a compiled network, that for another batch size takes minutes to compile.
    return max(1, length // recipe.batch_size)


def _batches(recipe: Recipe, length: int, epoch: int) -> list[list[int]]:
    """Return the images of each step; those that fill none are left out, others each epoch."""
    generator = torch.Generator().manual_seed(recipe.seed * 100_003 + epoch)
    order = torch.randperm(length, generator=generator).tolist()
    steps = _steps(recipe, length)
    return [order[step::steps][:recipe.batch_size] for step in range(steps)]


def _averaging(decay: float) -> Callable:
    """Return the exponential average for AveragedModel, which forgets faster at the start."""
    def average(averaged, current, count) -> None:
        warm = min(decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(warm)(averaged, current, count)
    return average


def _parameter_groups(network: nn.Module, weight_decay: float) -> list[dict]:
    # Decaying biases, normalisation and activation slopes hurts and does not regularise.
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    rest = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    return [
        {'params': decayed, 'weight_decay': weight_decay}, {'params': rest, 'weight_decay': 0.0}]


def _learning_rate(recipe: Recipe, epoch: float) -> float:
    if epoch < recipe.warmup_epochs:
        return recipe.learning_rate * (epoch + 0.01) / recipe.warmup_epochs
    done = (epoch - recipe.warmup_epochs) / max(recipe.epochs - recipe.warmup_epochs, 1e-9)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def _autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == 'bf16')


@torch.inference_mode()
def _validate(
    network: nn.Module, recipe: Recipe, dataset: Dataset, device: torch.device,
) -> float:
    """Return the mIoU at the training size, in the training precision: quick, for the log."""
    network.eval()
    normalize = Normalization(recipe.mean, recipe.std).to(device)
    counts = 0
    for index in range(len(dataset)):
        truth = dataset.truth(index)
        image = torch.from_numpy(dataset.image(index)).to(device)[None]
        pixels = F.interpolate(normalize(image), recipe.input_size, mode='bilinear')
        with _autocast(recipe, device):
            logits = network(pixels.contiguous(memory_format=torch.channels_last))
        logits = resized(logits, truth.shape, network.align_corners)
        labels = logits.argmax(1)[0].to(torch.uint8).cpu().numpy()
        counts = counts + metrics.confusion(labels, truth, len(dataset.classes))
    return metrics.scores(counts).miou
