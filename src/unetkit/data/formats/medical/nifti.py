"""NIfTI volumes (.nii, .nii.gz), read and written by region; headers through nibabel.

Axes are in the order of the file, (X, Y, Z), as nibabel gives them: what was trained on files predicts such arrays.
Further axes of length 1 are no axes, so that a single slice is an image; a fourth axis holds channels (modalities, or
the classes of probabilities).
"""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling
from nibabel.wrapstruct import WrapStructError

from unetkit.core.errors import DataError
from unetkit.data.formats.base import Array, ImageInfo, Reading, Target, decoding, unreadable
from unetkit.data.formats.medical.volumes import (
    MOST_AXES,
    Place,
    VolumeReader,
    VolumeWriter,
    as_sixteen,
    place_of,
    refuse_reading,
    space_axes,
)
from unetkit.data.formats.medical.voxels import Layout, Voxels, open_file, unpack

_ERRORS = (
    OSError, EOFError, ValueError, TypeError, KeyError, IndexError, OverflowError, zlib.error, ImageFileError,
    HeaderDataError, WrapStructError,
)  # fmt: skip
_MILLIMETRES = {"micron": 1e-3, "meter": 1e3}
_SUFFIXES = (".nii", ".nii.gz")
_MOST_CHANNELS = 16  # a longer fourth axis that the header says to be time is no list of modalities
_LONGEST = 2**15 - 1  # NIfTI-1 counts with 16 bits


def open_image(path: Path, reading: Reading) -> NiftiReader:
    """Open a NIfTI file. Raises DataError: damaged, no NIfTI, a time series, other axes, no real numbers."""
    with decoding(path, *_ERRORS):
        image = _load(path)
    reader = NiftiReader(path, image)
    refuse_reading(path, reading, reader.info)
    return reader


def create_image(target: Target) -> NiftiWriter:
    """Begin a NIfTI file. Raises DataError: values that it does not hold."""
    return NiftiWriter(target)


class NiftiReader(VolumeReader):
    """Reads a compressed file whole, once (it cannot be entered in the middle); others by region."""

    def __init__(self, path: Path, image: Any) -> None:
        space, channels, notes = _axes(path, image)
        kind = np.dtype(image.get_data_dtype())
        if kind.kind not in "buif":
            raise DataError(f"{path}: values of the kind {kind} are not read; save real numbers, one file per channel")
        self._scale = (float(image.dataobj.slope), float(image.dataobj.inter))
        affine, spacing = _place(image, len(space))
        info = ImageInfo(
            shape=space,
            channels=channels,
            alpha=False,
            dtype="float32" if self._scale != (1, 0) else kind.newbyteorder("=").name,
            mode="grey" if channels == 1 else "bands",
            spacing=spacing,
            affine=affine,
            axes=space_axes(space),
            unit="mm" if spacing is not None else "",
            notes=notes,
        )
        layout = Layout(space, channels, kind, offset=int(image.dataobj.offset))
        packed = _compressed(path)
        if not packed and (end := layout.offset + layout.nbytes) > path.stat().st_size:
            raise unreadable(path, f"voxels end at byte {end}, the file at byte {path.stat().st_size}")

        def load() -> Voxels:
            return unpack(path, layout) if packed else Voxels(layout, open_file(path))

        super().__init__(path, info, min(MOST_AXES, len(image.shape)), load, _ERRORS)

    def _values(self, stored_CX: Array) -> Array:
        if self._scale != (1, 0):
            stored_CX = apply_read_scaling(stored_CX, *self._scale)
        return np.asarray(stored_CX, self.info.dtype)


class NiftiWriter(VolumeWriter):
    """Written in the place and with the geometry of `like`; of a NIfTI file, with its header."""

    def __init__(self, target: Target) -> None:
        """Without `like`: voxels of 1 mm from the origin."""
        dtype = target.dtype
        if dtype.kind not in "uif" or dtype == np.float16:
            raise DataError(f"{target.path}: NIfTI files do not hold {dtype}; write integers or float32")
        layout = Layout(target.shape, target.channels, dtype.newbyteorder("<"))
        super().__init__(target, layout, 31 if _compressed(target.path) else None)
        self._target = target

    def _begin(self) -> tuple[bytes, bytes]:
        place = place_of(self._target)
        space = place.stored(self.shape)
        shape = space if self.channels == 1 else (*space, *(1,) * (MOST_AXES - len(space)), self.channels)
        header = _header_of(self._target.like)
        if header is None:
            header = _new_header(place, large=max(shape) > _LONGEST)
        header.set_data_dtype(self.dtype.newbyteorder("<"))
        header.set_data_shape(shape)
        if self.channels > 1:
            header["pixdim"][MOST_AXES + 1] = 1
            header.set_xyzt_units(header.get_xyzt_units()[0])  # classes are no points in time
        header.set_slope_inter(1, 0)
        header.set_data_offset(header.single_vox_offset)
        head = io.BytesIO()
        header.write_to(head)
        return b"", head.getvalue().ljust(header.get_data_offset(), b"\0")


def _load(path: Path) -> Any:
    image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Image):
        raise DataError(f"{path}: this is not a NIfTI file, whatever its suffix says; export it again")
    return image


def _header_of(like: Path | None) -> Any:
    """What the header of a NIfTI file says of where and how large its voxels are, and nothing that speaks of their
    values; None: another file."""
    if like is None or not like.name.lower().endswith(_SUFFIXES):
        return None
    with decoding(like, *_ERRORS):
        header = _load(like).header.as_byteswapped("<")
    header.extensions.clear()
    for name in ("cal_min", "cal_max", "intent_code", "intent_p1", "intent_p2", "intent_p3"):
        header[name] = 0
    for name in ("descrip", "aux_file", "intent_name"):
        header[name] = b""
    return header


def _new_header(place: Place, large: bool) -> Any:
    header = (nibabel.Nifti2Header if large else nibabel.Nifti1Header)()
    header.set_data_shape((1, 1, 1))
    header.set_xyzt_units("mm")
    if place.affine is None and place.spacing is not None:
        header.set_zooms((*place.spacing, *(1.0,) * (MOST_AXES - len(place.spacing))))
        return header
    affine = np.eye(4) if place.affine is None else place.affine
    axes = affine[:3, :3] / np.maximum(np.sqrt((affine[:3, :3] ** 2).sum(0)), 1e-12)
    square = np.allclose(axes.T @ axes, np.eye(3), atol=1e-4)
    header.set_qform(affine, 1 if square else 0)  # quaternions turn, and cannot shear
    header.set_sform(affine, 1)
    return header


def _compressed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _axes(path: Path, image: Any) -> tuple[tuple[int, ...], int, tuple[str, ...]]:
    """(shape of space, number of channels, what was guessed). Raises DataError."""
    shape = tuple(int(n) for n in image.shape)
    if 0 in shape or not shape:
        raise DataError(f"{path}: the file holds no voxel (its shape is {shape}); export it again")
    vector = len(shape) == 5 and shape[3] == 1  # NIfTI's own place for vectors
    if vector:
        shape = (*shape[:3], shape[4])
    sides = " × ".join(map(str, shape))
    if len(shape) > MOST_AXES + 1:
        raise DataError(
            f"{path}: a file of {sides} is no volume; volumes have three axes, and perhaps a fourth of channels"
        )
    space, channels = list(shape[:MOST_AXES]), shape[MOST_AXES] if len(shape) > MOST_AXES else 1
    notes = []
    if channels > 1 and not vector and (unit := image.header.get_xyzt_units()[1]) in ("sec", "msec", "usec"):
        if channels > _MOST_CHANNELS:
            step = float(image.header["pixdim"][4])
            raise DataError(
                f"{path}: a time series of {sides} ({channels} volumes, one each {step:g} {unit}); a volume is read at "
                "a time: split it (nibabel.funcs.four_to_three, or fslsplit), or save their mean"
            )
        notes.append(f"its fourth axis of {channels} is read as channels, though its header calls it time")
    while len(space) > 2 and space[-1] == 1:
        space.pop()
    return tuple(space), channels, tuple(notes)


def _place(image: Any, ndim: int) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """(the affine in mm row by row, where the header states one; the size of a voxel in mm, where it is known)."""
    header = image.header
    scale = _MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)
    stated = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    affine = np.diag([scale, scale, scale, 1.0]) @ image.affine
    sizes = voxel_sizes(affine) if stated else np.array([*header.get_zooms(), 1.0, 1.0]) * scale
    spacing = tuple(round(float(s), 6) for s in sizes[:ndim])
    known = all(0 < s < np.inf for s in spacing)
    return as_sixteen(affine) if stated else None, spacing if known else None
