"""Boundary F1: how well outlines agree, within a tolerance of a few pixels (Csurka et al., BMVC 2013, section 3)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetkit.metrics.overlap import IGNORE, PerClass

TOLERANCE = 2.0  # pixels, of the finest axis where pixels are not square


def boundary_f1(
    label_X: NDArray[Any],
    prediction_X: NDArray[Any],
    classes: int,
    tolerance: float = TOLERANCE,
    ignore: int = IGNORE,
    spacing: Sequence[float] | None = None,
) -> PerClass:
    """F1 of the boundary pixels per class, (K,) in [0, 1].

    A pixel lies on the boundary of its class where a neighbour along an axis has another class; the image's edge and
    ignored pixels are no neighbours. Precision is the share of predicted boundary pixels that have a true boundary
    pixel of the same class at a Euclidean distance ≤ `tolerance`, recall the other way round, and F1 their harmonic
    mean. Distances are in pixels; with `spacing` (length of a pixel on each axis) in those of the finest axis. Where
    neither side has a boundary: NaN if neither has the class, 1 if it fills both, else 0; where only one side has a
    boundary: 0.

    Integer arrays of classes 0 … K−1 of the same shape, of any number of axes; pixels where the truth is `ignore` are
    left out on both sides. Raises ValueError: shapes that differ, a negative tolerance, a spacing that does not fit.
    """
    if label_X.shape != prediction_X.shape:
        raise ValueError(f"truth {label_X.shape} and prediction {prediction_X.shape} differ in shape")
    if not tolerance >= 0:
        raise ValueError(f"the tolerance is {tolerance}; a distance in pixels is 0 or more")
    if spacing is not None and (len(spacing) != label_X.ndim or not min(spacing) > 0):
        raise ValueError(f"the spacing {tuple(spacing)} does not fit {label_X.ndim} axes; each has a length above 0")
    scale = tuple(s / min(spacing) for s in spacing) if spacing is not None else (1.0,) * label_X.ndim
    valid_X = label_X != ignore
    nowhere = np.int16(-1)
    truth_X = np.where(_on_boundary(label_X, valid_X), label_X.astype(np.int16), nowhere)
    found_X = np.where(_on_boundary(prediction_X, valid_X), prediction_X.astype(np.int16), nowhere)
    right_K, predicted_K = _near(found_X, truth_X, classes, tolerance, scale)
    hit_K, true_K = _near(truth_X, found_X, classes, tolerance, scale)

    result = np.zeros(classes)
    for k in range(classes):
        if right_K[k] and hit_K[k]:
            p, r = right_K[k] / predicted_K[k], hit_K[k] / true_K[k]
            result[k] = 2 * p * r / (p + r)
        elif not predicted_K[k] and not true_K[k]:
            in_truth = bool((label_X == k).any())
            in_prediction = bool(((prediction_X == k) & valid_X).any())
            result[k] = np.nan if not in_truth and not in_prediction else float(in_truth and in_prediction)
    return result


def _on_boundary(label_X: NDArray[Any], valid_X: NDArray[np.bool_]) -> NDArray[np.bool_]:
    edge_X = np.zeros(label_X.shape, bool)
    for axis in range(label_X.ndim):
        low: tuple[slice, ...] = (slice(None),) * axis + (slice(None, -1),)
        high: tuple[slice, ...] = (slice(None),) * axis + (slice(1, None),)
        differ = (label_X[low] != label_X[high]) & valid_X[low] & valid_X[high]
        edge_X[low] |= differ
        edge_X[high] |= differ
    return edge_X


def _near(
    from_X: NDArray[np.int16], to_X: NDArray[np.int16], classes: int, tolerance: float, scale: Sequence[float]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Per class: how many boundary pixels of `from_X` have one of `to_X` within the tolerance; and how many there are.

    Looks around the boundary pixels alone, nearest offsets first, dropping those that are settled: outlines are thin,
    so this takes a fraction of a distance transform per class.
    """
    # beyond the image's own length there is nothing to reach
    radius = [min(int(tolerance / s), n) for s, n in zip(scale, from_X.shape, strict=True)]

    def distance(offset: tuple[int, ...]) -> float:
        return sum((d * s) ** 2 for d, s in zip(offset, scale, strict=True))

    around = itertools.product(*(range(-r, r + 1) for r in radius))
    offsets = sorted((offset for offset in around if distance(offset) <= tolerance**2), key=distance)
    padded_X = np.pad(to_X, [(r, r) for r in radius], constant_values=-1)
    flat_N = padded_X.reshape(-1)
    strides = [int(np.prod(padded_X.shape[a + 1 :])) for a in range(from_X.ndim)]

    points = np.nonzero(from_X >= 0)
    class_N = from_X[points]
    index_N = sum(((p + r) * s for p, r, s in zip(points, radius, strides, strict=True)), np.zeros(1, np.int64))
    total_K = np.bincount(class_N, minlength=classes)
    near_K = np.zeros(classes, np.int64)
    for offset in offsets:
        found_N = flat_N[index_N + sum(d * s for d, s in zip(offset, strides, strict=True))] == class_N
        near_K += np.bincount(class_N[found_N], minlength=classes)
        class_N, index_N = class_N[~found_N], index_N[~found_N]
    return near_K, total_K
