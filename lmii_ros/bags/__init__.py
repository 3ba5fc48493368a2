# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Bags: camera images out of rosbag2 and ROS 1 bags, and into rosbag2; no ROS needed."""

from lmii_ros.bags.reading import IMAGE_TYPES
from lmii_ros.bags.reading import BagError
from lmii_ros.bags.reading import BagImage
from lmii_ros.bags.reading import BagMessage
from lmii_ros.bags.reading import BagReader
from lmii_ros.bags.reading import image_topics
from lmii_ros.bags.reading import is_bag_file
from lmii_ros.bags.reading import read_images
from lmii_ros.bags.writing import ImageBagWriter

__all__ = [
    'IMAGE_TYPES', 'BagError', 'BagImage', 'BagMessage', 'BagReader', 'ImageBagWriter',
    'image_topics', 'is_bag_file', 'read_images']
