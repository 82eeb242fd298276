"""A CSV of image,mask,group,split: paths relative to the CSV's own folder, into files too (`volumes.h5/raw`).

Channels in files of their own have a column each: image,image2,image3,mask.
"""

from __future__ import annotations

import csv
import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from unetkit.core.errors import DataError, nearest
from unetkit.data.case import Case, Discovery
from unetkit.data.find.pairs import SPLITS
from unetkit.data.formats import natural_key, split_address, stem

_COLUMNS = {
    "image": ("image", "images", "image_path", "img"),
    "mask": ("mask", "masks", "mask_path", "label", "labels", "label_path", "annotation"),
    "group": ("group", "patient", "subject"),
    "split": ("split",),
}


_FURTHER = re.compile(r"(?:image|img|channel)[_ ]?\d+")
"""Columns of further channels: image2, image_3, channel 4."""


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    images: tuple[Path, ...]
    mask: Path | None
    group: str | None
    split: str | None


def read_table(path: Path) -> Discovery:
    """The cases of a CSV (comma, semicolon or tab). A row without a mask is an unlabelled image.

    Raises DataError: not text, no image or mask column, a column that is a slip of the pen, a file that is not there, a
    split that is none, an image twice.
    """
    header, lines = _read(path)
    columns, notes = _columns(path, header)
    further = sorted((name for name in columns if name not in _COLUMNS), key=natural_key)
    rows, missing = [], []
    for number, values in lines:
        cells = {name: values[i].strip() if i < len(values) else "" for name, i in columns.items()}
        if not cells["image"]:
            raise DataError(
                f"{path}, line {number}: no image is named; fill in the column '{header[columns['image']]}'"
            )
        images = [path.parent / cells["image"]]
        for name in further:
            if not cells[name]:
                raise DataError(f"{path}, line {number}: no file is named in the column '{header[columns[name]]}'")
            images.append(path.parent / cells[name])
        mask = path.parent / cells["mask"] if cells["mask"] else None
        missing += [(number, p) for p in (*images, mask) if p is not None and not split_address(p)[0].exists()]
        split = _split(path, number, cells.get("split", ""))
        rows.append(_Row(number, tuple(images), mask, cells.get("group") or None, split))
    if missing:
        number, file = missing[0]
        names = [p.name for p in file.parent.iterdir()] if file.parent.is_dir() else []
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(
            f"{path}, line {number}: there is no file {file}{more}{nearest(file.name, names)}; paths are relative to "
            "the folder of the CSV"
        )
    return _discovery(path, rows, notes)


def is_table(path: Path) -> bool:
    """Whether the first line of a CSV names an image and a mask column."""
    try:
        header, _ = _read(path)
    except DataError:
        return False
    names = {name.strip().casefold() for name in header}
    return all(names & set(_COLUMNS[column]) for column in ("image", "mask"))


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: this is not a text file in UTF-8; save the table as CSV (UTF-8)") from None
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    try:
        table = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: this is not a CSV ({error})") from None
    if not table:
        raise DataError(f"{path}: the table is empty; its first line must be image,mask (and group,split where known)")
    return table[0][1], table[1:]


def _columns(path: Path, header: list[str]) -> tuple[dict[str, int], list[str]]:
    """Index of each known column, and a note on the others. Raises DataError for a missing or misspelt one."""
    names = [name.strip().casefold() for name in header]
    columns: dict[str, int] = {}
    for column, known in _COLUMNS.items():
        places = [i for i, name in enumerate(names) if name in known]
        if len(places) > 1:
            raise DataError(
                f"{path}: two columns for the {column}: '{header[places[0]]}' and '{header[places[1]]}'; keep one"
            )
        if places:
            columns[column] = places[0]
    for i, name in enumerate(names):
        if _FURTHER.fullmatch(name):
            columns[name] = i
    others = [header[i] for i in range(len(names)) if i not in columns.values() and names[i]]
    absent = [column for column in _COLUMNS if column not in columns]
    for name in others:
        if close := difflib.get_close_matches(name.strip().casefold(), absent, n=1, cutoff=0.7):
            raise DataError(f"{path}: there is no column '{name.strip()}'; did you mean '{close[0]}'?")
    for column in ("image", "mask"):
        if column in absent:
            raise DataError(
                f"{path}: the column '{column}' is missing (its columns are {', '.join(header)}); the first line must "
                "be image,mask (and group,split where known)"
            )
    return columns, [f"columns of {path.name} that are not used: {', '.join(others)}"] if others else []


def _split(path: Path, line: int, text: str) -> str | None:
    if not text:
        return None
    if text.casefold() not in SPLITS:
        hint = nearest(text.casefold(), SPLITS)
        raise DataError(f"{path}, line {line}: the split '{text}' is none of train, val, test{hint}")
    return SPLITS[text.casefold()]


def _discovery(path: Path, rows: list[_Row], notes: list[str]) -> Discovery:
    seen: dict[Path, int] = {}
    for row in rows:
        if (first := seen.setdefault(row.images[0].resolve(), row.line)) != row.line:
            raise DataError(
                f"{path}, line {row.line}: the image {row.images[0].name} is named before, in line {first}; keep one"
            )
    if not any(row.mask for row in rows):
        raise DataError(f"{path}: none of the {len(rows)} rows names a mask; fill in the column of masks")
    cases = [
        Case(name, row.images, row.mask, row.group, row.split)
        for name, row in zip(_ids([row.images[0] for row in rows]), rows, strict=True)
    ]
    cases.sort(key=lambda case: natural_key(case.id))
    return Discovery(
        root=path,
        layout=f"a table of image,mask ({path.name})",
        cases=tuple(case for case in cases if case.label is not None),
        unlabelled_cases=tuple(case for case in cases if case.label is None),
        notes=tuple(notes),
    )


def _ids(paths: list[Path]) -> list[str]:
    """Paths without suffix and without the folders that all share; with the suffix where else two would be equal."""
    parts = [path.absolute().parts for path in paths]
    shared = 0
    while all(len(p) > shared + 1 for p in parts) and len({p[shared] for p in parts}) == 1:
        shared += 1
    short = ["/".join((*p[shared:-1], stem(Path(p[-1])))) for p in parts]
    counts = {name.casefold(): 0 for name in short}
    for name in short:
        counts[name.casefold()] += 1
    return ["/".join(p[shared:]) if counts[s.casefold()] > 1 else s for s, p in zip(short, parts, strict=True)]
