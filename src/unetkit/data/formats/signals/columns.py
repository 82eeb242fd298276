"""What the columns of a table that holds a signal are: time, channels, label; and whether its time runs evenly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError

TIME = ("time", "t", "seconds", "second", "sec", "timestamp", "timestamps", "datetime", "date")
SAMPLE = ("sample", "samples", "sample_number", "index", "")  # "": the index that pandas writes
LABEL = ("label", "labels", "class", "annotation", "target", "y")
STRETCH, DRIFT = 256, 0.02  # over so many samples, the mean step may differ so much from that of all
_UNITS = {
    "s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9,
    "min": 60.0, "h": 3600.0,
}  # fmt: skip
_WITH_UNIT = re.compile(r"^(.*?)[\s_]*(?:[\[(]\s*([a-zµμ]+)\s*[\])]|_([a-zµμ]+))$")


@dataclass(frozen=True, slots=True)
class Columns:
    """Indices of the columns of a signal. time: None where there is none. scale: seconds in a unit of the time; None:
    it counts samples. label: the column of classes. channels, names: the rest, and how they are called; unused: names
    of columns that hold text."""

    time: int | None
    scale: float | None
    label: int | None
    channels: tuple[int, ...]
    names: tuple[str, ...]
    unused: tuple[str, ...] = ()


def understand(path: Path, header: Sequence[str], numeric: Sequence[bool]) -> Columns:
    """Tell the columns by their names; `numeric`: whether each holds numbers. Raises DataError: two columns of labels,
    no channel."""
    names = [name.strip() for name in header]
    plain = [name.casefold() for name in names]
    time, scale = _time(plain)
    counts = {i for i, name in enumerate(plain) if name in SAMPLE or name.startswith("unnamed:")}
    if time is None and counts:
        time = min(counts)
    label = _label(path, names, plain)
    others = [i for i in range(len(names)) if i not in (time, label) and i not in counts]
    channels = tuple(i for i in others if numeric[i])
    if not channels:
        what = f"columns {', '.join(names)}" if any(names) else "one column"
        raise DataError(
            f"{path}: there is no channel: of its {what} none but time and label holds numbers; a signal has a column "
            "for each channel, and may have time and label"
        )
    unused = tuple(names[i] for i in others if not numeric[i])
    return Columns(time, scale, label, channels, tuple(names[i] or str(i) for i in channels), unused)


def with_unit(name: str) -> tuple[str, float]:
    """(name of a time without its unit, seconds in it): `time (ms)` and `time_ms` are ("time", 0.001)."""
    if (match := _WITH_UNIT.match(name)) and (unit := match[2] or match[3]) in _UNITS:
        return match[1], _UNITS[unit]
    return name, 1.0


def _time(plain: Sequence[str]) -> tuple[int | None, float | None]:
    for index, (name, scale) in enumerate(with_unit(cell) for cell in plain):
        if name in TIME:
            return index, scale
    return None, None


def _label(path: Path, names: Sequence[str], plain: Sequence[str]) -> int | None:
    found = [i for i, name in enumerate(plain) if name in LABEL]
    if len(found) > 1 or (found and plain[found[0]] == "y" and {"x", "z"} <= set(plain)):
        found = [i for i in found if plain[i] != "y"]  # an axis, as x and z are
    if len(found) > 1:
        raise DataError(
            f"{path}: the columns {' and '.join(names[i] for i in found[:2])} could both be the label; keep one of them"
        )
    return found[0] if found else None


class Steps:
    """Looks at a column of time, part by part: whether it grows by one step throughout, and by which.

    Times that were rounded when they were written will do; gaps, jumps and times that stand still are refused.
    """

    def __init__(self, path: Path, scale: float | None) -> None:
        self._path, self._scale = path, scale
        self._first: float | None = None
        self._last = 0.0
        self._usual: float | None = None
        self._count = 0
        self._anchors: list[float] = []

    def feed(self, times_X: NDArray[np.float64], line: int) -> None:
        """The next values; `line`: where the first stands in the file. Raises DataError as the class says."""
        if not len(times_X):
            return
        if not np.isfinite(times_X).all():
            at = int(np.flatnonzero(~np.isfinite(times_X))[0])
            raise DataError(f"{self._path}, line {line + at}: there is no time; fill it in, or leave the column out")
        if self._first is None:
            self._first = float(times_X[0])
            if self._scale == 1.0 and abs(self._first) > 1e11:  # seconds since 1970 would lie beyond the year 5000
                self._scale = 1e-3 if abs(self._first) < 1e14 else 1e-6 if abs(self._first) < 1e17 else 1e-9
        else:
            times_X, line = np.concatenate([[self._last], times_X]), line - 1
        steps = np.diff(times_X)
        if self._usual is None and len(steps):
            self._usual = float(np.median(steps))
        self._refuse(times_X, steps, line)
        next_anchor = 0 if self._count == 0 else STRETCH - self._count % STRETCH
        self._anchors += times_X[next_anchor::STRETCH].tolist()
        self._last, self._count = float(times_X[-1]), self._count + len(steps)

    def spacing(self) -> float | None:
        """Seconds between two samples; None where the column counts samples, or holds one value."""
        if self._scale is None or self._first is None or not self._count:
            return None
        step = (self._last - self._first) / self._count * self._scale
        local = np.diff(self._anchors) / STRETCH * self._scale
        if len(local) and np.abs(local / step - 1).max() > DRIFT:
            raise DataError(
                f"{self._path}: the steps of the time change, from {local.min():g} to {local.max():g} s; resample the "
                "signal to a constant rate"
            )
        rate = 1 / step
        whole = round(rate)
        return 1 / whole if whole and abs(rate / whole - 1) < 1e-4 else step

    def _refuse(self, times_X: NDArray[np.float64], steps: NDArray[np.float64], line: int) -> None:
        usual = self._usual or 0.0
        wrong = np.flatnonzero((steps <= 0) | (steps < 0.5 * usual) | (steps > 1.5 * usual))
        if not len(wrong):
            return
        at = int(wrong[0])
        unit, scale = ("samples", 1.0) if self._scale is None else ("s", self._scale)
        before, after = (f"{float(t) * scale:.10g}" for t in times_X[at : at + 2])
        where = f"{self._path}, line {line + at + 1}: the time goes from {before} to {after} {unit}"
        if steps[at] <= 0:
            raise DataError(f"{where}; sort the rows by time, one row for each, and write times with enough digits")
        ratio = float(steps[at]) / usual
        if ratio > 1.5 and abs(ratio - round(ratio)) < 0.1:
            n = round(ratio) - 1
            raise DataError(
                f"{where}, {n} step{'s' * (n != 1)} of {usual * scale:g} {unit} too far: {n} "
                f"sample{'s are' if n != 1 else ' is'} missing; add rows with empty values (they count as gaps), or "
                "save what lies before and behind as two files"
            )
        raise DataError(
            f"{where}, where steps are {usual * scale:g} {unit}; resample the signal to a constant rate, or leave the "
            "column out"
        )
