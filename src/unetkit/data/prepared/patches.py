"""Where patches are taken: which case, which centre."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region
from unetkit.core.rng import numpy_generator
from unetkit.data.prepared.places import Places

# Where less than this share of a case is annotated, patches are centred on annotated places alone.
SPARSE = 0.5


class Pixels(Protocol):
    """What is indexed by slices as an array is, and may lie on a disk: an array, a Zarr array, an image file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: tuple[slice, ...], /) -> Any: ...


@dataclass(frozen=True)
class PreparedCase:
    """A case ready for training: image_CX float32 (normalised) and label_X uint8, in memory or read as they are needed.

    spacing: distance of neighbouring elements on each axis, where it is known. scale: of RGB images what black (0) and
    white (the largest value of the file's type) became by normalising, (2, 3).
    """

    id: str
    image_CX: Pixels
    label_X: Pixels
    places: Places
    spacing: tuple[float, ...] | None = None
    scale: NDArray[np.float32] | None = None

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


class PatchSampler:
    """Chooses (case, centre) for every sample of every step from the key (seed, step, index), and nothing else unless
    cases are reweighed on the way."""

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        patch: Sequence[int],
        oversample: float,
        seed: int,
        by_area: float = 0.0,
        repeat: float = 0.0,
    ) -> None:
        """`oversample`: share of the samples centred on a pixel of a class drawn evenly among those of the case.
        `by_area`: share of these for which a connected area of the class is drawn evenly, then a pixel in it.
        `repeat`: classes that a smaller share of the cases has are met more often (`repeat_factors`); 0: none is."""
        self.cases = tuple(cases)
        self.patch = tuple(patch)
        self.oversample = oversample
        self.seed = seed
        self.by_area = by_area
        # Larger images are drawn more often, but less than in proportion, or one of them would be all that is seen.
        # What counts is what is annotated: of a volume of which three slices are, no more can be learnt.
        annotated = [sum(case.places.counts.values()) for case in self.cases]
        self._weight = np.sqrt([max(n, 1) for n in annotated]) * repeat_factors(self.cases, repeat)
        self._cumulative = np.cumsum(self._weight / self._weight.sum())
        self._sparse = [
            n < SPARSE * np.prod(case.shape, dtype=float) for n, case in zip(annotated, self.cases, strict=True)
        ]

    def reweigh(self, factors_N: NDArray[np.float64]) -> None:
        """From now on draw each case so many times as often as it otherwise would be, beside the others."""
        weight = self._weight * factors_N
        self._cumulative = np.cumsum(weight / weight.sum())

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
            near = self._near(places, by_class, g)
            # not always in the middle: anywhere in the central half of the patch
            spot = near + [int(g.integers(-(p // 4), p // 4 + 1)) for p in self.patch]
        else:
            spot = np.array([int(g.integers(n)) for n in shape])
        # A patch stays inside where the image is large enough; a small image is centred.
        centre = [
            int(np.clip(c, p // 2, n - p // 2)) if n > 2 * (p // 2) else n // 2
            for c, p, n in zip(spot, self.patch, shape, strict=True)
        ]
        return number, tuple(centre)

    def _near(self, places: Places, by_class: bool, g: np.random.Generator) -> NDArray[np.int64]:
        """A pixel: of a class drawn evenly (`by_class`), or of all that is annotated."""
        if by_class and self.by_area and places.areas and g.random() < self.by_area:
            return places.areas[sorted(places.areas)[int(g.integers(len(places.areas)))]].draw(g)
        classes = sorted(places.of)
        share = np.array([places.counts[k] for k in classes], float)
        place = int(g.integers(len(classes))) if by_class else int(g.choice(len(classes), p=share / share.sum()))
        spots = places.of[classes[place]]
        spot: NDArray[np.int64] = spots[int(g.integers(len(spots)))]
        return spot


def repeat_factors(cases: Sequence[PreparedCase], threshold: float) -> NDArray[np.float64]:
    """How much more often each case (N,) is met for the sake of the classes that few cases have.

    Of a class that a share f of the cases has, r = max(1, √(threshold / f)); of a case, the largest r of its classes
    (Gupta, Dollár and Girshick 2019, "LVIS", section 4.1: repeat factor sampling).
    """
    have = np.zeros((len(cases), 256), bool)
    for number, case in enumerate(cases):
        have[number, list(case.places.counts)] = True
    share = np.maximum(have.mean(axis=0), 1e-12)
    factors: NDArray[np.float64] = np.where(have, np.maximum(1.0, np.sqrt(threshold / share)), 1.0).max(axis=1)
    return factors
