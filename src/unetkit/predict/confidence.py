"""How true the probabilities of held-out cases are, before and after calibration, and the Dice that is predicted of
them: what the report shows of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetkit.data.labels.legend import Legend
from unetkit.metrics.calibration import ConfidenceCounts, ConfidenceScores, Reliability
from unetkit.predict.calibration import Calibration, fit_calibration
from unetkit.predict.decide import Rule
from unetkit.predict.heldout import HeldOut, halves
from unetkit.predict.post.clean import plain_scores
from unetkit.predict.quality import Expected, Quality, raw_and_true


@dataclass(frozen=True)
class CalibrationReport:
    """Scores of probabilities before and after calibration, in the classes of masks.

    crossed: temperatures were fitted on one half of the cases and judged on the other, and the other way round; else
    (of fewer than four units: groups, or cases without one) on the same cases, which is kind to them.
    """

    names: tuple[str, ...]
    cases: int
    before: ConfidenceScores
    after: ConfidenceScores
    crossed: bool

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values, null for NaN: `cases`, `crossed`, and of `before` and `after` each ece, ece_mass,
        ece_by_class, brier, nll, a row for each class (ece, auc, ap), and the bins of `reliability`."""
        sides = {"before": self.before, "after": self.after}
        return {"cases": self.cases, "crossed": self.crossed} | {
            name: _plain(scores, self.names) for name, scores in sides.items()
        }


def calibration_report(
    cases: Sequence[HeldOut], legend: Legend, calibrations: Sequence[Calibration] | None = None
) -> CalibrationReport:
    """Honest scores of calibrated probabilities: by temperatures that were fitted on other cases, see
    `CalibrationReport`. legend: the network's. calibrations: of each case, what the other half of the cases (`halves`)
    taught, where that is known already."""
    crossed = halves(cases) is not None
    each = _crossed(cases, legend) if calibrations is None else calibrations
    before, after = _counts(legend), _counts(legend)
    for case, calibration in zip(cases, each, strict=True):
        shares_KX = case.probabilities()
        before.add(_plain_shares(shares_KX, legend), case.truth_X)
        after.add(_plain_shares(calibration.apply(shares_KX, legend.regions), legend), case.truth_X)
    return CalibrationReport(legend.plain.names, len(cases), before.scores(), after.scores(), crossed)


def _crossed(cases: Sequence[HeldOut], legend: Legend) -> list[Calibration]:
    parts, result = halves(cases), [Calibration()] * len(cases)
    if parts is None:
        return [fit_calibration(cases, legend)] * len(cases)
    for mine, others in (parts, parts[::-1]):
        taught = fit_calibration([cases[n] for n in others], legend)
        for n in mine:
            result[n] = taught
    return result


def _plain_shares(shares_KX: NDArray[np.float32], legend: Legend) -> NDArray[np.float32]:
    return plain_scores(shares_KX, legend).clip(0, 1)


@dataclass(frozen=True)
class QualityReport:
    """The Dice that was predicted of held-out cases without their truth, and the true one. rows: (case, predicted, low,
    high, true) of every case that has both."""

    rows: tuple[tuple[str, Expected, float], ...]

    @property
    def spearman(self) -> float:
        """Rank correlation of predicted and true Dice; NaN of fewer than three cases."""
        from scipy.stats import spearmanr

        if len(self.rows) < 3 or len({true for _, _, true in self.rows}) == 1:
            return math.nan
        predicted, true = [found.dice for _, found, _ in self.rows], [true for _, _, true in self.rows]
        return float(spearmanr(predicted, true).statistic) if len(set(predicted)) > 1 else math.nan

    def as_json(self) -> dict[str, Any]:
        """Plain values: `spearman`, `error` (the mean absolute one), `inside` (the share of cases in their interval),
        and `cases`, a row for each: case, predicted, low, high, true."""
        n = max(len(self.rows), 1)
        inside = sum(found.low <= true <= found.high for _, found, true in self.rows) / n
        error = sum(abs(found.dice - true) for _, found, true in self.rows) / n
        rows = [
            {"case": case, "predicted": round(found.dice, 4), "low": round(found.low, 4), "high": round(found.high, 4)}
            | {"true": round(true, 4)}
            for case, found, true in self.rows
        ]
        numbers = {"spearman": _number(self.spearman), "error": _number(error), "inside": _number(inside)}
        return numbers | {"cases": rows}


def quality_report(
    cases: Sequence[HeldOut], legend: Legend, taught: Sequence[tuple[Calibration, Rule, Quality | None]]
) -> QualityReport | None:
    """Of held-out cases, each with what the other half of them (`halves`) taught. None where that is too little."""
    rows = []
    for case, (calibration, rule, quality) in zip(cases, taught, strict=True):
        if quality is None:
            continue
        raw, true = raw_and_true(case, legend, calibration, rule)
        found = quality.expected(raw)
        if found is not None and not math.isnan(true):
            rows.append((case.id, found, true))
    return QualityReport(tuple(rows)) if rows else None


def _counts(legend: Legend) -> ConfidenceCounts:
    return ConfidenceCounts(len(legend.plain.classes), legend.regions)


def _plain(scores: ConfidenceScores, names: Sequence[str]) -> dict[str, Any]:
    return {
        "ece": _number(scores.ece),
        "ece_mass": _number(scores.top_mass.ece),
        "ece_by_class": _number(scores.ece_by_class),
        "brier": _number(scores.brier),
        "nll": _number(scores.nll),
        "classes": [
            {"class": name, "ece": _number(table.ece), "auc": _number(auc), "ap": _number(ap)}
            for name, table, auc, ap in zip(names, scores.classes, scores.auc, scores.ap, strict=True)
        ],
        "reliability": {
            "top": _bins(scores.top),
            "classes": [{"class": n, "bins": _bins(table)} for n, table in zip(names, scores.classes, strict=True)],
        },
    }


def _bins(table: Reliability) -> list[list[float]]:
    """[pixels, mean probability, share of which it came true] of each bin that has pixels."""
    rows = zip(table.pixels.tolist(), table.confidence.tolist(), table.share.tolist(), strict=True)
    return [[pixels, round(confidence, 6), round(share, 6)] for pixels, confidence, share in rows if pixels]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
