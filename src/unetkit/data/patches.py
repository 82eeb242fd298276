"""Where patches are taken: which case, which centre."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unetkit.core.rng import numpy_generator
from unetkit.data.case import IGNORE

# Remembered places per class and case: enough that training never sees the same few, small enough to keep.
PLACES = 4096


@dataclass(frozen=True)
class PreparedCase:
    """A case ready for training: image_CX float32 (normalised) and label_X uint8, in memory or memory-mapped."""

    id: str
    image_CX: np.ndarray
    label_X: np.ndarray
    places: dict[int, np.ndarray]
    """Class index → (n, D) positions of some of its pixels."""
    spacing: tuple[float, ...] | None = None
    """Distance of neighbouring elements on each axis (mm, seconds), where it is known."""


def find_places(label_X: np.ndarray, seed: int, case_id: str) -> dict[int, np.ndarray]:
    """Up to `PLACES` positions of every class in label_X (uint8; IGNORE left out), evenly drawn, seeded."""
    places = {}
    generator = numpy_generator(seed, "places", case_id)
    flat = label_X.reshape(-1)
    for value in np.flatnonzero(np.bincount(flat, minlength=256)):
        if value == IGNORE:
            continue
        index = np.flatnonzero(flat == value)
        if len(index) > PLACES:
            index = np.sort(generator.choice(index, PLACES, replace=False))
        places[int(value)] = np.stack(np.unravel_index(index, label_X.shape), axis=-1)
    return places


class PatchSampler:
    """Chooses (case, centre) for every sample of every step from the key (seed, step, index) alone."""

    def __init__(self, cases: Sequence[PreparedCase], patch: Sequence[int], oversample: float, seed: int) -> None:
        """`oversample`: share of the samples centred on a pixel of a class drawn evenly among those of the case."""
        self.cases = tuple(cases)
        self.patch = tuple(patch)
        self.oversample = oversample
        self.seed = seed
        # Larger images are drawn more often, but less than in proportion, or one of them would be all that is seen.
        weight = np.sqrt([max(case.label_X.size, 1) for case in self.cases])
        self._cumulative = np.cumsum(weight / weight.sum())

    def choose(self, step: int, index: int) -> tuple[int, tuple[int, ...]]:
        """Index of the case and the centre of the patch (pixels) for sample `index` of `step`."""
        g = numpy_generator(self.seed, "patch", step, index)
        number = min(int(np.searchsorted(self._cumulative, g.random(), side="right")), len(self.cases) - 1)
        case = self.cases[number]
        shape = case.label_X.shape
        if g.random() < self.oversample and case.places:
            classes = sorted(case.places)
            spots = case.places[classes[int(g.integers(len(classes)))]]
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
