"""Places in connected areas: those that scipy finds in the whole label, however it was cut."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import ndimage

from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.prepared.areas import PER_AREA
from unetkit.data.prepared.patches import PatchSampler, PreparedCase, repeat_factors
from unetkit.data.prepared.places import PLACES, Places, find_places


def blobs(shape: tuple[int, ...], seed: int, sigma: float = 1.5, share: float = 0.4) -> np.ndarray:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    label = (field > np.quantile(field, 1 - share)).astype(np.uint8)
    label[field > np.quantile(field, 1 - share / 4)] = 2
    label[field < np.quantile(field, 0.05)] = IGNORE
    return label


def cut(label: np.ndarray, side: int) -> list[tuple[Region, np.ndarray]]:
    starts = itertools.product(*(range(0, n, side) for n in label.shape))
    regions = [Region(s, tuple(min(a + side, n) for a, n in zip(s, label.shape, strict=True))) for s in starts]
    return [(r, label[r.slices]) for r in regions]


@pytest.mark.parametrize(("shape", "sides"), [((400,), (64,)), ((70, 60), (13, 33)), ((24, 30, 20), (13,))])
def test_areas_are_those_of_scipy_however_the_label_was_cut(shape: tuple[int, ...], sides: tuple[int, ...]) -> None:
    label = blobs(shape, seed=len(shape))
    whole = find_places(label, 3, "a", areas=True)
    assert sorted(whole.areas) == [1, 2], "the background is no object"
    for k, areas in whole.areas.items():
        ids, count = ndimage.label(label == k, np.ones((3,) * label.ndim))
        assert areas.sizes.tolist() == np.bincount(ids.reshape(-1))[1:].tolist()
        assert count > 3
        for area in range(count):
            places = areas.places[areas.starts[area] : areas.starts[area + 1]]
            assert (ids[tuple(places.T)] == area + 1).all()
            assert len(np.unique(places, axis=0)) == len(places)
            assert len(places) == min(areas.sizes[area], max(PLACES // count, 1), PER_AREA)
    for side in sides:
        parts = find_places(cut(label, side), 3, "a", label.shape, areas=True)
        backwards = find_places(reversed(cut(label, side)), 3, "a", label.shape, areas=True)
        for k, areas in whole.areas.items():
            for field in dataclasses.fields(areas):
                expected = getattr(areas, field.name)
                assert np.array_equal(getattr(parts.areas[k], field.name), expected)
                assert np.array_equal(getattr(backwards.areas[k], field.name), expected)


def test_of_very_many_areas_some_are_kept_whatever_their_size() -> None:
    label = np.zeros((400, 400), np.uint8)
    label[::4, ::4] = 1  # 10 000 areas of one pixel …
    label[:200, ::4][::4] = 1
    label[1:200:4, ::4] = 1  # … half of them of two
    areas = find_places(label, 0, "a", areas=True).areas[1]
    assert len(areas.sizes) == PLACES
    assert len(areas.places) == PLACES
    assert np.mean(areas.sizes == 2) == pytest.approx(0.5, abs=0.03)
    again = find_places(cut(label, 33), 0, "a", label.shape, areas=True).areas[1]
    assert np.array_equal(again.places, areas.places)


def case(name: str, label: np.ndarray) -> PreparedCase:
    return PreparedCase(name, np.zeros((1, *label.shape), np.float32), label, find_places(label, 0, name, areas=True))


def test_a_small_object_is_met_as_often_as_a_large_one() -> None:
    label = np.zeros((600, 600), np.uint8)
    label[50:350, 50:350] = 1
    label[500:503, 500:503] = 1

    def near_the_small_one(by_area: float) -> float:
        sampler = PatchSampler([case("a", label)], (32, 32), 1.0, 0, by_area)
        return float(np.mean([min(sampler.choose(s, 0)[1]) > 450 for s in range(400)]))

    assert near_the_small_one(0.0) < 0.2  # what the patches anywhere and on the background give
    assert near_the_small_one(1.0) == pytest.approx(0.5, abs=0.07)
    assert near_the_small_one(0.5) == pytest.approx(0.3, abs=0.1)


def test_images_with_classes_that_few_have_are_met_more_often() -> None:
    many = [PreparedCase(str(n), np.zeros((1, 8)), np.zeros(8), Places({}, {0: 8})) for n in range(15)]
    few = PreparedCase("few", np.zeros((1, 8)), np.zeros(8), Places({}, {0: 4, 3: 4}))
    # class 3 is in 1 of 16: √(0.25 / 0.0625) = 2 (Gupta 2019, section 4.1)
    assert repeat_factors([*many, few], 0.25).tolist() == [1.0] * 15 + [2.0]
    assert repeat_factors([*many, few], 0.0).tolist() == [1.0] * 16
    plain, repeated = (PatchSampler([*many, few], (4,), 0.0, 0, repeat=t) for t in (0.0, 0.25))
    shares = [np.mean([s.choose(step, 0)[0] == 15 for step in range(4000)]) for s in (plain, repeated)]
    assert shares[0] == pytest.approx(1 / 16, abs=0.012)
    assert shares[1] == pytest.approx(2 / 17, abs=0.015)


def test_reweighed_cases_are_drawn_as_often_as_the_factors_say() -> None:
    cases = [PreparedCase(str(n), np.zeros((1, 8)), np.zeros(8), Places({}, {0: 8})) for n in range(3)]
    sampler = PatchSampler(cases, (4,), 0.0, 0)
    before = [sampler.choose(step, 0) for step in range(50)]
    sampler.reweigh(np.array([1.0, 1.0, 2.0]))
    assert np.mean([sampler.choose(step, 0)[0] == 2 for step in range(3000)]) == pytest.approx(0.5, abs=0.03)
    sampler.reweigh(np.ones(3))
    assert [sampler.choose(step, 0) for step in range(50)] == before
