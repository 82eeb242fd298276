"""The decoding of a run, chosen by held-out predictions alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region
from unetkit.data.labels.legend import Legend
from unetkit.plan.parts import PostPlan
from unetkit.predict.calibration import Calibration
from unetkit.predict.decoding import Decoding
from unetkit.predict.heldout import HeldOut
from unetkit.predict.tuning.areas import tune_areas
from unetkit.predict.tuning.classes import tune_bias, tune_thresholds
from unetkit.predict.tuning.objects import tune_objects

PIXELS = 200_000
"""Pixels that are looked at in a second: what objects and areas take on one core, about, over all that is tried."""
FEWEST = 8
"""Cases that are looked at at least; of larger ones a window of the middle."""


def tune_decoding(
    cases: Sequence[HeldOut],
    legend: Legend,
    post: PostPlan,
    calibration: Calibration | None = None,
    fixed: Sequence[str] = (),
    seconds: float = 60.0,
) -> Decoding:
    """How labels and objects are decided best, by cases that the network never saw; neutral where nothing is better
    than the plan by more than chance, and where there are fewer than four groups (or cases without one).

    legend: the network's. post: what the plan does with areas and objects. calibration: of the probabilities, which
    comes first. fixed: fields of `post` that the user chose, and that stay. seconds: about the longest it takes on one
    core; it is kept to by looking at fewer pixels, so that equal input gives equal output.

    Of numbered objects their mean average precision is raised (a threshold on the probability of objects, the least
    size, and where objects part that touch); of classes their mean Dice (a bias on each logarithm of a probability), of
    regions that may overlap theirs (a threshold for each); then, with the same Dice, what becomes of small areas.
    """
    calibration = calibration or Calibration()
    if not cases:
        return Decoding()
    few = lighter(cases, PIXELS * seconds)
    how = post.objects_of(legend)
    if legend.kind == "instances" and how != "none":
        tuned, found = tune_objects(few, legend, post, calibration, fixed)
        why = found.words("AP of objects", len(few))
        if not found.better:
            return Decoding(why=why)
        if legend.touching:
            return Decoding(post=tuned, why=why)
        ground, tuned = tuned.ground, tuned.model_copy(update={"ground": post.ground})
        bias = (0.0, round(math.log((1 - ground) / ground), 4)) if ground != post.ground else ()
        return Decoding(bias=bias, post=tuned if tuned != post else None, why=why)
    if legend.touching:
        return Decoding()
    decoding = (tune_thresholds if legend.regions else tune_bias)(few, legend, calibration, seconds)
    areas, why = tune_areas(few, legend, post, decoding.rule(legend, post), calibration, fixed)
    return decoding.model_copy(update={"post": areas, "why": "; ".join(filter(None, (decoding.why, why)))})


def lighter(cases: Sequence[HeldOut], pixels: float) -> list[HeldOut]:
    """Cases of about so many pixels in all: evenly over all of them, of large ones a window of the middle."""
    most = max(1, int(pixels / min(FEWEST, len(cases))))
    smaller = [case if case.truth_X.size <= most else _middle(case, most) for case in cases]
    mean = sum(case.truth_X.size for case in smaller) / len(smaller)
    count = min(len(cases), max(FEWEST, int(pixels / max(1.0, mean))))
    if count >= len(cases):
        return smaller
    return [smaller[k] for k in sorted({int(k) for k in np.linspace(0, len(cases) - 1, count).round()})]


def _middle(case: HeldOut, most: int) -> HeldOut:
    shape = list(case.truth_X.shape)
    while math.prod(shape) > most:
        longest = int(np.argmax(shape))
        shape[longest] = max(1, shape[longest] // 2)
    start = tuple((n - kept) // 2 for n, kept in zip(case.truth_X.shape, shape, strict=True))
    part = Region(start, tuple(a + kept for a, kept in zip(start, shape, strict=True)))
    window = Region(
        tuple(a + b for a, b in zip(case.window.start, part.start, strict=True)),
        tuple(a + b for a, b in zip(case.window.start, part.stop, strict=True)),
    )
    return replace(
        case,
        window=window,
        truth_X=case.truth_X[part.slices],
        ids_X=None if case.ids_X is None else case.ids_X[part.slices],
        probabilities=_part_of(case.probabilities, part),
    )


def _part_of(probabilities: Callable[[], NDArray[np.float32]], part: Region) -> Callable[[], NDArray[np.float32]]:
    def read() -> NDArray[np.float32]:
        return np.ascontiguousarray(probabilities()[(slice(None), *part.slices)])

    return read
