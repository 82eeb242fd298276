"""A start without labels: the network learns to paint in what is hidden of images (masked autoencoders; He 2022).

As for transformers in Xie et al. 2022 (SimMIM, section 3), which suits convolutions too: whole blocks of the input are
hidden, here by zeros, the mean of normalised images; the loss is the mean absolute difference over the hidden pixels.
The body of the network is the one that will learn the labels; only its last layers give channels instead of classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from unetkit.augment.draw import draw
from unetkit.augment.intensity import change_intensity
from unetkit.augment.warp import warp
from unetkit.core.errors import RunError
from unetkit.core.events import Decided, Event, Progress, Started
from unetkit.core.rng import key, numpy_generator
from unetkit.data.prepared.patches import PatchSampler, PreparedCase
from unetkit.nets.build import UNet, centred
from unetkit.nets.matching import patterns
from unetkit.nets.spec import NetSpec
from unetkit.nets.weights import save_weights
from unetkit.plan.budget import arithmetic_of, autocast, placed
from unetkit.plan.parts import BudgetPlan
from unetkit.plan.plan import Plan
from unetkit.train.consistency import anywhere
from unetkit.train.log import EventLog
from unetkit.train.loop import START, Outcome, dropout_from
from unetkit.train.optim import clip_gradient, set_rate
from unetkit.train.schedule import Schedule
from unetkit.train.sitting import Pace, begin
from unetkit.train.state import Position, save_state
from unetkit.train.step import as_tensor

FOLDER = "masked"
"""The folder in a run that holds the state of this part until the run is finished."""


def steps_of(plan: Plan) -> int | None:
    """Steps of a budget in steps that this part takes; None of a budget in minutes."""
    return None if plan.budget.steps is None else max(1, round(plan.learn.masked * plan.budget.steps))


def after(plan: Plan) -> Plan:
    """The plan of what follows: the same, with the steps that are left. (Of minutes, what was spent is reserved.)"""
    taken = steps_of(plan)
    if plan.budget.steps is None or taken is None:
        return plan
    left = max(1, plan.budget.steps - taken)
    return plan.model_copy(update={"budget": plan.budget.model_copy(update={"steps": left})})


def paint(
    plan: Plan,
    cases: Sequence[PreparedCase],
    run: Path,
    log: EventLog,
    should_stop: Callable[[], bool] = lambda: False,
    reserve: float = 0.0,
) -> Generator[Event, None, Outcome]:
    """Learn to paint in for the planned share of the budget, then write the body's weights to `START` in the folder
    `run` (held by the caller). What was interrupted goes on; what is finished is not done again.

    cases: of all images, labels are not looked at. `reserve`: as of `fit`; the position returned knows that of the
    first sitting. Raises RunError: the saved state belongs to another plan or is damaged; the loss is no number.
    """
    folder = run / FOLDER
    learner, position = yield from begin(
        plan, run, log, reserve, spec=painter(plan.net), folder=folder, task="painting in"
    )
    net, average, optimiser = learner.net, learner.average, learner.optimiser
    if position.finished:
        return Outcome(position, finished=True)
    schedule = Schedule(_budget(plan, position.reserve), plan.optim)
    yield Started(task="masked", total=steps_of(plan) or 0)
    hidden = Masked(cases, plan)
    step, loss = position.step, position.loss
    pace = Pace(position, plan.budget.save_every)

    def save(finished: bool = False) -> Position:
        values = {"step": step, "loss": loss, "elapsed": pace.elapsed, "log_bytes": log.bytes()}
        now = Position(plan=plan.digest(), reserve=position.reserve, finished=finished, **values)
        with pace.saving():
            save_state(folder, learner, now)
        return now

    while (fraction := schedule.fraction(step, pace.elapsed)) < 1.0:
        set_rate(optimiser, schedule.learning_rate(fraction))
        with dropout_from(plan, step):
            value = hidden.step(net, optimiser, step)
        if not math.isfinite(value):
            raise RunError(
                f"{run}: the loss is no longer a number at step {step} of painting in; train into a new folder without"
                " --pretrain, or with a smaller --set optim.lr"
            )
        step += 1
        loss = value if loss is None else 0.95 * loss + 0.05 * value
        average.update(net, step, fraction)
        if pace.tells():
            yield Progress(task="masked", done=step, fraction=min(1.0, fraction), loss=loss)
        if should_stop():
            return Outcome(save(), finished=False)
        if pace.saves():
            save()

    save_weights(body(plan.net, average.net.state_dict()), run / START, {"from": "masked reconstruction"})
    yield Decided(
        what="masked",
        value=f"{step} steps of painting in",
        why=f"hidden pixels are painted in with a mean difference of {loss or 0.0:.2f} standard deviations; the network"
        " begins with what it learnt there",
    )
    return Outcome(save(finished=True), finished=True)


class Masked:
    """Patches of which blocks are hidden, and the step that learns to paint them in."""

    def __init__(self, cases: Sequence[PreparedCase], plan: Plan) -> None:
        self.plan = plan
        self.cases = tuple(anywhere(case) for case in cases)
        self.sampler = PatchSampler(self.cases, plan.sampling.patch, 0.0, plan.seed)
        # what harms an image cannot be painted in
        harms = dict.fromkeys(("noise", "blur", "low_resolution", "channel_drop"), 0.0)
        self.changes = plan.augment.model_copy(update=harms)
        self.arithmetic = arithmetic_of(plan.machine)

    def patches(self, step: int) -> tuple[Tensor, Tensor]:
        """Whole patches (B, C, *X) of `step`, and where they are hidden (B, *X)."""
        plan, batch = self.plan, range(self.plan.sampling.batch)
        chosen = [self.sampler.choose(step, index) for index in batch]
        draws = draw(self.changes, plan.sampling.patch, [numpy_generator(plan.seed, "masked", step, i) for i in batch])
        image_BCX, _ = warp(
            [as_tensor(self.cases[number].image_CX) for number, _ in chosen],
            [as_tensor(self.cases[number].label_X) for number, _ in chosen],
            [centre for _, centre in chosen],
            plan.sampling.patch,
            draws,
        )
        hidden_BX = torch.stack(
            [
                blocks(plan.sampling.patch, plan.learn.blocks, plan.learn.hidden, key(plan.seed, "hidden", step, index))
                for index in batch
            ]
        )
        scales = [self.cases[number].scale for number, _ in chosen]
        return change_intensity(image_BCX, draws, scales, self.changes.fixed), hidden_BX

    def step(self, net: UNet, optimiser: torch.optim.Optimizer, step: int) -> float:
        """Forward, loss, backward, update; returns the loss."""
        image_BCX, hidden_BX = self.patches(step)
        image_BCX, hidden_B1X = placed(image_BCX, self.arithmetic), hidden_BX[:, None].to(self.arithmetic.device)
        with autocast(self.arithmetic):
            output = net(image_BCX.masked_fill(hidden_B1X, 0.0))
        painted_BCX = output if isinstance(output, Tensor) else output[0]
        value = difference(painted_BCX, image_BCX, hidden_B1X)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(value)
        clip_gradient(net, self.plan.optim.clip)
        optimiser.step()
        return float(value.detach())


def difference(painted_BCX: Tensor, image_BCX: Tensor, hidden_B1X: Tensor) -> Tensor:
    """Mean absolute difference over the hidden pixels and all channels. Unpadded convolutions paint the middle only."""
    area = painted_BCX.shape[2:]
    at_B1X = centred(hidden_B1X.squeeze(1), area)[:, None]
    true_BCX = torch.stack([centred(channel_BX, area) for channel_BX in image_BCX.unbind(1)], 1)
    apart_BCX = (painted_BCX.float() - true_BCX).abs() * at_B1X
    return apart_BCX.sum() / (at_B1X.sum() * image_BCX.shape[1]).clamp(min=1)


def blocks(patch: Sequence[int], along: int, share: float, seed: int) -> Tensor:
    """Where a patch (*X) is hidden: that share of its blocks, `along` of them on each axis, fewer where it is short."""
    counts = [min(along, n) for n in patch]
    total = math.prod(counts)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    chosen = torch.zeros(total, dtype=torch.bool)
    chosen[order[: max(1, round(share * total))]] = True
    hidden_X = chosen.view(*counts)
    for axis, (n, count) in enumerate(zip(patch, counts, strict=True)):
        hidden_X = hidden_X.index_select(axis, torch.arange(n) * count // n)
    return hidden_X


def painter(spec: NetSpec) -> NetSpec:
    """The same network, whose last layers give the channels of its input."""
    return spec.replace({"classes": spec.in_channels, "heads": ()})


def body(spec: NetSpec, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of the tensors of a painter of `spec`, those that have nothing to do with what its last layers give."""
    sizes = patterns(spec.replace({"heads": ()}))
    of_heads = {name for name, pattern in sizes.items() if any(size.per_class for size in pattern)}
    return {name: value for name, value in state.items() if name not in of_heads}


def _budget(plan: Plan, reserve: float) -> BudgetPlan:
    if plan.budget.steps is not None:
        return plan.budget.model_copy(update={"steps": steps_of(plan)})
    seconds = max(60 * (plan.budget.minutes or 0.0) - reserve, 1.0)
    return plan.budget.model_copy(update={"minutes": plan.learn.masked * seconds / 60})
