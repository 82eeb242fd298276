"""Which cases train and which validate, so that nothing leaks: what belongs together stays on one side.

The split is a small CSV that a person may edit: case, split, group, image, mask; of a run in folds also fold.
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
from unetkit.data.units import features_of, units_of, unlikeness

SIDES = ("train", "val", "test")
COLUMNS = ("case", "split", "group", "image", "mask")
FOLD = "fold"
TRIES = 200


@dataclass(frozen=True)
class Split:
    """Case ids of each side, in the order of the set; why they are there; the group of each case that has one.

    folds: of a set in folds, which has no validation side, the number (from 1) of the fold that each training case
    validates; `fold` gives the split of one of them.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()
    reason: str = ""
    groups: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    folds: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def count(self) -> int:
        """Number of folds; 1: there are none."""
        return max(self.folds.values(), default=1)

    def fold(self, number: int) -> Split:
        """The split of one fold, 1 … `count`: its own cases validate what is learnt from the others."""
        train = tuple(i for i in self.train if self.folds[i] != number)
        val = tuple(i for i in self.train if self.folds[i] == number)
        return Split(train, val, self.test, f"fold {number} of {self.count}: {self.reason}", self.groups)

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
    units = units_of(ids, groups, hashes)
    reason, copies = groups.reason, len(ids) - len(units_of(ids, Groups(), hashes))
    if len(ids) < 2:
        return Split(tuple(ids), (), test, "there is one case only: nothing can validate what is learned from it")
    features = features_of(units, label_counts)
    sizes = np.array([len(unit) for unit in units])
    target = max(1, round(fraction * len(ids)))
    if len(units) == 1:
        parts = units_of(ids, Groups(), hashes)
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
    writer.writerow([*COLUMNS, *([FOLD] if split.folds else [])])
    for case in cases:
        images = ";".join(str(source if isinstance(source, Path) else case.where) for source in case.images)
        mask = "" if case.label is None else case.mask_where
        fold = [split.folds.get(case.id, "")] if split.folds else []
        writer.writerow([case.id, split.of(case.id), split.groups.get(case.id, ""), images, mask, *fold])
    write_text(path, text.getvalue())


def read_split(path: Path, cases: Sequence[Case]) -> Split:
    """Read a split, perhaps edited by hand, for these cases; the columns `case` and `split` count, `group` and `fold`.

    Raises DataError, with the line: no such file, a missing column, an unknown case or side, a case twice or absent, no
    training case; a training case without a fold where others have one, a fold without a case.
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
    known, sides, groups, folds = set(ids), dict[str, str](), dict[str, str](), dict[str, int]()
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
        if fold := (row.get(FOLD) or "").strip():
            if not fold.isdecimal() or fold == "0" or side != "train":
                raise DataError(f"{where}: the fold '{fold}' must be a whole number from 1 on, of a case in 'train'")
            folds[case] = int(fold)
    if missing := [i for i in ids if i not in sides]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"{path}: the case '{missing[0]}'{more} of the data is missing; add a line with its side for each"
        )
    of = {name: tuple(i for i in ids if sides[i] == name) for name in SIDES}
    if not of["train"]:
        raise DataError(f"{path}: no case is on the side 'train'; put train into the column split for some")
    _check_folds(path, of["train"], folds)
    why, own = f"as {Path(path).name} gives it", MappingProxyType(groups)
    return Split(of["train"], of["val"], of["test"], why, own, MappingProxyType(folds))


def _check_folds(path: Path, train: Sequence[str], folds: Mapping[str, int]) -> None:
    if not folds:
        return
    if without := [i for i in train if i not in folds]:
        raise DataError(f"{path}: the case '{without[0]}' has no fold, as others have; give it one, or none to any")
    numbers = set(folds.values())
    if empty := [k for k in range(1, max(2, *numbers) + 1) if k not in numbers]:
        raise DataError(f"{path}: no case is in fold {empty[0]}; number the folds 1, 2, 3 … without a gap")


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
        if (value := unlikeness(chosen, sizes, features, target)) < least:
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
        if (value := unlikeness(chosen, sizes, features, target)) < least:
            best, least = chosen, value
    return [i for unit, c in zip(units, best, strict=True) if c for i in unit]
