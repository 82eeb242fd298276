"""TIFF of any integers or floats, read by region: images, stacks, hyperstacks, OME-TIFF, pyramids, whole slides."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.formats.axes import Axes, understand
from unetkit.data.formats.base import Array, ImageInfo, ImageReader, Mode, PaletteAs, Reading, decoding
from unetkit.data.formats.pictures import tiff_meta
from unetkit.data.formats.pictures.tiff_pages import Pages
from unetkit.data.formats.spacing import chosen_level, of_level

_ERRORS = (
    OSError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError,
    ZeroDivisionError, struct.error, zlib.error, tifffile.TiffFileError,
)  # fmt: skip

_MINISWHITE, _RGB, _PALETTE, _YCBCR = 0, 2, 3, 6
_JPEGS = (6, 7, 33007, 34892)
_ALPHA = (1, 2)  # ExtraSamples: associated and unassociated alpha


def open_tiff(path: Path, reading: Reading) -> TiffReader:
    """Open a TIFF. Raises DataError: damaged, several points in time, values that are not read, axes or a level that do
    not fit, a file of a set that is missing."""
    with decoding(path, *_ERRORS):
        tif = tifffile.TiffFile(path)
    try:
        with decoding(path, *_ERRORS):
            tiff_meta.set_files(path, tiff_meta.ome_root(tif))
            if not len(tif.pages) or not tif.series:
                raise DataError(f"{path}: the TIFF holds no image; copy or export it again, or leave it out")
            return TiffReader(path, tif, reading)
    except BaseException:
        tif.close()
        raise


def set_files(path: Path) -> tuple[Path, ...]:
    """The files that a TIFF is made of: itself and, of an OME set, the others. Raises DataError as `open_tiff`."""
    with decoding(path, *_ERRORS), tifffile.TiffFile(path) as tif:
        return tiff_meta.set_files(path, tiff_meta.ome_root(tif))


class TiffReader(ImageReader):
    """Reads from a level of the first series of the file."""

    def __init__(self, path: Path, tif: Any, reading: Reading) -> None:
        self._tif = tif
        series = tif.series[0]
        names = tiff_meta.letters(series)
        full = understand(path, series.get_shape(squeeze=False), names, reading)
        spacing, unit, lacking = tiff_meta.pixel_size(tif, series, full.names)
        shapes = [full.of(level.get_shape(squeeze=False)) for level in series.levels]
        spacings = [of_level(spacing, shapes[0], shape) for shape in shapes]
        level = chosen_level(path, reading, shapes, spacings)
        self.pages = Pages(path, tif, series.levels[level])
        self._axes = dataclasses.replace(full, sizes=self.pages.shape)
        info = _info(path, self._axes, self.pages.page, self.pages.dtype)
        chunk = self.pages.chunk
        notes = (f"{path.name}: {lacking}: left out",) if lacking else ()
        super().__init__(
            path,
            dataclasses.replace(
                info,
                spacing=spacings[level],
                unit=unit,
                axes=self._axes.names,
                channel_names=tiff_meta.channel_names(tif, series, info.channels),
                levels=tuple(shapes) if len(shapes) > 1 else (),
                chunk=None if chunk is None else self._axes.of(chunk),
                notes=(*full.notes, *notes, *tiff_meta.remarks(path, tif, series)),
            ),
        )

    def _read(self, region: Region, palette: PaletteAs, alpha: bool) -> Array:
        with decoding(self.path, *_ERRORS):
            array = self._axes.arranged(self.pages.take(self._axes.index(region)))
        if self.pages.page.photometric == _MINISWHITE and array.dtype.kind in "bu":
            array = ~array  # white is 0 in the file; everywhere else black is
        if array.dtype.kind == "b":
            return array.astype(np.uint8) * np.uint8(255)
        if self.info.mode == "palette":
            return array[:1] if palette == "indices" else self._colours()[:, array[0]]
        wanted = self.info.channels + (1 if alpha and self.info.alpha else 0)
        return np.ascontiguousarray(array[:wanted])

    def _colours(self) -> Array:
        """(3, n) uint8 colours of the palette; some writers put 8-bit values where 16-bit ones belong."""
        colours = np.asarray(self.pages.page.colormap)
        return (colours >> 8 if colours.max(initial=0) > 255 else colours).astype(np.uint8)

    @property
    def grows(self) -> int:
        return self.pages.grows

    def close(self) -> None:
        self._tif.close()
        self.pages.close()


def _info(path: Path, axes: Axes, page: Any, dtype: np.dtype[Any]) -> ImageInfo:
    """Size, channels and values. Raises DataError: values that are not read."""
    samples = axes.channels
    if dtype.kind not in "biuf":
        raise DataError(f"{path}: values of type {dtype} are not read; save the file as integers or floats")
    photometric = int(page.photometric)
    if photometric == _YCBCR and page.compression not in _JPEGS:
        raise DataError(f"{path}: YCbCr colours are only read from JPEG-compressed TIFF; save the file as RGB")
    name = "uint8" if dtype.kind == "b" else dtype.name
    tag = page.tags.get("Orientation")
    orientation = int(tag.value) if tag is not None and isinstance(tag.value, int) and 1 <= tag.value <= 8 else 1
    if photometric == _PALETTE and page.colormap is not None and samples == 1:
        return ImageInfo(axes.shape, 3, False, "uint8", "palette", orientation)
    extra = tuple(int(e) for e in page.extrasamples)
    alpha = samples in (2, 4) and samples == int(page.samplesperpixel) and bool(extra) and extra[-1] in _ALPHA
    channels = samples - 1 if alpha else samples
    mode: Mode = "bands"
    if channels == 1:
        mode = "grey"
    elif channels == 3 and photometric in (_RGB, _YCBCR):
        mode = "rgb"
    return ImageInfo(axes.shape, channels, alpha, name, mode, orientation)
