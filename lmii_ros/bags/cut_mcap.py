# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""Mcap files without their end, as a recorder that was killed or had a full disk leaves them."""

from __future__ import annotations

import io
import struct
from binascii import crc32
from pathlib import Path
from typing import Any
from typing import BinaryIO

from rosbags.rosbag2.storage_mcap import DECOMPRESSORS

_MCAP_MAGIC = b'\x89MCAP0\r\n'
_CHUNK = 0x06
_MCAP_FOOTER = b'\x02' + (20).to_bytes(8, 'little') + bytes(20) + _MCAP_MAGIC


def is_cut(path: Path) -> bool:
    """Return whether a file is an mcap file without its end."""
    with path.open('rb') as file:
        if file.read(len(_MCAP_MAGIC)) != _MCAP_MAGIC:
            return False
        file.seek(-len(_MCAP_MAGIC), io.SEEK_END)
        return file.read() != _MCAP_MAGIC


class CutMcap:
    """An mcap file without its end, in the place of a path to a whole one."""

    suffix = '.mcap'

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        return True

    def is_dir(self) -> bool:
        return False

    def open(self, mode: str) -> BinaryIO:
        return io.BufferedReader(_WholeRecords(self.path))


class _WholeRecords(io.RawIOBase):
    """
    The whole records of an mcap file and an empty footer: what rosbags reads by scanning.

    They end before the first chunk that is damaged, since rosbags refuses a file with one.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open('rb')
        self._at = 0
        self._length = len(_MCAP_MAGIC)
        size = path.stat().st_size
        while True:
            self._file.seek(self._length)
            head = self._file.read(9)
            end = self._length + 9 + int.from_bytes(head[1:], 'little')
            # Zeros follow after a power failure, to a scan millions of empty records.
            if len(head) < 9 or end > size or head[0] == 0:
                break
            if head[0] == _CHUNK and not _is_whole(self._file.read(end - self._length - 9)):
                break
            self._length = end

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._length + len(_MCAP_FOOTER))[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at < self._length:
            self._file.seek(self._at)
            count = self._file.readinto(memoryview(buffer)[:self._length - self._at])
        else:
            tail = _MCAP_FOOTER[self._at - self._length:][:len(buffer)]
            buffer[:len(tail)] = tail
            count = len(tail)
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _is_whole(chunk: bytes) -> bool:
    """Return whether the content of a chunk is as it was written, of which not all may tell."""
    try:
        size, checksum, length = struct.unpack_from('<QII', chunk, 16)
        compression = chunk[32:32 + length].decode()
        compressed_size, = struct.unpack_from('<Q', chunk, 32 + length)
        compressed = chunk[40 + length:40 + length + compressed_size]
        records = DECOMPRESSORS[compression](compressed, size)
    # Decompressing damaged bytes can raise anything.
    except Exception:
        return False
    at = 0
    while at + 9 <= len(records) and records[at] != 0:
        at += 9 + int.from_bytes(records[at + 1:at + 9], 'little')
    return at == len(records) == size and (not checksum or crc32(records) == checksum)
