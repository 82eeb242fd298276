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

from unetkit.core.files import write_json, write_text
from unetkit.metrics.summary import Summary, summarise

METRICS = ("dice", "iou", "precision", "recall", "boundary_f1")
SURFACE = ("hd95", "assd", "surface_dice")
WAVES = ("onset_f1", "offset_f1", "onset_error", "offset_error")
MORE = {
    "hd95": "95th percentile of the Hausdorff distance, in the unit of the spacing (else pixels)",
    "assd": "average symmetric surface distance, in the unit of the spacing (else pixels)",
    "surface_dice": "share of the surfaces within 2 pixels of each other",
    "hausdorff": "Hausdorff distance, in the unit of the spacing (else pixels)",
    "cldice": "centre-line Dice, of thin structures in images and volumes",
    "onset_f1": "F1 of the onsets of a signal's intervals, within 150 ms",
    "offset_f1": "F1 of the offsets of a signal's intervals, within 150 ms",
    "onset_error": "mean error of the onsets that were found, in seconds; late is positive",
    "offset_error": "mean error of the offsets that were found, in seconds; late is positive",
}
"""Metrics of classes beside `METRICS`, which are computed where they are asked for or usual."""
IMAGE_METRICS = {
    "v_rand": "V_rand",
    "v_info": "V_info",
    "ap50": "objects, AP at IoU 0.5",
    "ap50_90": "objects, AP, mean of IoU 0.5 … 0.9",
    "object_f1": "objects, F1 at IoU 0.5",
    "pq": "objects, panoptic quality",
    "aji": "objects, aggregated Jaccard index",
    "seg": "objects, SEG",
    "voi": "objects, variation of information (bits, 0 is best)",
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

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of classes: `METRICS`, and what was computed beside them, in order of first use."""
        return tuple(dict.fromkeys([*METRICS, *(name for case in self.cases for name in case.classes)]))

    def mean(self, metric: str = "dice") -> Summary:
        """Mean over the foreground classes of each class's mean over images; or of an image's own metric (V_rand)."""
        if metric in self.metrics:
            return self._summarise([[_value(case, metric, k) for k in self.foreground] for case in self.cases])
        return self._summarise([[case.image.get(metric, math.nan)] for case in self.cases])

    def class_mean(self, metric: str, index: int) -> Summary:
        """Mean over images for one class."""
        return self._summarise([[_value(case, metric, index)] for case in self.cases])

    def case_mean(self, case: CaseScores, metric: str = "dice") -> float:
        """Mean over the foreground classes that this image has in truth or prediction; NaN where it has none."""
        values = [v for k in self.foreground if not math.isnan(v := _value(case, metric, k))]
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
                **{metric: _plain(_value(case, metric, k)) for metric in self.metrics},
            }
            for case in self.cases
            for k, name in enumerate(self.class_names)
        ]

    def summary_rows(self) -> list[Row]:
        """One row per class and metric: class, metric, mean, low, high, n, missing (images with and without a value).

        The first rows are the means over the foreground classes; their class is called "mean".
        """
        rows = [_summary_row("mean", metric, self.mean(metric)) for metric in (*self.metrics, *self.image_metrics())]
        for k, name in enumerate(self.class_names):
            rows += [_summary_row(name, metric, self.class_mean(metric, k)) for metric in self.metrics]
        return rows

    def case_rows(self) -> list[Row]:
        """One row per image: case, group, the means over its foreground classes, and its own metrics (V_rand)."""
        return [
            {
                "case": case.case,
                "group": case.group,
                **{metric: _plain(self.case_mean(case, metric)) for metric in self.metrics},
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
        columns = ["case", "group", "class", "truth_pixels", *self.metrics, *extra]
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


def _value(case: CaseScores, metric: str, index: int) -> float:
    """NaN for a metric that was not computed for this image."""
    return case.classes[metric][index] if metric in case.classes else math.nan


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
