# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The ROS 2 nodes; nothing outside this folder imports rclpy or ROS messages."""
