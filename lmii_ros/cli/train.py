# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""``lmii train``: a network by a recipe."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from lmii_ros.cli import arguments


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to those of ``lmii``."""
    train = commands.add_parser('train', help='train a network by a recipe')
    train.add_argument('recipe', type=Path, help='YAML file, see config/training')
    train.add_argument('--data', type=Path, required=True, help='folder of the data set')
    train.add_argument('--kind', default='auto', help=arguments.KIND_HELP)
    train.add_argument(
        '--out', type=Path, required=True,
        help='folder for checkpoint, log and weight file; a run found there is continued')
    train.add_argument(
        '--val', default='val',
        help='split to measure on, unless the recipe holds out drives for that; empty for none '
             '(%(default)s)')
    train.add_argument('--device', default='auto', help='auto, cpu or cuda (%(default)s)')
    train.add_argument(
        '--workers', type=int, default=1, help='processes that prepare images (%(default)s)')
    train.add_argument(
        '--stop-after', type=int, metavar='EPOCHS',
        help="end after so many of the recipe's epochs, with a weight file; the same command "
             'without it goes on')
    train.add_argument(
        '--compile', action='store_true',
        help='compile the network first: some minutes, then LMIINet trains 1.5 times as fast on a '
             'CPU; needs a C++ compiler')
    train.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> None:
    from lmii_ros import datasets
    from lmii_ros import engines
    from lmii_ros import weights
    from lmii_ros.engines.torch import select_device
    from lmii_ros.evaluation import dataset
    from lmii_ros.segmenter import Segmenter
    from lmii_ros.training import parallel
    from lmii_ros.training import recipe
    from lmii_ros.training.checkpoint import claimed
    from lmii_ros.training.trainer import inherit_miou
    from lmii_ros.training.trainer import train
    chosen = recipe.read(options.recipe)

    def opened(split: str) -> datasets.Dataset:
        return datasets.open_dataset(options.data, split, options.kind)

    training = opened(chosen.split)
    validation, measured_on, trained_on = None, options.val, []
    if options.val and chosen.held_out_drives:
        _, validation = datasets.hold_out(training, chosen.held_out_drives.split('+'))
        measured_on = chosen.held_out_drives
    elif options.val:
        validation = opened(options.val)
        trained_on = [name for name in options.val.split('+') if name in chosen.split.split('+')]
        if trained_on and chosen.miou_of:
            # What cannot be found is better said now than after the training.
            weights.find(chosen.miou_of)
    writes = parallel.join().writes
    device = parallel.local_device(select_device(options.device))
    try:
        with claimed(options.out) if writes else nullcontext():
            path = train(
                chosen,
                training,
                validation,
                options.out,
                device=device,
                workers=options.workers,
                compiled=options.compile,
                stop_after=options.stop_after,
            )
    except Exception as error:
        if not engines.is_out_of_memory(error):
            raise
        raise engines.OutOfMemory(
            f'out of memory on {device}; smaller ones of batch_size or crop_size in a recipe need '
            'less') from error
    parallel.leave()
    if not writes:
        return
    if trained_on:
        inherit_miou(path, chosen, '+'.join(trained_on))
    elif validation:
        miou = dataset.miou_by_height(
            Segmenter(path, device=options.device, precision='fp32'), validation)
        info, network = weights.load(path)
        loss = dataset.precision_loss(path, options.device, miou[info.input_size[0]], validation)
        weights.save(path, replace(info, miou=miou, precision_loss=loss), network)
        for precision, lost in loss.items():
            print(f'{precision} costs {100 * lost:.2f} points of mIoU')
        for height, value in miou.items():
            print(f'mIoU on {measured_on} at input height {height}: {100 * value:.2f} %')
    print(path)
