"""The pages of a TIFF as one array that is read by index: only the strips or tiles that it touches are decoded."""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unetkit.core.errors import DataError
from unetkit.data.formats.base import Array, unreadable

CACHE_BYTES = 128 * 2**20
"""Decoded strips and tiles that a reader keeps, so that neighbouring regions do not decode the same strips again."""


class Pages:
    """The array of a series of pages (one level of a pyramid), in the axes and the lengths that tifffile gives it.

    chunk: how much of each axis is decoded at once; None: what is asked for is read, no more.
    """

    def __init__(self, path: Path, tif: Any, series: Any) -> None:
        self._path, self._tif, self._series = path, tif, series
        self.page = series.keyframe
        self.shape = tuple(int(n) for n in series.get_shape(squeeze=False))
        self.names = str(series.get_axes(squeeze=False))
        self.dtype = np.dtype(series.dtype)
        self._native = self.dtype.newbyteorder("=")
        offset = None if series.is_multifile else series.dataoffset
        self._offset: int | None = offset if offset is not None and self.dtype.kind != "b" else None
        self._outer = self._layout()
        self.chunk = self._chunk()
        self.cache: OrderedDict[tuple[int, int], tuple[tuple[int, ...], Array]] = OrderedDict()
        self.cached = 0
        self._whole: Array | None = None
        self._check()

    def _layout(self) -> int | None:
        """How many of the axes longer than 1 lie across pages; None: the pages do not follow the axes."""
        long = [n for n in self.shape if n > 1]
        inner = [n for n in self.page.shaped if n > 1]
        outer = len(long) - len(inner)
        fits = outer >= 0 and long[outer:] == inner and math.prod(long[:outer]) == len(self._series)
        strips_in_depth = self.page.imagedepth > 1 and not self.page.is_tiled
        return outer if fits and not strips_in_depth else None

    def _segment_shape(self) -> tuple[int, int, int]:
        """Depth, rows and columns of a strip or tile."""
        page = self.page
        if page.is_tiled:
            return int(page.tiledepth), int(page.tilelength), int(page.tilewidth)
        return 1, max(1, min(int(page.rowsperstrip), int(page.imagelength))), int(page.imagewidth)

    def _chunk(self) -> tuple[int, ...] | None:
        if self._offset is not None or self._outer is None:
            return None
        page = self.page
        samples = (1, int(page.shaped[4]))
        pieces = (samples[0], *self._segment_shape(), samples[1])
        inner = iter(min(p, n) for p, n in zip(pieces, page.shaped, strict=True) if n > 1)
        long = iter([1] * self._outer + list(inner))
        return tuple(1 if n == 1 else next(long) for n in self.shape)

    def _check(self) -> None:
        """Every plane must be there, and every strip and tile lie inside the file: known before anything is decoded."""
        if self._offset is not None:
            self._ends(self._offset + math.prod(self.shape) * self.dtype.itemsize, self._tif.filehandle)
            return
        if missing := sum(page is None for page in self._series):
            raise DataError(
                f"{self._path}: {missing} of its {len(self._series)} planes are missing; export it again, whole"
            )
        for page in self._series:
            count = min(len(page.dataoffsets), len(page.databytecounts))
            ends = np.add(page.dataoffsets[:count], page.databytecounts[:count], dtype=np.int64)
            self._ends(int(ends.max(initial=0)), page.parent.filehandle)

    def _ends(self, end: int, handle: Any) -> None:
        if end > int(handle.size):
            raise unreadable(Path(handle.path), f"pixels end at byte {end}, the file at byte {handle.size}")

    def take(self, index: Sequence[slice]) -> Array:
        """The part of the array at `index` (a slice for each axis), native byte order. What decoders raise."""
        lengths = [part.stop - part.start for part in index]
        if 0 in lengths:
            return np.zeros(lengths, self._native)
        if self._offset is not None:
            # a mapping for each read: pages that were touched do not stay in memory
            kind = self.dtype.newbyteorder(self._tif.byteorder)
            mapped = np.memmap(self._tif.filehandle.path, kind, "r", self._offset, self.shape)
            return np.array(mapped[tuple(index)], self._native)
        if self._outer is not None:
            return self._from_segments(index)
        if self._whole is None:
            self._whole = np.asarray(self._series.asarray()).reshape(self.shape)
        return np.array(self._whole[tuple(index)], self._native)

    def _from_segments(self, index: Sequence[slice]) -> Array:
        long = [part for part, n in zip(index, self.shape, strict=True) if n > 1]
        sizes = [n for n in self.shape if n > 1][: self._outer]
        outer, rest = long[: self._outer], iter(long[self._outer :])
        inner = [slice(0, 1) if n == 1 else next(rest) for n in self.page.shaped]  # samples, depth, rows, columns, …
        box = [part.stop - part.start for part in inner]
        out = np.zeros((math.prod(part.stop - part.start for part in outer), *box), self._native)
        touched = self._segments_of(inner)
        for place, position in enumerate(itertools.product(*(range(part.start, part.stop) for part in outer))):
            number = int(np.ravel_multi_index(position, sizes)) if sizes else 0
            for segment in touched:
                _lay(out[place], inner, *self._segment(number, segment))
        return out.reshape([part.stop - part.start for part in index])

    def _segments_of(self, inner: Sequence[slice]) -> list[int]:
        """Numbers of the strips or tiles that a part of a page touches, in the order of the file."""
        page, high = self.page, self._segment_shape()
        counts = [-(-int(n) // h) for n, h in zip(page.shaped[1:4], high, strict=True)]
        ranges = [range(p.start // h, (p.stop - 1) // h + 1) for p, h in zip(inner[1:4], high, strict=True)]
        samples = range(inner[0].start, inner[0].stop)
        return [int(np.ravel_multi_index(at[1:], counts)) + at[0] * math.prod(counts)
                for at in itertools.product(samples, *ranges)]  # fmt: skip

    def _segment(self, number: int, index: int) -> tuple[tuple[int, ...], Array]:
        """((sample, depth, row, column) where it begins, pixels (depth, rows, columns, samples)) of one decoded strip
        or tile; the last ones are kept."""
        if (number, index) in self.cache:
            self.cache.move_to_end((number, index))
            return self.cache[number, index]
        page = self._series[number]
        data = _bytes(page, index)
        tables = page.jpegtables if page.jpegtables is not None else self.page.jpegtables
        decoded, position, shape = self.page.decode(data, index, jpegtables=tables)
        pixels = np.full(shape, self.page.nodata, self._native) if decoded is None else decoded
        entry = (tuple(int(p) for p in position[:4]), pixels)
        self.cache[number, index] = entry
        self.cached += pixels.nbytes
        while self.cached > CACHE_BYTES and len(self.cache) > 1:
            self.cached -= self.cache.popitem(last=False)[1][1].nbytes
        return entry

    @property
    def grows(self) -> int:
        """Bytes that may come to be kept, besides what is."""
        if self._offset is not None:
            return 0
        whole = int(math.prod(self.shape) * self.dtype.itemsize)
        most = whole if self._outer is None else min(whole, CACHE_BYTES)
        return max(0, most - self.cached)

    def close(self) -> None:
        """Let go of what was kept."""
        self.cache.clear()
        self.cached = 0
        self._whole = None


def _bytes(page: Any, index: int) -> bytes | None:
    """The compressed strip or tile; None: one left empty on purpose. Files of a set are open only to be read."""
    if not page.databytecounts[index]:
        return None
    handle = page.parent.filehandle
    closed = handle.closed
    if closed:
        handle.open()
    try:
        handle.seek(page.dataoffsets[index])
        return bytes(handle.read(page.databytecounts[index]))
    finally:
        if closed:
            handle.close()


def _lay(out: Array, inner: Sequence[slice], position: tuple[int, ...], pixels: Array) -> None:
    """Copy what a decoded segment (depth, rows, columns, samples) has of the part `inner` into `out`."""
    sample, *first = position
    into, of = [slice(sample - inner[0].start, sample - inner[0].start + 1)], []
    for start, length, part in zip(first, pixels.shape[:3], inner[1:4], strict=True):
        a, b = max(start, part.start), min(start + length, part.stop)
        if a >= b:
            return
        into.append(slice(a - part.start, b - part.start))
        of.append(slice(a - start, b - start))
    out[tuple(into)][0] = pixels[(*of, inner[4])]
