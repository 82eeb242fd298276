"""The rules of the plan: each is a pure function whose value and reason follow from the fingerprint."""

from __future__ import annotations

import pytest

from unetkit.plan import preparing, rules, shape, training
from unetkit.plan.fingerprint import CaseFacts, ClassFacts, Fingerprint


def facts(
    sides: tuple[int, ...] = (512, 512),
    channels: int = 1,
    dtype: str = "uint8",
    means: tuple[float, ...] = (100.0, 101.0),
    fractions: tuple[float, ...] = (0.7, 0.3),
    thickness: tuple[float | None, ...] = (20.0, 6.0),
    colour: bool = False,
) -> Fingerprint:
    cases = tuple(
        CaseFacts(id=str(k), shape=(side, side), channels=channels, dtype=dtype, mean=mean, std=40.0)
        for k, (side, mean) in enumerate(zip(sides, means, strict=True))
    )
    classes = tuple(
        ClassFacts(name=f"class {k}", fraction=f, cases=int(f > 0), thickness=t)
        for k, (f, t) in enumerate(zip(fractions, thickness, strict=True))
    )
    return Fingerprint(cases=cases, classes=classes, colour=colour, ignored=0.0)


def test_equal_images_are_normalised_by_the_set_and_differing_ones_each_by_itself() -> None:
    assert preparing.prepare(facts())[0].normalise == "set"
    plan, why = preparing.prepare(facts(means=(20.0, 160.0)))
    assert plan.normalise == "image"
    assert "brightness differs between images" in why["prepare.normalise"]


def test_sixteen_bits_are_clipped_to_percentiles() -> None:
    plan, why = preparing.prepare(facts(dtype="uint16"))
    assert (plan.normalise, plan.method) == ("image", "percentile")
    assert "0.5 and 99.5 percentile" in why["prepare.method"]


@pytest.mark.parametrize(
    ("channels", "colour", "expected"),
    [(1, False, (1, "grey")), (3, False, (1, "grey")), (3, True, (3, "rgb")), (5, True, (5, "bands"))],
)
def test_channels_follow_what_the_images_hold(channels: int, colour: bool, expected: tuple[int, str]) -> None:
    plan, _ = preparing.prepare(facts(channels=channels, colour=colour))
    assert (plan.channels, plan.colour) == expected


@pytest.mark.parametrize(("thin", "stem"), [(1.5, 1), (6.0, 2), (80.0, 4), (None, 2)])
def test_resolution_follows_the_thinnest_class_of_interest(thin: float | None, stem: int) -> None:
    assert rules.resolution(facts(thickness=(1.0, thin)), foreground=(1,))[0] == stem


@pytest.mark.parametrize(
    ("side", "stem", "patch", "levels"), [(2000, 1, 256, 5), (512, 2, 256, 5), (100, 1, 96, 4), (30, 2, 16, 2)]
)
def test_patch_and_depth_fit_the_images(side: int, stem: int, patch: int, levels: int) -> None:
    known = facts(sides=(side, side))
    value, why = shape.patch(known, stem)
    assert value == (patch, patch)
    assert str(side) in why
    net = rules.network(known, 2, 1, 8, value, stem)
    assert net.levels == levels
    assert shape.fitted(value, net) == value


def test_rare_classes_are_met_more_often_and_weigh_more() -> None:
    rare = facts(fractions=(0.99, 0.01))
    assert training.sampling(rare, (256, 256), 4)[0].oversample == 0.5
    assert training.sampling(facts(), (256, 256), 4)[0].oversample == 0.25
    weights = training.loss(rare)[0].class_weights
    assert weights is not None
    assert weights[1] > weights[0] > 0
    assert sum(weights) / 2 == pytest.approx(1, abs=0.01)
    assert training.loss(facts())[0].class_weights is None


def test_a_class_that_never_occurs_weighs_nothing() -> None:
    weights = training.loss(facts(fractions=(0.98, 0.02, 0.0), thickness=(9.0, 9.0, None)))[0].class_weights
    assert weights is not None
    assert weights[2] == 0.0


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_candidates_rise_in_cost(ndim: int) -> None:
    costs = [width * width * batch for width, batch, _ in rules.CAPACITIES[ndim]]
    assert costs == sorted(costs)
    least = [steps for _, _, steps in rules.CAPACITIES[ndim]]
    assert least == sorted(least)
    assert least[0] == 0, "the smallest is always in"
