"""DICOM: a series as a folder of slices, a slice or a multi-frame file alone, segmentations (`dicom_seg_read.py`).

Slices are put in order by their position along their normal, whatever their names and numbers say (`dicom_series.py`).
Arrays are (X, Y, Z): columns, rows, slices. Values are those that the rescale slope and intercept of each slice give.
A slice is decoded when a region first touches it, and kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unetkit.core.region import Region
from unetkit.data.formats.base import Array, ImageInfo, ImageReader, ImageWriter, Mode, PaletteAs, Reading, Target
from unetkit.data.formats.medical.dicom_files import ERRORS, SEGMENTATIONS, is_slice, range_of, read_file, stored_pixels
from unetkit.data.formats.medical.dicom_series import Series, read_series
from unetkit.data.formats.medical.volumes import (
    LPS_RAS,
    MOST_AXES,
    VolumeReader,
    as_sixteen,
    refuse_reading,
    space_axes,
)
from unetkit.data.formats.medical.voxels import Layout, Voxels, scratch


def open_image(path: Path, reading: Reading) -> ImageReader:
    """Open a folder of slices, a file of slices, or a segmentation (as a label).

    Raises DataError as `read_series`; MachineError: no pydicom, no highdicom.
    """
    if not path.is_dir() and (found := read_file(path)) is not None and found.kind in SEGMENTATIONS:
        from unetkit.data.formats.medical.dicom_seg_read import open_segmentation

        reader: ImageReader = open_segmentation(path)
    else:
        reader = SeriesReader(path, read_series(path))
    refuse_reading(path, reading, reader.info)
    return reader


def create_image(target: Target) -> ImageWriter:
    """Begin a DICOM SEG over the series `like`. Raises DataError: no series, probabilities; MachineError."""
    from unetkit.data.formats.medical.dicom_seg import SegWriter

    return SegWriter(target)


def are_slices(paths: Sequence[Path]) -> bool:
    """Whether files may be slices of a volume, told by their first bytes. Never raises."""
    return bool(paths) and all(is_slice(path) for path in paths)


class SlicesReader(VolumeReader):
    """A volume that comes slice by slice: each is decoded once, when it is needed, and kept unpacked."""

    def __init__(self, path: Path, info: ImageInfo) -> None:
        layout = Layout(info.shape, info.channels, np.dtype(info.dtype), interleaved=True)
        super().__init__(path, info, MOST_AXES, lambda: Voxels(layout, scratch(layout.nbytes)), ERRORS)
        self._there = np.zeros(layout.sides[2], bool)

    def _slice(self, number: int) -> Array:
        """The values (rows, columns, channels) of a slice. Raises DataError."""
        raise NotImplementedError

    def _read(self, region: Region, palette: PaletteAs, alpha: bool) -> Array:
        start, stop = (region.start[2], region.stop[2]) if len(region.start) == MOST_AXES else (0, 1)
        if self._voxels is None:
            self._voxels = self._load()
        for number in start + np.flatnonzero(~self._there[start:stop]):
            values = self._slice(int(number))
            (columns, rows), rest = self.info.shape[:2], ((number,),) * (len(self.info.shape) - 2)
            where = Region((0, 0, *(int(n) for (n,) in rest)), (columns, rows, *(int(n) + 1 for (n,) in rest)))
            self._voxels.write(where, values.transpose(2, 1, 0))
            self._there[number] = True
        return super()._read(region, palette, alpha)

    def close(self) -> None:
        """As `ImageReader.close`."""
        super().close()
        self._there[:] = False


class SeriesReader(SlicesReader):
    """Reads the slices of a series."""

    def __init__(self, path: Path, series: Series) -> None:
        first, count = series.first, len(series.slices)
        shape = (first.columns, first.rows) if count == 1 else (first.columns, first.rows, count)
        dtype = range_of(list(series.files.values()))
        mode: Mode = "grey" if first.samples == 1 else "rgb" if dtype == np.uint8 else "bands"
        info = ImageInfo(
            shape=shape,
            channels=first.samples,
            alpha=False,
            dtype=dtype.name,
            mode=mode,
            spacing=None if series.spacing is None else series.spacing[: len(shape)],
            affine=None if series.lps is None else as_sixteen(LPS_RAS @ series.lps),
            axes=space_axes(shape),
            unit="mm" if series.spacing is not None else "",
            chunk=(*shape[:2], *(1,) * (len(shape) - 2)),
            notes=series.notes,
        )
        super().__init__(path, info)
        self.series = series

    def _slice(self, number: int) -> Array:
        one = self.series.slices[number]
        stored = stored_pixels(self.series.files[one.path], one.index)
        if (one.slope, one.intercept) == (1, 0):
            return stored.astype(self.info.dtype, copy=False)
        kind = np.float64 if self.info.dtype == "float32" else np.int64
        return (stored.astype(kind) * kind(one.slope) + kind(one.intercept)).astype(self.info.dtype)
