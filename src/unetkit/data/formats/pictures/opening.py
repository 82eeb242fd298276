"""PNG, JPEG, BMP, GIF and TIFF. Content decides how a file is read, not its name: a JPEG called .png is common."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unetkit.core.errors import DataError
from unetkit.data.formats.base import ImageReader, ImageWriter, Reading, Target, decoding
from unetkit.data.formats.maps import geotiff as maps
from unetkit.data.formats.medical.volumes import refuse_reading
from unetkit.data.formats.pictures.raster import PngWriter, open_raster
from unetkit.data.formats.pictures.tiff_read import open_tiff
from unetkit.data.formats.pictures.tiff_write import TiffWriter

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


def open_image(path: Path, reading: Reading) -> ImageReader:
    """Open a picture for reading by region. Raises DataError: not an image, damaged, axes or a level it has not."""
    with decoding(path, OSError), path.open("rb") as file:
        head = file.read(16)
    kind = next((kind for signature, kind in _SIGNATURES if head.startswith(signature)), None)
    if kind is None:
        raise DataError(
            f"{path}: this is not an image, whatever its suffix says (it begins with {head[:8]!r}); leave it out, or "
            "export it again as PNG or TIFF"
        )
    if kind == "tiff" and maps.is_map(path):
        if maps.has_rasterio():
            return maps.open_image(path, reading)
        picture = open_tiff(path, reading)
        picture.info = maps.without_place(picture.info)
        return picture
    if kind == "tiff":
        return open_tiff(path, reading)
    reader = open_raster(path, kind)
    try:
        refuse_reading(path, reading, reader.info)
    except BaseException:
        reader.close()
        raise
    return reader


def create_image(target: Target) -> ImageWriter:
    """Begin a PNG (uint8, uint16; 1 to 4 channels; collected in memory) or a TIFF (integers and floats, any number of
    channels; tiled, in bounded memory when regions come in row bands). Of uint8 and uint16, 2 channels are grey and
    alpha, 3 are RGB, 4 are RGB and alpha; all else are bands, plane by plane. A volume is a page for each plane; a TIFF
    over a map is a GeoTIFF.

    Raises DataError: what the format cannot hold.
    """
    path, palette, channels, kind = target.path, target.palette, target.channels, target.dtype
    if palette is not None and (kind != np.uint8 or channels != 1 or not 1 <= len(palette) <= 256):
        raise DataError(
            f"{path}: a palette (1 to 256 colours) needs 1 channel of uint8 indices, not {channels} of {kind}"
        )
    if len(target.shape) == 1:
        raise DataError(f"{path}: a signal is written as .csv, .npy, .zarr or .h5, not as {path.suffix!r}")
    if path.suffix.lower() == ".png":
        if len(target.shape) == 3:
            raise DataError(f"{path}: a volume is written as .tif, .zarr, .h5, .npy or .nii.gz, not as {path.suffix!r}")
        return PngWriter(path, (target.shape[0], target.shape[1]), channels, kind, palette, target.compression)
    if path.suffix.lower() in (".tif", ".tiff"):
        if target.like is not None and maps.is_map(target.like) and maps.has_rasterio():
            return maps.create_image(target)
        return TiffWriter(target)
    raise DataError(f"{path}: images are written as .png, .tif or .tiff, not as {path.suffix!r}, which may lose values")
