"""The best of many settings by scores of cases, if it is better than how it was by more than chance.

Every setting gives each case a score. One field after the other takes the value whose mean score is highest, if that is
higher than before by more than twice the standard error of the difference over groups. Whoever chooses the best of many
settings on some cases overrates it on these: in cross-validation, on cases that the setting was not chosen on (folds
share no group), the whole has to be better as well.

On 45 images of nuclei and six networks, settings of objects chosen on one half and scored on the other (24 halves each)
gained -0.003 to 0.031 where any higher mean was taken, 0.003 to 0.016 with this rule; after calibration -0.003 to 0.008
and 0.001 to 0.009. With a gain above its standard error asked of the cross-validation as well, about half of that is
left.
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
SURE = 2.0
"""Standard errors by which a change of one field must be better."""
FOLDS, FEWEST = 5, 4
"""Folds of the cross-validation, and the groups (or cases without one) that it takes at least."""


@dataclass(frozen=True)
class Found:
    """setting: the best on all cases, or the start. gain, error: by which it scores better on cases that it was not
    chosen on, and the standard error of that over groups; NaN where there were too few cases to tell. better: whether
    it is another than the start."""

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
        chosen = _climb(start, options, scores, np.flatnonzero(folds != fold), units)
        gains[folds == fold] = (scores(chosen) - scores(start))[folds == fold]
    gain, error = mean_of_units(gains, units)
    best = _climb(start, options, scores, np.arange(len(cases)), units) if gain > 0 else start
    return Found(best, gain, error, best != start)


def units_of(cases: Sequence[HeldOut]) -> list[int]:
    """The number of the group of every case, or of the case where it has none."""
    known: dict[tuple[str, str], int] = {}
    return [known.setdefault(("case", c.id) if c.group is None else ("group", c.group), len(known)) for c in cases]


def mean_of_units(gains: Scores, units: Sequence[int]) -> tuple[float, float]:
    """Mean of the means of groups, by number, and its standard error (of a single one without bound)."""
    number = np.unique(np.asarray(units), return_inverse=True)[1]
    means = np.bincount(number, gains) / np.bincount(number)
    return float(means.mean()), float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.inf


def _climb(
    start: Setting,
    options: Sequence[Sequence[float]],
    scores: Callable[[Setting], Scores],
    cases: NDArray[np.int64],
    units: Sequence[int],
) -> Setting:
    """From `start`, one field after the other; of equal values the first."""
    best, mine = start, [units[case] for case in cases]
    for _ in range(ROUNDS):
        before = best
        for field, values in enumerate(options):
            here, high = best, 0.0
            for value in values:
                tried = (*here[:field], value, *here[field + 1 :])
                gain, error = mean_of_units((scores(tried) - scores(here))[cases], mine)
                if gain > max(high, SURE * error, 1e-9):
                    best, high = tried, gain
        if best == before:
            break
    return best
