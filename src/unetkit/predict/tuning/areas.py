"""What becomes of small areas and holes of classes, tuned by mean Dice.

Which areas a setting removes, and what holes it fills, follows from tables of areas: a setting costs nothing. What
follows from tables is an approximation only where holes are filled of what is removed; the choice is scored once more
as it will be used.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.formats.base import ImageInfo
from unetkit.data.labels.legend import Legend
from unetkit.plan.parts import PostPlan
from unetkit.predict.calibration import Calibration
from unetkit.predict.decide import Rule, decide
from unetkit.predict.heldout import HeldOut
from unetkit.predict.post import cleaned_array
from unetkit.predict.post.clean import voxel_size
from unetkit.predict.post.components import components
from unetkit.predict.post.room import Room
from unetkit.predict.tuning.search import FEWEST, SURE, Scores, Setting, mean_of_units, search, units_of

SIZES = (0.25, 0.5, 1.0)
"""In units of the area than which 1 in 20 of the masks is smaller; and of that than which 1 in 100 is."""
ONE = 0.95
"""Share of the cases in which a class is a single area, for it to be asked whether only the largest stays."""
_NONE, _LARGEST = 0.0, -1.0


@dataclass(frozen=True)
class Areas:
    """The areas of one class in one case. sizes, right (areas,): their judged pixels, and those of them that are of the
    class; largest: of them; volumes: sizes in the unit of the spacing, all pixels. true: pixels of the class."""

    sizes: NDArray[np.float64]
    right: NDArray[np.float64]
    volumes: NDArray[np.float64]
    true: int

    def dice(self, smallest: float) -> float:
        """Of what is left without areas below a size, or (`_LARGEST`) with only the largest; 1 where nothing is."""
        if smallest == _LARGEST:
            kept = np.zeros(len(self.sizes), bool)
            kept[np.argmax(self.volumes) if len(self.sizes) else slice(0)] = True
        else:
            kept = self.volumes >= smallest * (1 - 1e-9)
        every = self.sizes[kept].sum() + self.true
        return float(2 * self.right[kept].sum() / every) if every else 1.0


def tune_areas(
    cases: Sequence[HeldOut],
    legend: Legend,
    post: PostPlan,
    rule: Rule,
    calibration: Calibration,
    fixed: Sequence[str],
) -> tuple[PostPlan | None, str]:
    """The post-processing of areas that raises the mean Dice, or None where none does by more than chance; and why."""
    removable = legend.regions or legend.background is not None
    asked = post.keep_largest or post.smallest or post.fill_holes  # the user's or the plan's: not to be outguessed
    if not removable or asked or {"smallest", "keep_largest"} & set(fixed):
        return None, ""
    classes = legend.foreground
    tables = [[_areas(_labels(case, legend, rule, calibration), case, legend, k) for k in classes] for case in cases]
    options = [_options(cases, legend, k) for k in classes]

    def score(setting: Setting) -> Scores:
        return np.array(
            [np.mean([areas.dice(s) for areas, s in zip(row, setting, strict=True)]) for row in tables], float
        )

    found = search((_NONE,) * len(classes), options, score, cases)
    chosen = _plan(post, legend, classes, found.setting) if found.better else post
    why = found.words("Dice without small areas", len(cases)) if found.better else ""
    if "fill_holes" not in fixed:
        filled = chosen.model_copy(update={"fill_holes": "all"})
        change = [
            _dice(c, legend, filled, rule, calibration) - _dice(c, legend, chosen, rule, calibration) for c in cases
        ]
        gain, error = mean_of_units(np.array(change), units_of(cases))
        if len(set(units_of(cases))) >= FEWEST and gain > SURE * error:
            chosen = filled
            why = "; ".join(filter(None, (why, f"with holes filled, Dice rose by {gain:.3f} ± {error:.3f}")))
    return (chosen, why) if chosen != post else (None, "")


def _plan(post: PostPlan, legend: Legend, classes: Sequence[int], setting: Setting) -> PostPlan:
    names = legend.names
    return post.model_copy(
        update={
            "keep_largest": tuple(names[k] for k, size in zip(classes, setting, strict=True) if size == _LARGEST),
            "smallest": {names[k]: size for k, size in zip(classes, setting, strict=True) if size > 0} or 0.0,
        }
    )


def _options(cases: Sequence[HeldOut], legend: Legend, k: int) -> list[float]:
    """What may become of areas of class k, from what the masks show of them."""
    volumes, single = list[float](), list[bool]()
    for case in cases:
        wanted_X = legend.where(case.truth_X, k)
        if wanted_X.any():
            found = _parts(wanted_X)[1:] * voxel_size(case.spacing)
            volumes += found.tolist()
            single.append(len(found) == 1)
    if not volumes:
        return []
    sizes = {float(f"{np.percentile(volumes, q) * step:.3g}") for q in (1, 5) for step in SIZES}
    return [_NONE, *sorted(sizes), *([_LARGEST] if np.mean(single) >= ONE else [])]


def _parts(wanted_X: NDArray[np.bool_]) -> NDArray[np.int64]:
    return components(
        lambda region: wanted_X[region.slices], (1,), wanted_X.shape, Room(Path(), sys.maxsize), "areas"
    ).sizes


def _areas(label_X: NDArray[np.uint8], case: HeldOut, legend: Legend, k: int) -> Areas:
    known_X, true_X, found_X = case.truth_X != IGNORE, legend.where(case.truth_X, k), legend.where(label_X, k)
    parts = components(lambda region: found_X[region.slices], (1,), found_X.shape, Room(Path(), sys.maxsize), "areas")
    ids_X = parts.read(Region.of(found_X.shape))
    sizes = np.bincount(ids_X[known_X], minlength=parts.count + 1)[1:]
    right = np.bincount(ids_X[true_X], minlength=parts.count + 1)[1:]
    volumes = parts.sizes[1:].astype(np.float64) * np.float64(voxel_size(case.spacing))
    return Areas(sizes.astype(float), right.astype(float), volumes, int(np.count_nonzero(true_X)))


def _labels(case: HeldOut, legend: Legend, rule: Rule, calibration: Calibration) -> NDArray[np.uint8]:
    shares_KX = calibration.apply(case.probabilities(), legend.regions)
    label_X: NDArray[np.uint8] = decide(torch.from_numpy(shares_KX), legend.regions, False, rule).numpy()
    return label_X


def _dice(case: HeldOut, legend: Legend, post: PostPlan, rule: Rule, calibration: Calibration) -> float:
    """Mean Dice of the classes that count, after the post-processing as users get it."""
    label_X = _labels(case, legend, rule, calibration)
    info = ImageInfo(label_X.shape, 1, False, "uint8", "grey", spacing=case.spacing)
    label_X = cleaned_array(label_X, legend, post, info)[0]
    known_X, values = case.truth_X != IGNORE, list[float]()
    for k in legend.foreground:
        found_X, true_X = legend.where(label_X, k) & known_X, legend.where(case.truth_X, k)
        every = int(np.count_nonzero(found_X)) + int(np.count_nonzero(true_X))
        values.append(2 * int(np.count_nonzero(found_X & true_X)) / every if every else 1.0)
    return float(np.mean(values)) if values else math.nan
