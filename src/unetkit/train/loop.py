"""The training loop: steps until the budget is spent, whole-image validation on the way, the state saved every few
seconds. A generator of events; the same run folder goes on where it was.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from unetkit.core.errors import RunError
from unetkit.core.events import Decided, Event, Progress, Saved, Validated
from unetkit.core.rng import key
from unetkit.data.prepared.patches import PreparedCase
from unetkit.nets.weights import save_weights
from unetkit.plan.budget import arithmetic_of
from unetkit.plan.loss import loss_of
from unetkit.plan.plan import Plan
from unetkit.train.log import EventLog
from unetkit.train.optim import set_rate
from unetkit.train.schedule import Schedule
from unetkit.train.sitting import Pace, begin
from unetkit.train.state import Position, save_state
from unetkit.train.step import Also, Batches, train_step
from unetkit.train.validate import validate

BEST, LAST = "weights.safetensors", "last.safetensors"
# The network as it was before it learnt from the validation images as well: the one that scores are of.
JUDGED = "judged.safetensors"
# What a run begins with that goes on from another run's weights (copied once, so that the other need not stay), or from
# what images alone taught.
START = "start.safetensors"
# A validation this close to the best counts as equal, and the later, more trained weights are kept.
EQUAL = 0.003


@dataclass(frozen=True)
class Outcome:
    """How a sitting ended: finished, or stopped by the user, and where."""

    position: Position
    finished: bool


def fit(
    plan: Plan,
    train_cases: Sequence[PreparedCase],
    val_cases: Sequence[PreparedCase],
    run: Path,
    log: EventLog,
    should_stop: Callable[[], bool] = lambda: False,
    reserve: float = 0.0,
    also: Also | None = None,
) -> Generator[Event, None, Outcome]:
    """Train `plan` in the folder `run` (held by the caller) until its budget is spent or `should_stop()` says so.

    `reserve`: seconds of a budget in minutes that were, or will be, spent outside this loop. `also`: what is learnt
    from beside the labels.
    Raises RunError: the saved state belongs to another plan or is damaged; the loss is no longer a number.
    """
    joins = plan.budget.join < 1 and len(val_cases) > 0
    batches = Batches(train_cases, plan, val_cases if joins else ())
    start = run / START if plan.request.start is not None or plan.learn.masked > 0 else None
    learner, position = yield from begin(
        plan, run, log, reserve, spec=plan.net, folder=run, start=start, hard=batches.hard
    )
    net, average, optimiser = learner.net, learner.average, learner.optimiser
    if position.finished:
        return Outcome(position, finished=True)
    if position.joined is not None:
        batches.join()

    schedule = Schedule(plan.budget, plan.optim, position.reserve, position.settled, list(position.looks))
    looked_at = spread(val_cases, plan.budget.validation_cases)
    loss, arithmetic = loss_of(plan), arithmetic_of(plan.machine)
    now = position.model_dump()
    pace = Pace(position, plan.budget.save_every)

    def save(finished: bool = False) -> Position:
        now["elapsed"], now["log_bytes"] = pace.elapsed, log.bytes()
        now["settled"], now["looks"], now["finished"] = schedule.settled, tuple(schedule.looks), finished
        position = Position(**now)
        with pace.saving():
            save_state(run, learner, position)
        return position

    while True:
        elapsed = pace.elapsed
        fraction = schedule.fraction(now["step"], elapsed)
        mark = schedule.mark(fraction, elapsed)
        joining = joins and fraction >= plan.budget.join
        # once they are learnt from, validation images tell nothing more
        if mark > now["mark"] and now["step"] > 0 and now["joined"] is None:
            now["mark"] = mark
            result = validate(average.net, looked_at, plan)
            best = result.dice is None or now["peak"] is None or result.dice >= now["peak"] - EQUAL
            if result.dice is not None:
                now["peak"] = max(result.dice, now["peak"] or 0.0)
            if best:
                now["best"], now["best_step"] = result.dice, now["step"]
                save_weights(average.net, run / BEST)
            yield Validated(
                step=now["step"],
                fraction=fraction,
                seconds=pace.elapsed,
                loss=now["loss"],
                lr=schedule.learning_rate(fraction),
                dice=result.dice,
                per_class=result.per_class,
                best=best,
            )
            if joining and best:
                now["joined"] = now["step"]
                save_weights(average.net, run / JUDGED)
                batches.join()
                yield Decided(
                    what="joined",
                    value=f"step {now['step']}",
                    why="from here on the validation images are learnt from as well; scores are of the network before",
                )
            if schedule.look(result.dice, pace.elapsed):
                yield Decided(
                    what="settled",
                    value=f"step {now['step']}",
                    why="the last validations brought nothing better: the learning rate now falls to its end",
                )
        if fraction >= 1.0:
            break
        set_rate(optimiser, schedule.learning_rate(fraction))
        batch = batches(now["step"])
        with dropout_from(plan, now["step"]):
            value = train_step(
                net,
                optimiser,
                partial(loss, fraction=fraction),
                batch,
                arithmetic,
                plan.optim.clip,
                plan.loss.scales,
                None if also is None else partial(also.loss, net, average.net, now["step"], fraction),
                None if batches.hard is None else batches.watch,
            )
        if not math.isfinite(value):
            raise RunError(
                f"{run}: the loss is no longer a number at step {now['step']}; the last state is kept;"
                " train into a new folder with a smaller --set optim.lr, or with --precision fp32"
            )
        now["step"] += 1
        now["loss"] = value if now["loss"] is None else 0.95 * now["loss"] + 0.05 * value
        average.update(net, now["step"], fraction)
        if pace.tells():
            elapsed = pace.elapsed
            fraction = schedule.fraction(now["step"], elapsed)
            yield Progress(
                task="train",
                done=now["step"],
                fraction=fraction,
                eta=elapsed * (1 - fraction) / fraction if fraction > 0 else None,
                loss=now["loss"],
                dice=now["best"],
            )
        if should_stop():
            return Outcome(save(), finished=False)
        if pace.saves():
            save()

    save_weights(average.net, run / LAST)
    kept = now["best_step"]
    if now["joined"] is not None or not (run / BEST).exists():
        # it has learnt from all images, or nothing could be validated: the last weights are the best known
        save_weights(average.net, run / BEST)
        kept = now["step"]
    if now["best_step"] is None:
        now["best_step"] = kept
    yield Saved(path=str(run / BEST), what=f"the weights of step {kept}")
    return Outcome(save(finished=True), finished=True)


def spread(cases: Sequence[PreparedCase], most: int) -> list[PreparedCase]:
    """At most so many of the cases, evenly over their order: neighbours are often of one patient or recording."""
    return [cases[k * len(cases) // most] for k in range(most)] if len(cases) > most else list(cases)


@contextlib.contextmanager
def dropout_from(plan: Plan, step: int) -> Iterator[None]:
    """Dropout draws from torch's global generator: within this, from the step's key; then it is as before."""
    if plan.net.dropout == 0:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(key(plan.seed, "dropout", step))
        yield
