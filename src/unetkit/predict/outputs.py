"""Which files a prediction writes, decided and checked before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from unetkit.core.errors import DataError
from unetkit.data.case import Case
from unetkit.data.find.recordings import leads_of
from unetkit.data.formats import AS_THEY_ARE, Reading, format_of, formats, split_address, stem, suffix, suffixes
from unetkit.data.formats.signals.records import WAVES
from unetkit.data.labels.legend import Legend
from unetkit.predict.options import OutputOptions

SIGNAL = ".csv"
"""Suffix of the masks of signals: one row per sample."""
TABLES = (".csv", ".tsv")
MARKS = "marks"
"""Folder beside the masks, for the marks of waves and rhythms."""
ANNOTATOR = "seg"
"""Suffix of marks that speak of all leads of a recording."""
WORK = ".unetkit-work"
"""Hidden folders that end so keep what is done of a large image until its files are written."""

# what loses values, lies in two files, or cannot be written at all, and what is written instead
_INSTEAD = {
    ".jpg": ".png", ".jpeg": ".png", ".bmp": ".png", ".gif": ".png",
    ".nhdr": ".nrrd", ".mhd": ".mha", ".dcm": ".nii.gz",
}  # fmt: skip
_BY_KIND = {"image": ".tif", "volume": ".nii.gz", "array": ".npy", "signal": SIGNAL}


@dataclass(frozen=True)
class Job:
    """One image, and the files that its prediction is written to (None: not asked for).

    labels: the mask, or one for each region that has a mask of its own, with the folder that it is in. marks: of a
    recording or its lead, the waves or rhythms as WFDB's tools show them. reading: how the image is read.
    """

    source: Case | Path
    label: Path
    labels: tuple[tuple[str, Path], ...]
    probabilities: Path | None = None
    overlay: Path | None = None
    marks: Path | None = None
    polygons: Path | None = None
    measurements: Path | None = None
    intervals: Path | None = None
    reading: Reading = AS_THEY_ARE

    @property
    def name(self) -> str:
        """What the user calls this image: its file, or the case's id."""
        return self.source.id if isinstance(self.source, Case) else str(self.source)

    @property
    def case(self) -> Case:
        """The image as it is to be opened."""
        case = self.source if isinstance(self.source, Case) else Case(self.name, (self.source,))
        return case if self.reading == AS_THEY_ARE else replace(case, reading=self.reading)

    @property
    def like(self) -> Path | None:
        """The file whose geometry the results take; None of an array."""
        return next(iter(_files(self.source)), None)

    @property
    def work(self) -> Path:
        """The hidden folder beside the mask that keeps what is done of a large image."""
        return self.label.with_name(f".{stem(self.label)}{WORK}")

    @property
    def targets(self) -> tuple[Path, ...]:
        """All files to write."""
        others = (self.probabilities, self.overlay, self.marks, self.polygons, self.measurements, self.intervals)
        return (*(path for _, path in self.labels), *(path for path in others if path is not None))


def plan_jobs(
    sources: Sequence[Case | Path],
    out: Path,
    legend: Legend,
    options: OutputOptions,
    reading: Reading = AS_THEY_ARE,
    channels: int = 1,
) -> tuple[Job, ...]:
    """One job per image: `out/NAME.png` (or the image's own suffix, or `options.format`), and what else is asked for in
    folders of `out`: `probabilities/`, `overlays/`, `polygons/`, `measurements/`, `intervals/`. NAME is the image's
    stem, of something inside a file with its name there, or the case's id with its folders. Regions with masks of their
    own: `out/REGION/NAME.png`.

    channels: that the network takes: of one, a recording has a job per lead, `out/RECORD/LEAD.csv`, and, where the
    classes are waves, `out/marks/RECORD.LEAD`; of more, one, and `out/marks/RECORD.seg`.
    Raises DataError: no image; two images that would be written to the same file; results that would land in the folder
    of the images; an overlay of a signal; a format that is not written.
    """
    if not sources:
        raise DataError(
            "there is no image to predict; name a file, a folder of images, or a pattern like 'images/*.png'"
        )
    out = Path(out)
    if options.format is not None:
        _refuse_format(options.format)
    if channels == 1:
        sources = [lead for source in sources for lead in _by_lead(source)]
    folders = {split_address(path)[0].resolve().parent for source in sources for path in _files(source)}
    taken: dict[str, Case | Path] = {}
    jobs = []
    for source in sources:
        job = replace(_job(source, out, legend, options), reading=reading)
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
    return names if not legend.regions and set(names.values()) <= set(WAVES[1:]) else {}


def _job(source: Case | Path, out: Path, legend: Legend, options: OutputOptions) -> Job:
    name = source.id if isinstance(source, Case) else _name(source)
    own = _suffix(source)
    signal = own.lower() in (*suffixes("signal"), *TABLES)
    if options.overlay and signal:
        raise DataError(
            f"{_called(source)}: overlays are drawn of images and volumes, and this is a signal; leave --overlay "
            f"out, and plot {name}{SIGNAL} beside it"
        )
    if options.intervals and not signal and own not in suffixes("array"):
        raise DataError(f"{_called(source)}: intervals are written of signals, and this is an image; leave them out")
    kind = options.format or _mask_suffix(own, legend)
    marks = _marks(source, name, legend) if own.lower() == ".hea" else None

    def beside(folder: str, kind: str | None) -> Path | None:
        return out / folder / f"{name}{kind}" if kind else None

    labels = tuple((folder, out / folder / f"{name}{kind}") for folder in legend.folders)
    return Job(
        source,
        labels[0][1],
        labels,
        probabilities=beside("probabilities", _scores_suffix(kind) if options.probabilities else None),
        overlay=beside("overlays", ".png" if options.overlay else None),
        marks=out / MARKS / marks if marks else None,
        polygons=beside("polygons", f".{options.polygons}" if options.polygons else None),
        measurements=beside("measurements", f".{options.measurements}" if options.measurements else None),
        intervals=beside("intervals", ".csv" if options.intervals else None),
    )


def _marks(source: Case | Path, name: str, legend: Legend) -> str | None:
    """The file of marks: of a lead `RECORD.LEAD`, where its classes are waves; of all leads `RECORD.seg`."""
    if not isinstance(source, Case) or source.channel is None:
        return f"{name}.{ANNOTATOR}"
    record, _, lead = name.rpartition("/")
    return f"{record}.{lead}" if waves_of(legend) else None


def _by_lead(source: Case | Path) -> Sequence[Case | Path]:
    recording = isinstance(source, Path) and source.suffix.lower() == ".hea"
    return leads_of(source) if isinstance(source, Path) and recording else [source]


def _files(source: Case | Path) -> tuple[Path, ...]:
    files = source.images if isinstance(source, Case) else (source,)
    return tuple(path for path in files if isinstance(path, Path))


def _called(source: Case | Path) -> Path:
    return source.where if isinstance(source, Case) else source


def _name(path: Path) -> str:
    """The image's stem; of something inside a file with what it is called there."""
    _, inner = split_address(path)
    return f"{stem(path)}_{inner.replace('/', '_')}" if inner else stem(path)


def _suffix(source: Case | Path) -> str:
    """The suffix of the image; of an array, that of the format which holds its like; "" of a folder of slices."""
    files = _files(source)
    if files:
        return suffix(split_address(files[0])[0])
    array = source.images[0] if isinstance(source, Case) else None
    return {2: SIGNAL, 4: ".nii.gz"}.get(getattr(array, "ndim", 3), ".png")


def _mask_suffix(own: str, legend: Legend) -> str:
    """Masks keep the format of their image where that loses no value; PNG ends at 16 bits."""
    lower = own.lower()
    found = format_of(Path(f"x{own}")) if own else None
    if not own or lower in TABLES or found is None:
        return SIGNAL if lower in TABLES else ".nii.gz"
    kind = _INSTEAD.get(lower) or (own if found.writes else _BY_KIND[found.kind])
    return ".tif" if kind == ".png" and legend.dtype not in (np.uint8, np.uint16) else kind


def _scores_suffix(kind: str) -> str:
    """Probabilities are numbers with fractions, one channel per class."""
    return {".png": ".tif", ".dcm": ".nii.gz"}.get(kind.lower(), kind)


def _refuse_format(kind: str) -> None:
    can = [s for f in formats() if f.writes for s in f.suffixes if s not in _INSTEAD or s == ".dcm"]
    found = format_of(Path(f"x{kind}"))  # .ome.tif is a .tif
    known = found is not None and any(s in can for s in found.suffixes if kind.lower().endswith(s))
    if not known and kind != SIGNAL:
        raise DataError(f"format {kind}: masks are written as {', '.join([*can, SIGNAL])}; choose one of them")
