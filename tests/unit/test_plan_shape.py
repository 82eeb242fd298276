"""Patches, halvings and presets in one, two and three dimensions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetkit.nets.geometry import geometry
from unetkit.nets.presets import PRESETS, preset
from unetkit.plan import augmenting, preparing, rules, shape, training
from unetkit.plan.fingerprint import CaseFacts, ClassFacts, Fingerprint


def facts(
    size: tuple[int, ...],
    spacing: tuple[float, ...] | None = None,
    thickness: float = 4.0,
    cases: int = 20,
    dtype: str = "float32",
) -> Fingerprint:
    one = CaseFacts(id="a", shape=size, spacing=spacing, channels=1, dtype=dtype, mean=0.0, std=1.0)
    names = ("background", "organ")
    classes = tuple(ClassFacts(name=n, fraction=0.5, cases=cases, thickness=thickness) for n in names)
    return Fingerprint(cases=(one,) * cases, classes=classes, colour=False, ignored=0.0)


def test_a_small_volume_is_seen_whole_and_halved_three_times() -> None:
    known = facts((35, 51, 35), (1.0, 1.0, 1.0))
    size, why = shape.patch(known, 1)
    assert size == (35, 51, 35)
    assert "35 × 51 × 35 voxels, is small enough to be seen whole, or nearly" in why
    net = rules.network(known, 3, 1, 16, size, 1)
    assert (net.channels, net.strides, net.norm) == ((16, 32, 64, 128), 2, "instance")
    patch = shape.fitted(size, net)
    assert patch == (40, 56, 40)
    assert shape.levels_text(patch, net) == "4 levels, down to 5 × 7 × 5 of a patch of 40 × 56 × 40 voxels"


def test_a_volume_that_a_step_can_nearly_hold_is_seen_in_parts() -> None:
    known = facts((47, 49, 47), (1.0, 1.0, 1.0))
    size, _ = shape.patch(known, 1)
    assert size == (47, 49, 47)
    net = rules.network(known, 3, 1, 16, size, 1)
    assert (shape.fitted(size, net), net.norm) == ((48, 48, 48), "batch")


def test_thick_slices_are_halved_when_the_others_are_as_coarse() -> None:
    known = facts((20, 128, 128), (5.0, 1.0, 1.0))
    size, _ = shape.patch(known, 1)
    net = rules.network(known, 2, 1, 8, size, 1)
    steps = [net.stride(level) for level in range(net.levels - 1)]
    assert steps[:2] == [(1, 2, 2), (1, 2, 2)]
    assert shape.takes(shape.fitted(size, net), geometry(net))
    plan, why = augmenting.augment(known, size)
    assert plan.aspect == (5.0, 1.0, 1.0)
    assert plan.flip is False
    assert "may be classes of their own" in why["augment.flip"]


def test_a_large_volume_is_taken_in_parts_that_a_step_can_hold() -> None:
    size, why = shape.patch(facts((300, 512, 512)), 1)
    assert size[0] * size[1] * size[2] <= shape.CUBE**3
    assert "a part of the median volume (300 × 512 × 512 voxels)" in why


def test_signals_have_long_patches_and_coarse_levels_that_stay_narrow() -> None:
    known = facts((5000,), (0.002,), thickness=52.0)
    stem, why = rules.resolution(known, (1,))
    assert stem == 2
    assert "about 52 samples thick" in why
    size, _ = shape.patch(known, stem)
    assert size == (2048,)
    net = rules.network(known, 4, 1, 16, size, stem)
    assert net.channels == (16, 32, 64, 64, 64, 64, 64)
    plan, _ = augmenting.augment(known, size)
    assert (plan.flip, plan.elastic, plan.gamma, plan.scale) == (False, 0, 0, 0.15)
    prepared, _ = preparing.prepare(known)
    assert (prepared.colour, prepared.method) == ("grey", "zscore")


def test_rare_classes_of_volumes_weigh_no_more_beside_dice() -> None:
    known = facts((35, 51, 35))
    classes = tuple(c.model_copy(update={"fraction": f}) for c, f in zip(known.classes, (0.99, 0.01), strict=True))
    plan, why = training.loss(known.model_copy(update={"classes": classes}))
    assert plan.class_weights is None
    assert "too large in volumes" in why["loss.class_weights"]


def test_integers_are_looked_up_and_only_cropped() -> None:
    known = facts((3000,), thickness=5.0)
    prepared, why = preparing.prepare(known, vocabulary=100)
    assert (prepared.colour, prepared.normalise, prepared.channels) == ("tokens", "none", 1)
    assert "integers below 100" in why["prepare.colour"]
    plan, _ = augmenting.augment(known, (2048,), vocabulary=100)
    assert plan == augmenting.STILL


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(8, 400), min_size=1, max_size=3), st.sampled_from([1, 2]), st.floats(1, 6))
def test_every_patch_is_one_that_its_network_takes(size: list[int], stem: int, thick: float) -> None:
    spacing = (thick, *(1.0,) * (len(size) - 1))
    known = facts(tuple(size), spacing)
    wanted, _ = shape.patch(known, stem)
    net = rules.network(known, 2, 1, 8, wanted, stem)
    patch = shape.fitted(wanted, net)
    assert shape.takes(patch, geometry(net))
    assert 2 <= net.levels <= 7


@pytest.mark.parametrize("size", [(2048,), (256, 256), (40, 56, 40), (96, 96)])
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_fits_patches_of_every_dimension(name: str, size: tuple[int, ...]) -> None:
    net, cut = shape.preset_for(preset(name).form(len(size)), size)
    known = geometry(net)
    patch = shape.fitted(size, net)
    assert shape.takes(patch, known)
    assert min(known.output_shape(patch)) >= min(size) // 2
    assert bool(cut) == (net != preset(name).form(len(size)))
    narrow = shape.narrowed(net, 0.25)
    if narrow is not None:
        assert geometry(narrow).parameters < known.parameters


def test_a_short_axis_holds_the_others_of_a_preset_back_as_little_as_without_spacing() -> None:
    net = preset("unet").form(3)
    assert shape.preset_for(net, (8, 64, 64), (1.0, 1.0, 1.0)) == shape.preset_for(net, (8, 64, 64))
    assert shape.preset_for(net, (8, 64, 64))[0].stride(3) == (1, 2, 2)


def test_what_is_cut_of_a_preset_is_said() -> None:
    net, cut = shape.preset_for(preset("unet").form(3), (35, 51, 35))
    assert net.levels == 4
    assert cut == "4 of the preset's 5 levels, for patches of about 35 × 51 × 35 voxels"
    valid, cut = shape.preset_for(preset("unet3d").spec, (35, 51, 35))
    assert valid.levels < preset("unet3d").spec.levels, "else more border than volume would go in"
    assert shape.fitted((35, 51, 35), valid) != (35, 51, 35)


@pytest.mark.parametrize(
    ("changes", "rate"), [({}, 2e-3), ({"norm": "none"}, 1e-3), ({"bottleneck": "transformer"}, 1e-3)]
)
def test_the_learning_rate_follows_what_keeps_feature_maps_in_bounds(changes: dict[str, str], rate: float) -> None:
    plan, why = training.optim(1000, preset("unet").spec.replace(dict(changes)))
    assert plan.lr == rate
    assert why["optim.lr"]
