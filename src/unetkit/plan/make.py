"""From the data and the request to a plan: one pass over the images, the rules, a few timed steps."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from unetkit.augment.plan import AugmentPlan
from unetkit.core.config import Config
from unetkit.core.device import find_device
from unetkit.core.errors import PlanError, nearest
from unetkit.core.events import Decided, Event, Started
from unetkit.core.region import Region
from unetkit.data.case import IGNORE, Case
from unetkit.data.labels.legend import Legend
from unetkit.data.labels.masks import OpenLabel
from unetkit.data.prepared.prepare import CaseReader, fit
from unetkit.data.prepared.statistics import MOST_SAMPLES, SAMPLES, Pixels
from unetkit.losses.expression import parse_loss
from unetkit.nets.geometry import geometry
from unetkit.nets.spec import reference
from unetkit.plan import shape, training
from unetkit.plan.cost import Cost, estimate
from unetkit.plan.draft import draft, with_settings
from unetkit.plan.fingerprint import Fingerprint, fingerprint
from unetkit.plan.learning import LearnPlan
from unetkit.plan.loss import loss_of
from unetkit.plan.parts import BudgetPlan, LossPlan, MachinePlan, OptimPlan, PredictPlan, SamplingPlan
from unetkit.plan.plan import SETTABLE, DataPlan, Plan, Request
from unetkit.plan.sizing import candidates_of, with_arithmetic, with_capacity

# Seconds of a budget in minutes that are kept for scoring and the report: this share, at most so many seconds.
FINISH_SHARE, FINISH_MOST = 0.1, 60.0
# Of a run in folds all cases are predicted and scored, not a sixth of them.
FINISH_SHARE_FOLDS, FINISH_MOST_FOLDS = 0.12, 150.0
# Without a budget, the network is sized for this share of the limit: validation usually settles long before the limit.
OPEN_ENDED = 0.25


@dataclass(frozen=True)
class Planned:
    """The plan, what it was made from, and what it will cost. `reserve`: seconds of the minutes not left for steps."""

    plan: Plan
    facts: Fingerprint
    reserve: float
    cost: Cost


def make_plan(
    cases: Sequence[Case], legend: Legend, data: DataPlan, request: Request
) -> Generator[Event, None, Planned]:
    """Decide everything. `cases` are those that training may see. Yields one Decided per decision.

    Raises PlanError: an unknown or impossible setting; DataError: an unreadable file; MachineError: no such device.
    """
    began = time.perf_counter()
    yield Started(task="plan")
    plan, facts, why = untimed(cases, legend, data, request)
    settings, candidates = request.settings, candidates_of(plan, request)
    plan, why_machine = yield from with_arithmetic(plan, request, candidates[min(1, len(candidates) - 1)])
    share, most = (FINISH_SHARE, FINISH_MOST) if data.folds == 1 else (FINISH_SHARE_FOLDS, FINISH_MOST_FOLDS)
    finish = min(share * _budget_seconds(plan.budget), most)
    left = _budget_seconds(plan.budget) - finish - (time.perf_counter() - began)
    plan, capacity, why_capacity = with_capacity(plan, request, candidates, max(left, 1.0) * plan.learn.labels_share)
    optim, why_optim = training.optim(capacity.steps, plan.net, plan.optim.name)
    free = {name: getattr(optim, name) for name in training.FOLLOWS if f"optim.{name}" not in settings}
    plan = plan.model_copy(update={"optim": plan.optim.model_copy(update=free)})
    for name, reason in why_capacity.items():
        why[name] = f"{why[name]}; {reason}" if name == "net.channels" and name in why else reason
    why |= why_machine | why_optim | dict.fromkeys(settings, "as asked")
    plan = Plan.parse(plan.model_copy(update={"reasons": why}).model_dump(), "the plan")
    for name, reason in why.items():
        if not name.startswith("machine."):  # those were told as they were timed
            yield Decided(what=name, value=show(plan, name), why=reason)
    cost = estimate(plan, capacity, facts)
    yield Decided(what="cost", value=str(cost), why="")
    reserve = 0.0 if plan.budget.minutes is None else time.perf_counter() - began + finish
    return Planned(plan, facts, reserve, cost)


def untimed(
    cases: Sequence[Case], legend: Legend, data: DataPlan, request: Request
) -> tuple[Plan, Fingerprint, dict[str, str]]:
    """What follows from the data, the request and the settings, before anything is timed: the plan but for the size of
    the network and of a batch, what it was made from, and why. Raises as `make_plan`."""
    settings = request.settings
    for name in settings:
        if name.split(".")[0] not in SETTABLE:
            hint = nearest(name.split(".")[0], SETTABLE)
            raise PlanError(f"--set {name}: only these parts of a plan can be set: {', '.join(SETTABLE)}{hint}")
    find_device(str(settings.get("machine.device", request.device)))
    _check_values(request)
    facts = fingerprint(cases, legend)
    plan, why = draft(facts, legend, data, request)
    if settings:
        plan = with_settings(plan, settings)
    loss_of(plan)  # refuses now what makes no sense for these classes
    _check_patch(plan)
    if "prepare.mean" not in settings and not plan.prepare.mean:  # those of --start stay
        samples = min(SAMPLES // 8, MOST_SAMPLES // len(cases))
        plan = plan.model_copy(update={"prepare": fit(plan.prepare, _pixels(cases, plan), samples)})
    return plan, facts, why


def _check_values(request: Request) -> None:
    """Refuse impossible values before the data are read, where one field alone can tell."""
    early = {name: value for name, value in request.settings.items() if name.split(".")[0] in _Part.model_fields}
    part = _Part().override(early, "--set")
    parse_loss(part.loss.terms)
    if part.learn.masked > 0 and request.start is not None:
        raise PlanError(
            f"--start {request.start}: begins with what another run learnt, and --pretrain (learn.masked) with what"
            " images alone teach; leave one of them out"
        )
    if part.learn.masked > 0 and request.minutes is None and request.steps is None:
        raise PlanError("--pretrain (learn.masked) is a share of the budget; give one with --minutes or --steps")


class _Part(Config):
    """The parts whose fields can be judged without the data."""

    augment: AugmentPlan = AugmentPlan()
    budget: BudgetPlan = BudgetPlan()
    learn: LearnPlan = LearnPlan()
    loss: LossPlan = LossPlan()
    machine: MachinePlan = MachinePlan()
    optim: OptimPlan = OptimPlan()
    predict: PredictPlan = PredictPlan()
    sampling: SamplingPlan = SamplingPlan()


def _budget_seconds(budget: BudgetPlan) -> float:
    return 60 * (budget.minutes if budget.minutes is not None else OPEN_ENDED * budget.limit)


def _check_patch(plan: Plan) -> None:
    facts, patch = geometry(plan.net), plan.sampling.patch
    if shape.takes(patch, facts):
        return
    if any(facts.margin):
        fits = facts.fit(patch)
        raise PlanError(
            f"sampling.patch {patch}: this network takes {facts.smallest} plus multiples of {facts.divisor};"
            f" {fits} would fit"
        )
    fits = tuple(max(d, round(p / d) * d) for p, d in zip(patch, facts.divisor, strict=True))
    raise PlanError(f"sampling.patch {patch}: this network needs multiples of {facts.divisor}; {fits} would fit")


def _pixels(cases: Sequence[Case], plan: Plan) -> Generator[Pixels, None, None]:
    legend = plan.data.legend
    for case in cases:
        with CaseReader(case, plan.prepare) as reader:
            if plan.prepare.method != "window":
                yield reader.pixels()
            elif case.label is not None:
                with OpenLabel(case, legend) as label:
                    yield reader.pixels(partial(_of_interest, label, legend))


def _of_interest(label: OpenLabel, legend: Legend, region: Region) -> NDArray[np.bool_]:
    """Which pixels of a region belong to a class of interest."""
    label_X = label.read(region)
    if legend.regions:
        return np.asarray((label_X != 0) & (label_X != IGNORE))
    return np.isin(label_X, legend.foreground)


def show(plan: Plan, dotted: str) -> str:
    """The value of a field as a user reads it."""
    value: object = plan
    for part in dotted.split("."):
        value = getattr(value, part)
    if isinstance(value, tuple):
        times = dotted in ("sampling.patch", "prepare.spacing")
        return (" × " if times else ", ").join(_text(v) for v in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if callable(value):
        return reference(value)
    return "none" if value is None else str(value)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return " × ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
