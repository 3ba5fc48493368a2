# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Every encoding is decoded right, and no message, however broken, does worse than FrameError."""

from __future__ import annotations

import array
import struct
from types import SimpleNamespace
import zlib

import cv2
from lmii_ros import frames
from lmii_ros.frames import FrameError
from lmii_ros.simulation import PinholeCamera
from lmii_ros.simulation import RoadScene
import numpy as np
import pytest
from rosbags.typesys import Stores
from rosbags.typesys import get_typestore

REASONS = {
    'unknown_encoding', 'bad_size', 'bad_step', 'truncated_data', 'corrupt_data', 'malformed'}
BLUE, GREEN, RED = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def message(encoding, data, width, height, step, is_bigendian=0):
    return SimpleNamespace(
        encoding=encoding, data=data, width=width, height=height, step=step,
        is_bigendian=is_bigendian)


def compressed(data, format='jpeg'):
    return SimpleNamespace(format=format, data=data)


def padded(rows, padding):
    """Return rows of bytes, each followed by padding of a value that must not be seen."""
    return b''.join(bytes(row) + b'\xaa' * padding for row in rows)


def reason(broken):
    with pytest.raises(FrameError) as caught:
        frames.decode(broken)
    assert '\n' not in str(caught.value)
    assert caught.value.reason in REASONS
    return caught.value.reason


@pytest.mark.parametrize('encoding, pixel, bgr', [
    ('bgr8', (10, 20, 30), (10, 20, 30)),
    ('8UC3', (10, 20, 30), (10, 20, 30)),
    ('rgb8', (10, 20, 30), (30, 20, 10)),
    ('bgra8', (10, 20, 30, 0), (10, 20, 30)),
    ('8UC4', (10, 20, 30, 0), (10, 20, 30)),
    ('rgba8', (10, 20, 30, 0), (30, 20, 10)),
    ('mono8', (77,), (77, 77, 77)),
    ('8UC1', (77,), (77, 77, 77)),
])
@pytest.mark.parametrize('padding', [0, 5])
def test_eight_bit_colours(encoding, pixel, bgr, padding):
    row = np.array(pixel * 6, np.uint8)
    other = np.zeros_like(row)
    data = padded([row, other, row, row], padding)
    image = frames.decode(message(encoding, data, 6, 4, len(row) + padding))
    assert image.dtype == np.uint8 and image.shape == (4, 6, 3)
    assert (image[[0, 2, 3]] == bgr).all()
    assert (image[1] == 0).all()


@pytest.mark.parametrize('encoding, pixel, bgr', [
    ('bgr16', (2, 0x1402, 65535), (0, 20, 255)),
    ('16UC3', (2, 0x1402, 65535), (0, 20, 255)),
    ('rgb16', (2, 0x1402, 65535), (255, 20, 0)),
    ('bgra16', (2, 0x1402, 65535, 9), (0, 20, 255)),
    ('16UC4', (2, 0x1402, 65535, 9), (0, 20, 255)),
    ('rgba16', (2, 0x1402, 65535, 9), (255, 20, 0)),
    ('mono16', (0xC8C0,), (200, 200, 200)),
    ('16UC1', (0xC8C0,), (200, 200, 200)),
])
@pytest.mark.parametrize('big_endian', [0, 1])
@pytest.mark.parametrize('padding', [0, 3])
def test_sixteen_bit_colours(encoding, pixel, bgr, big_endian, padding):
    row = np.array(pixel * 6, '>u2' if big_endian else '<u2').tobytes()
    data = padded([row] * 5, padding)
    image = frames.decode(message(encoding, data, 6, 5, len(row) + padding, big_endian))
    assert image.dtype == np.uint8 and image.shape == (5, 6, 3)
    assert (image == bgr).all()


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('color', [RED, GREEN, BLUE])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_bayer_patterns_name_the_first_four_pixels(pattern, color, bits):
    cells = [color['bgr'.index(letter)] * (257 if bits == 16 else 1) for letter in pattern]
    mosaic = np.tile(np.array(cells, f'<u{bits // 8}').reshape(2, 2), (4, 5))
    image = frames.decode(message(
        f'bayer_{pattern}{bits}', mosaic.tobytes(), 10, 8, 10 * bits // 8))
    assert image.shape == (8, 10, 3)
    assert (image == color).all()


def limited_range_bt601(y, u, v):
    red = 1.164 * (y - 16) + 1.596 * (v - 128)
    green = 1.164 * (y - 16) - 0.813 * (v - 128) - 0.391 * (u - 128)
    blue = 1.164 * (y - 16) + 2.018 * (u - 128)
    return np.clip([blue, green, red], 0, 255)


@pytest.mark.parametrize('encoding, order', [
    ('uyvy', 'uyvy'), ('yuv422', 'uyvy'), ('yuyv', 'yuyv'), ('yuv422_yuy2', 'yuyv')])
@pytest.mark.parametrize('padding', [0, 6])
def test_yuv_422(encoding, order, padding):
    left, right = dict(y=90, u=60, v=200), dict(y=150, u=170, v=110)
    row = [left[name] for name in order] + [right[name] for name in order]
    image = frames.decode(message(encoding, padded([row] * 3, padding), 4, 3, 8 + padding))
    assert image.shape == (3, 4, 3)
    assert np.abs(image[:, :2] - limited_range_bt601(**left)).max() <= 2
    assert np.abs(image[:, 2:] - limited_range_bt601(**right)).max() <= 2


@pytest.mark.parametrize('encoding, chroma', [('nv12', (60, 200)), ('nv21', (200, 60))])
@pytest.mark.parametrize('padding', [0, 6])
def test_yuv_420_has_its_chroma_rows_after_the_image_rows(encoding, chroma, padding):
    rows = [[90] * 6] * 4 + [chroma * 3] * 2
    image = frames.decode(message(encoding, padded(rows, padding), 6, 4, 6 + padding))
    assert image.shape == (4, 6, 3)
    assert np.abs(image - limited_range_bt601(90, 60, 200)).max() <= 2


def test_bgr8_is_a_view_also_with_padded_rows():
    data = np.zeros(3 * 20, np.uint8)
    image = frames.decode(message('bgr8', data, 4, 3, 20))
    data[20 + 5] = 9
    assert np.shares_memory(image, data)
    assert image[1, 1, 2] == 9


@pytest.mark.parametrize('kind', [bytes, bytearray, lambda data: array.array('B', data)])
def test_all_kinds_of_data_field(kind):
    image = frames.decode(message('rgb8', kind(bytes(range(12))), 2, 2, 6))
    assert image[1, 1].tolist() == [11, 10, 9]


def test_messages_of_rosbags():
    types = get_typestore(Stores.ROS2_HUMBLE).types
    header = types['std_msgs/msg/Header'](types['builtin_interfaces/msg/Time'](0, 0), '')
    raw = types['sensor_msgs/msg/Image'](
        header, 1, 2, 'rgb8', 0, 6, np.arange(6, dtype=np.uint8))
    assert frames.decode(raw).tolist() == [[[2, 1, 0], [5, 4, 3]]]
    png = cv2.imencode('.png', np.full((3, 4, 3), (1, 2, 3), np.uint8))[1]
    picture = types['sensor_msgs/msg/CompressedImage'](header, 'png', png.reshape(-1))
    assert (frames.decode(picture) == (1, 2, 3)).all()


def test_data_may_be_longer_and_need_not_end_in_padding():
    data = bytes(range(3)) * 2
    assert frames.decode(message('mono8', data + b'more', 3, 2, 3)).shape == (2, 3, 3)
    unpadded_end = bytes([1, 2, 3, 0, 4, 5, 6])
    image = frames.decode(message('mono8', unpadded_end, 3, 2, 4))
    assert image[..., 0].tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize('encoding, width, height, step, size', [
    ('bgr8', 4, 3, 12, 36), ('mono16', 4, 3, 8, 24), ('uyvy', 4, 3, 8, 24),
    ('nv12', 4, 4, 4, 24), ('nv21', 4, 4, 8, 44), ('bayer_rggb8', 4, 3, 4, 12),
    ('rgb8', 4, 3, 15, 42)])
def test_one_byte_too_few_is_refused(encoding, width, height, step, size):
    frames.decode(message(encoding, bytes(size), width, height, step))
    assert reason(message(
        encoding, bytes(size - 1), width, height, step)) == 'truncated_data'


@pytest.mark.parametrize('encoding, width, step', [
    ('bgr8', 4, 11), ('mono8', 4, 0), ('mono16', 4, 7), ('uyvy', 4, 7), ('nv12', 4, 3)])
def test_step_shorter_than_a_row_is_refused(encoding, width, step):
    assert reason(message(encoding, bytes(1000), width, 4, step)) == 'bad_step'


@pytest.mark.parametrize('encoding, width, height', [
    ('bgr8', 0, 4), ('bgr8', 4, 0), ('mono8', 65536, 65536), ('mono8', 1, 2**32 - 1),
    ('mono8', 1, 17), ('mono8', 33, 2), ('nv12', 3, 4), ('nv12', 4, 3), ('uyvy', 3, 4),
    ('bayer_rggb8', 2, 9)])
def test_sizes_that_cannot_be_are_refused(encoding, width, height):
    assert reason(message(encoding, bytes(100), width, height, 8)) == 'bad_size'


@pytest.mark.parametrize('encoding', ['', 'BGR8', '32FC1', 'nv24', '8UC2', '8UC', None, 7, []])
def test_other_encodings_are_refused_with_those_there_are(encoding):
    assert reason(message(encoding, bytes(100), 2, 2, 8)) == 'unknown_encoding'
    with pytest.raises(FrameError, match='bgr8, rgb8'):
        frames.decode(message(encoding, bytes(100), 2, 2, 8))


@pytest.mark.parametrize('field, value', [
    ('width', -1), ('height', 2.0), ('step', None), ('width', 'wide'),
    pytest.param('step', 10**5000, id='step-too-long-to-print'),
    ('is_bigendian', 'no'), ('data', 'text'), ('data', None), ('data', [1, 2]),
    ('data', np.zeros((30, 30), np.uint8)[:, ::2])])
def test_fields_of_another_kind_are_refused(field, value):
    broken = message('mono8', bytes(100), 4, 4, 4)
    setattr(broken, field, value)
    assert reason(broken) == 'malformed'


def test_garbage_never_does_worse_than_frame_error():
    rng = np.random.default_rng(1)
    encodings = [*frames.ENCODINGS, 'nv24', '', None, 5]
    numbers = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 31, 32, 64, -1, 2**31, 2**32, 2**64, None,
               1.5, float('nan'), '4', True, np.int32(6), np.uint8(4)]
    datas = [b'', None, 'x', np.zeros(50), np.zeros((4, 4, 3), np.uint8), [1], object()]
    decoded = 0
    for _ in range(6000):
        def pick(values):
            return values[rng.integers(len(values))]
        data = pick(datas) if rng.random() < 0.1 else rng.bytes(int(rng.integers(0, 800)))
        broken = message(
            pick(encodings), data, pick(numbers), pick(numbers), pick(numbers), pick(numbers))
        if rng.random() < 0.1:
            delattr(broken, pick(['width', 'height', 'step', 'data', 'encoding']))
        try:
            image = frames.decode(broken)
        except FrameError as error:
            assert error.reason in REASONS
        else:
            decoded += 1
            assert image.dtype == np.uint8
            assert image.shape == (broken.height, broken.width, 3)
    assert decoded > 50
    for thing in (None, 5, object(), compressed(None), SimpleNamespace(format='jpeg')):
        reason(thing)


@pytest.fixture(scope='module')
def picture():
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    return np.stack(np.broadcast_arrays(ramp[None, :], ramp[:48, None], np.uint8(90)), axis=-1)


@pytest.mark.parametrize('extension, format', [
    ('.jpg', 'jpeg'), ('.jpg', 'bgr8; jpeg compressed bgr8'), ('.png', 'png'),
    ('.png', 'rgb8; png compressed'), ('.jpg', '')])
def test_compressed_colour(picture, extension, format):
    data = cv2.imencode(extension, picture)[1]
    image = frames.decode(compressed(data.tobytes() + bytes(5), format))
    assert image.shape == (48, 64, 3) and image.dtype == np.uint8
    assert np.abs(image.astype(int) - picture).mean() < (2 if extension == '.jpg' else 0.001)


@pytest.mark.parametrize('stored, expected', [
    (np.full((4, 5), 40, np.uint8), (40, 40, 40)),
    (np.full((4, 5), 257 * 40, np.uint16), (40, 40, 40)),
    (np.full((4, 5, 3), (257 * 1, 257 * 2, 257 * 3), np.uint16), (1, 2, 3)),
    (np.full((4, 5, 4), (1, 2, 3, 0), np.uint8), (1, 2, 3))])
def test_other_kinds_of_png_give_bgr8_too(stored, expected):
    image = frames.decode(compressed(cv2.imencode('.png', stored)[1].tobytes(), 'png'))
    assert image.dtype == np.uint8 and image.shape == (4, 5, 3)
    assert (image == expected).all()


@pytest.mark.parametrize('format', ['16UC1; compressedDepth png', 'h264', None, 3])
def test_other_compressions_are_refused(picture, format):
    data = cv2.imencode('.png', picture)[1].tobytes()
    assert reason(compressed(data, format)) == 'unknown_encoding'


@pytest.mark.parametrize('extension', ['.jpg', '.png'])
def test_compressed_data_cut_short_is_refused(picture, extension, capfd):
    data = cv2.imencode(extension, picture)[1].tobytes()
    for size in (*range(0, len(data) - 20, 37), len(data) - 13, len(data) - 9, len(data) - 1):
        if extension == '.png' and size > len(data) - 5:
            continue
        assert reason(compressed(data[:size])) in ('truncated_data', 'corrupt_data')
    assert capfd.readouterr().err == ''


@pytest.fixture(scope='module')
def road():
    return RoadScene(seed=0, camera=PinholeCamera.from_fov(320, 248)).render(1.0).image


@pytest.mark.parametrize('grey', [False, True])
def test_a_jpeg_that_lacks_a_part_is_refused_and_a_grey_one_is_not(road, grey):
    picture = cv2.cvtColor(road, cv2.COLOR_BGR2GRAY) if grey else road
    data = cv2.imencode('.jpg', picture)[1].tobytes()
    frames.decode(compressed(data))
    for lost in (len(data) // 3, len(data) // 10):
        for start in range(800, len(data) - lost - 2, 500):
            assert reason(compressed(data[:start] + data[start + lost:])) == 'truncated_data'
            assert reason(compressed(data[:start] + data[-2:])) == 'truncated_data'
    for rows in (1, 8, 40, len(picture)):
        masked = picture.copy()
        masked[-rows:] = 128
        frames.decode(compressed(cv2.imencode('.jpg', masked)[1].tobytes()))


def test_a_jpeg_of_a_message_is_not_turned_the_way_up_that_it_names(road):
    data = cv2.imencode('.jpg', road)[1].tobytes()
    quarter_turn = b'MM\x00*' + struct.pack('>IHHHIHHI', 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b'Exif\0\0' + quarter_turn
    turned = data[:2] + b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif + data[2:]
    assert np.array_equal(frames.decode(compressed(turned)), frames.decode(compressed(data)))
    assert frames.decode_compressed(turned).shape == (320, 248, 3)


@pytest.mark.parametrize('extension', ['.jpg', '.png'])
def test_garbage_in_compressed_data_never_does_worse_than_frame_error(picture, extension):
    rng = np.random.default_rng(2)
    data = cv2.imencode(extension, picture)[1].reshape(-1)
    for _ in range(100):
        broken = data.copy()
        places = rng.integers(0, len(data), int(rng.integers(1, 6)))
        broken[places] = rng.integers(0, 256, len(places))
        try:
            image = frames.decode(compressed(broken))
        except FrameError as error:
            assert error.reason in REASONS
        else:
            assert image.dtype == np.uint8 and image.ndim == 3


def test_bombs_are_refused_before_decoding(picture):
    def chunk(name, body):
        return struct.pack('>I', len(body)) + name + body + struct.pack(
            '>I', zlib.crc32(name + body))

    png = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack(
        '>IIBBBBB', 30000, 30000, 8, 0, 0, 0, 0)) + chunk(b'IDAT', b'') + chunk(b'IEND', b'')
    assert reason(compressed(png, 'png')) == 'bad_size'
    jpeg = bytearray(cv2.imencode('.jpg', picture)[1].tobytes())
    start = jpeg.index(b'\xff\xc0')
    jpeg[start + 5:start + 9] = struct.pack('>HH', 60000, 60000)
    assert reason(compressed(jpeg)) == 'bad_size'


def test_labels_are_the_values_of_the_message():
    data = np.arange(3 * 8, dtype=np.uint8)
    for encoding in ('mono8', '8UC1'):
        labels = frames.decode_labels(message(encoding, data, 5, 3, 8))
        assert labels.dtype == np.uint8
        assert labels.tolist() == [[0, 1, 2, 3, 4], [8, 9, 10, 11, 12], [16, 17, 18, 19, 20]]
    for broken, expected in [
            (message('bgr8', bytes(99), 5, 3, 15), 'unknown_encoding'),
            (message('mono8', bytes(14), 5, 3, 5), 'truncated_data'),
            (compressed(b''), 'corrupt_data')]:
        with pytest.raises(FrameError) as caught:
            frames.decode_labels(broken)
        assert caught.value.reason == expected


def test_labels_of_a_png_are_its_values_or_refused():
    labels = np.array([[0, 1, 10], [255, 7, 3]], np.uint8)
    png = cv2.imencode('.png', labels)[1]
    assert (frames.decode_label_png(png) == labels).all()
    assert (frames.decode_labels(compressed(png, 'png')) == labels).all()
    for extension, stored in [
            ('.png', np.dstack([labels] * 3)), ('.png', labels.astype(np.uint16)),
            ('.jpg', labels)]:
        with pytest.raises(FrameError, match='one 8-bit channel'):
            frames.decode_label_png(cv2.imencode(extension, stored)[1])


@pytest.mark.parametrize('encoding', [
    'bgr8', 'rgb8', 'bgra8', 'rgba8', 'mono8', 'mono16', 'uyvy', 'yuv422', 'yuyv',
    'yuv422_yuy2', 'nv12', 'nv21', 'bayer_rggb8', 'bayer_bggr8', 'bayer_gbrg8', 'bayer_grbg8'])
def test_an_encoded_frame_looks_the_same(encoding, picture):
    data, step = frames.encode(picture, encoding)
    assert data.dtype == np.uint8 and data.flags.c_contiguous and data.shape[1] == step
    image = frames.decode(message(encoding, data.tobytes(), 64, 48, step))
    expected = picture.astype(float)
    if encoding.startswith('mono'):
        expected = (expected @ (0.114, 0.587, 0.299))[..., None]
    error = np.abs(image - expected)[2:-2, 2:-2]
    assert error.max() <= (1 if encoding[-1] == '8' and 'bayer' not in encoding else 6)


def test_an_encoded_mosaic_takes_each_pixel_from_its_place(picture):
    data, _ = frames.encode(picture, 'bayer_grbg8')
    assert (data[::2, ::2] == picture[::2, ::2, 1]).all()
    assert (data[::2, 1::2] == picture[::2, 1::2, 2]).all()
    assert (data[1::2, ::2] == picture[1::2, ::2, 0]).all()
    assert (data[1::2, 1::2] == picture[1::2, 1::2, 1]).all()


def test_what_cannot_be_encoded_is_refused():
    frame = np.zeros((4, 6, 3), np.uint8)
    for encoding in ('rgb16', 'nv24', 'bayer_xxxx8', ''):
        with pytest.raises(FrameError, match='expected one of: bgr8'):
            frames.encode(frame, encoding)
    with pytest.raises(FrameError, match='must be even'):
        frames.encode(frame[:3], 'nv12')
    with pytest.raises(FrameError, match=r'expected uint8 \[H, W, 3\]'):
        frames.encode(frame[..., 0], 'mono8')
