"""TIFF, written by region: tiles are compressed and appended as soon as a row of them is complete.

tifffile asks for all tiles in order within one call; here they arrive as prediction makes them, so the few tags of a
baseline tiled TIFF (TIFF 6.0, section 15; BigTIFF where needed) are written by hand.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from unetkit.core.errors import DataError
from unetkit.core.files import atomic, disk_errors
from unetkit.core.region import Region
from unetkit.data.formats.base import Array, ImageWriter

TILE = 512
_COMPRESSION = {"none": 1, "lzw": 5, "deflate": 8, "zstd": 50000}
_BIG = 2**32 - 2**25  # 32 MB less than 4 GiB: room for the tags and for tiles that grow under compression
_SHORT, _LONG, _LONG8 = 3, 4, 16
_FORMATS = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}
_SAMPLE_FORMAT = {"u": 1, "i": 2, "f": 3}


class TiffWriter(ImageWriter):
    """Holds the rows of tiles that are begun; in row bands that is one or two rows, never the image."""

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int],
        channels: int,
        dtype: np.dtype[Any],
        palette: Sequence[tuple[int, int, int]] | None,
        compression: str,
    ) -> None:
        if dtype.kind not in _SAMPLE_FORMAT:
            raise DataError(f"{path}: a TIFF is written from integers or floats, not from {dtype}")
        if compression not in _COMPRESSION:
            raise DataError(f"{path}: the compression {compression!r} is not one of {', '.join(_COMPRESSION)}")
        super().__init__(path, shape, channels, dtype)
        self._palette = palette
        self._compression = compression
        self._tile = tuple(min(TILE, -(-n // 16) * 16) for n in shape)
        self._grid = tuple(-(-n // t) for n, t in zip(shape, self._tile, strict=True))
        self._colours = dtype in (np.uint8, np.uint16) and channels <= 4  # as a PNG: grey, grey+alpha, RGB, RGBA
        planes = 1 if self._colours else channels
        count = planes * self._grid[0] * self._grid[1]
        self._big = shape[0] * shape[1] * channels * dtype.itemsize + 16 * count > _BIG
        self._offsets, self._counts = [0] * count, [0] * count
        self._rows: dict[int, tuple[Array, int]] = {}  # tile row → its pixels (C, rows, W), pixels still missing

    def _open(self) -> None:
        temporary = self._cleanup.enter_context(atomic(self.path))
        self._file = self._cleanup.enter_context(temporary.open("wb"))
        head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) if self._big else struct.pack("<2sHI", b"II", 42, 0)
        self._file.write(head)

    def _write(self, region: Region, array_CYX: Array) -> None:
        (y0, x0), (y1, x1) = region.start, region.stop
        high = self._tile[0]
        for row in range(y0 // high, (y1 - 1) // high + 1):
            top, bottom = max(y0, row * high), min(y1, (row + 1) * high)
            if row not in self._rows:
                height = min(high, self.shape[0] - row * high)
                self._rows[row] = (np.zeros((self.channels, height, self.shape[1]), self.dtype), height * self.shape[1])
            pixels, missing = self._rows[row]
            pixels[:, top - row * high : bottom - row * high, x0:x1] = array_CYX[:, top - y0 : bottom - y0]
            missing -= (bottom - top) * (x1 - x0)
            self._rows[row] = (pixels, missing)
            if missing <= 0:
                with disk_errors(self.path):
                    self._append(row, self._rows.pop(row)[0])

    def _append(self, row: int, pixels_CYX: Array) -> None:
        high, wide = self._tile
        planes = [np.moveaxis(pixels_CYX, 0, -1)] if self._colours else [plane[..., None] for plane in pixels_CYX]
        for number, plane_YXC in enumerate(planes):
            for column in range(self._grid[1]):
                part = plane_YXC[:, column * wide : (column + 1) * wide]
                tile = np.zeros((high, wide, part.shape[2]), self.dtype.newbyteorder("<"))
                tile[: part.shape[0], : part.shape[1]] = part
                data = _compress(tile.tobytes(), self._compression)
                index = (number * self._grid[0] + row) * self._grid[1] + column
                self._offsets[index], self._counts[index] = self._file.tell(), len(data)
                self._file.write(data)

    def _finish(self) -> None:
        with disk_errors(self.path):
            self._file.write(b"\0" * (-self._file.tell() % 8))
            start = self._file.tell()
            self._file.write(_directory(self._tags(), start, self._big))
            self._file.seek(8 if self._big else 4)
            self._file.write(struct.pack("<Q" if self._big else "<I", start))
            self._file.flush()

    def _tags(self) -> list[tuple[int, int, list[int]]]:
        c, pointer = self.channels, _LONG8 if self._big else _LONG
        photometric = 3 if self._palette is not None else 2 if self._colours and c >= 3 else 1
        tags = [
            (256, _LONG, [self.shape[1]]),
            (257, _LONG, [self.shape[0]]),
            (258, _SHORT, [self.dtype.itemsize * 8] * c),
            (259, _SHORT, [_COMPRESSION[self._compression]]),
            (262, _SHORT, [photometric]),
            (277, _SHORT, [c]),
            (284, _SHORT, [1 if self._colours else 2]),
            (322, _SHORT, [self._tile[1]]),
            (323, _SHORT, [self._tile[0]]),
            (324, pointer, self._offsets),
            (325, pointer, self._counts),
            (339, _SHORT, [_SAMPLE_FORMAT[self.dtype.kind]] * c),
        ]
        extra = c - 3 if photometric == 2 else c - 1
        if extra:
            tags.append((338, _SHORT, [2 if self._colours else 0] * extra))
        if self._palette is not None:
            table = np.zeros((3, 2 ** (8 * self.dtype.itemsize)), np.uint16)
            table[:, : len(self._palette)] = np.array(self._palette, np.uint16).T * 257
            tags.append((320, _SHORT, table.ravel().tolist()))
        return sorted(tags)


def _compress(data: bytes, compression: str) -> bytes:
    if compression == "deflate":
        return bytes(imagecodecs.deflate_encode(data, level=6))
    if compression == "lzw":
        return bytes(imagecodecs.lzw_encode(data))
    if compression == "zstd":
        return bytes(imagecodecs.zstd_encode(data, level=3))
    return data


def _directory(tags: list[tuple[int, int, list[int]]], start: int, big: bool) -> bytes:
    """The image file directory that begins at byte `start`, with the values that do not fit in it behind it."""
    count, entry, inline = ("<Q", "<HHQ", 8) if big else ("<H", "<HHI", 4)
    head = struct.calcsize(count) + len(tags) * (struct.calcsize(entry) + inline) + inline
    body, tail = struct.pack(count, len(tags)), b""
    for code, kind, values in tags:
        data = struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)
        if len(data) > inline:
            position = start + head + len(tail)
            tail += data + b"\0" * (-len(data) % 8)
            data = struct.pack("<Q" if big else "<I", position)
        body += struct.pack(entry, code, kind, len(values)) + data.ljust(inline, b"\0")
    return body + b"\0" * inline + tail
