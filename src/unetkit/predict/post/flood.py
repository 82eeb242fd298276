"""Objects that touch, told apart: each grows from its seed over the ground until it meets another (a marker-controlled
watershed, Beucher & Meyer 1993, as `skimage.segmentation.watershed` does it), in images that are never whole in memory.

Seeds are connected components of the whole image, so an object has one id wherever a block ends. Every block is flooded
with a halo around it. The result is that of the whole image, bit for bit,

- without a height (flat ground), where no pixel of the ground is farther from the seed that takes it, along the ground,
  than the halo: pixels are taken in rings around the seeds, and who takes one depends on its rings alone;
- with a height, where each connected area of the ground (a clump of objects that touch) that reaches into a block lies
  within the block and its halo: clumps know nothing of each other, but within one a wall may be overrun from afar.

Elsewhere ids are still those of the seeds, but the line between two objects may run differently near a block's edge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region
from unetkit.predict.post.components import Parts, components, through
from unetkit.predict.post.room import COSTLIEST, Room

Mask = Callable[[Region], NDArray[np.bool_]]
Field = Callable[[Region], NDArray[np.float32]]

# Bytes per pixel that a watershed takes: heights and markers of its own, and its queue.
COST = COSTLIEST
# Pixels read around a block, by number of axes: on flat ground, which is the border of objects, many times what borders
# are wide; else more than most objects are.
FLAT_HALO, HALO = {1: 512, 2: 32, 3: 12}, {1: 4096, 2: 128, 3: 32}


@dataclass(frozen=True)
class Relief:
    """What is flooded, by region. seeds: where objects begin, each connected area one. ground: where they may grow (it
    holds the seeds). height: what is high is reached late; None: flat, every pixel goes to the nearest seed along the
    ground."""

    seeds: Mask
    ground: Mask
    height: Field | None = None


def relief_of_levels(levels: Field, sure: float) -> Relief:
    """levels: how deep in an object (*region) each pixel lies, 0 to 1, and below 0 where there is none. Seeds: deeper
    than `sure`; objects grow over the ground that is left of them, each pixel to the nearest."""
    return Relief(seeds=lambda region: levels(region) > sure, ground=lambda region: levels(region) >= 0)


def flooded(
    relief: Relief, shape: Sequence[int], room: Room, least: int = 1, halo: Sequence[int] | None = None
) -> Parts:
    """Objects by flooding: first those of the seeds, in order of their first pixels, then ground that no seed reaches,
    each connected area one object. Neighbours by a corner are connected throughout. The values of the parts are 1.

    least: pixels of a seed; smaller ones are none. halo: pixels around a block; None: as suits the ground.
    """
    from skimage.segmentation import watershed

    ndim = len(shape)
    seeds = components(relief.seeds, (1,), shape, room, "seeds")
    large = seeds.sizes >= least
    large[0] = False
    table = np.where(large, np.cumsum(large), 0).astype(np.uint32)
    count = int(large.sum())
    stored = room.array("flooded", shape, np.uint32)
    usual = (FLAT_HALO if relief.height is None else HALO)[ndim]
    blocks = room.blocks(shape, COST, (usual,) * ndim if halo is None else halo)
    sizes = np.zeros(count + 1, np.int64)
    connectivity = np.ones((3,) * ndim, bool)
    for block in blocks:
        wide = blocks.wide(block)
        seeds_X = table[seeds.read(wide)]
        if not seeds_X.any():
            sizes[0] += block.size
            continue
        height_X = np.zeros(wide.shape) if relief.height is None else relief.height(wide).astype(np.float64)
        # Seeds are taken up first, row by row: skimage leaves the order of equal heights among them to its heap, and
        # then a part of an image would not be flooded as the whole is.
        first = seeds_X > 0
        height_X[first] = height_X.min() - np.arange(np.count_nonzero(first), 0, -1)
        found_X = watershed(height_X, seeds_X.astype(np.int32), connectivity=connectivity, mask=relief.ground(wide))
        kept_X = found_X[block.within(wide).slices]
        sizes += np.bincount(kept_X.reshape(-1), minlength=count + 1)
        stored[block.slices] = kept_X.astype(np.uint32)

    def unreached(region: Region) -> NDArray[Any]:
        dry_X: NDArray[np.bool_] = relief.ground(region) & (np.asarray(stored[region.slices]) == 0)
        return dry_X

    rest = components(unreached, (1,), shape, room, "unreached")
    if rest.count:
        for block in blocks:
            more_X = rest.read(block)
            if more_X.any():
                stored[block.slices] = np.where(more_X > 0, more_X + np.uint32(count), stored[block.slices])
    sizes[0] -= rest.sizes[1:].sum()
    sizes = np.concatenate([sizes, rest.sizes[1:]])
    everything = np.arange(len(sizes), dtype=np.uint32)
    return Parts(through(everything, stored), np.minimum(everything, 1).astype(np.int64), sizes)
