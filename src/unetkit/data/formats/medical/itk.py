"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd), read and written by region.

SimpleITK says what a header means (where voxels lie, how far apart they are); the voxels themselves are read from the
file by region, compressed ones after they were unpacked once. What is stored in other ways (as text, bzip2, in many
files) SimpleITK reads whole. Arrays are (X, Y, Z), the affine is that of nibabel (RAS), whatever the file has.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unetkit.core.errors import DataError
from unetkit.core.files import write_bytes
from unetkit.data.formats.base import ImageInfo, Reading, Target, decoding, unreadable
from unetkit.data.formats.medical.itk_headers import NRRD, SIZE_DIGITS, Header, meta_header, nrrd_header, read_header
from unetkit.data.formats.medical.volumes import (
    LPS_RAS,
    MOST_AXES,
    VolumeReader,
    VolumeWriter,
    as_sixteen,
    needed,
    place_of,
    refuse_reading,
    space_axes,
    spacing_of,
)
from unetkit.data.formats.medical.voxels import Layout, Voxels, open_file, scratch, unpack

_ERRORS = (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, OverflowError, RuntimeError, zlib.error)
_TYPES = {
    "UInt8": "u1", "Int8": "i1", "UInt16": "u2", "Int16": "i2", "UInt32": "u4", "Int32": "i4", "UInt64": "u8",
    "Int64": "i8", "Float32": "f4", "Float64": "f8",
}  # fmt: skip


def open_image(path: Path, reading: Reading) -> VolumeReader:
    """Open a NRRD or MetaImage file. Raises DataError: damaged, voxels missing, four axes, no real numbers;
    MachineError: no SimpleITK."""
    sitk = needed("SimpleITK", path, "NRRD and MetaImage files are read")
    with decoding(path, *_ERRORS):
        header = read_header(path)
        for file in header.files:
            if not file.is_file():
                raise DataError(f"{path}: its voxels are in {file.name}, which is missing; copy the two together")
        found = sitk.ImageFileReader()
        found.SetFileName(str(path))
        try:
            found.ReadImageInformation()
        except RuntimeError as error:
            raise unreadable(path, _reason(error)) from None
        reader = _reader(path, header, found, sitk)
    refuse_reading(path, reading, reader.info)
    return reader


def create_image(target: Target) -> VolumeWriter:
    """Begin a NRRD or MetaImage file; of .nhdr and .mhd, that and its file of voxels.

    Raises DataError: values that it does not hold.
    """
    if target.dtype.str[1:] not in _TYPES.values():
        raise DataError(
            f"{target.path}: NRRD and MetaImage files do not hold {target.dtype}; write integers or float32"
        )
    return ItkWriter(target)


def data_files(path: Path) -> tuple[Path, ...]:
    """The files of the voxels of a header (.nhdr, .mhd); () where they follow it. Raises DataError: damaged."""
    with decoding(path, *_ERRORS):
        return read_header(path).files


def _reader(path: Path, header: Header, found: Any, sitk: Any) -> VolumeReader:
    sizes, channels = tuple(int(n) for n in found.GetSize()), int(found.GetNumberOfComponents())
    kinds = {getattr(sitk, f"sitk{v}{name}"): kind for name, kind in _TYPES.items() for v in ("", "Vector")}
    kind = kinds.get(found.GetPixelID())
    if kind is None:
        raise DataError(
            f"{path}: values of the kind '{sitk.GetPixelIDValueAsString(found.GetPixelID())}' are not read; save real "
            "numbers, one file per channel"
        )
    if any(n > 1 for n in sizes[MOST_AXES:]):
        raise DataError(
            f"{path}: a file of {' × '.join(map(str, sizes))} is no volume; volumes have three axes: save each volume "
            "of a time series as a file of its own, or the channels as a vector for each voxel"
        )
    ndim = min(MOST_AXES, len(sizes))
    space = list(sizes[:ndim])
    while len(space) > 2 and space[-1] == 1:
        space.pop()
    affine = np.eye(4)
    step = np.reshape(found.GetDirection(), (len(sizes),) * 2) @ np.diag(found.GetSpacing())
    affine[:ndim, :ndim], affine[:ndim, 3] = step[:ndim, :ndim], found.GetOrigin()[:ndim]
    affine = LPS_RAS @ affine
    spacing = spacing_of(affine, len(space)) if header.stated or header.sized else None
    info = ImageInfo(
        shape=tuple(space),
        channels=channels,
        alpha=False,
        dtype=np.dtype(kind).name,
        mode="grey" if channels == 1 else "bands",
        spacing=spacing,
        affine=as_sixteen(affine) if header.stated else None,
        axes=space_axes(tuple(space)),
        unit="mm" if spacing is not None else "",
    )
    understood = (header.sizes, header.channels, header.dtype.newbyteorder("=")) == (sizes, channels, np.dtype(kind))
    if header.encoding == "other" or not understood:
        return VolumeReader(path, info, ndim, lambda: _whole(path, info, sitk), _ERRORS)
    file = header.files[0] if header.files else path
    if header.encoding == "packed":
        layout = Layout(info.shape, channels, header.dtype, interleaved=True)
        return VolumeReader(path, info, ndim, lambda: unpack(file, layout, header.begin), _ERRORS)
    layout = Layout(info.shape, channels, header.dtype, interleaved=True, offset=header.begin)
    if (end := layout.offset + layout.nbytes) > (size := file.stat().st_size):
        raise unreadable(file, f"voxels end at byte {end}, the file at byte {size}")
    return VolumeReader(path, info, ndim, lambda: Voxels(layout, open_file(file)), _ERRORS)


def _whole(path: Path, info: ImageInfo, sitk: Any) -> Voxels:
    """What is stored in an unusual way, read whole."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise unreadable(path, _reason(error)) from None
    layout = Layout(info.shape, info.channels, np.dtype(info.dtype), interleaved=True)
    room = scratch(layout.nbytes)
    room.write_at(0, np.asarray(sitk.GetArrayViewFromImage(image)).reshape(-1).view(np.uint8).data)
    return Voxels(layout, room)


def _reason(error: RuntimeError) -> str:
    """What SimpleITK says, without where in its code it says so."""
    return str(error).strip().splitlines()[-1].split("ERROR: ")[-1]


class ItkWriter(VolumeWriter):
    """Written over `like`, in the axes that it is stored in."""

    def __init__(self, target: Target) -> None:
        suffix = target.path.suffix.lower()
        packed = target.compression != "none"
        self._nrrd = suffix in NRRD
        self._data = ""
        if suffix in (".nhdr", ".mhd"):
            packed_suffix = ".raw.gz" if self._nrrd else ".zraw"
            self._data = target.path.stem + (packed_suffix if packed else ".raw")
        layout = Layout(target.shape, target.channels, target.dtype.newbyteorder("<"), interleaved=True)
        wbits = None if not packed else 31 if self._nrrd else 15
        super().__init__(target, layout, wbits, target.path.with_name(self._data) if self._data else None)
        self._target = target

    def _begin(self) -> tuple[bytes, bytes]:
        place = place_of(self._target)
        lps = None if place.affine is None else LPS_RAS @ place.affine
        sizes = place.stored(self.shape)
        if lps is not None and len(sizes) == 2 and not np.allclose(lps[2], (0, 0, lps[2, 2], 0)):
            sizes = (*sizes, 1)  # a plane that is turned in space needs three axes to say so
        self._says = (sizes, self.channels, self._layout.dtype, lps, place.spacing)
        if self._data:
            self._cleanup.enter_context(self._header_behind())
            return b"", b""
        return self._header(0)[0], b""

    def _header(self, packed: int) -> tuple[bytes, int]:
        sizes, channels, dtype, lps, spacing = self._says
        if self._nrrd:
            return nrrd_header(sizes, channels, dtype, self._wbits is not None, lps, spacing, self._data), -1
        return meta_header(sizes, channels, dtype, None if self._wbits is None else packed, lps, spacing, self._data)

    def _finish(self) -> None:
        super()._finish()
        header, at = self._header(0)
        self._packed = self._file.tell() - (0 if self._data else len(header))
        if at >= 0 and not self._data:
            self._file.seek(at)
            self._file.write(b"%0*d" % (SIZE_DIGITS, self._packed))
            self._file.flush()

    @contextlib.contextmanager
    def _header_behind(self) -> Iterator[None]:
        """The header of a file of voxels appears after it, and only if it does."""
        yield
        write_bytes(self.path, self._header(self._packed)[0])
