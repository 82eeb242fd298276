"""Masks in several files for each image, told from names alone: a file for each class, or one for each object."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

from unetkit.core.errors import DataError
from unetkit.data.case import Annotation, Case, ClassFiles, Discovery, ObjectFiles, make_discovery
from unetkit.data.find.pairs import (
    MASK_WORDS,
    SPLITS,
    Named,
    Pairs,
    folder_role,
    image_core,
    mask_core,
    named,
    pair,
    split_of,
)
from unetkit.data.find.walk import below, folders, walk
from unetkit.data.formats import label_paths, natural_key

EXPLAINED = 0.8  # of the masks, at least this share is named as a family's are
RATERS = ("annotator", "rater", "reader", "expert", "observer", "grader", "reviewer", "manual", "ho", "copy", "gt")
"""Words for who drew a mask, in lower case: masks of one image that differ by them are no classes."""
NUMBERED = ("class", "label", "region", "channel", "organ", "structure", "roi")
"""Words that may be followed by a number in the name of a class."""
RESULTS = ("probabilities", "overlays", "overlay", "marks", "predictions", "previews", "preview", "results")
"""Folders beside the images that hold no masks."""


@dataclass(frozen=True)
class _Way:
    """One way in which masks are named after images: (image, the rest of the mask's name, mask) of those that are."""

    kind: str
    found: tuple[tuple[Named, str, Named], ...]


def paired(images: list[Named], masks: list[Named]) -> Pairs:
    """As `pair`; where no mask has the name of an image, several files for each image are looked for.

    Raises DataError as `pair`; masks of one image by several people.
    """
    plain = pair(images, masks)
    return plain if plain.found else families(images, masks) or plain


def families(images: Sequence[Named], masks: Sequence[Named]) -> Pairs | None:
    """Masks that have several files for an image, as `ClassFiles` or `ObjectFiles`; None: not clearly so.

    Classes: `nuclei/a`, `a/nuclei`, `a_nuclei`, `nuclei_a` for the image `a`: names that come again from image to
    image. Objects: `a/obj1`, `a/obj2`: a folder for each image. Raises DataError: masks by several people.
    """
    if not images or not masks:
        return None
    ways = [_way(kind, images, masks) for kind in ("folder before", "folder behind", "behind", "before")]
    way = max(ways, key=lambda way: len(way.found))
    if len(way.found) < max(2, EXPLAINED * len(masks)):
        return None
    of: dict[Path, list[tuple[str, Named]]] = defaultdict(list)
    for image, rest, mask in way.found:
        of[image.path].append((rest, mask))
    if max(len(files) for files in of.values()) < 2 and way.kind != "folder behind":
        return None
    classes = _are_classes(way, of)
    if not classes and way.kind != "folder behind":
        return None
    labels: dict[Path, Annotation] = {}
    for path, files in of.items():
        files.sort(key=lambda pair: natural_key(pair[0]))
        _refuse_doubles(files)
        if classes:
            labels[path] = ClassFiles(tuple((rest, mask.path) for rest, mask in files))
        else:
            labels[path] = ObjectFiles(tuple(mask.path for _, mask in files))
    used = {mask.path for _, _, mask in way.found}
    found = tuple((image.name, image.path, labels[image.path]) for image in images if image.path in labels)
    return Pairs(
        tuple(sorted(found, key=lambda f: natural_key(f[0]))),
        tuple(image for image in images if image.path not in labels),
        tuple(mask for mask in masks if mask.path not in used),
        _class_note(of) if classes else f"each object has a file of its own, {len(used)} in {len(labels)} images",
    )


def from_class_folders(root: Path) -> Discovery | None:
    """`images/` with a folder beside it for each class (`membrane/`, `nuclei/`), here or in folders below.

    None where there is no such place, or where the folders do not hold masks of the names of the images alone.
    """
    cases: list[Case] = []
    unlabelled: list[Case] = []
    notes: list[str] = []
    names: list[str] = []
    for folder in (root, *below(root)):
        children = folders(folder)
        holders = [c for c in children if folder_role(c.name) == ("images", "")]
        others = [c for c in children if not folder_role(c.name)[0] and c.name.casefold() not in (*SPLITS, *RESULTS)]
        if len(holders) != 1 or len(others) < 2:
            continue
        images = named(walk(holders[0]), holders[0])
        masks = [m for other in others for m in named(walk(other, label_paths), folder)]
        found = families(images, masks)
        if found is None or found.masks or not all(isinstance(label, ClassFiles) for _, _, label in found.found):
            return None
        above = folder.relative_to(root).parts
        for name, image, label in [*found.found, *((i.name, i.path, None) for i in found.images)]:
            full = "/".join((*above, name))
            (unlabelled if label is None else cases).append(
                Case(full, (image,), label, None, split_of(full.split("/")[:-1]))
            )
        notes.append(found.note)
        names = names or [other.name for other in others]
    if not cases:
        return None
    layout = f"images/ and a folder of masks for each class ({', '.join(names)})"
    return make_discovery(root, layout, cases, unlabelled, (), list(dict.fromkeys(notes)))


def lone_images(siblings: Sequence[tuple[str, list[Named], list[Named]]]) -> Pairs | None:
    """A folder for each image, with its masks in a folder: (what stands before the names, images, masks) of each.

    The image is called as its folder, and its masks are its objects, or its classes where their names come again
    (`ID/images/ID.png` + `ID/masks/*.png`, as in the Data Science Bowl 2018). None: not clearly so.
    """
    images, masks = [], []
    for prefix, own, theirs in siblings:
        if len(own) != 1 or not prefix:
            return None
        images.append(Named(own[0].path, prefix))
        masks += [Named(mask.path, f"{prefix}/{mask.name}") for mask in theirs]
    return families(images, masks) if len(images) > 1 or len(masks) > 2 else None


def _way(kind: str, images: Sequence[Named], masks: Sequence[Named]) -> _Way:
    by_name: dict[str, Named] = {}
    for image in images:
        by_name.setdefault(image.name.casefold(), image)
        by_name.setdefault(image_core(image.name).casefold(), image)
    longest = sorted(by_name, key=len, reverse=True)
    found = []
    for mask in masks:
        for image_name, rest in _splits(kind, mask.name, by_name, longest):
            if part := _without_mask_word(rest):
                found.append((by_name[image_name], part, mask))
                break
    return _Way(kind, tuple(found))


def _splits(kind: str, name: str, by_name: dict[str, Named], longest: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(image, rest) of the ways to take a mask's name apart."""
    path = PurePosixPath(name)
    folder, last = path.parent.parts, path.name
    if kind == "folder before":
        for k, part in enumerate(folder):
            left = "/".join((*folder[:k], *folder[k + 1 :], last))
            for shape in (left, mask_core(left)):
                if shape.casefold() in by_name:
                    yield shape.casefold(), part
    elif kind == "folder behind":
        if folder and "/".join(folder).casefold() in by_name:
            yield "/".join(folder).casefold(), last
    else:
        for shape in (name, mask_core(name)):
            whole = shape.casefold()
            for image in longest:
                if kind == "behind" and whole.startswith(image) and whole[len(image) :][:1] in tuple("_-. "):
                    yield image, shape[len(image) :]
                in_folder, _, stem = image.rpartition("/")
                inside = f"{in_folder}/" if in_folder else ""
                if kind == "before" and whole.startswith(inside) and whole.endswith(stem):
                    rest = shape[len(inside) : len(shape) - len(stem)]
                    if rest[-1:] in tuple("_-. ") and "/" not in rest:
                        yield image, rest


def _without_mask_word(rest: str) -> str:
    """`nuclei` of `mask_nuclei` and `nuclei_mask`; nothing of `mask` alone."""
    words = [w for w in re.split(r"([_\-. ]+)", rest) if w]
    while words and (words[0].casefold() in MASK_WORDS or not words[0].strip("_-. ")):
        words = words[1:]
    while words and (words[-1].casefold() in MASK_WORDS or not words[-1].strip("_-. ")):
        words = words[:-1]
    return "".join(words)


def _are_classes(way: _Way, of: dict[Path, list[tuple[str, Named]]]) -> bool:
    """Whether the rests of the names are classes: words that come again from image to image. Raises DataError."""
    rests = sorted({rest for _, rest, _ in way.found}, key=natural_key)
    folders_of_them = way.kind == "folder before"
    bases = {re.sub(r"\d+(st|nd|rd|th)?", "", rest.casefold()).strip("_-. ") for rest in rests}
    several = [files for files in of.values() if len(files) > 1]
    if len(rests) < 2 or not several:
        return False
    if all(any(word in RATERS for word in re.split(r"[_\-. ]+", base)) for base in bases):
        (_, one), (_, other) = several[0][:2]
        raise DataError(
            f"{one.path} and {other.path}: several masks of one image, by several people it seems "
            f"({', '.join(rests[:3])}); keep one of them, or say in a CSV of image,mask which to use"
        )
    numbers_only = len(bases) == 1 and len(rests) > 1
    if numbers_only and not folders_of_them and not any(word in next(iter(bases)) for word in NUMBERED):
        return False
    if any(not re.search(r"[^\W\d_]", rest) for rest in rests) and not folders_of_them:
        return False
    again = len(way.found) / len(rests)  # images per name
    return again >= 2 or (len(of) == 1 and way.kind != "folder behind") or (len(of) <= 3 and again > 1)


def _refuse_doubles(files: Sequence[tuple[str, Named]]) -> None:
    for (one, first), (other, second) in pairwise(files):
        if one.casefold() == other.casefold():
            raise DataError(
                f"{first.path} and {second.path}: 2 masks of the class '{one}' for one image; keep one of them"
            )


def _class_note(of: dict[Path, list[tuple[str, Named]]]) -> str:
    """Which classes there are, and where one has no file."""
    names = sorted({rest for files in of.values() for rest, _ in files}, key=natural_key)
    note = f"each class has a file of its own: {', '.join(names)}"
    lacking = {name: [p for p, files in of.items() if name not in {rest for rest, _ in files}] for name in names}
    for name, images in lacking.items():
        if images:
            n = len(images)
            note += (
                f"; '{name}' has no file for {n} image{'s' * (n != 1)} (e.g. {images[0].name}), where it is taken not "
                "to occur"
            )
    return note
