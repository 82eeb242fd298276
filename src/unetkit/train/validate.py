"""Validation over whole images, through the same loop that users' predictions go through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetkit.data.labels.legend import Legend
from unetkit.data.prepared.patches import PreparedCase
from unetkit.metrics.overlap import confusion, dice, per_class, region_confusions
from unetkit.nets.build import UNet
from unetkit.plan.plan import Plan
from unetkit.predict.load import options_of
from unetkit.predict.predictor import Predictor


@dataclass(frozen=True)
class Validation:
    """Dice per class (mean over the images that have it; None: no image has) and their mean over foreground classes."""

    dice: float | None
    per_class: dict[str, float | None]


def validate(net: UNet, cases: Sequence[PreparedCase], plan: Plan) -> Validation:
    """Predict every case whole and score it, class by class. `net` is left as it is."""
    legend = plan.data.legend
    predictor = Predictor(net, options_of(plan, tta=False), regions=legend.regions)
    rows = [_dice(case, predictor, legend) for case in cases]
    names, foreground = legend.plain.names, legend.plain.foreground
    means = [mean_or_none([float(row[k]) for row in rows]) for k in range(len(names))]
    scored = [means[k] for k in foreground]
    return Validation(
        dice=mean_or_none([value for value in scored if value is not None]),
        per_class=dict(zip(names, means, strict=True)),
    )


def _dice(case: PreparedCase, predictor: Predictor, legend: Legend) -> NDArray[np.float64]:
    """Dice of each class of one case (of objects and their borders: of objects), tile by tile; NaN where there is none.

    Regions that may overlap are scored one by one.
    """
    classes = len(legend.plain.names)
    count = region_confusions if legend.regions else confusion
    nothing = np.zeros(0, np.uint8)
    counts = count(nothing, nothing, classes)
    for piece in predictor.regions(case):
        counts += count(legend.merge(case.label(piece.region)), legend.merge(piece.label_X), classes)
    return per_class(dice, counts)


def mean_or_none(values: Sequence[float]) -> float | None:
    """Mean of the values that are numbers; None where there are none."""
    numbers = [v for v in values if not np.isnan(v)]
    return float(np.mean(numbers)) if numbers else None
