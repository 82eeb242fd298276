"""The rows of a Parquet file, by row groups and columns. Reading needs the `pyarrow` package."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError, MachineError
from unetkit.data.formats.base import decoding
from unetkit.data.formats.signals.columns import understand
from unetkit.data.formats.signals.signal_tables import Rows

_TICKS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


class ParquetRows(Rows):
    """The rows of one file. A row group is read column by column, so that memory holds one column of one group."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first_line = 0
        pa, file = _open(path)
        with file:
            schema = file.schema_arrow
            kinds = [schema.field(i).type for i in range(len(schema.names))]
            groups = [file.metadata.row_group(k).num_rows for k in range(file.metadata.num_row_groups)]
        self.names = tuple(schema.names)
        numeric = [pa.types.is_floating(t) or pa.types.is_integer(t) or pa.types.is_boolean(t) for t in kinds]
        self._starts = np.concatenate([[0], np.cumsum(groups)]).astype(int).tolist()
        self.length = int(self._starts[-1])
        self.columns = understand(path, self.names, numeric)

    def numbers(self, columns: Sequence[int], start: int, stop: int) -> NDArray[np.float64]:
        out = np.empty((len(columns), stop - start), np.float64)
        for row, column in enumerate(columns):
            for low, part in self._parts(column, start, stop):
                with decoding(self.path, ValueError, TypeError):
                    values = part.to_numpy(zero_copy_only=False)
                    out[row, low - start : low - start + len(values)] = values.astype(np.float64)
        return out

    def times(self, start: int, stop: int) -> NDArray[np.float64]:
        column = self.columns.time
        if column is None:
            raise ValueError(f"{self.path} has no column of time")
        pa, file = _open(self.path)
        with file:
            kind = file.schema_arrow.field(column).type
        if pa.types.is_timestamp(kind):
            parts = [
                part.cast(pa.int64()).to_numpy(zero_copy_only=False) for _, part in self._parts(column, start, stop)
            ]
            return np.concatenate(parts).astype(np.float64) * _TICKS[kind.unit]
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise DataError(
                f"{self.path}: its column '{self.names[column]}' holds {kind}; save the time in seconds, or as "
                "timestamps"
            )
        times: NDArray[np.float64] = self.numbers((column,), start, stop)[0]
        return times

    def texts(self, column: int, start: int, stop: int) -> list[str]:
        found: list[str] = []
        for _, part in self._parts(column, start, stop):
            found += ["" if cell is None or cell != cell else _plain(cell) for cell in part.to_pylist()]
        return found

    def _parts(self, column: int, start: int, stop: int) -> Iterator[tuple[int, Any]]:
        """(first row, cells) of the parts of a column that lie in single row groups."""
        group = bisect_right(self._starts, start) - 1
        with _open(self.path)[1] as file:
            while start < stop:
                low, high = self._starts[group], self._starts[group + 1]
                end = min(stop, high)
                if end > start:
                    with decoding(self.path, *_errors()):
                        cells = file.read_row_group(group, columns=[self.names[column]]).column(0)
                    yield start, cells.slice(start - low, end - start).combine_chunks()
                start, group = end, group + 1


def _plain(cell: Any) -> str:
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def _open(path: Path) -> tuple[Any, Any]:
    """(pyarrow, the open file). Raises DataError: damaged; MachineError: no pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MachineError(
            "Parquet files are read by the pyarrow package, which is not installed: pip install 'unetkit[signals]'"
        ) from None
    with decoding(path, *_errors()):
        return pyarrow, pyarrow.parquet.ParquetFile(path)


def _errors() -> tuple[type[BaseException], ...]:
    import pyarrow

    return (OSError, ValueError, TypeError, KeyError, pyarrow.ArrowException)
