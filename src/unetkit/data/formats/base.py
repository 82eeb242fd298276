"""What every image format offers: information from the header, reading by region, writing by region."""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from unetkit.core.errors import DataError
from unetkit.core.region import Region

Array: TypeAlias = npt.NDArray[Any]
Mode: TypeAlias = Literal["grey", "rgb", "palette", "bands"]
PaletteAs: TypeAlias = Literal["colours", "indices"]


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the header of an image file says.

    shape: (height, width) in pixels; (X, Y, Z) of a volume, as its file stores them; (samples,) of a signal.
    channels: colour channels, alpha not counted (a palette has 3).
    alpha: whether there is an alpha channel besides. dtype: numpy name of the values. mode: how the channels are meant.
    orientation: the EXIF/TIFF orientation 1 … 8. It is never applied (an image and its mask must be treated alike, and
    masks seldom carry it), only reported.
    spacing: distance of neighbouring elements on each axis (mm in volumes, seconds in signals); None: not known.
    affine: where a volume lies in the scanner, the 16 numbers of its matrix row by row; None: not known.
    """

    shape: tuple[int, ...]
    channels: int
    alpha: bool
    dtype: str
    mode: Mode
    orientation: int = 1
    spacing: tuple[float, ...] | None = None
    affine: tuple[float, ...] | None = None


class ImageReader(ABC):
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

    def close(self) -> None:  # noqa: B027  (most readers hold nothing open)
        """Let go of the file and of what was kept of it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
