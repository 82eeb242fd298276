"""Masks of signals as CSV, one row per sample: what people open in a spreadsheet or read with pandas."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError
from unetkit.core.files import atomic
from unetkit.data.formats.base import Array

FIRST = "sample"
VALUE = "value"
CLASS = "class"
AT_ONCE = 1 << 16  # rows that are read or written together


def write_mask_rows(
    path: Path, mask_X: Array | Iterable[Array], names: Mapping[int, str], spacing: tuple[float, ...] | None
) -> None:
    """Write a mask (samples,), or its parts in order, atomically: sample, seconds (where known), value, class.

    Raises MachineError.
    """
    cells = {value: f"{value},{_quoted(name)}" for value, name in names.items()}

    def rows(part_X: Array) -> Iterator[str]:
        return (cells.get(value, f"{value},") for value in part_X.tolist())

    _write(path, (VALUE, CLASS), map(rows, _parts(mask_X)), spacing)


def write_probability_rows(
    path: Path, probabilities_KX: Array | Iterable[Array], names: Sequence[str], spacing: tuple[float, ...] | None
) -> None:
    """Write probabilities (classes, samples), or their parts, atomically: sample, seconds, a column per class.

    Raises MachineError.
    """
    pattern = ",".join(["%.4f"] * len(names))

    def rows(part_KX: Array) -> Iterator[str]:
        return (pattern % tuple(column) for column in part_KX.T.tolist())

    _write(path, names, map(rows, _parts(probabilities_KX)), spacing)


def is_mask_table(path: Path) -> bool:
    """Whether a file is a CSV of one value per sample."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.readline(1000).decode("utf-8-sig", errors="replace").strip().split(",")
    return head[0] == FIRST and VALUE in head


def read_mask_rows(path: Path) -> NDArray[np.int64]:
    """The values (samples,) of a mask that is a CSV. Raises DataError: no such columns, rows that are no numbers."""
    return read_named_mask_rows(path)[0]


def read_named_mask_rows(path: Path) -> tuple[NDArray[np.int64], dict[int, str]]:
    """As `read_mask_rows`, and the name of the class that each value has in the column `class`, where there is one."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader([file.readline()]), [])
            if FIRST not in header or VALUE not in header:
                raise DataError(
                    f"{path}: the mask of a signal has the columns {FIRST} and {VALUE}; these are {', '.join(header)}"
                )
            columns = (header.index(FIRST), header.index(VALUE))
            word = header.index(CLASS) if CLASS in header else None
            parts: list[NDArray[np.int64]] = []
            names: dict[int, str] = {}
            count = 0
            while lines := list(_some(file)):
                values_X = _values(path, lines, columns, count)
                parts.append(values_X)
                count += len(lines)
                if word is not None:
                    for value, first in zip(*np.unique(values_X, return_index=True), strict=True):
                        row = next(csv.reader([lines[first]]))
                        if int(value) not in names and word < len(row) and row[word]:
                            names[int(value)] = row[word]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error}); save it as a CSV in UTF-8") from None
    if not parts:
        raise DataError(f"{path}: the file holds no sample; write it again")
    return np.concatenate(parts), names


def _values(path: Path, lines: Sequence[str], columns: tuple[int, int], count: int) -> NDArray[np.int64]:
    """The values of some lines, of which the first is that of sample `count`."""
    with contextlib.suppress(ValueError):  # what is wrong is told below
        table = np.loadtxt(lines, np.int64, comments=None, delimiter=",", usecols=columns, quotechar='"', ndmin=2)
        if len(table) == len(lines) and np.array_equal(table[:, 0], np.arange(count, count + len(lines))):
            return table[:, 1]
    values = []
    for number, row in enumerate(csv.reader(lines), count):
        line = number + 2
        try:
            at, what = int(row[columns[0]]), int(row[columns[1]])
        except (ValueError, IndexError):
            raise DataError(f"{path}, line {line}: sample and value are whole numbers, not {', '.join(row)}") from None
        if at != number:
            raise DataError(f"{path}, line {line}: this is sample {at}, but {number} follows; keep a row per sample")
        values.append(what)
    return np.array(values, np.int64)


def _some(lines: Iterable[str]) -> Iterator[str]:
    for _, line in zip(range(AT_ONCE), lines, strict=False):
        yield line


def _parts(array: Array | Iterable[Array]) -> Iterator[Array]:
    """Parts of at most AT_ONCE samples, the last axis, one after the other."""
    for whole in (array,) if isinstance(array, np.ndarray) else array:
        for start in range(0, whole.shape[-1], AT_ONCE):
            yield whole[..., start : start + AT_ONCE]


def _write(
    path: Path, columns: Sequence[str], parts: Iterable[Iterable[str]], spacing: tuple[float, ...] | None
) -> None:
    header = [FIRST, *(["seconds"] if spacing else []), *(_quoted(name) for name in columns)]
    number = 0
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(header) + "\n")
        for part in parts:
            lines = []
            for cells in part:
                lines.append(f"{number},{number * spacing[0]:.10g},{cells}\n" if spacing else f"{number},{cells}\n")
                number += 1
            file.write("".join(lines))


def _quoted(text: str) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([text])
    return line.getvalue()
