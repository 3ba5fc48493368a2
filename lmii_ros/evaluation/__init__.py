# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""How right the labels are: of data sets, bags, many bags, and the live node."""
