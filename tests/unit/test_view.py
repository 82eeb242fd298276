"""Volumes seen whole, in slices with their neighbours, or slice by slice: what is chosen, and what the networks are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unetkit.core.errors import PlanError
from unetkit.data.labels.legend import Legend
from unetkit.data.prepared.plan import PreparePlan
from unetkit.nets.build import build
from unetkit.nets.geometry import geometry
from unetkit.nets.presets import preset
from unetkit.nets.spec import NetSpec
from unetkit.plan import rules, shape, view
from unetkit.plan.draft import draft
from unetkit.plan.fingerprint import CaseFacts, ClassFacts, Fingerprint
from unetkit.plan.make import show
from unetkit.plan.plan import DataPlan, Plan, Request
from unetkit.plan.sizing import _halved


def facts(size: tuple[int, ...], spacing: tuple[float, ...] | None = None) -> Fingerprint:
    one = CaseFacts(
        id="a", shape=size, spacing=spacing, channels=1, dtype="int16", mean=0.0, std=1.0, unit="mm" if spacing else ""
    )
    classes = tuple(ClassFacts(name=n, fraction=0.5, cases=1, thickness=6.0) for n in ("background", "organ"))
    return Fingerprint(cases=(one,) * 20, classes=classes, colour=False, ignored=0.0)


@pytest.mark.parametrize(
    ("size", "spacing", "chosen", "why"),
    [
        ((35, 51, 35), (1.0, 1.0, 1.0), "3d", "about as long along every axis"),
        ((300, 300, 100), (0.8, 0.8, 2.5), "3d", "3.1 times as thick"),
        ((256, 256, 40), (0.7, 0.7, 3.5), "2.5d", "5.0 times as thick"),
        ((256, 216, 10), (1.5, 1.5, 13.0), "2d", "8.7 times as thick"),
        ((6, 512, 512), None, "2.5d", "6 slices of 512 pixels"),
        ((1, 512, 512), None, "2d", "one slice"),
        ((6, 8, 7), None, "3d", ""),
    ],
)
def test_the_view_follows_spacing_and_the_number_of_slices(
    size: tuple[int, ...], spacing: tuple[float, ...] | None, chosen: str, why: str
) -> None:
    look = view.choose(facts(size, spacing))
    assert look.view == chosen
    assert why in look.why
    assert (look.axis is None) == (chosen == "3d")
    asked = view.choose(facts(size, spacing), "3d")
    assert asked.view == "3d"
    assert asked.why.startswith("as asked")


def planned(known: Fingerprint, asked: str = "auto") -> tuple[NetSpec, tuple[int, ...], view.Look]:
    look = view.choose(known, asked)
    size, _ = view.patch(known, look, 1)
    net = rules.network(known, 2, 1, 8, size, 1, look)
    patch = shape.fitted(size, net)
    assert shape.takes(patch, geometry(net))
    return net, patch, look


def test_a_network_of_slices_shares_nothing_across_them() -> None:
    net, patch, look = planned(facts((256, 216, 10), (1.5, 1.5, 13.0)))
    assert look.axis == 2
    known = geometry(net)
    assert (known.halo[2], known.divisor[2]) == (0, 1)
    assert patch[2] == 1
    assert patch[0] * patch[1] > 200 * 200
    assert rules.capacities(net) == rules.CAPACITIES[2]
    assert show_kernels(net) == ", ".join(["3 × 3 × 1"] * net.levels)


def test_neighbours_are_seen_at_the_finest_level_alone() -> None:
    net, patch, _ = planned(facts((40, 256, 256), (3.5, 0.7, 0.7)))
    assert net.kernel(0) == (3, 3, 3)
    assert all(net.kernel(level) == (1, 3, 3) for level in range(1, net.levels))
    assert all(net.stride(level)[0] == 1 for level in range(net.levels - 1))
    assert geometry(net).halo[0] == 4
    assert patch[0] == view.SLAB
    assert rules.capacities(net) == rules.CAPACITIES[3]


def test_kernels_grow_when_voxels_are_nearly_as_long_everywhere() -> None:
    net, _, _ = planned(facts((300, 300, 100), (0.8, 0.8, 2.5)))
    assert net.kernel(0) == (3, 3, 1)
    assert net.stride(0) == (2, 2, 1)
    assert net.kernel(1) == (3, 3, 3)
    alike, _, _ = planned(facts((35, 51, 35), (1.0, 1.0, 1.0)))
    assert (alike.kernels, alike.strides) == (3, 2)


@pytest.mark.parametrize("axis", [0, 2])
def test_a_network_of_slices_is_the_network_of_two_dimensions(axis: int) -> None:
    shared = {"channels": (4, 8, 16), "block": "residual", "classes": 3}
    plane = NetSpec.parse({"ndim": 2, **shared}, "test")

    def flat(k: int) -> tuple[int, ...]:
        return tuple(1 if a == axis else k for a in range(3))

    volume = NetSpec.parse({"ndim": 3, "kernels": [flat(3)] * 3, "strides": [flat(2)] * 2, **shared}, "test")
    two, three = build(plane, seed=3).eval(), build(volume, seed=4).eval()
    weights = two.state_dict()
    assert set(weights) == set(three.state_dict())
    three.load_state_dict({name: w.unsqueeze(2 + axis) if w.ndim == 4 else w for name, w in weights.items()})
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 1, 5, 16, 24)).astype(np.float32))
    with torch.inference_mode():
        found = three(image.movedim(2, 2 + axis)).movedim(2 + axis, 2)
        for k in range(5):
            torch.testing.assert_close(found[:, :, k], two(image[:, :, k]), atol=1e-5, rtol=1e-5)


def test_presets_follow_thick_slices_and_views() -> None:
    known = facts((256, 256, 40), (0.7, 0.7, 3.5))
    for asked in ("2d", "2.5d", "3d"):
        look = view.choose(known, asked)
        size, _ = view.patch(known, look, 1)
        net, cut = shape.preset_for(preset("unet").form(3), size, look.aspect, look.view == "2.5d")
        assert cut
        assert shape.takes(shape.fitted(size, net), geometry(net))
        assert net.stride(0) == (2, 2, 1)
        assert net.kernel(0)[2] == (3 if asked == "2.5d" else 1)
        assert (geometry(net).halo[2] == 0) == (asked == "2d")
    own = preset("unet").form(3).replace({"strides": ((1, 2, 2), 2, 2, 2)})
    assert shape.preset_for(own, (64, 64, 64), (5.0, 1.0, 1.0))[0] == own, "it has its own strides per axis"


LEGEND = Legend.parse(
    {
        "kind": "values",
        "classes": [{"name": n, "value": v, "colour": (0, 0, 0)} for v, n in enumerate(("background", "organ"))],
        "background": 0,
        "reason": "",
    },
    "test",
)
DATA = DataPlan(path=".", legend=LEGEND, cases=20, digest="")
THICK = facts((256, 256, 40), (0.7, 0.7, 3.5))


def test_a_plan_says_how_volumes_are_seen_and_takes_what_is_asked() -> None:
    plan, why = draft(THICK, LEGEND, DATA, Request(steps=10))
    assert why["net.kernels"].startswith("2.5d: slices are 5.0 times as thick")
    assert plan.augment.fixed == (2,)
    assert plan.sampling.patch[2] == view.SLAB
    plan, why = draft(THICK, LEGEND, DATA, Request(steps=10, view="2d"))
    assert why["net.kernels"].startswith("2d: as asked (suggested: 2.5d")
    assert plan.sampling.patch[2] == 1
    plan, _ = draft(THICK, LEGEND, DATA, Request(steps=10, view="3d"))
    assert plan.net.kernel(0) == (3, 3, 1)
    # networks whose norm looks over the whole patch are not taken for slices, unless they are asked for
    plan, why = draft(THICK, LEGEND, DATA, Request(steps=10, model="nnunet"))
    assert why["net.kernels"].startswith("3d")


def test_a_network_that_is_taken_as_it_is_has_no_other_view() -> None:
    own = NetSpec(ndim=3, channels=(8, 16))
    with pytest.raises(PlanError, match=r"--view 2d: the network is taken as it is"):
        draft(THICK, LEGEND, DATA, Request(steps=10, model=own, view="2d"))
    plan, why = draft(THICK, LEGEND, DATA, Request(steps=10, model=own))
    assert plan.net.kernels == 3
    assert why["net.kernels"] == "3d: as the network is"


def test_axes_that_a_network_has_not_are_refused() -> None:
    plan, _ = draft(THICK, LEGEND, DATA, Request(steps=10))
    for settings, message in (
        ({"prepare.spacing": [1.0, 1.0]}, r"prepare\.spacing has 2 lengths, but the network has 3 axes"),
        ({"prepare.spacing": [1.0, 1.0, -1.0]}, r"one length above 0 per axis"),
    ):
        with pytest.raises(PlanError, match=message):
            plan.override(settings, "--set")
    flat = NetSpec(channels=(8, 16))
    with pytest.raises(ValueError, match=r"augment\.fixed names axis 2, but axes count from 0 to 1"):
        Plan(
            request=Request(),
            data=DATA,
            prepare=PreparePlan(),
            net=flat,
            augment=plan.augment.model_copy(update={"aspect": ()}),
        )


def test_a_patch_is_halved_in_the_plane_of_thick_slices() -> None:
    plan, _ = draft(THICK, LEGEND, DATA, Request(steps=10, view="2d"))
    half = _halved(plan.sampling.patch, plan)
    assert half == (plan.sampling.patch[0] // 2, plan.sampling.patch[1] // 2, 1)
    plan, _ = draft(facts((35, 51, 35), (1.0, 1.0, 1.0)), LEGEND, DATA, Request(steps=10))
    assert _halved(plan.sampling.patch, plan) is None


def show_kernels(net: NetSpec) -> str:
    plan, _ = draft(THICK, LEGEND, DATA, Request(steps=10))
    return show(plan.model_copy(update={"net": net}), "net.kernels")
