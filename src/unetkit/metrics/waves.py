"""Where intervals of a signal begin and end: of the waves of an ECG, say, their onsets and offsets.

A boundary that was predicted belongs to a true one of its class that is no farther than a tolerance, the nearest first,
one to one. F1 is of the boundaries found so; errors are of those that were found, positive where the prediction is late
(ANSI/AAMI EC57 takes 150 ms as tolerance; Moskalenko et al. 2019, arXiv:1908.04085, scores ECG delineation so).

A run that touches what is ignored, or the end of the signal, has no known boundary there, and none is expected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetkit.metrics.overlap import IGNORE

TOLERANCE = 0.15
"""Seconds; of a signal whose sampling is not known: `SAMPLES`."""
SAMPLES = 2


@dataclass(frozen=True)
class WaveScores:
    """Of one class: F1 of onsets and of offsets in [0, 1], and the mean and the standard deviation of their errors, in
    seconds (in samples where the sampling is not known). NaN where there is nothing to say."""

    onset_f1: float
    offset_f1: float
    onset_error: float
    offset_error: float
    onset_spread: float
    offset_spread: float


def wave_scores(
    label_N: NDArray[Any],
    prediction_N: NDArray[Any],
    classes: int,
    period: float | None = None,
    tolerance: float | None = None,
    ignore: int = IGNORE,
) -> tuple[WaveScores, ...]:
    """Scores of every class of a signal: integers 0 … K−1 of shape (samples,); samples where the truth is `ignore` are
    left out. period: seconds between samples, None: not known. tolerance: in the same unit.

    Raises ValueError: arrays that are not (samples,) alike, a negative tolerance, a period that is not above 0.
    """
    if label_N.ndim != 1 or label_N.shape != prediction_N.shape:
        raise ValueError(f"truth {label_N.shape} and prediction {prediction_N.shape} must have one axis and be alike")
    if period is not None and not period > 0:
        raise ValueError(f"the period is {period}; it is above 0 s")
    within = tolerance if tolerance is not None else SAMPLES if period is None else TOLERANCE
    if not within >= 0:
        raise ValueError(f"the tolerance is {tolerance}; it is 0 or more")
    unit = 1.0 if period is None else period
    ignored_N = label_N == ignore
    return tuple(
        _of_class(label_N == k, (prediction_N == k) & ~ignored_N, ignored_N, unit, within) for k in range(classes)
    )


def _of_class(
    truth_N: NDArray[np.bool_], found_N: NDArray[np.bool_], ignored_N: NDArray[np.bool_], unit: float, within: float
) -> WaveScores:
    scores = []
    for backwards in (False, True):
        # an offset is the onset of the same signal read from its end
        step = -1 if backwards else 1
        true, found = _onsets(truth_N[::step], found_N[::step], ignored_N[::step])
        errors = _matched(true, found, within / unit) * unit * step
        total = len(true) + len(found)
        f1 = 2 * len(errors) / total if total else math.nan
        mean, spread = (float(errors.mean()), float(errors.std())) if len(errors) else (math.nan, math.nan)
        scores.append((f1, mean, spread))
    (on, on_error, on_spread), (off, off_error, off_spread) = scores
    return WaveScores(on, off, on_error, off_error, on_spread, off_spread)


def _onsets(
    truth_N: NDArray[np.bool_], found_N: NDArray[np.bool_], ignored_N: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Known onsets of true runs, and those of predicted runs (samples); a predicted run that meets a true one whose
    onset is not known is left out, for nobody can say whether it begins where it should."""
    unknown_N = np.concatenate([[True], ignored_N[:-1]])
    begins, numbers = [], []
    for mask_N in (truth_N, found_N):
        begin_N = mask_N & ~np.concatenate([[False], mask_N[:-1]])
        begins.append(np.flatnonzero(begin_N))
        numbers.append(np.where(mask_N, np.cumsum(begin_N), 0))
    lost = set(numbers[0][begins[0][unknown_N[begins[0]]]].tolist())  # true runs without a known onset
    meets = np.isin(numbers[0], list(lost)) & (numbers[1] > 0)
    open_ended = set(numbers[1][meets].tolist()) | set(numbers[1][begins[1][unknown_N[begins[1]]]].tolist())
    true = begins[0][~unknown_N[begins[0]]]
    found = begins[1][~np.isin(numbers[1][begins[1]], list(open_ended))]
    return true, found


def _matched(true: NDArray[np.int64], found: NDArray[np.int64], within: float) -> NDArray[np.float64]:
    """Found less true (samples) of the pairs that belong together, the nearest first."""
    # both rise: those within reach of a true one follow on each other
    first = np.searchsorted(found, true - within - 1e-9, side="left")
    count = np.searchsorted(found, true + within + 1e-9, side="right") - first
    t = np.repeat(np.arange(len(true)), count)
    f = np.arange(len(t)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    order = np.argsort(np.abs(true[t] - found[f]), kind="stable")
    taken_t, taken_f, errors = set[int](), set[int](), list[float]()
    for k in order:
        if t[k] not in taken_t and f[k] not in taken_f:
            taken_t.add(int(t[k]))
            taken_f.add(int(f[k]))
            errors.append(float(found[f[k]] - true[t[k]]))
    return np.array(errors)
