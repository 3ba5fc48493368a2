# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Training of one network by a recipe, resumable after a kill at any moment."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm

from lmii_ros import metrics
from lmii_ros import networks
from lmii_ros import weights
from lmii_ros.classes import UNKNOWN
from lmii_ros.datasets import Dataset
from lmii_ros.datasets import DatasetError
from lmii_ros.networks.deployment import Normalization
from lmii_ros.networks.lpsnet import LPSNet
from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import RoadScene
from lmii_ros.simulation import SimulatedFrame
from lmii_ros.training import augmentation
from lmii_ros.training import growth
from lmii_ros.training.recipe import Recipe
from lmii_ros.training.recipe import RecipeError
from lmii_ros.weights import WeightInfo

CHECKPOINT = 'checkpoint.pt'
LOG = 'log.jsonl'
MAX_GRADIENT_NORM = 5.0
SYNTHETIC_SCENES = 64
SYNTHETIC_MOMENTS = 4


class CheckpointError(ValueError):
    """The output folder holds the run of another recipe."""


class TrainingImages(TorchDataset):
    """
    One epoch of augmented training images.

    What an image becomes depends on seed, epoch and index alone, so that a resumed run sees the
    same images.
    """

    def __init__(
        self,
        dataset: Dataset,
        synthetic: list[SimulatedFrame],
        recipe: Recipe,
        epoch: int,
    ) -> None:
        self._dataset = dataset
        self._synthetic = synthetic
        self._recipe = recipe
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        recipe = self._recipe
        rng = np.random.default_rng([recipe.seed, self._epoch, index])
        if rng.random() < recipe.synthetic_share:
            frame = self._synthetic[rng.integers(len(self._synthetic))]
            image, labels = frame.image, frame.labels
        else:
            image, labels = self._dataset.image(index), self._dataset.truth(index)
        image, labels = augmentation.crop(
            image, labels, recipe.input_size, recipe.crop_size, recipe.scale, rng)
        return augmentation.vary_color(image, recipe.color, rng), labels


def train(
    recipe: Recipe,
    training: Dataset,
    validation: Dataset | None,
    out: Path,
    *,
    device: torch.device,
    workers: int = 1,
    validate_every: int = 5,
) -> Path:
    """
    Train a network, or go on where an earlier call was interrupted.

    Writes into ``out`` a checkpoint after each epoch, a line a epoch to ``log.jsonl``, and the
    weight file of the averaged weights at the end.

    :param training: What is trained on.
    :param validation: What is measured on every ``validate_every`` epochs, and at the end.
    :param out: Folder for the results; made if missing.
    :param workers: Processes that prepare images.
    :return: Path of the weight file.
    :raises CheckpointError: If ``out`` holds a checkpoint of another recipe.
    :raises RecipeError: If the recipe's initial weights are of another network or other classes.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    network = _initial_network(recipe, training).to(device, memory_format=torch.channels_last)
    average = AveragedModel(
        network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay), use_buffers=True)
    optimizer = torch.optim.AdamW(
        _parameter_groups(network, recipe.weight_decay), lr=recipe.learning_rate)
    normalize = Normalization(recipe.mean, recipe.std).to(device)
    class_weights = torch.from_numpy(_class_weights(training)).to(device)
    synthetic = _synthetic_frames(recipe)
    first_epoch = _resume(out / CHECKPOINT, recipe, network, average, optimizer, device)
    steps = math.ceil(len(training) / recipe.batch_size)
    for epoch in range(first_epoch, recipe.epochs):
        started = time.monotonic()
        loader = DataLoader(
            TrainingImages(training, synthetic, recipe, epoch), recipe.batch_size, shuffle=True,
            num_workers=workers, pin_memory=device.type == 'cuda',
            generator=torch.Generator().manual_seed(recipe.seed * 100_003 + epoch))
        network.train()
        offsets = np.random.default_rng([recipe.seed, epoch]).integers(
            recipe.loss_stride, size=(steps, 2))
        losses = []
        progress = tqdm(loader, f'epoch {epoch + 1}/{recipe.epochs}', leave=False, disable=None)
        for step, (images, truth) in enumerate(progress):
            for group in optimizer.param_groups:
                group['lr'] = _learning_rate(recipe, epoch + step / steps)
            images = normalize(images.to(device, non_blocking=True))
            top, left = offsets[step]
            truth = truth[:, top::recipe.loss_stride, left::recipe.loss_stride]
            truth = truth.to(device, non_blocking=True).long()
            with _autocast(recipe, device):
                logits = network(images.contiguous(memory_format=torch.channels_last))
            loss = _loss(logits, truth, class_weights, network.align_corners)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT_NORM)
            # bf16 gradients of depthwise convolutions are garbage now and then on some CPUs.
            if torch.isfinite(norm):
                optimizer.step()
                average.update_parameters(network)
            losses.append(loss.item())
            progress.set_postfix(loss=f'{np.mean(losses[-50:]):.3f}')
        record = {
            'epoch': epoch + 1, 'loss': round(float(np.mean(losses)), 4),
            'seconds': round(time.monotonic() - started, 1)}
        last = epoch + 1 == recipe.epochs
        if validation and (last or (epoch + 1) % validate_every == 0):
            record['val_miou'] = round(_validate(average.module, recipe, validation, device), 4)
        _save_checkpoint(out / CHECKPOINT, recipe, epoch + 1, network, average, optimizer)
        with (out / LOG).open('a') as log:
            log.write(json.dumps(record) + '\n')
        tqdm.write(json.dumps(record))
    path = out / f'{recipe.network}{weights.SUFFIX}'
    weights.save(path, weight_info(recipe, training), average.module.cpu())
    return path


def weight_info(recipe: Recipe, training: Dataset) -> WeightInfo:
    """Return the metadata of the weight file that this recipe makes of this data."""
    data = f'{training.classes.name} {recipe.split}, {len(training)} images'
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


def _synthetic_frames(recipe: Recipe) -> list[SimulatedFrame]:
    """Draw the synthetic scenes once: making a scene takes longer than a training step."""
    if not recipe.synthetic_share:
        return []
    frames = []
    for index in range(SYNTHETIC_SCENES):
        rng = np.random.default_rng([recipe.seed, index])
        camera = PinholeCamera.from_fov(480, 360, horizontal_fov_deg=rng.uniform(45, 70))
        scene = RoadScene(seed=int(rng.integers(2 ** 31)), camera=camera)
        frames += [scene.render(time_s) for time_s in rng.uniform(0, 60, SYNTHETIC_MOMENTS)]
    return frames


def _parameter_groups(network: nn.Module, weight_decay: float) -> list[dict]:
    # Decaying biases, normalisation and activation slopes hurts and does not regularise.
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    rest = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    return [
        {'params': decayed, 'weight_decay': weight_decay}, {'params': rest, 'weight_decay': 0.0}]


def _class_weights(dataset: Dataset) -> np.ndarray:
    """
    Return 1 / log(1.1 + frequency) per class (ENet, arXiv 1606.02147).

    :raises DatasetError: If an image or its labels cannot be used.
    """
    counts = np.zeros(256, np.int64)
    for index in range(len(dataset)):
        truth = dataset.truth(index)
        if truth.shape != dataset.image(index).shape[:2]:
            raise DatasetError(
                f'{dataset.labels[index]} is {truth.shape}, not the size of '
                f'{dataset.images[index]}')
        counts += np.bincount(truth.ravel(), minlength=256)
    counts = counts[:len(dataset.classes)]
    return (1 / np.log(1.1 + counts / counts.sum())).astype(np.float32)


def _learning_rate(recipe: Recipe, epoch: float) -> float:
    if epoch < recipe.warmup_epochs:
        return recipe.learning_rate * (epoch + 0.01) / recipe.warmup_epochs
    done = (epoch - recipe.warmup_epochs) / max(recipe.epochs - recipe.warmup_epochs, 1e-9)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def _autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == 'bf16')


def _loss(
    logits: torch.Tensor, truth: torch.Tensor, class_weights: torch.Tensor, align_corners: bool,
) -> torch.Tensor:
    logits = logits.float()
    if logits.shape[-2:] != truth.shape[-2:]:
        logits = F.interpolate(
            logits, truth.shape[-2:], mode='bilinear', align_corners=align_corners)
    return F.cross_entropy(logits, truth, class_weights, ignore_index=UNKNOWN)


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
        logits = F.interpolate(
            logits.float(), truth.shape, mode='bilinear', align_corners=network.align_corners)
        labels = logits.argmax(1)[0].to(torch.uint8).cpu().numpy()
        counts = counts + metrics.confusion(labels, truth, len(dataset.classes))
    return metrics.scores(counts).miou


def _save_checkpoint(
    path: Path,
    recipe: Recipe,
    epoch: int,
    network: nn.Module,
    average: AveragedModel,
    optimizer: torch.optim.Optimizer,
) -> None:
    temporary = path.with_suffix('.part')
    torch.save({
        'recipe': json.dumps(recipe.to_dict(), sort_keys=True),
        'epoch': epoch,
        'network': network.state_dict(),
        'average': average.state_dict(),
        'optimizer': optimizer.state_dict(),
    }, temporary)
    temporary.replace(path)


def _resume(
    path: Path,
    recipe: Recipe,
    network: nn.Module,
    average: AveragedModel,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> int:
    """Restore the checkpoint if there is one; return the number of epochs done."""
    if not path.exists():
        return 0
    checkpoint = torch.load(path, map_location=device, weights_only=True)
    if checkpoint['recipe'] != json.dumps(recipe.to_dict(), sort_keys=True):
        raise CheckpointError(
            f'{path} belongs to another recipe; continue with that one or use another --out')
    network.load_state_dict(checkpoint['network'])
    average.load_state_dict(checkpoint['average'])
    optimizer.load_state_dict(checkpoint['optimizer'])
    return checkpoint['epoch']
