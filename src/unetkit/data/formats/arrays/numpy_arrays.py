"""NumPy arrays: .npy, mapped and read by region; .npz, whose arrays are named behind its path (`a.npz/image`).

Nothing is unpickled: arrays of objects are refused.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from unetkit.core.errors import DataError
from unetkit.core.files import atomic, disk_errors
from unetkit.core.region import Region
from unetkit.data.formats.arrays.inside import is_called_label, missing, the_one
from unetkit.data.formats.axes import UNKNOWN, understand
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
    unreadable,
)
from unetkit.data.formats.medical.voxels import DiskFile, Layout, Voxels, roomy
from unetkit.data.formats.spacing import chosen_level
from unetkit.data.formats.table import split_address

_ERRORS = (OSError, ValueError, EOFError, KeyError, TypeError, SyntaxError, zipfile.BadZipFile, zlib.error,
           NotImplementedError, RuntimeError)  # fmt: skip
_MOST_AXES = 5


def open_image(path: Path, reading: Reading) -> NumpyReader:
    """Open an array. Raises DataError: damaged, of objects, axes that do not fit, several arrays and none named."""
    outer, name = split_address(path)
    with decoding(outer, *_ERRORS):
        file, offset = (outer.open("rb"), 0) if outer.suffix.lower() != ".npz" else _member(outer, name)
        try:
            return NumpyReader(path, file, offset, reading)
        except BaseException:
            file.close()
            raise


def contents(path: Path) -> tuple[Inside, ...]:
    """The arrays of an .npz that are images, those that are called labels marked. Raises DataError: damaged."""
    found = []
    with decoding(path, *_ERRORS), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.filename.endswith(".npy"):
                continue
            with archive.open(info) as file:
                shape, _, dtype = _header(path, file)
            if dtype.kind in "buif" and 1 <= len(shape) <= _MOST_AXES and 0 not in shape:
                name = info.filename.removesuffix(".npy")
                found.append(Inside(path / name, is_called_label(name), shape, dtype.name))
    return tuple(found)


def create_image(target: Target) -> NpyWriter:
    """Begin an .npy: (*space), or (channels, *space). Raises DataError: values that are no numbers."""
    return NpyWriter(target)


class NumpyReader(ImageReader):
    """Maps the array anew for each read, so that pages that were touched do not stay in memory."""

    def __init__(self, path: Path, file: IO[bytes], offset: int, reading: Reading) -> None:
        """The array's header begins at byte `offset` of `file`, which is closed with the reader."""
        file.seek(offset)
        self._shape, self._fortran, self._dtype = _header(path, file)
        self._file, self._offset = file, file.tell()
        end, size = self._offset + int(np.prod(self._shape)) * self._dtype.itemsize, file.seek(0, os.SEEK_END)
        if self._dtype.kind not in "buif":
            raise DataError(f"{path}: values of type {self._dtype} are not read; save integers or floats")
        if end > size:
            raise unreadable(path, f"values end at byte {end}, the file at byte {size}")
        self._axes = understand(path, self._shape, UNKNOWN * len(self._shape), reading)
        chosen_level(path, reading, [self._axes.shape], [None])
        super().__init__(
            path,
            ImageInfo(
                shape=self._axes.shape,
                channels=self._axes.channels,
                alpha=False,
                dtype="uint8" if self._dtype.kind == "b" else self._dtype.newbyteorder("=").name,
                mode="grey" if self._axes.channels == 1 else "bands",
                axes=self._axes.names,
                notes=self._axes.notes,
            ),
        )

    def _read(self, region: Region, palette: PaletteAs, alpha: bool) -> Array:  # noqa: ARG002  (arrays have neither)
        with decoding(self.path, *_ERRORS):
            mapped = np.memmap(self._file, self._dtype, "r", self._offset, self._shape, "F" if self._fortran else "C")
            part = self._axes.arranged(mapped[self._axes.index(region)])
            array = np.array(part, self._dtype.newbyteorder("="), order="C", subok=False)
        return array.astype(np.uint8) * np.uint8(255) if array.dtype.kind == "b" else array

    def close(self) -> None:
        """As `ImageReader.close`."""
        self._file.close()


class NpyWriter(ImageWriter):
    """Writes each region to its place in the file; nothing is held."""

    def __init__(self, target: Target) -> None:
        if target.dtype.kind not in "uif":
            raise DataError(f"{target.path}: an .npy is written from integers or floats, not from {target.dtype}")
        if target.path.suffix.lower() == ".npz":
            raise DataError(f"{target.path}: arrays are written as .npy, not as .npz")
        super().__init__(target.path, target.shape, target.channels, target.dtype)
        self._stored = self.shape if self.channels == 1 else (self.channels, *self.shape)

    def _open(self) -> None:
        self._temporary = self._cleanup.enter_context(atomic(self.path))
        with disk_errors(self.path), self._temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": self._stored}
            )
            offset = file.tell()
            file.truncate(offset + int(np.prod(self._stored)) * self.dtype.itemsize)

        handle = os.open(self._temporary, os.O_RDWR)
        # the last axis of an array in C order is the first of the layout
        layout = Layout(self.shape[::-1], self.channels, self.dtype, offset=offset)
        self._voxels = Voxels(layout, DiskFile(handle, self.path))
        self._cleanup.callback(self._voxels.close)

    def _write(self, region: Region, array_CX: Array) -> None:
        axes = (0, *range(array_CX.ndim - 1, 0, -1))
        self._voxels.write(Region(region.start[::-1], region.stop[::-1]), array_CX.transpose(axes))

    def _finish(self) -> None:
        pass


def _header(path: Path, file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """(shape, whether the first index runs fastest, type) of an array, from its header. Raises DataError."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise DataError(
            f"{path}: an array of Python objects is not read, since that could run code; save numbers: "
            "np.save(path, array.astype('float32'))"
        )
    return tuple(int(n) for n in shape), bool(fortran), dtype


def _member(path: Path, name: str) -> tuple[IO[bytes], int]:
    """(file, byte at which the array begins) of an array in an .npz: in place or, where it is compressed, unpacked into
    a temporary file without a name."""
    found = contents(path)
    if not name:
        name = the_one(path, found).address.relative_to(path).as_posix()
    if path / name not in [item.address for item in found]:
        raise missing(path, name, found)
    with zipfile.ZipFile(path) as archive, contextlib.ExitStack() as stack:
        info = archive.getinfo(f"{name}.npy")
        if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1:
            file = stack.enter_context(path.open("rb"))
            file.seek(info.header_offset + 26)
            lengths = np.frombuffer(file.read(4), "<u2")  # of the name and of the extra field
            stack.pop_all()
            return file, info.header_offset + 30 + int(lengths.sum())
        folder = roomy()
        unpacked = stack.enter_context(tempfile.TemporaryFile(dir=folder))
        with archive.open(info) as packed:
            for piece in iter(lambda: packed.read(2**22), b""):
                with disk_errors(folder):
                    unpacked.write(piece)
        unpacked.flush()
        stack.pop_all()
    return unpacked, 0
