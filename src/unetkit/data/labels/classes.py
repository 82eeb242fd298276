"""Which values of the masks are classes, and which are damage: the rules, on pooled histograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from unetkit.core.errors import DataError, PlanError
from unetkit.data.labels.legend import MOST_CLASSES, Ints, Value, code, percent, show, unpack
from unetkit.data.labels.mask_facts import MaskFacts

RARE = 0.001  # a value on less than this share of all pixels may be damage
FEW_PIXELS = 50  # … but not where it fills areas of this many pixels in all
SOLID = 0.25  # share of a value's pixels inside areas, from which on it counts as filling areas
SMALL_CODES = 64  # values below are codes that people number classes with; soft edges run over a wider range
MANY_VALUES = 16
NEAR = 12  # JPEG shifts flat areas by a few grey levels
NEAR_COLOURS = 24
SAME = 4  # 127 and 128 are the same class if no mask holds both
NOT_A_MASK = 0.3  # of a mask's pixels, at least this share has exactly a class value, damaged or not


@dataclass(frozen=True)
class Pooled:
    """Values (colours packed) of all masks together, without the ignore value: pixels of each, and solid pixels."""

    coloured: bool
    values: Ints
    counts: Ints
    solid: Ints
    ignore_value: Value | None
    ignore: int

    @property
    def total(self) -> int:
        """Labelled pixels."""
        return int(self.counts.sum())

    def share(self, value: Value) -> float:
        """Share of the labelled pixels that have exactly this value."""
        return float(self.counts[self.values == code(value)].sum()) / max(1, self.total)

    def of(self, groups: Sequence[tuple[int, ...]]) -> list[int]:
        """Pixels of each group of values."""
        return [int(self.counts[np.isin(self.values, group)].sum()) for group in groups]


def pool(facts: Sequence[MaskFacts], ignore: Value | None) -> Pooled:
    """Add up the histograms. Grey masks among coloured ones are read as grey colours.

    Raises DataError: coloured masks beside masks whose values are no 8-bit greys.
    Raises PlanError: an ignore value that such masks cannot have.
    """
    coloured = any(f.coloured for f in facts)
    if isinstance(ignore, tuple) and not coloured:
        raise PlanError(f"--ignore {show(ignore)}: the masks hold numbers, not colours; say which number")
    if coloured and isinstance(ignore, int):
        if not 0 <= ignore <= 255:
            raise PlanError(
                f"--ignore {ignore}: the masks are coloured; give a colour such as #ffffff, or a grey 0 … 255"
            )
        ignore = (ignore,) * 3
    ignored = -(2**40) if ignore is None else code(ignore)
    parts = []
    for f in facts:
        values = f.values
        if coloured and not f.coloured:
            if len(values) and (values[0] < 0 or values[-1] > 255):
                other = next(g.path for g in facts if g.coloured)
                raise DataError(
                    f"{f.path}: the mask has values up to {values[-1]}, while {other.name} is coloured; save all masks "
                    "in one way"
                )
            values = values * 0x010101
        parts.append(values)
    values, inverse = np.unique(np.concatenate(parts), return_inverse=True)
    counts, solid = np.zeros(len(values), np.int64), np.zeros(len(values), np.int64)
    np.add.at(counts, inverse, np.concatenate([f.counts for f in facts]))
    np.add.at(solid, inverse, np.concatenate([f.solid for f in facts]))
    keep = values != ignored
    return Pooled(coloured, values[keep], counts[keep], solid[keep], ignore, ignored)


def instances_reason(facts: Sequence[MaskFacts], pooled: Pooled) -> str:
    """Why the masks hold instance numbers (every object its own number), or an empty text where they do not.

    Every value but 0 is (almost) one connected area; and there are many of them, or their number differs from mask to
    mask while they always run from 1 on (colours: differ from mask to mask).
    """
    if any(f.objects for f in facts):
        return "each object has a file of its own; 0 is background, every number an object of one class"
    several = [f for f in facts if f.blobs is not None]
    own = [f.values[(f.values != 0) & (f.values != pooled.ignore)] for f in facts]
    numbers = [len(v) for v in own]
    if not several or 0 not in pooled.values or pooled.values[0] < 0:
        return ""
    areas, ids = sum(f.blobs or 0 for f in several), sum(int(np.count_nonzero(f.values)) for f in several)
    if areas > 1.5 * ids:
        return ""
    most = max(numbers)
    if pooled.coloured:
        differ = len(pooled.values) - 1 > 1.5 * most
    else:
        from_one = sum(n == 0 or int(v[-1]) == n for v, n in zip(own, numbers, strict=True))
        differ = len({n for n in numbers if n}) > 1 and from_one >= 0.8 * len(facts)
        differ |= len(facts) == 1 and most >= 8 and from_one == 1
    if most < 20 and not (most >= 5 and differ):
        return ""
    return (
        f"up to {most} {'colours' if pooled.coloured else 'values'} per mask, each one connected area: these are "
        "instance numbers; 0 is background, every other number an object of one class"
    )


def choose_classes(facts: Sequence[MaskFacts], pooled: Pooled, asked: int | None) -> tuple[list[tuple[int, ...]], str]:
    """Groups of values that mean one class, ascending, the value to write first; and how they were found.

    `asked`: the number of names that the user gave. Raises DataError: too many classes, or files that are no masks.
    """
    what = "colours" if pooled.coloured else "values"
    n = len(pooled.values)
    if n <= 2 or (asked is not None and n in (asked, asked + 1)):
        main = pooled.values.tolist()
        return [(int(v),) for v in main], f"the masks hold {n} {what}"
    main, soft = _main_colours(pooled) if pooled.coloured else _main_values(pooled)
    if len(main) > MOST_CLASSES:
        raise DataError(
            f"{facts[0].path}: the masks hold {len(main)} different {what}, and there can be {MOST_CLASSES} classes; "
            "are these masks, and not images?"
        )
    groups: list[tuple[int, ...]] = [(v,) for v in main] if pooled.coloured else _merge(main, facts, pooled)
    used = {v for group in groups for v in group}
    strays = [int(v) for v in pooled.values if int(v) not in used]
    if not strays:
        return groups, f"the masks hold {n} {what}"
    pixels = int(pooled.counts[np.isin(pooled.values, strays)].sum())
    if soft and pooled.total - pixels < NOT_A_MASK * pooled.total:
        raise DataError(
            f"{facts[0].path}: this looks like a photograph or a map of probabilities, not like a mask: the masks hold "
            f"{n} different {what}, and few pixels share one; save masks with one value per class"
        )
    kind, share = "soft or damaged edges" if soft else "stray values", percent(pixels / pooled.total)
    return groups, (
        f"{len(groups)} of {n} {what} are classes; the other {len(strays)} cover {share} of the "
        f"pixels ({kind}) and go to the nearest class"
    )


def _main_values(pooled: Pooled) -> tuple[list[int], bool]:
    """Class values, ascending, and whether the rest is soft edges (or JPEG damage) rather than single strays."""
    values, counts, solid, total = pooled.values, pooled.counts, pooled.solid, pooled.total
    common = counts >= RARE * total
    if values[-1] - values[0] < SMALL_CODES and values[0] >= 0:
        keep = common | (counts >= 10)
        return [int(v) for v in (values[keep] if keep.sum() > 1 else values)], False
    fills = (solid >= SOLID * counts) & (common | (counts >= FEW_PIXELS))
    soft = int((common & ~fills).sum()) >= 3 or (len(values) > MANY_VALUES and 3 * int(fills.sum()) <= len(values))
    if not soft:
        keep = common | fills
        return [int(v) for v in values[keep]], False
    main: list[int] = []
    areas = {int(v): int(s) for v, s in zip(values, solid, strict=True)}
    for k in sorted(np.flatnonzero(fills).tolist(), key=lambda k: (-solid[k], values[k])):
        value = int(values[k])
        if not any(abs(value - m) <= NEAR and areas[value] < 0.1 * areas[m] for m in main):
            main.append(value)
    if len(main) < 2:  # lines too thin to fill areas: the outermost frequent value of the other half of the range
        middle = (int(values[0]) + int(values[-1])) / 2
        for half in (values <= middle, values > middle):
            if half.any() and not any(bool((v <= middle) == bool(half[0])) for v in main):
                often = values[half & (counts >= 0.01 * counts[half].max())]
                main.append(int(often[0] if half[0] else often[-1]))
    return sorted(main), True


def _main_colours(pooled: Pooled) -> tuple[list[int], bool]:
    """As `_main_values`, for packed colours."""
    values, counts, solid, total = pooled.values, pooled.counts, pooled.solid, pooled.total
    common = counts >= RARE * total
    fills = (solid >= SOLID * counts) & (common | (counts >= FEW_PIXELS))
    soft = int((common & ~fills).sum()) >= 3 or (len(values) > MANY_VALUES and 3 * int(fills.sum()) <= len(values))
    if not soft:
        return [int(v) for v in values[common | fills]], False
    # JPEG spreads a colour over its neighbourhood: the most solid colour stands for all that are near it
    main: list[int] = []
    rgb, left = unpack(values), solid.copy()
    while left.max() >= 4:
        near = np.abs(rgb - rgb[:, [k := int(left.argmax())]]).max(0) <= NEAR_COLOURS
        if left[near].sum() >= max(5 * RARE * total, FEW_PIXELS):
            main.append(k)
        left[near] = 0
    if len(main) == 1:
        far = np.abs(rgb - rgb[:, main]).max(0) > 64
        if far.any():
            main.append(int(np.flatnonzero(far)[np.argmax(counts[far])]))
    return sorted(int(values[k]) for k in main), True


def _merge(main: Sequence[int], facts: Sequence[MaskFacts], pooled: Pooled) -> list[tuple[int, ...]]:
    """Values that differ by a hair and never occur in one mask are one class (127 in some masks, 128 in others).

    Only where all other values lie eight times as far apart; and 1 and 255 beside 0 alone, the two usual codings of a
    foreground. The more frequent value comes first.
    """
    counts = {int(v): int(c) for v, c in zip(pooled.values, pooled.counts, strict=True)}

    def together(a: int, b: int) -> bool:
        """Whether one mask holds both on more than stray pixels."""
        for f in facts:
            both = [int(f.counts[f.values == v].sum()) for v in (a, b)]
            if min(both) >= max(RARE * int(f.counts.sum()), 1):
                return True
        return False

    if list(main) == [0, 1, 255]:
        return [(0,), (1,), (255,)] if together(1, 255) else [(0,), tuple(sorted((1, 255), key=lambda v: -counts[v]))]
    gaps = np.diff(main)
    close = [int(g) for g in gaps if g <= SAME]
    wide = [int(g) for g in gaps if g > SAME]
    if not close or not wide or min(wide) < 8 * max(close):
        return [(v,) for v in main]
    groups: list[list[int]] = [[main[0]]]
    for before, value in pairwise(main):
        if value - before <= SAME:
            if together(before, value):
                return [(v,) for v in main]
            groups[-1].append(value)
        else:
            groups.append([value])
    return [tuple(sorted(g, key=lambda v: (-counts[v], v))) for g in groups]
