"""The plan by the rules alone, before anything is timed: what follows from the data, the request and the settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unetkit.augment.plan import AugmentPlan
from unetkit.core.errors import PlanError, SpecError
from unetkit.data.labels.legend import Legend
from unetkit.data.prepared.plan import PreparePlan
from unetkit.data.sizes import units
from unetkit.nets.geometry import geometry
from unetkit.nets.spec import NetSpec
from unetkit.plan import augmenting, learning, objects, preparing, rules, shape, training, view
from unetkit.plan.fingerprint import Fingerprint
from unetkit.plan.own import asked_network, pinned
from unetkit.plan.parts import BudgetPlan, PredictPlan
from unetkit.plan.plan import DataPlan, Plan, Request
from unetkit.plan.start import begun, prepared_as

# At least so far apart are validations: they should not take the time that training needs.
VALIDATION_SECONDS, VALIDATION_STEPS = 20.0, 40
# Signals that are validated on the way: each costs little.
SIGNALS = 64
# The settings that decide the grid on which images are seen.
GRID = ("spacing", "unit", "orientation", "thick")
# Share of the budget after which validation images are learnt from. By then the running average is about as good as at
# the end: hippocampi 0.8835 after two thirds of 1300 steps, 0.8809 at the end; nuclei 0.9182 and 0.9194, membranes
# 0.8121 and 0.8130. And what joins then teaches as much as what was there from the beginning: on 40 held-out
# volumes 0.8784 with a fifth of 160 joining, 0.8787 with all from the beginning, 0.8733 without that fifth (one seed).
JOIN = 0.7
# Images up to this size (pixels) are predicted with flips and turns unless the user says otherwise: it costs seconds.
SMALL_IMAGE = 1_500_000


def draft(own: Fingerprint, legend: Legend, data: DataPlan, request: Request) -> tuple[Plan, dict[str, str]]:
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
        if net.deep_supervision:
            why["net.deep_supervision"] = (
                "of volumes the coarser levels learn from the masks as well: steadier, and a little better"
            )
        if net.norm == "instance":
            why["net.norm"] = "a patch holds a whole volume: each is brought to the same mean and spread inside as well"
        net = net.replace({"vocabulary": vocabulary}) if vocabulary else net
    if facts.ndim == 3 and isinstance(net.topology, str):
        why["net.kernels"] = f"{look.view}: {look.why}"
    patch = shape.fitted(size, net)
    if isinstance(net.topology, str):  # of a network of the user's own nothing is known
        why["net.channels"] = "; ".join(filter(None, (cut, shape.levels_text(patch, net))))
    sampling, why_sampling = training.sampling(facts, patch, rules.capacities(net)[1][1])
    loss, why_loss = training.loss(facts)
    augment, why_augment = augmenting.augment(facts, size, vocabulary, look, legend, Path(data.path).name)
    predict, why["predict.tta"] = _predict(facts, augment)
    post, why_post = objects.post(own, legend)
    predict = predict.model_copy(update={"post": post})
    budget, why_budget = _budget(request, facts.ndim)
    if not data.given:
        budget = budget.model_copy(update={"join": JOIN})
        why_budget["budget.join"] = (
            "then scores are taken, and the validation images join the others: what is used has learnt from all"
        )
    learn, why_learn = learning.learn(data.unlabelled, request.unlabelled or "", data.cases)
    plan = Plan(
        request=request,
        data=data,
        prepare=prepare,
        net=net,
        sampling=sampling,
        loss=loss,
        augment=augment,
        optim=training.optim(None, net)[0],
        learn=learn,
        budget=budget,
        predict=predict,
        seed=request.seed,
    )
    return plan, why | why_start | why_sampling | why_loss | why_augment | why_post | why_budget | why_learn


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


def with_settings(plan: Plan, settings: Mapping[str, Any]) -> Plan:
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
            if levels < 3 and plan.net.deep_supervision and "deep_supervision" not in wanted:
                free["net.deep_supervision"] = wanted["deep_supervision"] = False  # there is nothing between the levels
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


def _predict(facts: Fingerprint, augment: AugmentPlan) -> tuple[PredictPlan, str]:
    if facts.ndim == 1 or not (augment.turn or any(augment.flips(facts.ndim))):
        return PredictPlan(tta=False), "training shows nothing mirrored or turned, so nothing is averaged"
    pixels = math.prod(facts.median_size())
    size = f"{pixels / 1e6:.1f} million {units(facts.ndim)} in the median image"
    if pixels <= SMALL_IMAGE:
        return PredictPlan(tta=True), f"{size}: averaging eight flips and turns costs little and steadies thin borders"
    return PredictPlan(tta=False), f"{size}: eight flips and turns would take long; --tta turns them on"
