"""Train into a run folder, or go on with what is there; score; write the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from unetkit.core.errors import RunError
from unetkit.core.events import Done, Event, Saved
from unetkit.core.files import locked, read_json, write_json
from unetkit.data.split import write_split
from unetkit.job.finish import finish
from unetkit.job.folds import is_complete, train_folds
from unetkit.job.importing import is_imported
from unetkit.job.preparing import FOLDER, Job, forget, prepare, stopped
from unetkit.job.record import FINDINGS, FINGERPRINT, SPLIT, first_command, is_trained, record_command, record_timing
from unetkit.job.sides import Side
from unetkit.job.starting import begin_with, read_start
from unetkit.job.understand import DataSource, Earlier, Understood, understand
from unetkit.job.unlabelled import check_unlabelled
from unetkit.plan.make import Planned, make_plan
from unetkit.plan.own import code_of, trusted, with_code
from unetkit.plan.plan import Plan, Request
from unetkit.predict.load import PLAN
from unetkit.train.log import EventLog, logged
from unetkit.train.loop import START, Outcome
from unetkit.train.phases import learn

REPORT = "report.html"


def planning(data: DataSource, request: Request) -> Generator[Event, None, Planned]:
    """Understand the data, and decide; nothing is written. Raises DataError, PlanError, MachineError."""
    request = with_code(request)
    understood = yield from understand(data, request)
    result = yield from make_plan(understood.cases("train"), understood.diagnosis.legend, understood.data, request)
    check_unlabelled(understood.unlabelled, result.plan)
    yield Done(task="plan", message="nothing was trained; `unetkit train` with the same words does it")
    return result


def training(
    data: DataSource, run: Path, request: Request, should_stop: Callable[[], bool]
) -> Generator[Event, None, bool]:
    """Train into the folder `run`, or go on with what is there; score, and write the report.

    Returns whether the run is finished (False: stopped by the user; the same command goes on).
    """
    began = time.perf_counter()
    request = with_code(request)
    _refuse_foreign(run)
    with locked(run):
        log = EventLog(run)
        kept = log.bytes()
        begun = yield from logged(_begin(data, run, request), log)
        if begun is None:
            return True
        job = Job(run, begun.plan, begun.understood, should_stop, request.store, began)
        if job.plan.data.folds > 1:
            if begun.resumed:
                log.truncate(kept)  # it was all said before
            return (yield from train_folds(job, log, begun.reserve))
        return (yield from logged(_train(job, log, begun.reserve), log))


@dataclass(frozen=True)
class _Begun:
    """A run folder with its plan, and the data that it is of. reserve: seconds of a budget in minutes that are not for
    training."""

    plan: Plan
    understood: Understood
    reserve: float
    resumed: bool = False


def _begin(data: DataSource, run: Path, request: Request) -> Generator[Event, None, _Begun | None]:
    """The plan of a new run, or of the one that is there; None where that is finished."""
    if (run / PLAN).exists():
        plan = _resume(run, request)
        if (run / REPORT).exists() and (is_complete(run, plan) if plan.data.folds > 1 else is_trained(run)):
            yield Done(task="train", message=f"this run is finished; see {run / REPORT}, or name a new folder with -o")
            return None
        understood = yield from understand(data, request, Earlier(plan.data, run / SPLIT))
        return _Begun(plan, understood, 0.0, resumed=True)  # the saved state knows what is reserved
    start = read_start(request.start)
    understood = yield from understand(data, request)
    planned = yield from make_plan(understood.cases("train"), understood.diagnosis.legend, understood.data, request)
    plan = planned.plan
    check_unlabelled(understood.unlabelled, plan)
    write_split(run / SPLIT, understood.discovery.cases, understood.split)
    write_json(run / FINDINGS, [finding.model_dump(mode="json") for finding in understood.diagnosis.findings])
    write_json(run / FINGERPRINT, planned.facts.model_dump(mode="json"))
    if start is not None:
        yield from begin_with(start, run, plan)
    plan.save(run / PLAN)  # last: a folder with a plan has everything a resumed run needs
    yield Saved(path=str(run / PLAN), what="the plan, with the reason for every decision")
    return _Begun(plan, understood, planned.reserve)


def _train(job: Job, log: EventLog, reserve: float) -> Generator[Event, None, bool]:
    """One training with one split."""
    run, plan, split = job.run, job.plan, job.understood.split
    record_command(run)
    prepared = yield from prepare(job)
    parts = (prepared.of(split.train), prepared.of(split.val))
    outcome: Outcome = yield from learn(plan, *parts, run, log, job.should_stop, reserve, prepared.unlabelled)
    record_timing(run, "train", outcome.position.elapsed)
    if not outcome.finished:
        yield stopped(outcome.position)
        return False
    del prepared, parts
    forget(run)
    sides = (Side(run, plan, tuple(job.understood.cases("val"))),)
    trained = job.understood.cases("train")
    yield from finish(run, plan, sides, trained, job.understood.diagnosis.groups.of, outcome.position)
    return True


def _refuse_foreign(run: Path) -> None:
    """A folder that holds something else is not written into."""
    if run.is_file():
        raise RunError(f"{run}: is a file; name a new folder with -o")
    if run.is_dir() and not (run / PLAN).exists():
        ours = {".lock", FINDINGS, SPLIT, FINGERPRINT, START, "events.jsonl", "environment.json", FOLDER}
        others = [p.name for p in run.iterdir() if p.name not in ours and not p.name.startswith(".")]
        if others:
            raise RunError(
                f"{run}: holds other files ({', '.join(sorted(others)[:3])}) and no plan.json; nothing was written;"
                " name a new or empty folder with -o"
            )


def _resume(run: Path, request: Request) -> Plan:
    """The plan of an interrupted run. Raises RunError where a command asks for something else than the run's own."""
    if is_imported(run):
        raise RunError(
            f"{run}: holds imported weights, no training to go on with; nothing was overwritten; to train them further,"
            f" name a new folder: unetkit train DATA -o NEW --start {run}"
        )
    plan = Plan.load(run / PLAN)
    read_json(run / FINGERPRINT, "the fingerprint of the data")
    asked, now = plan.request.model_dump(mode="json"), request.model_dump(mode="json")
    changed = [f"{name} was {asked[name]!r}, now {now[name]!r}" for name in asked if asked[name] != now[name]]
    if changed:
        raise RunError(
            f"{run}: this run was started with other settings ({'; '.join(changed)}); nothing was overwritten;"
            f" repeat the first command to go on{first_command(run)}, or name a new folder with -o"
        )
    return plan.model_copy(update={"net": trusted(plan.net, code_of(request), request.trust)})
