"""Whether probabilities are true: Brier score, expected calibration error; pixel AUC and average precision.

All of it from counts that add up image by image and part by part: images may be of any size and number.

* Brier score (Brier 1950): the mean over pixels of Σ_k (p_k − y_k)², in [0, 2]. Of regions that may overlap, each of
  which is a question of its own: the mean over pixels and regions of (p − y)², in [0, 1].
* Expected calibration error (Guo et al. 2017, eq. 3), of the class that a pixel gets ("top label"): pixels are sorted
  into M bins by their confidence, max_k p_k, and Σ_m n_m / n · |share that is right − mean confidence| is taken. Of
  regions the confidence is max(p, 1 − p), over all pixels and regions. Bin m holds (m − 1) / M < p ≤ m / M (equal
  width), or as nearly an M-th of the pixels as ties allow (equal mass: adaptive ECE, Nixon et al. 2019).
* The same by class (class-wise ECE, Kull et al. 2019; static calibration error, Nixon et al. 2019): of p_k over all
  pixels against whether the pixel is of class k; their mean counts rare classes as much as the background.
* ROC AUC: the probability that a pixel of the class has a higher p_k than one that is not, half of ties counted (Mann
  & Whitney 1947). Average precision: Σ (R_n − R_{n−1}) P_n over thresholds from high to low, without interpolation.

AUC, average precision and bins of equal mass take p to 8 bits of precision from either end: 0.0001 and 0.9999 are told
from 0.0002 and 0.9998. `roc_auc` and `average_precision` of plain arrays are exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetkit.metrics.overlap import IGNORE

BINS = 15
_CHUNK = 1 << 20  # pixels counted at once
_DROPPED = 3  # of the 10 bits of a half-precision mantissa
_HALF = 0x3800 >> _DROPPED  # the code of 0.5
_CODES = 2 * _HALF + 1
_TINY = 1e-12  # a probability of 0 of what is there has no finite logarithm

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """Bins of probability (M,): pixels in each, their mean probability, and the share of them of which it came true
    (NaN in bins without any)."""

    pixels: NDArray[np.int64]
    confidence: Float
    share: Float

    @property
    def ece(self) -> float:
        """Expected calibration error; NaN of no pixel."""
        some = self.pixels > 0
        if not some.any():
            return math.nan
        gaps = np.abs(self.share[some] - self.confidence[some])
        return float((self.pixels[some] * gaps).sum() / self.pixels.sum())


@dataclass(frozen=True)
class ConfidenceScores:
    """How true probabilities are. top: of the class that each pixel gets, top_mass in bins of equal mass; classes: of
    each class. auc, ap: of each class, NaN where all pixels or none are of it. Everything is NaN of no pixel."""

    pixels: int
    brier: float
    nll: float
    top: Reliability
    top_mass: Reliability
    classes: tuple[Reliability, ...]
    auc: tuple[float, ...]
    ap: tuple[float, ...]

    @property
    def ece(self) -> float:
        """Of the class that each pixel gets, in bins of equal width."""
        return self.top.ece

    @property
    def ece_by_class(self) -> float:
        """The mean of the classes' own."""
        return float(np.mean([table.ece for table in self.classes]))


class ConfidenceCounts:
    """What the scores are made of, added up over images and their parts.

    classes: K. regions: they may overlap, and the truth is bit masks. bins: M, of equal width.
    """

    def __init__(self, classes: int, regions: bool = False, bins: int = BINS) -> None:
        self._regions, self._bins = regions, bins
        self._pixels, self._brier, self._nll = 0, 0.0, 0.0
        # of the top label, then of each class: [missed or true, bin], and the sums of probability
        self._wide = np.zeros((classes + 1, 2, bins), np.int64)
        self._fine = np.zeros((classes + 1, 2, _CODES), np.int64)
        self._wide_sums = np.zeros((classes + 1, bins))
        self._fine_sums = np.zeros((classes + 1, _CODES))

    def add(self, shares_KX: NDArray[Any], truth_X: NDArray[Any], ignore: int = IGNORE) -> None:
        """Count an image, or a part of one. shares_KX: probabilities (K, *space); truth_X: class indices (*space), of
        regions bit masks; pixels where it is `ignore` are left out. Raises ValueError: shapes that differ, a class
        beyond the last, what is no probability."""
        classes = len(self._wide) - 1
        if shares_KX.shape != (classes, *truth_X.shape):
            raise ValueError(f"{classes} classes and truth {truth_X.shape} do not fit probabilities {shares_KX.shape}")
        shares_KN, truth_N = shares_KX.reshape(classes, -1), truth_X.reshape(-1)
        for start in range(0, truth_N.size, _CHUNK):
            judged_N = truth_N[start : start + _CHUNK]
            kept = judged_N != ignore
            part_KN = shares_KN[:, start : start + _CHUNK][:, kept].astype(np.float64)
            self._add(part_KN, judged_N[kept].astype(np.int64))

    def _add(self, shares_KN: Float, truth_N: NDArray[np.int64]) -> None:
        classes = len(shares_KN)
        if not truth_N.size:
            return
        if truth_N.max() >= (1 << classes if self._regions else classes) or truth_N.min() < 0:
            raise ValueError(f"the truth holds {truth_N.min()} … {truth_N.max()}, which is beyond {classes} classes")
        if not (shares_KN.min() >= 0 and shares_KN.max() <= 1 + 1e-5):
            raise ValueError("probabilities lie between 0 and 1")
        each = np.arange(classes)[:, None]
        true_KN = (truth_N >> each & 1).astype(bool) if self._regions else truth_N == each
        self._pixels += truth_N.size
        for k in range(classes):
            self._count(1 + k, shares_KN[k], true_KN[k])
        share = 1 / classes if self._regions else 1.0
        self._brier += share * float(((shares_KN - true_KN) ** 2).sum())
        if self._regions:
            self._nll -= share * float(np.log(np.maximum(np.where(true_KN, shares_KN, 1 - shares_KN), _TINY)).sum())
            found_KN = shares_KN >= 0.5
            self._count(0, np.maximum(shares_KN, 1 - shares_KN).reshape(-1), (found_KN == true_KN).reshape(-1))
        else:
            self._nll -= float(np.log(np.maximum(shares_KN[truth_N, np.arange(truth_N.size)], _TINY)).sum())
            self._count(0, shares_KN.max(0), shares_KN.argmax(0) == truth_N)

    def _count(self, row: int, shares_N: Float, true_N: NDArray[np.bool_]) -> None:
        wide_N = np.clip(np.ceil(shares_N * self._bins).astype(np.int64) - 1, 0, self._bins - 1)
        for codes_N, counts, sums in (
            (wide_N, self._wide, self._wide_sums),
            (_codes(shares_N), self._fine, self._fine_sums),
        ):
            size = counts.shape[2]
            counts[row] += np.bincount(codes_N + size * true_N, minlength=2 * size).reshape(2, size)
            sums[row] += np.bincount(codes_N, shares_N, minlength=size)

    def scores(self) -> ConfidenceScores:
        """Of all that was counted."""
        n, rows = max(self._pixels, 1), range(1, len(self._wide))
        none = self._pixels == 0
        return ConfidenceScores(
            pixels=self._pixels,
            brier=math.nan if none else self._brier / n,
            nll=math.nan if none else self._nll / n,
            top=_table(self._wide[0], self._wide_sums[0]),
            top_mass=_table(*_of_equal_mass(self._fine[0], self._fine_sums[0], self._bins)),
            classes=tuple(_table(self._wide[row], self._wide_sums[row]) for row in rows),
            auc=tuple(_auc(*self._fine[row]) for row in rows),
            ap=tuple(_average_precision(*self._fine[row]) for row in rows),
        )


def confidence_scores(
    shares_KX: NDArray[Any], truth_X: NDArray[Any], regions: bool = False, bins: int = BINS, ignore: int = IGNORE
) -> ConfidenceScores:
    """Of one image, as `ConfidenceCounts.add` takes it and with what that raises."""
    counts = ConfidenceCounts(len(shares_KX), regions, bins)
    counts.add(shares_KX, truth_X, ignore)
    return counts.scores()


def roc_auc(shares_N: NDArray[Any] | Sequence[float], true_N: NDArray[Any] | Sequence[bool]) -> float:
    """Area under the ROC curve of a score, exact, over all values of arrays of any shape; NaN where all are true, or
    none is. Raises ValueError: shapes that differ."""
    return _auc(*_by_value(shares_N, true_N))


def average_precision(shares_N: NDArray[Any] | Sequence[float], true_N: NDArray[Any] | Sequence[bool]) -> float:
    """Average precision of a score, exact, over all values of arrays of any shape; NaN where none is true. Raises
    ValueError: shapes that differ."""
    return _average_precision(*_by_value(shares_N, true_N))


def _by_value(shares_N: Any, true_N: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many are false, and how many true, at each value of the score, ascending."""
    shares_N, true_N = np.asarray(shares_N), np.asarray(true_N, bool)
    if shares_N.shape != true_N.shape:
        raise ValueError(f"scores {shares_N.shape} and truth {true_N.shape} differ in shape")
    values, place = np.unique(shares_N.reshape(-1), return_inverse=True)
    counts = np.bincount(place + len(values) * true_N.reshape(-1), minlength=2 * len(values)).reshape(2, -1)
    return counts[0], counts[1]


def _auc(false_M: NDArray[np.int64], true_M: NDArray[np.int64]) -> float:
    below_M = np.cumsum(false_M) - false_M
    pairs = float(false_M.sum()) * float(true_M.sum())
    return float((true_M * (below_M + false_M / 2.0)).sum()) / pairs if pairs else math.nan


def _average_precision(false_M: NDArray[np.int64], true_M: NDArray[np.int64]) -> float:
    found, wrong = np.cumsum(true_M[::-1]), np.cumsum(false_M[::-1])
    total = int(true_M.sum())
    return float((true_M[::-1] * (found / np.maximum(found + wrong, 1))).sum() / total) if total else math.nan


def _codes(shares_N: Float) -> NDArray[np.int64]:
    """A number that rises with the probability: half precision of the nearer end, less its last bits."""
    low_N = shares_N <= 0.5
    near_N = np.clip(np.where(low_N, shares_N, 1 - shares_N), 0, 0.5).astype(np.float16)
    code_N = (near_N.view(np.uint16) >> _DROPPED).astype(np.int64)
    return np.where(low_N, code_N, 2 * _HALF - code_N)


def _table(counts_2M: NDArray[np.int64], sums_M: Float) -> Reliability:
    pixels_M = counts_2M.sum(0)
    with np.errstate(invalid="ignore"):
        return Reliability(pixels_M, sums_M / pixels_M, counts_2M[1] / pixels_M)


def _of_equal_mass(counts_2F: NDArray[np.int64], sums_F: Float, bins: int) -> tuple[NDArray[np.int64], Float]:
    """Fine bins joined to at most `bins`, each of which holds about as many pixels."""
    pixels_F = counts_2F.sum(0)
    total = max(int(pixels_F.sum()), 1)
    # where the middle of each fine bin lies among all pixels
    place_F = np.minimum((np.cumsum(pixels_F) - pixels_F / 2) * bins // total, bins - 1).astype(np.int64)
    joined = np.stack([np.bincount(place_F, counts, bins) for counts in counts_2F]).astype(np.int64)
    return joined, np.bincount(place_F, sums_F, bins).astype(np.float64)
