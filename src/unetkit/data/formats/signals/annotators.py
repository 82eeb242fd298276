"""Annotation files of WFDB recordings that speak of all leads at once (`.atr`, `.qrs` …): rhythms, flutter, beats.

The codes: https://wfdb.io/spec/annotation-codes.html. A rhythm lasts from its `+` mark, whose note names it ("(AFIB"),
to the next; ventricular flutter from `[` to `]`. Beats are moments: they become stretches only where a width is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from unetkit.core.errors import DataError
from unetkit.data.formats.base import ImageInfo
from unetkit.data.formats.signals.intervals import NOBODY, Span, Words, rasterised
from unetkit.data.formats.signals.mark_files import Marks, read_marks
from unetkit.data.formats.signals.records import BEATS, record_info

Kind: TypeAlias = Literal["waves", "rhythms", "flutter", "beats", "nothing"]
"""What an annotation file holds."""
NORMAL = "N"
"""The normal rhythm."""
FLUTTER = "VF"
# suffixes of files beside a header that are no annotations
_OTHERS = (
    ".hea", ".dat", ".mat", ".flac", ".edf", ".bdf", ".csv", ".tsv", ".txt", ".json", ".xml", ".yaml", ".yml", ".md",
    ".html", ".xws", ".png", ".svg", ".pdf", ".zip", ".gz", ".npy", ".npz", ".parquet", ".py",
)  # fmt: skip


def annotation_files(header: Path, siblings: Sequence[Path]) -> dict[str, Path]:
    """Annotator (`atr`) → file, for the files beside a header that may be annotations of the whole recording."""
    return {
        path.suffix[1:]: path
        for path in siblings
        if path.stem == header.stem and path.suffix and path.suffix.lower() not in _OTHERS
    }


def kind_of(marks: Marks) -> Kind:
    """What marks are: boundaries of waves, rhythms, flutter, beats alone, or nothing of these."""
    symbols = set(marks.symbols)
    if "(" in symbols and ")" in symbols:
        return "waves"
    if any(symbol == "+" and note.startswith("(") for symbol, note in zip(marks.symbols, marks.notes, strict=True)):
        return "rhythms"
    if "[" in symbols:
        return "flutter"
    return "beats" if symbols & set(BEATS) else "nothing"


def read_mark_words(path: Path, width: float | None = None) -> Words:
    """The rhythms (or flutter) of a recording as a label of all its samples; with `width`, in seconds, its beats.

    Nobody judged what lies before the first rhythm. Raises DataError: damaged, marks beyond the recording, beats
    without a width, nothing of this kind.
    """
    info = record_info(path.with_suffix(".hea"))
    marks = read_marks(path).at(1 / info.spacing[0] if info.spacing else None)
    (length,) = info.shape
    if marks.samples and not 0 <= min(marks.samples) <= max(marks.samples) < length:
        worst = max(marks.samples, key=lambda n: max(n - length, -n))
        raise DataError(f"{path}: a mark lies at sample {worst}, but the recording has {length}; copy both again")
    kind = kind_of(marks)
    if width is not None:
        return rasterised(path, _beats(path, marks, info, width), info)
    if kind == "rhythms":
        spans = _rhythms(marks, length)
        found = rasterised(path, spans, info)
        found.codes_X[: spans[0].start] = NOBODY
        return found
    if kind == "flutter":
        return rasterised(path, _flutter(marks, length), info)
    raise DataError(f"{path}: {no_segments(kind)}")


def no_segments(kind: Kind) -> str:
    """What to say of marks that are no segmentation, and how to mend it."""
    if kind == "beats":
        return (
            "these marks are beats, which are moments and no segments; give each a width in seconds, such as 0.1, or "
            "mark onsets and offsets"
        )
    return "there are no waves, no rhythms and no beats in this file; leave it out"


def _rhythms(marks: Marks, length: int) -> list[Span]:
    starts = [
        (sample, note[1:].strip())
        for sample, symbol, note in zip(marks.samples, marks.symbols, marks.notes, strict=True)
        if symbol == "+" and note.startswith("(")
    ]
    stops = [*(sample for sample, _ in starts[1:]), length]
    return [
        Span(start, stop, word, f"sample {start}")
        for (start, word), stop in zip(starts, stops, strict=True)
        if stop > start
    ]


def _flutter(marks: Marks, length: int) -> list[Span]:
    spans, begin = [], None
    for sample, symbol in [*zip(marks.samples, marks.symbols, strict=True), (length, "]")]:
        if symbol == "[" and begin is None:
            begin = sample
        elif symbol == "]" and begin is not None:
            spans.append(Span(begin, sample, FLUTTER, f"sample {begin}"))
            begin = None
    return spans


def _beats(path: Path, marks: Marks, info: ImageInfo, width: float) -> list[Span]:
    """Stretches of `width` seconds around beats, cut in the middle between two that are nearer than that."""
    beats = [(n, s) for n, s in zip(marks.samples, marks.symbols, strict=True) if s in BEATS]
    if not beats or info.spacing is None:
        raise DataError(f"{path}: there are no beats in this file, or its header tells no sampling rate; leave it out")
    (length,) = info.shape
    at = np.array([sample for sample, _ in beats])
    half = max(1, round(width / info.spacing[0] / 2))
    middles = (at[:-1] + at[1:] + 1) // 2
    first = np.maximum(at - half, [0, *middles])
    stop = np.minimum(at + half + 1, [*middles, length])
    return [
        Span(int(a), int(b), symbol, f"sample {sample}")
        for a, b, (sample, symbol) in zip(first, stop, beats, strict=True)
        if b > a
    ]
