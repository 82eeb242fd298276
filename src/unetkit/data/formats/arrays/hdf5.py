"""HDF5, through h5py: a data set in a file is an image, named behind its path (`volumes.h5/raw`).

Axes are known from dimension labels or an attribute `axes`; the size of pixels from `element_size_um` (as ilastik,
PlantSeg and ImageJ's plugins write it), `voxel_size`, `resolution` or `spacing`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unetkit.core.errors import DataError, MachineError
from unetkit.core.files import atomic, disk_errors
from unetkit.core.region import Region
from unetkit.data.formats.arrays.attributes import axes_of, size_of
from unetkit.data.formats.arrays.chunks import ChunkBuffer, aligned_bands
from unetkit.data.formats.arrays.inside import is_called_label, missing, the_one
from unetkit.data.formats.axes import understand
from unetkit.data.formats.base import (
    Array,
    ImageInfo,
    ImageReader,
    ImageWriter,
    Inside,
    PaletteAs,
    Reading,
    Target,
    decoding,
)
from unetkit.data.formats.geometry import geometry, is_mask
from unetkit.data.formats.spacing import chosen_level
from unetkit.data.formats.table import split_address

_ERRORS = (OSError, ValueError, TypeError, KeyError, RuntimeError, OverflowError, UnicodeDecodeError)
_MOST_AXES = 5
_CACHE = 64 * 2**20  # bytes of unpacked chunks that are kept, so that neighbouring regions do not unpack them again
_CHUNK = {1: (65536,), 2: (512, 512), 3: (64, 64, 64)}


def open_image(path: Path, reading: Reading) -> Hdf5Reader:
    """Open a data set of a file: the one named behind its path, or its only image.

    Raises DataError: none or several without a name, damaged, axes that do not fit; MachineError: h5py is missing.
    """
    h5py = _h5py()
    outer, name = split_address(path)
    with decoding(outer, *_ERRORS):
        file = h5py.File(outer, "r", rdcc_nbytes=_CACHE)
    try:
        with decoding(outer, *_ERRORS):
            if not name:
                name = the_one(outer, _found(outer, file)).address.relative_to(outer).as_posix()
            elif name not in file or not _suits(file[name]):
                raise missing(outer, name, _found(outer, file))
            return Hdf5Reader(path, file, file[name], reading)
    except BaseException:
        file.close()
        raise


def contents(path: Path) -> tuple[Inside, ...]:
    """The data sets of a file that are images, and which are called labels. Raises as `open_image`."""
    h5py = _h5py()
    with decoding(path, *_ERRORS), h5py.File(path, "r") as file:
        return _found(path, file)


def create_image(target: Target) -> Hdf5Writer:
    """Begin a file of one data set: `label` for a mask, `probabilities` or `image`. Raises DataError, MachineError."""
    _h5py()
    return Hdf5Writer(target)


class Hdf5Reader(ImageReader):
    """Reads the chunks that a region touches."""

    def __init__(self, path: Path, file: Any, data: Any, reading: Reading) -> None:
        self._file, self._data = file, data
        attributes = dict(data.attrs)
        names = axes_of(attributes, data.ndim, [d.label for d in data.dims])
        self._axes = understand(path, data.shape, names, reading)
        spacing, unit = size_of(attributes, self._axes)
        chosen_level(path, reading, [self._axes.shape], [spacing])
        kind = np.dtype(data.dtype)
        super().__init__(
            path,
            ImageInfo(
                shape=self._axes.shape,
                channels=self._axes.channels,
                alpha=False,
                dtype="uint8" if kind.kind == "b" else kind.newbyteorder("=").name,
                mode="grey" if self._axes.channels == 1 else "bands",
                spacing=spacing,
                axes=self._axes.names,
                unit=unit,
                channel_names=_channel_names(attributes, self._axes.channels),
                chunk=None if data.chunks is None else self._axes.of(data.chunks),
                notes=self._axes.notes,
            ),
        )

    def _read(self, region: Region, palette: PaletteAs, alpha: bool) -> Array:  # noqa: ARG002  (HDF5 has neither)
        with decoding(self.path, *_ERRORS):
            array = self._axes.arranged(np.asarray(self._data[self._axes.index(region)]))
        if array.dtype.kind == "b":
            return array.astype(np.uint8) * np.uint8(255)
        return np.ascontiguousarray(array, array.dtype.newbyteorder("="))

    def close(self) -> None:
        """As `ImageReader.close`."""
        self._file.close()


class Hdf5Writer(ImageWriter):
    """Compresses each chunk once, as soon as it is complete; fed by `bands`, it holds nothing besides."""

    def __init__(self, target: Target) -> None:
        if target.dtype.kind not in "uif":
            raise DataError(f"{target.path}: an HDF5 file is written from integers or floats, not from {target.dtype}")
        super().__init__(target.path, target.shape, target.channels, target.dtype)
        self._target, self._geometry = target, geometry(target)
        self._chunk = tuple(min(c, n) for c, n in zip(_CHUNK[len(target.shape)], target.shape, strict=True))
        self._buffer = ChunkBuffer(target.shape, self._chunk, target.channels, target.dtype, self._put)

    def bands(self, pixels: int) -> Iterator[Region]:
        """As `ImageWriter.bands`: whole chunks."""
        return aligned_bands(self.shape, self._chunk, pixels)

    def _open(self) -> None:
        temporary = self._cleanup.enter_context(atomic(self.path))
        several = self.channels > 1
        name = "label" if is_mask(self._target) else "probabilities" if self.dtype.kind == "f" else "image"
        with disk_errors(self.path):
            self._file = self._cleanup.enter_context(_h5py().File(temporary, "w"))
            self._data = self._file.create_dataset(
                name, (self.channels, *self.shape) if several else self.shape, self.dtype,
                chunks=(1, *self._chunk) if several else self._chunk,
                shuffle=self._target.compression != "none", track_times=False,
                compression=None if self._target.compression == "none" else "gzip",
            )  # fmt: skip
            for key, value in self._attributes().items():
                self._data.attrs[key] = value
            for axis, letter in zip(self._data.dims, ("C" if several else "") + self._geometry.axes, strict=True):
                axis.label = letter.lower()

    def _attributes(self) -> dict[str, object]:
        place, target = self._geometry, self._target
        found: dict[str, object] = {"axes": ("C" if self.channels > 1 else "") + place.axes}
        if place.spacing is not None:
            found["spacing"] = np.array(place.spacing)
            found["unit"] = place.unit
            if place.unit == "µm" and len(place.spacing) == 3:
                found["element_size_um"] = np.array(place.spacing)
        if target.channel_names:
            found["channel_names"] = json.dumps(target.channel_names, ensure_ascii=False)
        if target.classes:
            found["classes"] = json.dumps({str(c.value): c.name for c in target.classes}, ensure_ascii=False)
        return found

    def _write(self, region: Region, array_CX: Array) -> None:
        with disk_errors(self.path):
            self._buffer.add(region, array_CX)

    def _put(self, region: Region, array_CX: Array) -> None:
        if self.channels > 1:
            self._data[(slice(None), *region.slices)] = array_CX
        else:
            self._data[region.slices] = array_CX[0]

    def _finish(self) -> None:
        with disk_errors(self.path):
            self._file.close()


def _h5py() -> Any:
    try:
        import h5py
    except ModuleNotFoundError:
        raise MachineError(
            "HDF5 files are read by the h5py package, which is not installed: pip install 'unetkit[microscopy]'"
        ) from None
    return h5py


def _suits(data: Any) -> bool:
    """Whether something in a file is an image: an array of numbers."""
    return hasattr(data, "dtype") and data.dtype.kind in "buif" and 1 <= data.ndim <= _MOST_AXES and 0 not in data.shape


def _found(path: Path, file: Any) -> tuple[Inside, ...]:
    found: list[Inside] = []

    def visit(name: str, data: Any) -> None:
        # scales of axes are data sets, too
        if _suits(data) and b"DIMENSION_SCALE" not in (data.attrs.get("CLASS"),):
            found.append(Inside(path / name, is_called_label(name), tuple(data.shape), np.dtype(data.dtype).name))

    file.visititems(visit)
    return tuple(found)


def _channel_names(attributes: Mapping[str, Any], channels: int) -> tuple[str, ...]:
    try:
        names = json.loads(attributes.get("channel_names", "[]"))
    except (TypeError, ValueError):
        return ()
    good = isinstance(names, list) and len(names) == channels > 1 and all(isinstance(n, str) for n in names)
    return tuple(names) if good else ()
