"""One image with its label: what everything that reads data is handed."""

from __future__ import annotations

from dataclasses import dataclass
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
