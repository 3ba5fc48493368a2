# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A training recipe: everything that decides a run's result, in one YAML file."""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from lmii_ros.networks import NETWORKS


class RecipeError(ValueError):
    """A recipe file cannot be read or says something that makes no sense."""


@dataclass(frozen=True)
class Recipe:
    """
    A training run.

    :param network: Name for :func:`lmii_ros.networks.build`.
    :param split: Splits of the data set that are trained on, joined by ``+``.
    :param input_size: Height and width to which images are scaled, before random scaling.
    :param crop_size: Height and width of the training crops.
    :param epochs: Passes over the data.
    :param batch_size: Images a step.
    :param learning_rate: Peak of AdamW's learning rate.
    :param weight_decay: AdamW's weight decay.
    :param warmup_epochs: Epochs of linear warm-up; a cosine to zero follows.
    :param ema_decay: Decay per step of the averaged weights, which are the ones that are kept.
    :param scale: Smallest and largest random scale, relative to ``input_size``.
    :param color: Strength of the random colour changes, 0 for none, 1 for strong.
    :param synthetic_share: Share of synthetic road scenes among the training images.
    :param loss_stride: The loss is computed on every so many-th row and column, at an offset drawn
        anew each step: a coarse head learns nothing from more, and it takes most of a step.
    :param precision: ``fp32``, or ``bf16`` for autocast.
    :param seed: Seed of weights, order and augmentation.
    :param initial_weights: Weight file to start from, a path or a shipped name; empty for random
        weights.
    :param arguments: Further arguments of the network.
    :param mean: Mean of red, green and blue (0..1) for the normalisation; ImageNet's by default.
    :param std: Standard deviation of the same.
    """

    network: str
    split: str
    input_size: tuple[int, int]
    crop_size: tuple[int, int]
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.01
    warmup_epochs: float = 2.0
    ema_decay: float = 0.998
    scale: tuple[float, float] = (0.5, 2.0)
    color: float = 0.5
    synthetic_share: float = 0.0
    loss_stride: int = 1
    precision: str = 'fp32'
    seed: int = 1
    initial_weights: str = ''
    arguments: dict[str, Any] = field(default_factory=dict)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values."""
        return asdict(self)


def read(path: Path) -> Recipe:
    """
    Read a recipe file.

    :raises RecipeError: If the file is missing, has an unknown or missing key, or a value out of
        range.
    """
    try:
        values = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f'recipe {path} cannot be read: {error}') from error
    if not isinstance(values, dict):
        raise RecipeError(f'recipe {path}: expected a mapping of keys to values')
    known = {item.name for item in fields(Recipe)}
    unknown = sorted(values.keys() - known)
    if unknown:
        raise RecipeError(f'recipe {path}: unknown key {unknown[0]!r}; known: {sorted(known)}')
    try:
        recipe = Recipe(**{
            key: tuple(value) if isinstance(value, list) else value
            for key, value in values.items()})
    except TypeError as error:
        raise RecipeError(f'recipe {path}: {error}') from error
    for condition, message in (
        (recipe.network in NETWORKS, f'network must be one of {list(NETWORKS)}'),
        (recipe.precision in ('fp32', 'bf16'), 'precision must be fp32 or bf16'),
        (all(len(size) == 2 and min(size) >= 32
             for size in (recipe.input_size, recipe.crop_size)),
         'input_size and crop_size must be a height and a width of at least 32'),
        (recipe.epochs >= 1 and recipe.batch_size >= 1, 'epochs and batch_size must be positive'),
        (recipe.loss_stride >= 1, 'loss_stride must be positive'),
        (0 <= recipe.synthetic_share <= 1, 'synthetic_share must be in 0..1'),
        (0 < recipe.scale[0] <= recipe.scale[1], 'scale must be two rising positive numbers'),
    ):
        if not condition:
            raise RecipeError(f'recipe {path}: {message}')
    return recipe
