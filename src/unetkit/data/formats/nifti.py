"""NIfTI volumes (.nii, .nii.gz), read by region and written whole, through nibabel.

Axes are in the order of the file, (X, Y, Z), as nibabel gives them: what was trained on files predicts such arrays.
Further axes of length 1 are no axes, so that a single slice is an image; a fourth axis holds channels (modalities, or
the classes of probabilities).
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from unetkit.core.errors import DataError
from unetkit.core.files import write_bytes
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

_ERRORS = (
    OSError, EOFError, ValueError, TypeError, KeyError, IndexError, OverflowError, zlib.error, ImageFileError,
    HeaderDataError, WrapStructError,
)  # fmt: skip
_MILLIMETRES = {"micron": 1e-3, "meter": 1e3}
MOST_AXES = 3


def open_image(path: Path, reading: Reading) -> NiftiReader:  # noqa: ARG001  (the header says all)
    """Open a NIfTI file. Raises DataError: damaged, no NIfTI, more than three axes and channels, no real numbers."""
    with decoding(path, *_ERRORS):
        image = _load(path)
    return NiftiReader(path, image)


def create_image(target: Target) -> NiftiWriter:
    """Begin a NIfTI file. Raises DataError: values that it does not hold."""
    return NiftiWriter(target.path, target.shape, target.channels, target.dtype, target.like)


class NiftiReader(ImageReader):
    """Reads a compressed file whole, once, and keeps it (it cannot be entered in the middle); others by region."""

    def __init__(self, path: Path, image: Any) -> None:
        self._image = image
        self._space, channels = _axes(path, image)
        kind = np.dtype(image.get_data_dtype())
        if kind.kind not in "buif":
            raise DataError(f"{path}: values of the kind {kind} are not read; save real numbers, one file per channel")
        scaled = image.dataobj.slope != 1 or image.dataobj.inter != 0
        affine, spacing = _place(image, len(self._space))
        super().__init__(
            path,
            ImageInfo(
                shape=self._space,
                channels=channels,
                alpha=False,
                dtype="float32" if scaled else kind.newbyteorder("=").name,
                mode="grey" if channels == 1 else "bands",
                spacing=spacing,
                affine=affine,
            ),
        )
        self._whole: Array | None = None
        if not _compressed(path):
            end = int(image.dataobj.offset) + kind.itemsize * int(np.prod(image.shape))
            if end > path.stat().st_size:
                raise unreadable(path, f"voxels end at byte {end}, the file at byte {path.stat().st_size}")

    def _read(self, region: Region, palette: PaletteAs, alpha: bool) -> Array:  # noqa: ARG002  (NIfTI has neither)
        data = self._image.dataobj
        with decoding(self.path, *_ERRORS):
            if _compressed(self.path):
                if self._whole is None:
                    self._whole = self._channels_first(np.asanyarray(data))
                part_CX = self._whole[(slice(None), *region.slices)]
            else:
                inner = data[(*region.slices, *(slice(None),) * (len(self._image.shape) - len(region.start)))]
                part_CX = self._channels_first(inner, region.shape)
        return np.array(part_CX, self.info.dtype, order="C")

    def _channels_first(self, array: Array, shape: tuple[int, ...] | None = None) -> Array:
        array = array.reshape((*(shape or self._space), self.info.channels), order="F")
        return np.moveaxis(array, -1, 0)

    def close(self) -> None:
        self._whole = None


class NiftiWriter(ImageWriter):
    """Collects the voxels in memory and writes them at the end, in the place and with the geometry of `like`."""

    def __init__(
        self, path: Path, shape: tuple[int, ...], channels: int, dtype: np.dtype[np.generic], like: Path | None
    ) -> None:
        """`like`: the NIfTI file that this one lies over; None: voxels of 1 mm from the origin."""
        if dtype.kind not in "uif" or dtype == np.float16:
            raise DataError(f"{path}: NIfTI files do not hold {dtype}; write integers or float32")
        super().__init__(path, shape, channels, dtype)
        self._like = like
        self._array_CX: Array = np.empty((0,) * (1 + len(shape)), dtype)

    def _open(self) -> None:
        self._array_CX = np.zeros((self.channels, *self.shape), self.dtype)

    def _write(self, region: Region, array_CX: Array) -> None:
        self._array_CX[(slice(None), *region.slices)] = array_CX

    def _finish(self) -> None:
        space, template = self.shape, None
        if self._like is not None:
            with decoding(self._like, *_ERRORS):
                template = _load(self._like)
            if _axes(self._like, template)[0] != self.shape:
                raise ValueError(f"{self.path}: {self.shape} does not lie over {self._like} of {template.shape}")
            space = template.shape[:MOST_AXES]  # with the axes of length 1 that its image has
        array = np.moveaxis(self._array_CX, 0, -1)
        if self.channels == 1:
            array = array[..., 0].reshape(space)
        else:
            array = array.reshape((*space, *(1,) * (MOST_AXES - len(space)), self.channels))
        self._array_CX = np.empty((0,) * self._array_CX.ndim, self.dtype)
        if template is None:
            image = nibabel.Nifti1Image(array, np.eye(4), dtype=self.dtype)
        else:
            image = type(template)(array, template.affine, _bare(template.header), dtype=self.dtype)
        content: bytes = image.to_bytes()
        # without the time of day: equal masks are equal files
        write_bytes(self.path, gzip.compress(content, 6, mtime=0) if _compressed(self.path) else content)


def _load(path: Path) -> Any:
    image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Image):
        raise DataError(f"{path}: this is not a NIfTI file, whatever its suffix says; export it again")
    return image


def _bare(header: Any) -> Any:
    """A copy of the header that keeps where and how large the voxels are, and nothing that speaks of their values."""
    bare = header.copy()
    bare.extensions.clear()
    for name in ("cal_min", "cal_max"):
        bare[name] = 0
    bare["descrip"] = b""
    bare.set_slope_inter(None, None)
    return bare


def _compressed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _axes(path: Path, image: Any) -> tuple[tuple[int, ...], int]:
    """(shape of space, number of channels). Raises DataError."""
    shape = tuple(int(n) for n in image.shape)
    if 0 in shape or not shape:
        raise DataError(f"{path}: the file holds no voxel (its shape is {shape}); export it again")
    if len(shape) == 5 and shape[3] == 1:  # NIfTI's own place for vectors
        shape = (*shape[:3], shape[4])
    if len(shape) > MOST_AXES + 1:
        raise DataError(
            f"{path}: a file of {' × '.join(map(str, shape))} is no volume; volumes have three axes, and perhaps a "
            "fourth of channels"
        )
    space, channels = list(shape[:MOST_AXES]), shape[MOST_AXES] if len(shape) > MOST_AXES else 1
    while len(space) > 2 and space[-1] == 1:
        space.pop()
    return tuple(space), channels


def _place(image: Any, ndim: int) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """(the affine row by row, where the header states one; the size of a voxel in mm, where it is known)."""
    header = image.header
    scale = _MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)
    stated = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    affine = image.affine
    sizes = voxel_sizes(affine) if stated else np.array([*header.get_zooms(), 1.0, 1.0])
    spacing = tuple(round(float(s) * scale, 6) for s in sizes[:ndim])
    known = all(0 < s < np.inf for s in spacing)
    return tuple(float(v) for v in affine.ravel()) if stated else None, spacing if known else None
