"""What long work says while it runs: small typed values, each one line of JSON. Terminals, browsers, notebooks and
tests consume the same stream; nothing but `cli` prints.

A generator yields events and returns its result; `drain` runs it to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Literal, TypeVar

from pydantic import Field

from unetkit.core.config import Config

T = TypeVar("T")


class Event(Config):
    """Base: `kind` names the class in JSON, so that a line can be read back."""

    kind: str


class Started(Event):
    """Work begins: what, and how many units it has (0: not known)."""

    kind: Literal["started"] = "started"
    task: str
    total: int = 0


class Decided(Event):
    """A choice that was made, its value, and why."""

    kind: Literal["decided"] = "decided"
    what: str
    value: str
    why: str


class Progress(Event):
    """One more unit is done. `fraction` of the whole in [0, 1]; `eta` in seconds; loss and Dice where there are any."""

    kind: Literal["progress"] = "progress"
    task: str
    done: int
    fraction: float = Field(ge=0, le=1)
    eta: float | None = None
    loss: float | None = None
    dice: float | None = None
    note: str = ""


class Validated(Event):
    """A validation over whole images. `loss`: of training, smoothed; `dice`: mean over foreground classes."""

    kind: Literal["validated"] = "validated"
    step: int
    fraction: float
    seconds: float
    loss: float
    lr: float
    dice: float | None
    per_class: dict[str, float | None] = {}
    best: bool = False


class Saved(Event):
    """A file is on disk, whole."""

    kind: Literal["saved"] = "saved"
    path: str
    what: str


class Warned(Event):
    """Something the user should know: a fallback, a skipped file, a limit that was reached."""

    kind: Literal["warned"] = "warned"
    message: str


class Done(Event):
    """Work ended: in one sentence, what was reached."""

    kind: Literal["done"] = "done"
    task: str
    message: str
    seconds: float = 0.0


def drain(work: Generator[Event, None, T], listen: Callable[[Event], Any] | None = None) -> T:
    """Run a generator of events to its end, hand each event to `listen`, return the generator's result."""
    while True:
        try:
            event = next(work)
        except StopIteration as stop:
            result: T = stop.value
            return result
        if listen is not None:
            listen(event)


_TASKS = {
    "check": "examining the data",
    "plan": "planning",
    "augment": "drawing the sheet",
    "masked": "learning from images alone",
    "train": "training",
    "score": "scoring",
    "predict": "predicting",
    "evaluate": "scoring",
}


def task_name(task: str) -> str:
    """What a task is called while it goes on."""
    return _TASKS.get(task, task)
