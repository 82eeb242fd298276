"""One mask, read by region as numbers: from an image file, a table, marks, an array. What must be known of the whole
file (is it grey? is its alpha the mask?) is found once, in blocks, when it is opened."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unetkit.core.closing import Closing
from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.formats import AS_THEY_ARE, ImageInfo, ImageReader, Reading, format_of, open_image, suffixes
from unetkit.data.formats.signals.records import is_wave_file, read_waves
from unetkit.data.formats.signals.rows import is_mask_table, read_mask_rows
from unetkit.data.labels.legend import UNANNOTATED, Colour
from unetkit.data.labels.parts import MOST_PARTS, empty_bits, numbered_parts, with_unannotated
from unetkit.data.prepared.statistics import blocks

Array: TypeAlias = NDArray[Any]

LOSSY = (".jpg", ".jpeg")
GREY_NOISE = 12  # a lossy file whose channels differ by no more than this is grey


@dataclass(frozen=True)
class RawMask:
    """A mask, or a region of one, as read: integers (*space) or, where `coloured`, (3, h, w).

    fractional: pixels that were not whole numbers. palette: the RGB colour of each value of a palette file. parts: the
    integers are bit masks, of these classes. objects: they are numbers of objects, whatever they look like. info: of
    its file. notes: what was remarkable, in sentences.
    """

    array: Array
    fractional: int = 0
    palette: tuple[tuple[int, Colour], ...] = ()
    coloured: bool = False
    info: ImageInfo | None = None
    notes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    objects: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Its size in space."""
        return self.array.shape[1:] if self.coloured else self.array.shape


@dataclass
class MaskReader(Closing):
    """An open mask, read by region. A context manager. The fields as in `RawMask`.

    where: what messages call it. pixels: gives a region's numbers, and how many had to be rounded.
    """

    where: Path
    shape: tuple[int, ...]
    pixels: Callable[[Region], tuple[Array, int]]
    palette: tuple[tuple[int, Colour], ...] = ()
    coloured: bool = False
    info: ImageInfo | None = None
    notes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    objects: bool = False
    files: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def read(self, region: Region | None = None) -> RawMask:
        """A region, or all of it. Raises DataError: damaged, numbers that no mask has."""
        array, fractional = self.pixels(Region.of(self.shape) if region is None else region)
        return RawMask(array, fractional, self.palette, self.coloured, self.info, self.notes, self.parts, self.objects)

    def blocks(self) -> Iterator[Region]:
        """Regions of some million pixels that cover it, in the order of its file."""
        return blocks(self.shape) if self.info is None else blocks_of(self.info)

    def close(self) -> None:
        """Let go of the files."""
        self.files.close()


def open_mask_file(path: Path, reading: Reading = AS_THEY_ARE, over: ImageInfo | None = None) -> MaskReader:
    """Open a mask for reading by region. over: the image that it lies over, where that is known.

    Marks of the waves of a recording are a mask (samples,); so is a CSV of one value per sample. A colour file whose
    three channels agree is grey. Palettes give their indices, or their grey values where all their colours are grey.
    Alpha is the mask where the colours are constant and it is not. Floats are rounded; NaN is `UNANNOTATED`. Channels
    of 0 and one other value are the parts of a mask, as is one axis more than the image has.
    Raises DataError: unreadable, neither grey nor RGB nor parts, pixels that are infinite.
    """
    known = format_of(path) is not None
    if path.suffix.lower() == ".csv" and (not known or is_mask_table(path)):
        return array_mask(read_mask_rows(path), path)
    if not known and is_wave_file(path):
        label_X, info, notes = read_waves(path)
        return array_mask(label_X, path, info, notes)
    with contextlib.ExitStack() as files:
        reader = files.enter_context(open_image(path, reading))
        if over is not None and (reader.info.channels, *reader.info.shape) == over.shape:
            # what was taken for channels are the planes that the image has, too
            files.close()
            known_axes = over.axes if len(over.axes) == len(over.shape) else "ZYX"[-len(over.shape) :]
            reader = files.enter_context(open_image(path, dataclasses.replace(reading, axes=known_axes)))
        mask = _with_holes(_image_mask(reader, over), reader)
        mask.files = files.pop_all()
        return mask


def array_mask(array: Array, where: Path, info: ImageInfo | None = None, notes: tuple[str, ...] = ()) -> MaskReader:
    """An array (*space) as an open mask."""

    def pixels(region: Region) -> tuple[Array, int]:
        return whole_numbers(array[region.slices], where)

    return MaskReader(where, array.shape, pixels, info=info, notes=notes)


def drawn_mask(reader: ImageReader) -> MaskReader:
    """A label of whole numbers that is drawn as it is read."""
    files = contextlib.ExitStack()
    files.push(reader)
    info = reader.info
    return MaskReader(
        reader.path, info.shape, lambda region: (reader.read(region)[0], 0), info=info, notes=info.notes, files=files
    )


def blocks_of(info: ImageInfo) -> Iterator[Region]:
    """Regions of some million pixels that cover an image, in the order of its file."""
    backwards = len(info.shape) > 1 and (info.axes.startswith("X") or (not info.axes and info.affine is not None))
    return blocks(info.shape, info.chunk, backwards)


def whole_numbers(raw_X: Array, where: Path) -> tuple[Array, int]:
    """Integers, `UNANNOTATED` for NaN; and how many pixels had to be rounded. Raises DataError: infinite, too large."""
    if raw_X.dtype == np.bool_:
        return raw_X.view(np.uint8), 0
    if raw_X.dtype.kind != "f":
        return raw_X, 0
    known = np.isfinite(raw_X)
    if np.isinf(raw_X).any():
        n = int(np.count_nonzero(np.isinf(raw_X)))
        raise DataError(
            f"{where}: {n} pixels of the mask are infinite; replace them by NaN where nothing is annotated, or by a "
            "class value"
        )
    rounded = np.rint(raw_X, where=known, out=np.zeros_like(raw_X))
    if np.abs(rounded).max(initial=0) > 2**31 - 1:
        raise DataError(f"{where}: the mask has values beyond ±2³¹; class values are small whole numbers")
    numbers = rounded.astype(np.int32)
    numbers[~known] = UNANNOTATED
    return numbers, int(np.count_nonzero((rounded != raw_X) & known))


def _image_mask(reader: ImageReader, over: ImageInfo | None) -> MaskReader:
    """The mask that an open image is."""
    info, path = reader.info, reader.path
    if info.mode == "palette":
        return _palette_mask(reader)
    if info.alpha and _only_alpha(reader):
        return MaskReader(path, info.shape, lambda region: (reader.read(region, alpha=True)[-1], 0), info=info)
    if info.channels == 1 and over is not None and info.shape[1:] == over.shape:
        return _stack_mask(reader)
    if info.channels == 1:
        return MaskReader(path, info.shape, lambda r: whole_numbers(reader.read(r)[0], path), info=info)
    if info.channels != 3:
        return _channel_mask(reader)
    if all(_grey(reader.read(region), path) for region in blocks_of(info)):
        return MaskReader(path, info.shape, lambda r: whole_numbers(reader.read(r)[1], path), info=info)
    if _binary(reader, path.name.lower().endswith(suffixes("image"))):  # no colours that anyone could see
        return _channel_mask(reader)
    if info.dtype != "uint8":
        raise DataError(
            f"{path}: coloured masks are read with 8 bits per channel, this one has {info.dtype}; convert it"
        )
    return MaskReader(path, info.shape, lambda region: (reader.read(region), 0), coloured=True, info=info)


def _with_holes(mask: MaskReader, reader: ImageReader) -> MaskReader:
    """The mask, `UNANNOTATED` where its file says that a pixel holds nothing: by its nodata value, or by a mask of its
    own. A nodata value of 0 is the background: masks of maps are made so more often than not."""
    nodata, inner = reader.info.nodata, mask.pixels
    has_mask = reader.masked(Region((0,) * len(mask.shape), (1,) * len(mask.shape))) is not None
    if nodata == 0 and not mask.coloured:
        mask.notes = (*mask.notes, "its nodata value 0 is taken as a value like others; if it marks unlabelled pixels, "
                      "pass --ignore 0")  # fmt: skip
    if mask.coloured or not (nodata or has_mask):
        return mask

    def pixels(region: Region) -> tuple[Array, int]:
        raw_X, fractional = inner(region)
        nothing_X = np.zeros(raw_X.shape, bool)
        if nodata and not mask.parts:
            nothing_X |= raw_X == nodata
        if nodata != 0 and (masked := reader.masked(region)) is not None:
            nothing_X |= masked
        return with_unannotated(raw_X, nothing_X), fractional

    mask.pixels = pixels
    return mask


def _palette_mask(reader: ImageReader) -> MaskReader:
    used: dict[int, Colour] = {}
    for region in blocks_of(reader.info):
        indices_YX = reader.read(region, palette="indices")[0]
        values, first = np.unique(indices_YX, return_index=True)
        colours_CN = reader.read(region, palette="colours").reshape(3, -1)[:, first]
        used |= {int(v): (int(r), int(g), int(b)) for v, (r, g, b) in zip(values, colours_CN.T.tolist(), strict=True)}
    if all(r == g == b for r, g, b in used.values()):  # a grey image saved with a palette: the greys are what counts
        return MaskReader(reader.path, reader.info.shape, lambda r: (reader.read(r)[0], 0), info=reader.info)
    return MaskReader(
        reader.path,
        reader.info.shape,
        lambda region: (reader.read(region, palette="indices")[0], 0),
        palette=tuple(sorted(used.items())),
        info=reader.info,
    )


def _channel_mask(reader: ImageReader) -> MaskReader:
    """A channel for each part."""
    info = reader.info
    named = len(info.channel_names) == info.channels == len(set(info.channel_names))
    parts = info.channel_names if named else numbered_parts(info.channels)
    _check_parts(parts, reader.path)

    def pixels(region: Region) -> tuple[Array, int]:
        return part_bits(reader.read(region), reader.path), 0

    return MaskReader(reader.path, info.shape, pixels, info=info, parts=parts)


def _stack_mask(reader: ImageReader) -> MaskReader:
    """One axis more than the image has: along the first one, the parts."""
    count, *space = reader.info.shape
    parts = numbered_parts(count)
    _check_parts(parts, reader.path)

    def pixels(region: Region) -> tuple[Array, int]:
        box = Region((0, *region.start), (count, *region.stop))
        return part_bits(reader.read(box)[0], reader.path), 0

    return MaskReader(reader.path, tuple(space), pixels, parts=parts)


def part_bits(parts_KX: Array, where: Path) -> Array:
    """Channels of 0 and one other value as one bit mask (*space); NaN in any is `UNANNOTATED`.

    Raises DataError: a channel of several values.
    """
    bits = empty_bits(parts_KX.shape[1:], len(parts_KX))
    nowhere = np.zeros(bits.shape, bool)
    for k, part_X in enumerate(parts_KX):
        whole_X, fractional = whole_numbers(part_X, where)
        inside = (whole_X != 0) & (whole_X != UNANNOTATED)
        values = whole_X[inside]
        if fractional or (values.size and (values != values[0]).any()):
            raise DataError(
                f"{where}: a mask has one channel, or is RGB, or has a channel of 0 and 1 for each class; of the "
                f"{len(parts_KX)} channels of this file, number {k + 1} holds more than two values"
            )
        bits[inside] |= bits.dtype.type(1 << k)
        nowhere |= whole_X == UNANNOTATED
    return with_unannotated(bits, nowhere)


def _check_parts(parts: Sequence[str], where: Path) -> None:
    if len(parts) > MOST_PARTS:
        raise DataError(
            f"{where}: a mask has one channel, or is RGB, or has a channel for each class; this file has {len(parts)} "
            "channels; save the classes as one number per pixel"
        )


def _binary(reader: ImageReader, picture: bool) -> bool:
    """Whether the file holds nothing but 0 and 1; where it is no picture, 0 and 255 will do."""
    values = [0, 1] if picture else [0, 1, 255]
    return all(bool(np.isin(reader.read(region), values).all()) for region in blocks_of(reader.info))


def _only_alpha(reader: ImageReader) -> bool:
    """Whether the colours are constant and alpha is not."""
    first = Region((0,) * len(reader.info.shape), (1,) * len(reader.info.shape))
    pixel = reader.read(first, alpha=True)
    varies = False
    for region in blocks_of(reader.info):
        same = reader.read(region, alpha=True) == pixel
        if not same[:-1].all():
            return False
        varies |= not same[-1].all()
    return varies


def _grey(colours_CYX: Array, path: Path) -> bool:
    """Whether three channels agree (in a lossy file: nearly)."""
    red, green, blue = colours_CYX
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return True
    if path.suffix.lower() not in LOSSY:
        return False
    signed = colours_CYX.astype(np.int16)
    return int((signed.max(0) - signed.min(0)).max()) <= GREY_NOISE
