"""Likely label errors: areas where a model that never saw a case confidently contradicts its mask.

Confident learning (Northcutt 2021, "Confident learning: estimating uncertainty in dataset labels", section 3.1): a
model counts as confident of a class where its probability is at least the mean that it gives this class where the masks
have it. A pixel is suspected where it is confident of another class than the mask's. Here areas of contradiction that
hold suspected pixels are listed, and what only moves an outline a little is let go: annotators differ by as much.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.labels.legend import Legend
from unetkit.predict.heldout import HeldOut

# Pixels (of the finest axis) by which outlines may differ without anybody being wrong.
TOLERANCE = 2.0
# However unsure the model usually is of a class, below this probability it is not confident.
LEAST = 0.5
# Areas that are listed of one case, and in all.
MOST_OF_CASE, MOST = 20, 200

Float: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class Suspect:
    """One area that is likely labelled wrong.

    kind: "missing" (something that the mask leaves out), "extra" (something drawn where there seems to be nothing), or
    "confused" (another class than the mask's). given, suggested: names of the mask's class and of the model's. region:
    the box around it on the image's grid. pixels: its size. confidence: mean probability of what is suggested. score:
    by which it is ranked: how much more likely the suggested class is than the given one, summed over its suspected
    pixels that are no mere matter of the outline (size times confidence); less where the model often says so.
    """

    case: str
    kind: Literal["missing", "extra", "confused"]
    given: str
    suggested: str
    region: Region
    pixels: int
    confidence: float
    score: float


@dataclass(frozen=True)
class Suspects:
    """areas: the most suspicious first. cases: (case, sum of the scores of its areas), the most suspicious first; those
    without any are left out. examined: how many cases were looked at."""

    areas: tuple[Suspect, ...]
    cases: tuple[tuple[str, float], ...]
    examined: int


@dataclass(frozen=True)
class _Question:
    """What is asked of every pixel of a case: which of several classes it is, or of a region whether it is there.

    truth_X: the mask's answer, IGNORE where there is none; shares_CX: the model's probabilities; nothing: the answer
    that means that nothing is there, where there is one.
    """

    names: tuple[str, ...]
    truth_X: NDArray[np.uint8]
    shares_CX: Float
    nothing: int | None


def find_suspects(cases: Sequence[HeldOut], legend: Legend, tolerance: float = TOLERANCE) -> Suspects:
    """The areas of all cases that are likely labelled wrong, ranked.

    legend: that of the network, whose classes the probabilities are of. tolerance: pixels (of the finest axis) by which
    outlines may differ. Every case is read twice, one at a time.
    """
    thresholds, pixels = _thresholds(cases, legend)
    found: list[Suspect] = []
    for case in cases:
        for question, least_C in zip(_questions(case, legend), thresholds, strict=True):
            found += _areas(case, question, least_C, tolerance)
    return _ranked(found, pixels, len(cases))


def _ranked(found: Sequence[Suspect], pixels: Mapping[str, int], examined: int) -> Suspects:
    """pixels: of each class in all masks. A model that contradicts most of what the masks give a class has not learnt
    the class: the more often one class is doubted in favour of another, the less each such doubt counts."""
    doubted: dict[tuple[str, str], float] = {}
    for area in found:
        pair = area.given, area.suggested
        doubted[pair] = doubted.get(pair, 0.0) + area.score
    areas = [
        replace(area, score=area.score * (1 - min(1.0, doubted[area.given, area.suggested] / pixels[area.given])))
        for area in found
    ]
    areas.sort(key=lambda area: (-area.score, area.case, area.region.start))
    totals, listed, kept = dict[str, float](), Counter[str](), list[Suspect]()
    for area in areas:
        totals[area.case] = totals.get(area.case, 0.0) + area.score
        listed[area.case] += 1
        if listed[area.case] <= MOST_OF_CASE and len(kept) < MOST:
            kept.append(area)
    cases = sorted(totals.items(), key=lambda entry: (-entry[1], entry[0]))
    return Suspects(tuple(kept), tuple(cases), examined)


def _questions(case: HeldOut, legend: Legend) -> Iterator[_Question]:
    shares_KX, truth_X = case.probabilities(), case.truth_X
    if not legend.regions:
        if len(shares_KX) > len(legend.plain.classes):  # what helps to tell objects apart belongs to them
            shares_KX = np.stack([shares_KX[0], 1 - shares_KX[0]])
        yield _Question(legend.plain.names, truth_X, shares_KX, legend.background)
        return
    for k, name in enumerate(legend.names):
        present_X = np.where(truth_X == IGNORE, np.uint8(IGNORE), truth_X >> k & 1)
        yield _Question((f"no {name}", name), present_X, np.stack([1 - shares_KX[k], shares_KX[k]]), 0)


def _thresholds(cases: Sequence[HeldOut], legend: Legend) -> tuple[list[NDArray[np.float64]], dict[str, int]]:
    """For each question the probability of every class from which on the model is confident of it: its mean where the
    masks have the class (Northcutt 2021, equation 2), but no less than `LEAST`. Infinite for a class that no mask
    has. And the pixels of each class in all masks."""
    sums: list[NDArray[np.float64]] = []
    pixels: Counter[str] = Counter()
    for case in cases:
        for number, question in enumerate(_questions(case, legend)):
            classes = len(question.names)
            if number == len(sums):
                sums.append(np.zeros((2, classes)))
            for c in range(classes):
                has_X = question.truth_X == c
                count = int(np.count_nonzero(has_X))
                sums[number][:, c] += question.shares_CX[c][has_X].sum(dtype=np.float64), count
                pixels[question.names[c]] += count
    least = [np.where(count > 0, np.maximum(total / np.maximum(count, 1), LEAST), np.inf) for total, count in sums]
    return least, pixels


def _areas(case: HeldOut, question: _Question, least_C: NDArray[np.float64], tolerance: float) -> Iterator[Suspect]:
    truth_X, shares_CX = question.truth_X, question.shares_CX
    likeliest_X = shares_CX.argmax(0)
    above_CX = shares_CX >= np.expand_dims(least_C - 1e-6, tuple(range(1, shares_CX.ndim)))
    confident_X = above_CX.any(0)
    suggested_X = np.where(confident_X, np.where(above_CX, shares_CX, -1).argmax(0), likeliest_X)
    near = _ball(tolerance, case.spacing or (1.0,) * truth_X.ndim)
    for given in range(len(question.names)):
        for suggested in range(len(question.names)):
            more_X = shares_CX[suggested] - shares_CX[given]
            inside_X = (truth_X == given) & (suggested_X == suggested) & (more_X > 0)
            if not (inside_X & confident_X).any():
                continue
            # an outline that both draw, a little apart: what the model suggests lies beside it in the mask, and what
            # the mask gives lies beside it in the prediction
            outline_X = _near(truth_X == suggested, near) & _near(likeliest_X == given, near)
            excess_X = more_X * (confident_X & ~outline_X)
            numbers_X = _apart(inside_X, case.ids_X, given == question.nothing)
            yield from _listed(case, question, (given, suggested), numbers_X, excess_X)


def _apart(inside_X: Mask, ids_X: NDArray[Any] | None, nothing: bool) -> NDArray[Any]:
    """The number of the area of each pixel, 0 outside: connected areas; of objects that the mask draws, each object."""
    if ids_X is not None and not nothing:
        return np.where(inside_X, np.unique(ids_X, return_inverse=True)[1].reshape(ids_X.shape) + 1, 0)
    numbers_X: NDArray[Any] = ndimage.label(inside_X, np.ones((3,) * inside_X.ndim))[0]
    return numbers_X


def _listed(
    case: HeldOut, question: _Question, pair: tuple[int, int], numbers_X: NDArray[Any], excess_X: Float
) -> Iterator[Suspect]:
    given, suggested = pair
    boxes = ndimage.find_objects(numbers_X)
    flat = numbers_X.reshape(-1)
    sizes = np.bincount(flat)
    scores = np.bincount(flat, excess_X.reshape(-1))
    sure = np.bincount(flat, question.shares_CX[suggested].reshape(-1))
    kind: Literal["missing", "extra", "confused"] = "confused"
    if given == question.nothing:
        kind = "missing"
    elif suggested == question.nothing:
        kind = "extra"
    for number, box in enumerate(boxes, start=1):
        if box is None or scores[number] <= 0:
            continue
        start = tuple(int(s.start) + a for s, a in zip(box, case.window.start, strict=True))
        stop = tuple(int(s.stop) + a for s, a in zip(box, case.window.start, strict=True))
        yield Suspect(
            case=case.id,
            kind=kind,
            given=question.names[given],
            suggested=question.names[suggested],
            region=Region(start, stop),
            pixels=int(sizes[number]),
            confidence=float(sure[number] / sizes[number]),
            score=float(scores[number]),
        )


def _ball(radius: float, spacing: Sequence[float]) -> Mask:
    """The neighbours within `radius` pixels of the finest axis."""
    steps = [s / min(spacing) for s in spacing]
    reach = [int(radius / step) for step in steps]
    grid = np.meshgrid(*(np.arange(-r, r + 1) * step for r, step in zip(reach, steps, strict=True)), indexing="ij")
    within: Mask = sum(axis**2 for axis in grid) <= radius**2
    return within


def _near(mask_X: Mask, ball: Mask) -> Mask:
    near_X: Mask = ndimage.binary_dilation(mask_X, ball)
    return near_X
