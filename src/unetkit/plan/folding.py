"""How many folds: what the data are divided into, and how many of them the time suffices for."""

from __future__ import annotations

from collections.abc import Sequence

from unetkit.core.machine import format_duration
from unetkit.plan import rules
from unetkit.plan.budget import Candidate, arithmetic_of, seconds_per_step
from unetkit.plan.loss import loss_of
from unetkit.plan.plan import Plan, Request

# From so many minutes on, cases are divided into so many folds unasked, of which so many must be worth training.
FOLDS_FROM, FOLDS, FEWEST = 40.0, 5, 3
# Unasked, each must complete the steps without which no network of this many steps or more is worth its cost.
ENOUGH = 1800


def folds_of(request: Request, most: int) -> int:
    """How many folds the cases are divided into, of which there can be `most`: as asked; else several where there are
    many minutes, else none (1)."""
    if request.folds is not None:
        return request.folds
    long = request.minutes is not None and request.minutes >= FOLDS_FROM
    return min(FOLDS, most) if long and most >= FEWEST else 1


def folds_in_time(plan: Plan, candidates: Sequence[Candidate], patch: Sequence[int], seconds: float) -> tuple[int, str]:
    """How many of the folds are trained in `seconds`, at least one; and why.

    A fold that was asked for must complete the steps without which even the second smallest network is not worth its
    cost (`rules.capacities`): below, several networks together know less than one that had all the time. Unasked,
    there are several only where each has time for a network of fair size, and more time would teach one alone little.
    """
    folds, asked = plan.data.folds, plan.request.folds is not None
    if folds == 1:
        return 1, ""
    worth = 1 if asked else ENOUGH
    needed = min(least for _, _, least in rules.capacities(plan.net) if least >= worth)
    candidate = next((c for c in candidates if c.least >= worth), candidates[-1])
    step = seconds_per_step(candidate.spec, patch, candidate.batch, arithmetic_of(plan.machine), loss_of(plan))
    trained = max(1, min(folds, int(seconds / (needed * step))))
    if not asked and trained < FEWEST:
        trained = 1
    share = f"{needed} steps of {step * 1000:.0f} ms ({candidate}) take {format_duration(needed * step)}"
    together = "" if asked else "several networks together know more than one that has all the time; "
    if trained == folds:
        return folds, f"{together}each has {format_duration(seconds / folds)}; {share}"
    only = "only one fold is" if trained == 1 else f"only {trained} folds are"
    return (
        trained,
        f"{only} trained: each needs {needed} steps to be of use, and there are {format_duration(seconds)}; {share}",
    )


def with_folds(plan: Plan, trained: int, why: str) -> tuple[Plan, dict[str, str]]:
    """The plan that trains so many of its folds, and the reason under the field's name; nothing where it has none."""
    if plan.data.folds == 1:
        return plan, {}
    return plan.model_copy(update={"data": plan.data.model_copy(update={"trained": trained})}), {"data.trained": why}
