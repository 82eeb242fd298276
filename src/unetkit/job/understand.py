"""What the data are: find the cases, examine them, decide what masks mean and who validates."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from unetkit.core.errors import DataError, PlanError, RunError
from unetkit.core.events import Decided, Event, Started, Warned
from unetkit.data.case import Case
from unetkit.data.doctor.examine import Diagnosis, examine
from unetkit.data.find.discover import Discovery, discover
from unetkit.data.find.sample import Sample
from unetkit.data.folds import fold_cases, most_folds
from unetkit.data.formats import files_behind
from unetkit.data.labels.legend import Legend
from unetkit.data.labels.number_classes import learnt_by
from unetkit.data.split import Split, read_split, split_cases
from unetkit.job.unlabelled import find_unlabelled
from unetkit.plan.folding import folds_of
from unetkit.plan.plan import DataPlan, Request

DataSource: TypeAlias = Path | Sequence[Sample]
"""A folder or a CSV, or samples in memory."""

# Share of the cases (or groups) kept for validation. Annotated images are worth more in training; but of a handful, one
# alone would be no measure.
VALIDATION, OF_FEW, FEW = 0.15, 0.25, 20


@dataclass(frozen=True)
class Understood:
    """What the data are: the files, what the doctor found, and who trains and who validates."""

    discovery: Discovery
    diagnosis: Diagnosis
    split: Split
    data: DataPlan
    unlabelled: tuple[Case, ...] = ()
    """Images without masks that are learnt from as well."""

    def cases(self, part: str) -> list[Case]:
        """The cases of "train" or "val" (or "test": held out by the user, never touched). Of folds all train."""
        return [case for case in self.discovery.cases if self.split.of(case.id) == part]


@dataclass(frozen=True)
class Earlier:
    """What an interrupted run recorded of its data: the plan's entry, and the file with the split."""

    data: DataPlan
    split: Path


def understand(
    data: DataSource, request: Request, earlier: Earlier | None = None
) -> Generator[Event, None, Understood]:
    """Find the cases, examine them, decide what masks mean and who validates (or keep the split of an `earlier` run).

    Raises DataError where a finding stops training, RunError where the data are not those of the earlier run.
    """
    yield Started(task="check")
    discovery = discover(data, request.reading)
    contents = digest(discovery.cases)
    if earlier is not None and earlier.data.digest != contents:
        raise RunError(
            f"{discovery.root}: the images or masks changed since this run began ({earlier.data.cases} pairs then,"
            f" {len(discovery.cases)} now); nothing was overwritten; restore them, or train into a new folder with -o"
        )
    diagnosis = examine(discovery, names=request.classes, ignore=request.ignore, background=request.background)
    errors = [finding for finding in diagnosis.findings if finding.severity == "error"]
    if errors:
        lines = "\n".join(f"  {f.file}: {f.message}; {f.fix}" for f in errors[:10])
        more = f"\n  … and {len(errors) - 10} more" if len(errors) > 10 else ""
        raise DataError(
            f"{discovery.root}: {len(errors)} finding{'s' * (len(errors) != 1)} must be mended before training"
            f" (`unetkit check` shows all):\n{lines}{more}"
        )
    diagnosis = replace(diagnosis, understood=(_legend(diagnosis, request), diagnosis.survey))
    warnings = sum(finding.severity == "warning" for finding in diagnosis.findings)
    unlabelled = yield from find_unlabelled(request.unlabelled, discovery, diagnosis.hashes, request.reading)
    others = digest(unlabelled) if unlabelled else ""
    if earlier is not None and earlier.data.unlabelled_digest != others:
        raise RunError(
            f"--unlabelled {request.unlabelled}: the images without masks changed since this run began"
            f" ({earlier.data.unlabelled} then, {len(unlabelled)} now); nothing was overwritten; restore them, or train"
            " into a new folder with -o"
        )
    yield Decided(what="data.layout", value=f"{len(discovery.cases)} pairs", why=discovery.layout)
    yield Decided(what="data.legend", value=", ".join(diagnosis.legend.names), why=diagnosis.legend.reason)
    if warnings:
        yield Warned(message=f"the doctor has {warnings} remark{'s' * (warnings != 1)}; `unetkit check` shows them")
    if earlier is not None:
        split = read_split(earlier.split, discovery.cases)
    else:
        split = _split(discovery.cases, diagnosis, request)
    counts = {"train": len(split.train), "val": len(split.val), "test": len(split.test)}
    if split.folds:
        counts = {f"cases in {split.count} folds": len(split.train), "test": len(split.test)}
    value = ", ".join(f"{n} {part}" for part, n in counts.items() if n)
    yield Decided(what="data.split", value=value, why=split.reason)
    plan = DataPlan(
        path=str(discovery.root),
        legend=diagnosis.legend,
        cases=len(discovery.cases),
        digest=contents,
        layout=discovery.layout,
        split=f"{value}: {split.reason}" if split.reason else value,
        folds=split.count,
        given=any(case.split == "val" for case in discovery.cases),
        unlabelled=len(unlabelled),
        unlabelled_digest=others,
        synthetic=discovery.synthetic,
    )
    return Understood(discovery, diagnosis, split, plan, unlabelled)


def _legend(diagnosis: Diagnosis, request: Request) -> Legend:
    """What masks mean, with what the user wants to be learnt of objects. Raises PlanError: there are no objects."""
    legend, how = diagnosis.legend, request.settings.get("learn.objects", "auto")
    if how not in ("border", "depth", "none"):
        return legend  # a word that there is not is refused with the other settings
    if legend.kind != "instances":
        raise PlanError(f"--set learn.objects={how}: these masks number no objects ({legend.reason}); leave it out")
    return learnt_by(legend, how, len(diagnosis.survey.cases[0].shape))


def _split(cases: Sequence[Case], diagnosis: Diagnosis, request: Request) -> Split:
    """Who trains and who validates: one split, or folds."""
    facts, seed, hashes = (cases, diagnosis.groups, diagnosis.label_counts), request.seed, diagnosis.hashes
    if (folds := folds_of(request, most_folds(cases, diagnosis.groups, hashes))) > 1:
        return fold_cases(*facts, seed=seed, folds=folds, hashes=hashes)
    fraction = VALIDATION if len(cases) >= FEW else OF_FEW
    return split_cases(*facts, seed=seed, fraction=fraction, hashes=hashes)


def digest(cases: Sequence[Case]) -> str:
    """A digest of the names and contents of all files and arrays of the cases."""
    total = hashlib.blake2b(digest_size=16)
    for case in cases:
        total.update(case.id.encode())
        for source in (*case.images, *case.label_sources):
            if isinstance(source, Path):
                for path in files_behind(source):
                    total.update(path.name.encode())
                    with path.open("rb") as file:
                        total.update(hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest())
            else:
                total.update(f"{source.shape} {source.dtype.str} {case.spacing}".encode())
                total.update(np.ascontiguousarray(source).data)
    return total.hexdigest()
