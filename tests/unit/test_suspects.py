"""Masks are spoilt on purpose, and a model that knows the truth finds where: first in the list, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from unetkit.core.region import Region
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.evaluate import suspects
from unetkit.evaluate.suspects import find_suspects
from unetkit.predict.heldout import HeldOut

CLASSES = tuple(
    LegendClass(name=name, value=50 * k, colour=(k, k, k)) for k, name in enumerate(("ground", "cell", "fat"))
)
LEGEND = Legend(kind="values", classes=CLASSES, background=0)


def discs(number: int, size: int = 96) -> NDArray[np.uint8]:
    """A picture of cells (1) and, every third, fat (2), apart from each other."""
    label = np.zeros((size, size), np.uint8)
    y, x = np.mgrid[:size, :size]
    random = np.random.default_rng(number)
    for k, (cy, cx) in enumerate((a, b) for a in range(16, size, 32) for b in range(16, size, 32)):
        radius = random.integers(7, 12)
        label[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = 2 if k % 3 == 2 else 1
    return label


def shares_of(truth: NDArray[np.uint8], classes: int = 3, seed: int = 0, blur: float = 1.5) -> NDArray[np.float32]:
    """What a good model says: the truth, blurred and shaken; sure inside of things, unsure of outlines."""
    noise = np.random.default_rng(seed).normal(0, 0.4, (classes, *truth.shape))
    logits = np.stack([ndimage.gaussian_filter(8.0 * (truth == k), blur) for k in range(classes)]) + noise
    exponential = np.exp(logits)
    return (exponential / exponential.sum(0)).astype(np.float32)


def case(name: str, mask: NDArray[np.uint8], shares: NDArray[np.float32], **more: object) -> HeldOut:
    return HeldOut(name, None, Region.of(mask.shape), mask, lambda: shares, **more)  # type: ignore[arg-type]


def honest(count: int = 6) -> list[HeldOut]:
    return [case(f"c{k}", discs(k), shares_of(discs(k), seed=k)) for k in range(count)]


def test_where_nothing_is_wrong_nothing_weighs() -> None:
    found = find_suspects(honest(), LEGEND)
    assert found.examined == 6
    assert sum(score for _, score in found.cases) < 5


def test_an_erased_cell_ranks_first() -> None:
    cases = honest()
    mask = discs(2)
    mask[32:64, 32:64] = 0
    cases[2] = case("c2", mask, shares_of(discs(2), seed=2))
    found = find_suspects(cases, LEGEND)
    first = found.areas[0]
    assert (first.case, first.kind, first.given, first.suggested) == ("c2", "missing", "ground", "cell")
    true = discs(2)[32:64, 32:64] > 0
    assert first.pixels == pytest.approx(true.sum(), rel=0.3)
    rows, columns = np.flatnonzero(true.any(1)) + 32, np.flatnonzero(true.any(0)) + 32
    around = Region((rows[0] - 1, columns[0] - 1), (rows[-1] + 2, columns[-1] + 2))
    assert around.contains(first.region)
    assert first.confidence > 0.9
    assert found.cases[0][0] == "c2"
    assert len(found.areas) == 1 or found.areas[1].score < 0.1 * first.score


def test_a_drawn_cell_that_is_not_there_and_a_swapped_class() -> None:
    cases = honest()
    invented, swapped = discs(0), discs(4)
    invented[0:6, 40:56] = 1
    fat = ndimage.label(swapped == 2)[0]
    swapped[fat == 1] = 1
    cases[0] = case("c0", invented, shares_of(discs(0), seed=0))
    cases[4] = case("c4", swapped, shares_of(discs(4), seed=4))
    first, second, *others = find_suspects(cases, LEGEND).areas
    assert (first.case, first.kind, first.given, first.suggested) == ("c4", "confused", "cell", "fat")
    assert (second.case, second.kind, second.given, second.suggested) == ("c0", "extra", "cell", "ground")
    assert second.region.start[0] == 0
    assert not others or others[0].score < 0.1 * second.score


def test_a_shifted_mask_is_the_first_case() -> None:
    cases = honest()
    cases[3] = case("c3", np.roll(discs(3), 6, 1), shares_of(discs(3), seed=3))
    found = find_suspects(cases, LEGEND)
    assert found.cases[0][0] == "c3"
    assert found.cases[0][1] > 20 * sum(score for _, score in found.cases[1:])
    assert {area.case for area in found.areas[:8]} == {"c3"}


def test_outlines_a_little_apart_are_nobody_s_fault() -> None:
    """Of some masks all is drawn two pixels too large: with a tolerance of three, no area is listed."""
    y, x = np.mgrid[-2:3, -2:3]
    round_ = y**2 + x**2 <= 4
    cases = honest()
    for k in range(2):
        cases[k] = replace(cases[k], truth_X=ndimage.grey_dilation(discs(k), footprint=round_))
    weights = [sum(score for _, score in find_suspects(cases, LEGEND, tolerance=t).cases) for t in (0, 2, 3)]
    assert weights == sorted(weights, reverse=True)
    assert weights[0] > 100
    assert weights[-1] < 5


def test_thin_things_that_are_missing_count_however_thin() -> None:
    """A membrane of two pixels, half of which is erased; and one drawn where there is none."""
    truth = np.zeros((60, 60), np.uint8)
    truth[:, 29:31] = 1
    mask = truth.copy()
    mask[:30] = 0
    mask[10:12, :20] = 1
    legend = Legend(kind="values", classes=CLASSES[:2], background=0)
    others = [case(f"c{k}", truth, shares_of(truth, 2, k, blur=0.7)) for k in range(3)]
    found = find_suspects([*others, case("bad", mask, shares_of(truth, 2, 9, blur=0.7))], legend).areas
    assert [(area.case, area.score > 20) for area in found[:2]] == [("bad", True)] * 2
    regions = {area.kind: area.region for area in found[:2]}
    assert regions == {"missing": Region((0, 29), (30, 31)), "extra": Region((10, 0), (12, 20))}


def test_the_confident_joint_is_that_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Northcutt 2021, equations 1 and 2, by naive loops over single pixels; no connected areas, no tolerance. (Below
    one half the model is not confident here, however unsure it usually is.)"""
    monkeypatch.setattr(suspects, "MOST_OF_CASE", 1000)
    random = np.random.default_rng(0)
    shares = random.dirichlet((1, 1, 1), (12, 12)).transpose(2, 0, 1).astype(np.float32)
    truth = random.integers(0, 3, (12, 12)).astype(np.uint8)
    truth[0, :3] = 255
    least = [max(shares[k][truth == k].mean(), 0.5) for k in range(3)]
    joint = np.zeros((3, 3), int)
    for y, x in np.ndindex(12, 12):
        confident = [k for k in range(3) if shares[k, y, x] >= least[k]]
        if truth[y, x] != 255 and confident:
            joint[truth[y, x], max(confident, key=lambda k: shares[k, y, x])] += 1
    found = find_suspects([case("a", truth, shares)], LEGEND, tolerance=0)
    counted = np.zeros((3, 3), int)
    names = list(LEGEND.names)
    for area in found.areas:
        counted[names.index(area.given), names.index(area.suggested)] += area.pixels
    np.fill_diagonal(joint, 0)
    np.testing.assert_array_equal(counted > 0, joint > 0)
    assert counted.sum() == pytest.approx(joint.sum(), rel=0.3)


def test_objects_that_touch_are_listed_one_by_one_and_borders_belong_to_them() -> None:
    legend = Legend(
        kind="instances",
        classes=tuple(LegendClass(name=n, value=v, colour=(0, 0, 0)) for n, v in (("no", 0), ("cell", 1), ("edge", 2))),
        background=0,
        border=2,
    )
    ids = np.zeros((40, 60), np.int32)
    ids[10:30, 10:25], ids[10:30, 25:40] = 7, 9  # two that touch
    truth = ids > 0
    inside = ndimage.binary_erosion(truth, iterations=2)
    empty = np.stack([np.full(truth.shape, 0.97), np.full(truth.shape, 0.02), np.full(truth.shape, 0.01)])
    full = np.where(truth, np.where(inside, [[[0.02]], [[0.9]], [[0.08]]], [[[0.02]], [[0.1]], [[0.88]]]), empty)
    good = [case(f"c{k}", truth.astype(np.uint8), full.astype(np.float32), ids_X=ids) for k in range(3)]
    # the model sees neither of the two objects of this one
    bad = case("bad", truth.astype(np.uint8), empty.astype(np.float32), ids_X=ids)
    found = find_suspects([*good, bad], legend)
    assert [(area.case, area.kind, area.pixels) for area in found.areas] == [("bad", "extra", 300)] * 2
    assert {area.region.start for area in found.areas} == {(10, 10), (10, 25)}
    assert not find_suspects(good, legend).areas
    missed = case("gap", np.zeros_like(truth, np.uint8), full.astype(np.float32), ids_X=np.zeros_like(ids))
    (area,) = find_suspects([*good, missed], legend).areas
    assert (area.kind, area.suggested, area.pixels) == ("missing", "cell", 600)


def test_regions_that_overlap_are_asked_one_by_one() -> None:
    regions = tuple(LegendClass(name=n, value=k + 1, colour=(0, 0, 0)) for k, n in enumerate(("whole", "core")))
    legend = Legend(kind="regions", classes=regions, background=None)
    bits = np.zeros((40, 40), np.uint8)
    bits[5:35, 5:35] = 1
    bits[15:25, 15:25] = 3
    shares = np.stack([0.02 + 0.95 * (bits > 0), 0.02 + 0.95 * (bits == 3)]).astype(np.float32)
    mask = np.where(bits == 3, 1, bits).astype(np.uint8)
    mask[:2] = 255
    good = [case(f"c{k}", bits, shares) for k in range(3)]
    (area,) = find_suspects([*good, case("bad", mask, shares)], legend).areas
    assert (area.kind, area.given, area.suggested, area.pixels) == ("missing", "no core", "core", 100)
    assert area.region == Region((15, 15), (25, 25))


def test_what_nobody_judged_and_what_no_mask_has_is_not_suspected() -> None:
    truth = discs(1)
    mask = truth.copy()
    mask[32:64, 32:64] = 255
    found = find_suspects([case("a", mask, shares_of(truth)), *honest(3)], LEGEND)
    assert sum(score for _, score in found.cases) < 5
    without_fat = [replace(c, truth_X=np.where(c.truth_X == 2, 0, c.truth_X).astype(np.uint8)) for c in honest(3)]
    assert all(area.suggested != "fat" for area in find_suspects(without_fat, LEGEND).areas)


def test_places_are_those_of_the_image_not_of_the_window() -> None:
    mask = discs(2)
    mask[32:64, 32:64] = 0
    shares = shares_of(discs(2), seed=2)
    moved = replace(case("w", mask, shares), window=Region((100, 200), (196, 296)))
    whole = find_suspects([case("w", mask, shares), *honest(3)], LEGEND).areas[0].region
    assert find_suspects([moved, *honest(3)], LEGEND).areas[0].region == whole.shift((100, 200))


def test_thick_slices_and_signals() -> None:
    """The tolerance is a length: across slices five times as thick there is none."""
    truth = np.zeros((30, 30, 8), np.uint8)
    truth[8:22, 8:22, 2:6] = 1
    mask = np.where(np.arange(8) == 5, 0, truth).astype(np.uint8)  # the last slice was forgotten
    shares = np.stack([0.98 - 0.96 * truth, 0.02 + 0.96 * truth]).astype(np.float32)
    legend = Legend(kind="values", classes=CLASSES[:2], background=0)
    spaced = [case(f"c{k}", truth, shares, spacing=(1.0, 1.0, 5.0)) for k in range(3)]
    (area,) = find_suspects([*spaced, case("bad", mask, shares, spacing=(1.0, 1.0, 5.0))], legend).areas
    assert (area.case, area.kind, area.pixels) == ("bad", "missing", 14 * 14)
    wave = np.zeros(200, np.uint8)
    wave[50:80] = 1
    line = np.stack([0.98 - 0.96 * wave, 0.02 + 0.96 * wave]).astype(np.float32)
    blank = case("s", np.zeros_like(wave), line, spacing=(0.002,))
    (area,) = find_suspects([case("t", wave, line, spacing=(0.002,)), blank], legend).areas
    assert (area.case, area.region) == ("s", Region((50,), (80,)))


def test_what_a_model_says_everywhere_is_its_own_weakness() -> None:
    """It takes all fat for cells; one erased cell, smaller than the fat of any case, ranks before that."""
    cases = []
    for k in range(6):
        believed = np.where(discs(k) == 2, 1, discs(k)).astype(np.uint8)
        cases.append(case(f"c{k}", discs(k), shares_of(believed, seed=k)))
    mask = discs(2)
    mask[32:64, 32:64] = 0
    cases[2] = replace(cases[2], truth_X=mask)
    first = find_suspects(cases, LEGEND).areas[0]
    assert (first.case, first.kind) == ("c2", "missing")
