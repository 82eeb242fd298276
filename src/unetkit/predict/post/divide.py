"""Objects that touch, told apart by depth, in images that are never whole in memory.

A network says how deep in an object each pixel lies: 0 at its edge, 1 in its middle. Where that exceeds a threshold,
the distance to where it does not is a hill for each object; the mean over several thresholds is the expected distance,
in which both count: how sure the network is, and what shape the objects have. Every summit of these hills is first an
object of its own (a watershed), then those are joined whose way to a higher one leads over a pass that is hardly lower
than they are: the lesser of two summits is an object if the pass lies below it by more than a share of its height, and
by more than some pixels. (The difference is the dynamics of a maximum, Grimaud 1992; without a share, joining by it is
the h-maxima transform, Soille 2003, section 6.3.4. A share suits small and large objects in one image alike.)

Each connected area of the ground (a clump of objects that touch) that reaches into a block and lies within the block
and its halo is divided as in the whole image. Elsewhere the line between two objects may run differently.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region
from unetkit.data.labels.legend import Legend
from unetkit.predict.post.components import Parts, taken
from unetkit.predict.post.flood import COST, HALO, Relief, flooded
from unetkit.predict.post.room import Room, Stored

Levels = Callable[[Region], NDArray[np.float32]]

THRESHOLDS = (0.5, 0.7, 0.9)
"""Depths whose distances are averaged, of a network that learnt borders: its depth is the probability of being inside.
On 45 images of nuclei the AP at IoU 0.5 was 0.744 with 0.5 alone, 0.759 with these, 0.755 with five from 0.3 to
0.97."""
OF_LEVELS = (-0.5, 0.2, 0.4, 0.6, 0.8)
"""The same of a network that learnt levels of depth; the first is that of the ground, so that the shape of objects
counts while depth is not learnt well. Cells in phase contrast, 300 steps: AP 0.29, without it 0.16; nuclei alike."""
FARTHEST = {1: 4096, 2: 128, 3: 32}
"""By number of axes: distances beyond are taken to be this, in elements; what is thicker is flat in its middle."""


@dataclass(frozen=True)
class Basins:
    """An image divided at every valley. parts: the basins, in the order of the first pixels of their summits. heights
    (count + 1,): of the summits. one, other (pairs,): basins that adjoin, by number; passes (pairs,): the height of the
    highest pass between them, from high to low."""

    parts: Parts
    heights: NDArray[np.float64]
    one: NDArray[np.int64]
    other: NDArray[np.int64]
    passes: NDArray[np.float64]


def divided(
    levels: Levels,
    shape: Sequence[int],
    room: Room,
    neck: float,
    dip: float = 0.0,
    spacing: Sequence[float] | None = None,
    halo: Sequence[int] | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Parts:
    """Objects by depth, in order of their first summits; the values of the parts are 1.

    levels: depth in an object (*region) float32, 0 to 1, and below 0 where there is none. neck: the share of the lesser
    summit's height, dip: the elements of the finest axis, that a pass lies below it between two objects, both at least.
    spacing: of the elements along each axis; None: alike. halo: elements around a block; None: as suits most objects.
    thresholds: whose distances are averaged.
    """
    found = basins(levels, shape, room, spacing, halo, thresholds)
    return joined(found, neck, dip)


def basins(
    levels: Levels,
    shape: Sequence[int],
    room: Room,
    spacing: Sequence[float] | None = None,
    halo: Sequence[int] | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Basins:
    """An image divided at every valley; arguments as of `divided`."""
    around = (HALO[len(shape)],) * len(shape) if halo is None else tuple(halo)
    hills = _hills(levels, shape, room, spacing, thresholds)
    summits = _summits(levels, hills, shape, room, around)
    relief = Relief(
        seeds=lambda region: np.asarray(summits[region.slices]) > 0,
        ground=lambda region: levels(region) >= 0,
        height=lambda region: -np.asarray(hills[region.slices]),
    )
    parts = flooded(relief, shape, room, halo=around)
    return _passes(parts, hills, shape, room)


def joined(found: Basins, neck: float, dip: float = 0.0) -> Parts:
    """Basins made one where no pass between them is low enough."""
    number = numbers(found, neck, dip)
    sizes = np.bincount(number, weights=found.parts.sizes).astype(np.int64)
    values = np.minimum(np.arange(len(sizes)), 1).astype(np.int64)
    return Parts(taken(number.astype(np.uint32), found.parts.read), values, sizes)


def numbers(found: Basins, neck: float, dip: float = 0.0) -> NDArray[np.int64]:
    """The number of the object (basins + 1,) that each basin belongs to, in the order of the first of its basins."""
    count = found.parts.count
    root, height = list(range(count + 1)), found.heights.tolist()

    def top(basin: int) -> int:
        while root[basin] != basin:
            root[basin] = root[root[basin]]
            basin = root[basin]
        return basin

    for one, other, way in zip(found.one.tolist(), found.other.tolist(), found.passes.tolist(), strict=True):
        a, b = top(one), top(other)
        lesser, greater = (a, b) if (height[a], -a) < (height[b], -b) else (b, a)
        if a != b and height[lesser] - way <= max(dip, neck * height[lesser]):
            root[lesser] = greater
    tops = np.array([top(basin) for basin in range(count + 1)])
    first = np.full(count + 1, count + 1)
    np.minimum.at(first, tops, np.arange(count + 1))
    number: NDArray[np.int64] = np.unique(first[tops], return_inverse=True)[1].reshape(-1).astype(np.int64)
    return number


def thresholds_of(legend: Legend) -> tuple[float, ...]:
    """The thresholds that suit what was learnt of objects."""
    return OF_LEVELS if legend.levels else THRESHOLDS


def expected_distance(
    level_X: NDArray[np.float32],
    sampling: Sequence[float],
    farthest: float,
    thresholds: Sequence[float] = THRESHOLDS,
) -> NDArray[np.float32]:
    """Mean over thresholds of the distance (*space), in elements of the finest axis, to the nearest pixel that is no
    deeper; at most `farthest`. The image's edge is none, for what lies beyond is not known."""
    from scipy import ndimage

    total_X = np.zeros(level_X.shape, np.float32)
    for threshold in thresholds:
        inside_X = level_X > threshold
        if inside_X.all():
            total_X += farthest
        elif inside_X.any():
            total_X += np.minimum(ndimage.distance_transform_edt(inside_X, sampling), farthest)
    return total_X / np.float32(len(thresholds))


def _hills(
    levels: Levels, shape: Sequence[int], room: Room, spacing: Sequence[float] | None, thresholds: Sequence[float]
) -> Stored:
    stored = room.array("hills", shape, np.float32)
    lengths = np.ones(len(shape)) if spacing is None else np.asarray(spacing, float) / min(spacing)
    farthest = float(FARTHEST[len(shape)])
    reach = tuple(math.ceil(farthest / length) + 1 for length in lengths)
    blocks = room.blocks(shape, COST, reach)
    for block in blocks:
        wide = blocks.wide(block)
        hill_X = expected_distance(levels(wide), lengths.tolist(), farthest, thresholds)
        stored[block.slices] = hill_X[block.within(wide).slices]
    return stored


def _summits(levels: Levels, hills: Stored, shape: Sequence[int], room: Room, halo: Sequence[int]) -> Stored:
    """1 where no pixel beside a level stretch of the hills is higher."""
    from skimage.morphology import local_maxima

    stored = room.array("summits", shape, np.uint8)
    blocks = room.blocks(shape, COST, halo)
    for block in blocks:
        wide = blocks.wide(block)
        ground_X = levels(wide) >= 0
        if not ground_X.any():
            continue
        # a rim of what is lower than all: one pixel along an axis is too few for skimage
        hill_X = np.pad(np.where(ground_X, np.asarray(hills[wide.slices]), np.float32(-1)), 1, constant_values=-1)
        inner = (slice(1, -1),) * len(shape)
        top_X = local_maxima(hill_X, connectivity=len(shape))[inner].astype(bool) & ground_X
        stored[block.slices] = top_X[block.within(wide).slices].astype(np.uint8)
    return stored


def _passes(parts: Parts, hills: Stored, shape: Sequence[int], room: Room) -> Basins:
    """The heights of summits and passes: of two pixels beside each other in two basins, the lower is the pass."""
    whole, count = Region.of(shape), parts.count
    heights = np.zeros(count + 1)
    keys, ways = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
    for block in room.blocks(shape, COST):
        wide = block.grow((1,) * len(shape)).intersect(whole)
        ids_X, hill_X = parts.read(wide).astype(np.int64), np.asarray(hills[wide.slices])
        np.maximum.at(heights, ids_X.reshape(-1), hill_X.reshape(-1))
        for one, two in _beside(ids_X.shape):
            a_X, b_X = ids_X[one], ids_X[two]
            meet = (a_X != b_X) & (a_X > 0) & (b_X > 0)
            a, b = a_X[meet], b_X[meet]
            keys.append(np.minimum(a, b) * (count + 1) + np.maximum(a, b))
            ways.append(np.minimum(hill_X[one][meet], hill_X[two][meet]))
        keys, ways = _highest(np.concatenate(keys), np.concatenate(ways))
    key, way = np.concatenate(keys), np.concatenate(ways).astype(np.float64)
    order = np.lexsort((key, -way))
    key, way = key[order], way[order]
    heights[0] = 0
    return Basins(parts, heights, key // (count + 1), key % (count + 1), way)


def _highest(
    key: NDArray[np.int64], way: NDArray[np.float32]
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.float32]]]:
    """The largest value of each key."""
    order = np.lexsort((-way, key))
    key, way = key[order], way[order]
    first = np.append(True, key[1:] != key[:-1])[: len(key)]
    return [key[first]], [way[first]]


def _beside(shape: Sequence[int]) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Two views that put neighbours (by a corner too) over each other, one for each pair of opposite directions."""
    found = []
    for step in itertools.product((-1, 0, 1), repeat=len(shape)):
        if step > (0,) * len(shape):
            one = tuple(slice(max(0, -s), n - max(0, s)) for n, s in zip(shape, step, strict=True))
            two = tuple(slice(max(0, s), n - max(0, -s)) for n, s in zip(shape, step, strict=True))
            found.append((one, two))
    return found
