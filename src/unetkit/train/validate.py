"""Validation over whole images, through the same loop that users' predictions go through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetkit.data.patches import PreparedCase
from unetkit.metrics.overlap import confusion, dice
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
    predictor = Predictor(net, options_of(plan, tta=False))
    legend = plan.data.legend
    rows: list[NDArray[np.float64]] = []
    for case in cases:
        table = sum(
            confusion(case.label(piece.region), piece.label_X, len(legend.classes)) for piece in predictor.regions(case)
        )
        rows.append(dice(np.asarray(table)))
    means = [mean_or_none([float(row[k]) for row in rows]) for k in range(len(legend.classes))]
    scored = [means[k] for k in legend.foreground]
    return Validation(
        dice=mean_or_none([value for value in scored if value is not None]),
        per_class=dict(zip(legend.names, means, strict=True)),
    )


def mean_or_none(values: Sequence[float]) -> float | None:
    """Mean of the values that are numbers; None where there are none."""
    numbers = [v for v in values if not np.isnan(v)]
    return float(np.mean(numbers)) if numbers else None
