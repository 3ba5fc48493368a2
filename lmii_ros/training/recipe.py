# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A training recipe: everything that decides a run's result, in one YAML file."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from dataclasses import MISSING
from pathlib import Path
from typing import Any
from typing import Callable
from typing import get_args
from typing import get_origin
from typing import get_type_hints

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
    :param weather: Share of the images that are shown as in dusk, low sun or haze, blurred by
        motion, or badly compressed (:mod:`lmii_ros.training.weather`).
    :param rare_crops: Share of the crops that are laid around a pixel of a rare class.
    :param class_mix: Share of the images onto which half the classes of another one are pasted
        (ClassMix, arXiv 2007.07936).
    :param held_out_drives: Drives that are left out of the training, joined by ``+``, and measured
        on instead of the validation split; a drive is how its files' names begin, up to the first
        underscore.
    :param hard_share: Share of the pixels, those of the largest loss, that are learned from.
    :param overlap_weight: Weight of the missed overlap (one less the IoU of probabilities, mean
        over classes) beside the cross entropy.
    :param teacher: Weight file, a path or a shipped name, whose softened probabilities are learned
        beside the labels; empty for none. It sees the images at the scale of its own training.
    :param loss_stride: The loss is computed on every so many-th row and column, at an offset drawn
        anew each step: a coarse head learns nothing from more, and it takes most of a step.
    :param precision: ``fp32``, or ``bf16`` for autocast.
    :param seed: Seed of weights, order and augmentation.
    :param initial_weights: Weight file to start from, a path or a shipped name; empty for random
        weights. A narrower LPS-Net's is widened (:mod:`lmii_ros.training.growth`).
    :param miou_of: Weight file of the same network whose mIoU this one is to tell where it is
        trained on all that it could be measured on; empty for ``initial_weights``.
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
    weather: float = 0.0
    rare_crops: float = 0.0
    class_mix: float = 0.0
    held_out_drives: str = ''
    hard_share: float = 1.0
    overlap_weight: float = 0.0
    teacher: str = ''
    loss_stride: int = 1
    precision: str = 'fp32'
    seed: int = 1
    initial_weights: str = ''
    miou_of: str = ''
    arguments: dict[str, Any] = field(default_factory=dict)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values."""
        return asdict(self)

    def to_json(self) -> str:
        """Return the recipe as JSON."""
        return json.dumps(self.to_dict())

    def is_that_of(self, text: str) -> bool:
        """Whether :meth:`to_json` of this recipe gave a text, maybe before some keys existed."""
        defaults = {
            item.name: item.default_factory() if item.default is MISSING else item.default
            for item in fields(self)
            if (item.default, item.default_factory) != (MISSING, MISSING)}
        return json.loads(self.to_json()) == json.loads(json.dumps(defaults | json.loads(text)))


def read(path: Path) -> Recipe:
    """
    Read a recipe file.

    :raises RecipeError: If the file is missing, has an unknown or missing key, or a value that is
        of the wrong kind or out of range.
    """
    try:
        values = yaml.safe_load(Path(path).read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RecipeError(
            f'recipe {path} cannot be read: {" ".join(str(error).split())}') from error
    if not isinstance(values, dict):
        raise RecipeError(f'recipe {path}: expected a mapping of keys to values')
    known = {item.name for item in fields(Recipe)}
    for key in values:
        if key not in known:
            raise RecipeError(f'recipe {path}: unknown key {key!r}; known: {sorted(known)}')
    try:
        recipe = Recipe(**{key: _converted(key, value) for key, value in values.items()})
    except (TypeError, ValueError) as error:
        raise RecipeError(f'recipe {path}: {error}') from error
    for key, (expected, is_right) in _RULES.items():
        if not is_right(getattr(recipe, key)):
            raise RecipeError(
                f'recipe {path}: {key} is {getattr(recipe, key)}, expected {expected}')
    if recipe.loss_stride > min(recipe.crop_size):
        raise RecipeError(
            f'recipe {path}: loss_stride is {recipe.loss_stride}, expected at most the crop_size '
            f'of {min(recipe.crop_size)}')
    return recipe


def _converted(key: str, value: Any) -> Any:
    """Return a value of YAML as the kind that the recipe has for this key."""
    kind = get_type_hints(Recipe)[key]
    if get_origin(kind) is dict:
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            raise ValueError(f'{key} is {value!r}, expected a mapping of names to values')
        return value
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if not isinstance(value, list) or len(value) != len(kinds):
            raise ValueError(f'{key} is {value!r}, expected a list of {len(kinds)} numbers')
        return tuple(_scalar(key, item, kind) for item, kind in zip(value, kinds))
    return _scalar(key, value, kind)


def _scalar(key: str, value: Any, kind: type) -> Any:
    # YAML takes 1e-3 for a text.
    accepted = {str: str, int: int, float: (int, float, str)}[kind]
    try:
        if isinstance(value, accepted) and not isinstance(value, bool):
            return kind(value)
    except ValueError:
        pass
    raise ValueError(f'{key} is {value!r}, expected {kind.__name__}')


_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    'network': (f'one of {", ".join(NETWORKS)}', lambda value: value in NETWORKS),
    'input_size': ('height and width of at least 32', lambda value: min(value) >= 32),
    'crop_size': ('height and width of at least 32', lambda value: min(value) >= 32),
    'epochs': ('at least 1', lambda value: value >= 1),
    'batch_size': ('at least 1', lambda value: value >= 1),
    'learning_rate': ('more than 0', lambda value: 0 < value < math.inf),
    'weight_decay': ('0 or more', lambda value: 0 <= value < math.inf),
    'warmup_epochs': ('0 or more', lambda value: 0 <= value < math.inf),
    'ema_decay': ('0 to 1, less than 1', lambda value: 0 <= value < 1),
    'scale': ('two rising numbers above 0', lambda value: 0 < value[0] <= value[1] < math.inf),
    'color': ('0 or more', lambda value: 0 <= value < math.inf),
    'synthetic_share': ('0 to 1', lambda value: 0 <= value <= 1),
    'weather': ('0 to 1', lambda value: 0 <= value <= 1),
    'rare_crops': ('0 to 1', lambda value: 0 <= value <= 1),
    'class_mix': ('0 to 1', lambda value: 0 <= value <= 1),
    'hard_share': ('more than 0, up to 1', lambda value: 0 < value <= 1),
    'overlap_weight': ('0 or more', lambda value: 0 <= value < math.inf),
    'loss_stride': ('at least 1', lambda value: value >= 1),
    'precision': ('fp32 or bf16', lambda value: value in ('fp32', 'bf16')),
    'seed': ('0 or more', lambda value: value >= 0),
    'mean': ('three finite numbers', lambda value: all(map(math.isfinite, value))),
    'std': ('three finite numbers above 0', lambda value: all(0 < v < math.inf for v in value)),
}
