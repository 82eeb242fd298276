"""The score table: per image and class, with means and their intervals; as rows, as CSV, as JSON."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetkit.core.files import write_json, write_text
from unetkit.metrics.boundary import TOLERANCE, boundary_f1
from unetkit.metrics.overlap import (
    IGNORE,
    Counts,
    confusion,
    dice,
    iou,
    per_class,
    precision,
    recall,
    region_confusions,
)
from unetkit.metrics.summary import Summary, summarise

METRICS = ("dice", "iou", "precision", "recall", "boundary_f1")
IMAGE_METRICS = {
    "v_rand": "V_rand",
    "v_info": "V_info",
    "ap50": "objects, AP at IoU 0.5",
    "ap50_90": "objects, AP, mean of IoU 0.5 … 0.9",
    "object_f1": "objects, F1 at IoU 0.5",
    "pq": "objects, panoptic quality",
}
"""What the metrics of whole images are called."""

Row = dict[str, str | int | float | None]


@dataclass(frozen=True)
class CaseScores:
    """Scores of one image: per class (NaN where a class says nothing), and of the image as a whole (such as V_rand)."""

    case: str
    classes: Mapping[str, tuple[float, ...]]  # metric → one value per class
    truth_pixels: tuple[int, ...]  # per class
    group: str | None = None
    image: Mapping[str, float] = field(default_factory=dict)  # metric → value


@dataclass(frozen=True)
class Scores:
    """Scores of a set of images. `foreground`: the indices of the classes that count in means over classes.

    notes: what a reader of the scores must know, in sentences (images that were left out, and why).
    """

    class_names: tuple[str, ...]
    foreground: tuple[int, ...]
    cases: tuple[CaseScores, ...]
    notes: tuple[str, ...] = ()

    @property
    def by_group(self) -> bool:
        """Whether intervals draw whole groups: where any image's group is known."""
        return any(case.group is not None for case in self.cases)

    def mean(self, metric: str = "dice") -> Summary:
        """Mean over the foreground classes of each class's mean over images; or of an image's own metric (V_rand)."""
        if metric in METRICS:
            return self._summarise([[case.classes[metric][k] for k in self.foreground] for case in self.cases])
        return self._summarise([[case.image.get(metric, math.nan)] for case in self.cases])

    def class_mean(self, metric: str, index: int) -> Summary:
        """Mean over images for one class."""
        return self._summarise([[case.classes[metric][index]] for case in self.cases])

    def case_mean(self, case: CaseScores, metric: str = "dice") -> float:
        """Mean over the foreground classes that this image has in truth or prediction; NaN where it has none."""
        values = [v for k in self.foreground if not math.isnan(v := case.classes[metric][k])]
        return sum(values) / len(values) if values else math.nan

    def image_metrics(self) -> tuple[str, ...]:
        """The names of the metrics of whole images, in order of first use."""
        return tuple(dict.fromkeys(name for case in self.cases for name in case.image))

    def rows(self) -> list[Row]:
        """One row per image and class: case, group, class, truth_pixels, the metrics (None where there is no value)."""
        return [
            {
                "case": case.case,
                "group": case.group,
                "class": name,
                "truth_pixels": case.truth_pixels[k],
                **{metric: _plain(case.classes[metric][k]) for metric in METRICS},
            }
            for case in self.cases
            for k, name in enumerate(self.class_names)
        ]

    def summary_rows(self) -> list[Row]:
        """One row per class and metric: class, metric, mean, low, high, n, missing (images with and without a value).

        The first rows are the means over the foreground classes; their class is called "mean".
        """
        rows = [_summary_row("mean", metric, self.mean(metric)) for metric in (*METRICS, *self.image_metrics())]
        for k, name in enumerate(self.class_names):
            rows += [_summary_row(name, metric, self.class_mean(metric, k)) for metric in METRICS]
        return rows

    def case_rows(self) -> list[Row]:
        """One row per image: case, group, the means over its foreground classes, and its own metrics (V_rand)."""
        return [
            {
                "case": case.case,
                "group": case.group,
                **{metric: _plain(self.case_mean(case, metric)) for metric in METRICS},
                **{metric: _plain(value) for metric, value in case.image.items()},
            }
            for case in self.cases
        ]

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values, with null for NaN.

        `classes`, `foreground` (names), `interval` (how it is made), `notes`, and the three kinds of rows: `summary`,
        `cases` and `rows`, as `summary_rows`, `case_rows` and `rows` give them.
        """
        return {
            "classes": list(self.class_names),
            "foreground": [self.class_names[k] for k in self.foreground],
            "interval": f"95 % percentile bootstrap over {'groups' if self.by_group else 'images'}",
            "notes": list(self.notes),
            "summary": self.summary_rows(),
            "cases": self.case_rows(),
            "rows": self.rows(),
        }

    def as_csv(self) -> str:
        """`rows()` as CSV, with the metrics of whole images in further columns; empty where there is no value."""
        extra = self.image_metrics()
        columns = ["case", "group", "class", "truth_pixels", *METRICS, *extra]
        image = {case.case: {name: _plain(case.image.get(name, math.nan)) for name in extra} for case in self.cases}
        out = io.StringIO()
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        for row in self.rows():
            writer.writerow({**row, **image[str(row["case"])]})
        return out.getvalue()

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write `scores.csv` and `scores.json` into the folder, each whole or not at all; returns their paths.

        Raises MachineError for a full disk or an unwritable folder.
        """
        table, full = Path(folder) / "scores.csv", Path(folder) / "scores.json"
        write_text(table, self.as_csv())
        write_json(full, self.as_json())
        return table, full

    def _summarise(self, values: Sequence[Sequence[float]]) -> Summary:
        groups = [case.group for case in self.cases] if self.by_group else None
        width = len(values[0]) if values else 1
        return summarise(np.array(values, np.float64).reshape(len(values), width), groups)


def score_case(
    case: str,
    label_X: NDArray[Any],
    prediction_X: NDArray[Any],
    classes: int,
    group: str | None = None,
    image: Mapping[str, float] | None = None,
    tolerance: float = TOLERANCE,
    ignore: int = IGNORE,
    spacing: Sequence[float] | None = None,
    regions: bool = False,
) -> CaseScores:
    """All METRICS for one image: integer arrays of classes 0 … K−1 and the same shape, `ignore` where unlabelled; with
    `regions` bit masks of K classes that may overlap, each scored by itself.

    `tolerance` of the boundary F1 in pixels, of the finest axis where `spacing` is given. Raises ValueError: shapes
    that differ, classes out of range.
    """
    if not regions:
        counts = confusion(label_X, prediction_X, classes, ignore)
        edges_K = boundary_f1(label_X, prediction_X, classes, tolerance, ignore, spacing)
        return case_scores(case, counts, edges_K, group, image)
    counts = region_confusions(label_X, prediction_X, classes, ignore)
    edges = []
    for k in range(classes):
        truth_X = np.where(label_X == ignore, ignore, label_X >> k & 1)
        edges.append(boundary_f1(truth_X, prediction_X >> k & 1, 2, tolerance, ignore, spacing)[1])
    return case_scores(case, counts, np.array(edges), group, image)


def case_scores(
    case: str,
    counts: Counts,
    boundary_f1_K: NDArray[np.float64],
    group: str | None = None,
    image: Mapping[str, float] | None = None,
) -> CaseScores:
    """As `score_case`, from the confusion table (of regions: their tables) and the boundary F1 per class."""
    values = (*(per_class(measure, counts) for measure in (dice, iou, precision, recall)), boundary_f1_K)
    return CaseScores(
        case=case,
        classes={name: tuple(map(float, value)) for name, value in zip(METRICS, values, strict=True)},
        truth_pixels=tuple(map(int, counts.sum(1) if counts.ndim == 2 else counts[:, 1].sum(1))),
        group=group,
        image=dict(image or {}),
    )


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _summary_row(name: str, metric: str, summary: Summary) -> Row:
    return {
        "class": name,
        "metric": metric,
        "mean": _plain(summary.mean),
        "low": _plain(summary.low),
        "high": _plain(summary.high),
        "n": summary.n,
        "missing": summary.missing,
    }
