"""What a plan will cost, told before anything long starts: time, steps, memory."""

from __future__ import annotations

from dataclasses import dataclass

from unetkit.core.machine import format_duration, format_memory, free_memory
from unetkit.data.prepared.store import SHARE, prepared_bytes
from unetkit.nets.geometry import geometry
from unetkit.plan.budget import Candidate, Capacity, arithmetic_of, seconds_per_step
from unetkit.plan.fingerprint import Fingerprint
from unetkit.plan.loss import loss_of
from unetkit.plan.plan import Plan
from unetkit.plan.sizing import step_bytes

# Bytes that the process holds whatever it trains: libraries, and the memory that the convolutions work in.
LIBRARIES = 700_000_000


@dataclass(frozen=True)
class Cost:
    """`seconds`: of everything (None: until validation has settled, at most `limit`); `step`: seconds of one step;
    `memory`: bytes that the process will hold; `folds`: trainings of so many `steps` each."""

    seconds: float | None
    limit: float
    steps: int
    step: float
    parameters: int
    memory: int
    folds: int = 1

    def __str__(self) -> str:
        time = (
            f"at most {format_duration(self.limit)}"
            if self.seconds is None
            else (f"about {format_duration(self.seconds)}")
        )
        steps = f"{self.steps} steps of {self.step * 1000:.0f} ms"
        if self.folds > 1:
            steps = f"{self.folds} folds of {steps}"
        return (
            f"{time}, {steps}, {self.parameters / 1e6:.2f} million parameters, {format_memory(self.memory)} of memory"
        )


def estimate(plan: Plan, capacity: Capacity, facts: Fingerprint) -> Cost:
    """The cost of a plan. Where no step was timed yet (a budget in steps), one is timed now: it is shown only, and has
    no part in any decision."""
    step = capacity.step
    if step is None:
        step = seconds_per_step(
            plan.net, plan.sampling.patch, plan.sampling.batch, arithmetic_of(plan.machine), loss_of(plan), 0
        )
    step *= plan.learn.step_cost
    seconds = None if plan.budget.minutes is None else 60 * plan.budget.minutes
    if plan.budget.steps is not None:
        seconds = step * plan.budget.steps * plan.data.trained
    parameters = geometry(plan.net).parameters
    memory = training_memory(plan, facts)
    return Cost(seconds, 60 * plan.budget.limit, capacity.steps, step, parameters, memory, plan.data.trained)


def training_memory(plan: Plan, facts: Fingerprint) -> int:
    """Bytes that training is expected to hold: a step, images (those that fit), the libraries. facts: of the files."""
    step = step_bytes(Candidate(plan.net, plan.sampling.batch), plan.sampling.patch, plan)
    cases = facts.prepared(plan.prepare).cases
    images = prepared_bytes([c.shape for c in cases], plan.prepare.channels)
    return step + min(images, int(SHARE * free_memory())) + LIBRARIES
