"""Where patches are taken: replayable, inside the image, rare classes found."""

from __future__ import annotations

import numpy as np
import pytest

from unetkit.data.case import IGNORE
from unetkit.data.patches import PatchSampler, PreparedCase, find_places


def case(name: str, shape: tuple[int, int], rare: bool = False) -> PreparedCase:
    label = np.zeros(shape, np.uint8)
    if rare:
        label[3, 5] = 1
    return PreparedCase(name, np.zeros((1, *shape), np.float32), label, find_places(label, 0, name))


def test_places_leave_out_what_is_ignored() -> None:
    label = np.array([[0, 1, IGNORE], [1, 2, IGNORE]], np.uint8)
    places = find_places(label, 0, "a")
    assert sorted(places) == [0, 1, 2]
    assert sorted(map(tuple, places[1].tolist())) == [(0, 1), (1, 0)]


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
