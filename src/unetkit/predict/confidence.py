"""How true the probabilities of held-out cases are, before and after calibration: what the report shows."""

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
from unetkit.predict.heldout import HeldOut, halves
from unetkit.predict.post.clean import plain_scores


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
