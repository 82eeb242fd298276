"""How well objects are found one by one: each true object with at most one predicted object, and the other way round.

A predicted object is right (a true positive) where it overlaps a true one with an IoU above a threshold t ≥ 0.5. Above
one half every object has at most one such partner, so the matching is unique and nothing has to be optimised. From the
numbers of true positives TP, of predicted objects without a partner FP and of true ones without one FN:

    AP = TP / (TP + FP + FN)     F1 = TP / (TP + (FP + FN) / 2)     PQ = Σ IoU of partners / (TP + (FP + FN) / 2)

AP is that of the Data Science Bowl 2018 (Caicedo et al. 2019, Nature Methods 16:1247), of StarDist (Schmidt et al.
2018) and of Cellpose (Stringer et al. 2021), which count an IoU equal to the threshold as well; it is not the area
under a curve, as of detectors. PQ is the panoptic quality (Kirillov et al. 2019) of one class.

Pixels that are ignored belong to no object on either side. An image without any object on either side has no value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class ObjectScores:
    """Objects of one image at one threshold: counts of those found, invented and missed, and the mean IoU of the found
    (NaN where none was)."""

    threshold: float
    found: int
    invented: int
    missed: int
    overlap: float

    @property
    def ap(self) -> float:
        """TP / (TP + FP + FN) in [0, 1]; NaN where there is no object at all."""
        return _share(self.found, self.found + self.invented + self.missed)

    @property
    def f1(self) -> float:
        """Harmonic mean of the shares of predicted and of true objects that have a partner."""
        return _share(self.found, self.found + (self.invented + self.missed) / 2)

    @property
    def pq(self) -> float:
        """Panoptic quality: F1 times the mean IoU of the objects found."""
        return self.f1 * (self.overlap if self.found else 1.0)


def object_scores(
    truth_X: NDArray[Any],
    prediction_X: NDArray[Any],
    ignored_X: NDArray[np.bool_] | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> tuple[ObjectScores, ...]:
    """Compare ids of true and predicted objects, integers (*space) of the same shape, 0 where there is none; one entry
    for each threshold.

    Raises ValueError: shapes that differ, a threshold below 0.5 or of 1 and more.
    """
    if truth_X.shape != prediction_X.shape:
        raise ValueError(f"truth {truth_X.shape} and prediction {prediction_X.shape} differ in shape")
    if any(not 0.5 <= t < 1 for t in thresholds):
        raise ValueError(f"thresholds {tuple(thresholds)} must lie in [0.5, 1): below, an object may have two partners")
    if ignored_X is not None:
        truth_X, prediction_X = np.where(ignored_X, 0, truth_X), np.where(ignored_X, 0, prediction_X)
    ids_T, truth_N = np.unique(truth_X, return_inverse=True)
    ids_P, prediction_N = np.unique(prediction_X, return_inverse=True)
    # objects are few per image, but not few enough for a table of all pairs
    pair, shared = np.unique(
        truth_N.astype(np.int64).reshape(-1) * len(ids_P) + prediction_N.reshape(-1), return_counts=True
    )
    t, p = pair // len(ids_P), pair % len(ids_P)
    size_T, size_P = np.bincount(t, shared, len(ids_T)), np.bincount(p, shared, len(ids_P))
    both = (ids_T[t] != 0) & (ids_P[p] != 0)
    iou = shared[both] / (size_T[t[both]] + size_P[p[both]] - shared[both])
    n_truth, n_prediction = int(np.count_nonzero(ids_T)), int(np.count_nonzero(ids_P))
    scores = []
    for threshold in thresholds:
        right = iou[iou > threshold]
        mean = float(right.mean()) if right.size else math.nan
        scores.append(ObjectScores(threshold, right.size, n_prediction - right.size, n_truth - right.size, mean))
    return tuple(scores)


def image_scores(
    truth_X: NDArray[Any], prediction_X: NDArray[Any], ignored_X: NDArray[np.bool_] | None = None
) -> Mapping[str, float]:
    """What is reported of an image: `ap50` (AP at an IoU of 0.5), `ap50_90` (its mean over `THRESHOLDS`), `object_f1`
    and `pq` at 0.5. Arguments as of `object_scores`."""
    scores = object_scores(truth_X, prediction_X, ignored_X)
    return {
        "ap50": scores[0].ap,
        "ap50_90": float(np.mean([score.ap for score in scores])),
        "object_f1": scores[0].f1,
        "pq": scores[0].pq,
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
