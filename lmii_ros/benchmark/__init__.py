# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""How fast it is, always against another way to do the same, in the same run."""
