"""What one look at a mask tells about its values; in blocks, so that a mask may be of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetkit.core.region import Region
from unetkit.data.case import IGNORE, Case
from unetkit.data.formats import ImageInfo
from unetkit.data.labels.borders import BORDER, INSIDE, WIDTH, crowded, reach, with_borders
from unetkit.data.labels.legend import UNANNOTATED, Colour, Ints, Value, code, pack, unpack
from unetkit.data.labels.mask_files import Array, MaskReader
from unetkit.data.labels.masks import open_mask

ALIKE = 8  # per channel
MOST_BLOBS = 1 << 26  # larger masks are not searched for connected areas
MOST_SOLID = 1 << 28  # of larger masks, a part of this size tells how solid the values are


@dataclass(frozen=True)
class MaskFacts:
    """What one pass over a mask found.

    values, counts: its distinct values (colours packed), ascending, and the pixels of each. solid: pixels whose four
    neighbours (in a plane) have the same value; soft edges have none, areas have many. blobs: connected areas of
    one value other than 0, where there are two such values or more. low, low_thick: pixels in the lower half of the
    range of values, and how many of those are left without a rim of about 1 % of the image's side; (0, 0) where they
    are the majority, and in signals.
    fractional: pixels that were not whole numbers. missing: pixels without any value (NaN), which are not in counts.
    palette: RGB colour of each value of a palette file. parts, objects: as in `RawMask`.
    crowded, rim: if the values are numbers of objects, how many have another beside them (with a pixel between them at
    most), and the pixels of all borders; (0, 0) where there are fewer than two, and in masks too large for `blobs`.
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
    missing: int = 0
    parts: tuple[str, ...] = ()
    objects: bool = False
    crowded: int = 0
    rim: int = 0


def mask_facts(case: Case, ignore: Value | None = None, names: Mapping[str, int] | None = None) -> MaskFacts:
    """Look at the mask of a case once. ignore: the value of unlabelled pixels, which make no shapes; it stays among the
    values. names: values of the classes of outlines, in the whole set. Raises as `read_label`."""
    with open_mask(case, names=names) as mask:
        values, counts, fractional = _histogram(mask)
        missing = int(counts[values == UNANNOTATED].sum())
        values, counts = values[values != UNANNOTATED], counts[values != UNANNOTATED]
        nothing = [UNANNOTATED] if ignore is None else [UNANNOTATED, code(ignore)]
        named = np.setdiff1d(values, nothing)
        shaped = not (mask.parts or mask.objects)  # the others say themselves what they are
        blobs, crowd = None, (0, 0)
        if not mask.parts and np.count_nonzero(named) >= 2 and np.prod(mask.shape) <= MOST_BLOBS:
            blobs = _blobs(mask, named) if shaped else None
            crowd = _crowd(mask, named)
        # thin structures are drawn in images and volumes; in a signal everything is as thin as a line
        low, thick = (0, 0)
        if shaped and not mask.coloured and len(named) >= 2 and len(mask.shape) > 1:
            low, thick = _low_part(mask, named)
        solid = _solid(mask, values, counts) if shaped and len(values) > 2 else counts
        return MaskFacts(
            case.id, case.mask_where, mask.shape, mask.coloured, values, counts, solid, blobs, low, thick, fractional,
            mask.palette, mask.info, mask.notes, missing, mask.parts, mask.objects, *crowd,
        )  # fmt: skip


def _raw(mask: MaskReader, region: Region | None = None) -> Array:
    """Numbers of a region, colours packed."""
    part = mask.read(region).array
    return pack(part) if mask.coloured else part


def _histogram(mask: MaskReader) -> tuple[Ints, Ints, int]:
    """Distinct values, pixels of each, and how many had to be rounded."""
    table = np.zeros(1 << 16, np.int64)
    others: dict[int, int] = {}
    fractional = 0
    for region in mask.blocks():
        part = mask.read(region)
        fractional += part.fractional
        raw_X = pack(part.array) if mask.coloured else part.array
        if raw_X.dtype in (np.uint8, np.uint16):
            count = np.bincount(raw_X.reshape(-1))
            table[: len(count)] += count
        else:
            for value, n in zip(*np.unique(raw_X, return_counts=True), strict=True):
                others[int(value)] = others.get(int(value), 0) + int(n)
    small = np.flatnonzero(table)
    values = np.array([*others, *small.tolist()], np.int64)
    counts = np.array([*others.values(), *table[small].tolist()], np.int64)
    order = np.argsort(values, kind="stable")
    return values[order], counts[order], fractional


def _blobs(mask: MaskReader, named: Ints) -> int:
    """Connected areas of one value other than 0."""
    from skimage.measure import label  # half a second to import, and most masks do not need it

    raw_X = _raw(mask)
    objects = named[named != 0]
    place = np.minimum(np.searchsorted(objects, raw_X), len(objects) - 1)
    compact = np.where(objects[place] == raw_X, place + 1, 0).astype(np.int32)
    return int(label(compact, background=0, return_num=True, connectivity=raw_X.ndim)[1])


def _crowd(mask: MaskReader, named: Ints) -> tuple[int, int]:
    """Objects that have another beside them, and pixels of borders."""
    spacing = None if mask.info is None else mask.info.spacing
    whole, around = Region.of(mask.shape), reach(len(mask.shape), WIDTH, spacing)
    rim, close = 0, [np.zeros(0, np.int64)]
    for region in mask.blocks():
        wide = region.grow(tuple(max(2, n) for n in around)).intersect(whole)
        raw_X = _raw(mask, wide).astype(np.int64)
        label_X = np.where(np.isin(raw_X, named), raw_X != 0, IGNORE).astype(np.uint8)
        border_X = with_borders(raw_X, label_X, WIDTH, spacing) == BORDER
        rim += int(np.count_nonzero(border_X[region.within(wide).slices]))
        close.append(crowded(np.where(label_X == INSIDE, raw_X, 0)))
    return len(np.unique(np.concatenate(close))), rim


def _solid(mask: MaskReader, values: Ints, counts: Ints) -> Ints:
    """Per value, the pixels whose direct neighbours have the same value (pixels of the image's rim are not counted).

    Of a voxel, the neighbours along two of its axes: structures in volumes have less inside than their slices.
    Colours (packed) need only be alike: JPEG stores them at half the resolution and with noise. Of a huge mask every
    n-th block is looked at, and stands for the others.
    """
    solid, seen = np.zeros(len(values), np.int64), np.zeros(len(values), np.int64)
    middle, before, after = slice(1, -1), slice(None, -2), slice(2, None)
    regions = list(mask.blocks())
    step = -(-int(np.prod(mask.shape)) // MOST_SOLID)
    whole = Region.of(mask.shape)
    for region in regions[step // 2 :: step]:
        band = _raw(mask, region.grow(1).intersect(whole))
        if step > 1:
            seen += _tally(_raw(mask, region), values)
        inner = band[(middle,) * band.ndim]
        axes = np.zeros(inner.shape, np.uint8)
        for axis in range(band.ndim):
            same = np.ones(inner.shape, bool)
            for side in (before, after):
                neighbour = band[tuple(side if a == axis else middle for a in range(band.ndim))]
                if mask.coloured:
                    same &= np.abs(unpack(inner) - unpack(neighbour)).max(0) <= ALIKE
                else:
                    same &= inner == neighbour
            axes += same
        solid += _tally(inner[axes >= min(2, band.ndim)], values)
    return solid if step == 1 else np.round(solid / np.maximum(seen, 1) * counts).astype(np.int64)


def _tally(raw_X: Array, values: Ints) -> Ints:
    """How many elements have each of the values, among which theirs are (or are none of them, as where nothing is)."""
    place = np.minimum(np.searchsorted(values, raw_X.reshape(-1)), len(values) - 1)
    known = values[place] == raw_X.reshape(-1)
    return np.bincount(place[known], minlength=len(values))


def _low_part(mask: MaskReader, named: Sequence[int] | Ints) -> tuple[int, int]:
    """Pixels in the lower half of the range of values, and those of them inside a rim."""
    from scipy.ndimage import minimum_filter

    middle = (int(named[0]) + int(named[-1])) / 2
    # the middle of a huge mask tells as much as the whole
    reach = 2048 if len(mask.shape) == 2 else 128
    start = tuple(max(0, n // 2 - reach) for n in mask.shape)
    stop = tuple(min(n, n // 2 + reach) for n in mask.shape)
    raw_X = _raw(mask, Region(start, stop))
    known_X = np.isin(raw_X, named)
    low_X = (raw_X <= middle) & known_X
    low = int(np.count_nonzero(low_X))
    if 2 * low > np.count_nonzero(known_X):
        return 0, 0
    rim = max(2, round(min(low_X.shape) * 0.008))
    thick_X = minimum_filter(low_X.view(np.uint8), size=2 * rim + 1, mode="nearest")
    return low, int(np.count_nonzero(thick_X))
