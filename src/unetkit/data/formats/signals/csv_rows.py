"""The rows of a CSV whose cells are numbers, read by region: an index tells where in the file every so many rows begin.

Cells are parsed by numpy; where it cannot, they are looked at one by one, for what is empty (a gap) and what is wrong.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError
from unetkit.data.formats.base import decoding
from unetkit.data.formats.signals.columns import Columns, understand
from unetkit.data.formats.signals.signal_tables import Rows

EVERY = 1 << 12  # rows from one entry of the index to the next
HEAD = 1 << 20  # bytes at most that comments and header take
LOOKED_AT = 20  # rows by which columns of numbers are told from those of text
_GAPS = ("", "nan", "na", "n/a", "null", "none")


@dataclass(frozen=True, slots=True)
class Head:
    """What the first lines of a table tell. begin: the place of the first row. first_line: its line. delimiter: between
    cells. decimal_comma: whether numbers are written 1,5."""

    names: tuple[str, ...]
    columns: Columns
    begin: int
    first_line: int
    delimiter: str
    decimal_comma: bool


def read_head(path: Path) -> Head:
    """Look at the first lines. A first line of numbers is data, and its columns are called 0, 1, …

    Raises DataError: no text, an empty table, no channel.
    """
    lines, comments, begins, delimiter = _first_lines(path)
    first = next(csv.reader([lines[0]], delimiter=delimiter))
    named = any(not _is_number(cell, _commas(lines[0], delimiter)) and cell.strip() for cell in first)
    data = lines[1:] if named else lines
    if not data:
        raise DataError(f"{path}: the table has no rows; export it again, or leave it out")
    comma = _commas(data[0], delimiter)
    names = tuple(first) if named else tuple(str(k) for k in range(len(first)))
    rows = list(csv.reader(data, delimiter=delimiter))
    numeric = [
        any(_is_number(row[k], comma) for row in rows if k < len(row))
        or all(row[k].strip() == "" for row in rows if k < len(row))
        for k in range(len(names))
    ]
    columns = understand(path, names if named else [f"channel {name}" for name in names], numeric)
    return Head(names, columns, begins[named], comments + 1 + named, delimiter, comma)


class CSVRows(Rows):
    """The rows of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        head = read_head(path)
        self.names, self.columns, self.first_line = head.names, head.columns, head.first_line
        self._delimiter, self._decimal_comma = head.delimiter, head.decimal_comma
        self._places, self.length = _index(path, head.begin)

    def numbers(self, columns: Sequence[int], start: int, stop: int) -> NDArray[np.float64]:
        lines = self._lines(start, stop)
        text = "".join(lines)
        plain = '"' not in text and not self._decimal_comma
        if plain and text.count(self._delimiter) == len(lines) * (len(self.names) - 1):
            with contextlib.suppress(ValueError):  # an empty cell, or one that is no number: which, is told below
                found = np.loadtxt(lines, comments=None, delimiter=self._delimiter, usecols=columns, ndmin=2).T
                if found.shape[1] == len(lines):
                    return found
        return self._one_by_one(lines, columns, start)

    def times(self, start: int, stop: int) -> NDArray[np.float64]:
        column = self.columns.time
        if column is None:
            raise ValueError(f"{self.path} has no column of time")
        if start == stop or _is_number(self.texts(column, start, start + 1)[0], self._decimal_comma):
            times: NDArray[np.float64] = self.numbers((column,), start, stop)[0]
            return times
        found = np.empty(stop - start, np.float64)
        for row, text in enumerate(self.texts(column, start, stop)):
            try:
                found[row] = np.datetime64(text.removesuffix("Z").replace("/", "-"), "ns").astype(np.int64) / 1e9
            except ValueError:
                raise DataError(
                    f"{self.path}, line {self.first_line + start + row}: '{text}' is no time; write seconds, or dates "
                    "as 2024-01-31T12:00:00.004"
                ) from None
        return found

    def texts(self, column: int, start: int, stop: int) -> list[str]:
        lines = self._lines(start, stop)
        return [row[column].strip() for row in self._cells(lines, start)]

    def _lines(self, start: int, stop: int) -> list[str]:
        low, high = start // EVERY, -(-stop // EVERY)
        with decoding(self.path, OSError), self.path.open("rb") as file:
            file.seek(self._places[low])
            raw = file.read(self._places[min(high, len(self._places) - 1)] - self._places[low])
        lines = io.StringIO(raw.decode("utf-8", "replace")).readlines()
        return lines[start - low * EVERY : stop - low * EVERY]

    def _one_by_one(self, lines: Sequence[str], columns: Sequence[int], start: int) -> NDArray[np.float64]:
        out = np.empty((len(columns), len(lines)), np.float64)
        for number, row in enumerate(self._cells(lines, start)):
            for k, column in enumerate(columns):
                out[k, number] = self._value(row[column], start + number, column)
        return out

    def _cells(self, lines: Sequence[str], start: int) -> Iterator[list[str]]:
        """The cells of every line. Raises DataError: too few or too many of them."""
        for number, line in enumerate(lines):
            with decoding(self.path, csv.Error):
                row = next(csv.reader([line], delimiter=self._delimiter), []) or [""]
            if len(row) != len(self.names):
                what = f"{len(row)} cell{'s' * (len(row) != 1)}" if line.strip() else "the line is blank"
                raise DataError(
                    f"{self.path}, line {self.first_line + start + number}: {what}, but the table has "
                    f"{len(self.names)} columns; mend the line, or export the table again"
                )
            yield row

    def _value(self, cell: str, row: int, column: int) -> float:
        text = cell.strip().replace(",", ".") if self._decimal_comma else cell.strip()
        if text.casefold() in _GAPS:
            return math.nan
        try:
            return float(text)
        except ValueError:
            raise DataError(
                f"{self.path}, line {self.first_line + row}: '{cell}' in the column '{self.names[column]}' is no "
                "number; mend it, or leave the cell empty, which is a gap"
            ) from None


def _commas(line: str, delimiter: str) -> bool:
    """Whether numbers are written 1,5: with a comma, and other signs between the cells."""
    return delimiter != "," and "," in line and "." not in line


def _first_lines(path: Path) -> tuple[list[str], int, tuple[int, int], str]:
    """The first lines behind comments; how many comments; where the first and the second of them begin; the delimiter.

    Raises DataError: no text, nothing in it.
    """
    with decoding(path, OSError), path.open("rb") as file:
        raw = file.read(HEAD)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(raw) < HEAD or error.start < HEAD - 4:
            raise DataError(f"{path}: this is not a text file in UTF-8; save the table as CSV (UTF-8)") from None
        raw = raw[: error.start]
        text = raw.decode("utf-8")
    place, skipped = 0, 0
    if text.startswith("\ufeff"):
        place, text = 3, text[1:]
    lines = io.StringIO(text).readlines()
    while lines and (lines[0].startswith("#") or not lines[0].strip()):
        place, skipped = place + len(lines[0].encode()), skipped + 1
        del lines[0]
    if not lines:
        raise DataError(f"{path}: the table is empty; its first line names time, channels and label")
    delimiter = max("\t;,", key=lines[0].count)  # where two are as frequent, a comma may be that of numbers
    return lines[: LOOKED_AT + 1], skipped, (place, place + len(lines[0].encode())), delimiter


def _is_number(cell: str, comma: bool = False) -> bool:
    try:
        float(cell.replace(",", ".") if comma else cell)
    except ValueError:
        return False
    return True


def _index(path: Path, begin: int) -> tuple[tuple[int, ...], int]:
    """The places at which every EVERY-th row begins and, last, the end of the file; the number of rows, without blank
    lines at the end."""
    places, lines, at = [begin], 0, begin
    with decoding(path, OSError), path.open("rb") as file:
        file.seek(begin)
        while block := file.read(HEAD):
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
            places += (ends[(-lines - 1) % EVERY :: EVERY] + at + 1).tolist()
            lines, at = lines + len(ends), at + len(block)
        file.seek(max(begin, at - HEAD))
        tail = file.read()
    content = tail.rstrip(b" \t\r\n")
    rows = lines - tail[len(content) :].count(b"\n") + bool(content)
    return (*places[: -(-rows // EVERY)], at), rows
