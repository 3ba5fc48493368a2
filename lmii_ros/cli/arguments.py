# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Arguments that several commands have."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Callable

KIND_HELP = (
    'of the data set: camvid, camvid_original, cityscapes, folder or auto, which tells by the '
    'folders (%(default)s)')
MAX_SIZE = 16384
"""Of frames, in pixels each way: larger ones are a slip, and take all memory."""


def add_operating_point(parser: argparse.ArgumentParser) -> None:
    """Add with which network, engine, precision and size frames are labelled."""
    parser.add_argument('--weights', default='lpsnet_s_camvid', help='path or name (%(default)s)')
    add_engine(parser)
    parser.add_argument(
        '--input-height', type=int, default=0,
        help='at which the network sees the frames (that of its training)')


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add what runs the network."""
    parser.add_argument('--engine', default='auto', help='an engine or auto (%(default)s)')
    parser.add_argument(
        '--precision', default='auto', help='auto, fp32, fp16, bf16, int8 (%(default)s)')
    parser.add_argument(
        '--device', default='auto',
        help='auto, cpu, cuda, cuda:N, or gpu for an Intel GPU (%(default)s)')


def add_bag_topics(parser: argparse.ArgumentParser) -> None:
    """Add which topics of a bag are read, and how their stamps are matched."""
    parser.add_argument('--image', metavar='TOPIC', help='of the images (its only one)')
    parser.add_argument('--labels', metavar='TOPIC', help='of the ground truth, if there is any')
    parser.add_argument(
        '--tolerance-ms', type=float, default=10.0,
        help='how far the stamps of image and ground truth may be apart (%(default)s)')


def add_annotate(parser: argparse.ArgumentParser) -> None:
    """Add what else is written beside the results."""
    parser.add_argument(
        '--annotate', action='store_true', help='write labels and pictures into a bag in OUT')
    parser.add_argument(
        '--with-originals', action='store_true', help='with all topics of this one; annotates')


def at_least(least: int) -> Callable[[str], int]:
    """Return what reads an integer that is not below a limit."""
    def integer(text: str) -> int:
        number = int(text)
        if number < least:
            raise argparse.ArgumentTypeError(f'{text}, expected at least {least}')
        return number
    return integer


def result_file(text: str) -> Path:
    """Return the path of a file to write; where it cannot be, that is said before long work."""
    path = Path(text)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(
            f'{text!r}, expected a file in a folder that is there and can be written to')
    return path


def size(text: str) -> tuple[int, int]:
    """Return width and height of a text such as 1280x720."""
    try:
        width, height = (int(number) for number in text.split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'{text!r}, expected width and height such as 1280x720') from None
    if not (0 < width <= MAX_SIZE and 0 < height <= MAX_SIZE):
        raise argparse.ArgumentTypeError(
            f'{text!r}, expected width and height of 1 to {MAX_SIZE}')
    return width, height
