"""Labels of signals whose classes are words: intervals, annotations of EDF+, rhythms of WFDB, a column of a table.

The words of a whole set are numbered together (`numbered`), so that a class has one value in all its files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError
from unetkit.data.case import UNLABELLED, WordLabel
from unetkit.data.formats.base import AS_THEY_ARE, ImageInfo
from unetkit.data.formats.order import natural_key
from unetkit.data.formats.signals.intervals import (
    NOBODY,
    NOTHING,
    Span,
    Words,
    rasterised,
    read_interval_words,
    samples_of,
)
from unetkit.data.formats.signals.rows import read_named_mask_rows
from unetkit.data.formats.table import split_address
from unetkit.data.labels.legend import UNANNOTATED

BACKGROUND = ("background", "none", "nothing", "bg")
"""Words for the class that has the value 0, in lower case."""
UNJUDGED = (*UNLABELLED, "unmarked")
"""Words for what nobody judged, in lower case; so is what ends in a question mark ("Sleep stage ?")."""
_WHOLE = re.compile(r"[+-]?\d+(?:\.0*)?")


def read_words(path: Path, info: ImageInfo | None, width: float | None = None) -> Words:
    """The label in a file as words. info: of its signal; a table or a recording that holds both needs none.

    Raises DataError: nothing of this kind, intervals beyond the signal or overlapping, another length.
    """
    outer, _ = split_address(path)
    kind = outer.suffix.lower()
    if kind in (".edf", ".bdf"):
        found = _annotations(outer, info)
    elif kind == ".parquet":
        found = _column(outer)
    elif kind in (".csv", ".tsv"):
        from unetkit.data.formats.signals.intervals import is_interval_table

        if is_interval_table(outer):
            if info is None:
                raise DataError(f"{path}: intervals are read with their signal, and it is not here; put it beside them")
            found = read_interval_words(outer, info)
        else:
            found = _column(outer)
    else:
        from unetkit.data.formats.signals.annotators import read_mark_words

        found = read_mark_words(outer, width)
    if info is not None and found.codes_X.shape != info.shape:
        raise DataError(
            f"{path}: the label has {len(found.codes_X)} samples, but its signal {info.shape[0]}; export both again, "
            "at one length"
        )
    return _unjudged(found)


def read_word_label(
    label: WordLabel, info: ImageInfo | None, names: Mapping[str, int] | None = None
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """A label as numbers (samples,), UNANNOTATED where nobody judged; and what was remarkable, in sentences.

    names: class → value of a model or another set, which hold instead of the label's own where a word is among them.
    Raises DataError as `read_words`; words that are no classes of `names`.
    """
    found = read_words(label.path, info, label.width)
    own, notes, nothing = dict(label.values), found.notes, 0
    if names and any(word in names for word in own):
        nothing = next((names[word] for word in BACKGROUND if word in names), 0)
        own = {word: nothing for word in own if word.casefold() in BACKGROUND} | {**names}
        if strange := next((word for word in found.words if word not in own), None):
            raise DataError(
                f"{label.path}: '{strange}' is none of the classes {', '.join(names)}; rename it, or train a model "
                "that knows it"
            )
    elif names and are_words(own):
        notes = (*notes, f"{', '.join(found.words)} are no names of its classes: they are taken in their order")
    table = np.array([*(own[word] for word in found.words), UNANNOTATED, nothing], np.int64)  # NOBODY, NOTHING: last
    return table[found.codes_X].astype(np.int32), notes


def read_prediction_rows(path: Path, names: Mapping[str, int]) -> NDArray[np.int64]:
    """A predicted mask, a row per sample, in the values that its classes have in `names`, by their names.

    Values stay as they are where no class of it is among them. Raises DataError as `read_named_mask_rows`; classes that
    `names` lacks beside some that it has.
    """
    values_X, own = read_named_mask_rows(path)
    if not any(name in names for name in own.values()):
        return values_X
    if strange := next(
        (name for name in own.values() if name not in names and name.casefold() not in BACKGROUND), None
    ):
        raise DataError(
            f"{path}: its class '{strange}' is none of the truth ({', '.join(names)}); evaluate the run itself, which "
            "knows all its classes, or leave the class out of the predictions"
        )
    found, inverse = np.unique(values_X, return_inverse=True)
    table = [names.get(own.get(int(value), ""), 0) for value in found]
    return np.array(table, np.int64)[inverse]


def numbered(found: Iterable[Words], zero: str = "") -> tuple[dict[str, int], dict[int, str]]:
    """(word → value, value → name of the class; {} where the words are numbers) of the labels of a whole set.

    Samples that no interval holds have the value 0, the background; so have the words for it, and `zero`. Other words
    count from 1 on, in natural order.
    """
    words: set[str] = set()
    uncovered = False
    for one in found:
        words |= set(one.words)
        uncovered = uncovered or bool((one.codes_X == NOTHING).any())
    if words and not are_words(words):
        return {word: int(float(word)) for word in words}, {}
    values: dict[str, int] = {}
    names = {0: "background"} if uncovered else {}
    for word in sorted(words, key=natural_key):
        if word == zero or word.casefold() in BACKGROUND:
            values[word] = 0
            names.setdefault(0, word)
    for number, word in enumerate(sorted(words - set(values), key=natural_key), 1):
        values[word] = number
        names[number] = word
    return values, dict(sorted(names.items()))


def are_words(words: Iterable[str]) -> bool:
    """Whether classes are words rather than numbers."""
    return not all(_WHOLE.fullmatch(word) for word in words)


def _unjudged(found: Words) -> Words:
    """Without the words for what nobody judged."""
    left = [word for word in found.words if not _is_unjudged(word)]
    if len(left) == len(found.words):
        return found
    codes = [left.index(word) if word in left else NOBODY for word in found.words]
    table = np.array([*codes, NOBODY, NOTHING], np.int32)
    return replace(found, codes_X=table[found.codes_X], words=tuple(left))


def _is_unjudged(word: str) -> bool:
    return word.casefold() in UNJUDGED or word.endswith("?")


def _column(path: Path) -> Words:
    from unetkit.data.formats.signals.signal_tables import read_label_column

    return read_label_column(path)


def _annotations(path: Path, info: ImageInfo | None) -> Words:
    """The annotations of an EDF+ file that last some time. Raises DataError: there are none."""
    from unetkit.data.formats.signals import edf

    if info is None:
        with edf.open_image(path, AS_THEY_ARE) as reader:
            info = reader.info
    found = edf.read_annotations(path)
    lasting = [a for a in found if a.duration]
    if not lasting:
        what = f"its {len(found)} annotations are moments without a duration" if found else "it holds no annotations"
        raise DataError(f"{path}: {what}; a label needs intervals: annotate how long each lasts")
    if info.spacing is None:
        raise DataError(f"{path}: its annotations are in seconds, but the signal does not tell its sampling rate")
    (length,), (step,) = info.shape, info.spacing
    spans: list[Span] = []
    for one in lasting:
        start, stop = samples_of(one.onset / step, (one.onset + (one.duration or 0.0)) / step)
        if _is_unjudged(one.text):  # scorers say so of what lies behind the recording, too
            start, stop = min(start, length), min(stop, length)
        spans.append(Span(start, stop, one.text, f"at {one.onset:g} s"))
    moments = len(found) - len(lasting)
    plural = "s" * (moments != 1)
    notes = (f"{moments} annotation{plural} without a duration: moments are not used",) if moments else ()
    return rasterised(path, spans, info, notes)
