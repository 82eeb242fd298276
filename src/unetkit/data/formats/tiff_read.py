"""TIFF of any integers or floats, read by region: only the rows, strips or tiles that a region touches are decoded."""

from __future__ import annotations

import struct
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.formats.base import Array, ImageInfo, ImageReader, Mode, PaletteAs, Reading, decoding, unreadable

_ERRORS = (
    OSError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError,
    ZeroDivisionError, struct.error, zlib.error, tifffile.TiffFileError,
)  # fmt: skip

CACHE_BYTES = 128 * 2**20
"""Decoded strips and tiles that a reader keeps, so that neighbouring regions do not decode the same strips again."""

MAX_CHANNELS = 16
_MINISWHITE, _RGB, _PALETTE, _YCBCR = 0, 2, 3, 6
_JPEGS = (6, 7, 33007, 34892)
_ALPHA = (1, 2)  # ExtraSamples: associated and unassociated alpha


def open_tiff(path: Path, reading: Reading) -> TiffReader:  # noqa: ARG001
    """Open a TIFF. Raises DataError: damaged, a stack or volume, or values that are not read."""
    with decoding(path, *_ERRORS):
        tif = tifffile.TiffFile(path)
    try:
        with decoding(path, *_ERRORS):
            if not len(tif.pages) or not tif.series:
                raise DataError(f"{path}: the TIFF holds no image; copy or export it again, or leave it out")
            return TiffReader(path, tif)
    except BaseException:
        tif.close()
        raise


class TiffReader(ImageReader):
    """Reads from the base level of the first series of the file."""

    def __init__(self, path: Path, tif: Any) -> None:
        self._tif = tif
        self._series = tif.series[0]
        self._page = self._series.keyframe
        self._channel_axis = _channel_axis(path, self._series)
        info = _info(path, self._series, self._page, self._channel_axis)
        super().__init__(path, info)
        self._native = np.dtype(self._series.dtype).newbyteorder("=")
        self._cache: OrderedDict[tuple[int, int], tuple[tuple[int, int, int], Array]] = OrderedDict()
        self._cached = 0
        self._whole: Array | None = None
        offset = self._series.dataoffset
        self._offset: int | None = offset if offset is not None and np.dtype(self._series.dtype).kind != "b" else None
        self._check_extent()

    def _check_extent(self) -> None:
        """Every strip and tile must lie inside the file: a truncated file is known before anything is decoded."""
        size = int(self._tif.filehandle.size)
        for page in self._series.pages:
            if page is None:
                continue
            if self._offset is not None:
                end = self._offset + int(np.prod(self._series.shape)) * np.dtype(self._series.dtype).itemsize
            else:
                segments = zip(page.dataoffsets, page.databytecounts, strict=False)
                end = max((offset + count for offset, count in segments), default=0)
            if end > size:
                raise unreadable(self.path, f"pixels end at byte {end}, the file at byte {size}")

    def _read(self, region: Region, palette: PaletteAs, alpha: bool) -> Array:
        with decoding(self.path, *_ERRORS):
            array = self._samples(region)
        if self._page.photometric == _MINISWHITE and array.dtype.kind in "bu":
            array = ~array  # white is 0 in the file; everywhere else black is
        if array.dtype.kind == "b":
            return array.astype(np.uint8) * np.uint8(255)
        if self.info.mode == "palette":
            return array[:1] if palette == "indices" else self._colours()[:, array[0]]
        wanted = self.info.channels + (1 if alpha and self.info.alpha else 0)
        return array[:wanted]

    def _colours(self) -> Array:
        """(3, n) uint8 colours of the palette; some writers put 8-bit values where 16-bit ones belong."""
        colours = np.asarray(self._page.colormap)
        return (colours >> 8 if colours.max(initial=0) > 255 else colours).astype(np.uint8)

    def _samples(self, region: Region) -> Array:
        """(all samples, h, w) of the region, native byte order, as they stand in the file."""
        if self._offset is not None:
            # a mapping for each read: pages that were touched do not stay in memory
            mapped = np.memmap(
                self._tif.filehandle.path, np.dtype(self._series.dtype).newbyteorder(self._tif.byteorder), "r",
                self._offset, tuple(self._series.shape),
            )  # fmt: skip
            array = np.array(self._arranged(mapped)[(slice(None), *region.slices)])
            return array.astype(array.dtype.newbyteorder("="), copy=False)
        if self._pages_are_planes():
            return self._from_segments(region)
        if self._whole is None:
            self._whole = np.asarray(self._series.asarray())
        array = np.array(self._arranged(self._whole)[(slice(None), *region.slices)])
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def _pages_are_planes(self) -> bool:
        """Whether every page of the series holds whole rows and columns of the image (alone or all samples)."""
        page, pages = self._page, self._series.pages
        alike = (page.imagelength, page.imagewidth) == self.info.shape and all(p is not None for p in pages)
        samples = 1 if self.info.mode == "palette" else self.info.channels + self.info.alpha
        return alike and page.imagedepth == 1 and len(pages) * page.samplesperpixel == samples

    def _arranged(self, array: Array) -> Array:
        """A view (C, Y, X) of an array in the axes of the series."""
        array = array.reshape([n for _, n in _long_axes(self._series)])
        if self._channel_axis is None:
            return array[None]
        return np.moveaxis(array, self._channel_axis, 0)

    def _from_segments(self, region: Region) -> Array:
        (y0, x0), (y1, x1) = region.start, region.stop
        samples = int(self._page.samplesperpixel)
        out = np.zeros((samples * len(self._series.pages), y1 - y0, x1 - x0), self._native)
        for number, page in enumerate(self._series.pages):
            for index in self._segments_of(region):
                (sample, top, left), tile = self._segment(number, page, index)
                a, b = max(y0, top), min(y1, top + tile.shape[0])
                c, d = max(x0, left), min(x1, left + tile.shape[1])
                if a >= b or c >= d:
                    continue
                part = np.moveaxis(tile[a - top : b - top, c - left : d - left], -1, 0)
                first = number * samples + sample
                out[first : first + part.shape[0], a - y0 : b - y0, c - x0 : d - x0] = part
        return out

    def _segments_of(self, region: Region) -> list[int]:
        """Indices of the strips or tiles that the region touches, in the order of the file."""
        page = self._page
        high, wide = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
        high, wide = max(1, min(high, page.imagelength)), max(1, min(wide, page.imagewidth))
        if page.is_tiled:
            high, wide = page.tilelength, page.tilewidth
        rows, columns = -(-page.imagelength // high), -(-page.imagewidth // wide)
        planes = int(page.samplesperpixel) if page.planarconfig == 2 else 1
        (y0, x0), (y1, x1) = region.start, region.stop
        if region.size == 0:
            return []
        return [
            (plane * rows + row) * columns + column
            for plane in range(planes)
            for row in range(y0 // high, (y1 - 1) // high + 1)
            for column in range(x0 // wide, (x1 - 1) // wide + 1)
        ]

    def _segment(self, number: int, page: Any, index: int) -> tuple[tuple[int, int, int], Array]:
        """((sample, top, left), pixels (h, w, samples)) of one decoded strip or tile; the last ones are kept."""
        if (number, index) in self._cache:
            self._cache.move_to_end((number, index))
            return self._cache[number, index]
        handle = self._tif.filehandle
        data: bytes | None = None
        if page.databytecounts[index]:  # zero bytes: a tile left empty on purpose
            handle.seek(page.dataoffsets[index])
            data = handle.read(page.databytecounts[index])
        decoded, position, shape = self._page.decode(data, index, jpegtables=self._page.jpegtables)
        pixels = np.full(shape[1:], self._page.nodata, self._native) if decoded is None else decoded[0]
        entry = ((int(position[0]), int(position[2]), int(position[3])), pixels)
        self._cache[number, index] = entry
        self._cached += pixels.nbytes
        while self._cached > CACHE_BYTES and len(self._cache) > 1:
            self._cached -= self._cache.popitem(last=False)[1][1].nbytes
        return entry

    def close(self) -> None:
        self._tif.close()
        self._cache.clear()
        self._cached = 0
        self._whole = None


def _long_axes(series: Any) -> list[tuple[str, int]]:
    """The axes longer than 1, and Y and X however short."""
    return [(a, int(n)) for a, n in zip(series.axes, series.shape, strict=True) if n != 1 or a in "YX"]


def _channel_axis(path: Path, series: Any) -> int | None:
    """Which of the long axes holds the channels, None where there is but one. Raises DataError: a volume."""
    axes, shape = [a for a, _ in _long_axes(series)], [n for _, n in _long_axes(series)]
    if len(axes) == 2:
        return None
    if len(axes) == 3:
        others = [i for i, a in enumerate(axes) if a not in "YX"]
        if len(others) == 1 and axes[others[0]] in "SC" and shape[others[0]] <= MAX_CHANNELS:
            return others[0]
        if len(others) == 1 and axes[others[0]] == "Q":  # written by tifffile without saying what the axes are
            if shape[2] <= MAX_CHANNELS < min(shape[:2]):
                return 2
            if shape[0] <= MAX_CHANNELS:
                return 0
    size = " × ".join(str(n) for n in series.shape)
    raise DataError(
        f"{path}: a stack or volume of {size} (axes {series.axes}); a TIFF is read as one image: save the volume as "
        f"NIfTI (.nii.gz), each slice as a file of its own, or its channels (at most {MAX_CHANNELS}) as one image"
    )


def _info(path: Path, series: Any, page: Any, channel_axis: int | None) -> ImageInfo:
    shape = [n for _, n in _long_axes(series)]
    samples = 1 if channel_axis is None else shape.pop(channel_axis)
    if series.dtype is None or np.dtype(series.dtype).kind not in "biuf":
        raise DataError(f"{path}: values of type {series.dtype} are not read; save the file as integers or floats")
    photometric, dtype = int(page.photometric), np.dtype(series.dtype)
    if photometric == _YCBCR and page.compression not in _JPEGS:
        raise DataError(f"{path}: YCbCr colours are only read from JPEG-compressed TIFF; save the file as RGB")
    name = "uint8" if dtype.kind == "b" else dtype.name
    height, width = shape
    tag = page.tags.get("Orientation")
    orientation = int(tag.value) if tag is not None and isinstance(tag.value, int) and 1 <= tag.value <= 8 else 1
    if photometric == _PALETTE and page.colormap is not None and samples == 1:
        return ImageInfo((height, width), 3, False, "uint8", "palette", orientation)
    extra = tuple(int(e) for e in page.extrasamples)
    alpha = samples in (2, 4) and samples == int(page.samplesperpixel) and bool(extra) and extra[-1] in _ALPHA
    channels = samples - 1 if alpha else samples
    mode: Mode = "bands"
    if channels == 1:
        mode = "grey"
    elif channels == 3 and photometric in (_RGB, _YCBCR):
        mode = "rgb"
    return ImageInfo((height, width), channels, alpha, name, mode, orientation)
