"""Writing into files that are made of compressed chunks, so that each chunk is written once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from unetkit.core.region import Region
from unetkit.data.formats.base import Array


class ChunkBuffer:
    """Passes on what covers whole chunks at once; holds chunks that are begun until they are complete."""

    def __init__(
        self, shape: Sequence[int], chunk: Sequence[int], channels: int, dtype: np.dtype[Any],
        put: Callable[[Region, Array], None],
    ) -> None:  # fmt: skip
        """`put` is given regions of whole chunks and their (C, *region) pixels, each once."""
        self._shape, self._chunk, self._channels, self._dtype = tuple(shape), tuple(chunk), channels, dtype
        self._put = put
        self._held: dict[tuple[int, ...], tuple[Array, int]] = {}

    def add(self, region: Region, array_CX: Array) -> None:
        """Take the pixels of a region of at least one pixel."""
        whole = self._aligned(region)
        if whole is not None:
            self._put(whole, array_CX[(slice(None), *whole.within(region).slices)])
            if whole == region:
                return
        steps = zip(region.start, region.stop, self._chunk, strict=True)
        for index in itertools.product(*(range(a // c, (b - 1) // c + 1) for a, b, c in steps)):
            box = self._box(index)
            if whole is not None and whole.contains(box):
                continue
            part = box.intersect(region)
            if index not in self._held:
                self._held[index] = (np.zeros((self._channels, *box.shape), self._dtype), box.size)
            pixels, missing = self._held[index]
            into = (slice(None), *part.within(box).slices)
            pixels[into] = array_CX[(slice(None), *part.within(region).slices)]
            self._held[index] = (pixels, missing - part.size)
            if missing <= part.size:
                self._put(box, self._held.pop(index)[0])

    def _box(self, index: tuple[int, ...]) -> Region:
        start = tuple(i * c for i, c in zip(index, self._chunk, strict=True))
        stop = tuple(min(a + c, n) for a, c, n in zip(start, self._chunk, self._shape, strict=True))
        return Region(start, stop)

    def _aligned(self, region: Region) -> Region | None:
        """The largest part of a region that is made of whole chunks."""
        sides = list(zip(region.start, region.stop, self._chunk, self._shape, strict=True))
        start = tuple(-(-a // c) * c for a, _, c, _ in sides)
        stop = tuple(b if b == n else b // c * c for _, b, c, n in sides)
        return Region(start, stop) if all(a < b for a, b in zip(start, stop, strict=True)) else None


def aligned_bands(shape: Sequence[int], chunk: Sequence[int], pixels: int) -> Iterator[Region]:
    """Regions of whole chunks that partition an array, of about `pixels` each (at the least a chunk), the last axes
    whole where they can be."""
    extent = list(shape)
    for axis, (length, step) in enumerate(zip(shape, chunk, strict=True)):
        rest = math.prod(shape[axis + 1 :])
        extent[axis] = min(length, max(1, pixels // (math.prod(extent[:axis]) * rest * step)) * step)
        if math.prod(extent) <= pixels:
            break
    for start in itertools.product(*(range(0, n, e) for n, e in zip(shape, extent, strict=True))):
        yield Region(start, tuple(min(a + e, n) for a, e, n in zip(start, extent, shape, strict=True)))
