"""Masks of signals as CSV, one row per sample: what people open in a spreadsheet or read with pandas."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError
from unetkit.core.files import write_text
from unetkit.data.formats.base import Array

FIRST = "sample"
VALUE = "value"


def write_mask_rows(path: Path, mask_X: Array, names: Mapping[int, str], spacing: tuple[float, ...] | None) -> None:
    """Write a mask (samples,) atomically: sample, seconds (where known), value, class. Raises MachineError."""
    rows = [[str(int(v)), names.get(int(v), "")] for v in mask_X]
    _write(path, (VALUE, "class"), rows, spacing)


def write_probability_rows(
    path: Path, probabilities_KX: Array, names: Sequence[str], spacing: tuple[float, ...] | None
) -> None:
    """Write probabilities (classes, samples) atomically: sample, seconds, a column per class. Raises MachineError."""
    _write(path, names, [[f"{p:.4f}" for p in column] for column in probabilities_KX.T], spacing)


def is_mask_table(path: Path) -> bool:
    """Whether a file is a CSV of one value per sample."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.readline(1000).decode("utf-8-sig", errors="replace").strip().split(",")
    return head[0] == FIRST and VALUE in head


def read_mask_rows(path: Path) -> NDArray[np.int64]:
    """The values (samples,) of a mask that is a CSV. Raises DataError: no such columns, rows that are no numbers."""
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error}); save it as a CSV in UTF-8") from None
    header = rows[0] if rows else []
    if FIRST not in header or VALUE not in header:
        raise DataError(
            f"{path}: the mask of a signal has the columns {FIRST} and {VALUE}; these are {', '.join(header)}"
        )
    number, value = header.index(FIRST), header.index(VALUE)
    values = []
    for line, row in enumerate(rows[1:], 2):
        try:
            at, what = int(row[number]), int(row[value])
        except (ValueError, IndexError):
            raise DataError(f"{path}, line {line}: sample and value are whole numbers, not {', '.join(row)}") from None
        if at != line - 2:
            raise DataError(f"{path}, line {line}: this is sample {at}, but {line - 2} follows; keep a row per sample")
        values.append(what)
    if not values:
        raise DataError(f"{path}: the file holds no sample; write it again")
    return np.array(values, np.int64)


def _write(
    path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]], spacing: tuple[float, ...] | None
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([FIRST, *(["seconds"] if spacing else []), *columns])
    for number, row in enumerate(rows):
        writer.writerow([number, *([f"{number * spacing[0]:.6g}"] if spacing else []), *row])
    write_text(path, text.getvalue())
