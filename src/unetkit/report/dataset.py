"""What the page and the card say about the data: counts, sizes, spacing, splits, shares of the classes, leaks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unetkit.report.facts import ClassFact, Facts, get, list_of_mappings, number, text
from unetkit.report.words import amount, listed, plural


@dataclass(frozen=True)
class DataView:
    """The data section: tiles, split rows (split, cases, groups), class shares, and sentences on leaks."""

    tiles: tuple[tuple[str, str, str], ...]
    splits: tuple[tuple[str, int, int], ...]
    fractions: tuple[tuple[ClassFact, float], ...]
    leak: str
    legend: str


def data_view(facts: Facts) -> DataView:
    """Counts, sizes, split, class shares (sizes and shares of the training images); whether groups are torn apart."""
    cases = list_of_mappings(facts.fingerprint.get("cases"))
    count = number(get(facts.plan, "data.cases"))
    count = float(len(cases)) if count is None else count
    tiles = [(f"Annotated {facts.noun}s", f"{count:.0f}", "")]
    if sizes := [size for case in cases if (size := _size(case))]:
        small, large = min(sizes, key=math.prod), max(sizes, key=math.prod)
        same = "all the same" if len(set(sizes)) == 1 else f"to {_times(large)}; {len(set(sizes))} sizes"
        tiles.append((f"Size in {facts.unit}", _times(small), same))
        tiles.append((f"Training {facts.unit}", amount(sum(map(math.prod, sizes))), ""))
    if spacings := Counter(s for case in cases if (s := _numbers(case.get("spacing")))):
        (spacing, _), others = spacings.most_common(1)[0], len(spacings) - 1
        tiles.append(_spacing(facts, spacing, f"{others} other spacings" if others else ""))
    if kinds := Counter((text(c.get("dtype"), "?"), number(c.get("channels"))) for c in cases):
        (dtype, channels), _ = kinds.most_common(1)[0]
        shown = plural(channels, "channel") if channels else ""
        tiles.append(("Stored as", dtype, shown + (" mostly, others too" if len(kinds) > 1 else "")))
    groups = {row.get("group", "") for row in facts.split} - {""}
    if groups:
        tiles.append(("Groups", str(len(groups)), ""))
    return DataView(tuple(tiles), _splits(facts), _fractions(facts), _leak(facts, groups), _legend_reason(facts))


def _size(case: Mapping[str, Any]) -> tuple[int, ...]:
    """Pixels of a case as they are read: of an image width first. Empty where they are not recorded."""
    shape = tuple(int(n) for n in _numbers(case.get("shape")))
    return shape[::-1] if len(shape) == 2 else shape


def _numbers(value: Any) -> tuple[float, ...]:
    numbers = [number(v) for v in value] if isinstance(value, list) else []
    return tuple(n for n in numbers if n is not None) if all(numbers) else ()


def _times(size: tuple[int, ...]) -> str:
    return " × ".join(str(n) for n in size)


def _spacing(facts: Facts, spacing: tuple[float, ...], remark: str) -> tuple[str, str, str]:
    if facts.ndim == 1:
        return ("Sampling rate", f"{1 / spacing[0]:.6g} Hz", remark)
    shown = spacing[::-1] if facts.ndim == 2 else spacing
    return ("Spacing in mm", " × ".join(f"{v:.3g}" for v in shown), remark)


def _splits(facts: Facts) -> tuple[tuple[str, int, int], ...]:
    names = {"train": "training", "val": "validation", "test": "test"}
    if folds := {row["fold"] for row in facts.split if row.get("fold")}:
        names["train"] = f"training and validation, in {len(folds)} folds"
    order = [*names, *sorted({row["split"] for row in facts.split} - set(names))]
    rows = []
    for split in order:
        own = [row for row in facts.split if row["split"] == split]
        if own:
            rows.append((names.get(split, split), len(own), len({row.get("group", "") for row in own} - {""})))
    return tuple(rows)


def _leak(facts: Facts, groups: set[str]) -> str:
    if not facts.split:
        return ""
    decided = text(get(facts.plan, "data.split"), "")
    if not groups:
        return (f"{decided}. " if decided else "") + (
            f"Groups (patients, animals, slides) are not known for these {facts.noun}s. If several show the same one, "
            "training and validation share it, and scores are too high; a CSV that names the groups keeps them apart."
        )
    sides: dict[str, set[tuple[str, str]]] = {}
    for row in facts.split:
        sides.setdefault(row.get("group", ""), set()).add((row["split"], row.get("fold", "")))
    part = "fold" if any(row.get("fold") for row in facts.split) else "split"
    torn = sorted(g for g in groups if len(sides[g]) > 1)
    if torn:
        return (
            f"{len(torn)} of {len(groups)} groups are in more than one {part} ({listed(torn[:3])}): scores are too"
            " high."
        )
    return f"No group is in two {part}s: all {len(groups)} are kept whole."


def _fractions(facts: Facts) -> tuple[tuple[ClassFact, float], ...]:
    shares = [number(entry.get("fraction")) for entry in list_of_mappings(facts.fingerprint.get("classes"))]
    if len(shares) != len(facts.classes):
        return ()
    return tuple((c, max(s or 0.0, 0.0)) for c, s in zip(facts.classes, shares, strict=True))


def _legend_reason(facts: Facts) -> str:
    return text(get(facts.plan, "data.legend.reason"), text(get(facts.plan, "data.classes.reason"), ""))
