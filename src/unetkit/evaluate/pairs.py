"""Which prediction belongs to which truth: by name, as people and `unetkit predict` name files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unetkit.core.errors import DataError
from unetkit.data.case import Case
from unetkit.data.discover import discover
from unetkit.data.formats import AS_THEY_ARE, Reading, image_paths, is_image_name, natural_key, stem, suffixes
from unetkit.data.formats.rows import is_mask_table

BESIDE = ("probabilities", "overlays", "marks")  # folders that predict writes beside the masks
_MASK_SUFFIX = re.compile(
    r"[_\-. ](mask|masks|seg|segmentation|label|labels|gt|truth|annotation|pred|prediction)$", re.I
)


@dataclass(frozen=True)
class Pair:
    """One prediction and its truth. `case.label` is the truth's file."""

    case: Case
    prediction: Path


@dataclass(frozen=True)
class Pairing:
    """All pairs in natural order, and what found no partner."""

    pairs: tuple[Pair, ...]
    truths: tuple[Case, ...]
    predictions: tuple[Path, ...]


def truth_cases(truth: Path, reading: Reading = AS_THEY_ARE) -> tuple[tuple[Case, ...], Mapping[int, str], int | None]:
    """The cases with a mask in `truth`: a data set in any layout (also a CSV), or a plain folder of masks.

    Besides the class names and the ignore value that the set's own description states. Raises DataError: no masks.
    """
    truth = Path(truth)
    try:
        found = discover(truth, reading)
    except DataError:
        # masks alone, without images, are no data set, and all that is needed here
        masks = (image_paths(truth) or _masks_below(truth)) if truth.is_dir() else []
        if not masks:
            raise
        return tuple(Case(id=_name(path, truth), images=(), label=path) for path in masks), {}, None
    return found.cases, found.class_names, found.ignore


def prediction_files(folder: Path) -> list[Path]:
    """The masks in a folder of predictions and below, in natural order. Raises DataError: no folder, nothing in it."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; name the folder that holds the predicted masks")
    found = _masks_below(folder)
    if not found:
        raise DataError(f"{folder}: there are no masks here; `unetkit predict RUN IMAGES -o {folder}` writes them")
    return found


def _masks_below(folder: Path) -> list[Path]:
    found = [
        path
        for path in folder.rglob("*")
        if (is_image_name(path) or is_mask_table(path))
        and path.suffix.lower() not in suffixes("signal")
        and path.is_file()
        and not set(path.relative_to(folder).parts[:-1]) & set(BESIDE)
    ]
    return sorted(found, key=lambda path: natural_key(str(path.relative_to(folder))))


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_name(stem(path)).as_posix()


def pair(predictions: Sequence[Path], folder: Path, cases: Sequence[Case], truth: Path) -> Pairing:
    """Match predictions (files below `folder`) with cases: by id, by the name of the image, by the name of the mask.

    Exact names come first, then names without suffixes such as `_mask` and `_pred`, then names without folders.
    Raises DataError: two files fit one case, or nothing fits at all.
    """
    names = {path: _name(path, folder) for path in predictions}
    matched: dict[str, Path] = {}
    for shorten in (_exact, _plain, _short):
        free: dict[str, list[Path]] = {}
        for path in sorted(set(predictions) - set(matched.values())):
            free.setdefault(shorten(names[path]), []).append(path)
        for case in cases:
            if case.id in matched:
                continue
            fits = next((free[shorten(name)] for name in _names(case) if shorten(name) in free), [])
            if shorten is _short and "/" in case.id:
                fits = [path for path in fits if "/" not in names[path]]  # rat1/a is not rat2/a
            if len(fits) > 1:
                raise DataError(
                    f"{fits[0]} and {fits[1]} both fit the case '{case.id}'; keep one of them, or give them the names "
                    "of the images, folders included"
                )
            if fits:
                if fits[0] in matched.values():
                    other = next(key for key, path in matched.items() if path == fits[0])
                    raise DataError(
                        f"{fits[0]}: fits the case '{other}' as well as '{case.id}'; give predictions the names of the "
                        "images, folders included"
                    )
                matched[case.id] = fits[0]
    if not matched:
        raise DataError(
            f"no file in {folder} ({_examples([p.name for p in predictions])}) has the name of an image or mask in "
            f"{truth} ({_examples([case.id for case in cases])}); predictions are matched by name, whatever the suffix"
        )
    used = set(matched.values())
    return Pairing(
        tuple(Pair(case, matched[case.id]) for case in cases if case.id in matched),
        tuple(case for case in cases if case.id not in matched),
        tuple(path for path in predictions if path not in used),
    )


def _names(case: Case) -> list[str]:
    if case.channel is not None:  # the leads of a recording share its file
        return [case.id]
    return [case.id, *(stem(source) for source in (*case.images[:1], case.label) if isinstance(source, Path))]


def _exact(name: str) -> str:
    return name


def _plain(name: str) -> str:
    return _MASK_SUFFIX.sub("", name)


def _short(name: str) -> str:
    return _plain(name.rsplit("/", 1)[-1])


def _examples(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (", …" if len(names) > 2 else "")
