"""From the data and the request to a plan: one pass over the images, the rules, a few timed steps."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from unetkit.augment.plan import AugmentPlan
from unetkit.core.config import Config
from unetkit.core.device import find_device
from unetkit.core.errors import PlanError, nearest
from unetkit.core.events import Decided, Event, Started
from unetkit.core.machine import cores
from unetkit.data.case import Case
from unetkit.data.legend import Legend
from unetkit.data.prepare import CaseReader, fit
from unetkit.losses.expression import make_loss
from unetkit.nets.geometry import geometry
from unetkit.nets.presets import preset
from unetkit.nets.spec import NetSpec
from unetkit.plan import rules
from unetkit.plan.budget import (
    Candidate,
    Capacity,
    arithmetic_of,
    candidate_for_steps,
    choose_arithmetic,
    choose_capacity,
)
from unetkit.plan.cost import Cost, estimate
from unetkit.plan.fingerprint import Fingerprint, fingerprint
from unetkit.plan.plan import (
    SETTABLE,
    BudgetPlan,
    DataPlan,
    LossPlan,
    MachinePlan,
    OptimPlan,
    Plan,
    PredictPlan,
    Request,
    SamplingPlan,
)
from unetkit.plan.start import begun, prepared_as

# Seconds of a budget in minutes that are kept for scoring and the report: this share, at most so many seconds.
FINISH_SHARE, FINISH_MOST = 0.06, 25.0
# Without a budget, the network is sized for this share of the limit: validation usually settles long before the limit.
OPEN_ENDED = 0.25
# At least so far apart are validations: they should not take the time that training needs.
VALIDATION_SECONDS, VALIDATION_STEPS = 20.0, 40
# Where even the smallest network completes fewer steps than this, the patch is halved, but not below this side.
LEAST_STEPS, LEAST_PATCH = 300, 64
# Images up to this size (pixels) are predicted with flips and turns unless the user says otherwise: it costs seconds.
SMALL_IMAGE = 1_500_000


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
    for name in request.settings:
        if name.split(".")[0] not in SETTABLE:
            hint = nearest(name.split(".")[0], SETTABLE)
            raise PlanError(f"--set {name}: only these parts of a plan can be set: {', '.join(SETTABLE)}{hint}")
    find_device(str(request.settings.get("machine.device", request.device)))
    _check_values(request)
    yield Started(task="plan")
    facts = fingerprint(cases, legend)
    plan, why, candidates = _draft(facts, legend, data, request)
    settings = request.settings
    if settings:
        plan = plan.override(settings, "--set")
    make_loss(plan.loss.terms, plan.net.classes, plan.loss.class_weights)  # refuses unknown losses now
    _check_patch(plan)
    if "prepare.mean" not in settings and not plan.prepare.mean:  # those of --start stay
        plan = plan.model_copy(update={"prepare": fit(plan.prepare, _readers(cases, plan))})
    plan, why_machine = yield from _with_arithmetic(plan, request)
    finish = min(FINISH_SHARE * _budget_seconds(plan.budget), FINISH_MOST)
    left = _budget_seconds(plan.budget) - finish - (time.perf_counter() - began)
    plan, capacity, why_capacity = _with_capacity(plan, request, candidates, max(left, 1.0))
    optim, why_optim = rules.optim(capacity.steps)
    if not {"optim.ema", "optim.lr"} & set(settings):
        plan = plan.model_copy(update={"optim": plan.optim.model_copy(update={"ema": optim.ema})})
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


def _with_arithmetic(plan: Plan, request: Request) -> Generator[Event, None, tuple[Plan, dict[str, str]]]:
    """The plan with device, precision and layout: what a flag or a setting pins, else what is fastest here."""
    settings = request.settings

    def wanted(flag: str) -> str:
        asked = getattr(request, flag)
        return str(asked if asked != "auto" else settings.get(f"machine.{flag}", "auto"))

    machine, why = yield from choose_arithmetic(
        plan.net,
        plan.sampling.patch,
        plan.sampling.batch,
        device=wanted("device"),
        precision=wanted("precision"),
        layout=wanted("layout"),
        threads=plan.machine.threads if "machine.threads" in settings else cores(),
        repeatable=request.steps is not None,
    )
    return plan.model_copy(update={"machine": machine}), why


def _with_capacity(
    plan: Plan, request: Request, candidates: Sequence[Candidate], seconds: float
) -> tuple[Plan, Capacity, dict[str, str]]:
    """The plan with the width and the batch (where nothing pins them) that a budget of `seconds` affords."""
    settings, arithmetic, patch = request.settings, arithmetic_of(plan.machine), plan.sampling.patch
    free_width = "net.channels" not in settings and request.model is None and request.start is None
    free_batch = "sampling.batch" not in settings
    distinct: dict[tuple[NetSpec, int], Candidate] = {}
    # where width or batch is pinned, some candidates differ in nothing but the steps they need: the first counts
    for c in candidates:
        net = plan.net.replace({"channels": c.spec.channels}) if free_width else plan.net
        batch = c.batch if free_batch else plan.sampling.batch
        distinct.setdefault((net, batch), Candidate(net, batch, c.least))
    affordable = list(distinct.values())
    why: dict[str, str] = {}
    if request.steps is not None:
        capacity = candidate_for_steps(affordable, request.steps)
    else:
        capacity = choose_capacity(affordable, patch, arithmetic, seconds=seconds)
        smaller = tuple(n // 2 for n in patch)
        fits = all(n % d == 0 for n, d in zip(smaller, geometry(plan.net).divisor, strict=True))
        halve = capacity.steps < LEAST_STEPS and fits and min(smaller) >= LEAST_PATCH
        if halve and "sampling.patch" not in settings:
            patch = smaller  # even the smallest network is too slow: a quarter of the pixels in a step
            capacity = choose_capacity(affordable[:1], patch, arithmetic, seconds=seconds)
            why["sampling.patch"] = f"halved, so that the smallest network completes {capacity.steps} steps in time"
    why["net.channels"] = f"as asked: --model {request.model}" if request.model is not None else capacity.why
    if request.model is None and request.start is not None:
        why["net.channels"] = f"as in {request.start}"
    why["sampling.batch"] = "chosen with the width, see net.channels"
    sampling = plan.sampling.model_copy(update={"batch": capacity.candidate.batch, "patch": patch})
    return plan.model_copy(update={"net": capacity.candidate.spec, "sampling": sampling}), capacity, why


def _check_values(request: Request) -> None:
    """Refuse impossible values before the data are read, where one field alone can tell."""
    early = {name: value for name, value in request.settings.items() if name.split(".")[0] in _Part.model_fields}
    _Part().override(early, "--set")


class _Part(Config):
    """The parts whose fields can be judged without the data."""

    augment: AugmentPlan = AugmentPlan()
    budget: BudgetPlan = BudgetPlan()
    loss: LossPlan = LossPlan()
    machine: MachinePlan = MachinePlan()
    optim: OptimPlan = OptimPlan()
    predict: PredictPlan = PredictPlan()
    sampling: SamplingPlan = SamplingPlan()


def _draft(
    facts: Fingerprint, legend: Legend, data: DataPlan, request: Request
) -> tuple[Plan, dict[str, str], list[Candidate]]:
    """The plan by the rules alone, why, and the networks that timing may choose from."""
    prepare, why = rules.prepare(facts)
    earlier, start = begun(request, 2)
    prepare, why_start = prepared_as(earlier, prepare, request)
    why |= why_start
    stem, why["net.stem_stride"] = rules.resolution(facts, legend.foreground)
    side, why["sampling.patch"] = rules.patch(facts, stem)
    depth, why_depth = rules.levels(side, stem)
    why["net.channels"] = why_depth
    classes = len(legend.classes)
    candidates = [
        Candidate(rules.network(classes, prepare.channels, width, depth, stem), batch, least)
        for width, batch, least in rules.CAPACITIES
    ]
    net = candidates[1].spec
    if request.model is not None:
        net = preset(request.model).spec.replace({"classes": classes, "in_channels": prepare.channels})
        why.pop("net.stem_stride")
    if start is not None:
        net = start.replace({"classes": classes, "in_channels": prepare.channels})
        why.pop("net.stem_stride")
    sampling, why_sampling = rules.sampling(facts, side, candidates[1].batch)
    loss, why_loss = rules.loss(facts)
    augment, why_augment = rules.augment(facts, side)
    predict, why["predict.tta"] = _predict(facts)
    budget, why_budget = _budget(request)
    plan = Plan(
        request=request,
        data=data,
        prepare=prepare,
        net=net,
        sampling=sampling,
        loss=loss,
        augment=augment,
        optim=rules.optim(None)[0],
        budget=budget,
        predict=predict,
        seed=request.seed,
    )
    return plan, why | why_sampling | why_loss | why_augment | why_budget, candidates


def _budget(request: Request) -> tuple[BudgetPlan, dict[str, str]]:
    if request.minutes is not None:
        looks = round(request.minutes * 60 / VALIDATION_SECONDS)
        return BudgetPlan(minutes=request.minutes, validations=_between(2, looks, 12)), {"budget.minutes": "as asked"}
    if request.steps is not None:
        looks = request.steps // VALIDATION_STEPS
        return BudgetPlan(steps=request.steps, validations=_between(1, looks, 12)), {"budget.steps": "as asked"}
    plan = BudgetPlan()
    return plan, {
        "budget.limit": f"no budget was given: training stops when validation has settled, after {plan.limit:g} minutes"
        " at the latest"
    }


def _between(least: int, value: int, most: int) -> int:
    return max(least, min(value, most))


def _budget_seconds(budget: BudgetPlan) -> float:
    return 60 * (budget.minutes if budget.minutes is not None else OPEN_ENDED * budget.limit)


def _predict(facts: Fingerprint) -> tuple[PredictPlan, str]:
    height, width = facts.median_size()
    small = height * width <= SMALL_IMAGE
    size = f"{height * width / 1e6:.1f} million pixels in the median image"
    if small:
        return PredictPlan(tta=True), f"{size}: averaging eight flips and turns costs little and steadies thin borders"
    return PredictPlan(tta=False), f"{size}: eight flips and turns would take long; --tta turns them on"


def _check_patch(plan: Plan) -> None:
    divisor = geometry(plan.net).divisor
    if any(p % d for p, d in zip(plan.sampling.patch, divisor, strict=True)):
        fits = tuple(max(d, round(p / d) * d) for p, d in zip(plan.sampling.patch, divisor, strict=True))
        raise PlanError(
            f"sampling.patch {plan.sampling.patch}: this network needs multiples of {divisor}; {fits} would fit"
        )


def _readers(cases: Sequence[Case], plan: Plan) -> Generator[CaseReader, None, None]:
    for case in cases:
        with CaseReader(case, plan.prepare) as reader:
            yield reader


def show(plan: Plan, dotted: str) -> str:
    """The value of a field as a user reads it."""
    value: object = plan
    for part in dotted.split("."):
        value = getattr(value, part)
    if isinstance(value, tuple):
        return " × ".join(str(v) for v in value) if dotted.endswith("patch") else ", ".join(str(v) for v in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
