"""A sitting: what a part of a run begins with, in a new folder or where an earlier sitting was interrupted; and when
its state is saved and told on the way."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import torch

from unetkit.core.errors import RunError
from unetkit.core.events import Decided, Event
from unetkit.core.files import remove_partial
from unetkit.core.rng import key
from unetkit.nets.build import build
from unetkit.nets.spec import NetSpec
from unetkit.nets.weights import load_weights
from unetkit.plan.budget import arithmetic_of, place
from unetkit.plan.plan import Plan
from unetkit.train.average import Average
from unetkit.train.hard import HardCases
from unetkit.train.log import EventLog
from unetkit.train.optim import make_optimiser
from unetkit.train.state import Learner, Position, load_state, read_position

# Saving may take one fortieth of the time: where it is slow, the state is saved more seldom than the plan says.
SAVE_SHARE = 40.0


def begin(
    plan: Plan,
    run: Path,
    log: EventLog,
    reserve: float,
    *,
    spec: NetSpec,
    folder: Path,
    task: str = "training",
    start: Path | None = None,
    hard: HardCases | None = None,
) -> Generator[Event, None, tuple[Learner, Position]]:
    """A network of `spec` with all that learns with it, and where it stands: as `folder` (the run's own, or one in it)
    has saved it, else new, with the weights in `start` where that is given.

    reserve: of a new position. task: what was interrupted, in the message. Raises RunError: the saved state belongs to
    another plan or is damaged.
    """
    position = read_position(folder)
    if position is not None and position.plan != plan.digest():
        raise RunError(
            f"{run / 'plan.json'}: the plan changed after step {position.step} of this run; restore it, or train into"
            " a new folder with -o"
        )
    arithmetic = arithmetic_of(plan.machine)
    torch.set_num_threads(arithmetic.threads)
    net = place(build(spec, seed=key(plan.seed, "weights")), arithmetic)
    net.checkpointing = plan.machine.checkpointing
    if start is not None and position is None:
        load_weights(net, start, strict=False)
    learner = Learner(net, Average(net, plan.optim), make_optimiser(net, plan.optim), hard)
    remove_partial(folder)
    if position is None:
        return learner, Position(plan=plan.digest(), reserve=reserve)
    load_state(folder, learner)
    log.truncate(position.log_bytes)
    if not position.finished:
        yield Decided(
            what="resume",
            value=f"step {position.step}",
            why=f"{run} holds a run that was interrupted after {position.elapsed:.0f} s of {task}",
        )
    return learner, position


class Pace:
    """Seconds of a part of a run over all its sittings, and when its state is due to be saved, and its progress to be
    told."""

    def __init__(self, position: Position, every: float) -> None:
        """every: seconds between two states at least; 0: saved after every step."""
        self.every = every
        self.began = time.perf_counter() - position.elapsed
        self._saved, self._cost, self._told = time.perf_counter(), 0.0, -math.inf

    @property
    def elapsed(self) -> float:
        """Seconds since the part began, over all sittings."""
        return time.perf_counter() - self.began

    def tells(self) -> bool:
        """Whether progress is due, and if so, that it is told now: a thousand times at most, twice a second."""
        now = time.perf_counter()
        if now - self._told < max(0.5, (now - self.began) / 1000):
            return False
        self._told = now
        return True

    def saves(self) -> bool:
        """Whether the state is due to be saved."""
        since = time.perf_counter() - self._saved
        return since >= (max(self.every, SAVE_SHARE * self._cost) if self.every else 0)

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Around saving the state: how long it takes, and that it is done, is taken note of."""
        start = time.perf_counter()
        yield
        self._saved = time.perf_counter()
        self._cost = self._saved - start
