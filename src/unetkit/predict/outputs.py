"""Which files a prediction writes, decided and checked before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetkit.core.errors import DataError
from unetkit.data.case import Case
from unetkit.data.formats import TIFF_SUFFIXES
from unetkit.data.legend import Legend
from unetkit.predict.options import OutputOptions


@dataclass(frozen=True)
class Job:
    """One image, and the files that its prediction is written to (None: not asked for)."""

    source: Case | Path
    label: Path
    probabilities: Path | None
    overlay: Path | None

    @property
    def name(self) -> str:
        """What the user calls this image: its file, or the case's id."""
        return self.source.id if isinstance(self.source, Case) else str(self.source)

    @property
    def targets(self) -> tuple[Path, ...]:
        """All files to write."""
        return tuple(p for p in (self.label, self.probabilities, self.overlay) if p is not None)


def plan_jobs(sources: Sequence[Case | Path], out: Path, legend: Legend, options: OutputOptions) -> tuple[Job, ...]:
    """One job per image: `out/NAME.png` (or the image's own TIFF suffix), `out/probabilities/NAME.tif`,
    `out/overlays/NAME.png`. NAME is the image's stem, or the case's id with its folders.

    Raises DataError: no image; two images that would be written to the same file; results that would land in the
    folder of the images.
    """
    if not sources:
        raise DataError(
            "there is no image to predict; name a file, a folder of images, or a pattern like 'images/*.png'"
        )
    out = Path(out)
    folders = {path.resolve().parent for source in sources for path in _files(source)}
    taken: dict[str, Case | Path] = {}
    jobs = []
    for source in sources:
        first = _files(source)[0]
        name = source.id if isinstance(source, Case) else first.stem
        label = out / f"{name}{_mask_suffix(first, legend)}"
        job = Job(
            source,
            label,
            out / "probabilities" / f"{name}.tif" if options.probabilities else None,
            out / "overlays" / f"{name}.png" if options.overlay else None,
        )
        for target in job.targets:
            if target.parent.resolve() in folders:
                raise DataError(
                    f"{target}: this result would be written among the images themselves; choose another folder with -o"
                )
            key = str(target.resolve()).casefold()  # one file on disks that do not tell A from a
            if key in taken:
                raise DataError(
                    f"{_files(taken[key])[0]} and {first} would both be written to {target}; rename one of them, or "
                    "predict them into different folders"
                )
            taken[key] = source
        jobs.append(job)
    return tuple(jobs)


def _files(source: Case | Path) -> tuple[Path, ...]:
    return source.images if isinstance(source, Case) else (source,)


def _mask_suffix(image: Path, legend: Legend) -> str:
    """Masks are PNG, for they must not lose values; a TIFF stays one, and values beyond 16 bits need one."""
    if image.suffix.lower() in TIFF_SUFFIXES:
        return image.suffix
    return ".png" if legend.dtype in (np.uint8, np.uint16) else ".tif"
