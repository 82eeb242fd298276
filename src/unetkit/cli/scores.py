"""Scores as tables that fit 80 columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unetkit.metrics.scores import IMAGE_METRICS, METRICS, MORE, CaseScores, Scores
from unetkit.metrics.summary import Summary

# Of many images, so many with the lowest Dice are listed.
WORST = 5

_LABELS = {
    "dice": "Dice",
    "iou": "IoU",
    "boundary_f1": "boundary\nF1",
    "v_rand": "V_rand",
    "v_info": "V_info",
    "ap50": "AP50",
    "ap50_90": "AP50-90",
    "hd95": "HD95",
    "assd": "ASSD",
    "surface_dice": "surface\nDice",
    "hausdorff": "Hausdorff",
    "cldice": "clDice",
    "onset_f1": "onset\nF1",
    "offset_f1": "offset\nF1",
    "onset_error": "onset\nerror",
    "offset_error": "offset\nerror",
    "aji": "AJI",
    "seg": "SEG",
    "voi": "VOI",
}


def show_scores(console: Console, scores: Scores) -> None:
    """Mean and interval per class and metric, then the images with the lowest Dice."""
    console.print(_summary(scores, METRICS))
    for start in range(len(METRICS), len(scores.metrics), len(METRICS)):
        console.print(_summary(scores, scores.metrics[start : start + len(METRICS)]))
    for name in scores.metrics:
        if name in MORE:
            console.print(Text(f"{_label(name).replace(chr(10), ' ')}: {MORE[name]}", style="dim"))
    for metric in _image_metrics(scores):
        value = scores.mean(metric)
        name = IMAGE_METRICS.get(metric, _label(metric))
        console.print(Text(f"{name}: {_number(value.mean)}  {_interval(value)}".rstrip()))
    units = "groups" if scores.by_group else "images"
    left_out = "* not in the mean. " if len(scores.foreground) < len(scores.class_names) else ""
    console.print(Text(f"{left_out}Below: 95 % interval, bootstrap over {units}; n: images.", style="dim"))
    ranked = sorted(
        (case for case in scores.cases if not math.isnan(scores.case_mean(case))),
        key=lambda case: (scores.case_mean(case), case.case),
    )
    if len(ranked) > 1:
        console.print()
        few = len(ranked) <= 2 * WORST
        which = "Images" if few else f"The {WORST} of {len(ranked)} images"
        console.print(Text(f"{which} with the lowest Dice{' first' if few else ''}:"))
        console.print(_cases(scores, ranked if few else ranked[:WORST]))
    console.print()


def _summary(scores: Scores, metrics: Sequence[str]) -> Table:
    table = _table("class", metrics)
    table.add_column("n", justify="right")
    if len(scores.class_names) > 1:
        means = [scores.mean(metric) for metric in metrics]
        table.add_row(Text("mean", style="bold"), *(_value(m, "bold") for m in means), str(means[0].n))
    for index, name in enumerate(scores.class_names):
        counts = index in scores.foreground
        title = Text(name) if counts else Text(f"{name} *", style="dim")
        values = [scores.class_mean(metric, index) for metric in metrics]
        table.add_row(title, *(_value(value, "" if counts else "dim") for value in values), str(values[0].n))
    return table


def _cases(scores: Scores, ranked: Sequence[CaseScores]) -> Table:
    metrics = (*METRICS, *_image_metrics(scores)[:2])
    table = _table("image", metrics)
    for case in ranked:
        values: Mapping[str, float] = {m: scores.case_mean(case, m) for m in METRICS} | dict(case.image)
        table.add_row(Text(case.case), *(Text(_number(values.get(metric, math.nan))) for metric in metrics))
    return table


def _image_metrics(scores: Scores) -> list[str]:
    """Metrics of whole images; the thresholds at which they are best are left to the files."""
    return [name for name in scores.image_metrics() if not name.endswith("threshold")]


def _table(title: str, metrics: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(title, overflow="fold")
    for metric in metrics:
        table.add_column(_label(metric), justify="right", no_wrap=True)
    return table


def _value(summary: Summary, style: str) -> Text:
    return Text.assemble((_number(summary.mean), style), ("\n" + _interval(summary), "dim"))


def _interval(summary: Summary) -> str:
    return "" if math.isnan(summary.low) else f"{_short(summary.low)}–{_short(summary.high)}"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.3g}"


def _label(metric: str) -> str:
    return _LABELS.get(metric, metric.replace("_", " "))
