"""Signals as a data set: EDF, CSV, Parquet and NPY files, labelled inside, or by intervals or values beside them.

A CSV is many things; which it is, its header tells: a signal, intervals of one, a value for each sample, or neither.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from unetkit.core.errors import DataError
from unetkit.data.case import Case, Discovery, WordLabel, make_discovery
from unetkit.data.find.pairs import Named, folder_role, pair, split_of
from unetkit.data.formats import (
    ImageInfo,
    image_paths,
    is_image,
    is_image_name,
    natural_key,
    probe,
    split_address,
    stem,
)
from unetkit.data.formats.signals.annotators import kind_of
from unetkit.data.formats.signals.edf import holds_signals, read_annotations
from unetkit.data.formats.signals.intervals import Words, is_interval_table
from unetkit.data.formats.signals.mark_files import read_marks
from unetkit.data.formats.signals.records import is_wave_file
from unetkit.data.formats.signals.rows import is_mask_table
from unetkit.data.formats.signals.signal_tables import has_label, is_signal_table
from unetkit.data.labels.words import are_words, numbered, read_words

EDF = (".edf", ".bdf")
TABLES = (".csv", ".tsv")
# what names of labels and of signals have beside what they share: sub-01_eeg.edf and sub-01_events.tsv (BIDS)
_OF_LABELS = re.compile(r"[_\-. ](?:events?|intervals?|segments?|epochs?|stages?|scoring|hypnogram|rhythms?)$", re.I)
_OF_SIGNALS = re.compile(r"[_\-. ](?:eeg|ieeg|meg|ecg|ekg|emg|eog|ppg|acc|imu|psg|signals?|data|recording)$", re.I)


def read_signals(root: Path, files: Sequence[Path]) -> Discovery | None:
    """The signals among `files`, all files below `root`, each with its label; None where it holds none, or images too.

    A label is inside the file (annotations of EDF+, a column), or a file of the same name beside it or in a folder of
    masks: intervals, a value per sample (CSV), an EDF+ of annotations. Raises DataError: none is labelled, names that
    are ambiguous, damaged files.
    """
    signals = [p for p in files if _is_signal(p)]
    labels = [p for p in files if _is_label(p)]
    arrays = [p for p in files if p.suffix.lower() == ".npy"]
    masks = [p for p in arrays if any(folder_role(part)[0] == "masks" for part in p.relative_to(root).parts[:-1])]
    if signals:
        labels += masks
    elif labels and not masks:  # such labels are those of signals
        signals = arrays
    if not signals:
        return None
    folders = {p for folder in {p.parent for p in files} for p in image_paths(folder) if p.is_dir()}
    if {*folders, *(p for p in files if is_image(p))} - {*signals, *labels}:
        return None
    pairs = pair(_named(signals, root, _OF_SIGNALS), _named(labels, root, _OF_LABELS))
    of = {image: mask for _, image, mask in pairs.found}
    left = [m.path for m in pairs.masks]
    for path in signals:  # the same night, told apart by the last letter: SC4001E0-PSG.edf, SC4001EC-Hypnogram.edf
        if path not in of and path.suffix.lower() in EDF and len(name := _OF_SIGNALS.sub("", stem(path))) > 4:
            near = [m for m in left if m.suffix.lower() in EDF and _OF_LABELS.sub("", stem(m))[:-1] == name[:-1]]
            if len(near) == 1:
                of[path] = near[0]
                left.remove(near[0])
    cases: list[Case] = []
    unlabelled: list[Case] = []
    moments = inside = 0
    for path, name in zip(signals, _ids(signals, root), strict=True):
        label = of.get(path)
        if label is None and _labelled_inside(path):
            label, inside = path, inside + 1
        case = Case(name, (path,), label, None, split_of(name.split("/")[:-1]))
        (unlabelled if label is None else cases).append(case)
        moments += label is None and path.suffix.lower() in EDF and bool(read_annotations(path))
    if not cases:
        raise DataError(_no_label(root, signals, moments))
    kinds = sorted({p.suffix[1:].upper() for p in signals})
    where = "inside" if inside == len(cases) else "beside" if not inside else "inside or beside"
    layout = f"{len(signals)} signals ({', '.join(kinds)}), their labels {where}"
    return make_discovery(root, layout, cases, unlabelled, left, [])


def with_words(found: Discovery) -> Discovery:
    """A set in which labels that are files of words are numbered together, so that a class has one value in all.

    Raises DataError: labels in words beside labels of another kind.
    """
    if found.class_names:  # the set states its classes itself
        return found
    known = {case.id for case in found.cases if isinstance(case.label, Path) and is_word_file(case.label)}
    if not known:
        return found
    values, names = numbered(_words_of(case) for case in found.cases if case.id in known)  # one at a time in memory
    if are_words(values) and len(known) < len(found.cases):
        first = next(case for case in found.cases if case.id in known)
        other = next(case for case in found.cases if case.id not in known)
        raise DataError(
            f"{first.mask_where}: its classes are words ({', '.join(list(values)[:3])}), but the label "
            f"{other.mask_where} holds numbers; give all labels of a set in one kind"
        )
    cases = tuple(
        dataclasses.replace(case, label=WordLabel(case.label, tuple(values.items())))
        if case.id in known and isinstance(case.label, Path)
        else case
        for case in found.cases
    )
    return dataclasses.replace(found, cases=cases, class_names=names or found.class_names)


def _words_of(case: Case) -> Words:
    try:
        return read_words(case.label_files[0], _info(case))
    except DataError:  # named with all others, when it is read for its own sake
        return Words(np.zeros(0, np.int32), ())


def is_word_file(path: Path) -> bool:
    """Whether a label is a file of words: intervals, annotations of EDF+, a table with a column of labels, rhythms."""
    outer, _ = split_address(path)
    kind = outer.suffix.lower()
    if kind in (*EDF, ".parquet"):
        return True
    if kind in TABLES:
        return is_interval_table(path) or is_signal_table(path)
    return not is_image_name(path) and is_wave_file(path) and kind_of(read_marks(path)) != "waves"


def signals_in(folder: Path) -> list[Path]:
    """The images directly in a folder, without recordings that hold annotations alone; where there are none, the tables
    that are signals."""
    images = image_paths(folder)
    found = images or [p for p in folder.iterdir() if p.suffix.lower() in TABLES]
    wanted = [p for p in found if (not _is_label(p) if images else _is_signal(p))]
    return sorted(wanted, key=lambda p: natural_key(p.name))


def _is_signal(path: Path) -> bool:
    kind = path.suffix.lower()
    if kind in EDF:
        try:
            return holds_signals(path)
        except DataError:  # said when it is opened
            return True
    return kind == ".parquet" or (kind in TABLES and is_signal_table(path))


def _is_label(path: Path) -> bool:
    kind = path.suffix.lower()
    return is_interval_table(path) or is_mask_table(path) or (kind in EDF and not _is_signal(path))


def _labelled_inside(path: Path) -> bool:
    try:
        if path.suffix.lower() in EDF:
            return any(annotation.duration for annotation in read_annotations(path))
        return path.suffix.lower() != ".npy" and has_label(path)
    except DataError:  # what is wrong with the file is said where it is read
        return True


def _own_parts(path: Path, root: Path) -> tuple[str, ...]:
    """The folders of a file below `root`, without those that are called images or masks."""
    return tuple(part for part in path.relative_to(root).parts[:-1] if not folder_role(part)[0])


def _named(paths: Iterable[Path], root: Path, ending: re.Pattern[str]) -> list[Named]:
    return [
        Named(path, "/".join((*_own_parts(path, root), ending.sub("", stem(path)) or stem(path)))) for path in paths
    ]


def _ids(paths: Sequence[Path], root: Path) -> list[str]:
    short = ["/".join((*_own_parts(path, root), stem(path))) for path in paths]
    return [
        name if short.count(name) == 1 else path.relative_to(root).as_posix()
        for name, path in zip(short, paths, strict=True)
    ]


def _info(case: Case) -> ImageInfo | None:
    first = case.images[0] if case.images else None
    return probe(first, case.reading) if isinstance(first, Path) else None


def _no_label(root: Path, signals: Sequence[Path], moments: int) -> str:
    name = signals[0].name
    more = f"; the annotations of {moments} are moments without a duration, and no segments" if moments else ""
    return (
        f"{root}: none of the {len(signals)} signals has a label{more}. A label is a table of onset,duration,label "
        f"beside the signal ({stem(signals[0])}_events.csv for {name}), annotations of EDF+ that last some time, or a "
        "column called label in a CSV or Parquet file"
    )
