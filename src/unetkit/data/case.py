"""One image with its label, and what a folder was understood to hold: what everything that reads data is handed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from numpy.typing import NDArray

from unetkit.data.formats.base import AS_THEY_ARE, Reading

Source: TypeAlias = Path | NDArray[Any]
"""A file, or an array in memory."""

IGNORE = 255
"""Class index of unlabelled pixels in a uint8 label; classes are 0 … K-1 with K ≤ 254."""


@dataclass(frozen=True, slots=True)
class Case:
    """One image with its label, where it has one.

    id: unique in its set; the stem that image and mask share, with the folders below the image folder (`rat1/a`).
    images: usually one file; one file per channel where the set is kept so (nnU-Net's `_0000`, `_0001`); or one array
    (channels, *space). Space is (Y, X) for images, (X, Y, Z) as NIfTI stores volumes, (X,) for signals.
    label: the mask's file, or an array (*space); None where there is none.
    group: patient, rat, slide … as a CSV gives it; None where it is not known.
    split: "train", "val" or "test" as folders or a CSV give it; None where nothing is said.
    channel: only this channel of the file is the image (one lead of a recording); None: all of them.
    spacing: of an array: distance of its elements per axis (mm, seconds); files tell their own.
    reading: what the user said of the files: axes, level of a pyramid.
    """

    id: str
    images: tuple[Source, ...]
    label: Source | None = None
    group: str | None = None
    split: str | None = None
    channel: int | None = None
    spacing: tuple[float, ...] | None = None
    reading: Reading = AS_THEY_ARE

    @property
    def where(self) -> Path:
        """What messages call the image: its first file, with the lead of a recording; or `sample ID` for an array."""
        first = self.images[0] if self.images else None
        if not isinstance(first, Path):
            return Path(f"sample {self.id}")
        return first if self.channel is None else first.with_name(f"{first.name} ({self.id.rpartition('/')[2]})")

    @property
    def mask_where(self) -> Path:
        """What messages call the mask: its file, or `the label of sample ID` for an array."""
        return self.label if isinstance(self.label, Path) else Path(f"the label of sample {self.id}")


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a folder or a CSV was understood to be.

    root: the folder (or the CSV; `samples` where arrays were given). layout: a phrase for the user.
    cases: those with a label, in natural order. unlabelled_cases: images without a mask; orphans: masks without an
    image. notes: what the user should know.
    class_names, ignore: value → name, and the value of unlabelled pixels, where the set states them (a
    `dataset.json`, the marks of recordings).
    synthetic: the images are generated, not measured (a file SYNTHETIC.txt says so).
    """

    root: Path
    layout: str
    cases: tuple[Case, ...]
    unlabelled_cases: tuple[Case, ...] = ()
    orphans: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    class_names: dict[int, str] = field(default_factory=dict)
    ignore: int | None = None
    synthetic: bool = False

    @property
    def unlabelled(self) -> tuple[Path, ...]:
        """The image files that have no mask (leads as `Case.where` calls them)."""
        return tuple(
            source if isinstance(source, Path) and case.channel is None else case.where
            for case in self.unlabelled_cases
            for source in case.images
        )
