"""The prediction of a signal as intervals: onset, end, duration and class of every stretch of time of one class."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError, MachineError
from unetkit.core.files import atomic
from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.predict.finished import Finished

AT_ONCE = 1 << 18  # samples looked at together


@dataclass(frozen=True, slots=True)
class Interval:
    """Samples start … stop (not included) of one class. probability: its mean there; None where none were kept."""

    start: int
    stop: int
    name: str
    probability: float | None = None


def write_intervals(path: Path, finished: Finished) -> None:
    """Write the intervals of a signal atomically, by the suffix of `path`.

    .csv: onset, offset, duration (seconds; the offset is the time of the first sample that is not part of it), class
    and, where probabilities were kept, their mean. Where the sampling rate is not known, the columns are onset_sample,
    offset_sample, duration_sample. .edf: an EDF+ file of annotations. The background has no intervals; what nobody
    can know (`IGNORE`) is called "unannotated". Raises DataError: not a signal; MachineError: full disk, no edfio.
    """
    if len(finished.info.shape) != 1:
        raise DataError(f"{path}: intervals are written of signals, and this has {len(finished.info.shape)} axes")
    found = intervals(finished)
    if path.suffix.lower() == ".edf":
        _write_edf(path, found, finished)
    else:
        _write_csv(path, found, finished)


def intervals(finished: Finished) -> Iterator[Interval]:
    """The intervals of a signal in order of their ends; those of classes that may overlap can begin before the last."""
    legend = finished.legend
    (length,) = finished.info.shape
    tracks = len(legend.classes) if legend.regions else 1
    codes = [-1] * tracks  # what runs at the moment: a class, IGNORE or -1: background
    starts, sums = [0] * tracks, [0.0] * tracks
    for begin in range(0, length, AT_ONCE):
        region = Region((begin,), (min(length, begin + AT_ONCE),))
        label_X = finished.labels(region)
        scores_KX = None if finished.probabilities is None else finished.probabilities(region)
        ended: list[tuple[int, int, int, float]] = []
        for track in range(tracks):
            runs_X = _track(label_X, track, finished)
            edges = np.flatnonzero(np.diff(runs_X, prepend=codes[track]))
            inside = 0
            for edge in [*edges.tolist(), len(runs_X)]:
                code = codes[track]
                if scores_KX is not None and 0 <= code < len(legend.classes):
                    sums[track] += float(scores_KX[code, inside:edge].sum(dtype=np.float64))
                inside = edge
                if edge < len(runs_X):
                    if code >= 0:
                        ended.append((begin + edge, starts[track], code, sums[track]))
                    codes[track], starts[track], sums[track] = int(runs_X[edge]), begin + edge, 0.0
        yield from (_interval(finished, *one) for one in sorted(ended))
    yield from (
        _interval(finished, length, starts[track], codes[track], sums[track])
        for track in range(tracks)
        if codes[track] >= 0
    )


def _track(label_X: NDArray[np.uint8], track: int, finished: Finished) -> NDArray[np.int16]:
    """The class of each sample, -1 where it is background; of classes that may overlap, whether one is there."""
    if finished.legend.regions:
        here_X = np.where((label_X >> track) & 1, np.int16(track), np.int16(-1))
        return np.where(label_X == IGNORE, np.int16(-1), here_X)
    label = label_X.astype(np.int16)
    return label if finished.legend.background is None else np.where(label == finished.legend.background, -1, label)


def _interval(finished: Finished, stop: int, start: int, code: int, total: float) -> Interval:
    known = finished.probabilities is not None and code != IGNORE
    name = "unannotated" if code == IGNORE else finished.legend.names[code]
    return Interval(start, stop, name, total / (stop - start) if known else None)


def _write_csv(path: Path, found: Iterator[Interval], finished: Finished) -> None:
    spacing = finished.info.spacing
    end = "" if spacing else "_sample"
    header = [f"onset{end}", f"offset{end}", f"duration{end}", "class"]
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*header, *(["probability"] if finished.probabilities else [])])
        for one in found:
            ends = (one.start, one.stop, one.stop - one.start)
            times = [str(n) for n in ends] if spacing is None else [seconds(n * spacing[0]) for n in ends]
            mean = "" if one.probability is None else f"{one.probability:.4f}"
            writer.writerow([*times, one.name, *([mean] if finished.probabilities else [])])


def seconds(value: float) -> str:
    """A time in seconds to the nanosecond, without zeros at its end."""
    return f"{value:.9f}".rstrip("0").rstrip(".")


def _write_edf(path: Path, found: Iterator[Interval], finished: Finished) -> None:
    if finished.info.spacing is None:
        raise DataError(f"{path}: annotations of EDF+ are in seconds, and the signal does not tell its sampling rate")
    try:
        import edfio
    except ImportError:
        raise MachineError(
            "EDF+ files are written by the edfio package, which is not installed: pip install 'unetkit[signals]'"
        ) from None
    (step,) = finished.info.spacing
    notes = [edfio.EdfAnnotation(one.start * step, (one.stop - one.start) * step, one.name) for one in found]
    with atomic(path) as temporary:
        edfio.Edf([], annotations=notes).write(temporary)
