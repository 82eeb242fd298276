"""How far surfaces lie apart: Hausdorff distance, its 95th percentile, mean distance, and what agrees within a
tolerance.

A pixel lies on the surface of a class where a neighbour along an axis does not belong to it; the image's edge and
ignored pixels are no neighbours, for nobody knows what lies beyond. With d(a, B) the Euclidean distance of the middle
of pixel a to the nearest of the surface B, and A → B the distances d(a, B) of all a in A:

    hausdorff      max(max A → B, max B → A)
    hd95           max(95th percentile of A → B, 95th percentile of B → A), percentiles linearly interpolated
    assd           mean of all distances, both ways together (average symmetric surface distance)
    surface_dice   share of all surface pixels, of both sides, within a tolerance of the other's (Nikolov et al. 2021,
                   J Med Internet Res 23:e26151, with pixels for surface elements)

Lengths are in the unit of the spacing, or in pixels where none is given. Where one side has no surface, but the class,
distances are the image's diagonal, the largest there can be, and the surface Dice is 0: a class that was not found must
not look better than one that was found badly. Where neither has the class there is no value (NaN); where both have it
and neither has a surface (it fills the image) they agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetkit.metrics.overlap import IGNORE

TOLERANCE = 2.0
"""Of the surface Dice, in pixels of the finest axis."""


@dataclass(frozen=True)
class SurfaceScores:
    """Of one class: lengths in the unit of the spacing (pixels where there is none), the surface Dice in [0, 1]."""

    hausdorff: float
    hd95: float
    assd: float
    surface_dice: float


NOTHING = SurfaceScores(math.nan, math.nan, math.nan, math.nan)


def surface_scores(
    label_X: NDArray[Any],
    prediction_X: NDArray[Any],
    classes: int,
    spacing: Sequence[float] | None = None,
    tolerance: float | None = None,
    ignore: int = IGNORE,
) -> tuple[SurfaceScores, ...]:
    """Scores of every class: integer arrays of classes 0 … K−1 of the same shape, of any number of axes; pixels where
    the truth is `ignore` are left out on both sides.

    tolerance: of the surface Dice, in the unit of the spacing; None: `TOLERANCE` pixels of the finest axis. Raises
    ValueError: shapes that differ, a negative tolerance, a spacing that does not fit.
    """
    if label_X.shape != prediction_X.shape:
        raise ValueError(f"truth {label_X.shape} and prediction {prediction_X.shape} differ in shape")
    if spacing is not None and (len(spacing) != label_X.ndim or not min(spacing) > 0):
        raise ValueError(f"the spacing {tuple(spacing)} does not fit {label_X.ndim} axes; each has a length above 0")
    lengths = (1.0,) * label_X.ndim if spacing is None else tuple(map(float, spacing))
    within = TOLERANCE * min(lengths) if tolerance is None else tolerance
    if not within >= 0:
        raise ValueError(f"the tolerance is {tolerance}; a distance is 0 or more")
    valid_X = label_X != ignore
    return tuple(
        _of_class(label_X == k, (prediction_X == k) & valid_X, valid_X, lengths, within) for k in range(classes)
    )


def _of_class(
    truth_X: NDArray[np.bool_],
    found_X: NDArray[np.bool_],
    valid_X: NDArray[np.bool_],
    lengths: tuple[float, ...],
    tolerance: float,
) -> SurfaceScores:
    if not truth_X.any() and not found_X.any():
        return NOTHING
    # only what lies around the two need be looked at
    window = _box(truth_X | found_X)
    truth_surface, found_surface = (surface(mask[window], valid_X[window]) for mask in (truth_X, found_X))
    surfaces = truth_surface.any(), found_surface.any()
    if not any(surfaces) and truth_X.any() and found_X.any():
        return SurfaceScores(0.0, 0.0, 0.0, 1.0)
    if not all(surfaces):
        far = math.dist([0.0] * len(lengths), [n * s for n, s in zip(truth_X.shape, lengths, strict=True)])
        return SurfaceScores(far, far, far, 0.0)
    there, back = _distances(found_surface, truth_surface, lengths), _distances(truth_surface, found_surface, lengths)
    both = np.concatenate([there, back])
    return SurfaceScores(
        hausdorff=float(both.max()),
        hd95=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        assd=float(both.mean()),
        surface_dice=float((both <= tolerance).mean()),
    )


def surface(mask_X: NDArray[np.bool_], valid_X: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of a mask that have a known neighbour, along an axis, outside of it."""
    outside_X, surface_X = ~mask_X & valid_X, np.zeros(mask_X.shape, bool)
    for axis in range(mask_X.ndim):
        low: tuple[slice, ...] = (slice(None),) * axis + (slice(None, -1),)
        high: tuple[slice, ...] = (slice(None),) * axis + (slice(1, None),)
        surface_X[low] |= mask_X[low] & outside_X[high]
        surface_X[high] |= mask_X[high] & outside_X[low]
    return surface_X


def _box(mask_X: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The part of an image that holds a mask, and a pixel more on every side."""
    slices = []
    for axis in range(mask_X.ndim):
        where = np.flatnonzero(mask_X.any(axis=tuple(a for a in range(mask_X.ndim) if a != axis)))
        slices.append(slice(max(0, int(where[0]) - 1), int(where[-1]) + 2))
    return tuple(slices)


def _distances(of_X: NDArray[np.bool_], to_X: NDArray[np.bool_], lengths: tuple[float, ...]) -> NDArray[np.float64]:
    """The distance of each pixel of one surface to the other. By a tree over the pixels of the other: surfaces are
    thin, so this takes a fraction of a distance transform."""
    from scipy.spatial import KDTree

    places = [np.argwhere(mask_X) * np.asarray(lengths) for mask_X in (of_X, to_X)]
    distances: NDArray[np.float64] = KDTree(places[1]).query(places[0])[0]
    return distances
