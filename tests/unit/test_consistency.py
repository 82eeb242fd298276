"""Images without masks: what is shown of them, what is compared, and what is left alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from unetkit.augment.plan import AugmentPlan
from unetkit.data.case import IGNORE
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.data.prepared.patches import PreparedCase
from unetkit.data.prepared.places import Places
from unetkit.data.prepared.plan import PreparePlan
from unetkit.nets.build import build
from unetkit.nets.spec import NetSpec
from unetkit.plan.learning import LearnPlan
from unetkit.plan.parts import SamplingPlan
from unetkit.plan.plan import DataPlan, Plan, Request
from unetkit.train.consistency import Consistency, box, disagreement, pasted, risen

PATCH = {1: (32,), 2: (16, 16), 3: (8, 8, 8)}
QUIET = dict.fromkeys(("brightness", "contrast", "gamma", "noise", "blur"), 0.0)


def make_plan(ndim: int = 2, batch: int = 4, augment: dict[str, Any] | None = None, **net: Any) -> Plan:
    classes = tuple(LegendClass(name=str(v), value=v, colour=(v, v, v)) for v in (0, 255))
    legend = Legend(kind="values", classes=classes, background=0)
    return Plan(
        request=Request(),
        data=DataPlan(path="none", legend=legend, cases=1, digest="none", unlabelled=2),
        prepare=PreparePlan(normalise="none"),
        net=NetSpec(**{"ndim": ndim, "channels": (4, 8), "classes": 2} | net),
        augment=AugmentPlan(**(augment or {})),
        sampling=SamplingPlan(patch=PATCH[ndim], batch=batch),
        learn=LearnPlan(unlabelled=0.5, ramp=0.5, confidence=0.0),
    )


def make_cases(ndim: int = 2, ignored: bool = False) -> list[PreparedCase]:
    shape = tuple(2 * n for n in PATCH[ndim])
    random = np.random.default_rng(0)
    label = np.full(shape, IGNORE if ignored else 0, np.uint8)
    return [
        PreparedCase(str(k), random.standard_normal((1, *shape)).astype(np.float32), label, Places()) for k in range(3)
    ]


def test_the_weight_rises_as_in_the_paper() -> None:
    assert [risen(f, 0.5) for f in (0.0, 0.25, 0.5, 1.0)] == [math.exp(-5), math.exp(-1.25), 1.0, 1.0]
    assert risen(0.0, 0.0) == 1.0


@pytest.mark.parametrize("regions", [False, True])
def test_disagreement_is_that_of_a_loop(regions: bool) -> None:
    g = torch.Generator().manual_seed(0)
    logits, other = (torch.randn(2, 3, 4, 5, generator=g) for _ in range(2))
    shares = torch.sigmoid(other) if regions else torch.softmax(other, 1)
    valid = torch.rand(2, 4, 5, generator=g) > 0.3
    own = torch.sigmoid(logits) if regions else torch.softmax(logits, 1)
    total, count = 0.0, 0
    for b, y, x in np.ndindex(2, 4, 5):
        if not valid[b, y, x]:
            continue
        count += 1
        for k in range(3):
            p = float(shares[b, k, y, x])
            sure = max(p, 1 - p) >= 0.6 if regions else float(shares[b, :, y, x].max()) >= 0.6
            total += (float(own[b, k, y, x]) - p) ** 2 * sure
    assert float(disagreement(logits, shares, valid, 0.6, regions)) == pytest.approx(total / count, rel=1e-5)
    assert float(disagreement(other, shares, valid, 0.0, regions)) == pytest.approx(0, abs=1e-12)
    assert float(disagreement(logits, shares, torch.zeros_like(valid), 0.0, regions)) == 0.0


@pytest.mark.parametrize("patch", [(64,), (32, 48), (16, 16, 16)])
def test_half_of_a_patch_is_pasted_anywhere(patch: tuple[int, ...]) -> None:
    found = [box(patch, np.random.default_rng(seed)) for seed in range(20)]
    assert all(0.4 < float(inside.float().mean()) < 0.6 for inside in found)
    assert len({tuple(np.argwhere(inside.numpy())[0]) for inside in found}) > 5
    a, b = torch.zeros(patch), torch.ones(patch)
    mixed = pasted(torch.stack([a, b]), torch.stack(found[:2]))
    assert torch.equal(mixed[0], found[0].float())
    assert torch.equal(mixed[1], 1 - found[1].float())


def test_both_see_the_same_place_and_the_same_step_is_the_same() -> None:
    also = Consistency(make_cases(), make_plan(augment=QUIET))
    plain, strong, label, inside = also.patches(3)
    assert plain.shape == (2, 1, 16, 16)
    assert torch.equal(strong, pasted(plain, inside[:, None]))
    assert not label.any()
    again = Consistency(make_cases(), make_plan(augment=QUIET)).patches(3)
    assert all(torch.equal(a, b) for a, b in zip((plain, strong, label, inside), again, strict=True))
    assert not torch.equal(also.patches(4)[0], plain)
    loud, seen, *_ = Consistency(make_cases(), make_plan()).patches(3)
    assert torch.equal(loud, plain)
    assert not torch.allclose(seen, strong)


@pytest.mark.parametrize(
    ("ndim", "net"),
    [
        (1, {}),
        (2, {}),
        (3, {}),
        (2, {"deep_supervision": True, "channels": (4, 6, 8)}),
        (2, {"padding": "valid", "blocks": 1}),
    ],
)
def test_it_teaches_the_network_and_nothing_else(ndim: int, net: dict[str, Any]) -> None:
    plan = make_plan(ndim, batch=2, **net)
    also = Consistency(make_cases(ndim), plan)
    assert also.count == 1
    network, average = build(plan.net, seed=0), build(plan.net, seed=1).eval().requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items() if "running" in name}
    value = also.loss(network, average, 0, 1.0)
    assert value is not None
    assert value.ndim == 0
    assert float(value.detach()) > 0
    torch.autograd.backward(value)
    assert any(p.grad is not None and bool(p.grad.any()) for p in network.parameters())
    assert all(torch.equal(network.state_dict()[name], v) for name, v in before.items())
    assert all(m.momentum == 0.1 for m in network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm))
    early = also.loss(network, average, 0, 0.0)
    assert early is not None
    assert float(early.detach()) == pytest.approx(float(value.detach()) * math.exp(-5), rel=1e-4)


def test_what_holds_nothing_teaches_nothing() -> None:
    plan = make_plan()
    network = build(plan.net, seed=0)
    value = Consistency(make_cases(ignored=True), plan).loss(network, build(plan.net, seed=1).eval(), 0, 1.0)
    assert value is not None
    assert float(value.detach()) == 0.0
    silent = plan.model_copy(update={"learn": LearnPlan(unlabelled=0.5, weight=0.0)})
    assert Consistency(make_cases(), silent).loss(network, network, 0, 1.0) is None
