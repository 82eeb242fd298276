"""From the data and the request to a plan: one pass over the images, the rules, a few timed steps."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from unetkit.augment.plan import AugmentPlan
from unetkit.core.config import Config
from unetkit.core.device import find_device
from unetkit.core.errors import PlanError, nearest
from unetkit.core.events import Decided, Event, Started
from unetkit.core.machine import cores, format_duration, format_memory
from unetkit.data.case import Case
from unetkit.data.legend import Legend
from unetkit.data.prepare import CaseReader, fit
from unetkit.data.store import prepared_bytes
from unetkit.losses.expression import make_loss
from unetkit.nets.geometry import activation_memory, geometry
from unetkit.nets.presets import preset
from unetkit.plan import rules
from unetkit.plan.budget import (
    Candidate,
    Capacity,
    arithmetic_of,
    candidate_for_steps,
    choose_arithmetic,
    choose_capacity,
    seconds_per_step,
)
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

# Bytes that the process holds whatever it trains: libraries, and the memory that the convolutions work in.
LIBRARIES = 700_000_000
# Seconds of a budget in minutes that are kept for scoring and the report: this share, at most so many seconds.
FINISH_SHARE, FINISH_MOST = 0.06, 25.0
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
    seconds: float | None
    steps: int | None
    memory: int


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
    if "prepare.mean" not in settings:
        plan = plan.model_copy(update={"prepare": fit(plan.prepare, _readers(cases, plan))})
    pinned = {"device": "machine.device", "precision": "machine.precision", "layout": "machine.layout"}
    asked = {flag: getattr(request, flag) for flag in pinned}
    wanted = {f: str(v if v != "auto" else settings.get(pinned[f], "auto")) for f, v in asked.items()}
    machine, why_machine = yield from choose_arithmetic(
        plan.net,
        plan.sampling.patch,
        plan.sampling.batch,
        device=wanted["device"],
        precision=wanted["precision"],
        layout=wanted["layout"],
        threads=plan.machine.threads if "machine.threads" in settings else cores(),
        repeatable=request.steps is not None,
    )
    plan = plan.model_copy(update={"machine": machine})
    why |= why_machine

    free = not {"net.channels", "sampling.batch"} & set(settings) and request.model is None
    seconds = _budget_seconds(plan.budget)
    if not free:
        candidates = [Candidate(plan.net, plan.sampling.batch)]
    if request.steps is not None:
        capacity = candidate_for_steps(candidates, request.steps)
    else:
        finish = min(FINISH_SHARE * seconds, FINISH_MOST)
        left = seconds - finish - (time.perf_counter() - began)
        arithmetic, left = arithmetic_of(machine), max(left, 1.0)
        capacity = choose_capacity(candidates, plan.sampling.patch, arithmetic, seconds=left)
        if free and capacity.steps < LEAST_STEPS and "sampling.patch" not in settings:
            # even the smallest network is too slow: a quarter of the pixels in a step
            smaller = tuple(n // 2 for n in plan.sampling.patch)
            fits = all(n % d == 0 for n, d in zip(smaller, geometry(plan.net).divisor, strict=True))
            if min(smaller) >= LEAST_PATCH and fits:
                plan = plan.model_copy(update={"sampling": plan.sampling.model_copy(update={"patch": smaller})})
                capacity = choose_capacity(candidates[:1], smaller, arithmetic, seconds=left)
                why["sampling.patch"] = f"halved, so that the smallest network completes {capacity.steps} steps in time"
    if free:
        plan = plan.model_copy(
            update={
                "net": plan.net.replace({"channels": capacity.candidate.spec.channels}),
                "sampling": plan.sampling.model_copy(update={"batch": capacity.candidate.batch}),
            }
        )
        why["net.channels"] = f"{why['net.channels']}; {capacity.why}"
        why["sampling.batch"] = "chosen with the width, see net.channels"
    elif request.model is not None:
        why["net.channels"] = f"as asked: --model {request.model}"
    if not {"optim.ema", "optim.lr"} & set(settings):
        optim, why_optim = rules.optim(capacity.steps)
        plan = plan.model_copy(update={"optim": plan.optim.model_copy(update={"ema": optim.ema})})
        why |= why_optim
    for name in settings:
        why[name] = "as asked"
    for flag, field in pinned.items():
        if getattr(request, flag) != "auto":
            why[field] = "as asked"
    plan = Plan.parse(plan.model_copy(update={"reasons": why}).model_dump(), "the plan")
    for name, reason in why.items():
        if not name.startswith("machine."):
            yield Decided(what=name, value=show(plan, name), why=reason)
    spent = time.perf_counter() - began
    reserve = 0.0 if request.minutes is None else spent + min(FINISH_SHARE * seconds, FINISH_MOST)
    memory = training_memory(plan, facts)
    estimate = None if request.minutes is None and request.steps is None else seconds
    if request.steps is not None:
        # known only now, and shown only: it has no part in any decision
        step = seconds_per_step(plan.net, plan.sampling.patch, plan.sampling.batch, arithmetic_of(machine), seconds=0)
        capacity = replace(capacity, step=step)
        estimate = step * request.steps
    yield Decided(what="cost", value=_cost(plan, capacity, estimate, memory), why="")
    return Planned(plan, facts, reserve, estimate, capacity.steps, memory)


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
    return 60 * (budget.minutes if budget.minutes is not None else budget.limit)


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


def training_memory(plan: Plan, facts: Fingerprint) -> int:
    """Bytes that training is expected to hold: activations, copies of the parameters, images, the libraries."""
    width = 2 if plan.machine.precision == "bf16" else 4
    activations = activation_memory(plan.net, plan.sampling.batch, plan.sampling.patch, width, training=True)
    images = prepared_bytes([(c.height, c.width) for c in facts.cases], plan.prepare.channels)
    return int(activations) + 6 * 4 * geometry(plan.net).parameters + images + LIBRARIES


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


def _cost(plan: Plan, capacity: Capacity, seconds: float | None, memory: int) -> str:
    parts = []
    if seconds is not None:
        parts.append(f"about {format_duration(seconds)}")
    if plan.budget.steps is None and plan.budget.minutes is None:
        parts.append(f"at most {format_duration(60 * plan.budget.limit)}")
    if capacity.steps is not None:
        parts.append(f"{capacity.steps} steps" + (f" of {capacity.step * 1000:.0f} ms" if capacity.step else ""))
    parts.append(f"{geometry(plan.net).parameters / 1e6:.2f} million parameters")
    parts.append(f"{format_memory(memory)} of memory")
    return ", ".join(parts)
