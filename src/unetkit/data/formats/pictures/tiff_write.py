"""TIFF, written by region: tiles (or strips) are compressed and appended as soon as a row of them is complete.

tifffile asks for all tiles in order within one call; here they arrive as prediction makes them, so the few tags of a
baseline TIFF (TIFF 6.0, sections 3 and 15; BigTIFF where needed) are written by hand. A volume is a page for each plane
(and channel), described for ImageJ or, in a `.ome.tif`, as OME-XML.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import imagecodecs
import numpy as np

from unetkit.core.errors import DataError
from unetkit.core.files import atomic, disk_errors
from unetkit.core.region import Region
from unetkit.data.formats.base import Array, ImageWriter, Target
from unetkit.data.formats.geometry import geometry
from unetkit.data.formats.pictures import tiff_tags
from unetkit.data.formats.pictures.tiff_tags import LONG, LONG8, SHORT, Tag, tag

TILE = 512
WIDEST = 4096
"""Wider images are written in tiles; narrower ones in strips of as many pixels, which ImageJ and ITK can open, too."""
_COMPRESSION = {"none": 1, "lzw": 5, "deflate": 8, "zstd": 50000}
_BIG = 2**32 - 2**25  # 32 MB less than 4 GiB: room for the tags and for tiles that grow under compression
_SAMPLE_FORMAT = {"u": 1, "i": 2, "f": 3}


class TiffWriter(ImageWriter):
    """Holds the rows of tiles that are begun; in row bands that is one or two rows, never the image."""

    def __init__(self, target: Target) -> None:
        path, shape, channels, dtype = target.path, target.shape, target.channels, target.dtype
        if dtype.kind not in _SAMPLE_FORMAT:
            raise DataError(f"{path}: a TIFF is written from integers or floats, not from {dtype}")
        if target.compression not in _COMPRESSION:
            raise DataError(f"{path}: the compression {target.compression!r} is not one of {', '.join(_COMPRESSION)}")
        super().__init__(path, shape, channels, dtype)
        self._palette, self._compression = target.palette, target.compression
        self._names = target.channel_names if len(target.channel_names) == channels > 1 else ()
        self._geometry = geometry(target)
        self._ome = path.name.lower().endswith((".ome.tif", ".ome.tiff"))
        self._depth, *plane = (1, *shape) if len(shape) == 2 else shape
        height, width = plane
        self._strips = width <= WIDEST
        self._tile = tuple(min(TILE, -(-n // 16) * 16) for n in plane)
        if self._strips:
            self._tile = (min(height, max(1, TILE * TILE // width)), width)
        self._grid = tuple(-(-n // t) for n, t in zip(plane, self._tile, strict=True))
        # as a PNG: grey, grey and alpha, RGB, RGBA; the channels of a volume or of OME are pages, unless they are RGB
        coloured = (1, 2, 3, 4) if len(shape) == 2 and not self._ome else (1, 3, 4)
        self._colours = dtype in (np.uint8, np.uint16) and channels in coloured
        self._paged = not self._colours and channels > 1 and (len(shape) == 3 or self._ome)
        pages = self._depth * (channels if self._paged else 1)
        planes = 1 if self._colours or self._paged else channels
        self._offsets = np.zeros((pages, planes, *self._grid), np.uint64)
        self._counts = np.zeros_like(self._offsets)
        self._big = int(np.prod(shape)) * channels * dtype.itemsize + 32 * self._offsets.size + 512 * pages > _BIG
        self._described = self._description()
        self._rows: dict[tuple[int, int], tuple[Array, int]] = {}  # plane, tile row → pixels (C, rows, W), missing ones

    def bands(self, pixels: int) -> Iterator[Region]:
        """As `ImageWriter.bands`: whole planes, or whole rows of the tiles of a plane."""
        *_, height, width = self.shape
        planes, rows = max(1, pixels // (height * width)), max(1, pixels // width)
        if rows >= height:
            rows = height
        elif rows > self._tile[0]:
            rows -= rows % self._tile[0]
        for z in range(0, self._depth, planes if rows == height else 1):
            for top in range(0, height, rows):
                start, stop = (top, 0), (min(height, top + rows), width)
                if len(self.shape) == 2:
                    yield Region(start, stop)
                else:
                    below = min(self._depth, z + (planes if rows == height else 1))
                    yield Region((z, *start), (below, *stop))

    def _open(self) -> None:
        temporary = self._cleanup.enter_context(atomic(self.path))
        self._file = self._cleanup.enter_context(temporary.open("wb"))
        head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) if self._big else struct.pack("<2sHI", b"II", 42, 0)
        self._file.write(head)

    def _write(self, region: Region, array_CX: Array) -> None:
        (y0, x0), (y1, x1) = region.start[-2:], region.stop[-2:]
        planes = range(region.start[0], region.stop[0]) if len(self.shape) == 3 else range(1)
        array_CZYX = array_CX if len(self.shape) == 3 else array_CX[:, None]
        high, (height, width) = self._tile[0], self.shape[-2:]
        for plane in planes:
            array_CYX = array_CZYX[:, plane - planes.start]
            for row in range(y0 // high, (y1 - 1) // high + 1):
                top, bottom = max(y0, row * high), min(y1, (row + 1) * high)
                if (plane, row) not in self._rows:
                    rows = min(high, height - row * high)
                    self._rows[plane, row] = (np.zeros((self.channels, rows, width), self.dtype), rows * width)
                pixels, missing = self._rows[plane, row]
                pixels[:, top - row * high : bottom - row * high, x0:x1] = array_CYX[:, top - y0 : bottom - y0]
                missing -= (bottom - top) * (x1 - x0)
                self._rows[plane, row] = (pixels, missing)
                if missing <= 0:
                    with disk_errors(self.path):
                        self._append(plane, row, self._rows.pop((plane, row))[0])

    def _append(self, plane: int, row: int, pixels_CYX: Array) -> None:
        high, wide = self._tile
        planes = [np.moveaxis(pixels_CYX, 0, -1)] if self._colours else [one[..., None] for one in pixels_CYX]
        for number, pixels_YXC in enumerate(planes):
            page, within = (plane * self.channels + number, 0) if self._paged else (plane, number)
            for column in range(self._grid[1]):
                part = pixels_YXC[:, column * wide : (column + 1) * wide]
                size = part.shape[:2] if self._strips else (high, wide)
                tile = np.zeros((*size, part.shape[2]), self.dtype.newbyteorder("<"))
                tile[: part.shape[0], : part.shape[1]] = part
                data = _compress(tile.tobytes(), self._compression)
                at = (page, within, row, column)
                self._offsets[at], self._counts[at] = self._file.tell(), len(data)
                self._file.write(data)

    def _finish(self) -> None:
        with disk_errors(self.path):
            self._file.write(b"\0" * (-self._file.tell() % 8))
            start = self._file.tell()
            for page in range(len(self._offsets)):
                tags = self._tags(page) + (self._described if page == 0 else [])
                last = page == len(self._offsets) - 1
                self._file.write(tiff_tags.directory(tags, self._file.tell(), self._big, last))
            self._file.seek(8 if self._big else 4)
            self._file.write(struct.pack("<Q" if self._big else "<I", start))
            self._file.flush()

    def _description(self) -> list[Tag]:
        """What the first page says of all: nothing, of an image whose pixels have no known size."""
        plain = len(self._offsets) == 1 and self._geometry.spacing is None and not self._names
        if plain and not self._ome:
            return []
        *depth, height, width = self.shape
        before = "C" if self.channels > 1 and not self._colours else ""
        behind = "S" if self.channels > 1 and self._colours else ""
        axes = ("Z" if depth else "") + before + "YX" + behind
        shape = [*depth, *([self.channels] if before else []), height, width, *([self.channels] if behind else [])]
        if self._ome:
            return tiff_tags.ome(
                self.path, shape, axes, self.dtype, len(self._offsets), self._geometry, self._names if before else ()
            )
        if self.channels == 2 and behind:  # ImageJ has no grey with alpha
            return []
        return tiff_tags.imagej(shape, axes, self._geometry, self._names if before else (), self._palette is not None)

    def _tags(self, page: int) -> list[Tag]:
        c, pointer = 1 if self._paged else self.channels, LONG8 if self._big else LONG
        photometric = 3 if self._palette is not None else 2 if self._colours and c >= 3 else 1
        tags = [
            tag(256, LONG, [self.shape[-1]]),
            tag(257, LONG, [self.shape[-2]]),
            tag(258, SHORT, [self.dtype.itemsize * 8] * c),
            tag(259, SHORT, [_COMPRESSION[self._compression]]),
            tag(262, SHORT, [photometric]),
            tag(277, SHORT, [c]),
            tag(284, SHORT, [1 if c == 1 or self._colours else 2]),
            tag(273 if self._strips else 324, pointer, self._offsets[page].ravel().tolist()),
            tag(279 if self._strips else 325, pointer, self._counts[page].ravel().tolist()),
            tag(339, SHORT, [_SAMPLE_FORMAT[self.dtype.kind]] * c),
        ]
        if self._strips:
            tags.append(tag(278, LONG, [self._tile[0]]))
        else:
            tags += [tag(322, SHORT, [self._tile[1]]), tag(323, SHORT, [self._tile[0]])]
        extra = c - 3 if photometric == 2 else c - 1
        if extra:
            tags.append(tag(338, SHORT, [2 if self._colours else 0] * extra))
        if self._palette is not None:
            table = np.zeros((3, 2 ** (8 * self.dtype.itemsize)), np.uint16)
            table[:, : len(self._palette)] = np.array(self._palette, np.uint16).T * 257
            tags.append(tag(320, SHORT, table.ravel().tolist()))
        return tags


def _compress(data: bytes, compression: str) -> bytes:
    if compression == "deflate":
        return bytes(imagecodecs.deflate_encode(data, level=6))
    if compression == "lzw":
        return bytes(imagecodecs.lzw_encode(data))
    if compression == "zstd":
        return bytes(imagecodecs.zstd_encode(data, level=3))
    return data
