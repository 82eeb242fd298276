"""The best of many settings by scores of cases, if it is better than how it was by more than chance.

Every setting gives each case a score. One field after the other takes the value whose mean score is highest. Whoever
chooses the best of many settings on some cases overrates it on these: the gain is measured by cross-validation, on
cases that the setting was not chosen on (folds share no group), and has to exceed its standard error over groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetkit.predict.heldout import HeldOut

Setting = tuple[float, ...]
Scores = NDArray[np.float64]

ROUNDS = 2
"""Passes over all fields: the second sees what the first chose."""
FOLDS, FEWEST = 5, 4
"""Folds of the cross-validation, and the groups (or cases without one) that it takes at least."""


@dataclass(frozen=True)
class Found:
    """setting: the best on all cases, or the start. gain, error: by which it scores better on cases that it was not
    chosen on, and the standard error of that over groups; NaN where there were too few cases to tell."""

    setting: Setting
    gain: float
    error: float
    better: bool

    def words(self, what: str, cases: int) -> str:
        """What was found, in a sentence. what: is scored."""
        if math.isnan(self.gain):
            return f"{cases} held-out case{'s' * (cases != 1)} are too few to choose from"
        side = "rose" if self.gain >= 0 else "fell"
        change = f"{what} {side} by {abs(self.gain):.3f} ± {self.error:.3f}"
        return f"chosen on {cases} held-out cases: on those that it was not chosen on, {change}"


def search(
    start: Setting,
    options: Sequence[Sequence[float]],
    score: Callable[[Setting], Scores],
    cases: Sequence[HeldOut],
) -> Found:
    """The best setting, or `start` where none is better by more than chance.

    options: of each field of a setting the values that are tried. score: of every case (N,), higher is better. Equal
    input gives equal output.
    """
    known: dict[Setting, Scores] = {}

    def scores(setting: Setting) -> Scores:
        if setting not in known:
            known[setting] = score(setting)
        return known[setting]

    units = units_of(cases)
    if len(set(units)) < FEWEST:
        return Found(start, math.nan, math.nan, False)
    gains, folds = np.zeros(len(cases)), np.array(units) % FOLDS
    for fold in range(min(FOLDS, len(set(units)))):
        chosen = _climb(start, options, scores, np.flatnonzero(folds != fold).tolist())
        gains[folds == fold] = (scores(chosen) - scores(start))[folds == fold]
    gain, error = mean_of_units(gains, cases)
    best = _climb(start, options, scores, range(len(cases))) if gain > error else start
    return Found(best, gain, error, best != start)


def units_of(cases: Sequence[HeldOut]) -> list[int]:
    """The number of the group of every case, or of the case where it has none."""
    known: dict[tuple[str, str], int] = {}
    return [known.setdefault(("case", c.id) if c.group is None else ("group", c.group), len(known)) for c in cases]


def mean_of_units(gains: Scores, cases: Sequence[HeldOut]) -> tuple[float, float]:
    """Mean of the means of groups (or cases without one), and its standard error."""
    units = np.array(units_of(cases))
    means = np.bincount(units, gains) / np.bincount(units)
    return float(means.mean()), float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.inf


def _climb(
    start: Setting, options: Sequence[Sequence[float]], scores: Callable[[Setting], Scores], cases: Sequence[int]
) -> Setting:
    """From `start`, one field after the other; of equal values that of before."""
    index, best = list(cases), start
    high = float(scores(best)[index].mean())
    for _ in range(ROUNDS):
        before = best
        for field, values in enumerate(options):
            for value in values:
                tried = (*best[:field], value, *best[field + 1 :])
                if (found := float(scores(tried)[index].mean())) > high + 1e-9:
                    best, high = tried, found
        if best == before:
            break
    return best
