"""How far the budget is spent, and what follows from it: the learning rate, when to validate, when to stop.

Everything is a function of one number, the fraction of the budget in [0, 1], so that the learning rate reaches zero
exactly when the budget ends, whether it is counted in minutes or in steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from unetkit.plan.parts import BudgetPlan, OptimPlan

# Without a budget: the share of the time that the learning rate stays up; the rest it falls (Hägele 2024, section 3).
STABLE = 0.75
# Without a budget: validation has settled when this many in a row brought no better Dice than this.
PATIENCE = 5
BETTER = 0.002
# Without a budget: seconds between validations at the beginning; they then follow the time spent.
FIRST_LOOK = 20.0


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
        """Warm-up, then a cosine to zero; without a budget, level until `STABLE` of it, then the cosine."""
        rise = min(1.0, (fraction + 1e-3) / self.optim.warmup) if self.optim.warmup else 1.0
        start = STABLE if self.open_ended else self.optim.warmup
        fall = max(0.0, (fraction - start) / (1 - start))
        return self.optim.lr * rise * 0.5 * (1 + math.cos(math.pi * min(fall, 1.0)))

    def mark(self, fraction: float, elapsed: float) -> int:
        """Number of the last validation that is due: one is held whenever this number grows."""
        if self.open_ended and self.settled is None:
            # after 20 s, 40 s, 60 s, then ever more seldom: the n-th at FIRST_LOOK · n^1.3
            return int((elapsed / FIRST_LOOK) ** (1 / 1.3))
        offset = 10_000 if self.open_ended else 0
        return offset + int(fraction * self.budget.validations + 1e-9)

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
