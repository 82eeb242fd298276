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

from unetkit.metrics.membrane import segment_scores

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
    """Compare ids of true and predicted objects, integers ≥ 0 (*space) of one shape, 0 where there is none; one entry
    for each threshold.

    Raises ValueError: shapes that differ, a threshold below 0.5 or of 1 and more.
    """
    if any(not 0.5 <= t < 1 for t in thresholds):
        raise ValueError(f"thresholds {tuple(thresholds)} must lie in [0.5, 1): below, an object may have two partners")
    return _object_scores(_pairs(truth_X, prediction_X, ignored_X), thresholds)


def _object_scores(pairs: _Pairs, thresholds: Sequence[float]) -> tuple[ObjectScores, ...]:
    iou, n_truth, n_prediction = pairs.iou, len(pairs.truth), len(pairs.prediction)
    scores = []
    for threshold in thresholds:
        right = iou[iou > threshold]
        mean = float(right.mean()) if right.size else math.nan
        scores.append(ObjectScores(threshold, right.size, n_prediction - right.size, n_truth - right.size, mean))
    return tuple(scores)


def aji(truth_X: NDArray[Any], prediction_X: NDArray[Any], ignored_X: NDArray[np.bool_] | None = None) -> float:
    """Aggregated Jaccard index in [0, 1] (Kumar et al. 2017, IEEE TMI 36:1550, algorithm 1): each true object goes with
    the predicted one of the largest IoU; the sum of their intersections over the sum of their unions and of the
    predicted objects that no true one chose. Arguments and errors as of `object_scores`; NaN without any object.
    """
    return _aji(_pairs(truth_X, prediction_X, ignored_X))


def _aji(pairs: _Pairs) -> float:
    # of each true object the pair of the largest IoU, the first of equal ones
    order = np.lexsort((-pairs.iou, pairs.t))
    chosen = order[np.unique(pairs.t[order], return_index=True)[1]]
    union = pairs.truth[pairs.t[chosen]] + pairs.prediction[pairs.p[chosen]] - pairs.shared[chosen]
    alone_T = np.delete(pairs.truth, pairs.t[chosen])
    alone_P = np.delete(pairs.prediction, np.unique(pairs.p[chosen]))
    return _share(float(pairs.shared[chosen].sum()), float(union.sum() + alone_T.sum() + alone_P.sum()))


def seg(truth_X: NDArray[Any], prediction_X: NDArray[Any], ignored_X: NDArray[np.bool_] | None = None) -> float:
    """SEG of the Cell Tracking Challenge in [0, 1] (Maška et al. 2014, Bioinformatics 30:1609): the mean over true
    objects of the IoU with the predicted object that covers more than half of it, 0 where none does. Invented objects
    cost nothing. Arguments and errors as of `object_scores`; NaN where there is no true object.
    """
    return _seg(_pairs(truth_X, prediction_X, ignored_X))


def _seg(pairs: _Pairs) -> float:
    covers = 2 * pairs.shared > pairs.truth[pairs.t]
    return _share(float(pairs.iou[covers].sum()), len(pairs.truth))


def _voi(truth_X: NDArray[Any], prediction_X: NDArray[Any], ignored_X: NDArray[np.bool_] | None) -> float:
    """Variation of information in bits, 0 is perfect (Meilă 2007), over the pixels of true objects: what is split and
    what is merged, see `segment_scores`."""
    if ignored_X is not None:
        truth_X = np.where(ignored_X, 0, truth_X)
    scores = segment_scores(prediction_X, truth_X)
    return scores.voi_split + scores.voi_merge


@dataclass(frozen=True)
class _Pairs:
    """Objects that overlap: their numbers t and p, the pixels they share and their IoU; and the size (pixels) of every
    true and predicted object."""

    t: NDArray[np.int64]
    p: NDArray[np.int64]
    shared: NDArray[np.float64]
    iou: NDArray[np.float64]
    truth: NDArray[np.float64]
    prediction: NDArray[np.float64]


def _pairs(truth_X: NDArray[Any], prediction_X: NDArray[Any], ignored_X: NDArray[np.bool_] | None) -> _Pairs:
    if truth_X.shape != prediction_X.shape:
        raise ValueError(f"truth {truth_X.shape} and prediction {prediction_X.shape} differ in shape")
    if ignored_X is not None:
        truth_X, prediction_X = np.where(ignored_X, 0, truth_X), np.where(ignored_X, 0, prediction_X)
    # 0 is put first, so that it has the number 0 whether it occurs or not; then it is taken out again
    ids_T, truth_N = np.unique(np.append(truth_X.reshape(-1), 0), return_inverse=True)
    ids_P, prediction_N = np.unique(np.append(prediction_X.reshape(-1), 0), return_inverse=True)
    # objects are few per image, but not few enough for a table of all pairs
    pair, shared = np.unique(truth_N[:-1].astype(np.int64) * len(ids_P) + prediction_N[:-1], return_counts=True)
    t, p = pair // len(ids_P), pair % len(ids_P)
    size_T = np.bincount(t, shared, len(ids_T)).astype(np.float64)  # without a pixel numpy counts in integers
    size_P = np.bincount(p, shared, len(ids_P)).astype(np.float64)
    both = (ids_T[t] != 0) & (ids_P[p] != 0)
    t, p, shared = t[both], p[both], shared[both].astype(np.float64)
    iou = shared / (size_T[t] + size_P[p] - shared)
    return _Pairs(t - 1, p - 1, shared, iou, size_T[1:], size_P[1:])


def image_scores(
    truth_X: NDArray[Any], prediction_X: NDArray[Any], ignored_X: NDArray[np.bool_] | None = None
) -> Mapping[str, float]:
    """What is reported of an image: `ap50` (AP at an IoU of 0.5), `ap50_90` (its mean over `THRESHOLDS`), `object_f1`
    and `pq` at 0.5, `aji`, `seg` and `voi`. Arguments as of `object_scores`."""
    pairs = _pairs(truth_X, prediction_X, ignored_X)
    scores = _object_scores(pairs, THRESHOLDS)
    return {
        "ap50": scores[0].ap,
        "ap50_90": float(np.mean([score.ap for score in scores])),
        "object_f1": scores[0].f1,
        "pq": scores[0].pq,
        "aji": _aji(pairs),
        "seg": _seg(pairs),
        "voi": _voi(truth_X, prediction_X, ignored_X),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
