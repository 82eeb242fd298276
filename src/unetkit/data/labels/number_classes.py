"""What masks of numbers or colours mean: codes, colours or objects, which value is the background, and the names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from unetkit.core.errors import DataError, PlanError
from unetkit.data.labels.borders import WIDTH
from unetkit.data.labels.classes import Pooled, choose_classes, instances_reason, pool
from unetkit.data.labels.depths import LEVELS, radius_for
from unetkit.data.labels.legend import Colour, Legend, LegendClass, Value, code, display_colour, percent, show, unpack
from unetkit.data.labels.mask_facts import MaskFacts

Background = int | Colour | Literal["none", "auto"]

CROWDED = 0.01  # where more than this share of the objects touches another, their borders are learnt
THIN = 0.2  # a class is thin where less than this share of it is left without a rim of 1 % of the image's side


def number_legend(
    facts: Sequence[MaskFacts],
    names: Sequence[str] | None,
    ignore: Value | None,
    background: Background,
    given: Mapping[int, str] | None,
) -> tuple[Legend, list[str]]:
    """The legend of masks that hold numbers or colours, and remarks. As `infer_legend`, which raises the same."""
    pooled = pool(facts, ignore)
    notes: list[str] = []
    if ignore is not None and not any(pooled.ignore in f.values for f in facts):
        notes.append(f"the ignore value {show(ignore)} occurs in no mask")
    if not len(pooled.values):
        raise DataError(f"every mask is unlabelled throughout: all pixels have the ignore value {show(ignore or 0)}")
    asked = len(names) if names else None
    if not given and (asked is None or asked <= 2) and (why := instances_reason(facts, pooled)):
        legend = _instances(facts, names, pooled, why)
        if background not in ("auto", "none", 0):
            raise PlanError(
                f"--background {_option(background)}: the masks hold instance numbers, of which 0 is the background; "
                "give 0 or none"
            )
        if background == "none":
            legend = legend.model_copy(update={"background": None})
    else:
        if given:
            stated = {int(value): label for value, label in sorted(given.items()) if value != ignore}
            groups: list[tuple[int, ...]] = [(value,) for value in stated]
            why = "the values and their names are those that the set itself states"
            names = names or list(stated.values())
        else:
            groups, why = choose_classes(facts, pooled, asked)
        if len(groups) < 2:
            only = show(_value(pooled, groups[0][0])) if groups else "no value"
            raise DataError(
                f"{facts[0].path} and all other masks hold only the value {only}: there is nothing to learn; check "
                "that these are the masks, and that they are not empty"
            )
        legend = _legend(facts, pooled, groups, names, background, why, bool(given))
    return legend, notes


def _instances(facts: Sequence[MaskFacts], names: Sequence[str] | None, pooled: Pooled, why: str) -> Legend:
    names = list(names or ["foreground"])
    names = names if len(names) == 2 else ["background", *names]
    if pooled.coloured and isinstance(pooled.ignore_value, tuple):
        ignore: Value | None = code(pooled.ignore_value)
    else:
        ignore = pooled.ignore if pooled.ignore_value is not None else None
    written = 255 if ignore != 255 else 1
    classes = [
        LegendClass(name=names[0], value=0, colour=(0, 0, 0)),
        LegendClass(name=names[1], value=written, colour=display_colour(0)),
    ]
    sizes = np.concatenate([f.counts[(f.values != 0) & (f.values != pooled.ignore)] for f in facts])
    close = sum(f.crowded for f in facts) / max(1, len(sizes))
    border = WIDTH if close >= CROWDED else 0
    if border:
        spare = next(v for v in (254, 2, 3) if v not in (written, ignore))
        called = "border" if "border" not in names else "rim"
        classes.append(LegendClass(name=called, value=spare, colour=display_colour(1)))
        why += (
            f"; {percent(close)} of them touch another: their border ({border} pixels) is learnt as a class of its "
            "own, by which predictions tell them apart; masks and scores count it as part of them"
        )
    elif len(sizes):
        why += f"; {percent(close)} of them touch another: connected areas are objects"
    least = int(np.percentile(sizes, 1)) if len(sizes) else 0
    return Legend(
        kind="instances",
        classes=tuple(classes),
        background=0,
        ignore=ignore,
        border=border,
        least=least,
        most=int(np.percentile(sizes, 99)) if len(sizes) else 0,
        reason=why,
    )


def learnt_by(legend: Legend, how: Literal["border", "depth", "none"], ndim: int) -> Legend:
    """A legend of instances whose objects are told apart otherwise: by their border, by levels of depth, or (as
    connected areas) by nothing that is learnt. Others are as they are."""
    if legend.kind != "instances" or (how == "border" and legend.border) or (how == "none" and not legend.touching):
        return legend
    plain = legend.plain
    called = {"border": ["border"], "none": [], "depth": [*(f"depth {k}" for k in range(2, len(LEVELS) + 1)), "edge"]}
    used = {plain.ignore, *(c.value for c in plain.classes)}
    spare = [value for value in range(254, 1, -1) if value not in used]
    help_classes = [
        LegendClass(name=name if name not in plain.names else f"{name}_", value=value, colour=display_colour(k + 1))
        for k, (name, value) in enumerate(zip(called[how], spare, strict=False))
    ]
    why = {
        "border": f"their border ({WIDTH} pixels) is learnt as a class of its own",
        "depth": f"how deep a pixel lies in its object is learnt, in {len(LEVELS) + 1} classes",
        "none": "connected areas are objects",
    }[how]
    return plain.model_copy(
        update={
            "classes": (*plain.classes, *help_classes),
            "border": WIDTH if how == "border" else 0,
            "levels": LEVELS if how == "depth" else (),
            "radius": radius_for(legend.most, ndim) if how == "depth" else 0,
            "reason": f"{legend.reason.partition(' of them touch another')[0]} of them touch another: {why}, as asked"
            if " of them touch another" in legend.reason
            else f"{legend.reason}; {why}, as asked",
        }
    )


def _legend(
    facts: Sequence[MaskFacts],
    pooled: Pooled,
    groups: Sequence[tuple[int, ...]],
    names: Sequence[str] | None,
    background: Background,
    why: str,
    stated: bool,
) -> Legend:
    values = [_value(pooled, group[0]) for group in groups]
    zero, because = _background(facts, pooled, values, background, stated)
    order = list(range(len(values)))
    if pooled.coloured:
        counts = pooled.of(groups)
        order.sort(key=lambda k: (k != zero, -counts[k], code(values[k])))
        zero = None if zero is None else 0
    called = _names([values[k] for k in order], zero, names, pooled)
    palette = dict(pair for f in facts for pair in f.palette)
    classes, shown = [], 0
    for index, k in enumerate(order):
        value = values[k]
        colour = value if isinstance(value, tuple) else palette.get(value)
        if colour is None:
            colour = (0, 0, 0) if index == zero else display_colour(shown)
        shown += index != zero
        classes.append(LegendClass(name=called[index], value=value, colour=colour, also=groups[k][1:]))
    ignore = pooled.ignore_value
    return Legend(
        kind="colours" if pooled.coloured else "values",
        classes=tuple(classes),
        background=zero,
        ignore=ignore,
        reason=f"{why}; {because}",
    )


def _background(
    facts: Sequence[MaskFacts], pooled: Pooled, values: Sequence[Value], wanted: Background, stated: bool
) -> tuple[int | None, str]:
    """Index of the background among `values`, and why. stated: the set itself names its classes."""
    if wanted == "none":
        return None, "every class counts, as asked"
    if wanted != "auto":
        value: Value = (wanted,) * 3 if pooled.coloured and isinstance(wanted, int) else wanted
        if value not in values:
            found = ", ".join(show(v) for v in values)
            raise PlanError(
                f"--background {_option(wanted)}: no class has this value; the values are {found}, or say none"
            )
        return values.index(value), f"{show(value)} is the background, as asked"
    zero: Value = (0, 0, 0) if pooled.coloured else 0
    share = dict(zip(values, (pooled.share(v) for v in values), strict=True))
    if len(values) == 2 and zero in values and not pooled.coloured:
        other = values[1 - values.index(zero)]
        low, thick = sum(f.low for f in facts), sum(f.low_thick for f in facts)
        if share[zero] < share[other] and low and thick < THIN * low:
            return values.index(other), (
                f"{show(zero)} covers {percent(share[zero])} of the pixels in thin structures and {show(other)} the "
                f"rest: {show(zero)} is taken as the structure of interest, {show(other)} as background"
            )
    if zero in values:
        return values.index(zero), f"{'black' if pooled.coloured else 'the value 0'} is taken as background"
    if pooled.coloured and (255, 255, 255) in values and max(share, key=lambda v: share[v]) == (255, 255, 255):
        return values.index((255, 255, 255)), "white covers most and is taken as background"
    if len(values) == 2 and not pooled.coloured and not stated:
        return 0, f"the lower value {show(values[0])} is taken as background"
    return None, f"there is no {'black' if pooled.coloured else 'value 0'}: every class counts, none is background"


def _names(values: Sequence[Value], background: int | None, names: Sequence[str] | None, pooled: Pooled) -> list[str]:
    if names:
        names = [name.strip() for name in names]
        if doubled := next((name for name in names if names.count(name) > 1), None):
            raise PlanError(f"--classes: the name '{doubled}' stands there twice; every class needs a name of its own")
        if len(names) == len(values):
            return list(names)
        if background is not None and len(names) == len(values) - 1:
            return [*names[:background], "background", *names[background:]]
        found = ", ".join(f"{show(v)} ({percent(pooled.share(v))} of the pixels)" for v in values)
        what = "colours" if pooled.coloured else "values"
        raise PlanError(
            f"--classes names {len(names)} classes ({', '.join(names)}), but the masks hold {len(values)} {what}: "
            f"{found}; name each {'(most frequent first)' if pooled.coloured else 'in ascending order'}, or all but "
            "the background"
        )
    if len(values) == 2 and background is not None:
        return ["background" if k == background else "foreground" for k in range(2)]
    return ["background" if k == background else _default_name(v) for k, v in enumerate(values)]


_COLOUR_NAMES: dict[Colour, str] = {
    (0, 0, 0): "black",
    (255, 255, 255): "white",
    (255, 0, 0): "red",
    (0, 255, 0): "green",
    (0, 0, 255): "blue",
    (255, 255, 0): "yellow",
    (255, 0, 255): "magenta",
    (0, 255, 255): "cyan",
    (128, 128, 128): "grey",
}


def _default_name(value: Value) -> str:
    return f"class {value}" if isinstance(value, int) else _COLOUR_NAMES.get(value, f"colour {show(value)}")


def _value(pooled: Pooled, coded: int) -> Value:
    return as_value(coded, pooled.coloured)


def as_value(coded: int, coloured: bool) -> Value:
    """A value as users know it: packed colours as (red, green, blue)."""
    if not coloured:
        return coded
    red, green, blue = (int(v) for v in unpack(np.asarray(coded)))
    return red, green, blue


def _option(value: Background) -> str:
    return value if isinstance(value, str) else show(value)
