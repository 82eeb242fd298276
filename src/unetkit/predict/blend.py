"""Overlapping tiles, averaged with Gaussian weights, for networks that no tiling reproduces exactly.

A network with statistics over the whole input (instance norm) sees another image in every tile; neighbours disagree
at their seams. Averaging with weights that fall off towards the tile's border hides the seams (Isensee et al. 2021,
nnU-Net, suppl. note 2: σ = 1/8 of the tile). Only the rows that may still change are held.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region
from unetkit.predict.tiles import TileGrid

Array = NDArray[np.float32]


def blend(grid: TileGrid, classes: int, predict: Callable[[Region], Array]) -> Iterator[tuple[Region, Array]]:
    """Probabilities of bands that partition the image (full width, top to bottom), float32 (classes, *band shape).

    `predict(read region)` gives the probabilities (classes, *region shape) of one tile.
    """
    rows = [list(row) for _, row in itertools.groupby(grid, key=lambda tile: tile.read.start[0])]
    across = grid.shape[1:]
    held = np.zeros((classes + 1, 0, *across), np.float32)  # the weighted sum of each class, and the sum of weights
    top = 0  # the image row of the first row held
    for number, row in enumerate(rows):
        bottom = row[0].read.stop[0]
        missing = bottom - top - held.shape[1]
        held = np.concatenate([held, np.zeros((classes + 1, missing, *across), np.float32)], axis=1)
        for tile in row:
            where = (slice(None), *tile.read.shift((-top, *(0 for _ in across))).slices)
            weight = gaussian(tile.read.shape)
            held[where][:-1] += predict(tile.read) * weight
            held[where][-1] += weight
        done = (rows[number + 1][0].read.start[0] if number + 1 < len(rows) else grid.shape[0]) - top
        band = held[:, :done]
        yield Region((top, *(0 for _ in across)), (top + done, *across)), band[:-1] / band[-1]
        held, top = held[:, done:], top + done


def gaussian(shape: tuple[int, ...]) -> Array:
    """Weights of a tile: 1 at its centre, falling off with σ = 1/8 of its length, never below 1e-4."""
    axes = []
    for n in shape:
        x = (np.arange(n, dtype=np.float32) - (n - 1) / 2) / max(n / 8, 1e-6)
        axes.append(np.exp(-0.5 * x * x))
    return np.maximum(reduce(np.multiply.outer, axes), 1e-4).astype(np.float32)
