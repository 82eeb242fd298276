"""A mean that says how sure it is: 95 % percentile bootstrap over images, or over groups of images where known."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetkit.core.rng import numpy_generator

RESAMPLES = 2000


@dataclass(frozen=True)
class Summary:
    """Mean, its 95 % interval, and how many images have a value (`n`) and have none (`missing`).

    Everything is NaN where no image has a value; the interval is NaN where fewer than two units (images, or groups)
    have one, since one unit says nothing of how units differ.
    """

    mean: float
    low: float
    high: float
    n: int
    missing: int


def summarise(
    values_NK: NDArray[np.float64] | Sequence[float],
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Summary:
    """The mean over K classes of each class's mean over N images; NaN marks what has no value, and is left out.

    `values_NK` may be (N,) for one quantity. With `groups` (one per image: patient, slide; None for an image that
    belongs to none) whole groups are drawn, as images of one group resemble each other. Equal input gives equal
    output. Raises ValueError: groups of another length.
    """
    values_NK = np.asarray(values_NK, np.float64)
    if values_NK.ndim == 1:
        values_NK = values_NK[:, None]
    images = len(values_NK)
    if groups is not None and len(groups) != images:
        raise ValueError(f"{images} images and {len(groups)} groups")
    known_NK = ~np.isnan(values_NK)
    n = int(known_NK.any(1).sum())
    if n == 0:
        return Summary(np.nan, np.nan, np.nan, 0, images)
    unit_N = _units(groups, images)
    mean = float(_means(np.ones((1, images)), values_NK)[0])
    if len(np.unique(unit_N[known_NK.any(1)])) < 2:
        return Summary(mean, np.nan, np.nan, n, images - n)
    units = int(unit_N.max()) + 1
    draws_RU = numpy_generator(seed, "bootstrap").multinomial(units, np.full(units, 1 / units), size=resamples)
    means_R = _means(draws_RU[:, unit_N].astype(np.float64), values_NK)
    low, high = np.nanpercentile(means_R, [2.5, 97.5])  # NaN: a draw without any image that has a value
    return Summary(mean, float(low), float(high), n, images - n)


def _means(times_RN: NDArray[np.float64], values_NK: NDArray[np.float64]) -> NDArray[np.float64]:
    """For every row (how often each image was drawn) the mean over classes of the mean over images."""
    known_NK = ~np.isnan(values_NK)
    count_RK = times_RN @ known_NK
    means_RK = (times_RN @ np.where(known_NK, values_NK, 0.0)) / np.maximum(count_RK, 1)
    classes_R = (count_RK > 0).sum(1)
    # classes without a value have the mean 0 here, and are not counted
    return np.where(classes_R > 0, means_RK.sum(1) / np.maximum(classes_R, 1), np.nan)


def _units(groups: Sequence[Hashable] | None, images: int) -> NDArray[np.int64]:
    """The number of the unit that each image belongs to; an image without a group is a unit of its own."""
    if groups is None:
        return np.arange(images)
    numbers: dict[Hashable, int] = {}
    keys = [("image", i) if group is None else ("group", group) for i, group in enumerate(groups)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
