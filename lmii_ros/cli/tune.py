# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""``lmii tune``: the operating point for a frame rate."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lmii_ros.cli import arguments


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to those of ``lmii``."""
    tune = commands.add_parser(
        'tune', help='find the operating point for a frame rate on this machine')
    tune.add_argument(
        '--weights', nargs='+', default=['lpsnet_s_camvid', 'auto'], metavar='WEIGHTS',
        help='to choose from; paths, names of shipped ones, or auto for all shipped ones of the '
        'first one\'s classes (all shipped ones for CamVid)')
    tune.add_argument(
        '--size', type=arguments.size, default='1280x720', help='of frames (%(default)s)')
    tune.add_argument(
        '--image-transport', choices=('raw', 'compressed'), default='raw',
        help='how frames come (%(default)s)')
    tune.add_argument(
        '--target-fps', type=float, required=True,
        help='frames per second to hold, of each camera')
    tune.add_argument(
        '--cameras', type=int, default=1, help='how many share the network (%(default)s)')
    tune.add_argument(
        '--headroom', type=float, default=0.8,
        help='share of the time between two frames that may be used (%(default)s)')
    arguments.add_engine(tune)
    tune.add_argument('--threads', type=int, default=0, help='0 for the engine\'s choice')
    tune.add_argument('--exhaustive', action='store_true', help='time all candidates')
    tune.add_argument('--anew', action='store_true', help='measure what was measured before')
    tune.add_argument(
        '--out', type=Path, default=Path('output'),
        help='folder for curve and parameter file (%(default)s)')
    tune.set_defaults(run=_tune)


def _tune(options: argparse.Namespace) -> None:
    from lmii_ros.operating_point import Target
    from lmii_ros.operating_point import tuning
    wanted = tuning.Tuning(
        weight_files=tuple(options.weights), size=options.size,
        target=Target(options.target_fps, options.headroom, options.cameras),
        engine=options.engine, device=options.device, precision=options.precision,
        threads=options.threads, image_transport=options.image_transport,
        exhaustive=options.exhaustive, anew=options.anew)
    # Now, since a search takes long.
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        choice = tuning.run(wanted, _show)
    finally:
        _show('')
    print(tuning.table(wanted, choice))
    for path in tuning.write(wanted, choice, options.out):
        print(path)


def _show(line: str) -> None:
    """Show a line in place of the one before; what cannot be run stays."""
    end = '\n' if 'cannot' in line else '\r'
    print(f'{line:<79}', end=end, file=sys.stderr)
