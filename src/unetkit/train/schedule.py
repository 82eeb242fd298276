"""How far the budget is spent, and what follows from it: the learning rate, when to validate, when to stop.

Everything is a function of one number, the fraction of the budget in [0, 1], so that the learning rate reaches zero
exactly when the budget ends, whether it is counted in minutes or in steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from unetkit.plan.parts import BudgetPlan, Fall, OptimPlan

# Without a budget: the share of the time that the learning rate stays up; the rest it falls (Hägele 2024, section 3).
STABLE = 0.75
# Without a budget: validation has settled when this many in a row brought no better Dice than this.
PATIENCE = 5
BETTER = 0.002
# Without a budget: seconds between validations at the beginning; they then follow the time spent.
FIRST_LOOK = 20.0


# From 1 to 0 over what is spent of the fall, in [0, 1].
FALLS: Mapping[Fall, Callable[[float], float]] = {
    "cosine": lambda spent: 0.5 * (1 + math.cos(math.pi * spent)),
    "poly": lambda spent: (1 - spent) ** 0.9,
    "linear": lambda spent: 1 - spent,
    "level": lambda spent: 1 - math.sqrt(spent),  # better than linear in Hägele 2024, section 3.2
    "constant": lambda _: 1.0,
    "restarts": lambda spent: 0.5 * (1 + math.cos(math.pi * spent)),
}


def in_cycle(spent: float, cycles: int, growth: float) -> float:
    """What is spent of the cycle that is going on, each `growth` times as long as the one before; 1.0 at the end of the
    last (Loshchilov 2017, equation 5: T_cur / T_i)."""
    lengths = [growth**n for n in range(cycles)]
    left = spent * sum(lengths)
    for length in lengths[:-1]:
        if left < length:
            return left / length
        left -= length
    return min(left / lengths[-1], 1.0)


@dataclass
class Schedule:
    """Follows one run. `settled` is the elapsed time (s) at which validation had settled (only without a budget)."""

    budget: BudgetPlan
    optim: OptimPlan
    reserve: float = 0.0
    """Seconds of the minutes that are kept for what comes after the last step."""
    settled: float | None = None
    looks: list[float] = field(default_factory=list)
    """Without a budget: Dice of the validations so far."""

    @property
    def open_ended(self) -> bool:
        """No budget was given: run until validation has settled."""
        return self.budget.minutes is None and self.budget.steps is None

    def seconds(self) -> float | None:
        """Seconds of training that the budget holds; None for a budget in steps."""
        if self.budget.steps is not None:
            return None
        if self.budget.minutes is not None:
            return max(self.budget.minutes * 60 - self.reserve, 1.0)
        limit = self.budget.limit * 60
        return limit if self.settled is None else min(self.settled / STABLE, limit)

    def fraction(self, step: int, elapsed: float) -> float:
        """Share of the budget that is spent after `step` steps and `elapsed` seconds of training, at most 1."""
        if self.budget.steps is not None:
            return min(step / self.budget.steps, 1.0)
        seconds = self.seconds()
        return min(elapsed / seconds, 1.0) if seconds else 1.0

    def learning_rate(self, fraction: float) -> float:
        """Warm-up, then the fall that the plan names; without a budget, level until `STABLE` of it, then one fall."""
        optim = self.optim
        rise = min(1.0, (fraction + 1e-3) / optim.warmup) if optim.warmup else 1.0
        start = STABLE if self.open_ended else 1 - optim.decay if optim.schedule == "level" else optim.warmup
        spent = min(max(0.0, (fraction - start) / (1 - start)), 1.0)
        if optim.schedule == "restarts" and not self.open_ended:
            spent = in_cycle(spent, optim.cycles, optim.growth)
        return optim.lr * rise * FALLS[optim.schedule](spent)

    def mark(self, fraction: float, elapsed: float) -> int:
        """Number of the last validation that is due: one is held whenever this number grows."""
        if self.open_ended and self.settled is None:
            # after 20 s, 40 s, 60 s, then ever more seldom: the n-th at FIRST_LOOK · n^1.3
            return int((elapsed / FIRST_LOOK) ** (1 / 1.3))
        offset = 10_000 if self.open_ended else 0
        return offset + int(fraction / self.budget.join * self.budget.validations + 1e-9)

    def look(self, dice: float | None, elapsed: float) -> bool:
        """Take note of a validation. Returns True when validation settled with it (only without a budget)."""
        if not self.open_ended or self.settled is not None or dice is None:
            return False
        self.looks.append(dice)
        if len(self.looks) <= PATIENCE:
            return False
        before = max(self.looks[:-PATIENCE])
        if max(self.looks[-PATIENCE:]) > before + BETTER:
            return False
        self.settled = elapsed
        return True
