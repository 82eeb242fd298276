"""A start by painting in hidden blocks: what is hidden, what counts, what the network keeps of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from unetkit.augment.plan import AugmentPlan
from unetkit.core.errors import PlanError, RunError
from unetkit.core.events import drain
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.data.prepared.patches import PreparedCase
from unetkit.data.prepared.places import Places
from unetkit.data.prepared.plan import PreparePlan
from unetkit.nets.build import build
from unetkit.nets.spec import NetSpec
from unetkit.nets.weights import read_weights
from unetkit.plan.learning import LearnPlan
from unetkit.plan.parts import BudgetPlan, MachinePlan, SamplingPlan
from unetkit.plan.plan import DataPlan, Plan, Request
from unetkit.train import masked
from unetkit.train.log import EventLog
from unetkit.train.loop import START

CLASSES = tuple(LegendClass(name=str(v), value=v, colour=(v, v, v)) for v in (0, 255))


def make_plan(steps: int | None = 20, **net: Any) -> Plan:
    spec = NetSpec(**{"channels": (4, 8), "classes": 2} | net)
    return Plan(
        request=Request(),
        data=DataPlan(path="", legend=Legend(kind="values", classes=CLASSES, background=0), cases=1, digest=""),
        prepare=PreparePlan(normalise="none", channels=spec.in_channels, colour="bands"),
        net=spec,
        augment=AugmentPlan(elastic=2.0),
        sampling=SamplingPlan(patch=(32,) * spec.ndim, batch=2),
        learn=LearnPlan(masked=0.5),
        budget=BudgetPlan(steps=steps, minutes=None if steps else 1.0, save_every=0),
        machine=MachinePlan(threads=1),
    )


def make_cases(channels: int = 1) -> list[PreparedCase]:
    random = np.random.default_rng(0)
    images = [ndimage.gaussian_filter(random.standard_normal((channels, 64, 64)), (0, 3, 3)) * 8 for _ in range(3)]
    label = np.zeros((64, 64), np.uint8)
    return [PreparedCase(str(k), image.astype(np.float32), label, Places()) for k, image in enumerate(images)]


@pytest.mark.parametrize("patch", [(64,), (32, 48), (16, 16, 16), (1, 32, 32)])
def test_whole_blocks_are_hidden(patch: tuple[int, ...]) -> None:
    hidden = masked.blocks(patch, 8, 0.6, 5)
    assert hidden.shape == patch
    assert 0.55 < float(hidden.float().mean()) < 0.65
    assert torch.equal(hidden, masked.blocks(patch, 8, 0.6, 5))
    assert not torch.equal(hidden, masked.blocks(patch, 8, 0.6, 6))
    side = max(1, patch[-1] // 8)
    assert torch.equal(hidden, hidden[..., ::side].repeat_interleave(side, -1))


def test_only_hidden_pixels_count() -> None:
    painted, image = torch.zeros(1, 2, 6, 6), torch.ones(1, 2, 8, 8)
    image[:, 1] = 3
    hidden = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    hidden[..., 3:5, :] = True
    image[~hidden.expand_as(image)] = 100
    assert float(masked.difference(painted, image, hidden)) == 2.0
    assert float(masked.difference(painted, image, torch.zeros_like(hidden))) == 0.0


@pytest.mark.parametrize(
    "net", [{}, {"in_channels": 2}, {"stem_stride": 2}, {"head": "block"}, {"classes": 1, "ndim": 1}]
)
def test_the_body_is_all_but_what_makes_classes(net: dict[str, Any]) -> None:
    spec = NetSpec(**{"channels": (4, 8), "classes": 2} | net)
    other, own = build(masked.painter(spec), seed=1), build(spec, seed=2)
    assert other.spec.classes == spec.in_channels
    body = masked.body(spec, other.state_dict())
    missing, extra = own.load_state_dict(body, strict=False)
    assert not extra
    assert missing
    assert all(name.startswith("head") for name in missing)


def test_the_budget_is_shared() -> None:
    plan = make_plan(20)
    assert (masked.steps_of(plan), masked.after(plan).budget.steps) == (10, 10)
    minutes = make_plan(None)
    assert masked.steps_of(minutes) is None
    assert masked.after(minutes) == minutes


def test_what_is_hidden_is_learnt(tmp_path: Path) -> None:
    plan = make_plan(300)
    outcome = drain(masked.paint(plan, make_cases(), tmp_path, EventLog(tmp_path)))
    assert outcome.finished
    assert outcome.position.step == 150
    assert outcome.position.loss is not None
    assert outcome.position.loss < 0.75 * first_loss()
    state, _ = read_weights(tmp_path / START)
    assert set(state) < set(build(plan.net).state_dict())


def first_loss() -> float:
    """Of a network that paints zeros."""
    plan = make_plan()
    image, hidden = masked.Masked(make_cases(), plan).patches(0)
    return float(masked.difference(torch.zeros_like(image), image, hidden[:, None]))


def test_stopped_and_gone_on_is_the_same(tmp_path: Path) -> None:
    plan, runs = make_plan(24), [tmp_path / "whole", tmp_path / "parts"]
    for run in runs:
        run.mkdir()
    drain(masked.paint(plan, make_cases(), runs[0], EventLog(runs[0])))
    sittings = 0
    finished = False
    while not finished:
        calls = iter([False, False, True])
        finished = drain(
            masked.paint(plan, make_cases(), runs[1], EventLog(runs[1]), lambda calls=calls: next(calls))
        ).finished
        sittings += 1
    assert sittings > 3
    assert (runs[0] / START).read_bytes() == (runs[1] / START).read_bytes()
    said = []
    again = drain(masked.paint(plan, make_cases(), runs[1], EventLog(runs[1])), said.append)
    assert again.finished
    assert not said
    changed = plan.model_copy(update={"seed": 5})
    with pytest.raises(RunError, match="the plan changed after step 12 of this run"):
        drain(masked.paint(changed, make_cases(), runs[1], EventLog(runs[1])))


def test_tokens_are_refused() -> None:
    values = make_plan().model_dump()
    values["net"] |= {"vocabulary": 5}
    values["prepare"] |= {"colour": "tokens"}
    with pytest.raises(PlanError, match="tokens stand for things and cannot be painted in; leave --pretrain out"):
        Plan.parse(values, "the plan")
