"""What masks in parts mean (a file or a channel for each class): classes that exclude each other, or regions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unetkit.core.errors import DataError, PlanError
from unetkit.data.case import UNLABELLED, GivenRegion
from unetkit.data.formats import natural_key, suffixes
from unetkit.data.labels.legend import MOST_REGIONS, Legend, LegendClass, Value, display_colour, percent, show
from unetkit.data.labels.mask_facts import MaskFacts
from unetkit.data.labels.parts import numbered_parts, rearranged

BACKGROUND = ("background", "bg")
FEW = 0.001  # of the pixels of any class, so many may belong to several that exclude each other all the same


def part_legend(
    facts: Sequence[MaskFacts], names: Sequence[str] | None, ignore: Value | None, wanted: Value | str
) -> tuple[Legend, list[str]]:
    """The legend of masks in parts, and remarks. names, ignore, wanted (the background): as for `infer_legend`.

    Raises DataError: masks of other kinds beside them, nothing in any part, too many classes that overlap.
    Raises PlanError: names, an ignore value or a background that do not fit.
    """
    if other := next((f for f in facts if not f.parts), None):
        first = next(f for f in facts if f.parts)
        raise DataError(
            f"{other.path}: this mask is one file of numbers, but {first.path} is one of several, a part for each "
            "class; save all masks in one way"
        )
    if ignore not in (None, 0):
        raise PlanError(
            f"--ignore {show(ignore or 0)}: the masks have a part for each class, and no values; say what is not "
            f"annotated in a part of the name '{UNLABELLED[0]}', or --ignore 0: what is in no part"
        )
    parts = sorted(dict.fromkeys(name for f in facts for name in f.parts), key=natural_key)
    numbered = tuple(parts) == numbered_parts(len(parts))
    values = np.concatenate([rearranged(f.values, f.parts, parts) for f in facts])
    counts = np.concatenate([f.counts for f in facts])
    sizes = [int(counts[values >> k & 1 > 0].sum()) for k in range(len(parts))]
    bits = sum((values >> k & 1 for k in range(len(parts))), np.zeros(len(values), np.int64))
    inside, several = int(counts[bits > 0].sum()), int(counts[bits > 1].sum())
    if not inside:
        raise DataError(f"{facts[0].path} and all other masks are empty: no class occurs; check that these are masks")
    if several > FEW * inside:
        return _regions(facts, parts, numbered, sizes, several / inside, names, wanted), []
    notes = []
    if several:
        notes.append(f"{several} pixels belong to several classes, which otherwise exclude each other: the last has it")
    outside = int(counts[bits == 0].sum())
    legend, unsaid = _exclusive(parts, numbered, outside, names, ignore, wanted)
    if unsaid:
        notes.append(
            f"{percent(outside / (inside + outside))} of the pixels belong to no class, not even to the background: "
            "they are taken as not annotated"
        )
    return legend, notes


def given_legend(regions: Sequence[GivenRegion], names: Sequence[str] | None, ignore: int | None) -> Legend:
    """The legend of regions that a set defines by values. Raises DataError: too many; PlanError: other names."""
    if len(regions) > MOST_REGIONS:
        raise DataError(
            f"the set defines {len(regions)} regions; classes that may overlap can be {MOST_REGIONS} at most; leave "
            "some out"
        )
    called = _in_order([region.name for region in regions], names, False)
    by_name = {region.name: region for region in regions}
    classes = tuple(
        LegendClass(name=name, value=by_name[name].value, colour=display_colour(k), codes=by_name[name].codes)
        for k, name in enumerate(called)
    )
    why = "the set itself defines regions of several values, which may overlap: each is decided by itself"
    return Legend(kind="regions", classes=classes, background=None, ignore=ignore, reason=why)


def _regions(
    facts: Sequence[MaskFacts],
    parts: Sequence[str],
    numbered: bool,
    sizes: Sequence[int],
    share: float,
    names: Sequence[str] | None,
    wanted: Value | str,
) -> Legend:
    if len(parts) > MOST_REGIONS:
        raise DataError(
            f"{facts[0].path}: {len(parts)} classes overlap (on {percent(share)} of what is marked); classes that "
            f"overlap can be {MOST_REGIONS} at most; leave some out, or save those that exclude each other as one mask"
        )
    if wanted not in ("auto", "none"):
        raise PlanError("--background: classes that overlap have no background: it is where none of them is")
    # the largest first: what lies inside another is shown over it
    order = list(parts) if numbered else [parts[k] for k in sorted(range(len(parts)), key=lambda k: (-sizes[k], k))]
    called = _in_order(order, names, numbered)
    value = 255 if facts[0].path.name.lower().endswith(suffixes("image")) else 1
    classes = tuple(LegendClass(name=name, value=value, colour=display_colour(k)) for k, name in enumerate(called))
    return Legend(
        kind="regions",
        classes=classes,
        background=None,
        reason=f"each class has a mask of its own, and they overlap (on {percent(share)} of what is marked): each is "
        "decided by itself",
    )


def _exclusive(
    parts: Sequence[str],
    numbered: bool,
    outside: int,
    names: Sequence[str] | None,
    ignore: Value | None,
    wanted: Value | str,
) -> tuple[Legend, bool]:
    """The legend, and whether there are pixels of which nothing is said."""
    own = next((name for name in parts if name.casefold() in BACKGROUND), None)
    if own is None and numbered and not outside and len(parts) > 1:
        own = parts[0]
    order = list(parts) if own is None else [own, *(name for name in parts if name != own)]
    implied = own is None and outside > 0 and ignore is None
    if implied and names and len(names) == len(order) + 1:
        background, names = names[0], names[1:]
    else:
        background = "background"
        if own is not None and names and len(names) == len(order) - 1:
            names = ["background" if numbered else own, *names]
    called = _in_order(order, names, numbered)
    first = 0 if own is not None else 1
    classes = [LegendClass(name=background, value=0, colour=(0, 0, 0))] if implied else []
    for k, name in enumerate(called):
        colour = (0, 0, 0) if own is not None and k == 0 else display_colour(k - (own is not None))
        classes.append(LegendClass(name=name, value=first + k, colour=colour))
    if len(classes) < 2:
        raise DataError(f"every pixel belongs to the class '{classes[0].name}': there is nothing to learn")
    zero = 0 if implied or own is not None else None
    if wanted == "none":
        zero = None
    elif wanted != "auto":
        values = [c.value for c in classes]
        if wanted not in values:
            found = ", ".join(f"{c.value} ({c.name})" for c in classes)
            shown = wanted if isinstance(wanted, str) else show(wanted)
            raise PlanError(f"--background {shown}: no class has this value; the values are {found}, or say none")
        zero = values.index(wanted)
    legend = Legend(
        kind="values",
        classes=tuple(classes),
        background=zero,
        ignore=0 if ignore is not None and own is None else None,
        reason="each class has a mask of its own, and they exclude each other",
    )
    return legend, bool(outside) and not implied and ignore is None


def _in_order(parts: Sequence[str], names: Sequence[str] | None, numbered: bool) -> list[str]:
    """The classes as the user names them: in the user's order, or where parts only have numbers, by the user's names.

    Raises PlanError: other names than the parts have.
    """
    if not names:
        return list(parts)
    asked = [name.strip() for name in names]
    if numbered and len(asked) == len(parts) == len(set(asked)):
        return asked
    if sorted(asked) == sorted(parts):
        return asked
    has = f"{len(parts)} classes: {', '.join(parts)}" if numbered else f"the classes {', '.join(parts)}"
    raise PlanError(
        f"--classes {','.join(asked)}: the masks have a part for each class, and they are {has}; "
        + ("name each" if numbered else "name these, in the order that you want, or leave --classes out")
    )
