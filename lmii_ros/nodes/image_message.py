# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Pixels into image messages."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header


def image_message(header: Header, pixels: np.ndarray, encoding: str) -> Image:
    """
    Return an image message without row padding.

    :param header: Copied by reference.
    :param pixels: uint8 [H, W] or [H, W, C], C-contiguous.
    :param encoding: As of sensor_msgs, fitting the pixels.
    """
    height, width = pixels.shape[:2]
    message = Image(
        header=header, height=height, width=width, encoding=encoding,
        step=pixels.strides[0], is_bigendian=0)
    # Filling the array in place takes 0.1 ms at 1080p; assigning to data takes up to 0.3 s.
    message.data.frombytes(memoryview(pixels).cast('B'))
    return message
