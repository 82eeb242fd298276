"""Signals in tables, CSV (comma, semicolon or tab) and Parquet: a row per sample, a column per channel.

A column of time (seconds, or dates) gives the sampling rate, one of labels the classes. Rows are read by region: of
a CSV by an index of places in the file, of Parquet by row groups and columns. Empty cells are gaps, NaN.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.formats.base import Array, ImageInfo, ImageReader, Inside, PaletteAs, Reading, decoding
from unetkit.data.formats.signals.columns import Columns, Steps
from unetkit.data.formats.signals.intervals import NOBODY, Words, is_interval_table
from unetkit.data.formats.signals.rows import is_mask_table
from unetkit.data.formats.table import split_address

AT_ONCE = 1 << 16  # rows looked at together


class Rows(ABC):
    """The rows of a table, from whichever file. columns: what its columns are, names: what they are called. length: how
    many rows there are. first_line: the number of the line of the file (or row) in which the first of them stands."""

    columns: Columns
    names: tuple[str, ...]
    length: int
    first_line: int
    path: Path

    @abstractmethod
    def numbers(self, columns: Sequence[int], start: int, stop: int) -> NDArray[np.float64]:
        """The cells of some columns in the rows start … stop, (columns, rows); NaN where one is empty.

        Raises DataError, naming the line: text among the numbers, too few or too many cells.
        """

    @abstractmethod
    def times(self, start: int, stop: int) -> NDArray[np.float64]:
        """The column of time, as numbers; dates in seconds since 1970. Raises DataError as `numbers`."""

    @abstractmethod
    def texts(self, column: int, start: int, stop: int) -> list[str]:
        """The cells of a column as text, "" where one is empty."""


@dataclass(frozen=True, slots=True)
class _Layout:
    rows: Rows
    info: ImageInfo


def open_image(path: Path, reading: Reading) -> SignalTableReader:  # noqa: ARG001  (the header says all)
    """Open a table of a signal; its label is no channel.

    Raises DataError: no channel, a time that does not run evenly, no table at all; MachineError: no pyarrow.
    """
    outer, inside = split_address(path)
    if inside:
        raise DataError(f"{path}: the columns of a signal are read together; name the table, {outer.name}")
    return SignalTableReader(outer, _layout(outer, _state(outer)))


def is_signal_table(path: Path) -> bool:
    """Whether a CSV holds a signal: a column of numbers at least, and neither intervals nor a value for each sample."""
    from unetkit.data.formats.signals.csv_rows import read_head

    if path.suffix.lower() not in (".csv", ".tsv") or not path.is_file():
        return False
    if is_interval_table(path) or is_mask_table(path):
        return False
    try:
        read_head(path)
    except DataError:
        return False
    return True


def contents(path: Path) -> tuple[Inside, ...]:
    """The signal and, where there is a column of labels, that: `a.parquet/label`. Raises as `open_image`."""
    layout = _layout(path, _state(path))
    found = [Inside(path, False, layout.info.shape, layout.info.dtype)]
    if (label := layout.rows.columns.label) is not None:
        found.append(Inside(path / layout.rows.names[label], True, layout.info.shape, "text"))
    return tuple(found)


def has_label(path: Path) -> bool:
    """Whether there is a column of labels. Raises as `open_image`."""
    return _layout(path, _state(path)).rows.columns.label is not None


def read_label_column(path: Path) -> Words:
    """The column of labels; nobody judged the samples whose cell is empty.

    Raises DataError: there is no column of labels; as `open_image`.
    """
    rows = _layout(path, _state(path)).rows
    column = rows.columns.label
    if column is None:
        raise DataError(f"{path}: none of its columns is a label; call it label")
    codes_X = np.empty(rows.length, np.int32)
    known: dict[str, int] = {"": NOBODY}
    for start in range(0, rows.length, AT_ONCE):
        stop = min(rows.length, start + AT_ONCE)
        words, inverse = np.unique(np.array(rows.texts(column, start, stop), object), return_inverse=True)
        codes = np.array([known.setdefault(str(word), len(known) - 1) for word in words], np.int32)
        codes_X[start:stop] = codes[inverse]
    return Words(codes_X, tuple(known)[1:])


class SignalTableReader(ImageReader):
    """The channels of a table, float32."""

    def __init__(self, path: Path, layout: _Layout) -> None:
        super().__init__(path, layout.info)
        self._rows = layout.rows

    def _read(self, region: Region, palette: PaletteAs, alpha: bool) -> Array:  # noqa: ARG002  (signals have neither)
        (start,), (stop,) = region.start, region.stop
        out_CX = np.empty((self.info.channels, stop - start), np.float32)
        for begin in range(start, stop, AT_ONCE):
            end = min(stop, begin + AT_ONCE)
            with np.errstate(over="ignore"):  # beyond float32: infinite, and left out of statistics as such
                out_CX[:, begin - start : end - start] = self._rows.numbers(self._rows.columns.channels, begin, end)
        return out_CX


def _state(path: Path) -> tuple[int, int]:
    with decoding(path, OSError):
        found = path.stat()
        return found.st_mtime_ns, found.st_size


# A file is opened for every patch that is read of it; its rows are counted, and its time looked at, once.
@functools.lru_cache(maxsize=256)
def _layout(path: Path, _: tuple[int, int]) -> _Layout:
    rows: Rows
    if path.suffix.lower() == ".parquet":
        from unetkit.data.formats.signals.parquet_rows import ParquetRows

        rows = ParquetRows(path)
    else:
        from unetkit.data.formats.signals.csv_rows import CSVRows

        rows = CSVRows(path)
    if rows.length < 1:
        raise DataError(f"{path}: the table has no rows; export it again, or leave it out")
    columns = rows.columns
    spacing, notes = None, []
    if columns.time is not None:
        steps = Steps(path, columns.scale)
        for start in range(0, rows.length, AT_ONCE):
            steps.feed(rows.times(start, min(rows.length, start + AT_ONCE)), rows.first_line + start)
        spacing = steps.spacing()
    if spacing is None:
        notes.append("no column tells the time: the sampling rate is not known")
    if columns.unused:
        notes.append(f"columns that hold text are not used: {', '.join(columns.unused)}")
    info = ImageInfo(
        (rows.length,),
        len(columns.channels),
        False,
        "float32",
        "bands",
        spacing=None if spacing is None else (spacing,),
        axes="T",
        unit="" if spacing is None else "s",
        channel_names=columns.names,
        notes=tuple(notes),
    )
    return _Layout(rows, info)
