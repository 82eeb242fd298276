"""What a folder holds: images, their masks, and how they belong together. Names only; no image is opened."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from unetkit.core.errors import DataError, nearest
from unetkit.data.case import Annotation, Case, Discovery, make_discovery
from unetkit.data.find.containers import from_case_folders, from_containers
from unetkit.data.find.families import from_class_folders, lone_images, paired
from unetkit.data.find.nnunet import read_nnunet
from unetkit.data.find.pairs import Named, Pairs, folder_role, named, split_flat, split_of
from unetkit.data.find.recordings import read_recordings
from unetkit.data.find.sample import Sample, read_samples
from unetkit.data.find.signal_sets import read_signals, signals_in, with_words
from unetkit.data.find.table import is_table, read_table
from unetkit.data.find.walk import files, folders, walk
from unetkit.data.formats import (
    AS_THEY_ARE,
    Reading,
    image_paths,
    is_image,
    is_label_name,
    label_paths,
    natural_key,
    readable,
    split_address,
    suffix,
)
from unetkit.data.formats.maps.vector import class_names, is_vector
from unetkit.data.formats.signals.signal_tables import is_signal_table

__all__ = ["LAYOUTS", "SYNTHETIC", "Discovery", "discover", "images_of"]

SYNTHETIC = "SYNTHETIC.txt"
"""A file of this name in a data folder says, in its first line, that the images in it are generated."""

LAYOUTS = (
    "images/ + masks/ (or labels/, annotations/) with equal names; train/, val/, test/ with such folders in each; one "
    "folder with NAME.png + NAME_mask.png (or _seg, _label); a file for each class (masks/CLASS/NAME.png, "
    "NAME_CLASS.png) or each object (masks/NAME/*.png); a folder for each case with its channels and its mask; "
    "imagesTr/ + labelsTr/ of nnU-Net; a CSV of image,mask; files that hold both (.h5, .zarr, .npz); "
    "WFDB recordings with marks of waves beside them (7.hea, 7.dat, 7.ii) or annotations of all leads (100.atr); "
    "signals (EDF, CSV, Parquet) with their label inside, or a table of onset,duration,label beside them"
)


def discover(data: str | Path | Sequence[Sample], reading: Reading = AS_THEY_ARE) -> Discovery:
    """Understand a folder or a CSV as a set of images and masks (see LAYOUTS), or take a list of samples as one.

    Subfolders become part of the ids. reading: how the user wants the files to be read. Raises DataError: nothing
    there, no image, no pair (with examples of the names), ambiguous pairs; and as `read_samples`.
    """
    if not isinstance(data, str | Path):
        return read_samples(data)

    def read_so(cases: Sequence[Case]) -> tuple[Case, ...]:
        return tuple(dataclasses.replace(case, reading=reading) for case in cases)

    found = _discover(Path(data), reading)
    found = dataclasses.replace(found, cases=read_so(found.cases), unlabelled_cases=read_so(found.unlabelled_cases))
    return with_words(_with_names(found))


def _with_names(found: Discovery) -> Discovery:
    """Outlines and DICOM SEG say what their classes are called: the names of all files together, so that each has one
    value."""
    labels = [case.label for case in found.cases]
    segmented = [label for label in labels if isinstance(label, Path) and label.suffix.lower() == ".dcm"]
    if segmented and len(segmented) == len(labels) and not found.class_names:
        from unetkit.data.formats.medical import dicom_seg_read

        if all(dicom_seg_read.is_segmentation(label) for label in segmented):
            return dataclasses.replace(found, class_names=dicom_seg_read.class_names(segmented))
    outlines = [label for label in labels if isinstance(label, Path) and is_label_name(label) and is_vector(label)]
    if found.class_names or not outlines or len(outlines) < len(labels):
        return found
    return dataclasses.replace(found, class_names=class_names(outlines))


def _discover(path: Path, reading: Reading) -> Discovery:
    _exists(path)
    if is_image(path) and (found := from_containers(path.parent, [path])):
        return _marked(dataclasses.replace(found, root=path))
    if path.is_file():
        if not is_table(path) and (found := read_signals(path.parent, [path])):
            return _marked(dataclasses.replace(found, root=path))
        if path.suffix.lower() not in (".csv", ".tsv"):
            raise DataError(f"{path}: this is a file; give the folder of images and masks, or a CSV of image,mask")
        return _marked(read_table(path))
    tables = [p for p in sorted(path.iterdir()) if p.suffix.lower() in (".csv", ".tsv") and is_table(p)]
    if len(tables) == 1:
        return _marked(read_table(tables[0]))
    if headers := [p for p in walk(path) if p.suffix.lower() == ".hea"]:
        return _marked(read_recordings(path, headers, reading))
    if found := read_signals(path, list(files(path))):
        return _marked(found)
    named_folders = {p.name.casefold(): p for p in folders(path)}
    if "imagestr" in named_folders:
        return _marked(read_nnunet(path, named_folders))
    found = (
        _from_folders(path)
        or from_class_folders(path)
        or from_containers(path, list(walk(path)))
        or from_case_folders(path)
    )
    return _marked(found or _from_flat(path))


def images_of(path: str | Path) -> list[Path]:
    """The images that a file, a folder or a glob pattern means, in natural order; recordings by their headers.

    Of a folder: its own images (without the masks `NAME_mask.png` of images beside them), else those of its `images/`.
    Raises DataError: nothing there, no images.
    """
    target = Path(path)
    if target.is_file() or is_image(target) or split_address(target)[1]:
        return [target]
    if not target.exists() and glob.has_magic(str(path)):
        names = glob.glob(str(path), recursive=True)
        found = [Path(name) for name in names if is_image(Path(name)) or is_signal_table(Path(name))]
        if not found:
            raise DataError(f"{path}: no image matches this pattern; images are {readable()}")
        return sorted(found, key=lambda p: natural_key(str(p)))
    _exists(target)
    if own := signals_in(target):
        images, masks = split_flat(named(own, target))
        used = {
            path for name, image, mask in paired(images, masks).found for path in Case(name, (image,), mask).label_files
        }
        return [p for p in own if p not in used]
    inner = [f for f in folders(target) if folder_role(f.name) == ("images", "") or f.name.casefold() == "imagests"]
    for folder in inner:
        if found := signals_in(folder):
            return found
    holders = [f.name for f in folders(target) if image_paths(f)]
    where = f"; give one of its folders: {', '.join(holders[:5])}" if holders else f"; images are {readable()}"
    raise DataError(f"{target}: there are no images in this folder{where}")


def _from_folders(root: Path) -> Discovery | None:
    """Sibling folders of images and masks, anywhere below `root`; None where there are none."""
    siblings = list(_siblings(root))
    if not any(images and masks for _, images, masks in siblings):
        return None
    cases: list[Case] = []
    unlabelled: list[Case] = []
    orphans: list[Path] = []
    notes: list[str] = []
    examples: tuple[list[Path], list[Path]] = ([], [])
    shown = ""
    lone: list[tuple[str, list[Named], list[Named]]] = []
    for base, image_folder, mask_folder in siblings:
        images = named(walk(image_folder), image_folder) if image_folder else []
        masks = named(walk(mask_folder, label_paths), mask_folder) if mask_folder else []
        above = next(f.relative_to(root).parent.parts for f in (image_folder, mask_folder) if f)
        prefix = "/".join((*above, base) if base else above)
        pairs = paired(images, masks)
        if masks and len(images) == 1 and not pairs.found:
            lone.append((prefix, images, masks))
        else:
            new, left = _as_cases(pairs, prefix)
            cases += new
            unlabelled += left
            orphans += [m.path for m in pairs.masks]
        examples[0].extend(i.path for i in images)
        examples[1].extend(m.path for m in masks)
        if pairs.note:
            notes.append(pairs.note)
        if image_folder and mask_folder:
            shown = shown or f"{image_folder.name}/ + {mask_folder.name}/ paired by name"
    for prefix, pairs in _of_lone(lone):
        new, left = _as_cases(pairs, prefix)
        cases += new
        unlabelled += left
        orphans += [m.path for m in pairs.masks]
        notes += [pairs.note] if pairs.note else []
    notes = list(dict.fromkeys(notes))
    if not cases:
        raise _no_pair(root, *examples)
    splits = {case.split for case in cases} - {None}
    inside = f", in {', '.join(s for s in ('train', 'val', 'test') if s in splits)}" if splits else ""
    return make_discovery(root, shown + inside, cases, unlabelled, orphans, notes)


def _from_flat(root: Path) -> Discovery:
    """Images and masks beside each other, told apart by the ends of their names."""
    found = named(walk(root), root)
    outlines = named((p for p in files(root) if is_label_name(p)), root)
    if not found:
        others = Counter(suffix(p).lower() or p.name for p in files(root))
        seen = ", ".join(f"{n} × {suffix}" for suffix, n in others.most_common(3))
        what = f"no images in this folder, only {seen}" if others else "this folder is empty"
        raise DataError(f"{root}: {what}; images are {readable()}. Understood are: {LAYOUTS}")
    images, masks = split_flat(found)
    pairs = paired(images, masks or outlines)
    if not pairs.found:
        raise _no_pair(root, [i.path for i in images], [m.path for m in masks])
    cases, unlabelled = _as_cases(pairs, "")
    example = pairs.found[0]
    masks_of = [path.name for path in Case(example[0], (), example[2]).label_files]
    layout = f"one folder, masks told by their names ({' + '.join([example[1].name, *masks_of[:3]])})"
    notes = [pairs.note] if pairs.note else []
    return make_discovery(root, layout, cases, unlabelled, [m.path for m in pairs.masks], notes)


def _of_lone(lone: list[tuple[str, list[Named], list[Named]]]) -> list[tuple[str, Pairs]]:
    """Folders of one image with masks of other names: all together, where they have a family of masks each."""
    found = lone_images(lone)
    return [("", found)] if found else [(prefix, Pairs((), tuple(i), tuple(m))) for prefix, i, m in lone]


def _siblings(folder: Path) -> Iterator[tuple[str, Path | None, Path | None]]:
    """(base, image folder, mask folder) below `folder`: (\"\", images, masks), (\"train\", train, train_masks) …"""
    children = folders(folder)
    roles = {child: folder_role(child.name) for child in children}
    masks = _by_base(folder, [(roles[c][1], c) for c in children if roles[c][0] == "masks"], "masks")
    images = _by_base(folder, [(roles[c][1], c) for c in children if roles[c][0] == "images"], "images")
    for child in children:  # CamVid: train/ beside trainannot/; Carvana: train/ beside train_masks/
        role, base = roles[child]
        if not role and base in masks and base not in images:
            images[base] = child
    lone_images, lone_masks = sorted({*images} - {*masks}), sorted({*masks} - {*images})
    if len(images) == len(masks) == len(lone_images) == len(lone_masks) == 1:  # original_images/ + masks/
        images = {"": images[lone_images[0]]}
        masks = {"": masks[lone_masks[0]]}
    for base in sorted({*images, *masks}, key=natural_key):
        yield base, images.get(base), masks.get(base)
    for child in children:
        if child not in (*images.values(), *masks.values()):
            yield from _siblings(child)


def _by_base(folder: Path, found: list[tuple[str, Path]], what: str) -> dict[str, Path]:
    by_base: dict[str, Path] = {}
    for base, child in found:
        if base in by_base and any(True for _ in walk(child)):
            raise DataError(
                f"{folder}: two folders of {what}, {by_base[base].name} and {child.name}; move one away, or say in a "
                "CSV of image,mask which to use"
            )
        by_base[base] = child
    return by_base


def _as_cases(pairs: Pairs, prefix: str) -> tuple[list[Case], list[Case]]:
    """Cases of the pairs, and of the images that are left; ids begin with `prefix`, a split folder says the split."""

    def make(name: str, image: Path, mask: Annotation | None) -> Case:
        full = f"{prefix}/{name}" if prefix else name
        return Case(full, (image,), mask, None, split_of(full.split("/")[:-1]))

    names = Counter(i.name.casefold() for i in pairs.images) + Counter(name.casefold() for name, _, _ in pairs.found)

    def own_name(item: Named) -> str:
        return item.name if names[item.name.casefold()] == 1 else f"{item.name}{suffix(item.path)}"

    return [make(*found) for found in pairs.found], [make(own_name(i), i.path, None) for i in pairs.images]


def _marked(found: Discovery) -> Discovery:
    """Say that the images are synthetic where a file beside them, or in a folder above (train/images), says so."""
    root = found.root.absolute()
    for folder in (root, *list(root.parents)[:2]):
        if (folder / SYNTHETIC).is_file():
            first = (folder / SYNTHETIC).read_text(encoding="utf-8", errors="replace").strip().partition("\n")[0]
            return dataclasses.replace(found, synthetic=True, notes=(*found.notes, first or "the images are synthetic"))
    return found


def _no_pair(root: Path, images: list[Path], masks: list[Path]) -> DataError:
    def some(paths: list[Path], what: str) -> str:
        names = sorted((p.relative_to(root).as_posix() for p in paths), key=natural_key)[:2]
        return f"{len(paths)} {what}" + (f" ({', '.join(names)})" if names else "")

    seen = f"{some(images, 'images')}, {some(masks, 'masks')}"
    return DataError(f"{root}: no image pairs with a mask: {seen}. Understood are: {LAYOUTS}")


def _exists(path: Path) -> None:
    """Raise DataError, with the nearest name beside it, where there is nothing."""
    if path.exists():
        return
    above = path.absolute()
    while not above.parent.is_dir():
        above = above.parent
    hint = nearest(above.name, os.listdir(above.parent))
    raise DataError(f"{path}: there is no such file or folder{hint or f' (in {above.parent})'}")
