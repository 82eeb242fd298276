"""Where classes lie in images: whether up and down, left and right, front and back can be told apart by the labels.

In a road scene the sky is above; in nuclei under a microscope nothing is. What always lies on the same side must not be
mirrored or turned in training, for nobody will ever see it there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region
from unetkit.data.case import IGNORE, Case
from unetkit.data.groups import find_groups

# Of a class, how far its middle must lie from that of the image, in lengths of the image.
LEAST = 0.08
# How unlikely that must be of classes that lie anywhere (two-sided, Student's t over independent units).
CHANCE = 1e-3
# Standard errors that neighbours may resemble each other by chance.
CHANCE_ALIKE = 1.5
# Pixels looked at per block of a label, and the fewest of a class in a case that count.
SAMPLED, FEWEST = 20_000, 8


class Places:
    """The middle of every class in every case, gathered block by block."""

    def __init__(self) -> None:
        self._middles: dict[str, dict[int, NDArray[np.float64]]] = {}

    def begin(self, case: Case) -> CasePlaces:
        """For the blocks of one case."""
        return CasePlaces(self._middles.setdefault(case.id, {}))

    def lean(self, cases: Sequence[Case], ndim: int, names: Sequence[str]) -> Mapping[str, tuple[float, ...]]:
        """Class → along each axis how far (in lengths of the image, −0.5 … 0.5) it lies from the middle; 0 where that
        is small, or not the same in nearly all images. Classes that lean nowhere are left out.

        Images of a group (a patient, a film) count as one; of a single stack nothing is known, for what lies above in
        one slice does so in the next.
        """
        groups = find_groups(cases, ndim)
        if groups.ordered:
            return {}
        found = {}
        for k, name in enumerate(names):
            units: dict[str, list[NDArray[np.float64]]] = {}
            for case in cases:
                middle = self._middles.get(case.id, {}).get(k)
                if middle is not None:
                    units.setdefault(groups.of.get(case.id, f"case {case.id}"), []).append(middle)
            means_UD = np.array([np.mean(values, axis=0) for values in units.values()])
            leans = tuple(_lean(means_UD[:, axis]) for axis in range(ndim)) if len(means_UD) else ()
            if any(leans):
                found[name] = leans
        return found


class CasePlaces:
    """The middles of one case's classes, from its blocks."""

    def __init__(self, middles: dict[int, NDArray[np.float64]]) -> None:
        self._middles = middles
        self._sums: dict[int, tuple[int, NDArray[np.float64]]] = {}

    def add(self, label_X: NDArray[np.uint8], region: Region, bits: int = 0) -> None:
        """A block of the label. bits: of overlapping regions, how many there may be."""
        step = max(1, math.ceil((label_X.size / SAMPLED) ** (1 / label_X.ndim)))
        thin_X = label_X[(slice(None, None, step),) * label_X.ndim]
        if bits:
            thin_X = np.where(thin_X == IGNORE, np.uint8(0), thin_X)
            masks = {k: (thin_X >> k & 1) > 0 for k in range(bits)}
        else:
            masks = {int(k): thin_X == k for k in np.unique(thin_X) if k != IGNORE}
        for k, mask_X in masks.items():
            places_ND = np.argwhere(mask_X)
            if len(places_ND):
                count, total_D = self._sums.get(k, (0, np.zeros(label_X.ndim)))
                inside_D = places_ND.sum(0) * step + len(places_ND) * np.array(region.start, float)
                self._sums[k] = count + len(places_ND), total_D + inside_D

    def finish(self, shape: Sequence[int]) -> None:
        """All blocks were there."""
        length_D = np.maximum(np.array(shape, float) - 1, 1)
        for k, (count, total_D) in self._sums.items():
            if count >= FEWEST:
                self._middles[k] = total_D / count / length_D - 0.5


def _lean(middle_U: NDArray[np.float64]) -> float:
    """The mean where it is large and the same in nearly all units, else 0. Units beside each other may resemble each
    other (frames of a film): what they are worth is reckoned from how like neighbours are."""
    from scipy import stats

    n, mean = len(middle_U), float(middle_U.mean())
    if n < 3 or abs(mean) < LEAST:
        return 0.0
    apart_U = middle_U - mean
    variance = float(apart_U @ apart_U) / (n - 1)
    alike = sum(float(a * b) for a, b in pairwise(apart_U)) / max(float(apart_U @ apart_U), 1e-12)
    alike = float(np.clip(alike - CHANCE_ALIKE / math.sqrt(n), 0, 0.99))  # so much of it is chance
    worth = max(n * (1 - alike) / (1 + alike), 1.0)
    if worth < 3:
        return 0.0
    sure = float(stats.t.ppf(1 - CHANCE / 2, worth - 1)) * math.sqrt(variance / worth)
    return round(mean, 3) if abs(mean) > sure else 0.0
