"""Train into a run folder, or go on with what is there; score; write the report."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import numpy as np

from unetkit.core.errors import RunError
from unetkit.core.events import Decided, Done, Event, Saved
from unetkit.core.files import locked, read_json, write_json
from unetkit.data.prepared.patches import PreparedCase
from unetkit.data.prepared.store import Keep, prepare_cases
from unetkit.data.split import write_split
from unetkit.job.finish import finish
from unetkit.job.importing import is_imported
from unetkit.job.record import first_command, record_command, record_timing
from unetkit.job.starting import begin_with, read_start
from unetkit.job.understand import DataSource, Earlier, understand
from unetkit.job.unlabelled import check_unlabelled
from unetkit.plan.make import Planned, make_plan
from unetkit.plan.own import code_of, trusted, with_code
from unetkit.plan.plan import Plan, Request
from unetkit.predict.load import PLAN
from unetkit.train.log import EventLog
from unetkit.train.loop import START, Outcome
from unetkit.train.phases import learn
from unetkit.train.state import read_position

FINDINGS, SPLIT, FINGERPRINT, REPORT = "findings.json", "split.csv", "fingerprint.json", "report.html"


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
        work = _training(data, run, request, should_stop, log, began)
        while True:
            try:
                event = next(work)
            except StopIteration as stop:
                return bool(stop.value)
            log.write(event)
            yield event


def _training(
    data: DataSource, run: Path, request: Request, should_stop: Callable[[], bool], log: EventLog, began: float
) -> Generator[Event, None, bool]:
    if (run / PLAN).exists():
        plan = _resume(run, request)
        position = read_position(run)
        if position is not None and position.finished and (run / REPORT).exists():
            yield Done(task="train", message=f"this run is finished; see {run / REPORT}, or name a new folder with -o")
            return True
        understood = yield from understand(data, request, Earlier(plan.data, run / SPLIT))
        reserve = 0.0  # the saved state knows it
    else:
        start = read_start(request.start)
        understood = yield from understand(data, request)
        planned = yield from make_plan(understood.cases("train"), understood.diagnosis.legend, understood.data, request)
        plan, reserve = planned.plan, planned.reserve
        check_unlabelled(understood.unlabelled, plan)
        write_split(run / SPLIT, understood.discovery.cases, understood.split)
        write_json(run / FINDINGS, [finding.model_dump(mode="json") for finding in understood.diagnosis.findings])
        write_json(run / FINGERPRINT, planned.facts.model_dump(mode="json"))
        if start is not None:
            yield from begin_with(start, run, plan)
        plan.save(run / PLAN)  # last: a folder with a plan has everything a resumed run needs
        yield Saved(path=str(run / PLAN), what="the plan, with the reason for every decision")
    record_command(run)
    legend = plan.data.legend
    folder = run / "prepared"
    keep: Keep = "store" if request.store else "originals"
    train_cases = prepare_cases(understood.cases("train"), legend, plan.prepare, plan.seed, folder, keep=keep)
    val_cases = prepare_cases(understood.cases("val"), legend, plan.prepare, plan.seed, folder / "val", keep=keep)
    others = prepare_cases(
        understood.unlabelled, legend, plan.prepare, plan.seed, folder / "unlabelled", keep=keep, unlabelled=True
    )
    yield from _where([*train_cases, *others], folder, request.store)
    record_timing(run, "prepare", time.perf_counter() - began)
    outcome: Outcome = yield from learn(plan, train_cases, val_cases, run, log, should_stop, reserve, others)
    record_timing(run, "train", outcome.position.elapsed)
    if not outcome.finished:
        yield Done(
            task="train",
            message=f"stopped after step {outcome.position.step}, everything is saved; the same command goes on",
            seconds=outcome.position.elapsed,
        )
        return False
    del train_cases, val_cases, others
    shutil.rmtree(folder, ignore_errors=True)
    yield from finish(run, plan, understood.cases("val"), understood.diagnosis.groups.of, outcome.position)
    return True


def _where(cases: Sequence[PreparedCase], folder: Path, store: bool) -> Generator[Event, None, None]:
    """Say where the prepared cases are, where they are not all in memory."""
    outside = sum(not isinstance(case.image_CX, np.ndarray) for case in cases)
    if outside:
        yield Decided(
            what="prepare.store",
            value=f"{outside} of {len(cases)} cases " + (f"in {folder}" if store else "where they are"),
            why="they do not fit in a quarter of the free memory"
            + ("; --no-store reads the originals instead" if store else ", and no copies were wanted"),
        )


def _refuse_foreign(run: Path) -> None:
    """A folder that holds something else is not written into."""
    if run.is_file():
        raise RunError(f"{run}: is a file; name a new folder with -o")
    if run.is_dir() and not (run / PLAN).exists():
        ours = {".lock", FINDINGS, SPLIT, FINGERPRINT, START, "events.jsonl", "environment.json", "prepared"}
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
