"""Images without masks that a run learns from as well: which they are, and whether they can be used."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from unetkit.core.errors import DataError
from unetkit.core.events import Decided, Event
from unetkit.data.case import Case, Discovery
from unetkit.data.doctor.images import image_facts
from unetkit.data.find.discover import images_of
from unetkit.data.find.recordings import leads_of
from unetkit.data.formats import Reading
from unetkit.data.prepared.prepare import CaseReader
from unetkit.data.sizes import units
from unetkit.plan.plan import Plan

# Files that an error names.
NAMED = 10


def find_unlabelled(
    where: str | None, discovery: Discovery, hashes: Mapping[str, str], reading: Reading
) -> Generator[Event, None, tuple[Case, ...]]:
    """The images without masks that `--unlabelled` names: every one that is read whole, without copies of those that
    have a mask (held-out ones above all, which would no longer be held out).

    hashes: digests of the pixels of cases. Raises DataError: none there, unreadable ones.
    """
    if where is None:
        return ()
    own = _is_own(where, discovery)
    # what the set keeps for testing stays unseen
    theirs = [case for case in discovery.unlabelled_cases if case.split != "test"]
    cases = theirs if own else _of_files(images_of(where), discovery, reading)
    if not cases:
        raise DataError(
            f"--unlabelled {where}: every image in there has a mask; name a folder of images without masks, or leave it"
            " out"
        )
    known = {hashes[case.id] for case in discovery.cases if case.id in hashes}
    kept: list[Case] = []
    problems: list[str] = []
    for case in cases:
        try:
            if image_facts(case).digest not in known:
                kept.append(case)
        except DataError as error:
            problems.append(str(error))
    _refuse(where, problems, len(cases))
    copies = len(cases) - len(kept)
    if not kept:
        raise DataError(
            f"--unlabelled {where}: all {len(cases)} images in there are copies of images with masks; name others, or"
            " leave it out"
        )
    without = f"; {copies} more {'are copies' if copies > 1 else 'is a copy'} of images with masks, and left out"
    yield Decided(
        what="data.unlabelled",
        value=f"{len(kept)} image{'s' * (len(kept) != 1)}",
        why=f"without masks, in {where}" + (without if copies else ""),
    )
    return tuple(kept)


def check_unlabelled(cases: Iterable[Case], plan: Plan) -> None:
    """Raise one DataError that names those which the planned network cannot take: other channels, other axes."""
    problems, total = [], 0
    for case in cases:
        total += 1
        try:
            with CaseReader(case, plan.prepare) as reader:
                axes = len(reader.shape)
            if axes != plan.net.ndim:
                problems.append(
                    f"{case.where}: has {axes} axes, but those with masks have {plan.net.ndim} ({units(plan.net.ndim)})"
                )
        except DataError as error:
            problems.append(str(error))
    _refuse(plan.request.unlabelled or "", problems, total)


def _refuse(where: str, problems: Sequence[str], total: int) -> None:
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems[:NAMED])
        more = f"\n  … and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise DataError(
            f"--unlabelled {where}: {len(problems)} of {total} images cannot be learnt from; mend them, or move them"
            f" away:\n{lines}{more}"
        )


def _is_own(where: str, discovery: Discovery) -> bool:
    """Whether the data themselves are meant."""
    return where == str(discovery.root) or (
        discovery.root.exists() and Path(where).resolve() == discovery.root.resolve()
    )


def _of_files(files: Sequence[Path], discovery: Discovery, reading: Reading) -> list[Case]:
    """Cases of image files, with the folders below what they share in their names; leads where cases are leads."""
    taken = {source.resolve() for case in discovery.cases for source in case.images if isinstance(source, Path)}
    free = [path for path in files if path.resolve() not in taken]
    above = Path(os.path.commonpath([path.absolute().parent for path in free])) if free else Path()
    by_lead = any(case.channel is not None for case in discovery.cases)
    cases: list[Case] = []
    for path in free:
        if by_lead and path.suffix.lower() == ".hea":
            cases += leads_of(path)
        else:
            cases.append(Case(path.absolute().relative_to(above).as_posix(), (path,)))
    return [replace(case, reading=reading) for case in cases]
