# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Where a robot may drive: real-time semantic segmentation of camera frames for ROS 2."""

__version__ = '0.1.0'
