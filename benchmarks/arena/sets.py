"""The sets of the arena: how each is read, what its classes are, and which cases are held out from every contestant.

Reading is short and plain here, apart from unetkit's own (save waves of recordings), so that what a contestant makes of
the files is its own affair, and the truth is the same for all. The held-out cases are fixed by a rule, not drawn.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
IGNORE = 255


@dataclass(frozen=True)
class Case:
    """An image and its mask. group: what belongs together (a rat, a recording), else the case's own id; lead: number of
    the lead of a recording."""

    id: str
    image: Path
    mask: Path
    group: str
    lead: int | None = None


@dataclass(frozen=True)
class ArenaSet:
    """A kind of data.

    ndim, channels: of the images as contestants of the arena get them; classes: names, the first is no foreground;
    rule: which cases are held out, in words; measures: the scores of the table, the first decides; order: the groups
    (images, rats, recordings) in the order of the rule; those with number % every == at are held out, whole.
    """

    name: str
    ndim: int
    channels: int
    classes: tuple[str, ...]
    rule: str
    measures: tuple[str, ...]
    cases: Callable[[Path], list[Case]]
    order: Callable[[Sequence[Case]], list[str]]
    read_image: Callable[[Case], Array]
    read_label: Callable[[Case], Array]
    every: int = 5
    at: int = 3

    def held_out(self, cases: Sequence[Case]) -> list[Case]:
        """The cases that nobody trains on. Raises ValueError: so few units that none, or all, would be held out."""
        chosen = {unit for number, unit in enumerate(self.order(cases)) if number % self.every == self.at}
        found = [case for case in cases if case.group in chosen]
        if not found or len(found) == len(cases):
            raise ValueError(f"{self.name}: {len(cases)} cases are too few to hold some out ({self.rule})")
        return found


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts slice2 before slice10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def prepare(kind: ArenaSet, folder: Path, work: Path) -> Path:
    """WORK/NAME/train and WORK/NAME/test with links to the files of the two parts, made anew; gives WORK/NAME."""
    cases = kind.cases(folder)
    held = {case.id for case in kind.held_out(cases)}
    place = work / kind.name
    shutil.rmtree(place, ignore_errors=True)
    for case in cases:
        part = place / ("test" if case.id in held else "train")
        for path in files_of(case):
            target = part / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.is_symlink():
                target.symlink_to(path.resolve())
    return place


def files_of(case: Case) -> list[Path]:
    """Every file that the case needs; of a recording its header, its signals and the marks of the lead."""
    return [case.image, case.mask, *([case.image.with_suffix(".dat")] if case.lead is not None else [])]


def _paired(folder: Path, group: Callable[[str], str] = lambda name: name) -> list[Case]:
    found = []
    for image in sorted((folder / "images").iterdir(), key=lambda path: natural(path.name)):
        name = image.name.removesuffix(".gz").rsplit(".", 1)[0]
        found.append(Case(name, image, folder / "masks" / image.name, group(name)))
    return found


def _rat(name: str) -> str:
    return name.split("_")[0]


def _leads(folder: Path) -> list[Case]:
    from unetkit.data.formats.signals.records import lead_names, wave_files

    found = []
    for header in sorted(folder.glob("*.hea"), key=lambda path: natural(path.name)):
        marks = wave_files(header, list(folder.glob(f"{header.stem}.*")))
        found += [
            Case(f"{header.stem}/{name}", header, marks[number], header.stem, number)
            for number, name in enumerate(lead_names(header))
            if number in marks
        ]
    return found


def _groups(cases: Sequence[Case]) -> list[str]:
    return list(dict.fromkeys(case.group for case in cases))


def _by_kind(cases: Sequence[Case]) -> list[str]:
    """Images of nuclei ordered by kind (fluorescence, bright field, stain), size and name: every fifth is of all."""
    return [case.id for case in sorted(cases, key=lambda case: (*_kind(case.image), case.id))]


@cache
def _kind(path: Path) -> tuple[int, int]:
    rgb = _picture(path)[..., :3].astype(np.float32)
    coloured = float((rgb.max(-1) - rgb.min(-1)).mean()) > 5
    return (2 if coloured else int(rgb.mean() > 127)), rgb.shape[0] * rgb.shape[1]


def _picture(path: Path) -> Array:
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture)


def _grey(case: Case) -> Array:
    pixels = _picture(case.image)
    return (pixels if pixels.ndim == 2 else pixels[..., 0])[None].astype(np.float32)


def _rgb(case: Case) -> Array:
    return np.moveaxis(_picture(case.image)[..., :3], -1, 0).astype(np.float32)


def membranes(values: Array) -> Array:
    """Masks of em: 0 is membrane, 255 cell; here membrane is class 1."""
    return (values < 128).astype(np.uint8)


def nerve_classes(values: Array) -> Array:
    """Masks of axons: background 0, myelin 127 or 128, axon 255; stray values are what they are nearest to."""
    values = values if values.ndim == 2 else values[..., 0]
    return np.abs(values[..., None].astype(int) - [0, 127, 255]).argmin(-1).astype(np.uint8)


def _volume(path: Path) -> Array:
    import nibabel

    return np.asarray(nibabel.load(path).dataobj)


def _signal(case: Case) -> Array:
    from unetkit.data.formats import open_image

    with open_image(case.image) as reader:
        return reader.read()[case.lead][None].astype(np.float32)


def _waves(case: Case) -> Array:
    """0 none, 1 P, 2 QRS, 3 T; 255 before the first and behind the last marked wave, which nobody judged."""
    from unetkit.data.formats.signals.records import read_waves

    return read_waves(case.mask)[0]


SETS = {
    kind.name: kind
    for kind in (
        ArenaSet("em", 2, 1, ("cell", "membrane"), "every fifth slice by name, from number 3 (counted from 0)",
                 ("v_rand", "v_info", "dice"), _paired, _groups, _grey, lambda case: membranes(_picture(case.mask))),
        ArenaSet("nuclei", 2, 3, ("background", "nucleus"),
                 "every fifth image by kind (fluorescence, bright field, stain), size and name, from number 3",
                 ("ap50", "ap50_90", "dice"), _paired, _by_kind, _rgb, lambda case: _picture(case.mask)),
        ArenaSet("hippocampus", 3, 1, ("background", "anterior", "posterior"),
                 "every fifth volume by name, from number 3",
                 ("dice",), _paired, _groups, lambda case: _volume(case.image)[None].astype(np.float32),
                 lambda case: _volume(case.mask).astype(np.uint8)),
        ArenaSet("axons", 2, 1, ("background", "myelin", "axon"), "whole rats, every third from number 1",
                 ("dice",), lambda folder: _paired(folder, _rat), _groups, _grey,
                 lambda case: nerve_classes(_picture(case.mask)), every=3, at=1),
        ArenaSet("ecg", 1, 1, ("none", "P", "QRS", "T"), "every fifth recording, all its leads, from number 3",
                 ("f1",), _leads, _groups, _signal, _waves),
    )
}  # fmt: skip
"""In the order in which they are run. `read_label` of nuclei gives the number of the nucleus of each pixel."""
