"""Scores as the page shows them: a row per class and a row per case, from scores.json, or else from metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from unetkit.report.facts import Facts, get, number, text

# Order and names of the columns; whatever else scores.json holds per case is left to scores.csv.
METRICS = {"dice": "Dice", "iou": "IoU", "precision": "Precision", "recall": "Recall", "boundary_f1": "Boundary F1"}


@dataclass(frozen=True)
class Measure:
    """A mean with its 95 % interval (None: not known) and the number of cases it rests on (0: not known)."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    cases: int = 0


@dataclass(frozen=True)
class ClassScore:
    """One class: its name, its display colour, a Measure per metric, and the Dice of every case."""

    name: str
    colour: str | None
    measures: Mapping[str, Measure]
    dices: tuple[float, ...]


@dataclass(frozen=True)
class CaseScore:
    """One case: means over its foreground classes per metric, and Dice per class; None where not defined."""

    case: str
    group: str
    metrics: Mapping[str, float | None]
    per_class: Mapping[str, float | None]


@dataclass(frozen=True)
class ScoreView:
    """Everything that the page says about scores. `mean` is over foreground classes; empty without any record."""

    mean: Measure
    classes: tuple[ClassScore, ...]
    cases: tuple[CaseScore, ...]
    metrics: tuple[str, ...]
    source: str


def read_scores(facts: Facts) -> ScoreView:
    """The scores of the run, from the best record there is. Raises nothing: what is not recorded stays empty."""
    rows = [row for row in facts.scores.get("rows") or [] if isinstance(row, dict)]
    if rows:
        return _from_rows(facts, rows)
    best = get(facts.metrics, "best", {})
    dice, per_class = number(get(best, "dice")), get(best, "per_class", {})
    classes = [
        ClassScore(c.name, c.colour, {"dice": Measure(number(get(per_class, c.name)))}, ())
        for c in facts.foreground
        if isinstance(per_class, Mapping) and number(per_class.get(c.name)) is not None
    ]
    return ScoreView(Measure(dice), tuple(classes), (), ("dice",), "metrics.json" if dice is not None else "")


def _from_rows(facts: Facts, rows: list[dict[str, Any]]) -> ScoreView:
    metrics = tuple(m for m in METRICS if any(m in row for row in rows))
    known = {c.name: c for c in facts.foreground}
    hidden = {c.name for c in facts.classes if not c.foreground}
    names = dict.fromkeys(str(row.get("class")) for row in rows if str(row.get("class")) not in hidden)
    by_case: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if str(row.get("class")) in names:
            by_case.setdefault(str(row.get("case")), []).append(row)
    groups = {row["case"]: row.get("group", "") for row in facts.split}
    cases = tuple(
        CaseScore(
            case=case,
            group=text(own[0].get("group"), groups.get(case, "")),
            metrics={m: _mean([number(row.get(m)) for row in own]) for m in metrics},
            per_class={str(row.get("class")): number(row.get("dice")) for row in own},
        )
        for case, own in by_case.items()
    )
    classes = []
    for name in names:
        own = [row for row in rows if str(row.get("class")) == name]
        dices = tuple(d for row in own if (d := number(row.get("dice"))) is not None)
        measures = {m: _measure(facts.scores, name, m, [number(row.get(m)) for row in own]) for m in metrics}
        classes.append(ClassScore(name, known[name].colour if name in known else None, measures, dices))
    mean = _measure(facts.scores, "mean", "dice", [case.metrics.get("dice") for case in cases])
    return ScoreView(mean, tuple(classes), cases, metrics, "scores.json")


def _measure(scores: Mapping[str, Any], name: str, metric: str, values: list[float | None]) -> Measure:
    """The summary's mean and interval for a class and metric; without it the plain mean, and no interval."""
    defined = [v for v in values if v is not None]
    for entry in scores.get("summary") or []:
        if isinstance(entry, dict) and entry.get("class") == name and entry.get("metric") == metric:
            low, high = number(entry.get("low")), number(entry.get("high"))
            return Measure(number(entry.get("mean")), low, high, int(number(entry.get("n")) or len(defined)))
    return Measure(_mean(values), cases=len(defined))


def _mean(values: list[float | None]) -> float | None:
    defined = [v for v in values if v is not None]
    return fmean(defined) if defined else None
