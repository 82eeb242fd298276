"""What always lies on one side of images is found, and is not mirrored; what lies anywhere is."""

from __future__ import annotations

import numpy as np
import pytest

from unetkit.core.region import Region
from unetkit.data.case import Case
from unetkit.plan.augmenting import augment
from unetkit.plan.fingerprint import CaseFacts, ClassFacts, Fingerprint
from unetkit.plan.layout import Places

NAMES = ("ground", "sky")


def lean(labels, ids=None, ndim=2, block=None):
    places, cases = Places(), []
    for number, label in enumerate(labels):
        case = Case(ids[number] if ids else f"image{number}x", (), None)
        cases.append(case)
        one = places.begin(case)
        for start in range(0, label.shape[0], block or label.shape[0]):
            stop = min(start + (block or label.shape[0]), label.shape[0])
            region = Region((start,) + (0,) * (ndim - 1), (stop, *label.shape[1:]))
            one.add(label[region.slices], region)
        one.finish(label.shape)
    return places.lean(cases, ndim, NAMES)


def scenes(count, seed=0):
    random = np.random.default_rng(seed)
    for _ in range(count):
        label = np.zeros((60, 80), np.uint8)
        label[: random.integers(20, 35)] = 1
        yield label


def blobs(count, seed=0):
    random = np.random.default_rng(seed)
    for _ in range(count):
        label = np.zeros((60, 80), np.uint8)
        for _ in range(6):
            y, x = random.integers(0, 52), random.integers(0, 72)
            label[y : y + 8, x : x + 8] = 1
        yield label


@pytest.mark.parametrize("block", [None, 7])
def test_the_sky_lies_above(block):
    found = lean(scenes(12), block=block)
    assert found["sky"][0] < -0.2
    assert found["sky"][1] == 0
    assert found["ground"][0] > 0.1


@pytest.mark.parametrize("seed", range(5))
def test_what_lies_anywhere_does_not_lean(seed):
    assert lean(blobs(12, seed)) == {}


def test_two_images_tell_nothing():
    assert lean(scenes(2)) == {}


def test_slices_of_a_stack_tell_nothing_because_they_resemble_each_other():
    label = next(blobs(1, 3)) * 0
    label[5:15, 10:30] = 1
    assert lean([label] * 20, [f"slice{k:02d}" for k in range(20)]) == {}


def test_neighbours_that_resemble_each_other_count_for_less():
    label, drifting = np.zeros((60, 80), np.uint8), []
    for k in range(12):
        moved = label.copy()
        moved[5 + 2 * k : 15 + 2 * k, 10:30] = 1
        drifting.append(moved)
    assert lean(drifting).get("sky", (0, 0))[0] == 0


def facts(*leans):
    cases = tuple(CaseFacts(id=str(k), shape=(200, 200), channels=1, dtype="uint8", mean=0, std=1) for k in range(12))
    classes = tuple(
        ClassFacts(name=name, fraction=0.5, cases=12, thickness=20.0, lean=found)
        for name, found in zip(NAMES, leans, strict=True)
    )
    return Fingerprint(cases=cases, classes=classes, colour=False, ignored=0.0)


def test_what_leans_is_not_mirrored_nor_turned():
    plan, why = augment(facts((), (-0.3, 0.0)), (128, 128))
    assert plan.flips(2) == (False, True)
    assert not plan.turn
    assert plan.rotate == 15
    assert why["augment.flip"].startswith("'sky' lies above the middle in nearly all images")
    plan, why = augment(facts((0.0, 0.2), ()), (128, 128))
    assert plan.flips(2) == (True, False)
    assert "'ground' lies right of the middle" in why["augment.rotate"]
    plan, _ = augment(facts((), ()), (128, 128))
    assert plan.flips(2) == (True, True)
    assert plan.turn
