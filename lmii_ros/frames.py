# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Camera frames: pixels out of image messages (ROS or rosbags ones alike) and into them."""

from __future__ import annotations

import operator
import struct
from typing import Any

import cv2
import numpy as np

MAX_PIXELS = 1 << 25
"""Frames of more pixels (about 33 million, 8K) are garbage, before anything is allocated."""
MAX_ASPECT = 16
"""So are frames that many times as long as they are high, or as high as they are long."""

COMPRESSED = ('jpeg', 'png')
"""Encodings of compressed images."""

# Not rosbags.image: its one public conversion ignores `step` and the chroma rows of nv12, refuses
# 8UC1 and 8UC3 as colours, and takes some 20 ms for a 16-bit image of 1280x720 where cv2 takes
# 0.3 ms. What would be left of it is this table.
_CONVERSIONS = {
    'bgr8': (3, None),
    'rgb8': (3, cv2.COLOR_RGB2BGR),
    'bgra8': (4, cv2.COLOR_BGRA2BGR),
    'rgba8': (4, cv2.COLOR_RGBA2BGR),
    'mono8': (1, cv2.COLOR_GRAY2BGR),
    # OpenCV names a Bayer pattern by the second row's second and third pixel, ROS by the first
    # four pixels: rggb is BG.
    'bayer_rggb8': (1, cv2.COLOR_BayerBG2BGR),
    'bayer_bggr8': (1, cv2.COLOR_BayerRG2BGR),
    'bayer_gbrg8': (1, cv2.COLOR_BayerGR2BGR),
    'bayer_grbg8': (1, cv2.COLOR_BayerGB2BGR),
    'uyvy': (2, cv2.COLOR_YUV2BGR_UYVY),
    'yuv422': (2, cv2.COLOR_YUV2BGR_UYVY),
    'yuyv': (2, cv2.COLOR_YUV2BGR_YUY2),
    'yuv422_yuy2': (2, cv2.COLOR_YUV2BGR_YUY2),
    'nv12': (1, cv2.COLOR_YUV2BGR_NV12),
    'nv21': (1, cv2.COLOR_YUV2BGR_NV21),
}
_WIDE = {name[:-1] + '16': name for name in _CONVERSIONS if name.endswith('8')}
_GENERIC = {
    '8UC1': 'mono8', '8UC3': 'bgr8', '8UC4': 'bgra8',
    '16UC1': 'mono16', '16UC3': 'bgr16', '16UC4': 'bgra16'}

ENCODINGS = (*_CONVERSIONS, *_WIDE, *_GENERIC)
"""Every `encoding` of sensor_msgs/Image that :func:`decode` takes."""

_PNG = b'\x89PNG\r\n\x1a\n'
_GREY_8_BIT = (8, 0)
"""Bit depth and colour type, as a PNG's header has them."""
_JPEG = b'\xff\xd8\xff'
_JPEG_END = b'\xff\xd9'
_FILL = 128
"""What libjpeg shows where the data of a JPEG came to an end too early, in every channel."""


class FrameError(ValueError):
    """
    An image message that cannot be shown as a frame.

    :param reason: One word for a drop counter: `unknown_encoding`, `bad_size` (zero, absurd, or
        not possible in this encoding), `bad_step` (shorter than a row), `truncated_data`,
        `corrupt_data` (compressed data that does not decode) or `malformed` (a field is missing
        or not of its type).
    :param text: One line for a person.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def decode(message: Any) -> np.ndarray:
    """
    Return the pixels of an image message.

    :param message: A sensor_msgs Image or CompressedImage (jpeg or png) of rclpy or rosbags, or
        anything with the same fields.
    :return: uint8 [H, W, 3] BGR. For bgr8 and 8UC3 a view of the message's data, so perhaps
        read-only, and not C-contiguous where the message pads its rows.
    :raises FrameError: Whatever is wrong with the message.
    """
    if hasattr(message, 'format'):
        return _decode_compressed_message(message)
    encoding = getattr(message, 'encoding', None)
    if not isinstance(encoding, str) or encoding not in ENCODINGS:
        raise FrameError(
            'unknown_encoding',
            f'no frame from encoding {encoding!r:.60}; expected one of: {", ".join(ENCODINGS)}')
    encoding = _GENERIC.get(encoding, encoding)
    narrow = _WIDE.get(encoding, encoding)
    channels, conversion = _CONVERSIONS[narrow]
    pixels = _pixels(message, narrow, channels, item_bytes=1 if narrow == encoding else 2)
    if pixels.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(pixels, alpha=255 / 65535)
    return pixels if conversion is None else cv2.cvtColor(pixels, conversion)


def size(message: Any) -> tuple[int, int]:
    """
    Return the size that an image message declares, without a look at its pixels.

    :param message: As of :func:`decode`.
    :return: Height and width.
    :raises FrameError: If it declares none, or none that a frame can have.
    """
    if hasattr(message, 'format'):
        width, height, _ = _compressed_size(bytes(_buffer(getattr(message, 'data', None))))
    else:
        width, height = _integer(message, 'width'), _integer(message, 'height')
    _check_size(width, height)
    return height, width


def decode_labels(message: Any) -> np.ndarray:
    """
    Return the label image in an image message.

    :param message: A sensor_msgs Image of encoding mono8 or 8UC1, or a CompressedImage that holds
        a PNG of one 8-bit channel.
    :return: uint8 [H, W], of an Image a view of the message's data as in :func:`decode`.
    :raises FrameError: Whatever is wrong with the message.
    """
    if hasattr(message, 'format'):
        return decode_label_png(getattr(message, 'data', None))
    encoding = getattr(message, 'encoding', None)
    if encoding not in ('mono8', '8UC1'):
        raise FrameError(
            'unknown_encoding',
            f'no labels from encoding {encoding!r:.60}; expected mono8 or 8UC1')
    return _pixels(message, 'mono8', 1, item_bytes=1)


def decode_compressed(data: Any) -> np.ndarray:
    """
    Return the pixels of a JPEG or PNG.

    :param data: The bytes of the file, or any buffer that holds them.
    :return: uint8 [H, W, 3] BGR, also for grey, 16-bit and transparent pictures.
    :raises FrameError: If it is something else, is cut short, or is too large to be a frame.
    """
    return _picture(data, cv2.IMREAD_COLOR)


def decode_label_png(data: Any) -> np.ndarray:
    """
    Return the labels in a PNG.

    :param data: The bytes of the file, or any buffer that holds them.
    :return: uint8 [H, W].
    :raises FrameError: If it is no whole PNG of one 8-bit channel.
    """
    labels = _picture(data, cv2.IMREAD_UNCHANGED)
    # OpenCV gives the colours of a palette, never its indices, and spreads fewer bits over 8.
    header = bytes(_buffer(data)[:26])
    if not header.startswith(_PNG) or tuple(header[24:]) != _GREY_8_BIT:
        raise FrameError(
            'unknown_encoding', f'no labels from a picture of {labels.dtype} '
            f'{list(labels.shape)}; expected a PNG of one 8-bit channel, without a palette')
    return labels


def encode(image: np.ndarray, encoding: str) -> tuple[np.ndarray, int]:
    """
    Return a frame as the data of an image message.

    :param image: uint8 [H, W, 3] BGR; of even height and width for the YUV encodings.
    :param encoding: bgr8, rgb8, bgra8, rgba8, mono8, mono16, bayer_*8, uyvy, yuv422, yuyv,
        yuv422_yuy2, nv12 or nv21.
    :return: The message's `data` as uint8 [rows, step], C-contiguous and little-endian, and its
        `step`; the message's `height` is that of the image, also for nv12 and nv21.
    :raises FrameError: If the encoding is another one, or the image does not fit it.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise FrameError(
            'malformed', f'expected uint8 [H, W, 3], got {image.dtype} {list(image.shape)}')
    height, width = image.shape[:2]
    if encoding == 'bgr8':
        data = image
    elif encoding in _ENCODED_BY_CV2:
        data = cv2.cvtColor(image, _ENCODED_BY_CV2[encoding])
    elif encoding == 'mono16':
        data = (cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) * np.uint16(257)).astype('<u2')
    elif encoding.startswith('bayer_') and encoding in _CONVERSIONS:
        data = np.empty((height, width), np.uint8)
        for index, color in enumerate(encoding[len('bayer_'):-1]):
            row, column = divmod(index, 2)
            data[row::2, column::2] = image[row::2, column::2, 'bgr'.index(color)]
    elif encoding in _CONVERSIONS:
        data = _yuv(image, encoding)
    else:
        raise FrameError(
            'unknown_encoding', f'cannot encode a frame as {encoding!r:.60}; expected one of: '
            f'{", ".join(_CONVERSIONS)}, mono16; for a compressed image {" or ".join(COMPRESSED)}')
    rows = len(data)
    data = np.ascontiguousarray(data).view(np.uint8).reshape(rows, -1)
    return data, data.shape[1]


_ENCODED_BY_CV2 = {
    'rgb8': cv2.COLOR_BGR2RGB,
    'bgra8': cv2.COLOR_BGR2BGRA,
    'rgba8': cv2.COLOR_BGR2RGBA,
    'mono8': cv2.COLOR_BGR2GRAY,
}


def _yuv(image: np.ndarray, encoding: str) -> np.ndarray:
    """Return BGR as uint8 [1.5 H, W] (nv12, nv21) or [H, W, 2] (the 4:2:2 encodings)."""
    height, width = image.shape[:2]
    _check_fit(width, height, 'nv12')
    # By way of 4:2:0 for 4:2:2 too: the OpenCV of Humble and Jazzy has no BGR to UYVY or YUY2.
    planes = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420).reshape(-1)
    luma = planes[:height * width].reshape(height, width)
    u, v = planes[height * width:].reshape(2, height // 2, width // 2)
    if encoding in ('nv12', 'nv21'):
        chroma = np.stack((u, v) if encoding == 'nv12' else (v, u), axis=-1)
        return np.concatenate((luma, chroma.reshape(height // 2, width)))
    chroma = np.stack((u, v), axis=-1).reshape(height // 2, width).repeat(2, axis=0)
    return np.stack((chroma, luma) if encoding in ('uyvy', 'yuv422') else (luma, chroma), axis=-1)


def _pixels(message: Any, encoding: str, channels: int, item_bytes: int) -> np.ndarray:
    """
    Return the data of a raw image message in the shape that its fields declare.

    :param encoding: The 8-bit name of the layout, a key of the conversions.
    :return: uint8 (a view) or uint16 (native, aligned), [rows, W] or [rows, W, channels].
    """
    width, height, step, big_endian = (
        _integer(message, name) for name in ('width', 'height', 'step', 'is_bigendian'))
    _check_size(width, height)
    _check_fit(width, height, encoding)
    rows = height * 3 // 2 if encoding in ('nv12', 'nv21') else height
    row_bytes = width * channels * item_bytes
    if step < row_bytes:
        raise FrameError(
            'bad_step', f'step {step}, expected at least {row_bytes} for a row of {width} pixels '
            f'in {message.encoding}')
    data = _buffer(getattr(message, 'data', None))
    needed = step * (rows - 1) + row_bytes
    if data.nbytes < needed:
        raise FrameError(
            'truncated_data', f'{data.nbytes} bytes of data, expected at least {needed} for '
            f'{width}x{height} {message.encoding} with step {step}')
    shape = (rows, width, channels)[:2 if channels == 1 else 3]
    strides = (step, channels * item_bytes, item_bytes)[:len(shape)]
    dtype = np.dtype(np.uint8 if item_bytes == 1 else '>u2' if big_endian else '<u2')
    view = np.ndarray(shape, dtype, data, strides=strides)
    # cv2 takes a uint16 of the other byte order, or with an odd step, for one of its own.
    return view if item_bytes == 1 else view.astype(np.uint16, order='C')


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1 or width * height > MAX_PIXELS or (
            max(width, height) > MAX_ASPECT * min(width, height)):
        raise FrameError(
            'bad_size', f'a frame of {width}x{height} pixels; expected at least 1x1, at most '
            f'{MAX_PIXELS} pixels, and one side at most {MAX_ASPECT} times the other')


def _check_fit(width: int, height: int, encoding: str) -> None:
    """Refuse sizes that an encoding cannot have, and those that OpenCV would answer with black."""
    if encoding in ('nv12', 'nv21') and (width % 2 or height % 2):
        raise FrameError(
            'bad_size', f'{width}x{height} in {encoding}; width and height must be even')
    if _CONVERSIONS[encoding][0] == 2 and width % 2:
        raise FrameError('bad_size', f'{width}x{height} in {encoding}; the width must be even')
    if encoding.startswith('bayer_') and min(width, height) < 3:
        raise FrameError('bad_size', f'{width}x{height} in {encoding}; expected at least 3x3')


def _integer(message: Any, name: str) -> int:
    value = getattr(message, name, None)
    try:
        number = operator.index(value)
    except TypeError:
        raise FrameError(
            'malformed', f'{name} is a {type(value).__name__}, expected an integer') from None
    if not 0 <= number <= 0xFFFFFFFF:
        raise FrameError('malformed', f'{name} is out of range, expected a uint32')
    return number


def _buffer(data: Any) -> memoryview:
    try:
        buffer = memoryview(data)
    except (TypeError, ValueError, BufferError):
        buffer = None
    if buffer is None or not buffer.c_contiguous:
        raise FrameError(
            'malformed', f'data is a {type(data).__name__}, expected bytes in one piece')
    return buffer


def _decode_compressed_message(message: Any) -> np.ndarray:
    name = message.format
    if not isinstance(name, str) or 'compressedDepth' in name or (
            name and not any(kind in name.lower() for kind in ('jpeg', 'jpg', 'png'))):
        raise FrameError(
            'unknown_encoding', f'no frame from compressed format {name!r:.60}; '
            'expected jpeg or png')
    # A camera's pixels, to which its calibration belongs, whatever way up a viewer shows them.
    return _picture(
        getattr(message, 'data', None), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)


def _picture(data: Any, flags: int) -> np.ndarray:
    """Return a JPEG or PNG as cv2.imdecode does with these flags."""
    data = bytes(_buffer(data))
    # OpenCV allocates what the header declares, prints its complaints, and fills what a JPEG
    # lacks with grey (version 4): hence the look beforehand.
    width, height, body = _compressed_size(data)
    _check_size(width, height)
    if data.find(b'IEND' if data.startswith(_PNG) else _JPEG_END, body) < 0:
        raise FrameError('truncated_data', f'a {width}x{height} picture is cut short')
    image = _imdecode(data, flags)
    if image is None:
        raise FrameError('corrupt_data', f'a {width}x{height} picture does not decode')
    if data.startswith(_JPEG) and _is_filled_up(data, image, flags):
        raise FrameError('truncated_data', f'a {width}x{height} picture lacks a part of its data')
    return image


def _imdecode(data: bytes, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None


def _is_filled_up(data: bytes, image: np.ndarray, flags: int) -> bool:
    """Return whether a JPEG's data ends before its pixels, as where a piece of it was lost."""
    if np.any(image[-4:, -4:] != _FILL):
        return False
    # It may be grey there. Then more data before the end marker is of no use to its decoder.
    pixels = data[:data.rfind(_JPEG_END)].rstrip(b'\xff')
    more = pixels + bytes(range(1, 128)) + _JPEG_END
    return not np.array_equal(_imdecode(more, flags), image)


def _compressed_size(data: bytes) -> tuple[int, int, int]:
    """Return the declared width and height of a PNG or JPEG and the offset of what follows."""
    if data.startswith(_PNG) and data[12:16] == b'IHDR' and len(data) >= 24:
        return *struct.unpack_from('>II', data, 16), 24
    at = 2 if data.startswith(_JPEG) else len(data)
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from('>HH', data, at + 5)
            return width, height, at + 9
        # 0xFF may be repeated in front of a marker.
        at += 1 if marker == 0xFF else 2 + struct.unpack_from('>H', data, at + 2)[0]
    raise FrameError('corrupt_data', f'{len(data)} bytes are neither a JPEG nor a PNG')
