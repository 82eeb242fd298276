"""events.jsonl: every event of a run as one line of JSON, on disk as soon as it happened."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import TypeVar

from unetkit.core.events import Event
from unetkit.core.files import disk_errors

NAME = "events.jsonl"

T = TypeVar("T")


class EventLog:
    """Appends to the log of a run. `time` in a line: seconds since the run's first event, all sittings together."""

    def __init__(self, run: Path) -> None:
        self.path = run / NAME
        self._offset = _last_time(self.path)
        self._began = time.perf_counter()

    def write(self, event: Event) -> None:
        """Append one line. Raises MachineError where the disk refuses."""
        seconds = round(self._offset + time.perf_counter() - self._began, 3)
        line = json.dumps({"time": seconds, **event.model_dump(mode="json")}, ensure_ascii=False) + "\n"
        with disk_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line)

    def bytes(self) -> int:
        """Length of the log now."""
        return self.path.stat().st_size if self.path.exists() else 0

    def truncate(self, length: int) -> None:
        """Forget what was logged after the last saved state: those steps will be done again."""
        if self.bytes() > length:
            with disk_errors(self.path):
                os.truncate(self.path, length)
            self._offset = _last_time(self.path)
            self._began = time.perf_counter()


def logged(work: Generator[Event, None, T], log: EventLog) -> Generator[Event, None, T]:
    """The same work, each of whose events is in the log before it is handed on."""
    while True:
        try:
            event = next(work)
        except StopIteration as stop:
            result: T = stop.value
            return result
        log.write(event)
        yield event


def _last_time(path: Path) -> float:
    if not path.exists():
        return 0.0
    last = 0.0
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            last = max(last, float(json.loads(line)["time"]))
        except (json.JSONDecodeError, KeyError):
            continue
    return last
