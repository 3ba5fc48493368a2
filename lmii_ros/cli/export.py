# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""``lmii export``: weight files in other forms."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from lmii_ros.cli import arguments


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to those of ``lmii``."""
    export = commands.add_parser('export', help='write a weight file in another form')
    export.add_argument('weights', help='path or name of a weight file')
    export.add_argument(
        '--mean-with', nargs='+', default=[], metavar='WEIGHTS',
        help='the mean of this weight file and these, as of restarts of one training')
    export.add_argument(
        '--int8', action='store_true', help='a weight file that is calibrated for int8')
    export.add_argument(
        '--calibrate', metavar='IMAGES',
        help='what int8 is calibrated with: a data set, whose val split then tells what int8 '
        'costs, or a folder, video or bag')
    export.add_argument(
        '--loss-of', metavar='WEIGHTS',
        help='a weight file of the same network whose loss in int8 counts for this one too, '
        'which was trained on what it could be measured with')
    export.add_argument(
        '--out', type=Path,
        help='file for mean or int8 (name of the weights and _mean or _int8)')
    export.add_argument(
        '--onnx', type=Path, metavar='FILE',
        help='an ONNX file: image bytes in, logits out, for runtimes of your own')
    export.add_argument(
        '--size', type=arguments.size, help='width and height of the frames, for ONNX')
    export.add_argument(
        '--input-height', type=int, default=0,
        help='at which the network is to see them (that of its training), for ONNX')
    export.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> None:
    if not (options.mean_with or options.int8 or options.onnx):
        raise ValueError('nothing to do; give --mean-with WEIGHTS, --int8 or --onnx FILE')
    if options.int8 and not options.calibrate:
        raise ValueError('--int8 needs --calibrate IMAGES: a data set, folder, video or bag')
    from lmii_ros import export
    from lmii_ros import weights
    source = weights.find(options.weights)
    path = options.out or Path(f'{source.stem}_{"int8" if options.int8 else "mean"}.safetensors')
    targets = [path] if options.mean_with or options.int8 else []
    targets += [options.onnx] if options.onnx else []
    for file in targets:
        # Now, since a calibration takes long.
        if file.is_dir():
            raise ValueError(f'{file} is a folder, expected a file')
        tempfile.TemporaryFile(dir=file.parent).close()
    if options.mean_with:
        export.to_mean([source, *options.mean_with], path)
        source = path
    if options.onnx:
        _export_onnx(options, source)
    if options.int8:
        _export_int8(options, source, path)
    elif options.mean_with:
        print(path)


def _export_onnx(options: argparse.Namespace, source: Path) -> None:
    from lmii_ros import export
    from lmii_ros import weights
    from lmii_ros.segmenter import input_size_of
    info = weights.read_info(source)
    width, height = options.size or info.input_size[::-1]
    input_size = input_size_of(info, options.input_height, (height, width))
    export.to_onnx(source, input_size, options.onnx)
    print(f'{options.onnx}: image uint8 1x{input_size[0]}x{input_size[1]}x3 (BGR) to logits')


def _export_int8(options: argparse.Namespace, source: Path, path: Path) -> None:
    from lmii_ros import datasets
    from lmii_ros import export
    from lmii_ros import metrics
    from lmii_ros import weights
    from lmii_ros.evaluation import dataset
    from lmii_ros.segmenter import Segmenter
    from lmii_ros.sources import open_source
    validation = None
    if datasets.kind_of(options.calibrate):
        # All that may be refused is, before anything is written.
        training = datasets.open_dataset(options.calibrate, 'train')
        info = weights.read_info(source)
        dataset.check_classes(source, info.classes, training)
        if not options.loss_of:
            validation = datasets.open_dataset(options.calibrate, 'val')
            if info.was_trained_on('val'):
                raise ValueError(
                    f'{source} was trained on val, which cannot tell what int8 costs it; name '
                    'weights of this network that were not by --loss-of, or calibrate with a '
                    'folder of images alone')
        frames = (training.image(index) for index in range(len(training)))
    else:
        frames = (frame.image for frame in open_source(options.calibrate))
    export.to_int8(source, frames, path, loss_of=options.loss_of)
    if validation is not None:
        exact = metrics.scores(
            dataset.evaluate(Segmenter(path, precision='fp32'), validation)).miou
        loss = dataset.precision_loss(path, 'auto', exact, validation)
        info, network = weights.load(path)
        weights.save(path, replace(info, precision_loss=info.precision_loss | loss), network)
        for precision, lost in loss.items():
            print(f'{precision} costs {100 * lost:.2f} of {100 * exact:.2f} points of mIoU')
    elif not options.loss_of:
        print('without labels nobody knows what int8 costs, so precision auto takes no int8; '
              'calibrate with a data set')
    print(path)
