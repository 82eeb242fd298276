"""All the metrics of one image: what `scores.py` collects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from unetkit.metrics.scores import METRICS, MORE, SURFACE, WAVES, CaseScores
from unetkit.metrics.skeleton import cldice
from unetkit.metrics.surface import surface_scores
from unetkit.metrics.waves import wave_scores


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
    more: Sequence[str] | None = None,
) -> CaseScores:
    """All METRICS for one image: integer arrays of classes 0 … K−1 and the same shape, `ignore` where unlabelled; with
    `regions` bit masks of K classes that may overlap, each scored by itself.

    `tolerance` of the boundary F1 in pixels, of the finest axis where `spacing` is given. more: of `MORE`, what is
    computed beside; None: what is usual, see `usual`. Raises ValueError: shapes that differ, classes out of range, a
    metric that there is not, or not for so many axes.
    """
    names = usual(label_X.ndim) if more is None else tuple(more)
    if not regions:
        counts = confusion(label_X, prediction_X, classes, ignore)
        edges_K = boundary_f1(label_X, prediction_X, classes, tolerance, ignore, spacing)
        besides = _more(names, label_X, prediction_X, classes, ignore, spacing)
        return case_scores(case, counts, edges_K, group, image, besides)
    counts = region_confusions(label_X, prediction_X, classes, ignore)
    edges, apart = [], list[Mapping[str, Sequence[float]]]()
    for k in range(classes):
        truth_X, found_X = np.where(label_X == ignore, ignore, label_X >> k & 1), prediction_X >> k & 1
        edges.append(boundary_f1(truth_X, found_X, 2, tolerance, ignore, spacing)[1])
        apart.append(_more(names, truth_X, found_X, 2, ignore, spacing))
    together = {name: [found[name][1] for found in apart] for name in names}
    return case_scores(case, counts, np.array(edges), group, image, together)


def usual(ndim: int) -> tuple[str, ...]:
    """The metrics of `MORE` that are usual for signals (onsets and offsets) and for volumes (surfaces)."""
    return {1: WAVES, 3: SURFACE}.get(ndim, ())


def possible(ndim: int) -> tuple[str, ...]:
    """The metrics of `MORE` that there are for so many axes."""
    return tuple(name for name in MORE if (name in WAVES) == (ndim == 1) and (name != "cldice" or ndim > 1))


def _more(
    names: Sequence[str],
    label_X: NDArray[Any],
    prediction_X: NDArray[Any],
    classes: int,
    ignore: int,
    spacing: Sequence[float] | None,
) -> Mapping[str, Sequence[float]]:
    """Metric → a value per class."""
    if unknown := [name for name in names if name not in possible(label_X.ndim)]:
        raise ValueError(f"there is no metric '{unknown[0]}' for {label_X.ndim} axes")
    groups: dict[str, Sequence[Any]] = {}
    if {*SURFACE, "hausdorff"} & set(names):
        groups |= dict.fromkeys(
            (*SURFACE, "hausdorff"), surface_scores(label_X, prediction_X, classes, spacing, None, ignore)
        )
    if set(WAVES) & set(names):
        period = None if spacing is None else spacing[0]
        groups |= dict.fromkeys(WAVES, wave_scores(label_X, prediction_X, classes, period, None, ignore))
    lines = {"cldice": cldice(label_X, prediction_X, classes, ignore).tolist()} if "cldice" in names else {}
    return {name: lines[name] if name in lines else [getattr(one, name) for one in groups[name]] for name in names}


def case_scores(
    case: str,
    counts: Counts,
    boundary_f1_K: NDArray[np.float64],
    group: str | None = None,
    image: Mapping[str, float] | None = None,
    more: Mapping[str, Sequence[float]] | None = None,
) -> CaseScores:
    """As `score_case`, from the confusion table (of regions: their tables), the boundary F1 per class, and what was
    computed beside them."""
    values = (*(per_class(measure, counts) for measure in (dice, iou, precision, recall)), boundary_f1_K)
    named = dict(zip(METRICS, values, strict=True)) | dict(more or {})
    return CaseScores(
        case=case,
        classes={name: tuple(map(float, value)) for name, value in named.items()},
        truth_pixels=tuple(map(int, counts.sum(1) if counts.ndim == 2 else counts[:, 1].sum(1))),
        group=group,
        image=dict(image or {}),
    )
