# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""``python -m lmii_ros.cli``."""

from __future__ import annotations

import sys

from lmii_ros.cli import main

if __name__ == '__main__':
    sys.exit(main())
