"""What post-processing may use: a folder on disk, and so many bytes of memory; images are gone through in blocks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from unetkit.core.files import disk_errors
from unetkit.core.region import Region
from unetkit.predict.tiles import fit_tile

# Sides of the chunks of what lies on disk, by number of axes.
CHUNKS = {1: 1 << 18, 2: 512, 3: 64}
# What does not fit into this share of the memory lies on disk (several arrays may be held); a block may take so much.
ARRAY_SHARE, BLOCK_SHARE = 0.1, 0.5
COSTLIEST = 128  # bytes per pixel


class Stored(Protocol):
    """An array that is read and written by slices, in memory or on disk."""

    def __getitem__(self, index: tuple[slice, ...], /) -> Any: ...

    def __setitem__(self, index: tuple[slice, ...], value: NDArray[Any], /) -> None: ...


@dataclass(frozen=True)
class Room:
    """scratch: a folder for what does not fit in `memory` bytes; whoever made it removes it, when nothing that was
    computed here is read any more. block: sides of the blocks, instead of what memory allows."""

    scratch: Path
    memory: int
    block: tuple[int, ...] | None = None

    def array(self, name: str, shape: Sequence[int], dtype: DTypeLike) -> Stored:
        """An array of zeros: in memory where it is small, else chunks on disk, compressed."""
        kind = np.dtype(dtype)
        if math.prod(shape) * kind.itemsize <= self.memory * ARRAY_SHARE:
            return np.zeros(tuple(shape), kind)
        import zarr  # most images fit in memory, and the library takes a second to import
        from zarr.codecs import BloscCodec

        path = self.scratch / name
        with disk_errors(path):
            stored: Stored = zarr.create_array(
                path,
                shape=tuple(shape),
                chunks=tuple(min(self._side(len(shape)), n) for n in shape),
                dtype=kind,
                compressors=BloscCodec(cname="lz4", clevel=3),
                overwrite=True,
            )
        return stored

    def blocks(self, shape: Sequence[int], per_pixel: int, halo: Sequence[int] | None = None) -> Blocks:
        """Blocks of an image of `shape`, each of which costs at most `per_pixel` bytes for each of its pixels, those of
        a `halo` around it included; one block where memory suffices for the image."""
        size = tuple(int(n) for n in shape)
        around = tuple(halo or (0,) * len(size))
        if self.block is not None:
            return Blocks(size, self.block, around)
        pixels = max(1, int(self.memory * BLOCK_SHARE / per_pixel))
        if math.prod(size) <= pixels:
            return Blocks(size, size, around)
        read = fit_tile(size, pixels, around, (1,) * len(size))
        kept = tuple(max(1, r - 2 * h) for r, h in zip(read, around, strict=True))
        side = self._side(len(size))  # whole chunks are written where there is room for one
        return Blocks(size, tuple(k // side * side or k for k in kept), around)

    def _side(self, ndim: int) -> int:
        """Side of a chunk: halved until the costliest blocks hold one."""
        side = CHUNKS[ndim]
        while side > 32 and (1.25 * side) ** ndim * COSTLIEST > self.memory * BLOCK_SHARE:
            side //= 2
        return side


@dataclass(frozen=True)
class Blocks:
    """The blocks of an image of `shape`, row by row, each `block` large (the last of an axis may be smaller). halo:
    pixels beside a block, on each side of every axis, that are read with it."""

    shape: tuple[int, ...]
    block: tuple[int, ...]
    halo: tuple[int, ...]

    def __iter__(self) -> Iterator[Region]:
        starts = (range(0, n, b) for n, b in zip(self.shape, self.block, strict=True))
        for start in itertools.product(*starts):
            stop = (min(a + b, n) for a, b, n in zip(start, self.block, self.shape, strict=True))
            yield Region(start, tuple(stop))

    def wide(self, block: Region) -> Region:
        """A block with its halo, as far as the image goes."""
        return block.grow(self.halo).intersect(Region.of(self.shape))

    @property
    def seams(self) -> Iterator[tuple[int, Region]]:
        """Where two blocks meet: the axis across, and the two layers of pixels on both sides of it, with the pixels
        beside them that neighbour by a corner."""
        for block in self:
            for axis, (stop, length) in enumerate(zip(block.stop, self.shape, strict=True)):
                if stop < length:
                    layers = block.grow([int(a != axis) for a in range(len(self.shape))])
                    layers = layers.intersect(Region.of(self.shape))
                    start = tuple(stop - 1 if a == axis else v for a, v in enumerate(layers.start))
                    yield axis, Region(start, tuple(stop + 1 if a == axis else v for a, v in enumerate(layers.stop)))
