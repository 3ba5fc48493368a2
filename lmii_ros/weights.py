# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""
Weight files: a network's parameters and all that is needed to use them.

A weight file is a safetensors file (read without pickle, so it cannot run code) whose metadata
holds one JSON document, described by :class:`WeightInfo`.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from lmii_ros import networks
from lmii_ros.classes import ClassTable
from lmii_ros.classes import ClassTableError
from lmii_ros.share import share_directory

FORMAT = 1
KEY = 'lmii_ros'
SUFFIX = '.safetensors'


class WeightError(ValueError):
    """A weight file is missing, corrupt, or does not fit what it says it is."""


@dataclass(frozen=True)
class WeightInfo:
    """
    Metadata of a weight file.

    :param network: Name for :func:`lmii_ros.networks.build`.
    :param arguments: Further arguments for the same.
    :param classes: What the label indices mean.
    :param mean: Mean of red, green and blue (0..1) that the network was trained with.
    :param std: Standard deviation of the same.
    :param input_size: Height and width of the image, scaled, that the network was trained for.
    :param data: Names of the data sets and splits that it was trained on.
    :param recipe: The training recipe, as read from its file.
    :param miou: Measured mIoU (0..1) by input height, on data not trained on; empty if unknown.
    :param precision_loss: Loss of mIoU (0..1) against fp32 by precision, measured on that data.
    :param activation_ranges: Lowest and highest value at the input of each convolution that int8
        rounds, by its name in the network with folded batch normalisation; empty if not recorded.
    :param license: Terms, and what the data's licence says.
    """

    network: str
    classes: ClassTable
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    input_size: tuple[int, int]
    arguments: dict[str, Any] = field(default_factory=dict)
    data: str = ''
    recipe: dict[str, Any] = field(default_factory=dict)
    miou: dict[int, float] = field(default_factory=dict)
    precision_loss: dict[str, float] = field(default_factory=dict)
    activation_ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    license: str = ''

    def was_trained_on(self, split: str) -> bool:
        """Return whether the recipe names a split, or one of those that ``+`` joins."""
        return not set(split.split('+')).isdisjoint(str(self.recipe.get('split', '')).split('+'))

    def to_json(self) -> str:
        """Return the metadata as one JSON document."""
        return json.dumps(asdict(self) | {'format': FORMAT}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> WeightInfo:
        """
        Read the document of :meth:`to_json`.

        :raises WeightError: If it is not such a document.
        """
        try:
            values = json.loads(text)
            if values['format'] != FORMAT:
                raise WeightError(f'format {values["format"]}, expected {FORMAT}')
            height, width = values['input_size']
            mean, std = (
                tuple(float(value) for value in values[key]) for key in ('mean', 'std'))
            if len(mean) != 3 or len(std) != 3 or not (
                    all(map(math.isfinite, mean + std)) and min(std) > 0):
                raise WeightError(f'mean {mean} and std {std}, expected three each, std > 0')
            if min(height, width) < 1:
                raise WeightError(f'input size {height}x{width}, expected at least 1x1')
            return cls(
                network=str(values['network']),
                arguments=dict(values['arguments']),
                classes=ClassTable.from_dict(values['classes']),
                mean=mean,
                std=std,
                input_size=(int(height), int(width)),
                data=str(values['data']),
                recipe=dict(values['recipe']),
                miou={int(key): float(value) for key, value in values['miou'].items()},
                precision_loss={
                    str(key): float(value)
                    for key, value in values['precision_loss'].items()},
                activation_ranges={
                    str(name): _range(*limits)
                    # Files from before int8 have none.
                    for name, limits in values.get('activation_ranges', {}).items()},
                license=str(values['license']),
            )
        except KeyError as error:
            raise WeightError(f'metadata has no {error.args[0]!r}') from error
        except ClassTableError as error:
            raise WeightError(str(error)) from error
        except (
            TypeError, ValueError, AttributeError, OverflowError, RecursionError,
        ) as error:
            if isinstance(error, WeightError):
                raise
            raise WeightError(f'malformed metadata ({error})') from error


def _range(low: float, high: float) -> tuple[float, float]:
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise WeightError(f'activation range {low} to {high}, expected two ascending numbers')
    return float(low), float(high)


def save(path: Path, info: WeightInfo, network: nn.Module) -> None:
    """
    Write a weight file, the parameters of convolutions and matrices in half precision.

    :param path: Target; an existing file is replaced in one step.
    :param network: The network that ``info`` describes.
    :raises WeightError: If the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(path.name + '.part')
    tensors = {
        name: _stored(tensor).contiguous() for name, tensor in network.state_dict().items()}
    try:
        save_file(tensors, str(temporary), metadata={KEY: info.to_json()})
    except SafetensorError as error:
        raise WeightError(f'{path} cannot be written: {error}') from error
    # safetensors lets only the owner read; an installed package is for all.
    temporary.chmod(0o644)
    temporary.replace(path)


def _stored(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dtype != torch.float32 or tensor.ndim < 2:
        return tensor
    half = tensor.half()
    # What overflows in half precision stays as it is.
    return half if half.isfinite().all() else tensor


def shipped_folder() -> Path:
    """Return where the weight files are that come with the package."""
    return share_directory() / 'weights'


def find(name: str | Path) -> Path:
    """
    Return the path of a weight file.

    :param name: Path of a file, or the name of a shipped one, with or without suffix.
    :raises WeightError: If there is neither; the message lists the shipped ones.
    """
    if Path(name).is_file():
        return Path(name)
    folder = shipped_folder()
    shipped = folder / f'{Path(name).name.removesuffix(SUFFIX)}{SUFFIX}'
    if Path(name).parent == Path('.') and shipped.is_file():
        return shipped
    names = sorted(path.stem for path in folder.glob(f'*{SUFFIX}'))
    raise WeightError(f'no weight file {name}; shipped with the package are: {", ".join(names)}')


def read_info(path: Path) -> WeightInfo:
    """
    Read a weight file's metadata alone, which takes a moment.

    :raises WeightError: If the file is missing or corrupt, or has no such metadata.
    """
    return _read(Path(path), with_tensors=False)[0]


def load(path: Path) -> tuple[WeightInfo, nn.Module]:
    """
    Read a weight file.

    :return: Its metadata, and the network on the CPU in inference mode.
    :raises WeightError: If the file is missing or corrupt, or its metadata and tensors do not fit
        each other; the message says what was expected and what was found.
    """
    path = Path(path)
    info, tensors = _read(path, with_tensors=True)
    try:
        network = networks.build(info.network, len(info.classes), **info.arguments)
        _check(network.state_dict(), tensors, info)
        network.load_state_dict(tensors)
    except ValueError as error:
        raise WeightError(f'weight file {path}: {error}') from error
    return info, network.eval()


def _read(path: Path, *, with_tensors: bool) -> tuple[WeightInfo, dict[str, torch.Tensor]]:
    if not path.is_file():
        raise WeightError(f'no weight file {path}')
    try:
        with safe_open(str(path), framework='pt') as file:
            metadata = file.metadata() or {}
            names = file.keys() if with_tensors else ()
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise WeightError(
            f'weight file {path} cannot be read ({error}); expected a safetensors file') from error
    if KEY not in metadata:
        raise WeightError(
            f'weight file {path}: no {KEY!r} in its metadata; expected a file written by lmii '
            'train')
    try:
        return WeightInfo.from_json(metadata[KEY]), tensors
    except WeightError as error:
        raise WeightError(f'weight file {path}: {error}') from error


def _check(
    expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor], info: WeightInfo,
) -> None:
    what = f'{info.network} with {len(info.classes)} classes'
    for name in expected.keys() - found.keys():
        raise WeightError(f'tensor {name} of {what} is missing')
    for name in found.keys() - expected.keys():
        raise WeightError(f'tensor {name} does not belong to {what}')
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            raise WeightError(
                f'tensor {name} has shape {list(found[name].shape)}, '
                f'expected {list(tensor.shape)} for {what}')
        halved = (tensor.dtype, found[name].dtype) == (torch.float32, torch.float16)
        if found[name].dtype != tensor.dtype and not halved:
            raise WeightError(
                f'tensor {name} is {found[name].dtype}, expected {tensor.dtype} for {what}')
        if not torch.isfinite(found[name]).all():
            raise WeightError(f'tensor {name} holds values that are not finite')
