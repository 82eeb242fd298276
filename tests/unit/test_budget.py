"""Capacity follows the budget: the largest network that completes its useful schedule, by timed steps."""

from __future__ import annotations

import pytest

from unetkit.data.labels.legend import Legend
from unetkit.data.prepared.plan import PreparePlan
from unetkit.nets.spec import NetSpec
from unetkit.plan import budget, sizing
from unetkit.plan.budget import Arithmetic, Candidate, candidate_for_steps, choose_capacity
from unetkit.plan.parts import SamplingPlan
from unetkit.plan.plan import DataPlan, Plan, Request

CPU = Arithmetic("cpu", "fp32", "contiguous", 1)
CANDIDATES = [
    Candidate(NetSpec(channels=(8, 16)), 2, 0),
    Candidate(NetSpec(channels=(16, 32)), 2, 400),
    Candidate(NetSpec(channels=(32, 64)), 4, 5000),
]


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {8: 0.01, 16: 0.05, 32: 0.2}
    monkeypatch.setattr(budget, "seconds_per_step", lambda spec, *_: seconds[spec.channels[0]])


@pytest.mark.parametrize(
    ("seconds", "width", "steps"), [(10, 8, 1000), (30, 16, 600), (500, 16, 10_000), (1000, 32, 5000)]
)
def test_more_time_buys_a_wider_network(timed: None, seconds: float, width: int, steps: int) -> None:
    chosen = choose_capacity(CANDIDATES, (32, 32), CPU, seconds=seconds)
    assert (chosen.candidate.spec.channels[0], chosen.steps) == (width, steps)
    assert f"width {width} batch" in chosen.why
    assert "timed here: width 8 batch 2 10 ms" in chosen.why


@pytest.mark.parametrize(("steps", "width"), [(1, 8), (399, 8), (400, 16), (4999, 16), (5000, 32)])
def test_a_budget_in_steps_decides_without_timing(steps: int, width: int) -> None:
    chosen = candidate_for_steps(CANDIDATES, steps)
    assert chosen.candidate.spec.channels[0] == width
    assert chosen.step is None


def test_timing_is_of_real_steps() -> None:
    assert 0 < budget.seconds_per_step(NetSpec(channels=(4, 8)), (32, 32), 1, CPU, seconds=0) < 60


def test_what_does_not_fit_into_memory_is_not_taken(timed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    net, request = NetSpec(ndim=3, channels=(8, 16)), Request(minutes=10)
    legend = Legend.parse(
        {
            "kind": "values",
            "classes": [{"name": n, "value": v, "colour": (0, 0, 0)} for v, n in enumerate("ab")],
            "background": 0,
            "reason": "",
        },
        "test",
    )
    plan = Plan(
        request=request,
        data=DataPlan(path=".", legend=legend, cases=1, digest=""),
        prepare=PreparePlan(),
        net=net,
        sampling=SamplingPlan(patch=(64, 64, 64), batch=2),
    )
    candidates = [Candidate(net.widths(f), 2, least) for f, least in ((1, 0), (2, 400), (4, 5000))]

    def chosen(room: int) -> tuple[int, tuple[int, ...], str]:
        monkeypatch.setattr(sizing, "free_bytes", lambda _: room)
        found, capacity, why = sizing.with_capacity(plan, request, candidates, 2000)
        return found.net.channels[0], found.sampling.patch, capacity.why + why.get("sampling.patch", "")

    needed = [sizing.step_bytes(c, (64, 64, 64), plan) for c in candidates]
    assert chosen(2 * needed[2])[:2] == (32, (64, 64, 64))
    width, patch, why = chosen(needed[1])
    assert (width, patch) == (16, (64, 64, 64))
    assert "larger ones do not fit into" in why
    _, patch, why = chosen(needed[0] // 2)
    assert patch == (32, 32, 32)
    assert "halved, so that a step of the smallest network fits into" in why
