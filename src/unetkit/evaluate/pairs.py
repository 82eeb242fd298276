"""Which prediction belongs to which truth: by name, as people and `unetkit predict` name files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unetkit.core.errors import DataError
from unetkit.data.case import Annotation, Case, ClassFiles, Discovery
from unetkit.data.find.discover import discover
from unetkit.data.find.walk import walk
from unetkit.data.formats import (
    AS_THEY_ARE,
    Reading,
    contents,
    format_of,
    image_paths,
    label_paths,
    natural_key,
    split_address,
    stem,
)
from unetkit.data.formats.signals.rows import is_mask_table
from unetkit.data.labels.legend import Legend, folder_name

# folders that predict writes beside the masks
BESIDE = ("probabilities", "overlays", "marks", "polygons", "measurements", "intervals")
_MASK_SUFFIX = re.compile(
    r"[_\-. ](mask|masks|seg|segmentation|label|labels|gt|truth|annotation|pred|prediction)$", re.I
)


@dataclass(frozen=True)
class Prediction:
    """A predicted mask. name: its path in the folder of predictions, without suffix; of regions that have a file each,
    without the folder of the region. path: its file, the first of several. missing: regions that have no file."""

    name: str
    path: Path
    label: Annotation
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pair:
    """One prediction and its truth. `case.label` is that of the truth."""

    case: Case
    prediction: Prediction


@dataclass(frozen=True)
class Pairing:
    """All pairs in natural order, and what found no partner."""

    pairs: tuple[Pair, ...]
    truths: tuple[Case, ...]
    predictions: tuple[Prediction, ...]


def truth_cases(truth: Path, reading: Reading = AS_THEY_ARE, legend: Legend | None = None) -> Discovery:
    """The cases with a mask in `truth`: a data set in any layout (also a CSV), or a plain folder of masks.

    legend: of the masks, where it is known: regions may have a file each, in folders of their names.
    Raises DataError: no masks.
    """
    truth = Path(truth)
    try:
        return discover(truth, reading)
    except DataError:
        # masks alone, without images, are no data set, and all that is needed here
        masks = (image_paths(truth) or _masks_below(truth)) if truth.is_dir() else []
        if not masks:
            raise
        found = grouped(masks, truth, legend)
        return Discovery(truth, "masks", tuple(Case(id=one.name, images=(), label=one.label) for one in found))


def predictions_in(folder: Path, legend: Legend) -> list[Prediction]:
    """The masks in a folder of predictions and below, in natural order. Raises DataError: no folder, nothing in it."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; name the folder that holds the predicted masks")
    found = _masks_below(folder)
    if not found:
        raise DataError(f"{folder}: there are no masks here; `unetkit predict RUN IMAGES -o {folder}` writes them")
    return grouped(found, folder, legend)


def grouped(files: Sequence[Path], folder: Path, legend: Legend | None) -> list[Prediction]:
    """Masks below `folder`; those in folders of the names of classes together, where all masks lie so."""
    by_class = {} if legend is None else {folder_name(name): name for name in legend.names}
    tops = {path.relative_to(folder).parts[0] for path in files}
    apart = legend is not None and (legend.apart or (legend.kind == "values" and len(tops) > 1))
    if not apart or not tops <= set(by_class):
        return [Prediction(_name(path, folder), path, path) for path in files]
    of: dict[str, dict[str, Path]] = {}
    for path in files:
        top, *rest = Path(_name(path, folder)).parts
        of.setdefault("/".join(rest), {})[by_class[top]] = path
    return [
        Prediction(
            name,
            next(iter(parts.values())),
            ClassFiles(tuple(parts.items())),
            tuple(region for region in by_class.values() if region not in parts),
        )
        for name, parts in sorted(of.items(), key=lambda item: natural_key(item[0]))
    ]


def _masks_below(folder: Path) -> list[Path]:
    """The masks in a folder and below, without what `predict` writes beside them; of a file that holds one, the path
    into it."""
    found = []
    for path in walk(folder, label_paths):
        kind = format_of(path)
        beside = set(path.relative_to(folder).parts[:-1]) & set(BESIDE)
        if beside or (kind is None and not is_mask_table(path)) or (kind is not None and kind.kind == "signal"):
            continue
        inside = [item.address for item in contents(path) if item.label] if kind is not None and kind.several else []
        found.append(inside[0] if len(inside) == 1 else path)
    return sorted(found, key=lambda path: natural_key(str(path.relative_to(folder))))


def _name(path: Path, folder: Path) -> str:
    return split_address(path)[0].relative_to(folder).with_name(stem(path)).as_posix()


def pair(predictions: Sequence[Prediction], folder: Path, cases: Sequence[Case], truth: Path) -> Pairing:
    """Match predictions (of `folder`) with cases: by id, by the name of the image, by the name of the mask.

    Exact names come first, then names without suffixes such as `_mask` and `_pred`, then names without folders.
    Raises DataError: two files fit one case, or nothing fits at all.
    """
    matched: dict[str, Prediction] = {}
    for shorten in (_exact, _plain, _short):
        used = {found.name for found in matched.values()}
        free: dict[str, list[Prediction]] = {}
        for one in sorted((p for p in predictions if p.name not in used), key=lambda p: p.path):
            free.setdefault(shorten(one.name), []).append(one)
        for case in cases:
            if case.id in matched:
                continue
            fits = next((free[shorten(name)] for name in _names(case) if shorten(name) in free), [])
            if shorten is _short and "/" in case.id:
                fits = [one for one in fits if "/" not in one.name]  # rat1/a is not rat2/a
            if len(fits) > 1:
                raise DataError(
                    f"{fits[0].path} and {fits[1].path} both fit the case '{case.id}'; keep one of them, or give them "
                    "the names of the images, folders included"
                )
            if fits:
                if other := next((key for key, one in matched.items() if one.path == fits[0].path), None):
                    raise DataError(
                        f"{fits[0].path}: fits the case '{other}' as well as '{case.id}'; give predictions the names "
                        "of the images, folders included"
                    )
                matched[case.id] = fits[0]
    if not matched:
        raise DataError(
            f"no file in {folder} ({_examples([p.path.name for p in predictions])}) has the name of an image or mask "
            f"in {truth} ({_examples([case.id for case in cases])}); predictions are matched by name, whatever the "
            "suffix"
        )
    taken = {one.path for one in matched.values()}
    return Pairing(
        tuple(Pair(case, matched[case.id]) for case in cases if case.id in matched),
        tuple(case for case in cases if case.id not in matched),
        tuple(one for one in predictions if one.path not in taken),
    )


def _names(case: Case) -> list[str]:
    if case.channel is not None:  # the leads of a recording share its file
        return [case.id]
    masks = case.label_files if len(case.label_files) == 1 else ()
    return [case.id, *(stem(source) for source in (*case.images[:1], *masks) if isinstance(source, Path))]


def _exact(name: str) -> str:
    return name


def _plain(name: str) -> str:
    return _MASK_SUFFIX.sub("", name)


def _short(name: str) -> str:
    return _plain(name.rsplit("/", 1)[-1])


def _examples(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (", …" if len(names) > 2 else "")
