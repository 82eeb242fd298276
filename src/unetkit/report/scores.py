"""Scores as the page shows them: a row per class and a row per case, from scores.json, or else from metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unetkit.metrics.scores import IMAGE_METRICS
from unetkit.report.facts import Facts, get, list_of_mappings, number, text

# Order and names of the columns. Measures of whole images, such as V_rand, stand apart.
METRICS = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "Precision",
    "recall": "Recall",
    "boundary_f1": "Boundary F1",
    "hd95": "HD95",
    "assd": "ASSD",
    "surface_dice": "Surface Dice",
    "onset_f1": "Onset F1",
    "offset_f1": "Offset F1",
    "onset_error": "Onset error (s)",
    "offset_error": "Offset error (s)",
}


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
    """Everything that the page says about scores: nothing but `mean`, or not even that, where no more is recorded.

    `mean` is the Dice over foreground classes; `whole` holds measures of whole images (V_rand) by name; `interval` says
    how intervals were found; `notes` what was left out.
    """

    mean: Measure
    classes: tuple[ClassScore, ...] = ()
    cases: tuple[CaseScore, ...] = ()
    metrics: tuple[str, ...] = ("dice",)
    whole: Mapping[str, Measure] = field(default_factory=dict)
    interval: str = ""
    notes: tuple[str, ...] = ()


def read_scores(facts: Facts) -> ScoreView:
    """The scores of the run, from the best record there is. Raises nothing: what is not recorded stays empty."""
    scores = facts.scores
    records = list_of_mappings(scores.get("cases"))
    if not records:
        return _from_metrics(facts)
    groups = {row["case"]: row.get("group", "") for row in facts.split}
    rows = list_of_mappings(scores.get("rows"))
    dice = {(text(row.get("case"), "?"), text(row.get("class"), "?")): number(row.get("dice")) for row in rows}
    cases = tuple(
        CaseScore(
            case=(case := text(record.get("case"), "?")),
            group=text(record.get("group"), groups.get(case, "")),
            metrics={m: number(record.get(m)) for m in METRICS},
            per_class={c.name: dice.get((case, c.name)) for c in facts.foreground},
        )
        for record in records
    )
    metrics = tuple(m for m in METRICS if any(case.metrics[m] is not None for case in cases))
    means, by_class = _summaries(list_of_mappings(scores.get("summary")))
    classes = tuple(
        ClassScore(
            name=c.name,
            colour=c.colour,
            measures={m: by_class.get((c.name, m), Measure()) for m in METRICS},
            dices=tuple(d for case in cases if (d := case.per_class[c.name]) is not None),
        )
        for c in facts.foreground
    )
    notes = scores.get("notes")
    return ScoreView(
        mean=means.get("dice", Measure()),
        classes=classes,
        cases=cases,
        metrics=metrics or ("dice",),
        whole={IMAGE_METRICS.get(name, name): measure for name, measure in means.items() if name not in METRICS},
        interval=text(scores.get("interval"), ""),
        notes=tuple(str(note) for note in notes) if isinstance(notes, list) else (),
    )


def _summaries(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, Measure], dict[tuple[str, str], Measure]]:
    """Means by metric, and by class and metric. The means come first, under the class "mean" (which may be the name of
    a class too: its rows follow)."""
    means: dict[str, Measure] = {}
    by_class: dict[tuple[str, str], Measure] = {}
    for row in rows:
        name, metric, measure = text(row.get("class"), "?"), text(row.get("metric"), "?"), _measure(row)
        if name == "mean" and metric not in means and not by_class:
            means[metric] = measure
        else:
            by_class[name, metric] = measure
    return means, by_class


def _from_metrics(facts: Facts) -> ScoreView:
    """The best validation on the way: means without intervals."""
    per_class = get(facts.metrics, "best.per_class")
    classes = tuple(
        ClassScore(c.name, c.colour, {"dice": Measure(value)}, ())
        for c in facts.foreground
        if (value := number(_child(per_class, c.name))) is not None
    )
    return ScoreView(Measure(number(get(facts.metrics, "best.dice"))), classes)


def _child(values: Any, name: str) -> Any:
    """A member by its exact name: names of the user's may hold dots."""
    return values.get(name) if isinstance(values, Mapping) else None


def _measure(row: Mapping[str, Any]) -> Measure:
    mean, low, high, count = (number(row.get(key)) for key in ("mean", "low", "high", "n"))
    return Measure(mean, low, high, int(count or 0))
