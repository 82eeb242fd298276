"""Image files, both ways: `probe`, `open_image` and read by region, `create_image` and write by region.

`table.py` lists the formats; each has a module of its own, imported on use.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unetkit.core.errors import DataError
from unetkit.data.formats.base import (
    AS_THEY_ARE,
    ImageInfo,
    ImageReader,
    ImageWriter,
    Inside,
    MapGrid,
    Reading,
    Target,
    TargetClass,
    decoding,
)
from unetkit.data.formats.order import natural_key
from unetkit.data.formats.paths import (
    image_paths,
    is_image,
    is_image_name,
    is_label_name,
    is_series,
    label_paths,
    stem,
    suffix,
)
from unetkit.data.formats.table import Format, format_of, formats, readable, split_address, suffixes

__all__ = [
    "AS_THEY_ARE",
    "Format",
    "ImageInfo",
    "ImageReader",
    "ImageWriter",
    "Inside",
    "MapGrid",
    "Reading",
    "Target",
    "TargetClass",
    "contents",
    "create_image",
    "files_behind",
    "format_of",
    "formats",
    "image_paths",
    "is_image",
    "is_image_name",
    "is_label_name",
    "is_series",
    "label_paths",
    "natural_key",
    "open_image",
    "probe",
    "readable",
    "split_address",
    "stem",
    "suffix",
    "suffixes",
]


def probe(path: Path, reading: Reading = AS_THEY_ARE) -> ImageInfo:
    """Size, channels, type of an image from its header; pixels are not decoded. Raises DataError as `open_image`."""
    with open_image(path, reading) as reader:
        return reader.info


def contents(path: Path) -> tuple[Inside, ...]:
    """The images inside a file that may hold several; () of other formats. Raises DataError: damaged."""
    found = format_of(path)
    return found.load().contents(path) if found is not None and found.several else ()


def files_behind(path: Path) -> tuple[Path, ...]:
    """All files that an image is made of: itself, the signals of a recording, the other files of an OME set, the
    files of a folder.

    Raises DataError as `open_image`.
    """
    outer, _ = split_address(path)
    if outer.is_dir():
        found = (p for p in outer.rglob("*") if p.is_file())
        return tuple(sorted(found, key=lambda p: natural_key(p.relative_to(outer).as_posix())))
    if suffix(outer).lower() == ".hea":
        from unetkit.data.formats.signals.records import signal_files

        return (outer, *signal_files(outer))
    if suffix(outer).lower() in (".ome.tif", ".ome.tiff"):
        from unetkit.data.formats.pictures.tiff_read import set_files

        return set_files(outer)
    if outer.suffix.lower() == ".shp":
        return tuple(sorted(p for p in outer.parent.glob(f"{glob.escape(outer.stem)}.*") if p.suffix in _BESIDE_SHAPES))
    if suffix(outer).lower() in (".mhd", ".nhdr"):
        from unetkit.data.formats.medical.itk import data_files

        return (outer, *data_files(outer))
    return (outer,)


def open_image(path: Path, reading: Reading = AS_THEY_ARE) -> ImageReader:
    """Open an image for reading by region (a context manager). `path` may be that of a file, of a folder that is an
    image, or of something inside a file: `volumes.h5/raw`.

    Raises DataError: absent, empty, not an image, damaged, a suffix or a kind of file that is not read, axes that do
    not fit. Raises MachineError: the package that reads the format is not installed.
    """
    path = Path(path)
    outer, _ = split_address(path)
    found = format_of(outer)
    if found is None:
        if path.is_dir() and is_series(path):
            found = next(f for f in formats() if f.name == "DICOM")
        elif path.suffix.lower() in (".csv", ".tsv") and path.is_file():  # many things, of which one is a signal
            from unetkit.data.formats.signals.signal_tables import open_image as open_table

            return open_table(path, reading)
        else:
            raise _unknown(path)
    if not outer.is_dir():
        with decoding(outer, OSError), outer.open("rb") as file:
            empty = not file.read(1)
        if empty:
            raise DataError(f"{outer}: the file is empty (0 bytes); copy or export it again, or leave it out")
    elif not found.folder and found.name != "DICOM":
        raise DataError(f"{outer}: this is a folder, not an image: {outer.suffix} is the suffix of a file; rename it")
    return found.load().open_image(path, reading)


def create_image(
    path: Path,
    shape: tuple[int, ...],
    channels: int,
    dtype: npt.DTypeLike,
    palette: Sequence[tuple[int, int, int]] | None = None,
    compression: str = "deflate",
    like: Path | None = None,
    channel_names: tuple[str, ...] = (),
    classes: tuple[TargetClass, ...] = (),
    reading: Reading = AS_THEY_ARE,
) -> ImageWriter:
    """Begin an image that is written by region (a context manager) and appears whole. The suffix decides the format.

    The rest as in `Target`. Raises DataError: another suffix, or what the format cannot hold; MachineError: full disk,
    unwritable folder, a package that is not installed.
    """
    path = Path(path)
    if min(*shape, channels) < 1:
        sides = " × ".join(str(n) for n in shape)
        raise DataError(f"{path}: an image of {sides} pixels and {channels} channels cannot be written")
    found = format_of(path)
    if found is None or not found.writes:
        what = repr(suffix(path)) if path.suffix else "a name without suffix"
        can = ".png, " + ", ".join(s for f in formats() if f.writes for s in f.suffixes if s not in _NOT_FOR_MASKS)
        raise DataError(f"{path}: images are written as {can}, not as {what}")
    target = Target(
        path, tuple(shape), channels, np.dtype(dtype), palette, compression, like, channel_names, classes, reading
    )
    return found.load().create_image(target)


_BESIDE_SHAPES = (".shp", ".dbf", ".shx", ".prj", ".cpg")

# of the formats that are written, suffixes that stand for lossy or palette-bound relatives, and the first, named above
_NOT_FOR_MASKS = (".png", ".jpg", ".jpeg", ".bmp", ".gif")


def _unknown(path: Path) -> DataError:
    if not path.exists() and not path.suffix:
        return DataError(f"{path}: there is no such file or folder")
    if (header := path.with_suffix(".hea")).is_file():
        return DataError(f"{path}: this is a part of a recording; name its header, {header.name}")
    if path.is_dir():
        return DataError(f"{path}: this is a folder, not an image")
    what = f"the suffix {path.suffix!r}" if path.suffix else "a name without suffix"
    return DataError(f"{path}: {what} is not read; images are {readable()}")
