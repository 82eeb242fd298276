"""Which mask belongs to which image, told from names alone."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from unetkit.core.errors import DataError
from unetkit.data.case import Annotation
from unetkit.data.formats import natural_key, stem

IMAGE_WORDS = ("images", "image", "imgs", "img", "raw", "inputs", "input")
MASK_WORDS = (
    "masks", "mask", "labels", "label", "annotations", "annotation", "annots", "annot", "segmentations", "segmentation",
    "segs", "seg", "targets", "target", "groundtruths", "groundtruth", "gts", "gt", "manual",
)  # fmt: skip
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip

_SEPARATOR = r"[_\-. ]+"
_IMAGE_SUFFIX = re.compile(rf"^(.+?){_SEPARATOR}(?:image|img|raw|sat|0000)$", re.IGNORECASE)
_IMAGE_PREFIX = re.compile(rf"^(?:image|img|raw){_SEPARATOR}(.+)$", re.IGNORECASE)
_MASK_SUFFIX = re.compile(rf"^(.+?){_SEPARATOR}(?:{'|'.join(MASK_WORDS)}|ground{_SEPARATOR}truth|l)$", re.IGNORECASE)
_MASK_PREFIX = re.compile(rf"^(?:{'|'.join(MASK_WORDS)}){_SEPARATOR}(.+)$", re.IGNORECASE)
# in one flat folder an ending says that a file is a mask at all, so only clear words count
_FLAT_MASK = re.compile(rf"^(.+?){_SEPARATOR}(?:{'|'.join(MASK_WORDS[:-1])}|ground{_SEPARATOR}truth)$", re.IGNORECASE)
# … or stands before the name of a class
_FLAT_CLASS = re.compile(rf"^(.+?){_SEPARATOR}(?:{'|'.join(MASK_WORDS[:-1])}){_SEPARATOR}(.+)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Named:
    """A file, and the name by which it pairs: the folders below its root and the stem, `rat1/a`."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class Pairs:
    """(id, image, mask or its files) of every pair; the images and masks that are left; how names were matched, if not
    plainly."""

    found: tuple[tuple[str, Path, Annotation], ...]
    images: tuple[Named, ...]
    masks: tuple[Named, ...]
    note: str = ""


def named(paths: Iterable[Path], root: Path) -> list[Named]:
    """Files with their names relative to `root`, without suffixes."""
    return [Named(path, path.relative_to(root).with_name(stem(path)).as_posix()) for path in paths]


def pair(images: list[Named], masks: list[Named]) -> Pairs:
    """Match masks to images: by equal names; else without `_mask`, `mask_`, `_image` …; else by the part that varies.

    Case does not matter. Raises DataError: two masks for one image, or two images for one mask.
    """
    found: list[tuple[str, Path, Path]] = []
    note = ""
    for strip_image, strip_mask in (
        (_same, _same),
        (_same, mask_core),
        (image_core, _same),
        (image_core, mask_core),
    ):
        new, images, masks = _match(found, images, masks, [(strip_image(i.name), i) for i in images],
                                    [(strip_mask(m.name), m) for m in masks])  # fmt: skip
        found += new
    if not found and len(images) > 1 and len(masks) > 1:
        new, images, masks = _match(found, images, masks, _varying(images), _varying(masks))
        found += new
        if new:
            note = f"paired by the part of the names that varies: {new[0][1].name} with {new[0][2].name}"
    return Pairs(tuple(sorted(found, key=lambda f: natural_key(f[0]))), tuple(images), tuple(masks), note)


def split_flat(files: list[Named]) -> tuple[list[Named], list[Named]]:
    """(images, masks) of one folder in which masks are told by their endings: `a.png`, `a_mask.png`; or where there are
    none such, by what stands before a class: `a_mask_nuclei.png`."""
    masks = [f for f in files if _is_flat_mask(f.name)]
    if not masks:
        of_class = [f for f in files if _FLAT_CLASS.match(f.name.rpartition("/")[2])]
        masks = of_class if len(of_class) < len(files) else []
    rest = {id(m) for m in masks}
    return [f for f in files if id(f) not in rest], masks


def folder_role(name: str) -> tuple[str, str]:
    """("images", "masks" or "", rest of the name): `train_masks` → ("masks", "train"), `train` → ("", "train")."""
    text = re.sub(r"^1st[_\- ]", "", name.casefold())
    text = re.sub(r"ground[_\- ]truth", "groundtruth", text)
    tokens = [t for t in re.split(r"[_\- ]+", text) if t]
    for role, words in (("masks", MASK_WORDS), ("images", IMAGE_WORDS)):
        for position in (-1, 0):
            if tokens and tokens[position] in words:
                rest = tokens[:-1] if position else tokens[1:]
                return role, "_".join(t for t in rest if t not in IMAGE_WORDS)
    for word in ("annot", "masks", "labels"):  # CamVid's trainannot
        if text.endswith(word):
            return "masks", text.removesuffix(word)
    return "", "_".join(tokens)


def split_of(parts: Iterable[str]) -> str | None:
    """ "train", "val" or "test" where one of the folder names says so."""
    return next((SPLITS[p.casefold()] for p in parts if p.casefold() in SPLITS), None)


def _match(
    found: list[tuple[str, Path, Path]],
    images: list[Named],
    masks: list[Named],
    image_keys: list[tuple[str, Named]],
    mask_keys: list[tuple[str, Named]],
) -> tuple[list[tuple[str, Path, Path]], list[Named], list[Named]]:
    """The pairs whose keys are equal, and what is left. `found` are the pairs of earlier rounds."""
    by_key: dict[str, list[Named]] = defaultdict(list)
    for key, image in image_keys:
        by_key[key.casefold()].append(image)
    taken = {key.casefold(): mask for key, _, mask in found}
    claims: dict[str, list[Named]] = defaultdict(list)
    for key, mask in mask_keys:
        if key.casefold() in taken and key != mask.name:
            raise _ambiguous("masks", key, [taken[key.casefold()], mask.path])
        if key.casefold() in by_key:
            claims[key.casefold()].append(mask)
    new = []
    for key, claimed in claims.items():
        for what, files in (("images", by_key[key]), ("masks", claimed)):
            if len(files) > 1:
                raise _ambiguous(what, claimed[0].name, [f.path for f in files])
        image, mask = by_key[key][0], claimed[0]
        new.append((image.name, image.path, mask.path))
    used = {image for _, image, _ in new} | {mask for _, _, mask in new}
    return new, [i for i in images if i.path not in used], [m for m in masks if m.path not in used]


def _ambiguous(what: str, name: str, paths: list[Path]) -> DataError:
    files = " and ".join(str(path) for path in paths[:3])
    return DataError(
        f"{files}: {len(paths)} {what} for one case ('{name}'); keep one of them, or say in a CSV of image,mask which "
        "to use"
    )


def _same(name: str) -> str:
    return name


def image_core(name: str) -> str:
    """The name without the word that says image."""
    return _core(name, _IMAGE_SUFFIX, _IMAGE_PREFIX, IMAGE_WORDS)


def mask_core(name: str) -> str:
    """The name without the word that says mask."""
    return _core(name, _MASK_SUFFIX, _MASK_PREFIX, MASK_WORDS)


def _core(name: str, suffix: re.Pattern[str], prefix: re.Pattern[str], words: tuple[str, ...]) -> str:
    """The name without the word that says image or mask; a file that is called just so goes by its folder."""
    folder, _, stem = name.rpartition("/")
    if stem.casefold() in words and folder:
        return folder
    match = suffix.match(stem) or prefix.match(stem)
    stem = match[1] if match else stem
    return f"{folder}/{stem}" if folder else stem


def _is_flat_mask(name: str) -> bool:
    folder, _, stem = name.rpartition("/")
    return bool(_FLAT_MASK.match(stem)) or (bool(folder) and stem.casefold() in MASK_WORDS)


def _varying(files: list[Named]) -> list[tuple[str, Named]]:
    """Names without the leading and trailing words that all of them share: 21_manual1, 22_manual1 → 21, 22."""
    split = [re.split(r"([_\-. /]+)", file.name) for file in files]
    shortest = min(len(parts) for parts in split)
    start = end = 0
    while start < shortest - 1 and len({parts[start] for parts in split}) == 1:
        start += 1
    while end < shortest - 1 - start and len({parts[-1 - end] for parts in split}) == 1:
        end += 1
    return [("".join(parts[start : len(parts) - end]), file) for parts, file in zip(split, files, strict=True)]
