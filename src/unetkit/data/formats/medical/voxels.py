"""Voxels that stand one after another in a file or in memory: read and written by region, in bounded memory.

Compressed streams cannot be entered in the middle: they are unpacked once, into memory where that is little, and else
into a temporary file that has no name, so that nothing of it is left however the process ends.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from unetkit.core.files import disk_errors
from unetkit.core.region import Region
from unetkit.data.formats.base import Array

IN_MEMORY = 256 * 2**20
"""Bytes of unpacked voxels that a reader keeps in memory; more of them go to a temporary file."""

_BUFFER = 8 * 2**20  # bytes read or written at once
_PACKED = 256 * 2**10  # bytes of a compressed stream read at once


@dataclass(frozen=True, slots=True)
class Layout:
    """How voxels stand in a file: the first axis of space varies fastest.

    shape: of space, at most three axes. dtype: with its byte order. interleaved: the channels of a voxel stand side by
    side; else one channel comes after another. offset: the byte at which the first voxel begins.
    """

    shape: tuple[int, ...]
    channels: int
    dtype: np.dtype[Any]
    interleaved: bool = False
    offset: int = 0

    @property
    def sides(self) -> tuple[int, int, int]:
        """(columns, rows, planes), the columns side by side in the file."""
        columns, rows, planes = (*self.shape, 1, 1)[:3]
        return columns, rows, planes

    @property
    def parts(self) -> int:
        """How many volumes follow each other: the channels, or one where they are interleaved."""
        return 1 if self.interleaved else self.channels

    @property
    def row(self) -> int:
        """Values of one row."""
        return self.shape[0] * (self.channels if self.interleaved else 1)

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels."""
        return self.parts * self.row * self.sides[1] * self.sides[2] * self.dtype.itemsize

    def box(self, region: Region) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """The (start, stop) of a region in columns, rows and planes."""
        x, y, z = (*zip(region.start, region.stop, strict=True), (0, 1), (0, 1))[:3]
        return x, y, z


class RawFile(Protocol):
    """Bytes at places: a file, or memory."""

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill `view` from byte `offset` on. Raises EOFError: it ends before."""

    def write_at(self, offset: int, data: memoryview) -> None:
        """Put `data` at byte `offset`. Raises MachineError: the disk is full."""

    def close(self) -> None:
        """Let go of it."""


class DiskFile:
    """A file, entered anywhere without a mapping: pages that were touched do not count as memory of the process."""

    def __init__(self, handle: int, path: Path) -> None:
        """`handle` is closed by `close`; `path` is what errors name."""
        self._handle = handle
        self._path = path

    def read_into(self, offset: int, view: memoryview) -> None:
        """As in `RawFile`."""
        while view:
            if not (count := os.preadv(self._handle, [view], offset)):
                raise EOFError(f"voxels are missing from byte {offset} on")
            offset, view = offset + count, view[count:]

    def write_at(self, offset: int, data: memoryview) -> None:
        """As in `RawFile`."""
        with disk_errors(self._path):
            while data:
                count = os.pwrite(self._handle, data, offset)
                offset, data = offset + count, data[count:]

    def close(self) -> None:
        """As in `RawFile`."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1


class MemoryFile:
    """The same in memory, zeros at first."""

    def __init__(self, size: int) -> None:
        self._bytes = np.zeros(size, np.uint8)

    def read_into(self, offset: int, view: memoryview) -> None:
        """As in `RawFile`."""
        view[:] = self._bytes[offset : offset + len(view)].data

    def write_at(self, offset: int, data: memoryview) -> None:
        """As in `RawFile`."""
        self._bytes[offset : offset + len(data)] = np.frombuffer(data, np.uint8)

    def close(self) -> None:
        """As in `RawFile`."""
        self._bytes = np.zeros(0, np.uint8)


def open_file(path: Path) -> DiskFile:
    """A file to read from. Raises OSError."""
    return DiskFile(os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)), path)


def roomy() -> Path:
    """Where the system keeps large temporary files: TMPDIR, or /var/tmp (/tmp is often kept in memory)."""
    large = Path("/var/tmp")
    return large if not os.environ.get("TMPDIR") and os.access(large, os.W_OK) else Path(tempfile.gettempdir())


def scratch(size: int, folder: Path | None = None) -> RawFile:
    """Room for `size` bytes, zeros at first: memory, or a temporary file without a name where it is much.

    folder: where the file shall lie, however small it is; None: `roomy`. Raises MachineError: no room, or not allowed.
    """
    if folder is None:
        if size <= IN_MEMORY:
            return MemoryFile(size)
        folder = roomy()
    with disk_errors(folder), tempfile.TemporaryFile(dir=folder) as file:
        os.ftruncate(file.fileno(), size)
        return DiskFile(os.dup(file.fileno()), folder)


class Voxels:
    """The voxels of a file, by region. A read holds its result and a few megabytes."""

    def __init__(self, layout: Layout, file: RawFile) -> None:
        self.layout = layout
        self._file = file

    def read(self, region: Region) -> Array:
        """(C, *region) in native byte order. Raises EOFError: the file ends before."""
        layout = self.layout
        (x0, x1), (y0, y1), (z0, z1) = layout.box(region)
        side = layout.channels if layout.interleaved else 1
        out = np.empty((layout.channels, x1 - x0, y1 - y0, z1 - z0), layout.dtype.newbyteorder("="))
        if out.size:
            for part, (a, b), (k, m) in self._steps((y0, y1), (z0, z1)):
                block = np.empty((m - k, b - a, layout.row), layout.dtype)
                for offset, rows in self._runs(block, part, a, k):
                    self._file.read_into(offset, _bytes(rows))
                values = block.reshape(m - k, b - a, layout.shape[0], side)[:, :, x0:x1].transpose(3, 2, 1, 0)
                out[part : part + side, :, a - y0 : b - y0, k - z0 : m - z0] = values
        return out.reshape(layout.channels, *region.shape)

    def write(self, region: Region, array_CX: Array, first: int = 0) -> None:
        """Put (C, *region) in its place, from part `first` on. Raises MachineError: the disk is full."""
        layout = self.layout
        (x0, x1), (y0, y1), (z0, z1) = layout.box(region)
        side = layout.channels if layout.interleaved else 1
        array_CXYZ = array_CX.reshape(layout.channels, x1 - x0, y1 - y0, z1 - z0)
        for part, (a, b), (k, m) in self._steps((y0, y1), (z0, z1), first):
            values = array_CXYZ[part : part + side, :, a - y0 : b - y0, k - z0 : m - z0].transpose(3, 2, 1, 0)
            if (x0, x1) == (0, layout.shape[0]):
                block = np.ascontiguousarray(values, layout.dtype).reshape(m - k, b - a, layout.row)
            else:  # rows that are written in pieces: what stands beside is kept
                block = np.empty((m - k, b - a, layout.row), layout.dtype)
                for offset, rows in self._runs(block, part, a, k):
                    self._file.read_into(offset, _bytes(rows))
                block.reshape(m - k, b - a, layout.shape[0], side)[:, :, x0:x1] = values
            for offset, rows in self._runs(block, part, a, k):
                self._file.write_at(offset, _bytes(rows))

    def read_bytes(self, offset: int, out: Array) -> None:
        """Fill an array of bytes from byte `offset` behind the first voxel on. Raises EOFError."""
        self._file.read_into(self.layout.offset + offset, _bytes(out))

    def close(self) -> None:
        """Let go of the file; a temporary one is gone then."""
        self._file.close()

    def _steps(
        self, rows: tuple[int, int], planes: tuple[int, int], first: int = 0
    ) -> Iterator[tuple[int, tuple[int, int], tuple[int, int]]]:
        """(part, rows, planes) of steps that hold no more than the buffer, or one row, each."""
        count = max(1, _BUFFER // (self.layout.row * self.layout.dtype.itemsize))
        high = min(count, rows[1] - rows[0])
        deep = max(1, count // max(1, high)) if high == rows[1] - rows[0] else 1
        for part in range(first, self.layout.parts):
            for k in range(planes[0], planes[1], deep):
                for a in range(rows[0], rows[1], max(1, high)):
                    yield part, (a, min(rows[1], a + high)), (k, min(planes[1], k + deep))

    def _runs(self, block: Array, part: int, row: int, plane: int) -> Iterator[tuple[int, Array]]:
        """(byte in the file, rows of the block) of each stretch of the file that a block (planes, rows, values) is."""
        layout = self.layout
        _, high, deep = layout.sides
        size = layout.row * layout.dtype.itemsize
        pieces = [block] if block.shape[1] == high else list(block)
        for number, piece in enumerate(pieces):
            yield layout.offset + ((part * deep + plane + number) * high + row) * size, piece


def _bytes(array: Array) -> memoryview:
    """The memory of a contiguous array, whatever the byte order of its values."""
    return array.reshape(-1).view(np.uint8).data


def unpack(path: Path, layout: Layout, begin: int = 0) -> Voxels:
    """The voxels of a compressed stream that begins at byte `begin` of a file. `layout.offset` counts unpacked bytes.

    Raises EOFError, zlib.error: truncated or damaged; MachineError: no room for the temporary file.
    """
    room = scratch(layout.nbytes)
    try:
        at = -layout.offset
        for piece in inflated(path, begin):
            inside = memoryview(piece)[max(0, -at) : max(0, layout.nbytes - at)]
            if inside:
                room.write_at(max(0, at), inside)
            at += len(piece)
        if at < layout.nbytes:
            raise EOFError(f"{max(0, at)} of {layout.nbytes} bytes of voxels are there")
        return Voxels(Layout(layout.shape, layout.channels, layout.dtype, layout.interleaved), room)
    except BaseException:
        room.close()
        raise


def inflated(path: Path, begin: int = 0) -> Iterator[bytes]:
    """What gzip members or a zlib stream, from byte `begin` of a file on, hold: in pieces of a few megabytes.

    Checksums are compared. Raises EOFError: the file ends before the stream does; zlib.error: damaged; OSError.
    """
    with path.open("rb") as file:
        file.seek(begin)
        stream, data = zlib.decompressobj(47), file.read(_PACKED)
        while True:
            piece = stream.decompress(data, _BUFFER)
            if piece:
                yield piece
            if stream.eof:
                data = (stream.unused_data or file.read(_PACKED)).lstrip(b"\0")
                data += file.read(_PACKED) if len(data) == 1 else b""
                if not data.startswith(b"\x1f\x8b"):
                    return  # no further member: whatever stands behind is nothing of ours
                stream = zlib.decompressobj(47)
            elif stream.unconsumed_tail:
                data = stream.unconsumed_tail
            elif len(piece) == _BUFFER:
                data = b""  # more may wait inside
            elif not (data := file.read(_PACKED)):
                raise EOFError("the compressed stream ends early")
