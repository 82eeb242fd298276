"""What every image format offers: information from the header, reading by region, writing by region."""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from unetkit.core.closing import Closing
from unetkit.core.errors import DataError
from unetkit.core.region import Region

Array: TypeAlias = npt.NDArray[Any]
Mode: TypeAlias = Literal["grey", "rgb", "palette", "bands"]
PaletteAs: TypeAlias = Literal["colours", "indices"]


@dataclass(frozen=True, slots=True)
class Reading:
    """How the user wants files to be read, where their headers leave a choice.

    axes: what the axes of the file are, in its order, such as "ZCYX" ("": as the header says, or guessed).
    level: of a pyramid: 0 is the full resolution. pixel_size: instead, the level whose pixels are nearest to this size
    (in the unit of the file).
    annotator: of recordings, the suffix of the annotation files to learn from ("": by what they hold). beat_width: the
    seconds that a beat is given in labels made of beats; None: beats are moments, and no label.
    """

    axes: str = ""
    level: int = 0
    pixel_size: float | None = None
    annotator: str = ""
    beat_width: float | None = None


AS_THEY_ARE = Reading()


@dataclass(frozen=True, slots=True)
class MapGrid:
    """Where the pixels of a map lie on Earth. crs: its coordinate reference system (WKT). transform: (a, b, c, d, e, f)
    of x = a · column + b · row + c, y = d · column + e · row + f, for the corners of pixels."""

    crs: str
    transform: tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the header of an image file says.

    shape: (height, width) in pixels; (samples,) of a signal; of a volume in the order that is usual in its field:
    (X, Y, Z) of medical files, whatever their format, (Z, Y, X) of stacks of images.
    channels: colour channels, alpha not counted (a palette has 3).
    alpha: whether there is an alpha channel besides. dtype: numpy name of the values. mode: how the channels are meant.
    orientation: the EXIF/TIFF orientation 1 … 8. It is never applied (an image and its mask must be treated alike, and
    masks seldom carry it), only reported.
    spacing: distance of neighbouring elements on each axis, in `unit`; None: not known.
    affine: where a volume lies in the scanner: the 16 numbers, row by row, of the matrix from voxel (i, j, k) to
    millimetres towards the right, the front and the top (RAS, as nibabel has it); None: not known.
    axes: names of the axes of space, one letter each ("YX", "XYZ", "ZYX", "T" of a signal); "": not known.
    unit: of the spacing: "mm", "µm", "m", "degree", "s"; "": not known. channel_names: as the file gives them, or none.
    map: of a map, where it lies. nodata: the value of pixels that hold nothing.
    levels: shapes of the levels of a pyramid, the full resolution first; (): there is one.
    chunk: what is read at once at the least (a tile, a strip, a chunk); None: any region costs what it holds, or the
    file is decoded whole. notes: what was guessed, in sentences.
    """

    shape: tuple[int, ...]
    channels: int
    alpha: bool
    dtype: str
    mode: Mode
    orientation: int = 1
    spacing: tuple[float, ...] | None = None
    affine: tuple[float, ...] | None = None
    axes: str = ""
    unit: str = ""
    channel_names: tuple[str, ...] = ()
    map: MapGrid | None = None
    nodata: float | None = None
    levels: tuple[tuple[int, ...], ...] = ()
    chunk: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TargetClass:
    """A class of a mask that is written: its name, its value in the mask, the RGB colour it is shown in."""

    name: str
    value: int
    colour: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Target:
    """A file to be written. channels, dtype: of what is written, space left out; compression: "deflate", "none" …
    palette: RGB colours of the indices that are written. like: the image over which it lies, whose geometry (affine,
    spacing, unit, axes, map) it takes, and reading: how that image was read (its axes, the level of a pyramid).
    channel_names: of several channels. classes: what the values of a mask mean.
    """

    path: Path
    shape: tuple[int, ...]
    channels: int
    dtype: np.dtype[Any]
    palette: Sequence[tuple[int, int, int]] | None = None
    compression: str = "deflate"
    like: Path | None = None
    channel_names: tuple[str, ...] = ()
    classes: tuple[TargetClass, ...] = ()
    reading: Reading = AS_THEY_ARE


@dataclass(frozen=True, slots=True)
class Inside:
    """One image in a file that may hold several: `volumes.h5/raw`. label: whether its name says that it is a mask."""

    address: Path
    label: bool
    shape: tuple[int, ...]
    dtype: str


class ImageReader(Closing, ABC):
    """An open image. Use as a context manager; `read` as often as you like, from one thread at a time."""

    def __init__(self, path: Path, info: ImageInfo) -> None:
        self.path = path
        self.info = info

    def read(self, region: Region | None = None, palette: PaletteAs = "colours", alpha: bool = False) -> Array:
        """Pixels of `region` (default: all), an array of their own: (C, *shape) in the file's type, native byte order.

        palette: a palette image as its RGB colours, or as its indices (1, h, w). alpha: the alpha channel comes last,
        where there is one (not with indices). One-bit files give uint8 0 and 255.
        Raises DataError: the file is truncated or damaged. Raises ValueError: the region leaves the image.
        """
        whole = Region.of(self.info.shape)
        box = whole if region is None else region
        if len(box.start) != len(whole.start) or not whole.contains(box):
            raise ValueError(f"{box} leaves the image {self.path} of {self.info.shape} pixels")
        return self._read(box, palette, alpha)

    @abstractmethod
    def _read(self, region: Region, palette: PaletteAs, alpha: bool) -> Array: ...

    @property
    def grows(self) -> int:
        """Bytes of unpacked pixels that it may come to keep, so that neighbouring regions are not unpacked again."""
        return 0

    def masked(self, region: Region) -> Array | None:  # noqa: ARG002  (few formats have masks)
        """Which pixels the file itself marks as holding nothing, other than by `nodata`: bool (*shape), or None."""
        return None

    def close(self) -> None:
        """Let go of the file and of what was kept of it."""


class ImageWriter(ABC):
    """An image being written. Use as a context manager: it appears, whole, when the block ends without an error."""

    def __init__(self, path: Path, shape: tuple[int, ...], channels: int, dtype: np.dtype[Any]) -> None:
        self.path = path
        self.shape = shape
        self.channels = channels
        self.dtype = dtype
        self._missing = math.prod(shape)
        self._cleanup = contextlib.ExitStack()

    def write(self, region: Region, array_CX: Array) -> None:
        """Write (C, *shape) pixels; (*shape) will do for one channel. Each pixel is written exactly once, in any order.

        Raises ValueError: the region leaves the image, or the array does not fit the region, channels or type.
        """
        array = array_CX[None] if array_CX.ndim == len(self.shape) else array_CX
        if len(region.start) != len(self.shape) or not Region.of(self.shape).contains(region):
            raise ValueError(f"{region} leaves the image {self.path} of {self.shape} pixels")
        if array.shape != (self.channels, *region.shape):
            raise ValueError(f"{self.path}: an array of {array.shape} does not fit {(self.channels, *region.shape)}")
        if array.dtype != self.dtype:
            raise ValueError(f"{self.path}: the file holds {self.dtype}, the array {array.dtype}")
        self._missing -= region.size
        if self._missing < 0:
            raise ValueError(f"{self.path}: {region} was written before")
        if region.size:
            self._write(region, array)

    def bands(self, pixels: int) -> Iterator[Region]:
        """Regions that partition the image, each of about `pixels` at most, in the order in which writing them holds
        the least in memory. Here: bands along the first axis; formats that store another order say so."""
        length, *others = self.shape
        rows = max(1, pixels // max(1, math.prod(others)))
        for start in range(0, length, rows):
            yield Region((start, *(0,) * len(others)), (min(length, start + rows), *others))

    @abstractmethod
    def _write(self, region: Region, array_CX: Array) -> None: ...

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _finish(self) -> None: ...

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:  # if opening fails, what was begun is undone
            self._cleanup = stack
            self._open()
            self._cleanup = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._cleanup.__exit__(kind, value, trace)
            return
        with self._cleanup:
            if self._missing:
                raise ValueError(f"{self.path}: {self._missing} pixels of {self.shape} were never written")
            self._finish()


def unreadable(path: Path, reason: object) -> DataError:
    """The error for a file that begins well and then fails: truncated or damaged."""
    text = " ".join(str(reason).split()) or type(reason).__name__
    return DataError(f"{path}: the file is truncated or damaged ({text}); copy or export it again, or leave it out")


@contextlib.contextmanager
def decoding(path: Path, *errors: type[BaseException]) -> Iterator[None]:
    """Turn the `errors` that a decoder raises for damaged files into one DataError that names the file."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except PermissionError:
        raise DataError(f"{path}: this file may not be read; give yourself the permission (chmod +r)") from None
    except IsADirectoryError:
        raise DataError(f"{path}: this is a folder, not an image") from None
    except errors as error:
        raise unreadable(path, error) from error
