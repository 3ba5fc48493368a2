# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The command ``lmii``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code; what is wrong goes to stderr as one line."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except ValueError as error:
        print(f'lmii {options.command}: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='lmii', description='Semantic segmentation for robots.')
    commands = parser.add_subparsers(dest='command', required=True)

    train = commands.add_parser('train', help='train a network by a recipe')
    train.add_argument('recipe', type=Path, help='YAML file, see config/training')
    train.add_argument('--data', type=Path, required=True, help='folder of the data set')
    train.add_argument(
        '--out', type=Path, required=True,
        help='folder for checkpoint, log and weight file; a run found there is continued')
    train.add_argument('--val', default='val', help='split to measure on, "" for none (%(default)s)')
    train.add_argument('--device', default='auto', help='auto, cpu or cuda (%(default)s)')
    train.add_argument(
        '--workers', type=int, default=1, help='processes that prepare images (%(default)s)')
    train.set_defaults(run=_train)
    return parser


# The commands import what they need: torch alone takes seconds, which --help should not.

def _train(options: argparse.Namespace) -> None:
    from lmii_ros import datasets
    from lmii_ros.engines.torch import select_device
    from lmii_ros.training import recipe
    from lmii_ros.training.trainer import train
    chosen = recipe.read(options.recipe)
    path = train(
        chosen,
        datasets.camvid(options.data, chosen.split),
        datasets.camvid(options.data, options.val) if options.val else None,
        options.out,
        device=select_device(options.device),
        workers=options.workers,
    )
    print(path)


if __name__ == '__main__':
    sys.exit(main())
