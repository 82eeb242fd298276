"""Where a large image is read and written, in whole numbers only: no arrays, no network, any number of dimensions.

The write regions of a grid partition the image. The read region of a tile is its write region plus the halo (the pixels
that influence it through the network), both aligned to the network's divisor, so that every pooling window of a tile is
a pooling window of the whole image. At the image's own border a tile ends where the image ends: there it is padded
exactly as the whole image would be. So for a network without global statistics the tiles give the whole-image result.
(Read and write regions: Funke et al., daisy; Weigert et al., stardist. Overlap-tile: Ronneberger et al. 2015, fig. 2.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unetkit.core.region import Region


@dataclass(frozen=True, slots=True)
class Tile:
    """One step of a prediction: `read` goes through the network, `write` is the part of it that is kept."""

    read: Region
    write: Region


@dataclass(frozen=True, slots=True)
class Span:
    """A tile along one axis: pixels read and pixels written, start ≤ index < stop."""

    read_start: int
    read_stop: int
    write_start: int
    write_stop: int


@dataclass(frozen=True)
class TileGrid:
    """The tiles of an image of `shape`, row by row (last axis fastest). `spans[axis]` holds the tiles of one axis."""

    shape: tuple[int, ...]
    spans: tuple[tuple[Span, ...], ...]

    def __len__(self) -> int:
        return math.prod(len(axis) for axis in self.spans)

    def __iter__(self) -> Iterator[Tile]:
        return (tile_of(spans) for spans in itertools.product(*self.spans))

    def __getitem__(self, number: int) -> Tile:
        place = np.unravel_index(number, [len(axis) for axis in self.spans])
        return tile_of([axis[int(i)] for axis, i in zip(self.spans, place, strict=True)])

    @property
    def largest(self) -> tuple[int, ...]:
        """The longest read of each axis."""
        return tuple(max(s.read_stop - s.read_start for s in axis) for axis in self.spans)

    @property
    def work(self) -> float:
        """Pixels read per pixel of the image: 1 is a single tile."""
        return math.prod(
            sum(s.read_stop - s.read_start for s in axis) / length
            for axis, length in zip(self.spans, self.shape, strict=True)
        )


def tile_of(spans: Sequence[Span]) -> Tile:
    """The tile that has these spans along its axes."""
    return Tile(
        read=Region(tuple(s.read_start for s in spans), tuple(s.read_stop for s in spans)),
        write=Region(tuple(s.write_start for s in spans), tuple(s.write_stop for s in spans)),
    )


def plan_tiles(shape: Sequence[int], tile: Sequence[int], halo: Sequence[int], divisor: Sequence[int]) -> TileGrid:
    """Cover an image of `shape` with as few tiles as reads of at most `tile` pixels per axis allow.

    `halo`: pixels of context on each side that influence an output pixel. `divisor`: what input sizes must be multiples
    of. All per axis. A `tile` too small to keep anything beside its halo is enlarged to `smallest_tile`. The reads of
    one axis are equally long (but for what the image's border cuts off), so that a few shapes go through the network.
    """
    for name, values in (("shape", shape), ("tile", tile), ("divisor", divisor)):
        if any(n < 1 for n in values):
            raise ValueError(f"{name} {tuple(values)} must be at least 1 on every axis")
    spans = tuple(_plan_axis(*axis) for axis in zip(shape, tile, halo, divisor, strict=True))
    return TileGrid(tuple(int(n) for n in shape), spans)


def smallest_tile(halo: Sequence[int], divisor: Sequence[int]) -> tuple[int, ...]:
    """The shortest read, per axis, that writes something: two halos (rounded up to the divisor) and one divisor."""
    return tuple(2 * round_up(h, d) + d for h, d in zip(halo, divisor, strict=True))


def fit_tile(shape: Sequence[int], pixels: int, halo: Sequence[int], divisor: Sequence[int]) -> tuple[int, ...]:
    """The tile of at most `pixels` pixels, as near to a cube as the image allows: short axes are read whole.

    Never smaller than `smallest_tile` on an axis that it divides.
    """
    padded = [round_up(n, d) for n, d in zip(shape, divisor, strict=True)]
    least = smallest_tile(halo, divisor)
    tile = [0] * len(padded)
    room, left = max(1, pixels), len(padded)
    for axis in sorted(range(len(padded)), key=lambda a: padded[a]):
        side = root(room, left)
        tile[axis] = min(padded[axis], max(least[axis], side // divisor[axis] * divisor[axis]))
        room, left = max(1, room // tile[axis]), left - 1
    return tuple(tile)


def round_up(n: int, multiple: int) -> int:
    """The least multiple of `multiple` that is not below `n`."""
    return -(-n // multiple) * multiple


def _plan_axis(length: int, tile: int, halo: int, divisor: int) -> tuple[Span, ...]:
    padded, halo = round_up(length, divisor), round_up(halo, divisor)
    tile = max(tile // divisor * divisor, 2 * halo + divisor)
    if padded <= tile:
        return (Span(0, length, 0, length),)
    # n reads of `size` that overlap by two halos cover n·size − 2·halo·(n − 1) pixels; the outer ends need no halo.
    n = -(-(padded - 2 * halo) // (tile - 2 * halo))
    size = round_up(-(-(padded + 2 * halo * (n - 1)) // n), divisor)
    starts = [i * (size - 2 * halo) for i in range(n - 1)] + [padded - size]
    ends = [start + size - halo for start in starts[:-1]] + [length]
    return tuple(
        Span(start, min(start + size, length), begin, end)
        for start, begin, end in zip(starts, [0, *ends[:-1]], ends, strict=True)
    )


def root(n: int, degree: int) -> int:
    """The largest whole r with r ** degree ≤ n."""
    r = int(float(n) ** (1 / degree))
    while r**degree > n:
        r -= 1
    while (r + 1) ** degree <= n:
        r += 1
    return r
