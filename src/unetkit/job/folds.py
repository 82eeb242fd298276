"""A run in folds: the same plan trained on one part of the cases after the other, each time without those of a fold.

Every fold is a run folder of its own, RUN/folds/1 … It differs from the run's plan in its seed, its split and its share
of the minutes. What is read and prepared is shared. An interrupted run goes on in the fold where it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator
from pathlib import Path

from unetkit.core.events import Decided, Event, Progress, Started
from unetkit.core.files import atomic, locked
from unetkit.core.machine import format_duration
from unetkit.core.rng import key
from unetkit.data.split import write_split
from unetkit.job.finish import finish
from unetkit.job.preparing import Job, Prepared, forget, prepare, stopped
from unetkit.job.record import FINDINGS, FINGERPRINT, SPLIT, is_trained, record_command, record_timing
from unetkit.job.sides import Side, fold_folder
from unetkit.plan.plan import Plan
from unetkit.predict.load import PLAN
from unetkit.train.log import EventLog, logged
from unetkit.train.loop import START, Outcome
from unetkit.train.phases import learn
from unetkit.train.state import Position, read_position


def train_folds(job: Job, log: EventLog, reserve: float) -> Generator[Event, None, bool]:
    """Train every fold that is not trained yet, then score all cases, each by the fold that never saw it.

    log: of the run; each fold has its own. reserve: seconds of a budget in minutes that are not for training, of a run
    that begins. Returns whether the run is finished (False: stopped by the user).
    """
    run, count = job.run, job.plan.data.trained
    prepared: Prepared | None = None
    record_command(run)
    for number in range(1, count + 1):
        folder = fold_folder(run, number)
        if is_trained(folder):
            continue
        _begin(job, number, reserve)
        with locked(folder):
            first = prepared is None
            if prepared is None:
                prepared = yield from logged(prepare(job), log)
            own = EventLog(folder)
            training = logged(_train(job, number, prepared, own), own)
            outcome: Outcome = yield from _of_all(training, number, count, first)
        if not outcome.finished:
            yield from logged(_said(stopped(outcome.position, f" of fold {number} of {count}")), log)
            return False
    del prepared
    forget(run)
    yield from logged(_finish(job), log)
    return True


def is_complete(run: Path, plan: Plan) -> bool:
    """Whether every fold that is to be trained is. Raises RunError for a damaged state."""
    return all(is_trained(fold_folder(run, number)) for number in range(1, plan.data.trained + 1))


def _begin(job: Job, number: int, reserve: float) -> None:
    """The folder of a fold with everything that a resumed fold needs; the plan is written last."""
    run, folder, split = job.run, fold_folder(job.run, number), job.understood.split.fold(number)
    if (folder / PLAN).exists():
        return
    value = f"{len(split.train)} train, {len(split.val)} val"
    all_folds = job.plan.data.split  # not the reason of the split, which a resumed run reads from a file
    data = {"folds": 1, "trained": 1, "split": f"{value}: fold {number} of {all_folds}"}
    seconds = _share(job, number, reserve)
    limits = {"limit": job.plan.budget.limit / job.plan.data.trained}
    if seconds is not None:
        limits = {"minutes": seconds / 60}
    plan = job.plan.model_copy(
        update={
            "data": job.plan.data.model_copy(update=data),
            "budget": job.plan.budget.model_copy(update=limits),
            "seed": key(job.plan.seed, "fold", number) % (1 << 31),
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_split(folder / SPLIT, job.understood.discovery.cases, split)
    for name in (FINDINGS, FINGERPRINT, START):
        if (run / name).exists():
            with atomic(folder / name) as temporary:
                shutil.copyfile(run / name, temporary)
    plan.save(folder / PLAN)


def _share(job: Job, number: int, reserve: float) -> float | None:
    """Seconds for training a fold: an equal part of what the folds before it left; None of a budget without minutes."""
    if job.plan.budget.minutes is None:
        return None
    left = job.plan.data.trained - number + 1
    if number == 1:
        return max((60 * job.plan.budget.minutes - reserve) / left, 1.0)
    before = fold_folder(job.run, number - 1)
    position, minutes = read_position(before), Plan.load(before / PLAN).budget.minutes
    spent = 0.0 if position is None else position.reserve + position.elapsed
    return max((60 * (minutes or 0.0) * (left + 1) - spent) / left, 1.0)


def _train(job: Job, number: int, prepared: Prepared, log: EventLog) -> Generator[Event, None, Outcome]:
    folder, split = fold_folder(job.run, number), job.understood.split.fold(number)
    record_command(folder)
    plan = Plan.load(folder / PLAN).model_copy(update={"net": job.plan.net})
    share = "" if plan.budget.minutes is None else f", in {format_duration(60 * plan.budget.minutes)}"
    why = f"{len(split.train)} cases train, {len(split.val)} validate{share}"
    yield Decided(what="fold", value=f"{number} of {job.plan.data.trained}", why=why)
    parts = (prepared.of(split.train), prepared.of(split.val))
    outcome = yield from learn(plan, *parts, folder, log, job.should_stop, unlabelled=prepared.unlabelled)
    record_timing(folder, "train", outcome.position.elapsed)
    return outcome


def _of_all(
    work: Generator[Event, None, Outcome], number: int, count: int, first: bool
) -> Generator[Event, None, Outcome]:
    """The events of a fold, its progress as a part of that of all. first: of this sitting."""
    while True:
        try:
            event = next(work)
        except StopIteration as stop:
            outcome: Outcome = stop.value
            return outcome
        if isinstance(event, Started) and event.task == "train" and not first:
            continue  # it goes on, for whoever watches
        if isinstance(event, Progress):
            fraction, eta = event.fraction, event.eta
            if eta is not None and fraction < 1:
                eta += (count - number) * eta / (1 - fraction)
            changes = {"fraction": (number - 1 + fraction) / count, "eta": eta, "note": f"fold {number} of {count}"}
            event = event.model_copy(update=changes)
        yield event


def _finish(job: Job) -> Generator[Event, None, None]:
    run, split = job.run, job.understood.split
    sides, positions = [], []
    for number in range(1, job.plan.data.trained + 1):
        folder = fold_folder(run, number)
        cases = tuple(case for case in job.understood.discovery.cases if split.folds.get(case.id) == number)
        sides.append(Side(folder, job.plan, cases))
        if (position := read_position(folder)) is not None:
            positions.append(position)
    together = _together(job.plan, positions)
    record_timing(run, "train", together.elapsed)
    trained = job.understood.cases("train")
    yield from finish(run, job.plan, tuple(sides), trained, job.understood.diagnosis.groups.of, together)


def _together(plan: Plan, positions: list[Position]) -> Position:
    """What all folds took, and the mean of what they reached."""
    best = [p.best for p in positions if p.best is not None]
    losses = [p.loss for p in positions if p.loss is not None]
    return Position(
        plan=plan.digest(),
        step=sum(p.step for p in positions),
        elapsed=sum(p.elapsed for p in positions),
        loss=sum(losses) / len(losses) if losses else None,
        best=sum(best) / len(best) if best else None,
        finished=True,
    )


def _said(event: Event) -> Generator[Event, None, None]:
    yield event
