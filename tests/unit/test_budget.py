"""Capacity follows the budget: the largest network that completes its useful schedule, by timed steps."""

from __future__ import annotations

import pytest

from unetkit.nets.spec import NetSpec
from unetkit.plan import budget
from unetkit.plan.budget import Arithmetic, Candidate, candidate_for_steps, choose_capacity

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
