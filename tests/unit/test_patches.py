"""Where patches are taken: replayable, inside the image, rare classes found."""

from __future__ import annotations

import numpy as np
import pytest

from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.prepared.patches import PatchSampler, PreparedCase
from unetkit.data.prepared.places import PLACES, find_places


def case(name: str, shape: tuple[int, int], rare: bool = False) -> PreparedCase:
    label = np.zeros(shape, np.uint8)
    if rare:
        label[3, 5] = 1
    return PreparedCase(name, np.zeros((1, *shape), np.float32), label, find_places(label, 0, name))


def test_places_leave_out_what_is_ignored() -> None:
    label = np.array([[0, 1, IGNORE], [1, 2, IGNORE]], np.uint8)
    places = find_places(label, 0, "a")
    assert sorted(places.of) == [0, 1, 2]
    assert sorted(map(tuple, places.of[1].tolist())) == [(0, 1), (1, 0)]
    assert places.counts == {0: 1, 1: 2, 2: 1}


@pytest.mark.parametrize("cut", [1, 7, 64])
def test_places_do_not_depend_on_how_the_label_was_cut(cut: int) -> None:
    label = np.random.default_rng(0).choice(np.array([0, 3, IGNORE], np.uint8), (150, 70), p=[0.8, 0.1, 0.1])
    whole = find_places(label, 5, "a")
    rows = [Region((y, 0), (min(y + cut, 150), 70)) for y in range(0, 150, cut)]
    parts = find_places(((r, label[r.slices]) for r in rows), 5, "a", label.shape)
    assert parts.counts == whole.counts == {0: int((label == 0).sum()), 3: int((label == 3).sum())}
    for k in (0, 3):
        assert np.array_equal(parts.of[k], whole.of[k])
        assert (label[tuple(whole.of[k].T)] == k).all()
    assert len(whole.of[0]) == PLACES
    assert not np.array_equal(find_places(label, 6, "a").of[0], whole.of[0])


def test_where_little_is_annotated_every_patch_sees_some_of_it() -> None:
    label = np.full((400, 300), IGNORE, np.uint8)
    label[200, 40:60] = 0
    label[201, 40:60] = 1
    sparse = PreparedCase("a", np.zeros((1, 400, 300), np.float32), label, find_places(label, 0, "a"))
    sampler = PatchSampler([sparse], (32, 32), 0.0, seed=0)
    for step in range(100):
        _, (y, x) = sampler.choose(step, 0)
        assert (label[y - 16 : y + 16, x - 16 : x + 16] != IGNORE).any()


def test_what_is_hardly_annotated_is_drawn_for_what_is() -> None:
    full, sparse = case("full", (100, 100)), np.full((400, 400), IGNORE, np.uint8)
    sparse[:50, :50] = 0
    other = PreparedCase("b", np.zeros((1, 400, 400), np.float32), sparse, find_places(sparse, 0, "b"))
    sampler = PatchSampler([full, other], (32, 32), 0.0, seed=0)
    assert np.mean([sampler.choose(s, 0)[0] for s in range(2000)]) == pytest.approx(1 / 3, abs=0.04)


def test_a_choice_depends_on_step_and_index_alone() -> None:
    cases = [case("a", (64, 80)), case("b", (100, 50))]
    first, again = (PatchSampler(cases, (32, 32), 0.5, seed=4) for _ in range(2))
    forward = [first.choose(s, i) for s in range(20) for i in range(3)]
    backward = [again.choose(s, i) for s in reversed(range(20)) for i in reversed(range(3))]
    assert forward == backward[::-1]
    assert len(set(forward)) > 30


def test_patches_stay_inside_where_the_image_is_large_enough() -> None:
    sampler = PatchSampler([case("a", (64, 20))], (32, 32), 0.0, seed=0)
    for step in range(200):
        _, (y, x) = sampler.choose(step, 0)
        assert 16 <= y <= 48
        assert x == 10


def test_rare_classes_are_found() -> None:
    cases = [case("a", (512, 512), rare=True)]

    def share(oversample: float) -> float:
        sampler = PatchSampler(cases, (32, 32), oversample, seed=0)
        near = [np.abs(np.subtract(sampler.choose(s, 0)[1], (16, 16))).max() <= 16 for s in range(400)]
        return float(np.mean(near))

    assert share(0.0) < 0.05
    assert share(0.5) == pytest.approx(0.25, abs=0.07)  # half of the half: one of the two classes


def test_larger_images_are_drawn_more_often_but_less_than_in_proportion() -> None:
    sampler = PatchSampler([case("small", (50, 50)), case("large", (200, 200))], (32, 32), 0.0, seed=0)
    large = np.mean([sampler.choose(s, 0)[0] for s in range(2000)])
    assert large == pytest.approx(0.8, abs=0.04)
