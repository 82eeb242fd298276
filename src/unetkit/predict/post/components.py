"""Connected components of images that are never whole in memory: each block by itself, then what touches is joined.

Every block is labelled by `scipy.ndimage.label`; ids that touch across a face between two blocks are joined (connected
components of the graph of touching ids); a table takes the ids of blocks to those of the whole. Components are numbered
in the order of their first pixels, as scipy numbers them: the result does not depend on the blocks, and for one class
it is scipy's own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region
from unetkit.predict.post.room import Blocks, Room, Stored

Values = Callable[[Region], NDArray[Any]]
Ids = Callable[[Region], NDArray[np.uint32]]

# Bytes per pixel of a block: values, mask, ids of the block and of the whole, and what is compared.
COST = 32


@dataclass(frozen=True)
class Parts:
    """Parts of an image, numbered from 1. read: their ids (*region) uint32, 0 where there is none. Of each part (and at
    index 0 of what is no part) values: the value of its pixels; sizes: their number."""

    read: Ids
    values: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.sizes) - 1


def components(
    values: Values, kinds: Sequence[int], shape: Sequence[int], room: Room, name: str, diagonal: bool = True
) -> Parts:
    """Connected areas of equal value, for those values that are named in `kinds`, in order of their first pixels.

    values: integers (*region) of a region. diagonal: whether pixels that share no more than a corner are connected (8
    neighbours in 2-D, 26 in 3-D), or only those that share a face. name: of the array on disk.
    """
    from scipy import ndimage

    structure = ndimage.generate_binary_structure(len(shape), len(shape) if diagonal else 1)
    stored = room.array(name, shape, np.uint32)
    blocks = room.blocks(shape, COST)
    of, first, size = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    count = 0
    for block in blocks:
        values_X = values(block)
        ids_X = np.zeros(block.shape, np.uint32)
        for kind in kinds:
            wanted_X = values_X == kind
            here_X, n = ndimage.label(wanted_X, structure, output=np.int32)
            if n == 0:
                continue
            flat = here_X.reshape(-1)
            # ids begin in order: where the largest so far grows, a component has its first pixel
            begins = np.flatnonzero(np.diff(np.maximum.accumulate(flat), prepend=0))
            of.append(np.full(n, kind, np.int64))
            first.append(_in_whole(begins, block, shape))
            size.append(np.bincount(flat, minlength=n + 1)[1:])
            ids_X[wanted_X] = here_X[wanted_X].astype(np.uint32) + np.uint32(count)
            count += n
        stored[block.slices] = ids_X
    of_N, first_N, size_N = np.concatenate(of), np.concatenate(first), np.concatenate(size)
    group_N, groups = _joined(stored, blocks, of_N, diagonal)
    began_G = np.full(groups, np.iinfo(np.int64).max)
    np.minimum.at(began_G, group_N, first_N)
    order = np.argsort(began_G)
    rank_G = np.empty(groups, np.int64)
    rank_G[order] = np.arange(1, groups + 1)
    table = np.concatenate([[0], rank_G[group_N]]).astype(np.uint32)
    sizes, values_G = np.zeros(groups + 1, np.int64), np.zeros(groups + 1, np.int64)
    np.add.at(sizes, table[1:], size_N)
    values_G[table[1:]] = of_N
    sizes[0] = np.prod(np.asarray(shape, np.int64)) - sizes.sum()
    return Parts(through(table, stored), values_G, sizes)


def through(table: NDArray[Any], stored: Stored) -> Ids:
    """Stored ids, each taken to its entry in the table."""

    def read(region: Region) -> NDArray[np.uint32]:
        ids_X: NDArray[np.uint32] = table[np.asarray(stored[region.slices])]
        return ids_X

    return read


def taken(table: NDArray[Any], ids: Ids) -> Ids:
    """Ids, each taken to its entry in the table."""

    def read(region: Region) -> NDArray[np.uint32]:
        ids_X: NDArray[np.uint32] = table[ids(region)]
        return ids_X

    return read


def _in_whole(flat_N: NDArray[np.int64], block: Region, shape: Sequence[int]) -> NDArray[np.int64]:
    """Positions in a block, counted row by row, as positions in the whole."""
    index = np.unravel_index(flat_N, block.shape)
    return np.ravel_multi_index(
        tuple(i + start for i, start in zip(index, block.start, strict=True)), tuple(shape)
    ).astype(np.int64)


def _joined(stored: Stored, blocks: Blocks, of_N: NDArray[np.int64], diagonal: bool) -> tuple[NDArray[np.int64], int]:
    """The component of the whole that each id of a block belongs to, and how many there are."""
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    pairs = [np.zeros((0, 2), np.int64)]
    for axis, layers in blocks.seams:
        ids_X = np.moveaxis(np.asarray(stored[layers.slices]).astype(np.int64), axis, 0)
        for a_X, b_X in _neighbours(ids_X[0], ids_X[1], diagonal):
            touch = (a_X > 0) & (b_X > 0)
            found = np.stack([a_X[touch], b_X[touch]], 1) - 1
            pairs.append(np.unique(found[of_N[found[:, 0]] == of_N[found[:, 1]]], axis=0))
    a, b = np.concatenate(pairs).T
    graph = sparse.coo_matrix((np.ones(len(a), bool), (a, b)), (len(of_N), len(of_N)))
    groups, group_N = connected_components(graph, directed=False)
    return group_N.astype(np.int64), int(groups)


def _neighbours(
    a_X: NDArray[np.int64], b_X: NDArray[np.int64], diagonal: bool
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Two layers of pixels, so laid that neighbours across the seam lie over each other."""
    for step in itertools.product((-1, 0, 1) if diagonal else (0,), repeat=a_X.ndim):
        here = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(step, a_X.shape, strict=True))
        there = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(step, a_X.shape, strict=True))
        yield a_X[here], b_X[there]
