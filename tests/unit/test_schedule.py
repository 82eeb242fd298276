"""The learning rate lands exactly when the budget does; validations are spread; open-ended runs settle."""

from __future__ import annotations

import pytest

from unetkit.plan.parts import BudgetPlan, OptimPlan
from unetkit.train.schedule import PATIENCE, STABLE, Schedule

OPTIM = OptimPlan(lr=1.0, warmup=0.1)


def test_steps_are_the_fraction_of_a_budget_in_steps() -> None:
    schedule = Schedule(BudgetPlan(steps=200), OPTIM)
    assert [schedule.fraction(s, 1e9) for s in (0, 50, 200, 300)] == [0.0, 0.25, 1.0, 1.0]
    assert schedule.seconds() is None


def test_minutes_leave_the_reserve() -> None:
    schedule = Schedule(BudgetPlan(minutes=2), OPTIM, reserve=20)
    assert schedule.fraction(10**6, 50) == 0.5
    assert schedule.fraction(0, 100) == 1.0


def test_the_rate_rises_falls_and_ends_at_zero() -> None:
    schedule = Schedule(BudgetPlan(steps=10), OPTIM)
    rates = [schedule.learning_rate(f / 100) for f in range(101)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == rates[10] == pytest.approx(1.0, abs=1e-6)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)


def test_validations_are_spread_and_the_last_is_at_the_end() -> None:
    schedule = Schedule(BudgetPlan(steps=100, validations=4), OPTIM)
    marks = [schedule.mark(schedule.fraction(s, 0), 0) for s in range(101)]
    assert [s for s in range(1, 101) if marks[s] > marks[s - 1]] == [25, 50, 75, 100]


def test_without_a_budget_it_settles_and_then_the_rate_falls() -> None:
    schedule = Schedule(BudgetPlan(limit=10), OPTIM)
    assert schedule.open_ended
    assert schedule.learning_rate(0.5) == 1.0
    for look in range(3):
        assert not schedule.look(0.5 + look / 10, 30.0 * look)
    settled = [schedule.look(0.7, 100.0 + k) for k in range(PATIENCE)]
    assert settled == [False] * (PATIENCE - 1) + [True]
    at = 100.0 + PATIENCE - 1
    assert schedule.seconds() == pytest.approx(at / STABLE)
    assert schedule.fraction(0, at) == pytest.approx(STABLE)
    assert schedule.learning_rate(schedule.fraction(0, at)) == pytest.approx(1.0)
    assert schedule.learning_rate(1.0) == pytest.approx(0.0, abs=1e-12)


def test_without_a_budget_the_announced_bound_holds() -> None:
    schedule = Schedule(BudgetPlan(limit=1), OPTIM)
    for k in range(PATIENCE + 1):
        schedule.look(0.5, 55.0 + k)
    assert schedule.seconds() == 60.0
