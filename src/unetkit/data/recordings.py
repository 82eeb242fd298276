"""WFDB recordings as a data set: every lead with its own marks is a case, every recording a group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from unetkit.core.errors import DataError
from unetkit.data.case import Case, Discovery
from unetkit.data.formats import stem
from unetkit.data.formats.records import UNMARKED, WAVES, lead_names, wave_files


def read_recordings(root: Path, headers: Sequence[Path]) -> Discovery:
    """The leads of all recordings whose headers are given: labelled where marks of their waves lie beside the header.

    Raises DataError: no lead has marks, a damaged header; MachineError: the wfdb package is not installed.
    """
    beside: dict[Path, list[Path]] = defaultdict(list)
    for folder in {header.parent for header in headers}:
        beside[folder] = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    cases: list[Case] = []
    unlabelled: list[Case] = []
    for header in headers:
        marks = wave_files(header, beside[header.parent])
        for number, case in enumerate(leads_of(header, root)):
            if number in marks:
                cases.append(Case(case.id, case.images, marks[number], case.group, None, number))
            else:
                unlabelled.append(case)
    if not cases:
        first = headers[0]
        names = lead_names(first)
        raise DataError(
            f"{root}: no lead of the {len(headers)} recordings has marks of its waves; those of the lead {names[0]} of "
            f"{first.name} would be in {stem(first)}.{names[0].lower()} beside it"
        )
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


def leads_of(header: Path, root: Path | None = None) -> tuple[Case, ...]:
    """One unlabelled case for each lead of a recording: `7/ii`, in the group `7`; with the folders below `root`.

    Raises DataError, MachineError as `read_recordings`.
    """
    below = header.parent.relative_to(root).parts if root is not None else ()
    record = "/".join((*below, stem(header)))
    return tuple(
        Case(f"{record}/{lead}", (header,), None, record, None, number)
        for number, lead in enumerate(lead_names(header))
    )
