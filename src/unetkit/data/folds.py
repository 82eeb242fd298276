"""Cases divided into folds, of which each validates what is learnt from the others; what belongs together stays so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError
from unetkit.core.rng import numpy_generator
from unetkit.data.case import Case
from unetkit.data.groups import Groups
from unetkit.data.split import TRIES, Split
from unetkit.data.units import features_of, units_of, unlikeness


def fold_cases(
    cases: Sequence[Case],
    groups: Groups,
    label_counts: Mapping[str, Sequence[int]],
    seed: int,
    folds: int,
    hashes: Mapping[str, str] | None = None,
) -> Split:
    """Divide cases into `folds` parts of about equal size, or into as many as there are units that may be parted.

    Whole groups, and copies (equal `hashes` of their pixels), stay in one fold; a stack gives contiguous blocks. Of
    several draws the one is taken in which the classes (presence and pixels, `label_counts` by case) of every fold are
    most like the set's. Cases that the data hold out for a test are in none. Deterministic.

    Raises DataError: the data give who validates; there is nothing that may be parted.
    """
    hashes = hashes or {}
    _refuse_given(cases, folds)
    test = tuple(case.id for case in cases if case.split == "test")
    ids = [case.id for case in cases if case.split != "test"]
    units, contiguous, why = _units(ids, groups, hashes)
    if len(units) < 2:
        what = "there is one case only" if len(ids) < 2 else "copies of images tie all cases together"
        raise DataError(f"--folds {folds}: {what}, so that nothing can be parted; leave --folds out")
    count = min(folds, len(units))
    sizes, features = np.array([len(unit) for unit in units]), features_of(units, label_counts)
    if contiguous:
        of_unit = _blocks(sizes, count)
        why += "; each fold is a contiguous block"
    else:
        of_unit = _draw(sizes, features, count, seed)
        kept = "whole groups are kept together: " if groups.of else ""
        why = f"{kept}{why}; drawn with seed {seed} so that every fold holds the classes in like shares"
    if count < folds:
        why += f"; {folds} folds were asked for, and there are {count} parts that may be in different ones"
    if copies := len(ids) - len(units_of(ids, Groups(), hashes)):
        why += f"; {copies} cop{'y is' if copies == 1 else 'ies are'} in the fold of the original"
    fold_of = {i: int(fold) + 1 for unit, fold in zip(units, of_unit, strict=True) for i in unit}
    in_order = MappingProxyType({i: fold_of[i] for i in ids})
    of_case = MappingProxyType({i: groups.of[i] for i in (*ids, *test) if i in groups.of})
    reason = f"test as the data gives it; of the rest, {why}" if test else why
    return Split(tuple(ids), (), test, reason, of_case, in_order)


def most_folds(cases: Sequence[Case], groups: Groups, hashes: Mapping[str, str]) -> int:
    """How many folds there can be; 1 where nothing can be parted, or the data give who validates."""
    if any(case.split == "val" for case in cases):
        return 1
    return max(1, len(_units([case.id for case in cases if case.split != "test"], groups, hashes)[0]))


def _units(ids: Sequence[str], groups: Groups, hashes: Mapping[str, str]) -> tuple[list[list[str]], bool, str]:
    """The parts that may be in different folds, whether neighbours shall be in the same, and why."""
    units, whole = units_of(ids, groups, hashes), {groups.of.get(i) for i in ids}
    if len(units) == 1 and len(whole) == 1 and None not in whole:
        why = f"all cases are one group ({whole.pop()}), and scores will flatter; add cases of another group"
        return units_of(ids, Groups(), hashes), True, why
    return units, groups.ordered, groups.reason


def _refuse_given(cases: Sequence[Case], folds: int) -> None:
    given = [case.id for case in cases if case.split == "val"]
    if given:
        raise DataError(
            f"--folds {folds}: the data give who validates ({len(given)} case{'s' * (len(given) != 1)}, such as"
            f" '{given[0]}'); leave --folds out, or give all cases as training"
        )


def _blocks(sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The fold of each unit: neighbours together, cut where the sizes are most nearly equal."""
    ends, cuts = np.cumsum(sizes), [0]
    for k in range(1, count):
        first, last = cuts[-1] + 1, len(sizes) - (count - k)
        cuts.append(first + int(np.argmin(np.abs(ends[first - 1 : last] - ends[-1] * k / count))))
    return np.searchsorted(cuts, np.arange(len(sizes)), side="right") - 1


def _draw(sizes: NDArray[np.int64], features: NDArray[np.float64], count: int, seed: int) -> NDArray[np.int64]:
    """The fold of each unit, in the most alike of several random draws: the largest units first, each to the fold
    that is smallest by then."""
    random = numpy_generator(seed, "folds")
    best, least = np.zeros(len(sizes), np.int64), np.inf
    for _ in range(max(20, min(TRIES, 200_000 // len(sizes)))):
        order = random.permutation(len(sizes))
        of_unit, held = np.zeros(len(sizes), np.int64), np.zeros(count, np.int64)
        for k in order[np.argsort(-sizes[order], kind="stable")]:
            of_unit[k] = held.argmin()
            held[of_unit[k]] += sizes[k]
        target = float(sizes.sum()) / count
        value = sum(unlikeness(of_unit == fold, sizes, features, target) for fold in range(count))
        if value < least:
            best, least = of_unit, value
    return best
