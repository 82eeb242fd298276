"""From the data and the request to a plan: one pass over the images, the rules, a few timed steps."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetkit.augment.plan import AugmentPlan
from unetkit.core.config import Config
from unetkit.core.device import find_device
from unetkit.core.errors import PlanError, SpecError, nearest
from unetkit.core.events import Decided, Event, Started
from unetkit.core.region import Region
from unetkit.data.case import IGNORE, Case
from unetkit.data.legend import Legend
from unetkit.data.masks import OpenLabel
from unetkit.data.prepare import CaseReader, PreparePlan, fit
from unetkit.data.sizes import units
from unetkit.data.statistics import MOST_SAMPLES, SAMPLES, Pixels
from unetkit.losses.expression import make_loss
from unetkit.nets.geometry import geometry
from unetkit.nets.spec import NetSpec, reference
from unetkit.plan import objects, preparing, rules, shape, view
from unetkit.plan.cost import Cost, estimate
from unetkit.plan.fingerprint import Fingerprint, fingerprint
from unetkit.plan.own import asked_network, pinned
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
from unetkit.plan.sizing import candidates_of, with_arithmetic, with_capacity
from unetkit.plan.start import begun, prepared_as

# Seconds of a budget in minutes that are kept for scoring and the report: this share, at most so many seconds.
FINISH_SHARE, FINISH_MOST = 0.06, 25.0
# Without a budget, the network is sized for this share of the limit: validation usually settles long before the limit.
OPEN_ENDED = 0.25
# At least so far apart are validations: they should not take the time that training needs.
VALIDATION_SECONDS, VALIDATION_STEPS = 20.0, 40
# Signals that are validated on the way: each costs little.
SIGNALS = 64
# The settings that decide the grid on which images are seen.
GRID = ("spacing", "unit", "orientation", "thick")
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
    plan, why = _draft(facts, legend, data, request)
    settings = request.settings
    if settings:
        plan = _with_settings(plan, settings)
    make_loss(plan.loss.terms, plan.net.classes, plan.loss.class_weights)  # refuses unknown losses now
    _check_patch(plan)
    candidates = candidates_of(plan, request)
    if "prepare.mean" not in settings and not plan.prepare.mean:  # those of --start stay
        samples = min(SAMPLES // 8, MOST_SAMPLES // len(cases))
        plan = plan.model_copy(update={"prepare": fit(plan.prepare, _pixels(cases, plan), samples)})
    plan, why_machine = yield from with_arithmetic(plan, request, candidates[min(1, len(candidates) - 1)])
    finish = min(FINISH_SHARE * _budget_seconds(plan.budget), FINISH_MOST)
    left = _budget_seconds(plan.budget) - finish - (time.perf_counter() - began)
    plan, capacity, why_capacity = with_capacity(plan, request, candidates, max(left, 1.0))
    optim, why_optim = rules.optim(capacity.steps, plan.net)
    free = {name: getattr(optim, name) for name in ("ema", "lr") if f"optim.{name}" not in settings}
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


def _draft(own: Fingerprint, legend: Legend, data: DataPlan, request: Request) -> tuple[Plan, dict[str, str]]:
    """The plan by the rules alone, and why."""
    classes = len(legend.classes)
    wanted = asked_network(request, own.ndim)
    earlier, start = begun(request, own.ndim)
    vocabulary = _vocabulary(request, wanted or start)
    prepare, why = preparing.prepare(own, vocabulary, legend.foreground)
    prepare, why_start = prepared_as(earlier, prepare, request)
    facts = own.prepared(_with_grid(prepare, request.settings))
    width = rules.CAPACITIES[facts.ndim][1][0]
    if start is not None or (wanted is not None and pinned(request)):
        fixed = start or wanted or NetSpec()
        look = _as_it_is(fixed, facts, request)
        size, why["sampling.patch"] = view.patch(facts, look, fixed.stem_stride)
        net = fixed.replace({"classes": classes, "in_channels": prepare.channels})
        cut = ""  # what of a preset does not fit
    elif wanted is not None:
        net = wanted.replace({"classes": classes, "in_channels": prepare.channels})
        look = _look(facts, request, net)
        size, why["sampling.patch"] = view.patch(facts, look, net.stem_stride)
        net, cut = shape.preset_for(net, size, look.aspect, look.view == "2.5d")
    else:
        look, cut = _look(facts, request), ""
        if vocabulary:
            stem, why["net.stem_stride"] = 1, "every token is kept"
        else:
            stem, why["net.stem_stride"] = rules.resolution(facts, legend.foreground, look)
        size, why["sampling.patch"] = view.patch(facts, look, stem)
        net = rules.network(facts, classes, prepare.channels, width, size, stem, look)
        net = net.replace({"vocabulary": vocabulary}) if vocabulary else net
    if facts.ndim == 3 and isinstance(net.topology, str):
        why["net.kernels"] = f"{look.view}: {look.why}"
    patch = shape.fitted(size, net)
    if isinstance(net.topology, str):  # of a network of the user's own nothing is known
        why["net.channels"] = "; ".join(filter(None, (cut, shape.levels_text(patch, net))))
    sampling, why_sampling = rules.sampling(facts, patch, rules.capacities(net)[1][1])
    loss, why_loss = rules.loss(facts)
    augment, why_augment = rules.augment(facts, size, vocabulary, look)
    predict, why["predict.tta"] = _predict(facts, augment)
    post, why_post = objects.post(own, legend)
    predict = predict.model_copy(update={"post": post})
    budget, why_budget = _budget(request, facts.ndim)
    plan = Plan(
        request=request,
        data=data,
        prepare=prepare,
        net=net,
        sampling=sampling,
        loss=loss,
        augment=augment,
        optim=rules.optim(None, net)[0],
        budget=budget,
        predict=predict,
        seed=request.seed,
    )
    return plan, why | why_start | why_sampling | why_loss | why_augment | why_post | why_budget


def _look(facts: Fingerprint, request: Request, net: NetSpec | None = None) -> view.Look:
    """How volumes are seen. A network whose values depend on the whole patch (`net`) sees no slice for itself: unless
    it is asked to, it is not chosen for slices."""
    look = view.choose(facts, request.view)
    if net is None or not look.slices or request.view != "auto" or geometry(net).local:
        return look
    return view.choose(facts, "3d")


def _as_it_is(net: NetSpec, facts: Fingerprint, request: Request) -> view.Look:
    """The look of a network that is not changed. Raises PlanError: another one was asked for."""
    if request.view != "auto":
        raise PlanError(
            f"--view {request.view}: the network is taken as it is; ask for a planned or a named one, or give kernels"
            " and strides of 1 along an axis"
        )
    return view.of(net, facts)


def _with_grid(prepare: PreparePlan, settings: Mapping[str, Any]) -> PreparePlan:
    """What is seen of images follows from the grid that the user wants, where one is set."""
    wanted = {name: value for name, value in _of("prepare", settings).items() if name in GRID}
    try:
        return prepare.override(wanted, "--set prepare") if wanted else prepare
    except PlanError:
        return prepare  # what is wrong is said below, for the whole plan


def _of(part: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one part of the plan, by their names in it."""
    return {name.removeprefix(f"{part}."): value for name, value in settings.items() if name.startswith(f"{part}.")}


def _vocabulary(request: Request, wanted: NetSpec | None) -> int:
    """How many different integers the input holds; 0 for measured values."""
    if "net.vocabulary" in request.settings:
        return NetSpec().override({"vocabulary": request.settings["net.vocabulary"]}, "--set net").vocabulary
    return 0 if wanted is None else wanted.vocabulary


def _with_settings(plan: Plan, settings: Mapping[str, Any]) -> Plan:
    """The plan with what the user set. What is not pinned follows: halvings the number of levels, the patch the
    network."""
    free: dict[str, Any] = {}
    try:
        wanted = _of("net", settings)
        if "channels" in wanted:
            levels = NetSpec(ndim=plan.net.ndim).override({"channels": wanted["channels"]}, "--set net").levels
            for name, count in (("strides", levels - 1), ("kernels", levels)):
                known = getattr(plan.net, name)
                if isinstance(known, tuple) and name not in wanted:
                    # more levels go on as the coarsest does
                    wanted[name] = [*known[:count], *known[-1:] * (count - len(known))]
                    free[f"net.{name}"] = wanted[name]
        net = plan.net.override(wanted, "--set net")
        if net != plan.net and "sampling.patch" not in settings:
            free["sampling.patch"] = list(shape.fitted(shape.output(plan), net))
    except (PlanError, SpecError):
        free = {}  # what is wrong is said below, for the whole plan
    return plan.override({**settings, **free}, "--set")


def _budget(request: Request, ndim: int) -> tuple[BudgetPlan, dict[str, str]]:
    plan = BudgetPlan(validation_cases=SIGNALS) if ndim == 1 else BudgetPlan()
    if request.minutes is not None:
        looks = _between(2, round(request.minutes * 60 / VALIDATION_SECONDS), 12)
        changes = {"minutes": request.minutes, "validations": looks}
        return plan.model_copy(update=changes), {"budget.minutes": "as asked"}
    if request.steps is not None:
        changes = {"steps": request.steps, "validations": _between(1, request.steps // VALIDATION_STEPS, 12)}
        return plan.model_copy(update=changes), {"budget.steps": "as asked"}
    return plan, {
        "budget.limit": f"no budget was given: training stops when validation has settled, after {plan.limit:g} minutes"
        " at the latest"
    }


def _between(least: int, value: int, most: int) -> int:
    return max(least, min(value, most))


def _budget_seconds(budget: BudgetPlan) -> float:
    return 60 * (budget.minutes if budget.minutes is not None else OPEN_ENDED * budget.limit)


def _predict(facts: Fingerprint, augment: AugmentPlan) -> tuple[PredictPlan, str]:
    if facts.ndim == 1 or not (augment.turn or any(augment.flips(facts.ndim))):
        return PredictPlan(tta=False), "training shows nothing mirrored or turned, so nothing is averaged"
    pixels = math.prod(facts.median_size())
    size = f"{pixels / 1e6:.1f} million {units(facts.ndim)} in the median image"
    if pixels <= SMALL_IMAGE:
        return PredictPlan(tta=True), f"{size}: averaging eight flips and turns costs little and steadies thin borders"
    return PredictPlan(tta=False), f"{size}: eight flips and turns would take long; --tta turns them on"


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
