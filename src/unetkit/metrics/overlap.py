"""How well two label arrays overlap: Dice, IoU, precision and recall per class, all from one table of counts.

The empty cases, the same for all four: a class that neither the truth nor the prediction has gives NaN (it says
nothing; means leave it out and count it). A class that only one of them has gives 0, also where the fraction would be
0/0 (the recall of a class that the truth does not have, the precision of one that was never predicted).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

IGNORE = 255
_CHUNK = 1 << 22  # pixels counted at once: bincount works on 8-byte integers, and images may have billions of pixels

Counts = NDArray[np.int64]
PerClass = NDArray[np.float64]


def confusion(label_X: NDArray[Any], prediction_X: NDArray[Any], classes: int, ignore: int = IGNORE) -> Counts:
    """Table (K, K) of pixel counts: row = class in the truth, column = class in the prediction.

    Both arrays hold integers 0 … K−1 and have the same shape, of any number of axes; pixels where the truth is
    `ignore` are left out. Raises ValueError: shapes that differ, a class outside that range.
    """
    if label_X.shape != prediction_X.shape:
        raise ValueError(f"truth {label_X.shape} and prediction {prediction_X.shape} differ in shape")
    counts = np.zeros(classes * classes, np.int64)
    label_N, prediction_N = label_X.reshape(-1), prediction_X.reshape(-1)
    for start in range(0, label_N.size, _CHUNK):
        label, prediction = label_N[start : start + _CHUNK], prediction_N[start : start + _CHUNK]
        valid = label != ignore
        if not valid.all():
            label, prediction = label[valid], prediction[valid]
        for what, values in (("truth", label), ("prediction", prediction)):
            if values.size and not 0 <= int(values.min()) <= int(values.max()) < classes:
                span = f"{values.min()} … {values.max()}"
                raise ValueError(f"the {what} holds {span}; {classes} classes are 0 … {classes - 1}")
        counts += np.bincount(label.astype(np.intp) * classes + prediction, minlength=classes * classes)
    return counts.reshape(classes, classes)


def region_confusions(label_X: NDArray[Any], prediction_X: NDArray[Any], regions: int, ignore: int = IGNORE) -> Counts:
    """A table for each region that may overlap others, (K, 2, 2): [k, truth, prediction], 0 outside, 1 inside.

    Both arrays hold bit masks, bit k where region k is, and have the same shape; pixels where the truth is `ignore` are
    left out. Raises ValueError: shapes that differ, a bit beyond the last region.
    """
    pairs = confusion(label_X, prediction_X, 1 << regions, ignore)
    tables = np.zeros((regions, 2, 2), np.int64)
    has = np.arange(1 << regions)[None] >> np.arange(regions)[:, None] & 1
    for k in range(regions):
        for truth in (0, 1):
            for found in (0, 1):
                tables[k, truth, found] = pairs[has[k] == truth][:, has[k] == found].sum()
    return tables


def per_class(measure: Callable[[Counts], PerClass], counts: Counts) -> PerClass:
    """A measure of this file for each class of a table of classes, or for each region of tables of regions."""
    return measure(counts) if counts.ndim == 2 else np.array([measure(table)[1] for table in counts])


def dice(counts_KK: Counts) -> PerClass:
    """2 |A∩B| / (|A| + |B|) per class, (K,) in [0, 1]; empty cases as in this file's heading. Equals F1 of pixels."""
    both, truth, predicted = _parts(counts_KK)
    return _fraction(2 * both, truth + predicted, truth + predicted)


def iou(counts_KK: Counts) -> PerClass:
    """|A∩B| / |A∪B| per class (Jaccard index), (K,) in [0, 1]; equals dice / (2 − dice)."""
    both, truth, predicted = _parts(counts_KK)
    return _fraction(both, truth + predicted - both, truth + predicted)


def precision(counts_KK: Counts) -> PerClass:
    """Share of the predicted pixels that are right, per class, (K,) in [0, 1]."""
    both, truth, predicted = _parts(counts_KK)
    return _fraction(both, predicted, truth + predicted)


def recall(counts_KK: Counts) -> PerClass:
    """Share of the true pixels that were found, per class, (K,) in [0, 1]."""
    both, truth, predicted = _parts(counts_KK)
    return _fraction(both, truth, truth + predicted)


def _parts(counts_KK: Counts) -> tuple[Counts, Counts, Counts]:
    return np.diagonal(counts_KK), counts_KK.sum(1), counts_KK.sum(0)


def _fraction(above: Counts, below: Counts, occurs: Counts) -> PerClass:
    value = above / np.maximum(below, 1)  # below is 0 only where above is 0
    return np.where(occurs > 0, value, np.nan)
