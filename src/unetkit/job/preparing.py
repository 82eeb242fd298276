"""The cases of a run made ready for training, once for everything that is trained on them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetkit.core.events import Decided, Done, Event
from unetkit.data.case import Case
from unetkit.data.prepared.patches import PreparedCase
from unetkit.data.prepared.store import Keep, prepare_cases
from unetkit.job.record import record_timing
from unetkit.job.understand import Understood
from unetkit.plan.plan import Plan
from unetkit.train.state import Position

FOLDER = "prepared"
"""The folder in a run for what does not fit in memory; it goes when training is finished."""


@dataclass(frozen=True)
class Job:
    """What a run folder is trained from. should_stop: whether the user asked to. store: whether copies of prepared
    cases may be kept in the run folder. began: when the command began (`time.perf_counter`)."""

    run: Path
    plan: Plan
    understood: Understood
    should_stop: Callable[[], bool]
    store: bool
    began: float


@dataclass(frozen=True)
class Prepared:
    """The cases of a run in the order of the set, by their ids; and images without masks."""

    cases: dict[str, PreparedCase]
    unlabelled: list[PreparedCase]

    def of(self, ids: Sequence[str]) -> list[PreparedCase]:
        """The cases with these ids, in their order."""
        return [self.cases[i] for i in ids]


def prepare(job: Job) -> Generator[Event, None, Prepared]:
    """Read and normalise all cases that train or validate, and images without masks. Raises as `prepare_cases`."""
    plan, folder = job.plan, job.run / FOLDER
    keep: Keep = "store" if job.store else "originals"

    def ready(cases: Sequence[Case], where: Path, unlabelled: bool = False) -> list[PreparedCase]:
        given = (cases, plan.data.legend, plan.prepare, plan.seed, where)
        areas = plan.sampling.by_area > 0
        return prepare_cases(*given, keep=keep, unlabelled=unlabelled, areas=areas)

    found = ready([*job.understood.cases("train"), *job.understood.cases("val")], folder)
    others = ready(job.understood.unlabelled, folder / "unlabelled", unlabelled=True)
    yield from _where([*found, *others], folder, job.store)
    record_timing(job.run, "prepare", time.perf_counter() - job.began)
    return Prepared({case.id: case for case in found}, others)


def forget(run: Path) -> None:
    """Remove what was kept of prepared cases."""
    shutil.rmtree(run / FOLDER, ignore_errors=True)


def stopped(position: Position, fold: str = "") -> Done:
    """What is said when the user stopped training. fold: such as " of fold 2"."""
    message = f"stopped after step {position.step}{fold}, everything is saved; the same command goes on"
    return Done(task="train", message=message, seconds=position.elapsed)


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
