"""Where the classes of a case are: found while its label is read once, block by block, and small enough to keep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region
from unetkit.core.rng import key
from unetkit.data.case import IGNORE
from unetkit.data.prepared.areas import AreaFinder, Areas, scattered

# Remembered places per class and case: enough that training never sees the same few, small enough to keep.
PLACES = 4096


@dataclass(frozen=True)
class Places:
    """Where the classes of a case are.

    of: class → (n, D) positions of some of its pixels, at most `PLACES`, evenly drawn. counts: class → the number of
    its pixels. Unlabelled pixels are not among them. areas: class → places in its connected areas, where known.
    """

    of: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)
    counts: Mapping[int, int] = field(default_factory=dict)
    areas: Mapping[int, Areas] = field(default_factory=dict)


class PlaceFinder:
    """Takes the parts of a label one after the other; the result does not depend on how it was cut.

    Each pixel has a random number that seed, case and position alone decide, and the pixels with the smallest are kept.
    """

    def __init__(
        self, shape: Sequence[int], seed: int, case_id: str, areas: bool = False, apart: int | None = 0
    ) -> None:
        """areas: whether connected areas are found, too, of all classes but `apart` (the background)."""
        self._shape = tuple(shape)
        self._salt = np.uint64(key(seed, "places", case_id) & (2**64 - 1))
        self._counts: dict[int, int] = {}
        self._best: dict[int, tuple[NDArray[np.uint64], NDArray[np.int64]]] = {}
        self._areas = AreaFinder(self._shape, self._salt, PLACES) if areas else None
        self._apart = apart

    def add(self, region: Region, part_X: NDArray[np.uint8]) -> None:
        """Take a part of the label into account, uint8 class indices of `region`."""
        flat = part_X.reshape(-1)
        here = np.bincount(flat, minlength=256)
        for value in np.flatnonzero(here[:IGNORE]):
            k = int(value)
            self._counts[k] = self._counts.get(k, 0) + int(here[k])
            inside = np.unravel_index(np.flatnonzero(flat == k), part_X.shape)
            index = np.ravel_multi_index([i + a for i, a in zip(inside, region.start, strict=True)], self._shape)
            drawn = scattered(index.astype(np.uint64) ^ self._salt)
            if self._areas is not None and k != self._apart:
                self._areas.add(region, part_X, k, index, drawn)
            if k in self._best:
                drawn, index = np.concatenate([self._best[k][0], drawn]), np.concatenate([self._best[k][1], index])
            if len(drawn) > PLACES:
                keep = np.argpartition(drawn, PLACES)[:PLACES]
                drawn, index = drawn[keep], index[keep]
            self._best[k] = drawn, index

    def places(self) -> Places:
        """What was found."""
        of = {k: self._positions(np.sort(index)) for k, (_, index) in sorted(self._best.items())}
        return Places(of, dict(sorted(self._counts.items())), {} if self._areas is None else self._areas.areas())

    def _positions(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.stack(np.unravel_index(index, self._shape), axis=-1)


def find_places(
    label_X: NDArray[np.uint8] | Iterable[tuple[Region, NDArray[np.uint8]]],
    seed: int,
    case_id: str,
    shape: Sequence[int] | None = None,
    areas: bool = False,
    apart: int | None = 0,
) -> Places:
    """The places of a whole label, or of (region, part) of parts that cover a label of `shape`: see `PlaceFinder`."""
    if isinstance(label_X, np.ndarray):
        shape, parts = label_X.shape, iter([(Region.of(label_X.shape), label_X)])
    else:
        parts = iter(label_X)
    if shape is None:
        raise ValueError("parts of a label come with its shape")
    finder = PlaceFinder(shape, seed, case_id, areas, apart)
    for region, part_X in parts:
        finder.add(region, part_X)
    return finder.places()
