"""GeoTIFF, written by region over the map that it belongs to: tiled, compressed, with its place and its holes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unetkit.core.errors import DataError, MachineError
from unetkit.core.files import atomic, disk_errors
from unetkit.core.region import Region
from unetkit.data.formats.base import Array, ImageWriter, Target, TargetClass
from unetkit.data.formats.maps.geotiff import check_extent, open_image, opened, rasterio_module, valid

BLOCK = 512
LARGE = 4096
"""Longest side from which on a result has overviews, so that it is seen at once however large it is."""
_COMPRESSION = ("deflate", "none", "lzw", "zstd")
_OWN_TAGS = ("STATISTICS_", "TIFFTAG_", "OVR_")  # of the image's pixels or its file, not of where it lies


def free_value(classes: Sequence[TargetClass], dtype: np.dtype[Any]) -> int:
    """The value of pixels that hold nothing in a mask: the highest of its type that is no class (255 mostly)."""
    taken = {c.value for c in classes}
    value = int(np.iinfo(dtype).max)
    while value in taken:
        value -= 1
    return value


class MapWriter(ImageWriter):
    """A GeoTIFF (BigTIFF where it may need to be) of any integers or floats, in blocks of 512 × 512.

    From the image `target.like` it takes the coordinate reference system, transform (or ground control points) and
    tags. Pixels of the image that hold nothing (nodata, NaN, masked) hold nothing here: NaN among floats, among the
    classes of a mask `free_value`; a colour mask gets an internal mask. Where `target.classes` is not given, no value
    is known to be free, and the pixels stand as they were written. A mask of uint8 has the colours of its classes as a
    colour table, and any mask their names as tags CLASS_value of its band. float16 is stored as float32.

    Writing in `bands` order holds about one band; in any other GDAL's cache bounds what is held.
    Raises DataError: another size than that of the image, a type that is none of these; MachineError: no rasterio.
    """

    def __init__(self, target: Target) -> None:
        if target.dtype.kind not in "iuf":
            raise DataError(f"{target.path}: a GeoTIFF is written from integers or floats, not from {target.dtype}")
        if target.compression not in _COMPRESSION:
            raise DataError(
                f"{target.path}: the compression {target.compression!r} is not one of {', '.join(_COMPRESSION)}"
            )
        if target.like is None or len(target.shape) != 2:
            raise ValueError(f"{target.path}: a GeoTIFF is written over the map that it belongs to")
        super().__init__(target.path, target.shape, target.channels, target.dtype)
        self._target = target
        self._like_path: Path = target.like
        self._nodata: float | None = None
        self._masked = False

    def _open(self) -> None:
        rasterio = rasterio_module()
        self._like = self._cleanup.enter_context(open_image(self._like_path, self._target.reading))
        info = self._like.info
        if info.shape != self.shape:
            raise DataError(
                f"{self.path}: {self.shape[1]} × {self.shape[0]} pixels do not lie over {self._like_path}, which has "
                f"{info.shape[1]} × {info.shape[0]}"
            )
        source = self._like.dataset  # type: ignore[attr-defined]
        holes = info.nodata is not None or np.dtype(info.dtype).kind == "f" or self._like.masked(_corner()) is not None
        if holes and self.dtype.kind == "f":
            self._nodata = float("nan")
        elif holes and self._target.classes:
            self._nodata = free_value(self._target.classes, self.dtype)
        self._masked = holes and self._nodata is None and self.channels == 3
        self._temporary = self._cleanup.enter_context(atomic(self.path))
        with disk_errors(self.path):
            self._dataset = opened(rasterio, self._temporary, mode="w", **self._profile(source))
        self._cleanup.callback(self._dataset.close)
        self._describe(source)

    def _profile(self, source: Any) -> dict[str, Any]:
        stored = np.dtype(np.float32) if self.dtype == np.float16 else self.dtype
        side = [min(BLOCK, -(-n // 16) * 16) for n in self.shape]
        placed = {"crs": source.crs, "transform": source.transform}
        if source.transform.is_identity:
            points, crs = source.gcps
            placed = {"crs": crs, "gcps": points} if points else {}
        compressed: dict[str, Any] = (
            {} if self._target.compression == "none" else {"compress": self._target.compression}
        )
        if compressed and stored.kind == "f" and stored.itemsize >= 4:
            compressed["predictor"] = 3
        elif compressed and stored.itemsize > 1:
            compressed["predictor"] = 2
        return {
            "driver": "GTiff", "height": self.shape[0], "width": self.shape[1], "count": self.channels,
            "dtype": stored.name, "nodata": self._nodata, "tiled": True, "blockysize": side[0], "blockxsize": side[1],
            "interleave": "pixel" if self.channels == 3 and stored == np.uint8 else "band",
            "photometric": "rgb" if self.channels == 3 and stored == np.uint8 else "minisblack",
            "BIGTIFF": "IF_SAFER", **placed, **compressed,
        }  # fmt: skip

    def _describe(self, source: Any) -> None:
        dataset, classes = self._dataset, self._target.classes
        dataset.update_tags(**{k: v for k, v in source.tags().items() if not k.startswith(_OWN_TAGS)})
        for number, name in enumerate(self._target.channel_names[: self.channels], 1):
            dataset.set_band_description(number, name)
        if self.channels == 1 and classes:
            dataset.update_tags(1, **{f"CLASS_{c.value}": c.name for c in classes})
            if self.dtype == np.uint8:
                dataset.write_colormap(1, {c.value: (*_told_apart(c), 255) for c in classes})

    def bands(self, pixels: int) -> Iterator[Region]:
        """Rows of blocks, several where `pixels` allows, or parts of a row where it does not."""
        height, width = self.shape
        rows, columns = max(1, pixels // (BLOCK * width)) * BLOCK, width
        if pixels < BLOCK * width:
            columns = max(1, pixels // BLOCK**2) * BLOCK
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                yield Region((top, left), (min(height, top + rows), min(width, left + columns)))

    def _write(self, region: Region, array_CX: Array) -> None:
        from rasterio.windows import Window

        (top, left), (height, width) = region.start, region.shape
        window = Window(left, top, width, height)
        array_CYX = array_CX.astype(np.float32) if self.dtype == np.float16 else array_CX
        if self._nodata is not None or self._masked:
            holds_YX = valid(self._like, region)
            if self._masked:
                mask_YX = np.ones(region.shape, bool) if holds_YX is None else holds_YX
                with disk_errors(self.path):
                    self._dataset.write_mask(mask_YX, window=window)
            elif holds_YX is not None:
                array_CYX = np.where(holds_YX, array_CYX, array_CYX.dtype.type(self._nodata))
        with disk_errors(self.path):
            self._dataset.write(array_CYX, window=window)

    def _finish(self) -> None:
        from rasterio.enums import Resampling

        with disk_errors(self.path):
            if max(self.shape) > LARGE:
                factors = [2**n for n in range(1, 16) if max(self.shape) >> n >= BLOCK // 2]
                averaged = self.dtype.kind == "f"
                self._dataset.build_overviews(factors, Resampling.average if averaged else Resampling.nearest)
            self._dataset.close()
        try:
            check_extent(self._temporary)  # GDAL does not tell of a disk that was full when it closed the file
        except (DataError, OSError, ValueError) as error:
            raise MachineError(
                f"{self.path}: the file could not be written to its end; free some space and run the same command again"
            ) from error


def _corner() -> Region:
    return Region((0, 0), (1, 1))


def _told_apart(entry: TargetClass) -> tuple[int, int, int]:
    """The colour of a class; a grey that is not the grey of its value is moved by one: a palette of greys alone is read
    as those greys, here and elsewhere, and a mask of nothing but a black background 255 would be read as 0."""
    red, green, blue = entry.colour
    if red == green == blue != entry.value:
        blue += 1 if blue < 255 else -1
    return red, green, blue
