"""Scores for membranes that divide an image into cells, as in the ISBI 2012 challenge (Arganda-Carreras et al. 2015,
Frontiers in Neuroanatomy 9:142): what counts is whether the right pixels are kept together and apart.

Exactly what is done, for one image:

1. The membrane probability is cut at a threshold (membrane: probability ≥ threshold).
2. The membrane is thinned to its skeleton, one pixel wide. Before that the image is continued outwards by its edge
   pixels, and afterwards cropped: without this a skeleton withdraws from the image's edge, and neighbouring cells there
   would run into each other.
3. The connected components (4 neighbours) of the rest are the segments S. The truth's segments T are the components
   (4 neighbours) of its non-membrane pixels, not thinned.
4. Only pixels that are non-membrane in the truth (and not ignored) count. A pixel of the predicted skeleton among them
   is a segment of its own.
5. With p_ij the share of those pixels in segment i of S and j of T, s_i = Σ_j p_ij and t_j = Σ_i p_ij:
   V_rand = Σ p_ij² / (½ Σ s_i² + ½ Σ t_j²)   and   V_info = I(S; T) / (½ H(S) + ½ H(T)).
6. The threshold that is best for the image is taken, for V_rand and V_info each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = tuple(i / 10 for i in range(1, 10))  # the challenge's steps
_MARGIN = 16  # pixels; more than half the width of any membrane at the image's edge


@dataclass(frozen=True)
class SegmentScores:
    """Agreement of two segmentations: 1 is perfect. Split scores fall when cells are cut up, merge scores when joined.

    The voi values are the variation of information in bits (0 is perfect): H(S|T) and H(T|S).
    """

    v_rand: float
    rand_split: float
    rand_merge: float
    v_info: float
    info_split: float
    info_merge: float
    voi_split: float
    voi_merge: float


@dataclass(frozen=True)
class MembraneScores:
    """The best V_rand and V_info over the thresholds, and the threshold of each (the lowest among equals)."""

    v_rand: float
    rand_threshold: float
    v_info: float
    info_threshold: float


def membrane_scores(
    probability_YX: NDArray[Any],
    membrane_YX: NDArray[np.bool_],
    ignored_YX: NDArray[np.bool_] | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> MembraneScores:
    """Score membrane probabilities (height, width) in [0, 1] against the true membrane (True on membrane).

    NaN where the truth has nothing but membrane. Raises ValueError: arrays that are not 2-D or differ in shape.
    """
    if probability_YX.ndim != 2 or probability_YX.shape != membrane_YX.shape:
        raise ValueError(f"probabilities {probability_YX.shape} and membrane {membrane_YX.shape} must be 2-D and alike")
    truth_YX = components(~membrane_YX)
    if ignored_YX is not None:
        truth_YX[ignored_YX] = 0
    scores = [segment_scores(segments_between(probability_YX >= t), truth_YX) for t in thresholds]
    rand = max(range(len(scores)), key=lambda i: (scores[i].v_rand, -thresholds[i]))
    info = max(range(len(scores)), key=lambda i: (scores[i].v_info, -thresholds[i]))
    return MembraneScores(scores[rand].v_rand, thresholds[rand], scores[info].v_info, thresholds[info])


def segments_between(membrane_YX: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Steps 2 and 3: segments 1 … n of what the thinned membrane leaves, and 0 on the thinned membrane."""
    from skimage.morphology import skeletonize  # slow to import, and most evaluations have no membranes

    padded = np.pad(membrane_YX, _MARGIN, mode="edge")
    return components(~skeletonize(padded)[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN])


def components(mask_YX: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Connected components (4 neighbours) numbered 1 … n; 0 outside the mask."""
    from scipy import ndimage

    labels: NDArray[np.int32] = ndimage.label(mask_YX)[0]
    return labels


def segment_scores(segments_X: NDArray[Any], truth_X: NDArray[Any]) -> SegmentScores:
    """Compare predicted and true segments (integers ≥ 0, same shape, any number of axes), in sparse tables.

    Pixels where the truth is 0 are left out; of the others, each pixel where the prediction is 0 is a segment of its
    own. All NaN where the truth is 0 throughout. Raises ValueError: shapes that differ.
    """
    from scipy import sparse

    if segments_X.shape != truth_X.shape:
        raise ValueError(f"segments {segments_X.shape} and truth {truth_X.shape} differ in shape")
    inside = truth_X != 0
    s_N, t_N = _compact(segments_X[inside]), _compact(truth_X[inside])
    n = s_N.size
    if n == 0:
        return SegmentScores(*[math.nan] * 8)
    placed = s_N != 0
    singles = n - int(np.count_nonzero(placed))
    # coordinate tables add up what falls on the same cell
    shape = (int(s_N.max()) + 1, int(t_N.max()) + 1)
    joint = sparse.coo_matrix((np.ones(n - singles), (s_N[placed], t_N[placed])), shape).tocsr().data
    sizes_s, sizes_t = np.bincount(s_N[placed]).astype(float), np.bincount(t_N).astype(float)

    pairs = float(joint @ joint) + singles
    pairs_s, pairs_t = float(sizes_s @ sizes_s) + singles, float(sizes_t @ sizes_t)
    h_joint, h_s, h_t = _entropy(joint, singles, n), _entropy(sizes_s, singles, n), _entropy(sizes_t, 0, n)
    shared = max(0.0, h_s + h_t - h_joint)
    return SegmentScores(
        v_rand=2 * pairs / (pairs_s + pairs_t),
        rand_split=pairs / pairs_t,
        rand_merge=pairs / pairs_s,
        v_info=2 * shared / (h_s + h_t) if h_s + h_t > 0 else 1.0,  # one segment each, and the same
        info_split=shared / h_s if h_s > 0 else 1.0,
        info_merge=shared / h_t if h_t > 0 else 1.0,
        voi_split=max(0.0, h_joint - h_t),
        voi_merge=max(0.0, h_joint - h_s),
    )


def _compact(ids_N: NDArray[Any]) -> NDArray[np.int64]:
    """Ids renumbered, 0 kept as 0, where they are so large that tables up to the largest would not fit."""
    if ids_N.size and int(ids_N.max()) > 4 * ids_N.size + 1000:
        ids_N = np.unique(np.append(ids_N, 0), return_inverse=True)[1][:-1]  # no id is negative: 0 comes first
    return ids_N.astype(np.int64)


def _entropy(sizes: NDArray[np.float64], singles: int, n: int) -> float:
    """Entropy in bits of segments of these sizes and of `singles` segments of one pixel, among n pixels."""
    sizes = sizes[sizes > 0]
    return math.log2(n) - float(sizes @ np.log2(sizes)) / n if sizes.size or singles else 0.0
