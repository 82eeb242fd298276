"""PNG, JPEG, BMP and GIF (first frame): read whole and kept, since none can be entered in the middle. Writes PNG."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin

from unetkit.core.errors import DataError
from unetkit.core.files import atomic
from unetkit.core.region import Region
from unetkit.data.formats.base import (
    Array,
    ImageInfo,
    ImageReader,
    ImageWriter,
    Mode,
    PaletteAs,
    decoding,
)

# What the decoders raise for damaged files (imagecodecs' own errors are RuntimeErrors).
_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, RuntimeError, OverflowError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip

# Opened by class and not by Image.open, whose guard against "decompression bombs" refuses large images: these files are
# the user's own, and large. The guard could only be lifted for the whole process.
_PLUGINS: dict[str, Callable[[Path], ImageFile.ImageFile]] = {
    "png": PngImagePlugin.PngImageFile,
    "jpeg": JpegImagePlugin.JpegImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "gif": GifImagePlugin.GifImageFile,
}

# Pillow mode → (colour channels, alpha, meaning)
_MODES: dict[str, tuple[int, bool, Mode]] = {
    "1": (1, False, "grey"),
    "L": (1, False, "grey"),
    "LA": (1, True, "grey"),
    "P": (3, False, "palette"),
    "PA": (3, True, "palette"),
    "RGB": (3, False, "rgb"),
    "RGBA": (3, True, "rgb"),
    "CMYK": (3, False, "rgb"),
    "YCbCr": (3, False, "rgb"),
}
_ORIENTATION = 274


def open_raster(path: Path, kind: str) -> RasterReader:
    """Open a file whose first bytes say `kind` ("png", "jpeg", "bmp", "gif"). Raises DataError."""
    with decoding(path, *_ERRORS):
        image: ImageFile.ImageFile = _PLUGINS[kind](path)
    try:
        return RasterReader(path, image, _info(path, image, kind), deep=kind == "png" and _png_depth(path)[0] == 16)
    except BaseException:
        image.close()
        raise


def _png_depth(path: Path) -> tuple[int, int]:
    """(bits per channel, colour type) of a PNG, from its header."""
    with path.open("rb") as file:
        header = file.read(26)
    return (header[24], header[25]) if len(header) == 26 else (8, 0)


def _info(path: Path, image: ImageFile.ImageFile, kind: str) -> ImageInfo:
    shape = (image.height, image.width)
    if kind == "png":
        bits, colour = _png_depth(path)
        if bits == 16:  # Pillow would cut 16-bit colours to 8 bits
            channels, alpha = {0: (1, False), 2: (3, False), 4: (1, True), 6: (3, True)}.get(colour, (1, False))
            return ImageInfo(shape, channels, alpha, "uint16", "rgb" if channels == 3 else "grey", axes="YX")
    if image.mode not in _MODES:
        raise DataError(f"{path}: pixels of the kind '{image.mode}' are not read; save the file as grey or RGB")
    channels, alpha, mode = _MODES[image.mode]
    alpha = alpha or (mode == "palette" and "transparency" in image.info)
    return ImageInfo(shape, channels, alpha, "uint8", mode, _orientation(path, image), axes="YX")


def _orientation(path: Path, image: ImageFile.ImageFile) -> int:
    if "exif" not in image.info:  # asking Pillow would decode the whole file
        return 1
    with decoding(path, *_ERRORS):
        value = image.getexif().get(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


class RasterReader(ImageReader):
    """Decodes the file at the first `read` and keeps the pixels until closed."""

    def __init__(self, path: Path, image: ImageFile.ImageFile, info: ImageInfo, deep: bool) -> None:
        super().__init__(path, info)
        self._image = image
        self._deep = deep
        self._pixels: dict[tuple[PaletteAs, bool], Array] = {}

    def _read(self, region: Region, palette: PaletteAs, alpha: bool) -> Array:
        palette = palette if self.info.mode == "palette" else "colours"
        alpha = alpha and self.info.alpha and palette == "colours"
        if (palette, alpha) not in self._pixels:
            with decoding(self.path, *_ERRORS):
                self._pixels[palette, alpha] = self._decode_deep(alpha) if self._deep else self._decode(palette, alpha)
        rows, columns = region.slices
        pixels_YXC = self._pixels[palette, alpha]
        return np.moveaxis(pixels_YXC[rows, columns], -1, 0).copy()

    def _decode(self, palette: PaletteAs, alpha: bool) -> Array:
        self._image.load()
        image: Image.Image = self._image
        if palette == "colours":
            name = {1: "L", 3: "RGB"}[self.info.channels]
            wanted = {"L": "LA", "RGB": "RGBA"}[name] if alpha else name
            if image.mode == "LA" and wanted == "L":  # Pillow's own conversion is the same; this one copies less
                image = image.getchannel("L")
            elif image.mode != wanted:
                image = image.convert(wanted)
        elif image.mode == "PA":
            image = image.getchannel("P")
        array = np.array(image)
        return array if array.ndim == 3 else array[..., None]

    def _decode_deep(self, alpha: bool) -> Array:
        array: Array = imagecodecs.png_decode(self.path.read_bytes())
        array = array if array.ndim == 3 else array[..., None]
        return array if alpha else array[..., : self.info.channels]

    @property
    def grows(self) -> int:
        whole = self.info.channels * math.prod(self.info.shape) * (2 if self._deep else 1)
        return 0 if self._pixels else whole

    def close(self) -> None:
        self._image.close()
        self._pixels.clear()


class PngWriter(ImageWriter):
    """Collects the pixels in memory (a PNG is written from its first row to its last) and writes them at the end."""

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int],
        channels: int,
        dtype: np.dtype[np.generic],
        palette: Sequence[tuple[int, int, int]] | None,
        compression: str,
    ) -> None:
        if dtype not in (np.uint8, np.uint16) or channels > 4:
            raise DataError(
                f"{path}: a PNG holds 1 to 4 channels of uint8 or uint16, not {channels} of {dtype}; use .tif"
            )
        if compression not in ("deflate", "none"):
            raise DataError(f"{path}: a PNG is compressed by deflate or none, not by {compression}; use .tif")
        super().__init__(path, shape, channels, dtype)
        self._palette = palette
        self._level = 6 if compression == "deflate" else 0
        self._pixels = np.empty((0, 0, 0), dtype)

    def _open(self) -> None:
        self._temporary = self._cleanup.enter_context(atomic(self.path))
        self._pixels = np.zeros((*self.shape, self.channels), self.dtype)

    def _write(self, region: Region, array_CYX: Array) -> None:
        self._pixels[region.slices] = np.moveaxis(array_CYX, 0, -1)

    def _finish(self) -> None:
        pixels = self._pixels[..., 0] if self.channels == 1 else self._pixels
        self._pixels = np.empty((0, 0, 0), self.dtype)
        if self.dtype == np.uint16 and self.channels > 1:
            content = imagecodecs.png_encode(pixels, level=self._level)
        else:
            image = Image.fromarray(pixels)
            if self._palette is not None:
                image.putpalette([value for colour in self._palette for value in colour])
            buffer = io.BytesIO()
            image.save(buffer, "PNG", compress_level=self._level)
            content = buffer.getvalue()
        self._temporary.write_bytes(content)
