"""What the formats of medical volumes share: where voxels lie, reading as they are stored, writing in that order."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from unetkit.core.errors import DataError, MachineError
from unetkit.core.files import atomic, disk_errors
from unetkit.core.region import Region
from unetkit.data.formats import open_image
from unetkit.data.formats.base import (
    Array,
    ImageInfo,
    ImageReader,
    ImageWriter,
    PaletteAs,
    Reading,
    Target,
    decoding,
)
from unetkit.data.formats.medical.voxels import DiskFile, Layout, Voxels, scratch
from unetkit.data.formats.spacing import chosen_level

MOST_AXES = 3
LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From the axes of DICOM and ITK (left, posterior, superior) to ours (right, anterior, superior), and back."""

_MILLIMETRES = {"mm": 1.0, "µm": 1e-3, "um": 1e-3, "nm": 1e-6, "cm": 10.0, "m": 1e3}


class VolumeReader(ImageReader):
    """A volume whose voxels stand as a `Layout` says, opened (and unpacked, where compressed) at the first read.

    stored_axes: the axes of space in the file, among them those of length 1, which are no axes of the array.
    """

    def __init__(
        self, path: Path, info: ImageInfo, stored_axes: int, load: Callable[[], Voxels],
        errors: tuple[type[BaseException], ...],
    ) -> None:  # fmt: skip
        """`load` gives the voxels; the `errors` that it and reading may raise mean that the file is damaged."""
        super().__init__(path, info)
        self.stored_axes = stored_axes
        self._load = load
        self._errors = errors
        self._voxels: Voxels | None = None

    def _read(self, region: Region, palette: PaletteAs, alpha: bool) -> Array:  # noqa: ARG002  (volumes have neither)
        with decoding(self.path, *self._errors):
            if self._voxels is None:
                self._voxels = self._load()
            return self._values(self._voxels.read(region))

    def _values(self, stored_CX: Array) -> Array:
        """What the stored numbers mean, in the file's own scale."""
        return stored_CX

    def close(self) -> None:
        """As `ImageReader.close`."""
        if self._voxels is not None:
            self._voxels.close()
        self._voxels = None


def needed(package: str, path: Path, what: str) -> Any:
    """A reader package, imported. Raises MachineError: not installed; `what` are the files that it is needed for."""
    try:
        return importlib.import_module(package)
    except ImportError:
        name = package.split(".")[0]
        raise MachineError(
            f"{path}: {what} with the {name} package, which is not installed: pip install 'unetkit[medical]'"
        ) from None


def space_axes(shape: tuple[int, ...]) -> str:
    """The names of the axes of a medical volume or slice."""
    return "XYZ"[: len(shape)]


def refuse_reading(path: Path, reading: Reading, info: ImageInfo) -> None:
    """Raises DataError where the user says of a file what its header says otherwise: axes, a level of a pyramid."""
    wanted = reading.axes.upper().replace("C", "")
    if wanted and wanted != info.axes:
        raise DataError(
            f"{path}: the axes of this file are {info.axes}, as its header says, and not {reading.axes}; leave out "
            "--axes for it"
        )
    if reading.level and reading.pixel_size is None:
        chosen_level(path, reading, [info.shape], [info.spacing])


@dataclass(frozen=True, slots=True)
class Place:
    """Where the voxels of a file that is written lie.

    affine: (4, 4) from voxel to millimetres in RAS; None: not known. spacing: in mm; None: not known. stored_axes: of
    the image that it lies over, counting axes of length 1.
    """

    affine: Array | None
    spacing: tuple[float, ...] | None
    stored_axes: int

    def stored(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape with the axes of length 1 that the image has."""
        return (*shape, *(1,) * (self.stored_axes - len(shape)))


def place_of(target: Target) -> Place:
    """Where the image lies over which a file is written. Raises DataError: it cannot be opened."""
    if target.like is None:
        return Place(None, None, len(target.shape))
    with open_image(target.like, target.reading) as reader:
        info = reader.info
    if info.shape != target.shape:
        raise ValueError(f"{target.path}: {target.shape} does not lie over {target.like} of {info.shape}")
    if isinstance(reader, VolumeReader):
        affine = None if info.affine is None else np.reshape(info.affine, (4, 4))
        return Place(affine, info.spacing, reader.stored_axes)
    if info.spacing is None or (scale := _MILLIMETRES.get(info.unit)) is None:
        return Place(None, None, len(info.shape))
    return _of_other(info, scale)


def _of_other(info: ImageInfo, scale: float) -> Place:
    """Of a stack of images: no scanner is known, but which axis is which, and how far apart its elements are."""
    spacing = tuple(s * scale for s in info.spacing or ())
    affine = np.eye(4)
    if sorted(info.axes) == sorted("XYZ"[: len(spacing)]):
        affine[:3, : len(spacing)] = 0
        for axis, (name, size) in enumerate(zip(info.axes, spacing, strict=True)):
            affine["XYZ".index(name), axis] = size
    else:
        affine[range(len(spacing)), range(len(spacing))] = spacing
    return Place(affine, spacing, len(spacing))


def bands_of(layout: Layout, pixels: int) -> Iterator[Region]:
    """Regions of about `pixels` in the order of the file: whole planes, or rows of a plane where one is larger."""
    columns, rows, planes = layout.sides
    deep, high = max(1, pixels // (columns * rows)), max(1, min(rows, pixels // columns))
    ndim = len(layout.shape)
    for k in range(0, planes, deep):
        for a in range(0, rows, high):
            start, stop = (0, a, k), (columns, min(rows, a + high), min(planes, k + deep))
            yield Region(start[:ndim], stop[:ndim])


class VolumeWriter(ImageWriter):
    """Writes voxels in the order of the file: bands along the last axis go straight through.

    A compressed file is a stream: what comes early waits in a temporary file beside it. An uncompressed one is entered
    where it is needed. Either way a writer holds little more than the region that it is given.
    """

    def __init__(self, target: Target, layout: Layout, wbits: int | None, body: Path | None = None) -> None:
        """wbits: of zlib (31 for gzip, 15 for zlib); None: not compressed. body: the file of the voxels, if another."""
        super().__init__(target.path, target.shape, target.channels, target.dtype)
        self._layout = layout
        self._wbits = wbits
        self._body = body or target.path
        self._stream: _InOrder | None = None
        self._inside: Voxels | None = None

    def bands(self, pixels: int) -> Iterator[Region]:
        """As `ImageWriter.bands`, along the last axis."""
        return bands_of(self._layout, pixels)

    def _begin(self) -> tuple[bytes, bytes]:
        """(what stands before the voxels as it is, what is compressed with them)."""
        return b"", b""

    def _open(self) -> None:
        plain, head = self._begin()
        temporary = self._cleanup.enter_context(atomic(self._body))
        self._file: BinaryIO = self._cleanup.enter_context(temporary.open("wb+"))
        with disk_errors(self._body):
            self._file.write(plain)
            if self._wbits is None:
                self._file.write(head)
                self._file.flush()
                layout = Layout(
                    self._layout.shape, self.channels, self._layout.dtype, self._layout.interleaved, self._file.tell()
                )
                self._file.truncate(layout.offset + layout.nbytes)
                self._inside = Voxels(layout, DiskFile(self._file.fileno(), self._body))
                return
            # no time of day in it: equal masks are equal files
            self._packer = zlib.compressobj(6, zlib.DEFLATED, self._wbits)
            self._file.write(self._packer.compress(head))
        self._stream = _InOrder(self._layout, self._pack, self._body.parent)
        self._cleanup.callback(self._stream.close)

    def _pack(self, data: memoryview) -> None:
        with disk_errors(self._body):
            self._file.write(self._packer.compress(data))

    def _write(self, region: Region, array_CX: Array) -> None:
        if self._stream is not None:
            self._stream.write(region, array_CX)
        elif self._inside is not None:
            self._inside.write(region, array_CX)

    def _finish(self) -> None:
        with disk_errors(self._body):
            if self._stream is not None:
                self._file.write(self._packer.flush())
            self._file.flush()


class _InOrder:
    """Passes rows on in the order of a file, as they become complete; those that are early wait in a temporary file."""

    def __init__(self, layout: Layout, sink: Callable[[memoryview], None], folder: Path) -> None:
        self._layout = Layout(layout.shape, layout.channels, layout.dtype, layout.interleaved)
        self._sink = sink
        self._folder = folder
        columns, rows, planes = layout.sides
        self._missing = np.full(rows * planes, columns, np.int32)  # pixels of each row; channels come together
        self._passed = 0  # rows passed on, over all parts
        self._waiting: Voxels | None = None

    def write(self, region: Region, array_CX: Array) -> None:
        """Take (C, *region), whichever it is."""
        (x0, x1), (y0, y1), (z0, z1) = self._layout.box(region)
        columns, rows, _ = self._layout.sides
        run = x1 - x0 == columns and (y1 - y0 == rows or z1 - z0 == 1)  # one stretch of each part of the file
        first = 0
        if run and z0 * rows + y0 == self._passed:
            self._pass_on(region, array_CX)
            self._passed += (y1 - y0) * (z1 - z0)
            first = 1
        if first < self._layout.parts:
            self._wait().write(region, array_CX, first)
        self._missing.reshape(-1, rows)[z0:z1, y0:y1] -= x1 - x0
        self._drain()

    def close(self) -> None:
        """Let go of the temporary file."""
        if self._waiting is not None:
            self._waiting.close()
        self._waiting = None

    def _pass_on(self, region: Region, array_CX: Array) -> None:
        """The first part of what comes just in time."""
        layout = self._layout
        (x0, x1), (y0, y1), (z0, z1) = layout.box(region)
        array_CXYZ = array_CX.reshape(array_CX.shape[0], x1 - x0, y1 - y0, z1 - z0)
        if not layout.interleaved:
            array_CXYZ = array_CXYZ[:1]
        for plane in range(z1 - z0):
            values = np.ascontiguousarray(array_CXYZ[..., plane].transpose(2, 1, 0), layout.dtype)
            self._sink(values.reshape(-1).view(np.uint8).data)

    def _wait(self) -> Voxels:
        if self._waiting is None:
            self._waiting = Voxels(self._layout, scratch(self._layout.nbytes, self._folder))
        return self._waiting

    def _drain(self) -> None:
        """Pass on the rows that are complete and next."""
        rows = self._missing.size
        size = self._layout.row * self._layout.dtype.itemsize
        step = max(1, 2**22 // size)
        while self._passed < rows * self._layout.parts:
            at = self._passed % rows
            ahead = np.flatnonzero(self._missing[at : at + step])
            count = min(step, rows - at) if not ahead.size else int(ahead[0])
            if not count:
                return
            data = np.empty(count * size, np.uint8)
            self._wait().read_bytes(self._passed * size, data)
            self._sink(data.data)
            self._passed += count


def spacing_of(affine: Array, ndim: int) -> tuple[float, ...] | None:
    """The size of a voxel along its axes in mm; None where it is not sensible."""
    found = tuple(round(float(s), 6) for s in np.sqrt((affine[:3, :3] ** 2).sum(0))[:ndim])
    return found if all(0 < s < np.inf for s in found) else None


def as_sixteen(affine: Any) -> tuple[float, ...]:
    """An affine as `ImageInfo` has it."""
    return tuple(float(v) for v in np.asarray(affine).ravel())
