"""Overlapping tiles, averaged with Gaussian weights, for networks that no tiling reproduces exactly.

A network with statistics over the whole input (instance norm) sees another image in every tile; neighbours disagree
at their seams. Averaging with weights that fall off towards the tile's border hides the seams (Isensee et al. 2021,
nnU-Net, suppl. note 2: σ = 1/8 of the tile). Only a few rows of one column of the image are held at a time: those that
may still change, and those that are still read.
"""

from __future__ import annotations

from functools import lru_cache, reduce

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region

Array = NDArray[np.float32]


class Blender:
    """Sums up the tiles that touch a column of the image, from its first row to its last.

    column: the part of the image that is wanted; rows above its start are forgotten. height: the most rows held.
    """

    def __init__(self, column: Region, classes: int, height: int) -> None:
        self.column = column
        self._top = self._done = column.start[0]
        shape = (min(height, column.shape[0]), *column.shape[1:])
        self._sums = np.zeros((classes + 1, *shape), np.float32)  # of each class, and of the weights

    def add(self, read: Region, shares_KX: Array) -> None:
        """Add what one tile says of the region `read`: probabilities (K, *read)."""
        part = read.intersect(self.column)
        if not part.size:
            return
        inner, weight = part.within(read).slices, gaussian(read.shape)[part.within(read).slices]
        where = part.shift((-self._top, *(-a for a in self.column.start[1:]))).slices
        for sums, shares_X in zip(self._sums[:-1], shares_KX, strict=True):  # all products at once are large
            sums[where] += shares_X[inner] * weight
        self._sums[-1][where] += weight

    def finish(self, row: int) -> None:
        """No further tile touches rows before `row`: there sums become averages."""
        rows = slice(self._done - self._top, row - self._top)
        self._sums[:-1, rows] /= self._sums[-1, rows]
        self._done = row

    def rows(self, start: int, stop: int) -> Array:
        """Averages (K, *rows of the column); a view that the next `forget` changes."""
        return self._sums[:-1, start - self._top : stop - self._top]

    def forget(self, row: int) -> None:
        """Rows before `row` are read no more."""
        gone = row - self._top
        if gone <= 0:
            return
        for sums in self._sums:  # one by one: numpy copies what overlaps
            keep = max(0, len(sums) - gone)
            sums[:keep] = sums[gone : gone + keep]
            sums[keep:] = 0
        self._top = row


@lru_cache(maxsize=4)
def gaussian(shape: tuple[int, ...]) -> Array:
    """Weights of a tile: 1 at its centre, falling off with σ = 1/8 of its length, never below 1e-4."""
    axes = []
    for n in shape:
        x = (np.arange(n, dtype=np.float32) - (n - 1) / 2) / max(n / 8, 1e-6)
        axes.append(np.exp(-0.5 * x * x))
    return np.maximum(reduce(np.multiply.outer, axes), 1e-4).astype(np.float32)
