# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""``lmii bag``: rosbags of images."""

from __future__ import annotations

import argparse
from pathlib import Path

from lmii_ros.cli import arguments


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to those of ``lmii``."""
    bags = commands.add_parser('bag', help='make rosbags, and look into them')
    subjects = bags.add_subparsers(dest='subject', required=True)
    make = subjects.add_parser(
        'make', help='of a folder of images, a video, another bag, or the synthetic scene')
    make.add_argument('source', help='folder, video, bag, or "synthetic"')
    make.add_argument('--out', type=Path, required=True, help='the bag, a new folder')
    make.add_argument(
        '--labels', default='', help='label images of the folder, or label topic of the bag')
    make.add_argument('--topic', default='', help='image topic of the bag (its only one)')
    make.add_argument(
        '--size', type=arguments.size, help='of frames, such as 1280x720 (their own)')
    make.add_argument(
        '--rate', type=float, default=15.0, help='frames per second (%(default)s)')
    make.add_argument(
        '--encoding', default='bgr8', help='of raw images, or jpeg or png (%(default)s)')
    make.add_argument('--frames', type=int, default=0, help='at most (all)')
    make.add_argument(
        '--fov', type=float, metavar='DEGREES',
        help='horizontal field of view, for camera_info (uncalibrated)')
    make.add_argument(
        '--void', type=int, metavar='LABEL',
        help='label that means unknown, besides 255 (11 for folders named as in CamVid: val, '
        'valannot)')
    make.set_defaults(run=_bag_make)
    transport = subjects.add_parser(
        'transport', help='tell the image_transport of a bag\'s images: raw or compressed')
    transport.add_argument('bag', type=Path, help='rosbag2 folder, or .mcap or .db3 file')
    transport.add_argument('--topic', default='', help='image topic (its only one)')
    transport.add_argument(
        '--labels', default='', help='topic of the labels, which are not meant')
    transport.set_defaults(run=_bag_transport)


def _bag_make(options: argparse.Namespace) -> None:
    from lmii_ros import recording
    frames, labelled = recording.record(recording.Recording(
        source=options.source, out=options.out, labels=options.labels, topic=options.topic,
        size=options.size, rate=options.rate, encoding=options.encoding, frames=options.frames,
        fov_deg=options.fov, void=options.void))
    print(f'{options.out}: {frames} frames, {labelled} with labels')


def _bag_transport(options: argparse.Namespace) -> None:
    from lmii_ros.evaluation.live import LiveEvaluation
    _, image_transport = LiveEvaluation(
        bag=options.bag, out=Path(), image_topic=options.topic or None,
        labels_topic=options.labels or None).image_source()
    print(image_transport)
