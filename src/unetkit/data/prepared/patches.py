"""Where patches are taken: which case, which centre."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region
from unetkit.core.rng import key, numpy_generator
from unetkit.data.case import IGNORE

# Remembered places per class and case: enough that training never sees the same few, small enough to keep.
PLACES = 4096
# Where less than this share of a case is annotated, patches are centred on annotated places alone.
SPARSE = 0.5


class Pixels(Protocol):
    """What is indexed by slices as an array is, and may lie on a disk: an array, a Zarr array, an image file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: tuple[slice, ...], /) -> Any: ...


@dataclass(frozen=True)
class Places:
    """Where the classes of a case are. of: class → (n, D) positions of some of its pixels, at most `PLACES`, evenly
    drawn. counts: class → the number of its pixels. Unlabelled pixels are not among them."""

    of: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)
    counts: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PreparedCase:
    """A case ready for training: image_CX float32 (normalised) and label_X uint8, in memory or read as they are needed.

    spacing: distance of neighbouring elements on each axis, where it is known.
    """

    id: str
    image_CX: Pixels
    label_X: Pixels
    places: Places
    spacing: tuple[float, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Its size in space."""
        return self.label_X.shape

    def read(self, region: Region) -> NDArray[np.float32]:
        """Normalised pixels of a region, (C, *shape): a case is an image that can be predicted."""
        part_CX: NDArray[np.float32] = np.asarray(self.image_CX[(slice(None), *region.slices)])
        return part_CX

    def label(self, region: Region) -> NDArray[np.uint8]:
        """Class indices of a region."""
        part_X: NDArray[np.uint8] = np.asarray(self.label_X[region.slices])
        return part_X


def find_places(
    label_X: NDArray[np.uint8] | Iterable[tuple[Region, NDArray[np.uint8]]],
    seed: int,
    case_id: str,
    shape: Sequence[int] | None = None,
) -> Places:
    """Up to `PLACES` positions of every class (IGNORE left out), evenly drawn, seeded.

    label_X: the whole label, or (region, part) of parts that cover a label of `shape`; the result does not depend on
    how it was cut, for each pixel has a random number that its position alone decides, and the smallest are taken.
    """
    if isinstance(label_X, np.ndarray):
        shape, parts = label_X.shape, iter([(Region.of(label_X.shape), label_X)])
    else:
        parts = iter(label_X)
    if shape is None:
        raise ValueError("parts of a label come with its shape")
    salt = np.uint64(key(seed, "places", case_id) & (2**64 - 1))
    counts: dict[int, int] = {}
    best: dict[int, tuple[NDArray[np.uint64], NDArray[np.int64]]] = {}
    for region, part_X in parts:
        flat = part_X.reshape(-1)
        here = np.bincount(flat, minlength=256)
        for value in np.flatnonzero(here[:IGNORE]):
            k = int(value)
            counts[k] = counts.get(k, 0) + int(here[k])
            inside = np.unravel_index(np.flatnonzero(flat == k), part_X.shape)
            index = np.ravel_multi_index([i + a for i, a in zip(inside, region.start, strict=True)], tuple(shape))
            drawn = _scattered(index.astype(np.uint64) ^ salt)
            if k in best:
                drawn, index = np.concatenate([best[k][0], drawn]), np.concatenate([best[k][1], index])
            if len(drawn) > PLACES:
                keep = np.argpartition(drawn, PLACES)[:PLACES]
                drawn, index = drawn[keep], index[keep]
            best[k] = drawn, index
    of = {k: np.stack(np.unravel_index(np.sort(index), tuple(shape)), axis=-1) for k, (_, index) in best.items()}
    return Places(dict(sorted(of.items())), dict(sorted(counts.items())))


class PatchSampler:
    """Chooses (case, centre) for every sample of every step from the key (seed, step, index) alone."""

    def __init__(self, cases: Sequence[PreparedCase], patch: Sequence[int], oversample: float, seed: int) -> None:
        """`oversample`: share of the samples centred on a pixel of a class drawn evenly among those of the case."""
        self.cases = tuple(cases)
        self.patch = tuple(patch)
        self.oversample = oversample
        self.seed = seed
        # Larger images are drawn more often, but less than in proportion, or one of them would be all that is seen.
        # What counts is what is annotated: of a volume of which three slices are, no more can be learnt.
        annotated = [sum(case.places.counts.values()) for case in self.cases]
        weight = np.sqrt([max(n, 1) for n in annotated])
        self._cumulative = np.cumsum(weight / weight.sum())
        self._sparse = [
            n < SPARSE * np.prod(case.shape, dtype=float) for n, case in zip(annotated, self.cases, strict=True)
        ]

    def choose(self, step: int, index: int) -> tuple[int, tuple[int, ...]]:
        """Index of the case and the centre of the patch (pixels) for sample `index` of `step`.

        Centres are anywhere in the image, or near a pixel of a class; where little is annotated, near what is.
        """
        g = numpy_generator(self.seed, "patch", step, index)
        number = min(int(np.searchsorted(self._cumulative, g.random(), side="right")), len(self.cases) - 1)
        case = self.cases[number]
        shape, places = case.shape, case.places
        by_class = g.random() < self.oversample
        if places.of and (by_class or self._sparse[number]):
            classes = sorted(places.of)
            share = np.array([places.counts[k] for k in classes], float)
            place = int(g.integers(len(classes))) if by_class else int(g.choice(len(classes), p=share / share.sum()))
            spots = places.of[classes[place]]
            # not always in the middle: anywhere in the central half of the patch
            spot = spots[int(g.integers(len(spots)))] + [int(g.integers(-p // 4, p // 4 + 1)) for p in self.patch]
        else:
            spot = np.array([int(g.integers(n)) for n in shape])
        # A patch stays inside where the image is large enough; a small image is centred.
        centre = [
            int(np.clip(c, p // 2, n - p // 2)) if n > 2 * (p // 2) else n // 2
            for c, p, n in zip(spot, self.patch, shape, strict=True)
        ]
        return number, tuple(centre)


def _scattered(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers that look random, one for each (the finaliser of SplitMix64; Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
