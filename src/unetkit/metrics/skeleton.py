"""clDice: whether thin structures (vessels, roads, fibres) are connected as the truth is, whatever their width."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetkit.metrics.overlap import IGNORE, PerClass


def cldice(label_X: NDArray[Any], prediction_X: NDArray[Any], classes: int, ignore: int = IGNORE) -> PerClass:
    """Centre-line Dice per class, (K,) in [0, 1] (Shit et al. 2021, CVPR, section 3.1): the harmonic mean of the share
    of the predicted centre line that lies in the truth and of the true centre line that lies in the prediction.

    Integer arrays of classes 0 … K−1 of the same shape, two or three axes; centre lines are those of
    `skimage.morphology.skeletonize`. Pixels where the truth is `ignore` are left out after centre lines are found. A
    class that neither has gives NaN, one that only one of them has 0. Raises ValueError: shapes that differ, other
    numbers of axes.
    """
    from skimage.morphology import skeletonize

    if label_X.shape != prediction_X.shape:
        raise ValueError(f"truth {label_X.shape} and prediction {prediction_X.shape} differ in shape")
    if label_X.ndim not in (2, 3):
        raise ValueError(f"centre lines are of images and volumes, not of {label_X.ndim} axes")
    valid_X = label_X != ignore
    result = np.full(classes, np.nan)
    for k in range(classes):
        truth_X, found_X = label_X == k, (prediction_X == k) & valid_X
        if not truth_X.any() and not found_X.any():
            continue
        shares = []
        for line_of, inside in ((found_X, truth_X), (truth_X, found_X)):
            line_X = skeletonize(line_of) & valid_X
            shares.append(float(inside[line_X].mean()) if line_X.any() else 0.0)
        result[k] = 2 * shares[0] * shares[1] / sum(shares) if sum(shares) else 0.0
    return result
