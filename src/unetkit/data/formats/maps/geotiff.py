"""Maps: GeoTIFF and Cloud-Optimised GeoTIFF, and what else GDAL reads (.vrt, .jp2), by region, through rasterio.

A TIFF is a map where its tags say so (`is_map`). rasterio reads its pixels as well as its header: GDAL knows the
masks, overviews, world files and colour tables that belong to a map. Without it a GeoTIFF is an ordinary image
(`without_place`).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from unetkit.core.errors import DataError, MachineError
from unetkit.core.region import Region
from unetkit.data.formats.base import (
    Array,
    ImageInfo,
    ImageReader,
    ImageWriter,
    PaletteAs,
    Reading,
    Target,
    decoding,
    unreadable,
)
from unetkit.data.formats.maps.map_header import bits, header, pixel_size
from unetkit.data.formats.spacing import chosen_level

INSTALL = "pip install 'unetkit[geo]'"
CACHE_BYTES = 128 * 2**20
"""Decoded blocks that GDAL keeps for all open maps; its own default is 5 % of the machine's memory."""

GDAL_SUFFIXES = (".vrt", ".jp2")
# ModelPixelScale, ModelTiepoint, ModelTransformation, GeoKeyDirectory (OGC 19-008r4, section 7); GDAL_NODATA
_TAGS = {33550, 33922, 34264, 34735, 42113}
_ERRORS = (OSError, ValueError, RuntimeError, IndexError, KeyError, TypeError, struct.error)


def rasterio_module() -> Any:
    """The rasterio package, its cache bounded. Raises MachineError: not installed."""
    try:
        import rasterio
    except ModuleNotFoundError:
        raise MachineError(
            f"maps are read and written by the rasterio package, which is not installed: {INSTALL}"
        ) from None
    _bound_cache()
    return rasterio


@functools.cache
def _bound_cache() -> None:
    """Once for the process, as GDAL has one cache; a user's own GDAL_CACHEMAX stands."""
    from rasterio.env import set_gdal_config

    if "GDAL_CACHEMAX" not in os.environ:
        set_gdal_config("GDAL_CACHEMAX", CACHE_BYTES)


def has_rasterio() -> bool:
    """Whether maps can be read as maps."""
    try:
        rasterio_module()
    except MachineError:
        return False
    return True


def is_map(path: Path) -> bool:
    """Whether an image lies on a map, or says which pixels hold nothing: by the tags of a TIFF, a world file beside it,
    or its suffix. False for what cannot be read."""
    name = path.suffix.lower()
    if name in GDAL_SUFFIXES:
        return True
    if name not in (".tif", ".tiff") or not path.is_file():
        return False
    if any(path.with_suffix(world).is_file() for world in (".tfw", ".tifw", ".TFW")):
        return True
    try:
        with tifffile.TiffFile(path) as tif:
            return any(code in tif.pages.first.tags for code in _TAGS)
    except (*_ERRORS, AttributeError, tifffile.TiffFileError):
        return False


def without_place(info: ImageInfo) -> ImageInfo:
    """What a reader of pictures found in a map, with a note that says what it left out."""
    note = (
        "this is a map, but its coordinate reference system, place, nodata and names of bands are not read, and "
        f"results will not have them, for rasterio is not installed: {INSTALL}"
    )
    return dataclasses.replace(info, notes=(*info.notes, note))


def open_image(path: Path, reading: Reading) -> ImageReader:
    """Open a map for reading by region, at the level of its overviews that `reading` asks for.

    Raises DataError: damaged, complex numbers, no such level, other axes. Raises MachineError: no rasterio.
    """
    if reading.axes.upper().replace(",", "") not in ("", "YX", "CYX", "YXC"):
        raise DataError(f"{path}: --axes {reading.axes} does not fit a map, which has bands, rows and columns (CYX)")
    rasterio = rasterio_module()
    if path.suffix.lower() in (".tif", ".tiff"):
        with decoding(path, *_ERRORS, AttributeError, tifffile.TiffFileError):
            check_extent(path)
    levels = []
    with decoding(path, *_ERRORS, rasterio.errors.RasterioError):
        with opened(rasterio, path) as whole:
            count = len(whole.overviews(1)) if whole.count else 0
            levels.append((whole.shape, pixel_size(whole)[0]))
        for number in range(count):
            with opened(rasterio, path, overview_level=number) as smaller:
                levels.append((smaller.shape, pixel_size(smaller)[0]))
        shapes, spacings = [s for s, _ in levels], [s for _, s in levels]
        level = chosen_level(path, reading, shapes, spacings)
        dataset = opened(rasterio, path, **({"overview_level": level - 1} if level else {}))
    try:
        with decoding(path, *_ERRORS, rasterio.errors.RasterioError):
            info = header(path, dataset)
            return MapReader(path, dataset, dataclasses.replace(info, levels=tuple(shapes) if count else ()))
    except BaseException:
        dataset.close()
        raise


def create_image(target: Target) -> ImageWriter:
    """Begin a GeoTIFF over the map `target.like`; see `maps_write.MapWriter`."""
    from unetkit.data.formats.maps.maps_write import MapWriter

    return MapWriter(target)


def check_extent(path: Path) -> None:
    """Every strip and tile of a TIFF must lie inside the file. Raises DataError: truncated."""
    with tifffile.TiffFile(path) as tif:
        page, size = tif.pages.first, int(tif.filehandle.size)
        end = max((a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=False)), default=0)
    if end > size:
        raise unreadable(path, f"pixels end at byte {end}, the file at byte {size}")


class MapReader(ImageReader):
    """Reads windows of a dataset of GDAL."""

    def __init__(self, path: Path, dataset: Any, info: ImageInfo) -> None:
        super().__init__(path, info)
        self.dataset = dataset
        self._bits = bits(dataset)
        self._has_mask = any(flag.name == "per_dataset" for flag in dataset.mask_flag_enums[0])
        self._by_index = info.mode == "palette" and dataset.nodata is not None
        self._read_so_far = 0

    def _read(self, region: Region, palette: PaletteAs, alpha: bool) -> Array:
        if self.info.mode == "palette":
            bands = [1]
        else:
            bands = list(range(1, self.info.channels + (1 if alpha and self.info.alpha else 0) + 1))
        with decoding(self.path, *_ERRORS):
            array: Array = self.dataset.read(bands, window=_window(region))
        self._read_so_far += array.nbytes
        if self.info.mode == "palette" and palette == "colours":
            return self._colours()[:, array[0]]
        return array if self._bits is None else np.array(self._bits, np.uint8)[array]

    def _colours(self) -> Array:
        """(3, n) uint8 colours of the palette."""
        entries = self.dataset.colormap(1)
        table = np.zeros((3, 1 << 8 * np.dtype(self.dataset.dtypes[0]).itemsize), np.uint8)
        for index, colour in entries.items():
            table[:, index] = colour[:3]
        return table

    def masked(self, region: Region) -> Array | None:
        """As `ImageReader.masked`: by the mask of the dataset, its alpha channel, or a palette index that is nodata."""
        if not self._has_mask and not self._by_index:
            return None
        with decoding(self.path, *_ERRORS):
            found: Array = self.dataset.read_masks(1, window=_window(region)) == 0
        return found

    @property
    def grows(self) -> int:
        # GDAL does not tell what of a file is in its cache: about what was read of it
        whole = self.info.channels * math.prod(self.info.shape) * np.dtype(self.info.dtype).itemsize
        return max(0, min(CACHE_BYTES, whole) - self._read_so_far)

    def close(self) -> None:
        self.dataset.close()


def missing(reader: ImageReader, region: Region, raw_CX: Array) -> Array | None:
    """Which of the values `raw_CX`, as read of `region`, hold nothing: bool (C, *shape); None where all hold something.

    Nothing is what has the nodata value, is not finite, or lies under the mask of the file. Where the nodata value is 0
    among integers it is so only where all channels have it: a red roof has no blue, and is there. Costs next to nothing
    for integers without nodata and mask.
    """
    found: Array | None = None
    if raw_CX.dtype.kind == "f":
        found = ~np.isfinite(raw_CX)
    nodata = reader.info.nodata
    if nodata is not None and not np.isnan(nodata) and reader.info.mode != "palette" and _fits(nodata, raw_CX.dtype):
        with np.errstate(over="ignore"):
            same = raw_CX == raw_CX.dtype.type(nodata)
        if nodata == 0 and raw_CX.dtype.kind != "f":
            same = np.broadcast_to(same.all(0), same.shape)
        found = same if found is None else found | same
    if (masked := reader.masked(region)) is not None:
        found = np.broadcast_to(masked, raw_CX.shape) if found is None else found | masked
    return found if found is not None and found.any() else None


def valid(reader: ImageReader, region: Region, raw_CX: Array | None = None) -> Array | None:
    """Which pixels of `region` hold anything in any channel: bool (*shape); None where all do.

    raw_CX: what `reader.read(region)` gave, where it is at hand. Raises DataError: the file is damaged.
    """
    info = reader.info
    if raw_CX is None:
        if np.dtype(info.dtype).kind != "f" and info.nodata is None:
            masked = reader.masked(region)
            return None if masked is None or not masked.any() else ~masked
        raw_CX = reader.read(region)
    found = missing(reader, region, raw_CX)
    if found is None or not (nothing := found.all(0)).any():
        return None
    return np.logical_not(nothing)


def _fits(nodata: float, dtype: np.dtype[Any]) -> bool:
    """Whether a type holds this value at all: −9999 is never found among uint16."""
    if dtype.kind == "f":
        return True
    if dtype.kind not in "iu" or not float(nodata).is_integer():
        return False
    limits = np.iinfo(dtype)
    return int(limits.min) <= int(nodata) <= int(limits.max)


def opened(rasterio: Any, path: Path, **options: Any) -> Any:
    """`rasterio.open`."""
    with warnings.catch_warnings():
        # a file that lies nowhere is no reason to warn: `ImageInfo.map` says so
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        return rasterio.open(path, **options)


def _window(region: Region) -> Any:
    from rasterio.windows import Window

    (top, left), (height, width) = region.start, region.shape
    return Window(left, top, width, height)
