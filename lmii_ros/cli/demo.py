# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""``lmii demo``: camera, network and outputs at work."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to those of ``lmii``."""
    demo = commands.add_parser(
        'demo', help='show camera, network and outputs at work over ROS 2')
    demo.add_argument(
        '--source', default='', help='folder, video or bag of your own (a synthetic road scene)')
    demo.add_argument(
        '--labels', default='', help='label images of the folder, or label topic of the bag')
    demo.add_argument('--topic', default='', help='image topic of the bag (its only one)')
    demo.add_argument('--weights', default='lpsnet_s_camvid', help='path or name (%(default)s)')
    demo.add_argument(
        '--input-height', type=int, default=0,
        help='at which the network sees the frames (that of its training)')
    demo.add_argument('--rate', type=float, default=8.0, help='frames per second (%(default)s)')
    demo.add_argument('--seconds', type=float, default=15.0, help='at most (%(default)s)')
    demo.add_argument(
        '--out', type=Path, default=Path('output'), help='folder for the results (%(default)s)')
    demo.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> None:
    from lmii_ros.nodes import demo
    demo.run(demo.Demo(
        out=options.out, source=options.source, labels=options.labels, topic=options.topic,
        weight_file=options.weights, input_height=options.input_height, rate=options.rate,
        seconds=options.seconds))
