"""Holes: background that one class, or one object, surrounds on all sides."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from unetkit.core.region import Region
from unetkit.predict.post.components import Ids, Parts, Values, components
from unetkit.predict.post.room import Room

UNKNOWN = (1 << 32) - 1
"""Value of pixels of which it is not known what they are."""
# Bytes per pixel of a block: values, ids of holes, and the neighbours that are compared, 8 bytes each.
COST = 48


def filling(values: Values, shape: Sequence[int], room: Room, name: str, largest: float = math.inf) -> Ids:
    """What each pixel of a hole is filled with (*region) uint32; 0 where there is no hole.

    values: integers (*region) of a region, 0 for background. A hole is a connected area of background (by faces: a
    diagonal line is closed) of at most `largest` pixels that does not reach the image's edge and adjoins one value
    only, by faces, and that is not `UNKNOWN`. Of a single value these are the holes of
    `scipy.ndimage.binary_fill_holes`.
    """
    holes = components(lambda region: values(region) == 0, (1,), shape, room, name, diagonal=False)
    surround = _surround(values, holes, shape, room)
    surround[(holes.sizes > largest) | (surround == UNKNOWN)] = 0
    surround[0] = 0

    def read(region: Region) -> np.ndarray:
        return surround[holes.read(region)]

    return read


def _surround(values: Values, holes: Parts, shape: Sequence[int], room: Room) -> np.ndarray:
    """The one value that each hole adjoins, uint32; 0 where it adjoins several, or the edge of the image."""
    most = np.zeros(holes.count + 1, np.uint32)
    least = np.full(holes.count + 1, np.iinfo(np.uint32).max, np.uint32)
    whole = Region.of(shape)
    for block in room.blocks(shape, COST):
        wide = Region(block.start, tuple(stop + 1 for stop in block.stop)).intersect(whole)
        ids_X, values_X = holes.read(wide), values(wide).astype(np.uint32)
        for axis, length in enumerate(shape):
            ids, beside = np.moveaxis(ids_X, axis, 0), np.moveaxis(values_X, axis, 0)
            if block.start[axis] == 0:
                least[ids[0]] = 0
            if block.stop[axis] == length:
                least[ids[-1]] = 0
            for hole, value in ((ids[:-1], beside[1:]), (ids[1:], beside[:-1])):
                meet = (hole > 0) & (value > 0)
                np.maximum.at(most, hole[meet], value[meet])
                np.minimum.at(least, hole[meet], value[meet])
    return np.where(most == least, most, 0).astype(np.uint32)
