"""What becomes of a complete prediction: areas removed, holes filled, objects told apart. All of it by region.

Neighbours by a corner are connected (8 in 2-D, 26 in 3-D); of background, whose holes are filled, only those by a face:
a line that is closed for one is closed for the other. What is removed becomes background. First areas are removed, by
their sizes as predicted, then holes are filled. Doing it twice changes nothing more.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import PlanError
from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.formats.base import ImageInfo
from unetkit.data.labels.borders import INSIDE
from unetkit.data.labels.depths import depth_table
from unetkit.data.labels.legend import Legend
from unetkit.plan.parts import PostPlan
from unetkit.predict.finished import Finished, Labels, Scores
from unetkit.predict.post.components import Parts, Values, components
from unetkit.predict.post.divide import divided, thresholds_of
from unetkit.predict.post.flood import flooded, relief_of_levels
from unetkit.predict.post.holes import UNKNOWN, filling
from unetkit.predict.post.room import Room

# Seeds of fewer pixels are noise: what is inside of an object's border is larger, or the object is border throughout.
LEAST_SEED = 4


def postprocessed(finished: Finished, plan: PostPlan, scratch: Path, memory: int) -> Finished:
    """The prediction as users want it: with the classes of `legend.plain`, cleaned, and with `objects` where they are
    asked for. scratch: a folder that stays for as long as the result is read. memory: bytes that may be held.

    Objects are numbered in the order of their first pixels (those by watershed in the order of what is inside of them).
    Raises PlanError: classes that there are not, what the legend does not allow.
    """
    return _postprocessed(finished, plan, Room(scratch, memory))


def _postprocessed(finished: Finished, plan: PostPlan, room: Room) -> Finished:
    try:
        plan.check(finished.legend)
    except ValueError as error:
        raise PlanError(f"post-processing: {error}") from None
    plain = _plain(finished)
    how = plan.objects_of(finished.legend)
    if finished.legend.regions:
        return replace(plain, labels=_regions(plain, plan, room))
    if how == "none":
        return replace(plain, labels=_classes(plain, plan, room))
    return _objects(finished, plain, plan, room)


def _plain(finished: Finished) -> Finished:
    """The same with the border of objects as part of them."""
    legend, labels, probabilities = finished.legend, finished.labels, finished.probabilities
    if not legend.touching:
        return finished

    def merged(region: Region) -> NDArray[np.float32]:
        return plain_scores((probabilities or _nothing)(region), legend)

    scores: Scores | None = None if probabilities is None else merged
    return replace(
        finished, legend=legend.plain, labels=lambda region: legend.merge(labels(region)), probabilities=scores
    )


def plain_scores(scores_KX: NDArray[np.float32], legend: Legend) -> NDArray[np.float32]:
    """Probabilities (K, *space) of the classes of a legend, for those of `legend.plain`."""
    if not legend.touching:
        return scores_KX
    return np.concatenate([scores_KX[:INSIDE], scores_KX[INSIDE:].sum(0, keepdims=True)])


def _nothing(region: Region) -> NDArray[np.float32]:
    raise ValueError(f"probabilities of {region} were not kept")


def _classes(finished: Finished, plan: PostPlan, room: Room) -> Labels:
    """Class indices, cleaned class by class."""
    legend, labels, shape = finished.legend, finished.labels, finished.info.shape
    empty = _empty(legend)
    kinds = [k for k in range(len(legend.classes)) if k != empty and _wanted(plan, legend, k)]
    cleaned = labels
    if kinds:
        parts = components(labels, kinds, shape, room, "areas")
        gone = ~_kept(parts, plan, finished)

        def cleaned(region: Region) -> NDArray[np.uint8]:
            label_X = labels(region)
            return np.where(gone[parts.read(region)], np.uint8(empty), label_X)

    if not plan.fill_holes:
        return cleaned
    fill = _filling(lambda region: _counted(cleaned(region), empty), plan, finished, room, "holes")

    def filled(region: Region) -> NDArray[np.uint8]:
        fill_X = fill(region)
        return np.where(fill_X > 0, fill_X - 1, cleaned(region)).astype(np.uint8)

    return filled


def _empty(legend: Legend) -> int:
    """The class of what is removed: `PostPlan.check` lets no other legend without background have anything removed."""
    return 0 if legend.background is None else legend.background


def _counted(label_X: NDArray[np.uint8], empty: int) -> NDArray[np.uint32]:
    """Class indices from 1 on, background 0."""
    counted_X = np.where(label_X == empty, 0, label_X.astype(np.uint32) + 1)
    return np.where(label_X == IGNORE, np.uint32(UNKNOWN), counted_X)


def _regions(finished: Finished, plan: PostPlan, room: Room) -> Labels:
    """Bit masks, cleaned region by region, as if there were no other."""
    labels = finished.labels
    for k in range(len(finished.legend.classes)):
        labels = _region(labels, k, finished, plan, room)
    return labels


def _region(labels: Labels, k: int, finished: Finished, plan: PostPlan, room: Room) -> Labels:
    legend, bit = finished.legend, np.uint8(1 << k)
    wanted = _wanted(plan, legend, k)
    if not wanted and not plan.fill_holes:
        return labels
    cleaned = labels
    if wanted:
        parts = components(
            lambda region: legend.where(labels(region), k), (1,), finished.info.shape, room, f"areas-{k}"
        )
        parts.values[1:] = k
        gone = ~_kept(parts, plan, finished)

        def cleaned(region: Region) -> NDArray[np.uint8]:
            label_X = labels(region)
            return np.where(gone[parts.read(region)], label_X & ~bit, label_X)

    if not plan.fill_holes:
        return cleaned
    fill = _filling(lambda region: legend.where(cleaned(region), k), plan, finished, room, f"holes-{k}")

    def filled(region: Region) -> NDArray[np.uint8]:
        label_X = cleaned(region)
        return np.where(fill(region) > 0, label_X | bit, label_X)

    return filled


def _objects(finished: Finished, plain: Finished, plan: PostPlan, room: Room) -> Finished:
    """Objects, and the classes that they have."""
    legend, shape = plain.legend, plain.info.shape
    empty = _empty(legend)
    if plan.objects_of(finished.legend) == "watershed":
        parts = _apart(finished, plan, room)
    else:
        kinds = [k for k in range(len(legend.classes)) if k != legend.background]
        kinds = [INSIDE] if legend.kind == "instances" else kinds
        parts = components(plain.labels, kinds, shape, room, "areas")
    kept = _kept(parts, plan, plain)
    kept[0] = False
    number = np.where(kept, np.cumsum(kept), 0).astype(np.uint32)
    count = int(kept.sum())
    of = np.full(count + 1, empty, np.uint8)
    of[number[kept]] = parts.values[kept]

    def objects(region: Region) -> NDArray[np.uint32]:
        return number[parts.read(region)]

    if plan.fill_holes:
        bare = objects

        def known(region: Region) -> NDArray[np.uint32]:
            return np.where(plain.labels(region) == IGNORE, np.uint32(UNKNOWN), bare(region))

        fill = _filling(known, plan, plain, room, "holes")

        def objects(region: Region) -> NDArray[np.uint32]:
            return np.maximum(bare(region), fill(region))

    def labels(region: Region) -> NDArray[np.uint8]:
        return np.where(plain.labels(region) == IGNORE, np.uint8(IGNORE), of[objects(region)])

    return replace(plain, labels=labels, objects=objects, count=count)


def _apart(finished: Finished, plan: PostPlan, room: Room) -> Parts:
    """Objects that touch, by what was learnt of them."""
    table, shape = depth_table(finished.legend.depths), finished.info.shape

    def levels(region: Region) -> NDArray[np.float32]:
        depth_X: NDArray[np.float32] = table[finished.labels(region)]
        return depth_X

    if plan.sure > 0:
        return flooded(relief_of_levels(levels, plan.sure), shape, room, LEAST_SEED)
    thresholds = thresholds_of(finished.legend)
    return divided(levels, shape, room, plan.neck, plan.dip, finished.info.spacing, thresholds=thresholds)


def _wanted(plan: PostPlan, legend: Legend, k: int) -> bool:
    """Whether areas of class `k` are removed."""
    return plan.smallest_of(legend.names[k]) > 0 or plan.keeps_one(legend.names[k])


def _kept(parts: Parts, plan: PostPlan, finished: Finished) -> NDArray[np.bool_]:
    """Which parts stay. Of equally large ones the first is the largest."""
    names, voxel = finished.legend.names, voxel_size(finished.info.spacing)
    least = np.array([plan.smallest_of(name) for name in names])
    kept = parts.sizes * voxel >= least[parts.values] * (1 - 1e-9)
    kept[0] = True
    for k, name in enumerate(names):
        of_class = np.flatnonzero(parts.values[1:] == k) + 1
        if plan.keeps_one(name) and of_class.size:
            largest = of_class[np.argmax(parts.sizes[of_class])]
            kept[of_class[of_class != largest]] = False
    return kept


def _filling(values: Values, plan: PostPlan, finished: Finished, room: Room, name: str) -> Values:
    voxel = voxel_size(finished.info.spacing)
    largest = math.inf if plan.fill_holes == "all" else plan.fill_holes / voxel * (1 + 1e-9)
    return filling(values, finished.info.shape, room, name, largest)


def voxel_size(spacing: Sequence[float] | None) -> float:
    """Length, area or volume of one element in the unit of the spacing; 1 where it is not known."""
    return 1.0 if spacing is None else float(np.prod(spacing))


def cleaned_array(
    label_X: NDArray[np.uint8], legend: Legend, plan: PostPlan, info: ImageInfo
) -> tuple[NDArray[np.uint8], NDArray[np.uint32] | None]:
    """`postprocessed` of a label (*space) in memory: the label in the classes of `legend.plain`, and the ids of objects
    where they are asked for."""
    finished = Finished(replace(info, shape=label_X.shape), legend, lambda region: label_X[region.slices], None, None)
    result = postprocessed(finished, plan, Path(), sys.maxsize)
    whole = Region.of(label_X.shape)
    return result.labels(whole), None if result.objects is None else result.objects(whole)
