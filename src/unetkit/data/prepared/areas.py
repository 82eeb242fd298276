"""Places in the connected areas of a label that comes in parts, so that a small object is met as often as a large one.

Every part is labelled by `scipy.ndimage.label`. An area that touches no seam between parts is finished, and of the
finished ones at most so many are kept, evenly drawn; those at a seam wait, and are joined at the end (connected
components of the graph of touching ones). What is kept does not grow with the image but with its seams.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region

# Most places that are remembered in one area: more would not show anything new, patches being taken around them.
PER_AREA = 64

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Areas:
    """Places in connected areas (neighbours share at least a corner) of one class of one case.

    places: (n, D) positions; those of area a (of A, evenly drawn where there are very many) are
    places[starts[a] : starts[a + 1]]. sizes: (A,) pixels of each area.
    """

    places: Index
    starts: Index
    sizes: Index

    def draw(self, generator: np.random.Generator) -> Index:
        """A place (D,): every area is as likely as every other, whatever its size."""
        area = int(generator.integers(len(self.sizes)))
        place: Index = self.places[int(generator.integers(self.starts[area], self.starts[area + 1]))]
        return place


@dataclass
class _Pieces:
    """Areas, or parts of areas, numbered from 0: size and first pixel of each (n,), and places: the piece that each is
    in, its random number and its position (m,)."""

    sizes: Index
    first: Index
    piece: Index
    drawn: NDArray[np.uint64]
    index: Index

    @classmethod
    def joined(cls, parts: list[_Pieces]) -> _Pieces:
        """All of several, numbered on."""
        offsets = np.cumsum([0, *(len(p.sizes) for p in parts)])[:-1]
        return cls(
            np.concatenate([p.sizes for p in parts]),
            np.concatenate([p.first for p in parts]),
            np.concatenate([p.piece + o for p, o in zip(parts, offsets, strict=True)]),
            np.concatenate([p.drawn for p in parts]),
            np.concatenate([p.index for p in parts]),
        )

    def of(self, wanted: Index) -> _Pieces:
        """Some of the pieces, numbered anew in the order of `wanted`."""
        table = np.full(len(self.sizes), -1, np.int64)
        table[wanted] = np.arange(len(wanted))
        mine = table[self.piece] >= 0
        places = table[self.piece][mine], self.drawn[mine], self.index[mine]
        return _Pieces(self.sizes[wanted], self.first[wanted], *places)

    def merged(self, group: Index, count: int, most: int) -> _Pieces:
        """Pieces of one group as one; of its places the `most` with the smallest random numbers."""
        sizes, first = np.zeros(count, np.int64), np.full(count, np.iinfo(np.int64).max)
        np.add.at(sizes, group, self.sizes)
        np.minimum.at(first, group, self.first)
        piece = group[self.piece]
        kept = _smallest(piece, self.drawn, most)
        return _Pieces(sizes, first, piece[kept], self.drawn[kept], self.index[kept])

    def evenly(self, most: int, salt: np.uint64) -> _Pieces:
        """At most so many of the pieces: where the first pixel of each lies decides, not its size."""
        if len(self.sizes) <= most:
            return self
        luck = scattered(self.first.astype(np.uint64) ^ ~salt)
        return self.of(np.sort(np.argpartition(luck, most)[:most]))


@dataclass
class _Kind:
    """What is known of one class: finished areas, pieces at seams, and the pixels of these that lie at a seam."""

    finished: _Pieces | None = None
    waiting: list[_Pieces] = field(default_factory=list)
    count: int = 0
    seam_index: list[Index] = field(default_factory=list)
    seam_piece: list[Index] = field(default_factory=list)


class AreaFinder:
    """Takes the parts of a label one after the other; the result does not depend on how it was cut."""

    def __init__(self, shape: tuple[int, ...], salt: np.uint64, most: int) -> None:
        """most: areas, and places, that are kept of every class. salt: decides which."""
        self._shape, self._salt, self._most = shape, salt, most
        self._kinds: dict[int, _Kind] = {}

    def add(
        self, region: Region, part_X: NDArray[np.uint8], kind: int, index: Index, drawn: NDArray[np.uint64]
    ) -> None:
        """Take the pixels of class `kind` in a part into account: their positions in the whole label (`index`, flat, in
        the order of the part) and the random number of each (`drawn`)."""
        from scipy import ndimage

        structure = np.ones((3,) * part_X.ndim, bool)
        inside_X = part_X == kind
        ids_X, count = ndimage.label(inside_X, structure, output=np.int32)
        piece = ids_X[inside_X].astype(np.int64) - 1
        sizes = np.bincount(piece, minlength=count)
        first = np.full(count, np.iinfo(np.int64).max)
        np.minimum.at(first, piece, index)
        kept = _smallest(piece, drawn, PER_AREA, sizes)
        pieces = _Pieces(sizes, first, piece[kept], drawn[kept], index[kept])
        at_seam_X = self._at_seam(region)
        known = self._kinds.setdefault(kind, _Kind())
        touching = at_seam_X[inside_X]
        open_pieces = np.unique(piece[touching])
        number = np.full(count, -1, np.int64)
        number[open_pieces] = np.arange(len(open_pieces)) + known.count
        known.seam_index.append(index[touching])
        known.seam_piece.append(number[piece[touching]])
        known.waiting.append(pieces.of(open_pieces))
        known.count += len(open_pieces)
        done = pieces.of(np.flatnonzero(number < 0))
        both = done if known.finished is None else _Pieces.joined([known.finished, done])
        known.finished = both.evenly(self._most, self._salt)

    def areas(self) -> dict[int, Areas]:
        """The areas of every class that has any."""
        return {kind: self._areas(known) for kind, known in sorted(self._kinds.items())}

    def _at_seam(self, region: Region) -> NDArray[np.bool_]:
        """Which pixels of a part lie at a seam to another part."""
        at_seam_X = np.zeros(region.shape, bool)
        for axis, (a, b, n) in enumerate(zip(region.start, region.stop, self._shape, strict=True)):
            layers_X = np.moveaxis(at_seam_X, axis, 0)
            if a > 0:
                layers_X[0] = True
            if b < n:
                layers_X[-1] = True
        return at_seam_X

    def _areas(self, known: _Kind) -> Areas:
        waiting = _Pieces.joined(known.waiting)
        group, count = self._groups(known)
        whole = waiting.merged(group, count, PER_AREA)
        if known.finished is not None:
            whole = _Pieces.joined([known.finished, whole])
        whole = whole.evenly(self._most, self._salt)
        share = min(max(self._most // max(len(whole.sizes), 1), 1), PER_AREA)
        order = np.argsort(whole.first)  # in the order of first pixels, as scipy numbers them
        whole = whole.of(order)
        kept = _smallest(whole.piece, whole.drawn, share)
        by_area = kept[np.lexsort((whole.index[kept], whole.piece[kept]))]
        starts = np.searchsorted(whole.piece[by_area], np.arange(len(order) + 1))
        positions = np.stack(np.unravel_index(whole.index[by_area], self._shape), axis=-1)
        return Areas(positions, starts.astype(np.int64), whole.sizes)

    def _groups(self, known: _Kind) -> tuple[Index, int]:
        """The area of the whole label that each piece at a seam belongs to, and how many there are."""
        from scipy import sparse
        from scipy.sparse.csgraph import connected_components

        if known.count == 0:
            return np.zeros(0, np.int64), 0
        index, piece = np.concatenate(known.seam_index), np.concatenate(known.seam_piece)
        order = np.argsort(index)
        index, piece = index[order], piece[order]
        pairs = [np.zeros((0, 2), np.int64)]
        at = np.stack(np.unravel_index(index, self._shape))
        for step in itertools.product((-1, 0, 1), repeat=len(self._shape)):
            if step <= (0,) * len(step):
                continue  # each pair of neighbours once
            there = at + np.array(step)[:, None]
            inside = np.all((there >= 0) & (there < np.array(self._shape)[:, None]), axis=0)
            wanted = np.ravel_multi_index(tuple(there[:, inside]), self._shape)
            found = np.minimum(np.searchsorted(index, wanted), len(index) - 1)
            hit = index[found] == wanted
            pairs.append(np.unique(np.stack([piece[inside][hit], piece[found[hit]]], 1), axis=0))
        a, b = np.concatenate(pairs).T
        graph = sparse.coo_matrix((np.ones(len(a), bool), (a, b)), (known.count, known.count))
        count, group = connected_components(graph, directed=False)
        return group.astype(np.int64), int(count)


def _smallest(piece: Index, drawn: NDArray[np.uint64], most: int, sizes: Index | None = None) -> Index:
    """Indices of those places of each piece whose random numbers are its `most` smallest.

    sizes: where all pixels of large pieces are given, most of them are left out without being sorted.
    """
    candidates = np.arange(len(piece))
    if sizes is not None and len(piece) > 4 * most:
        # about 4 · most of every piece are left; in the rare case that fewer than needed are, all of the piece stay
        bound = np.minimum(4.0 * most / np.maximum(sizes, 1), 1.0) * 2.0**64
        low = drawn.astype(np.float64) <= bound[piece]
        enough = np.bincount(piece[low], minlength=len(sizes)) >= np.minimum(sizes, most)
        candidates = np.flatnonzero(low | ~enough[piece])
    order = candidates[np.lexsort((drawn[candidates], piece[candidates]))]
    ordered = piece[order]
    begins = np.flatnonzero(np.diff(ordered, prepend=-1))
    rank = np.arange(len(order)) - np.repeat(begins, np.diff([*begins, len(order)]))
    return order[rank < most]


def scattered(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers that look random, one for each (the finaliser of SplitMix64; Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
