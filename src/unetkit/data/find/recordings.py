"""WFDB recordings as a data set: every lead with its own marks is a case; or every recording, with marks for all leads.

Which of the two is chosen by what lies beside the headers, and by what those files hold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from unetkit.core.errors import DataError, nearest
from unetkit.data.case import Case, Discovery, WordLabel
from unetkit.data.formats import AS_THEY_ARE, Reading, stem
from unetkit.data.formats.signals.annotators import (
    NORMAL,
    Kind,
    annotation_files,
    kind_of,
    no_segments,
    read_mark_words,
)
from unetkit.data.formats.signals.mark_files import read_marks
from unetkit.data.formats.signals.records import UNMARKED, WAVES, lead_names, segment_headers, wave_files
from unetkit.data.labels.words import numbered

# of several annotators, those whose marks are most of a segmentation, then the usual name of a reference
_KINDS: tuple[Kind, ...] = ("waves", "rhythms", "flutter", "beats")
REFERENCE = "atr"


def read_recordings(root: Path, headers: Sequence[Path], reading: Reading = AS_THEY_ARE) -> Discovery:
    """The recordings whose headers are given: labelled where marks lie beside the header.

    Marks in a file for each lead (`7.ii`): every lead that has them is a case, every recording a group. Marks for all
    leads (`100.atr`): every recording is a case, its leads are channels; waves and rhythms are segments, beats only
    where `reading` gives them a width; it may also choose an annotator.
    Raises DataError: no marks of use, a damaged header; MachineError: the wfdb package is not installed.
    """
    parts = {part for header in headers for part in segment_headers(header)}
    headers = [header for header in headers if header not in parts]
    beside: dict[Path, list[Path]] = defaultdict(list)
    for folder in {header.parent for header in headers}:
        beside[folder] = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    marks = {header: wave_files(header, beside[header.parent]) for header in headers}
    if any(marks.values()) and not (reading.annotator or reading.beat_width):
        return _by_lead(root, marks)
    annotators: dict[str, dict[Path, Path]] = defaultdict(dict)
    for header in headers:
        for name, path in annotation_files(header, beside[header.parent]).items():
            annotators[name][header] = path
    if not annotators:
        first = headers[0]
        names = lead_names(first)
        raise DataError(
            f"{root}: no lead of the {len(headers)} recordings has marks of its waves; those of the lead {names[0]} of "
            f"{first.name} would be in {stem(first)}.{names[0].lower()} beside it"
        )
    return _whole(root, headers, annotators, reading)


def leads_of(header: Path, root: Path | None = None) -> tuple[Case, ...]:
    """One unlabelled case for each lead of a recording: `7/ii`, in the group `7`; with the folders below `root`.

    Raises DataError, MachineError as `read_recordings`.
    """
    record = record_name(header, root)
    return tuple(
        Case(f"{record}/{lead}", (header,), None, record, None, number)
        for number, lead in enumerate(lead_names(header))
    )


def record_name(header: Path, root: Path | None = None) -> str:
    """What a recording is called: its name, with the folders below `root`."""
    below = header.parent.relative_to(root).parts if root is not None else ()
    return "/".join((*below, stem(header)))


def _by_lead(root: Path, marks: Mapping[Path, Mapping[int, Path]]) -> Discovery:
    cases: list[Case] = []
    unlabelled: list[Case] = []
    for header, of_lead in marks.items():
        for number, case in enumerate(leads_of(header, root)):
            if number in of_lead:
                cases.append(Case(case.id, case.images, of_lead[number], case.group, None, number))
            else:
                unlabelled.append(case)
    n = len({case.group for case in cases})
    return Discovery(
        root=root,
        layout=f"{n} recordings (WFDB), each lead with its own marks a case, each recording a group",
        cases=tuple(cases),
        unlabelled_cases=tuple(unlabelled),
        notes=(
            f"{n} recording{'s' * (n != 1)} with {len(cases)} leads whose waves are marked; the leads of a recording "
            "stay on one side of the split",
        ),
        class_names=dict(enumerate(WAVES)),
        ignore=UNMARKED,
    )


def _whole(
    root: Path, headers: Sequence[Path], annotators: Mapping[str, Mapping[Path, Path]], reading: Reading
) -> Discovery:
    """Recordings whose marks speak of all their leads."""
    if reading.annotator and reading.annotator not in annotators:
        raise DataError(
            f"{root}: there are no annotations .{reading.annotator} beside the recordings; there are "
            f"{', '.join(sorted(annotators))}{nearest(reading.annotator, annotators)}"
        )
    kinds = {name: _kind(files) for name, files in annotators.items()}
    known = [name for name, kind in kinds.items() if kind in _KINDS]
    if not known:
        first = next(iter(next(iter(annotators.values())).values()))
        raise DataError(f"{first}: {no_segments('nothing')}")
    name = reading.annotator or min(
        known, key=lambda a: (_KINDS.index(kinds[a]), -len(annotators[a]), a != REFERENCE, a)
    )
    kind: Kind = "beats" if reading.beat_width else kinds[name]
    files = annotators[name]
    if kind in ("beats", "nothing") and not reading.beat_width:
        raise DataError(f"{next(iter(files.values()))}: {no_segments(kind)}")
    said = _said(kind, reading.beat_width)
    notes = [f"{len(files)} of {len(headers)} recordings have annotations .{name}, which are {said}"]
    if others := sorted(set(annotators) - {name}):
        notes.append(f"annotations that are not used: {', '.join(f'.{other} ({kinds[other]})' for other in others)}")
    cases, unlabelled, names = [], [], dict(enumerate(WAVES))
    values: dict[str, int] = {}
    if kind != "waves":
        values, names = numbered(
            (read_mark_words(path, reading.beat_width) for path in files.values()), NORMAL if kind == "rhythms" else ""
        )
    for header in headers:
        # a single lead is called as it is where each lead is a case of its own: predictions are called so, too
        of_lead = leads_of(header, root)
        case = replace(of_lead[0], group=None) if len(of_lead) == 1 else Case(record_name(header, root), (header,))
        if header not in files:
            unlabelled.append(case)
            continue
        label = (
            files[header] if kind == "waves" else WordLabel(files[header], tuple(values.items()), reading.beat_width)
        )
        cases.append(replace(case, label=label))
    leads = {len(lead_names(header)) for header in files}
    counted = " or ".join(str(n) for n in sorted(leads))
    return Discovery(
        root=root,
        layout=f"{len(cases)} recordings (WFDB) with annotations .{name}, all {counted} leads of each together",
        cases=tuple(cases),
        unlabelled_cases=tuple(unlabelled),
        notes=tuple(notes),
        class_names=names,
        ignore=UNMARKED if kind == "waves" else None,
    )


def _kind(files: Mapping[Path, Path]) -> Kind:
    """What the files of an annotator hold, by the first few that can be read."""
    found: set[Kind] = set()
    for path in list(files.values())[:10]:
        try:
            found.add(kind_of(read_marks(path)))
        except DataError:  # not an annotation file, or a damaged one, which is named when its turn comes
            continue
    return next((kind for kind in _KINDS if kind in found), "nothing")


def _said(kind: Kind, width: float | None) -> str:
    return {
        "waves": "onsets and offsets of waves, taken for all leads",
        "rhythms": "rhythms: each lasts until the next begins, and nobody judged what lies before the first",
        "flutter": "stretches of ventricular flutter; all else is background",
        "beats": f"beats, each given a width of {width:g} s" if width else "beats",
        "nothing": "of no known kind",
    }[kind]
