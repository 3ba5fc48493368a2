# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Weight files in other forms: their mean, calibrated for int8, or as ONNX."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Iterable
from typing import Sequence

import cv2
import numpy as np
import torch

from lmii_ros import weights
from lmii_ros.engines import quantization
from lmii_ros.networks.deployment import DeployedNetwork
from lmii_ros.networks.deployment import export_onnx
from lmii_ros.segmenter import input_size_of

CALIBRATION_IMAGES = 32
"""Images that are used at least, where there are as many; twice as many at most."""


class ExportError(ValueError):
    """A weight file cannot be exported as asked for."""


def to_mean(weight_files: Sequence[str | Path], path: Path) -> None:
    """
    Write the mean of weights, as of restarts of one training (SWA, arXiv 1803.05407).

    :param weight_files: Paths or names of weight files of one network; the metadata are those of
        the first, but for the mIoU and its losses if the files do not tell the same.
    :param path: Target; an existing file is replaced.
    :raises ExportError: If the files are not of one network and class table.
    """
    loaded = [weights.load(weights.find(weight_file)) for weight_file in weight_files]
    info, network = loaded[0]
    for weight_file, (other, _) in zip(weight_files, loaded):
        for what in ('network', 'arguments', 'classes', 'mean', 'std'):
            if getattr(other, what) != getattr(info, what):
                raise ExportError(
                    f'{weight_file} has another {what} than {weight_files[0]}, so their weights '
                    'have no mean')
        if (other.miou, other.precision_loss) != (info.miou, info.precision_loss):
            info = replace(info, miou={}, precision_loss={})
    with torch.no_grad():
        for same in zip(*(network.state_dict().values() for _, network in loaded)):
            if same[0].is_floating_point():
                same[0].copy_(torch.stack(same).mean(dim=0))
    weights.save(path, replace(
        info, activation_ranges={}, data=f'{info.data}; the mean of {len(loaded)} weight files'),
        network)


def to_int8(
    weight_file: str | Path, frames: Iterable[np.ndarray], path: Path, *,
    loss_of: str | Path | None = None,
) -> None:
    """
    Write a weight file that can be run in int8.

    :param weight_file: Path or name of a weight file.
    :param frames: uint8 [H, W, 3] each, blue, green, red: what the network will see. Of more
        than twice :data:`CALIBRATION_IMAGES` some are taken, evenly spaced.
    :param path: Target; an existing file is replaced.
    :param loss_of: Weight file of the same network and classes whose loss of mIoU in int8 counts
        for this one too, of which else none is told.
    :raises ExportError: If there are no frames, or that file does not tell.
    """
    loss = {} if loss_of is None else _int8_loss(weight_file, loss_of)
    info, network = weights.load(weights.find(weight_file))
    images = _evenly(
        cv2.resize(frame, input_size_of(info, 0, frame.shape[:2])[::-1]) for frame in frames)
    if not images:
        raise ExportError('no images to calibrate int8 with')
    normalization, folded = DeployedNetwork(network, info.mean, info.std)
    ranges = quantization.observe(
        folded, (normalization(torch.from_numpy(image)[None]) for image in images))
    others = {name: lost for name, lost in info.precision_loss.items() if name != 'int8'}
    weights.save(
        path, replace(info, activation_ranges=ranges, precision_loss=others | loss), network)


def _int8_loss(weight_file: str | Path, of: str | Path) -> dict[str, float]:
    wanted = weights.read_info(weights.find(weight_file))
    info = weights.read_info(weights.find(of))
    if (info.network, info.classes.classes) != (wanted.network, wanted.classes.classes) or (
            'int8' not in info.precision_loss):
        raise ExportError(
            f'{of} does not tell what int8 costs {wanted.network} with the classes of '
            f'{wanted.classes.name}; lmii export {of} --int8 --calibrate '
            f'DATASET makes a file of {info.network} that tells it of that')
    return {'int8': info.precision_loss['int8']}


def to_onnx(weight_file: str | Path, input_size: tuple[int, int], path: Path) -> None:
    """
    Write a network as ONNX, for images of one size: normalisation inside, resizing outside.

    Input ``image`` uint8 [1, H, W, 3] in blue, green, red order; output ``logits`` float32
    [1, num_classes, h, w] at the network's own resolution.

    :param weight_file: Path or name of a weight file.
    :param input_size: Height and width of the image.
    :param path: Target; an existing file is replaced.
    :raises ExportError: If the package onnx is not installed.
    """
    if not importlib.util.find_spec('onnx'):
        raise ExportError('the package onnx is not installed; pip install onnx')
    info, network = weights.load(weights.find(weight_file))
    export_onnx(
        DeployedNetwork(network, info.mean, info.std), [(1, *input_size, 3)], np.uint8, path)


def _evenly(images: Iterable[np.ndarray]) -> list[np.ndarray]:
    kept: list[np.ndarray] = []
    step = 1
    for index, image in enumerate(images):
        if index % step:
            continue
        if len(kept) == 2 * CALIBRATION_IMAGES:
            del kept[1::2]
            step *= 2
            if index % step:
                continue
        kept.append(image)
    return kept
