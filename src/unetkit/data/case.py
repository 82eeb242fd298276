"""One image with its label, and what a folder was understood to hold: what everything that reads data is handed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from numpy.typing import NDArray

from unetkit.data.formats.base import AS_THEY_ARE, Reading
from unetkit.data.formats.order import natural_key

Source: TypeAlias = Path | NDArray[Any]
"""A file, or an array in memory."""

IGNORE = 255
"""Class index of unlabelled pixels in a uint8 label; classes are 0 … K-1 with K ≤ 254."""


@dataclass(frozen=True, slots=True)
class ClassFiles:
    """A mask in several files (or arrays), one for each class: other than 0 where the class is. They may overlap.

    files: (name of the class, its file). A class without a file for this image does not occur in it. The class of a
    name in `UNLABELLED` marks what is not annotated.
    """

    files: tuple[tuple[str, Source], ...]


@dataclass(frozen=True, slots=True)
class ObjectFiles:
    """A mask in several files, one for each object: other than 0 where the object is."""

    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class WordLabel:
    """The label of a signal, in words. path: of the intervals, the EDF, the annotation or the table that holds it.

    values: what each word of the set is in numbers. width: seconds that a beat is given, of beat annotations.
    """

    path: Path
    values: tuple[tuple[str, int], ...]
    width: float | None = None


Annotation: TypeAlias = Path | NDArray[Any] | ClassFiles | ObjectFiles | WordLabel
"""A label: a file of any kind, an array, several files, or a file whose classes are words."""

UNLABELLED = ("ignore", "unlabelled", "unlabeled", "unannotated", "void")
"""Names of a class that mark what is not annotated, in lower case."""


@dataclass(frozen=True, slots=True)
class GivenRegion:
    """A class that a set defines by the values of its masks, such as `whole tumour: [1, 2, 3]`; regions may overlap.

    codes: the values of its pixels. value: what is written where it is the last of the regions that hold a pixel.
    """

    name: str
    codes: tuple[int, ...]
    value: int


@dataclass(frozen=True, slots=True)
class Case:
    """One image with its label, where it has one.

    id: unique in its set; the stem that image and mask share, with the folders below the image folder (`rat1/a`).
    images: usually one file; one file per channel where the set is kept so (nnU-Net's `_0000`, `_0001`); or one array
    (channels, *space). Space is (Y, X) for images, (X, Y, Z) as NIfTI stores volumes, (X,) for signals.
    label: the mask's file, its files, or an array (*space); None where there is none.
    group: patient, rat, slide … as a CSV gives it; None where it is not known.
    split: "train", "val" or "test" as folders or a CSV give it; None where nothing is said.
    channel: only this channel of the file is the image (one lead of a recording); None: all of them.
    spacing: of an array: distance of its elements per axis (mm, seconds); files tell their own.
    reading: what the user said of the files: axes, level of a pyramid.
    """

    id: str
    images: tuple[Source, ...]
    label: Annotation | None = None
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
        """What messages call the mask: its file (of several the first, of objects their folder), or `the label of
        sample ID` for an array."""
        files = self.label_files
        if not files:
            return Path(f"the label of sample {self.id}")
        return files[0].parent if isinstance(self.label, ObjectFiles) else files[0]

    @property
    def label_files(self) -> tuple[Path, ...]:
        """The files of the label; none of an array."""
        return tuple(source for source in self.label_sources if isinstance(source, Path))

    @property
    def label_sources(self) -> tuple[Source, ...]:
        """The files or arrays that the label is made of."""
        if self.label is None:
            return ()
        if isinstance(self.label, ObjectFiles):
            return self.label.files
        if isinstance(self.label, ClassFiles):
            return tuple(source for _, source in self.label.files)
        return (self.label.path if isinstance(self.label, WordLabel) else self.label,)


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a folder or a CSV was understood to be.

    root: the folder (or the CSV; `samples` where arrays were given). layout: a phrase for the user.
    cases: those with a label, in natural order. unlabelled_cases: images without a mask; orphans: masks without an
    image. notes: what the user should know.
    class_names, ignore: value → name, and the value of unlabelled pixels, where the set states them (a
    `dataset.json`, the marks of recordings). regions: instead of names, classes that may overlap (`dataset.json`).
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
    regions: tuple[GivenRegion, ...] = ()
    synthetic: bool = False

    @property
    def unlabelled(self) -> tuple[Path, ...]:
        """The image files that have no mask (leads as `Case.where` calls them)."""
        return tuple(
            source if isinstance(source, Path) and case.channel is None else case.where
            for case in self.unlabelled_cases
            for source in case.images
        )


def make_discovery(
    root: Path,
    layout: str,
    cases: Sequence[Case],
    unlabelled: Sequence[Case] = (),
    orphans: Sequence[Path] = (),
    notes: Sequence[str] = (),
) -> Discovery:
    """A discovery with everything in natural order."""
    return Discovery(
        root=root,
        layout=layout,
        cases=tuple(sorted(cases, key=lambda case: natural_key(case.id))),
        unlabelled_cases=tuple(sorted(unlabelled, key=lambda case: natural_key(case.id))),
        orphans=tuple(sorted(orphans, key=lambda p: natural_key(str(p)))),
        notes=tuple(notes),
    )
