"""One image with its label, and what a folder was understood to hold: what everything that reads data is handed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

IGNORE = 255
"""Class index of unlabelled pixels in a uint8 label; classes are 0 … K-1 with K ≤ 254."""


@dataclass(frozen=True, slots=True)
class Case:
    """One image with its label, where it has one.

    id: unique in its set; the stem that image and mask share, with the folders below the image folder (`rat1/a`).
    images: usually one file; one file per channel where the set is kept so (nnU-Net's `_0000`, `_0001`).
    label: the mask's file, None where there is none.
    group: patient, rat, slide … as a CSV gives it; None where it is not known.
    split: "train", "val" or "test" as folders or a CSV give it; None where nothing is said.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None = None
    group: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a folder or a CSV was understood to be.

    root: the folder (or the CSV). layout: a phrase for the user. cases: those with a label, in natural order.
    unlabelled_cases: images without a mask; orphans: masks without an image. notes: what the user should know.
    class_names, ignore: value → name, and the value of unlabelled pixels, where a `dataset.json` gives them.
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
        """The image files that have no mask."""
        return tuple(path for case in self.unlabelled_cases for path in case.images)
