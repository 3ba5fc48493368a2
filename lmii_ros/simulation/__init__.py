# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""
Synthetic road scenes with exact labels and camera geometry.

Frames follow REP 103 and REP 105, lengths are metres, angles radians. The vehicle frame has x
forward, y left, z up and its origin on the ground below the camera. Road coordinates are s, the
way along the road, and d, the offset to the left of the road's centre. As in CamVid, the gaps of
railings and bare crowns carry the label of the fence or tree, and grass counts as Tree.
"""

from lmii_ros.simulation.camera import PinholeCamera
from lmii_ros.simulation.scene import RoadScene
from lmii_ros.simulation.scene import SimulatedFrame

__all__ = ['SYNTHETIC', 'PinholeCamera', 'RoadScene', 'SimulatedFrame']

SYNTHETIC = 'synthetic'
"""Name of a road scene where a source of frames is asked for."""
