"""What a run learns from, one after the other: images alone where that is planned, then labels, beside which images
without masks may teach as well."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from unetkit.core.events import Event, Started
from unetkit.data.prepared.patches import PreparedCase
from unetkit.plan.plan import Plan
from unetkit.train import masked
from unetkit.train.consistency import Consistency
from unetkit.train.log import EventLog
from unetkit.train.loop import Outcome, fit
from unetkit.train.state import read_position


def learn(
    plan: Plan,
    train_cases: Sequence[PreparedCase],
    val_cases: Sequence[PreparedCase],
    run: Path,
    log: EventLog,
    should_stop: Callable[[], bool] = lambda: False,
    reserve: float = 0.0,
    unlabelled: Sequence[PreparedCase] = (),
) -> Generator[Event, None, Outcome]:
    """Everything of `plan` in the folder `run` (held by the caller), as `fit` does for labels alone.

    unlabelled: images without masks, prepared as the others. Of an interrupted run the phase that it was in goes on.
    Raises as `fit`.
    """
    after = plan
    if plan.learn.masked > 0:
        after = masked.after(plan)
        if read_position(run) is None:
            begun = yield from masked.paint(plan, [*train_cases, *unlabelled], run, log, should_stop, reserve)
            if not begun.finished:
                return begun
            reserve = begun.position.reserve + begun.position.elapsed
    yield Started(task="train", total=after.budget.steps or 0)
    also = Consistency(unlabelled, plan) if unlabelled and plan.learn.unlabelled > 0 else None
    outcome = yield from fit(after, train_cases, val_cases, run, log, should_stop, reserve, also)
    if outcome.finished:
        shutil.rmtree(run / masked.FOLDER, ignore_errors=True)
    return outcome
