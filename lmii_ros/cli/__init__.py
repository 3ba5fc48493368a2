# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""
The command ``lmii``; each of its commands is a module.

They import what they need when they run: torch alone takes seconds, which ``--help`` should not.
"""

from __future__ import annotations

import argparse
import sys

from lmii_ros.cli import bag
from lmii_ros.cli import benchmark
from lmii_ros.cli import demo
from lmii_ros.cli import evaluate
from lmii_ros.cli import export
from lmii_ros.cli import train
from lmii_ros.cli import tune
from lmii_ros.engines import NonFiniteOutput
from lmii_ros.engines import OutOfMemory

PACKAGE = __name__.partition('.')[0]


def main(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code; what is wrong goes to stderr as one line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    options.arguments = arguments
    try:
        options.run(options)
    except (ValueError, OSError, NonFiniteOutput, OutOfMemory) as error:
        print(f'lmii {options.command}: {error}', file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        # Some commands need more than a robot does.
        if (error.name or PACKAGE).partition('.')[0] == PACKAGE:
            raise
        print(
            f'lmii {options.command}: the Python package {error.name} is not installed',
            file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='lmii', description='Semantic segmentation for robots.')
    commands = parser.add_subparsers(dest='command', required=True)
    for command in (demo, evaluate, benchmark, bag, export, tune, train):
        command.add(commands)
    return parser
