"""The Dice that a prediction without truth probably has, learnt from held-out cases.

If probabilities are true, the sum of p_k over the pixels that are predicted as class k is what of them is right, and
the sum over all pixels what there is of the class: 2 Σ p_k [y = k] / (Σ p_k + Σ [y = k]) is about the Dice to be
expected. It orders images well, but a network is wrong about whole images as well as about pixels: what held-out cases
reached is laid against what was expected of them, logit against logit, by a line whose slope is drawn towards 1.

Everything is made of sums over pixels, which add up part by part: tiles change nothing, and no image is seen twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from unetkit.core.config import Config
from unetkit.data.case import IGNORE
from unetkit.data.labels.legend import Legend
from unetkit.metrics.overlap import confusion, dice, per_class, region_confusions
from unetkit.predict.calibration import Calibration
from unetkit.predict.decide import Rule, decide
from unetkit.predict.heldout import HeldOut
from unetkit.predict.post.clean import plain_scores

LEAST = 4  # held-out cases, or groups of them, that a line is drawn through
MARKED = 0.05  # a Dice below what is usual by less is nothing to look at
_CLIP = 0.995  # of Dice: its logit is finite
_PULL = 5.0  # cases as which the belief counts that what is expected is right (a slope of 1)
_SURE = 0.9  # of intervals
_EMPTY = 0.05  # a share of cases without anything in them, below which it is strange to find nothing

Float = NDArray[np.float64]
Sums = NDArray[np.float64]
"""(3, K) of the classes of masks: Σ p_k, Σ [y = k], Σ p_k [y = k]."""


class Expected(Config):
    """A Dice that is predicted, and between what it lies in about 90 of 100 images."""

    dice: float
    low: float
    high: float


class Quality(Config):
    """From the expected Dice of a prediction to that it probably has: logit(Dice) ≈ offset + slope · logit(expected).

    low, high: what is added to the logit for an interval. usual: the median Dice of held-out cases. least: below it an
    image should be looked at. empty: the share of held-out cases in which nothing was found. cases: how many were used.
    """

    offset: float
    slope: float = Field(ge=0)
    low: float = Field(le=0)
    high: float = Field(ge=0)
    usual: float
    least: float
    empty: float = Field(ge=0, le=1)
    cases: int

    def expected(self, raw: float) -> Expected | None:
        """Of what `expected_dice` says of an image; None where nothing of the foreground was found (NaN)."""
        if math.isnan(raw):
            return None
        middle = self.offset + self.slope * _logit(raw)
        return Expected(dice=_share(middle), low=_share(middle + self.low), high=_share(middle + self.high))

    def why(self, expected: Expected | None) -> str:
        """Why an image should be looked at, in words; empty where it need not."""
        if expected is None:
            return "" if self.empty >= _EMPTY else "nothing was found in it"
        if expected.dice >= self.least:
            return ""
        return f"a Dice of {expected.dice:.2f} is expected, and {self.usual:.2f} is usual"


def sums_of(shares_KX: NDArray[np.float32], label_X: NDArray[np.uint8], legend: Legend) -> Sums:
    """Of calibrated probabilities (K, *space) and the label (*space) of the network's classes, or of depths, summed up
    for the classes of masks. Pixels whose label is `IGNORE` are left out."""
    plain, known_X = legend.plain, label_X != IGNORE
    plain_KX, label_X = plain_scores(shares_KX, legend), legend.merge(label_X)
    rows = []
    for k, share_X in enumerate(plain_KX):  # nothing of the size of all classes is copied
        here_X = plain.where(label_X, k)
        total = share_X.sum(dtype=np.float64, where=known_X)
        rows.append((total, here_X.sum(), share_X.sum(dtype=np.float64, where=here_X)))
    return np.array(rows, np.float64).T


def expected_dice(sums: Sums, foreground: Sequence[int]) -> float:
    """2 Σ p [y] / (Σ p + Σ [y]), the mean over the foreground classes that were found; NaN where none was."""
    shares, pixels, both = sums
    each = [2 * both[k] / (shares[k] + pixels[k]) for k in foreground if pixels[k] > 0]
    return float(np.mean(each)) if each else math.nan


def fit_quality(cases: Sequence[HeldOut], legend: Legend, calibration: Calibration, rule: Rule) -> Quality | None:
    """From held-out cases, whose labels are decided by `rule` after `calibration` (those that the model will be used
    with). legend: the network's. None of fewer than `LEAST` groups (or cases without one) in which anything was found.

    Equal input gives equal output.
    """
    wanted, reached, units, empty = [], [], [], 0
    for case in cases:
        raw, true = raw_and_true(case, legend, calibration, rule)
        empty += math.isnan(raw)
        if not math.isnan(raw) and not math.isnan(true):
            wanted.append(_logit(raw))
            reached.append(_logit(true))
            units.append(f"group {case.group}" if case.group is not None else f"case {case.id}")
    if len(set(units)) < LEAST:
        return None
    x, y = np.array(wanted), np.array(reached)
    offset, slope = _line(x, y)
    # the residuals of each unit from the line through all others
    apart = np.zeros(len(x))
    for unit in dict.fromkeys(units):
        mine = np.array([u == unit for u in units])
        a, b = _line(x[~mine], y[~mine])
        apart[mine] = y[mine] - (a + b * x[mine])
    low, high = _interval(apart, len(set(units)))
    usual = float(np.median(_shares(y)))
    # what is predicted varies less than what is reached: a Dice far below others' predictions is rarely a good one
    predicted = _shares(offset + slope * x)
    spread = 1.4826 * float(np.median(np.abs(predicted - np.median(predicted))))
    return Quality(
        offset=offset,
        slope=slope,
        low=low,
        high=high,
        usual=usual,
        least=float(np.median(predicted)) - max(MARKED, 2 * spread),
        empty=empty / len(cases),
        cases=len(x),
    )


def raw_and_true(case: HeldOut, legend: Legend, calibration: Calibration, rule: Rule) -> tuple[float, float]:
    """Of a held-out case the expected Dice (before any line was drawn), and the true one, over the pixels that are
    judged; NaN where nothing was found, and where nothing is there and nothing was found."""
    plain, shares_KX = legend.plain, calibration.apply(case.probabilities(), legend.regions)
    label_X = decide(torch.from_numpy(np.ascontiguousarray(shares_KX)), legend.regions, False, rule).numpy()
    raw = expected_dice(
        sums_of(shares_KX, np.where(case.truth_X == IGNORE, np.uint8(IGNORE), label_X), legend), plain.foreground
    )
    counts = (region_confusions if legend.regions else confusion)(
        case.truth_X, legend.merge(label_X), len(plain.classes)
    )
    found = per_class(dice, counts)[list(plain.foreground)]
    return raw, float(np.nanmean(found)) if not np.isnan(found).all() else math.nan


def _line(x: Float, y: Float) -> tuple[float, float]:
    """(offset, slope): the slope by least squares, drawn towards 1, the offset the median of what is left: a case that
    went quite wrong does not draw the others along."""
    apart = x - x.mean()
    variance = max(float(apart @ apart) / len(x), 1e-3)
    slope = (float(apart @ (y - y.mean())) + _PULL * variance) / (float(apart @ apart) + _PULL * variance)
    slope = min(max(slope, 0.1), 4.0)  # what is expected to be better is never said to be worse
    return float(np.median(y - slope * x)), slope


def _interval(apart: Float, units: int) -> tuple[float, float]:
    """What to add to a logit for an interval: of many cases the quantiles of the residuals, of few by Student's t."""
    from scipy.stats import t as student

    if units >= 20:
        low, high = np.quantile(apart, [(1 - _SURE) / 2, (1 + _SURE) / 2])
    else:
        spread = float(np.sqrt((apart**2).mean()))
        high = float(student.ppf((1 + _SURE) / 2, units - 1)) * spread * math.sqrt(1 + 1 / units)
        low = -high
    return min(float(low), 0.0), max(float(high), 0.0)


def _logit(share: float) -> float:
    share = min(max(share, 1 - _CLIP), _CLIP)
    return math.log(share / (1 - share))


def _share(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _shares(logits_N: Float) -> Float:
    shares: Float = 1 / (1 + np.exp(-logits_N))
    return shares
