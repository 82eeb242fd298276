"""A mask in several files, read by region as one: a file for each class, which may overlap, or one for each object."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.case import UNLABELLED, ClassFiles, ObjectFiles
from unetkit.data.formats import AS_THEY_ARE, ImageInfo, Reading, suffix, suffixes
from unetkit.data.labels.legend import UNANNOTATED, pack
from unetkit.data.labels.mask_files import Array, MaskReader, array_mask, open_mask_file, whole_numbers
from unetkit.data.labels.parts import MOST_PARTS, empty_bits, with_unannotated
from unetkit.data.sizes import extent, size

SOFT = 0.9  # of the pixels of a file with soft edges, at least this share is 0 or 255


def open_class_files(
    label: ClassFiles, where: Path, reading: Reading = AS_THEY_ARE, over: ImageInfo | None = None
) -> MaskReader:
    """The files (or arrays) of all classes as one open mask: bit masks of its `parts`.

    A pixel belongs to a class where its file is not 0; in a file with soft edges (0 … 255) from 128 on. `UNANNOTATED`
    where the file of what is not annotated is not 0, and where any file is NaN.
    Raises DataError: files of different sizes, too many, unreadable ones.
    """
    if len(label.files) > MOST_PARTS:
        raise DataError(f"{where}: a mask in {len(label.files)} files, one per class; there can be {MOST_PARTS}")
    names = tuple(name for name, _ in label.files if name.casefold() not in UNLABELLED)
    with contextlib.ExitStack() as files:
        readers = []
        for name, source in label.files:
            whole = open_mask_file(source, reading, over) if isinstance(source, Path) else array_mask(source, where)
            readers.append((name, files.enter_context(whole)))
        first = readers[0][1]
        for name, reader in readers:
            if reader.shape != first.shape:
                raise DataError(
                    f"{reader.where}: {extent(reader.shape)}, but {first.where} of the same image has "
                    f"{size(first.shape)}; the masks of all classes must have one size"
                )
            if reader.parts:
                raise DataError(f"{reader.where}: the mask of the class '{name}' alone has one channel, not several")
        limits = [_limit(reader) for _, reader in readers]
        owned = files.pop_all()

    def pixels(region: Region) -> tuple[Array, int]:
        bits = empty_bits(region.shape, len(names))
        nowhere = np.zeros(region.shape, bool)
        fractional = 0
        for (name, reader), limit in zip(readers, limits, strict=True):
            mask = reader.read(region)
            raw_X = pack(mask.array) if mask.coloured else mask.array
            fractional = max(fractional, mask.fractional)
            inside: NDArray[np.bool_] = raw_X > limit if limit else (raw_X != 0) & (raw_X != UNANNOTATED)
            if name in names:
                bits[inside] |= bits.dtype.type(1 << names.index(name))
            else:
                nowhere |= inside
            nowhere |= raw_X == UNANNOTATED
        return with_unannotated(bits, nowhere), fractional

    notes = tuple(dict.fromkeys(note for _, reader in readers for note in reader.notes))
    return MaskReader(where, first.shape, pixels, info=first.info, notes=notes, parts=names, files=owned)


def open_object_files(label: ObjectFiles, where: Path, reading: Reading = AS_THEY_ARE) -> MaskReader:
    """The files of all objects as one mask of their numbers, in the order of the files; it is held in memory.

    Where two objects overlap, the smaller one has the pixels. Raises DataError: files of different sizes, unreadable.
    """
    objects: list[tuple[int, int, Path]] = []
    first: MaskReader | None = None
    for number, path in enumerate(label.files, start=1):
        with open_mask_file(path, reading) as reader:
            first = first or reader
            if reader.shape != first.shape:
                raise DataError(
                    f"{path}: {extent(reader.shape)}, but {first.where.name} of the same image has "
                    f"{size(first.shape)}; the masks of all objects must have one size"
                )
            objects.append((sum(int(_inside(reader, r).sum()) for r in reader.blocks()), number, path))
    if first is None:
        raise ValueError(f"{where}: a mask of no files")
    ids_X = np.zeros(first.shape, np.uint16 if len(objects) < 1 << 16 else np.int32)
    shared = 0
    for _, number, path in sorted(objects, reverse=True):
        with open_mask_file(path, reading) as reader:
            for region in reader.blocks():
                inside, part = _inside(reader, region), ids_X[region.slices]
                shared += int(np.count_nonzero(part[inside]))
                part[inside] = number
    notes = list(dict.fromkeys(first.notes))
    if shared:
        notes.append(f"objects overlap on {shared} pixels, which the smaller of them have")
    if empty := [path.name for area, _, path in objects if not area]:
        notes.append(f"{len(empty)} object file{'s hold' if len(empty) > 1 else ' holds'} nothing: {empty[0]}")

    def pixels(region: Region) -> tuple[Array, int]:
        return whole_numbers(ids_X[region.slices], where)

    return MaskReader(where, ids_X.shape, pixels, info=first.info, notes=tuple(notes), objects=True)


def _inside(reader: MaskReader, region: Region) -> NDArray[np.bool_]:
    mask = reader.read(region)
    raw_X = pack(mask.array) if mask.coloured else mask.array
    inside: NDArray[np.bool_] = (raw_X != 0) & (raw_X != UNANNOTATED)
    return inside


def _limit(reader: MaskReader) -> int:
    """The value above which a pixel of a picture with soft edges (or JPEG damage) belongs to its class; 0: any does."""
    path = reader.where
    if reader.coloured or reader.info is None or reader.info.dtype != "uint8":
        return 0
    if suffix(path).lower() not in suffixes("image"):
        return 0
    counts = np.zeros(256, np.int64)
    for region in reader.blocks():
        counts += np.bincount(reader.read(region).array.reshape(-1), minlength=256)
    soft = np.count_nonzero(counts) > 2 and counts[250:].sum() > 0
    return 127 if soft and counts[:6].sum() + counts[250:].sum() >= SOFT * counts.sum() else 0
