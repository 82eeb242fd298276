"""Which cases train and which validate, so that nothing leaks: what belongs together stays on one side.

The split is a small CSV that a person may edit: case, split, group, image, mask.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError, nearest
from unetkit.core.files import write_text
from unetkit.core.rng import numpy_generator
from unetkit.data.case import Case
from unetkit.data.groups import Groups

SIDES = ("train", "val", "test")
COLUMNS = ("case", "split", "group", "image", "mask")
TRIES = 200


@dataclass(frozen=True)
class Split:
    """Case ids of each side, in the order of the set; why they are there; the group of each case that has one."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()
    reason: str = ""
    groups: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, case: str) -> str:
        """ "train", "val" or "test". Raises KeyError for a case that is not in the split."""
        for name in SIDES:
            if case in getattr(self, name):
                return name
        raise KeyError(case)


def split_cases(
    cases: Sequence[Case],
    groups: Groups,
    label_counts: Mapping[str, Sequence[int]],
    seed: int,
    fraction: float = 0.2,
    hashes: Mapping[str, str] | None = None,
) -> Split:
    """Divide cases into training and validation.

    A split that the user gave is kept; where it has no validation, that is drawn from the training cases. Else whole
    groups, and copies (equal `hashes` of their pixels), go to one side; a stack gives one contiguous block. Of several
    draws the one is taken whose classes (presence and pixels, `label_counts` by case) are most like the set's.
    About `fraction` of the cases validate, at least one where there are two cases that may be parted. Deterministic.
    """
    split = _split(cases, groups, label_counts, seed, fraction, hashes or {})
    return replace(split, groups=MappingProxyType({c.id: groups.of[c.id] for c in cases if c.id in groups.of}))


def _split(
    cases: Sequence[Case],
    groups: Groups,
    label_counts: Mapping[str, Sequence[int]],
    seed: int,
    fraction: float,
    hashes: Mapping[str, str],
) -> Split:
    given = {case.id: case.split for case in cases if case.split is not None}
    test = tuple(case.id for case in cases if given.get(case.id) == "test")
    if "val" in given.values():
        train = tuple(case.id for case in cases if given.get(case.id, "train") == "train")
        val = tuple(case.id for case in cases if given.get(case.id) == "val")
        return Split(train, val, test, "as the data gives it")
    ids = [case.id for case in cases if case.id not in test]
    units = _units(ids, groups, hashes)
    reason, copies = groups.reason, len(ids) - len(_units(ids, Groups(), hashes))
    if len(ids) < 2:
        return Split(tuple(ids), (), test, "there is one case only: nothing can validate what is learned from it")
    features = _features(units, label_counts)
    sizes = np.array([len(unit) for unit in units])
    target = max(1, round(fraction * len(ids)))
    if len(units) == 1:
        parts = _units(ids, Groups(), hashes)
        whole = {groups.of.get(i) for i in ids}
        if len(parts) == 1:
            return Split(tuple(ids), (), test, "all images are copies of one: nothing can validate what is learned")
        if len(whole) > 1 or None in whole:
            why = "copies of images tie all groups together: nothing can validate what is learned; remove the copies"
            return Split(tuple(ids), (), test, why)
        chosen: list[str] = []
        while len(chosen) < target and len(parts) > 1:
            chosen = parts.pop() + chosen
        why = (
            f"all cases are one group ({whole.pop()}): the last {len(chosen)} validate, and their scores will flatter; "
            "add cases of another group"
        )
    elif groups.ordered:
        chosen = _block(units, sizes, features, target, seed)
        why = f"{reason}, so that one contiguous block validates ({chosen[0]} … {chosen[-1]})"
    else:
        chosen = _draw(units, sizes, features, target, seed)
        whole_groups = "whole groups are kept together: " if groups.of else ""
        why = f"{whole_groups}{reason}; drawn with seed {seed} so that both sides hold the classes in like shares"
    if copies and len(units) > 1:
        one = copies == 1
        why += f"; {copies} cop{'y' if one else 'ies'} of other images stay{'s' * one} on the side of the original"
    if test:
        why = f"test as the data gives it; of the rest, {why}"
    val_set = set(chosen)
    return Split(tuple(i for i in ids if i not in val_set), tuple(i for i in ids if i in val_set), test, why)


def leaks(split: Split, groups: Groups, hashes: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Sentences that name what is on two sides: groups, and equal images. Empty for every split made here."""
    found = []
    for kind, of in (("group", groups.of), ("image", hashes or {})):
        sides: dict[str, dict[str, str]] = defaultdict(dict)
        for name in SIDES:
            for case in getattr(split, name):
                if case in of:
                    sides[of[case]].setdefault(name, case)
        for key, cases in sides.items():
            if len(cases) > 1:
                where = " and ".join(f"{name} ({case})" for name, case in cases.items())
                found.append(f"the group '{key}' is in {where}" if kind == "group" else f"the same image is in {where}")
    return tuple(found)


def write_split(path: Path, cases: Iterable[Case], split: Split) -> None:
    """Write the CSV, atomically; channel files of one image are joined by `;`. Raises MachineError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for case in cases:
        images = ";".join(str(source if isinstance(source, Path) else case.where) for source in case.images)
        mask = "" if case.label is None else case.mask_where
        writer.writerow([case.id, split.of(case.id), split.groups.get(case.id, ""), images, mask])
    write_text(path, text.getvalue())


def read_split(path: Path, cases: Sequence[Case]) -> Split:
    """Read a split, perhaps edited by hand, for these cases; the columns `case` and `split` count, and `group`.

    Raises DataError, with the line: no such file, a missing column, an unknown case or side, a case twice or absent, no
    training case.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; leave it out, and the cases are split anew") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error}); save it as a CSV in UTF-8") from None
    rows = csv.DictReader(io.StringIO(lines))
    columns = rows.fieldnames or []
    for needed in COLUMNS[:2]:
        if needed not in columns:
            raise DataError(
                f"{path}: the column '{needed}' is missing{nearest(needed, columns)}; needed are case and split"
            )
    ids = [case.id for case in cases]
    known, sides, groups = set(ids), dict[str, str](), dict[str, str]()
    for row in rows:
        case, side = (row["case"] or "").strip(), (row["split"] or "").strip().lower()
        where = f"{path}, line {rows.line_num}"
        if case not in known:
            raise DataError(f"{where}: there is no case '{case}' in the data{nearest(case, ids)}; remove the line")
        if case in sides:
            raise DataError(f"{where}: the case '{case}' stands there a second time; remove one of the lines")
        if side not in SIDES:
            raise DataError(f"{where}: the split '{side}' is none of {', '.join(SIDES)}{nearest(side, SIDES)}")
        sides[case] = side
        if group := (row.get("group") or "").strip():
            groups[case] = group
    if missing := [i for i in ids if i not in sides]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"{path}: the case '{missing[0]}'{more} of the data is missing; add a line with its side for each"
        )
    of = {name: tuple(i for i in ids if sides[i] == name) for name in SIDES}
    if not of["train"]:
        raise DataError(f"{path}: no case is on the side 'train'; put train into the column split for some")
    return Split(of["train"], of["val"], of["test"], f"as {Path(path).name} gives it", MappingProxyType(groups))


def _units(ids: Sequence[str], groups: Groups, hashes: Mapping[str, str]) -> list[list[str]]:
    """Cases that must stay together, directly or through others (a copy may tie two groups), in order of appearance."""
    parent = {i: i for i in ids}

    def root(i: str) -> str:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for of in (groups.of, hashes):
        first: dict[str, str] = {}
        for i in ids:
            if i in of:
                parent[root(i)] = root(first.setdefault(of[i], i))
    together: dict[str, list[str]] = {}
    for i in ids:
        together.setdefault(root(i), []).append(i)
    return list(together.values())


def _features(units: Sequence[Sequence[str]], label_counts: Mapping[str, Sequence[int]]) -> NDArray[np.float64]:
    """Per unit: cases that hold each class, and the share of each class in their pixels, summed: (U, 2·K)."""
    classes = max((len(counts) for counts in label_counts.values()), default=0)
    rows = np.zeros((len(units), 2 * classes))
    for row, unit in zip(rows, units, strict=True):
        for case in unit:
            counts = np.asarray(label_counts.get(case, (0,) * classes), float)
            row[:classes] += counts > 0
            row[classes:] += counts / max(1, counts.sum())
    return rows


def _unlikeness(
    chosen: NDArray[np.bool_], sizes: NDArray[np.int64], features: NDArray[np.float64], target: int
) -> float:
    """0 for a validation side of the wanted size whose classes are exactly as in the set; a class that one side lacks,
    although both could have it, weighs most."""
    n, total = int(sizes[chosen].sum()), features.sum(0)
    expected = total * n / sizes.sum()
    part = features[chosen].sum(0)
    differ = float((np.abs(part - expected) / np.maximum(total, 1e-9))[total > 0].sum()) / max(1, len(total) // 2)
    presence = len(total) // 2
    could = (features[:, :presence] > 0).sum(0) > 1
    lacks = could & ((part[:presence] == 0) | (part[:presence] == total[:presence]))
    return differ + 2.0 * int(lacks.sum()) + 2.0 * abs(n - target) / int(sizes.sum())


def _draw(
    units: Sequence[Sequence[str]], sizes: NDArray[np.int64], features: NDArray[np.float64], target: int, seed: int
) -> list[str]:
    """The most alike of several random draws of whole units."""
    random = numpy_generator(seed, "split")
    best, least = np.zeros(len(units), bool), np.inf
    for _ in range(max(20, min(TRIES, 200_000 // len(units)))):
        chosen, n = np.zeros(len(units), bool), 0
        for k in random.permutation(len(units)):
            # half a unit too many is nearer to the target than half a unit too few
            if n == 0 or abs(n + sizes[k] - target) <= abs(n - target):
                chosen[k], n = True, n + int(sizes[k])
            if n >= target:
                break
        if chosen.all():
            chosen[random.integers(len(units))] = False
        if (value := _unlikeness(chosen, sizes, features, target)) < least:
            best, least = chosen, value
    return [i for unit, c in zip(units, best, strict=True) if c for i in unit]


def _block(
    units: Sequence[Sequence[str]], sizes: NDArray[np.int64], features: NDArray[np.float64], target: int, seed: int
) -> list[str]:
    """Neighbouring units from one of several seeded places: the place whose classes are most alike."""
    random = numpy_generator(seed, "block")
    best, least = np.zeros(len(units), bool), np.inf
    for start in random.permutation(len(units))[: max(1, len(units) // 2)]:
        stop = int(start)
        while stop < len(units) and sizes[start:stop].sum() < target:
            stop += 1
        chosen = np.zeros(len(units), bool)
        chosen[start:stop] = True
        if chosen.all():
            chosen[start] = False
        if (value := _unlikeness(chosen, sizes, features, target)) < least:
            best, least = chosen, value
    return [i for unit, c in zip(units, best, strict=True) if c for i in unit]
