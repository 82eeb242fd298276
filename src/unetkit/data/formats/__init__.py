"""Image files, both ways: `probe`, `open_image` and read by region, `create_image` and write by region.

Content decides how a file is read, not its name (a JPEG that is called .png is common); the suffix decides which files
are taken for images at all, and what is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unetkit.core.errors import DataError
from unetkit.data.formats.base import ImageInfo, ImageReader, ImageWriter, decoding
from unetkit.data.formats.paths import (
    RASTER_SUFFIXES,
    SIGNAL_SUFFIXES,
    SUFFIXES,
    TIFF_SUFFIXES,
    VOLUME_SUFFIXES,
    image_paths,
    is_image_name,
    natural_key,
    stem,
    suffix,
)
from unetkit.data.formats.raster import PngWriter, open_raster
from unetkit.data.formats.tiff_read import open_tiff
from unetkit.data.formats.tiff_write import TiffWriter

__all__ = [
    "RASTER_SUFFIXES",
    "SIGNAL_SUFFIXES",
    "SUFFIXES",
    "TIFF_SUFFIXES",
    "VOLUME_SUFFIXES",
    "ImageInfo",
    "ImageReader",
    "ImageWriter",
    "create_image",
    "files_behind",
    "image_paths",
    "is_image_name",
    "natural_key",
    "open_image",
    "probe",
    "stem",
    "suffix",
]

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
)


def probe(path: Path) -> ImageInfo:
    """Size, channels, type of an image from its header; pixels are not decoded. Raises DataError as `open_image`."""
    with open_image(path) as reader:
        return reader.info


def files_behind(path: Path) -> tuple[Path, ...]:
    """All files that an image is made of: itself, and of a recording the signals. Raises DataError as `open_image`."""
    if suffix(path).lower() not in SIGNAL_SUFFIXES:
        return (path,)
    from unetkit.data.formats.records import signal_files

    return (path, *signal_files(path))


def open_image(path: Path) -> ImageReader:
    """Open an image for reading by region (a context manager).

    Raises DataError: absent, empty, not an image, damaged, a suffix or a kind of file that is not read.
    Raises MachineError: the package that reads recordings is not installed.
    """
    path = Path(path)
    ending = suffix(path).lower()
    if ending not in SUFFIXES:
        what = f"the suffix {path.suffix!r}" if path.suffix else "a name without suffix"
        if (header := path.with_suffix(".hea")).is_file():
            raise DataError(f"{path}: this is a part of a recording; name its header, {header.name}")
        raise DataError(f"{path}: {what} is not read; images are {', '.join(SUFFIXES)}")
    with decoding(path, OSError), path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise DataError(f"{path}: the file is empty (0 bytes); copy or export it again, or leave it out")
    if ending in VOLUME_SUFFIXES:
        from unetkit.data.formats.nifti import open_nifti  # nibabel, which images do not need

        return open_nifti(path)
    if ending in SIGNAL_SUFFIXES:
        from unetkit.data.formats.records import open_record

        return open_record(path)
    kind = next((kind for signature, kind in _SIGNATURES if head.startswith(signature)), None)
    if kind is None:
        raise DataError(
            f"{path}: this is not an image, whatever its suffix says (it begins with {head[:8]!r}); leave it out, or "
            "export it again as PNG or TIFF"
        )
    return open_tiff(path) if kind == "tiff" else open_raster(path, kind)


def create_image(
    path: Path,
    shape: tuple[int, ...],
    channels: int,
    dtype: npt.DTypeLike,
    palette: Sequence[tuple[int, int, int]] | None = None,
    compression: str = "deflate",
    like: Path | None = None,
) -> ImageWriter:
    """Begin an image of (height, width), or a volume, that is written by region (a context manager) and appears whole.

    The suffix decides: PNG (uint8, uint16; 1 to 4 channels; collected in memory), TIFF (integers and floats, any number
    of channels; tiled, in bounded memory when regions come in row bands) or NIfTI (collected in memory; the fourth axis
    holds channels; `like`: the NIfTI file whose geometry it takes). Of uint8 and uint16, 2 channels are grey and
    alpha, 3 are RGB, 4 are RGB and alpha; all else are bands, plane by plane. palette: RGB colours of the indices that
    are written (uint8, 1 channel). compression: "deflate", "none", for TIFF also "lzw", "zstd".
    Raises DataError: another suffix, or what the format cannot hold; MachineError: full disk, unwritable folder.
    """
    path, kind = Path(path), np.dtype(dtype)
    if min(*shape, channels) < 1:
        sides = " × ".join(str(n) for n in shape)
        raise DataError(f"{path}: an image of {sides} pixels and {channels} channels cannot be written")
    if palette is not None and (kind != np.uint8 or channels != 1 or not 1 <= len(palette) <= 256):
        raise DataError(
            f"{path}: a palette (1 to 256 colours) needs 1 channel of uint8 indices, not {channels} of {kind}"
        )
    if suffix(path).lower() in VOLUME_SUFFIXES:
        from unetkit.data.formats.nifti import NiftiWriter

        return NiftiWriter(path, shape, channels, kind, like)
    if len(shape) != 2:
        raise DataError(f"{path}: a volume is written as .nii.gz or .nii, not as {suffix(path)!r}")
    shape = (shape[0], shape[1])
    if path.suffix.lower() == ".png":
        return PngWriter(path, shape, channels, kind, palette, compression)
    if path.suffix.lower() in TIFF_SUFFIXES:
        return TiffWriter(path, shape, channels, kind, palette, compression)
    what = repr(path.suffix) if path.suffix else "a name without suffix"
    raise DataError(f"{path}: images are written as .png, .tif, .tiff or .nii.gz, not as {what}")
