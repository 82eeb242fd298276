"""How large a network the budget affords: the networks that may be chosen from, and the one that timed steps allow."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence

from unetkit.core.events import Event
from unetkit.core.machine import cores, format_memory
from unetkit.nets.geometry import activation_memory, geometry
from unetkit.nets.spec import NetSpec
from unetkit.plan import rules, shape
from unetkit.plan.budget import (
    Candidate,
    Capacity,
    arithmetic_of,
    candidate_for_steps,
    choose_arithmetic,
    choose_capacity,
    free_bytes,
)
from unetkit.plan.folding import folds_in_time, with_folds
from unetkit.plan.loss import loss_of
from unetkit.plan.own import model_name, pinned
from unetkit.plan.plan import Plan, Request

# Where even the smallest network completes fewer steps than this, the patch is halved, but not below this side.
LEAST_STEPS, LEAST_PATCH = 300, {1: 512, 2: 64, 3: 24}
# Weights, gradients, two moments of the optimiser, their running average, and its copy for validation.
WEIGHT_COPIES = 6
# A preset too large for the budget keeps its form, and has its widths times the first of these that is affordable.
# None is made narrower than this.
NARROWER, NARROWEST = (0.125, 0.25, 0.5, 1.0), 8


def with_arithmetic(
    plan: Plan, request: Request, like: Candidate
) -> Generator[Event, None, tuple[Plan, dict[str, str]]]:
    """The plan with device, precision and layout: what a flag or a setting pins, else what is fastest here for a
    network `like` the one that will be trained."""
    settings = request.settings

    def wanted(flag: str) -> str:
        asked = getattr(request, flag)
        return str(asked if asked != "auto" else settings.get(f"machine.{flag}", "auto"))

    machine, why = yield from choose_arithmetic(
        like.spec,
        plan.sampling.patch,
        like.batch,
        device=wanted("device"),
        precision=wanted("precision"),
        layout=wanted("layout"),
        threads=plan.machine.threads if "machine.threads" in settings else cores(),
        repeatable=request.steps is not None,
    )
    if "machine.checkpointing" in settings:
        machine = machine.model_copy(update={"checkpointing": plan.machine.checkpointing})
    return plan.model_copy(update={"machine": machine}), why


def candidates_of(plan: Plan, request: Request) -> list[Candidate]:
    """The networks and batches that timing may choose from, in rising cost: what a flag or a setting pins is kept."""
    settings, net = request.settings, plan.net
    table = rules.capacities(net)
    begun = request.start is not None and request.model is None  # widths that weights are known for
    if (
        begun
        or pinned(request)
        or "net.channels" in settings
        or (request.model is not None and request.steps is not None)
    ):
        found = [Candidate(net, batch, least) for _, batch, least in table]
    elif request.model is not None:
        forms = [shape.narrowed(net, factor) for factor in NARROWER if factor < 1]
        found = []
        for form in [*(f for f in forms if f is not None and f.channels[0] >= NARROWEST), net]:
            _, batch, least = [row for row in table if row[0] <= max(form.channels[0], table[0][0])][-1]
            found.append(Candidate(form, batch, least if found else 0))
    else:
        found = [
            Candidate(net.replace({"channels": rules.widths(width, net.levels, net.ndim)}), batch, least)
            for width, batch, least in table
        ]
    distinct: dict[tuple[NetSpec, int], Candidate] = {}
    # where width or batch is pinned, some differ in nothing but the steps they need: the first counts
    for c in found:
        batch = plan.sampling.batch if "sampling.batch" in settings else c.batch
        distinct.setdefault((c.spec, batch), Candidate(c.spec, batch, c.least))
    return list(distinct.values())


def with_capacity(
    plan: Plan, request: Request, candidates: Sequence[Candidate], seconds: float
) -> tuple[Plan, Capacity, dict[str, str]]:
    """The plan with the folds, and the width and the batch (where nothing pins them), that a budget of `seconds`
    affords."""
    settings, arithmetic, patch = request.settings, arithmetic_of(plan.machine), plan.sampling.patch
    why: dict[str, str] = {}
    if request.steps is not None:
        capacity = candidate_for_steps(candidates, request.steps)
        plan, why_folds = with_folds(plan, plan.data.folds, f"every fold is trained for {request.steps} steps")
    else:
        free = "sampling.patch" not in settings
        room = free_bytes(arithmetic)
        while step_bytes(candidates[0], patch, plan) > room and free and (smaller := _halved(patch, plan)):
            patch = smaller
            why["sampling.patch"] = f"halved, so that a step of the smallest network fits into {format_memory(room)}"
        fitting = [c for c in candidates if step_bytes(c, patch, plan) <= room] or list(candidates[:1])
        plan, why_folds = with_folds(plan, *folds_in_time(plan, fitting, patch, seconds))
        seconds /= plan.data.trained
        capacity = choose_capacity(fitting, patch, arithmetic, loss_of(plan), seconds=seconds)
        if len(fitting) < len(candidates):
            larger = f"larger ones do not fit into {format_memory(room)}"
            capacity = dataclasses.replace(capacity, why=f"{capacity.why}; {larger}")
        if capacity.steps < LEAST_STEPS and free and (smaller := _halved(patch, plan)):
            patch = smaller  # even the smallest network is too slow: fewer pixels in a step
            capacity = choose_capacity(candidates[:1], patch, arithmetic, loss_of(plan), seconds=seconds)
            why["sampling.patch"] = f"halved, so that the smallest network completes {capacity.steps} steps in time"
    why |= why_folds
    if not isinstance(plan.net.topology, str):  # a network of the user's own has no widths that we know
        why["net.topology"] = f"as asked: {model_name(request)}"
    else:
        why["net.channels"] = capacity.why
    if request.start is not None and request.model is None:
        why["net.channels"] = f"as in {request.start}"
    if request.model is not None and isinstance(plan.net.topology, str):
        why["net.channels"] = _why_model(plan, capacity, model_name(request))
    why["sampling.batch"] = "chosen with the width, see net.channels"
    sampling = plan.sampling.model_copy(update={"batch": capacity.candidate.batch, "patch": patch})
    return plan.model_copy(update={"net": capacity.candidate.spec, "sampling": sampling}), capacity, why


def _halved(patch: Sequence[int], plan: Plan) -> tuple[int, ...] | None:
    """Half a patch along every axis, but not across thick slices; None where that is too small for the network."""
    lengths = plan.augment.lengths(len(patch))
    flat = [a in plan.augment.fixed or lengths[a] >= shape.UNEQUAL for a in range(len(patch))]
    smaller = tuple(n if f else n // 2 for n, f in zip(patch, flat, strict=True))
    shortest = min((n for n, f in zip(smaller, flat, strict=True) if not f), default=0)
    slices = any(f and n == 1 for n, f in zip(smaller, flat, strict=True))
    least = LEAST_PATCH[2 if slices else len(patch)]
    return smaller if shortest >= least and shape.takes(smaller, geometry(plan.net)) else None


def step_bytes(candidate: Candidate, patch: Sequence[int], plan: Plan) -> int:
    """Bytes that one step of a candidate holds at its worst moment, weights and their copies included."""
    machine = plan.machine
    width = 2 if machine.precision == "bf16" else 4
    kept = activation_memory(candidate.spec, candidate.batch, patch, width, True, machine.checkpointing)
    return kept + WEIGHT_COPIES * 4 * geometry(candidate.spec).parameters


def _why_model(plan: Plan, capacity: Capacity, model: str) -> str:
    own, chosen = plan.net.channels, capacity.candidate.spec.channels
    if own == chosen:
        return f"as asked: {model}"
    share = {2: "half", 4: "a quarter", 8: "an eighth"}.get(round(own[0] / chosen[0]), "fewer than")
    own_text = ",".join(str(n) for n in own)
    return (
        f"{model} with {share} of its widths: {capacity.why};"
        f" --set net.channels=[{own_text}] takes its own, however few steps they leave"
    )
