"""Which files a prediction writes, decided and checked before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetkit.core.errors import DataError
from unetkit.data.case import Case
from unetkit.data.formats import stem, suffix, suffixes
from unetkit.data.formats.records import WAVES
from unetkit.data.legend import Legend
from unetkit.data.recordings import leads_of
from unetkit.predict.options import OutputOptions

SIGNAL = ".csv"
"""Suffix of the masks of signals: one row per sample."""
MARKS = "marks"
"""Folder beside the masks, for the marks of waves."""


@dataclass(frozen=True)
class Job:
    """One image, and the files that its prediction is written to (None: not asked for).

    marks: of a recording's lead, the waves as WFDB's tools show them.
    """

    source: Case | Path
    label: Path
    probabilities: Path | None
    overlay: Path | None
    marks: Path | None = None

    @property
    def name(self) -> str:
        """What the user calls this image: its file, or the case's id."""
        return self.source.id if isinstance(self.source, Case) else str(self.source)

    @property
    def like(self) -> Path | None:
        """The NIfTI file whose geometry the results take; None where the image is none."""
        first = next(iter(_files(self.source)), None)
        return first if first is not None and suffix(first).lower() in suffixes("volume") else None

    @property
    def targets(self) -> tuple[Path, ...]:
        """All files to write."""
        return tuple(p for p in (self.label, self.probabilities, self.overlay, self.marks) if p is not None)


def plan_jobs(sources: Sequence[Case | Path], out: Path, legend: Legend, options: OutputOptions) -> tuple[Job, ...]:
    """One job per image: `out/NAME.png` (or the image's own TIFF or NIfTI suffix), `out/probabilities/NAME.tif` (or
    .nii.gz), `out/overlays/NAME.png`. NAME is the image's stem, or the case's id with its folders.

    A recording has one per lead: `out/RECORD/LEAD.csv`, probabilities as CSV too, and, where the classes are waves,
    `out/marks/RECORD.LEAD`. Raises DataError: no image; two images that would be written to the same file; results that
    would land in the folder of the images; an overlay of a signal.
    """
    if not sources:
        raise DataError(
            "there is no image to predict; name a file, a folder of images, or a pattern like 'images/*.png'"
        )
    out = Path(out)
    sources = [lead for source in sources for lead in _by_lead(source)]
    folders = {path.resolve().parent for source in sources for path in _files(source)}
    taken: dict[str, Case | Path] = {}
    jobs = []
    keeps = (SIGNAL, *suffixes("volume"))
    for source in sources:
        name = source.id if isinstance(source, Case) else stem(source)
        own = _suffix(source)
        if options.overlay and own == SIGNAL:
            raise DataError(
                f"{_called(source)}: overlays are drawn of images and volumes, and this is a signal; leave --overlay "
                f"out, and plot {name}{SIGNAL} beside it"
            )
        marked = own == SIGNAL and isinstance(source, Case) and source.channel is not None and bool(waves_of(legend))
        record, _, lead = name.rpartition("/")
        job = Job(
            source,
            out / f"{name}{_mask_suffix(own, legend)}",
            out / "probabilities" / f"{name}{own if own in keeps else '.tif'}" if options.probabilities else None,
            out / "overlays" / f"{name}.png" if options.overlay else None,
            out / MARKS / f"{record}.{lead}" if marked else None,
        )
        for target in job.targets:
            if target.parent.resolve() in folders:
                raise DataError(
                    f"{target}: this result would be written among the images themselves; choose another folder with -o"
                )
            key = str(target.resolve()).casefold()  # one file on disks that do not tell A from a
            if key in taken:
                raise DataError(
                    f"{_called(taken[key])} and {_called(source)} would both be written to {target}; rename one of "
                    "them, or predict them into different folders"
                )
            taken[key] = source
        jobs.append(job)
    return tuple(jobs)


def waves_of(legend: Legend) -> dict[int, str]:
    """Class index → wave, where all classes but the background are waves of an ECG; else nothing."""
    names = {index: legend.names[index] for index in legend.foreground}
    return names if set(names.values()) <= set(WAVES[1:]) else {}


def _by_lead(source: Case | Path) -> Sequence[Case | Path]:
    recording = isinstance(source, Path) and source.suffix.lower() in suffixes("signal")
    return leads_of(source) if isinstance(source, Path) and recording else [source]


def _files(source: Case | Path) -> tuple[Path, ...]:
    files = source.images if isinstance(source, Case) else (source,)
    return tuple(path for path in files if isinstance(path, Path))


def _called(source: Case | Path) -> Path:
    return source.where if isinstance(source, Case) else source


def _suffix(source: Case | Path) -> str:
    """The suffix of the image; of an array, that of the format which holds its like."""
    files = _files(source)
    if files:
        own = suffix(files[0])
        return SIGNAL if own.lower() in suffixes("signal") else own
    array = source.images[0] if isinstance(source, Case) else None
    return {2: SIGNAL, 4: ".nii.gz"}.get(getattr(array, "ndim", 3), ".png")


def _mask_suffix(own: str, legend: Legend) -> str:
    """Masks are PNG, for they must not lose values; a TIFF stays one, and values beyond 16 bits need one."""
    if own == SIGNAL or own.lower() in (".tif", ".tiff", *suffixes("volume")):
        return own
    return ".png" if legend.dtype in (np.uint8, np.uint16) else ".tif"
