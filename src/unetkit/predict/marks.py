"""The prediction of a recording as marks that WFDB's tools show, by region: waves, or rhythms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region
from unetkit.data.formats.signals.records import WAVE_SYMBOLS, write_annotation
from unetkit.predict.finished import Finished
from unetkit.predict.intervals import AT_ONCE, intervals
from unetkit.predict.outputs import waves_of

SAMPLED = 1 << 18
"""Samples of a lead by which its middle is told, where it has more."""


def write_marks(path: Path, finished: Finished) -> None:
    """A signal's classes as an annotation file that WFDB's tools show, atomically.

    Waves (P, QRS, T) get onset, peak and offset; the peak is where the leads are farthest from their middle. Other
    classes begin with a `+` mark that names them, as rhythms do. Raises MachineError: no wfdb, full disk.
    """
    waves = set(waves_of(finished.legend).values())
    samples: list[int] = []
    symbols: list[str] = []
    notes: list[str] = []
    middle_C = _middle(finished) if waves else None
    ended = 0
    for one in intervals(finished):
        if one.name in waves:
            samples += [one.start, _peak(finished, middle_C, one.start, one.stop), one.stop - 1]
            symbols += ["(", WAVE_SYMBOLS[one.name], ")"]
            notes += ["", "", ""]
            continue
        if finished.legend.background is not None and one.start > ended:
            samples, symbols = [*samples, ended], [*symbols, "+"]
            notes.append(f"({finished.legend.names[finished.legend.background]}")
        samples, symbols, notes = [*samples, one.start], [*symbols, "+"], [*notes, f"({one.name}"]
        ended = one.stop
    (length,) = finished.info.shape
    if not waves and finished.legend.background is not None and ended < length:
        samples, symbols = [*samples, ended], [*symbols, "+"]
        notes.append(f"({finished.legend.names[finished.legend.background]}")
    order = np.argsort(samples, kind="stable").tolist()
    write_annotation(
        path, [samples[k] for k in order], [symbols[k] for k in order], [notes[k] for k in order], finished.info.spacing
    )


def _blocks(finished: Finished) -> Iterator[Region]:
    (length,) = finished.info.shape
    for start in range(0, length, AT_ONCE):
        yield Region((start,), (min(length, start + AT_ONCE),))


def _middle(finished: Finished) -> NDArray[np.float32] | None:
    """The median of each lead (leads, 1), by samples spread over the signal."""
    if finished.image is None:
        return None
    stride = -(-finished.info.shape[0] // SAMPLED)
    parts = [finished.image(region)[:, ::stride] for region in _blocks(finished)]
    middle_C: NDArray[np.float32] = np.nanmedian(np.concatenate(parts, 1), axis=1, keepdims=True)
    return middle_C


def _peak(finished: Finished, middle_C: NDArray[np.float32] | None, start: int, stop: int) -> int:
    if finished.image is None or middle_C is None:
        return (start + stop - 1) // 2
    away_CX = np.abs(finished.image(Region((start,), (stop,))) - middle_C)
    return start + int(np.nan_to_num(away_CX).mean(0).argmax())
