"""Labels of signals as intervals: onset, end and class of stretches of time, in tables (CSV, TSV, BIDS' events.tsv).

Sample i lies at i · spacing seconds; an interval holds the samples from its onset on, up to its end, which is not part
of it: two intervals may meet. What no interval holds is background.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError
from unetkit.data.formats.base import ImageInfo
from unetkit.data.formats.signals.columns import with_unit

START = ("onset", "start", "begin", "from", "start_time", "t_start", "xmin")
END = ("offset", "end", "stop", "to", "end_time", "t_end", "xmax")
DURATION = ("duration", "length", "dur")
CLASS = ("label", "class", "trial_type", "annotation", "event", "type", "description", "stage", "name", "text", "value")
SUFFIXES = (".csv", ".tsv")
UNNAMED = "event"
"""What intervals are called in a table without a column of classes."""
NOTHING = -1
"""Code of samples that no interval holds."""
NOBODY = -2
"""Code of samples that nobody judged."""
_MOMENTS = ("", "n/a", "na", "nan", "none")
_CLOSE = 1e-4  # of a sample: times are rounded when they are written


class Span(NamedTuple):
    """Samples start … stop (not included) of one class. where: what messages call it."""

    start: int
    stop: int
    word: str
    where: str


@dataclass(frozen=True, slots=True)
class Words:
    """A label in words: for every sample the index of its word, NOTHING or NOBODY; the words; what was remarkable."""

    codes_X: NDArray[np.int32]
    words: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Table:
    start: int
    end: int | None
    duration: int | None
    word: int | None
    scale: float | None  # seconds in a unit of the times; None: they are sample numbers


def is_interval_table(path: Path) -> bool:
    """Whether a file is a table with columns of an onset and of an end or a duration."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.readline(10000).decode("utf-8-sig", errors="replace")
    return _columns(next(csv.reader([head], delimiter=_delimiter(head)), [])) is not None


def read_intervals(
    path: Path, info: ImageInfo, values: Mapping[str, int] | None = None
) -> tuple[NDArray[np.int32], dict[int, str]]:
    """The label (samples,) of the signal of `info` that a table of intervals is, and what its values mean.

    values: those of the classes; None: 1, 2, … in the order of their names. 0 is background.
    Raises DataError as `read_interval_words`; a class that `values` lacks.
    """
    found = read_interval_words(path, info)
    values = values or {word: number for number, word in enumerate(sorted(found.words), 1)}
    if unknown := next((word for word in found.words if word not in values), None):
        raise DataError(f"{path}: '{unknown}' is none of the classes {', '.join(values)}")
    table = np.array([*(values[word] for word in found.words), 0], np.int32)  # NOTHING is the last
    return table[found.codes_X], {0: "background"} | {values[word]: word for word in found.words}


def read_interval_words(path: Path, info: ImageInfo) -> Words:
    """A table of intervals as a label of the signal of `info`.

    Raises DataError: no such columns, times that are none, beyond the signal, intervals of two classes that overlap,
    moments alone, seconds where the signal's rate is not known.
    """
    rows = _rows(path)
    header = rows[0] if rows else []
    table = _columns(header)
    if table is None:
        raise DataError(
            f"{path}: a table of intervals has columns such as onset, duration and label, or start, end and label; "
            f"these are {', '.join(header)}"
        )
    if table.scale is not None and info.spacing is None:
        raise DataError(
            f"{path}: its intervals are in seconds, but the signal does not tell its sampling rate; give them in "
            "samples (columns start_sample, end_sample, label), or give the signal a column of time"
        )
    per_unit = 1.0 if table.scale is None or info.spacing is None else table.scale / info.spacing[0]
    spans, moments = [], 0
    for line, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) < len(header):
            raise DataError(f"{path}, line {line}: {len(row)} cells, but the table has {len(header)} columns; mend it")
        start = _number(path, line, row[table.start])
        last = row[table.end] if table.end is not None else row[table.duration or 0]
        if last.strip().casefold() in _MOMENTS:
            moments += 1
            continue
        end = _number(path, line, last) + (start if table.end is None else 0.0)
        word = row[table.word].strip() if table.word is not None else UNNAMED
        if end == start:
            moments += 1
            continue
        if end < start:
            raise DataError(f"{path}, line {line}: the interval ends ({end:g}) before it begins ({start:g}); mend it")
        spans.append(Span(*samples_of(start * per_unit, end * per_unit), word, f"line {line}"))
    if not spans and moments:
        raise DataError(
            f"{path}: all its {moments} rows are moments without a duration; a label needs intervals: fill in how long "
            "each lasts"
        )
    notes = (f"{moments} row{'s' * (moments != 1)} without a duration: moments are not used",) if moments else ()
    return rasterised(path, spans, info, notes)


def samples_of(start: float, end: float) -> tuple[int, int]:
    """The first sample of an interval, and the one behind its last, of its ends in samples (with fractions)."""
    first = math.ceil(start - _CLOSE)
    return first, max(first, math.ceil(end - _CLOSE))


def rasterised(path: Path, spans: Sequence[Span], info: ImageInfo, notes: tuple[str, ...] = ()) -> Words:
    """Intervals as a label of the signal of `info`. Raises DataError: beyond the signal, two classes that overlap."""
    if len(info.shape) != 1:
        raise DataError(
            f"{path}: intervals are labels of signals, and the image here has {len(info.shape)} axes; if one of them "
            "is that of channels, say so: --axes CT, or TC"
        )
    (length,) = info.shape
    words = tuple(sorted({span.word for span in spans}))
    codes = {word: code for code, word in enumerate(words)}
    codes_X = np.full(length, NOTHING, np.int32)
    before: Span | None = None
    for span in sorted(spans):
        if span.start < 0 or span.stop > length + 1:  # one sample: times are rounded
            raise DataError(
                f"{path}, {span.where}: the interval '{span.word}' ({_times(span, info)}) lies beyond the signal, "
                f"which has {length} samples{_seconds(length, info)}; check that it belongs to this signal, and the "
                "unit of its times"
            )
        if before is not None and span.start < before.stop and span.word != before.word:
            raise DataError(
                f"{path}, {before.where} and {span.where}: '{before.word}' ({_times(before, info)}) and '{span.word}' "
                f"({_times(span, info)}) overlap, but a sample has one class; cut one of them, or keep each class in a "
                "set of its own"
            )
        codes_X[span.start : span.stop] = codes[span.word]
        before = span if before is None or span.stop > before.stop else before
    return Words(codes_X, words, notes)


def _times(span: Span, info: ImageInfo) -> str:
    if info.spacing is None:
        return f"samples {span.start} … {span.stop}"
    return f"{span.start * info.spacing[0]:.10g} … {span.stop * info.spacing[0]:.10g} s"


def _seconds(length: int, info: ImageInfo) -> str:
    return "" if info.spacing is None else f" ({length * info.spacing[0]:.10g} s)"


def _columns(header: Sequence[str]) -> _Table | None:
    """Which columns are onset, end, duration and class; None: this is no table of intervals."""
    plain = [cell.strip().casefold() for cell in header]
    for name_scale in (with_unit, _in_samples):
        names = [name_scale(cell) for cell in plain]
        start, end, duration = (_first(names, known) for known in (START, END, DURATION))
        if start is not None and (end is not None or duration is not None):
            scale = names[start][1]
            other = names[end if end is not None else duration or 0][1]
            if scale == other:
                return _Table(start, end, duration, _first([(cell, None) for cell in plain], CLASS), scale)
    return None


def _in_samples(name: str) -> tuple[str, float | None]:
    for ending in ("_samples", "_sample", " (samples)", " [samples]"):
        if name.endswith(ending):
            return name.removesuffix(ending), None
    return "", 1.0


def _first(names: Sequence[tuple[str, float | None]], known: Sequence[str]) -> int | None:
    """The index of the column whose name is the earliest of `known`."""
    plain = [name for name, _ in names]
    return next((plain.index(name) for name in known if name in plain), None)


def _rows(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error}); save it as a CSV in UTF-8") from None
    return list(csv.reader(io.StringIO(text), delimiter=_delimiter(text.partition("\n")[0])))


def _delimiter(line: str) -> str:
    return max("\t;,", key=line.count)


def _number(path: Path, line: int, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path}, line {line}: '{cell}' is no time; write numbers, in seconds or in samples")
    return value
