"""The formats, one line each: what is known of each by name alone. What reads it is in its module, imported on use.

A package adds one by an entry point of the group `unetkit.formats` whose value is a `Format`:

    [project.entry-points."unetkit.formats"]
    czi = "my_package:CZI"          # CZI = Format("CZI", (".czi",), "my_package.reader")
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal, Protocol, cast

from unetkit.core.errors import DataError
from unetkit.data.formats.base import ImageReader, ImageWriter, Inside, Reading, Target


class FormatModule(Protocol):
    """What the module of a format holds. `create_image` where it writes, `contents` where one file holds several."""

    def open_image(self, path: Path, reading: Reading) -> ImageReader:
        """Open for reading by region. Raises DataError; MachineError where a package is missing."""

    def create_image(self, target: Target) -> ImageWriter:
        """Begin a file. Raises DataError for what the format cannot hold."""

    def contents(self, path: Path) -> tuple[Inside, ...]:
        """The images inside a file or folder, its labels among them. Raises DataError."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format. name: as messages call it. suffixes: in lower case, with their dots (".nii.gz"). module: what reads it.

    kind: what it mostly holds. writes: whether masks can be written so. folder: an image is a folder, not a file.
    several: a file may hold several images, named behind its path: `volumes.h5/raw`.
    """

    name: str
    suffixes: tuple[str, ...]
    module: str
    kind: Literal["image", "volume", "signal", "array"] = "image"
    writes: bool = False
    folder: bool = False
    several: bool = False

    def load(self) -> FormatModule:
        """The module that reads it."""
        return cast(FormatModule, importlib.import_module(self.module))


_HERE = "unetkit.data.formats."
BUILT_IN = (
    Format("PNG, JPEG, BMP, GIF", (".png", ".jpg", ".jpeg", ".bmp", ".gif"), _HERE + "pictures.opening", writes=True),
    Format("TIFF", (".tif", ".tiff"), _HERE + "pictures.opening", writes=True),
    Format("whole slide", (".svs", ".ndpi", ".scn", ".bif", ".qptiff", ".btf", ".tf8"), _HERE + "pictures.opening"),
    Format("GDAL raster", (".vrt", ".jp2"), _HERE + "maps.geotiff"),
    Format("NIfTI", (".nii.gz", ".nii"), _HERE + "medical.nifti", "volume", writes=True),
    Format("NRRD", (".nrrd", ".nhdr"), _HERE + "medical.itk", "volume", writes=True),
    Format("MetaImage", (".mha", ".mhd"), _HERE + "medical.itk", "volume", writes=True),
    Format("DICOM", (".dcm",), _HERE + "medical.dicom", "volume", writes=True),
    Format("Zarr", (".zarr",), _HERE + "arrays.zarr_arrays", "volume", writes=True, folder=True, several=True),
    Format("HDF5", (".h5", ".hdf5", ".hdf"), _HERE + "arrays.hdf5", "volume", writes=True, several=True),
    Format("NumPy", (".npy",), _HERE + "arrays.numpy_arrays", "array", writes=True),
    Format("NumPy", (".npz",), _HERE + "arrays.numpy_arrays", "array", several=True),
    Format("WFDB", (".hea",), _HERE + "signals.records", "signal"),
    Format("EDF", (".edf", ".bdf"), _HERE + "signals.edf", "signal"),
    Format("Parquet", (".parquet",), _HERE + "signals.signal_tables", "signal", several=True),
)


@functools.cache
def formats() -> tuple[Format, ...]:
    """All formats: ours, and those that installed packages add. Raises DataError: one that is none, a suffix twice."""
    found = list(BUILT_IN)
    for point in entry_points(group="unetkit.formats"):
        other = point.load()
        if not isinstance(other, Format):
            raise DataError(
                f"the package {point.dist.name if point.dist else point.value} adds a format '{point.name}' that is no "
                "unetkit.data.formats.table.Format; update or remove it"
            )
        for one in found:
            if twice := set(one.suffixes) & set(other.suffixes):
                raise DataError(
                    f"{min(twice)} is read as {one.name} and, by {point.value}, as {other.name}; remove that package"
                )
        found.append(other)
    return tuple(found)


def format_of(path: Path) -> Format | None:
    """The format that a name belongs to; None: no suffix that is read."""
    name = path.name.lower()
    return next((f for f in formats() if name.endswith(f.suffixes) and not name.startswith(".")), None)


def suffixes(*kinds: str) -> tuple[str, ...]:
    """Suffixes of all formats, or of those of some kinds."""
    return tuple(s for f in formats() for s in f.suffixes if not kinds or f.kind in kinds)


def readable() -> str:
    """What images may be called, for messages: the first suffix of every format."""
    return ", ".join(dict.fromkeys(f.suffixes[0] for f in formats())) + " and relatives (docs/data.md)"


def split_address(path: Path) -> tuple[Path, str]:
    """(file or folder, name of what is meant inside it): `a.h5/volumes/raw` is `a.h5` and `volumes/raw`."""
    parts = path.parts
    for n in range(len(parts), 0, -1):
        outer = Path(*parts[:n])
        if (found := format_of(outer)) is not None and found.several:
            if n == len(parts):
                return path, ""
            # a folder of images may be called so, too
            if outer.is_file() or (found.folder and outer.is_dir()):
                return outer, "/".join(parts[n:])
    return path, ""
