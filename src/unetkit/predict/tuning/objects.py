"""How objects are told apart, tuned: how sure a pixel must belong to one, where they part, how small they may be.

A case is divided at every valley once for each ground; what a setting makes of that follows from tables (which basins
overlap which true objects, and by how much), so that hundreds of settings are scored exactly, without a pixel.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.formats.base import ImageInfo
from unetkit.data.labels.depths import depth_table
from unetkit.data.labels.legend import Legend
from unetkit.metrics.instances import THRESHOLDS, object_scores
from unetkit.plan.objects import DIP, radius
from unetkit.plan.parts import PostPlan
from unetkit.predict.calibration import Calibration
from unetkit.predict.decide import Rule, decide
from unetkit.predict.heldout import HeldOut
from unetkit.predict.post import cleaned_array
from unetkit.predict.post.clean import voxel_size
from unetkit.predict.post.components import Parts, components
from unetkit.predict.post.divide import Basins, basins, numbers, thresholds_of
from unetkit.predict.post.room import Room
from unetkit.predict.tuning.search import Found, Scores, Setting, search

FIELDS = ("dip", "neck", "ground", "smallest")
GROUNDS = (0.4, 0.5, 0.6, 0.7)
NECKS = (0.1, 0.15, 0.2, 0.3, 0.4, 1.0)
DIPS = (0.5, 1.0, 1.5, 2.0, 3.0)
"""In units of what the smallest objects suggest."""
GROWN = -1.0
"""Instead of a dip: objects are grown from sure insides, as post-processing was planned."""
SIZES = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
"""In units of the smallest objects of the masks."""
STRICTER = 0.25
"""Weight of the mean AP over IoU 0.5 … 0.9 beside that at 0.5: it decides between what is nearly equal."""


@dataclass(frozen=True)
class Overlaps:
    """What one ground makes of a case. found: its basins, of which no pixel is kept. seen (B + 1,): pixels of each that
    are scored. basin, truth, shared (pairs,): pixels that basins share with true objects, by number; true (T,): the
    sizes of these. voxel: the size of a pixel."""

    found: Basins
    seen: NDArray[np.int64]
    basin: NDArray[np.int64]
    truth: NDArray[np.int64]
    shared: NDArray[np.int64]
    true: NDArray[np.int64]
    voxel: float

    def score(self, neck: float, dip: float, smallest: float) -> float:
        """AP of what these make of it, as `score_of`."""
        number = numbers(self.found, neck, dip)
        count = int(number.max())
        sizes = np.bincount(number, self.found.parts.sizes, count + 1)
        kept = sizes * self.voxel >= smallest * (1 - 1e-9)
        kept[0] = False
        seen = np.bincount(number, self.seen, count + 1)
        predicted = int(np.count_nonzero(kept & (seen > 0)))
        key = number[self.basin] * len(self.true) + self.truth
        pair, index = np.unique(key[kept[number[self.basin]]], return_inverse=True)
        shared = np.bincount(index.reshape(-1), self.shared[kept[number[self.basin]]], len(pair))
        p, t = pair // max(1, len(self.true)), pair % max(1, len(self.true))
        iou = shared / (seen[p] + self.true[t] - shared)
        right = np.array([np.count_nonzero(iou > threshold) for threshold in THRESHOLDS])
        every = len(self.true) + predicted - right
        return _weighted(np.where(every > 0, right / np.maximum(every, 1), 1.0))


def tune_objects(
    cases: Sequence[HeldOut], legend: Legend, post: PostPlan, calibration: Calibration, fixed: Sequence[str]
) -> tuple[PostPlan, Found]:
    """The post-processing that finds objects best. fixed: fields of `post` that stay.

    Its `ground` is a probability of objects also where they are learnt without help classes.
    """
    apart = post.objects_of(legend) == "watershed"
    tables: dict[tuple[int, float], Overlaps] = {}

    def score(setting: Setting) -> Scores:
        dip, neck, ground, smallest = setting
        if dip == GROWN:
            grown = post.model_copy(update={"ground": ground, "smallest": smallest})
            return np.array([_as_it_is(case, legend, grown, calibration) for case in cases])
        found = []
        for number, case in enumerate(cases):
            if (number, ground) not in tables:
                tables[number, ground] = overlaps(case, legend, ground, calibration, apart)
            found.append(tables[number, ground].score(neck, dip, smallest))
        return np.array(found)

    usual = post.smallest_of(legend.plain.names[-1])
    voxel = float(np.median([voxel_size(case.spacing) for case in cases]))
    ndim = cases[0].truth_X.ndim
    finest = float(np.median([voxel_size(case.spacing) / min(case.spacing or (1,)) ** ndim for case in cases]))
    dip = DIP * radius(max(1, legend.least) * finest, ndim)
    grows = apart and post.sure > 0
    start = (GROWN if grows else post.dip, post.neck, post.ground, usual)
    dips = [float(f"{dip * step:.3g}") for step in DIPS] if apart and not (grows and "sure" in fixed) else []
    sizes = [float(f"{max(1, legend.least) * voxel * step:.3g}") for step in SIZES]
    values = (dips, NECKS if apart else (), GROUNDS, sizes)
    free = [() if name in fixed else tried for name, tried in zip(FIELDS, values, strict=True)]
    found = search(start, free, score, cases)
    if not found.better:
        return post, found
    dip, neck, ground, smallest = found.setting
    changes = {"ground": ground, "smallest": smallest}
    changes |= {"sure": 0.0, "neck": neck, "dip": dip} if apart and dip != GROWN else {}
    return post.model_copy(update=changes), found


def overlaps(case: HeldOut, legend: Legend, ground: float, calibration: Calibration, apart: bool) -> Overlaps:
    """What one ground makes of a case. apart: objects that touch are told apart; else connected areas are objects."""
    shares_KX = calibration.apply(case.probabilities(), legend.regions)
    shape, room = case.truth_X.shape, Room(Path(), sys.maxsize)
    if apart:
        label_X = decide(torch.from_numpy(shares_KX), False, False, Rule(depths=legend.depths, ground=ground)).numpy()
        level_X = depth_table(legend.depths)[label_X]
        found = basins(
            lambda region: level_X[region.slices], shape, room, case.spacing, thresholds=thresholds_of(legend)
        )
    else:
        inside_X = shares_KX[0] < 1 - ground
        nothing = np.zeros(0, np.int64)
        areas = components(lambda region: inside_X[region.slices], (1,), shape, room, "areas")
        found = Basins(areas, np.zeros(areas.count + 1), nothing, nothing, nothing.astype(float))
    return _overlaps(found.parts, found, case)


def _overlaps(parts: Parts, found: Basins, case: HeldOut) -> Overlaps:
    if case.ids_X is None:
        raise ValueError(f"the case '{case.id}' has no numbers of objects")
    known_X = case.truth_X != IGNORE
    ids_X = parts.read(Region.of(case.truth_X.shape)).astype(np.int64)
    names, truth = np.unique(np.where(known_X, case.ids_X, 0), return_inverse=True)
    if not names.size or names[0] != 0:  # no background: there is one all the same
        names, truth = np.append(0, names), truth + 1
    truth_X = truth.reshape(ids_X.shape)
    true = np.bincount(truth_X.reshape(-1), minlength=len(names))[1:]
    both_X = (ids_X > 0) & (truth_X > 0)
    pair, shared = np.unique(ids_X[both_X] * len(names) + truth_X[both_X], return_counts=True)
    return Overlaps(
        found=replace(found, parts=replace(parts, read=_forgotten)),
        seen=np.bincount(ids_X[known_X], minlength=parts.count + 1),
        basin=pair // len(names),
        truth=pair % len(names) - 1,
        shared=shared,
        true=true,
        voxel=voxel_size(case.spacing),
    )


def _forgotten(region: Region) -> NDArray[np.uint32]:
    raise ValueError(f"pixels of {region} were not kept")


def _as_it_is(case: HeldOut, legend: Legend, post: PostPlan, calibration: Calibration) -> float:
    """The score of a way that is not searched."""
    shares_KX = calibration.apply(case.probabilities(), legend.regions)
    rule = Rule(depths=legend.depths, ground=post.ground)
    label_X = decide(torch.from_numpy(shares_KX), False, False, rule).numpy()
    info = ImageInfo(label_X.shape, 1, False, "uint8", "grey", spacing=case.spacing)
    return score_of(case, cleaned_array(label_X, legend, post, info)[1])


def score_of(case: HeldOut, ids_X: NDArray[np.uint32] | None) -> float:
    """AP at IoU 0.5, and a little of that at higher ones, of objects in a case; 1 where there is none and none is
    found."""
    if case.ids_X is None or ids_X is None:
        raise ValueError(f"the case '{case.id}' has no numbers of objects")
    scores = object_scores(case.ids_X, ids_X, case.truth_X == IGNORE)
    return _weighted(np.array([1.0 if math.isnan(score.ap) else score.ap for score in scores]))


def _weighted(ap: NDArray[np.float64]) -> float:
    return float((ap[0] + STRICTER * ap.mean()) / (1 + STRICTER))
