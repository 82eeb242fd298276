"""What the page says of confidence: whether probabilities are true, and how well the Dice of an image is foretold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unetkit.report.charts import Chart, Curve, Point, draw
from unetkit.report.facts import Facts, get, list_of_mappings, number, text

MOST_CHARTS = 4  # classes whose reliability is drawn
LEAST_SHARE, LEAST_PIXELS = 1e-5, 50  # a bin with less of all pixels says nothing
_MEASURES = {
    "ece": "Expected calibration error of the class that is chosen (15 bins)",
    "ece_by_class": "The same of each class, their mean",
    "brier": "Brier score",
    "nll": "Negative log-likelihood",
}


@dataclass(frozen=True)
class Confidence:
    """rows: (measure, before, after calibration). notes: sentences. classes: (name, ROC AUC, average precision)."""

    rows: tuple[tuple[str, float | None, float | None], ...]
    classes: tuple[tuple[str, float | None, float | None], ...]
    charts: tuple[Chart, ...]
    lead: str
    notes: tuple[str, ...]


def confidence_view(facts: Facts) -> Confidence | None:
    """From metrics.json; None of a run that records nothing of it. Raises nothing: what is missing stays out."""
    record, quality = facts.metrics.get("calibration"), facts.metrics.get("quality")
    record = record if isinstance(record, Mapping) else {}
    before, after = (side if isinstance(side := record.get(name), Mapping) else {} for name in ("before", "after"))
    rows = [(name, number(before.get(key)), number(after.get(key))) for key, name in _MEASURES.items()]
    rows = [row for row in rows if row[1] is not None or row[2] is not None]
    foretold = _foretold(facts, quality) if isinstance(quality, Mapping) else None
    if not rows and foretold is None:
        return None
    charts = [*_reliability(facts, before, after), *([foretold[0]] if foretold and foretold[0] else [])]
    classes = [
        (text(c.get("class"), "?"), number(c.get("auc")), number(c.get("ap"))) for c in _entries(after, "classes")
    ]
    notes = [_how(facts, record)] if rows else []
    return Confidence(
        tuple(rows), tuple(classes), tuple(charts), _lead(facts, rows), (*notes, *((foretold[1],) if foretold else ()))
    )


def _lead(facts: Facts, rows: Sequence[tuple[str, float | None, float | None]]) -> str:
    _, before, after = rows[0] if rows else ("", None, None)
    if before is None or after is None:
        return ""
    return (
        f"Where the network says 80 %, it should be right in 80 of 100 {facts.unit}. It is off by {100 * before:.2f} "
        f"percentage points in the mean, and by {100 * after:.2f} after calibration, which `unetkit predict` applies "
        "(unless told `--uncalibrated`)."
    )


def _how(facts: Facts, record: Mapping[str, Any]) -> str:
    cases = number(record.get("cases")) or 0
    then = "before the network was trained on them" if facts.joined else "that the network was not trained on"
    on = f"{cases:.0f} {facts.noun}{'s' * (cases != 1)} {then}"
    if record.get("crossed") is True:
        return f"Measured on {on}: of each half after calibration by the other half, so that nothing judges itself."
    return f"Measured on {on}, too few to be parted: calibration was fitted on the same, which is kind to it."


def _reliability(facts: Facts, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Chart]:
    """How often the network is right, by how sure it is: of the class that each pixel gets, and of single classes."""
    sides = (("after calibration", after, "s0"), ("before", before, "s1"))
    top = [Curve(name, _points(get(side, "reliability.top")), style, marks=True) for name, side, style in sides]
    charts = [
        draw("Sure and right", "probability of the class that is chosen", "share that is right", _with(top), (0, 1))
    ]
    names = [c.name for c in facts.foreground][:MOST_CHARTS]
    for name in names if len(facts.classes) > 2 or facts.regions else names[:1]:
        curves = [Curve(label, _points(_bins_of(side, name)), style, marks=True) for label, side, style in sides]
        charts.append(
            draw(f"{name}: foretold and true", f"probability of {name}", f"share that is {name}", _with(curves), (0, 1))
        )
    return [chart for chart in charts if chart is not None]


def _with(curves: Sequence[Curve]) -> list[Curve]:
    """The curves and, where there is any, the diagonal on which they would lie."""
    return [*curves, _diagonal(0.0)] if any(curve.points for curve in curves) else []


def _diagonal(low: float) -> Curve:
    return Curve("as it should be", ((low, low), (1.0, 1.0)), "faint")


def _bins_of(side: Mapping[str, Any], name: str) -> Any:
    entries = _entries(get(side, "reliability"), "classes")
    return next((entry.get("bins") for entry in entries if entry.get("class") == name), None)


def _points(bins: Any) -> tuple[Point, ...]:
    rows = [row for row in bins if isinstance(row, list) and len(row) == 3] if isinstance(bins, list) else []
    found = [[number(v) for v in row] for row in rows]
    known = [(n, x, y) for n, x, y in found if n is not None and x is not None and y is not None]
    least = max(LEAST_PIXELS, LEAST_SHARE * sum(n for n, _, _ in known))
    return tuple((round(x, 4), y) for n, x, y in known if n >= least)


def _foretold(facts: Facts, record: Mapping[str, Any]) -> tuple[Chart | None, str] | None:
    """Predicted against true Dice, and how good that is, in a sentence."""
    rows = _entries(record, "cases")
    pairs = [(number(row.get("predicted")), number(row.get("true"))) for row in rows]
    points = tuple((round(x, 3), y) for x, y in pairs if x is not None and y is not None)
    rank, error, inside = (number(record.get(name)) for name in ("spearman", "error", "inside"))
    if not points or error is None:
        return None
    low = math.floor(10 * min(min(point) for point in points)) / 10
    low = 0.0 if low < 0.3 else min(low, 0.9)
    cases = Curve(f"one {facts.noun} each", points, "points", marks=True)
    chart = draw(
        f"Dice of {facts.noun}s, foretold and true",
        "predicted Dice",
        "true Dice",
        [cases, _diagonal(low)],
        (low, 1.0),
        x_range=(low, 1.0),
    )
    order = "" if rank is None else f"their rank correlation with the true ones is {rank:.2f} (Spearman), "
    within = "" if inside is None else f"; {100 * inside:.0f} of 100 lie in their interval"
    return chart, (
        f"The Dice of {len(points)} {facts.noun}s was predicted without their masks, by a line that was drawn through "
        f"the other half: {order}the mean error is {error:.3f}{within}. `unetkit predict` writes such a prediction for "
        f"every {facts.noun} into `review.csv`, and names those to look at."
    )


def _entries(record: Any, name: str) -> list[Mapping[str, Any]]:
    return list_of_mappings(record.get(name)) if isinstance(record, Mapping) else []
