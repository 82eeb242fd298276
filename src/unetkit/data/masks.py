"""Mask files as numbers: what is read from each kind of file, and what one look at a mask tells about its values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError
from unetkit.data.case import Case
from unetkit.data.formats import ImageInfo, ImageReader, is_image_name, open_image
from unetkit.data.formats.records import is_wave_file, read_waves
from unetkit.data.formats.rows import read_mask_rows
from unetkit.data.legend import Colour, Ints, Label, Legend, pack, unpack

Array: TypeAlias = NDArray[Any]

LOSSY = (".jpg", ".jpeg")
GREY_NOISE = 12  # a lossy file whose channels differ by no more than this is grey
ALIKE = 8  # per channel
BAND = 1 << 22  # pixels examined at a time
MOST_BLOBS = 1 << 26  # larger masks are not searched for connected areas


@dataclass(frozen=True)
class MaskFacts:
    """What one pass over a mask found.

    values, counts: its distinct values (colours packed), ascending, and the pixels of each. solid: pixels whose four
    neighbours (in a plane) have the same value; soft edges have none, areas have many. blobs: connected areas of
    one value other than 0, where there are two such values or more. low, low_thick: pixels in the lower half of the
    range of values, and how many of those are left without a rim of about 1 % of the image's side; (0, 0) where they
    are the majority, and in signals.
    fractional: pixels that were not whole numbers. palette: RGB colour of each value of a palette file.
    """

    case: str
    path: Path
    shape: tuple[int, ...]
    coloured: bool
    values: Ints
    counts: Ints
    solid: Ints
    blobs: int | None = None
    low: int = 0
    low_thick: int = 0
    fractional: int = 0
    palette: tuple[tuple[int, Colour], ...] = ()
    info: ImageInfo | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RawMask:
    """A mask as read: integers (*space) or, where `coloured`, (3, h, w).

    info: of its file. notes: what was remarkable, in sentences. The rest as in `MaskFacts`.
    """

    array: Array
    fractional: int = 0
    palette: tuple[tuple[int, Colour], ...] = ()
    coloured: bool = False
    info: ImageInfo | None = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Its size in space."""
        return self.array.shape[1:] if self.coloured else self.array.shape


def read_label(case: Case, legend: Legend) -> tuple[Label, int]:
    """The label of a case as class indices (*space) uint8, and its number of stray pixels, as `Legend.encode` says.

    Raises DataError as `read_raw_label`, ValueError for a case without a label.
    """
    mask = case_mask(case)
    return encode(mask, legend, case.mask_where)


def encode(mask: RawMask, legend: Legend, where: Path) -> tuple[Label, int]:
    """`Legend.encode` of a mask. Raises DataError, naming `where`."""
    try:
        return legend.encode(mask.array, mask.coloured)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def case_mask(case: Case) -> RawMask:
    """The label of a case as it is, from its file or its array. Raises as `read_label`."""
    if case.label is None:
        raise ValueError(f"the case '{case.id}' has no mask")
    if isinstance(case.label, Path):
        return read_mask(case.label)
    whole, fractional = _whole(case.label, case.mask_where)
    return RawMask(whole, fractional)


def read_raw_label(path: Path) -> Array:
    """A mask file as (*space) integers, or as (3, h, w) uint8 colours where it is truly coloured.

    Marks of the waves of a recording are a label (samples,); so is a CSV of one value per sample.

    A colour file whose three channels agree is grey. Palettes give their indices, or their grey values where all their
    colours are grey. Alpha is the mask where the colours are constant and it is not. Floats are rounded.
    Raises DataError: unreadable, neither grey nor RGB, pixels that are not finite.
    """
    return read_mask(path).array


def read_mask(path: Path) -> RawMask:
    """As `read_raw_label`, with what was found on the way."""
    if not is_image_name(path):
        if path.suffix.lower() == ".csv":
            return RawMask(read_mask_rows(path))
        if is_wave_file(path):
            label_X, found, notes = read_waves(path)
            return RawMask(label_X, info=found, notes=notes)
    with open_image(path) as reader:
        info = reader.info
        if info.channels not in (1, 3):
            raise DataError(
                f"{path}: a mask has one channel or is RGB, but this file has {info.channels}; save the classes as one "
                "number per pixel"
            )
        if info.mode == "palette":
            return _read_palette(reader)
        pixels_CYX = reader.read(alpha=True)
    colours_CYX = pixels_CYX[: info.channels]
    if info.channels == 3:
        colours_CYX = _grey_if_equal(colours_CYX, path)
    if info.alpha and _constant(colours_CYX) and not _constant(pixels_CYX[-1:]):
        return RawMask(pixels_CYX[-1], info=info)
    if colours_CYX.shape[0] == 1:
        whole, fractional = _whole(colours_CYX[0], path)
        return RawMask(whole, fractional, info=info)
    if colours_CYX.dtype != np.uint8:
        raise DataError(
            f"{path}: coloured masks are read with 8 bits per channel, this one has {info.dtype}; convert it"
        )
    return RawMask(colours_CYX, coloured=True, info=info)


def mask_facts(case: Case) -> MaskFacts:
    """Look at the mask of a case once. Raises as `read_label`."""
    mask = case_mask(case)
    raw_X = pack(mask.array) if mask.coloured else mask.array
    values, counts = _histogram(raw_X)
    nonzero = int(np.count_nonzero(values))
    blobs = None
    if nonzero >= 2 and raw_X.size <= MOST_BLOBS:
        from skimage.measure import label  # half a second to import, and most masks do not need it

        compact = np.searchsorted(values, raw_X).astype(np.int32) + 1 if nonzero == len(values) else None
        if compact is None:
            compact = np.searchsorted(values, raw_X).astype(np.int32)
            zero = int(np.searchsorted(values, 0))
            compact = np.where(compact == zero, 0, compact + 1)
        blobs = int(label(compact, background=0, return_num=True, connectivity=raw_X.ndim)[1])
    # thin structures are drawn in images and volumes; in a signal everything is as thin as a line
    low, thick = (0, 0) if mask.coloured or len(values) < 2 or raw_X.ndim < 2 else _low_part(raw_X, values)
    solid = _solid(raw_X, values, mask.coloured) if len(values) > 2 else counts
    return MaskFacts(
        case.id, case.mask_where, raw_X.shape, mask.coloured, values, counts, solid, blobs, low, thick,
        mask.fractional, mask.palette, mask.info, mask.notes,
    )  # fmt: skip


def _read_palette(reader: ImageReader) -> RawMask:
    indices_YX = reader.read(palette="indices")[0]
    colours_CYX = reader.read(palette="colours")
    used, first = np.unique(indices_YX, return_index=True)
    of_used = colours_CYX.reshape(3, -1)[:, first].T.tolist()
    if all(r == g == b for r, g, b in of_used):  # a grey image that was saved with a palette: the greys are what counts
        return RawMask(colours_CYX[0], info=reader.info)
    palette = tuple((int(v), (int(r), int(g), int(b))) for v, (r, g, b) in zip(used, of_used, strict=True))
    return RawMask(indices_YX, 0, palette, info=reader.info)


def _grey_if_equal(colours_CYX: Array, path: Path) -> Array:
    """One channel where the three agree (in a lossy file: nearly), else all three."""
    red, green, blue = colours_CYX
    grey: Array = green[None]
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return grey
    if path.suffix.lower() in LOSSY:
        signed = colours_CYX.astype(np.int16)
        if int((signed.max(0) - signed.min(0)).max()) <= GREY_NOISE:
            return grey
    return colours_CYX


def _constant(pixels_CX: Array) -> bool:
    first = (slice(None), *(slice(0, 1),) * (pixels_CX.ndim - 1))
    return bool((pixels_CX == pixels_CX[first]).all())


def _whole(raw_X: Array, path: Path) -> tuple[Array, int]:
    """Integers, and how many pixels had to be rounded."""
    if raw_X.dtype == np.bool_:
        return raw_X.view(np.uint8), 0
    if raw_X.dtype.kind != "f":
        return raw_X, 0
    if not np.isfinite(raw_X).all():
        n = int(np.count_nonzero(~np.isfinite(raw_X)))
        raise DataError(
            f"{path}: {n} pixels of the mask are not numbers (NaN or infinite); replace them, e.g. by 255, and pass "
            "--ignore 255"
        )
    rounded = np.rint(raw_X)
    if np.abs(rounded).max(initial=0) > 2**31 - 1:
        raise DataError(f"{path}: the mask has values beyond ±2³¹; class values are small whole numbers")
    return rounded.astype(np.int32), int(np.count_nonzero(rounded != raw_X))


def _bands(raw_X: Array, overlap: int = 0) -> Iterator[Array]:
    rows = max(1, BAND // max(1, math.prod(raw_X.shape[1:])))
    for start in range(0, raw_X.shape[0], rows):
        yield raw_X[max(0, start - overlap) : start + rows + overlap]


def _histogram(raw_X: Array) -> tuple[Ints, Ints]:
    if raw_X.dtype in (np.uint8, np.uint16):
        counts = np.zeros(1 << 8 * raw_X.dtype.itemsize, np.int64)
        for band in _bands(raw_X):
            counts += np.bincount(band.reshape(-1), minlength=len(counts))
        values = np.flatnonzero(counts)
        return values, counts[values]
    values, counts = np.unique(raw_X, return_counts=True)
    return values.astype(np.int64), counts.astype(np.int64)


def _solid(raw_X: Array, values: Ints, coloured: bool) -> Ints:
    """Per value, the pixels whose direct neighbours have the same value (pixels of the image's rim are not counted).

    Of a voxel, the neighbours along two of its axes: structures in volumes have less inside than their slices.
    Colours (packed) need only be alike: JPEG stores them at half the resolution and with noise.
    """
    solid = np.zeros(len(values), np.int64)
    middle, before, after = slice(1, -1), slice(None, -2), slice(2, None)
    for band in _bands(raw_X, overlap=1):
        inner = band[(middle,) * band.ndim]
        axes = np.zeros(inner.shape, np.uint8)
        for axis in range(band.ndim):
            same = np.ones(inner.shape, bool)
            for side in (before, after):
                neighbour = band[tuple(side if a == axis else middle for a in range(band.ndim))]
                same &= (np.abs(unpack(inner) - unpack(neighbour)).max(0) <= ALIKE) if coloured else inner == neighbour
            axes += same
        alike = axes >= min(2, band.ndim)
        solid += np.bincount(np.searchsorted(values, inner[alike]), minlength=len(values))
    return solid


def _low_part(raw_X: Array, values: Ints) -> tuple[int, int]:
    from scipy.ndimage import minimum_filter

    middle = (int(values[0]) + int(values[-1])) / 2
    # the middle of a huge mask tells as much as the whole
    reach = 2048 if raw_X.ndim == 2 else 128
    low_X = raw_X[tuple(slice(max(0, n // 2 - reach), n // 2 + reach) for n in raw_X.shape)] <= middle
    low = int(np.count_nonzero(low_X))
    if 2 * low > low_X.size:
        return 0, 0
    rim = max(2, round(min(low_X.shape) * 0.008))
    thick_X = minimum_filter(low_X.view(np.uint8), size=2 * rim + 1, mode="nearest")
    return low, int(np.count_nonzero(thick_X))
