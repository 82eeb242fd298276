"""What a contestant is given, and what it says afterwards. Imports nothing heavy."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arena.sets import ArenaSet, Case


@dataclass(frozen=True)
class Task:
    """data: the folder with train/ and test/ of links; out: the contestant's own folder; began: when its process was
    started (time.time()), from which the minutes count; settings: those of the contestant's `settings`, perhaps
    overridden."""

    kind: ArenaSet
    data: Path
    out: Path
    minutes: float
    began: float
    threads: int
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def deadline(self) -> float:
        return self.began + 60 * self.minutes

    @property
    def train_cases(self) -> list[Case]:
        return self.kind.cases(self.data / "train")

    @property
    def test_cases(self) -> list[Case]:
        return self.kind.cases(self.data / "test")


@dataclass(frozen=True)
class Outcome:
    """Wall-clock seconds from the start of the process to finished weights, and of the prediction of the held-out cases
    after that; steps of the optimiser; remarks: what else should be kept (a plan)."""

    train_seconds: float
    predict_seconds: float
    steps: int
    remarks: Mapping[str, Any] = field(default_factory=dict)


def timed(task: Task, trained: float, steps: int, **remarks: Any) -> Outcome:
    """The outcome of a contestant that has just predicted; `trained`: when its weights were finished (time.time())."""
    return Outcome(trained - task.began, time.time() - trained, steps, remarks)
