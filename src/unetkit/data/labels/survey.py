"""What the masks of a set mean, inferred by rule from one pass over them, with the reason in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetkit.core.errors import DataError
from unetkit.data.case import IGNORE, Case, GivenRegion
from unetkit.data.labels.borders import BORDER, INSIDE
from unetkit.data.labels.legend import Colour, Legend, Value, percent, show
from unetkit.data.labels.mask_facts import MaskFacts, mask_facts
from unetkit.data.labels.number_classes import Background, as_value, number_legend
from unetkit.data.labels.part_classes import given_legend, part_legend
from unetkit.data.labels.parts import in_legend

__all__ = ["Background", "CaseSurvey", "MaskSurvey", "infer_legend", "legend_from"]


@dataclass(frozen=True)
class CaseSurvey:
    """One mask under the legend: pixels of each class, unlabelled, stray; most frequent strays; whether constant.

    labelled: pixels that are not unlabelled; less than the sum of counts where regions overlap.
    """

    case: str
    path: Path
    shape: tuple[int, ...]
    counts: tuple[int, ...]
    ignored: int
    strays: int
    stray_values: tuple[tuple[Value, int], ...]
    constant: bool
    labelled: int


@dataclass(frozen=True)
class MaskSurvey:
    """All masks under the legend. notes: what was remarkable about the set as a whole, in sentences."""

    cases: tuple[CaseSurvey, ...]
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> tuple[int, ...]:
        """Pixels of each class in the whole set."""
        return tuple(sum(column) for column in zip(*(c.counts for c in self.cases), strict=True))

    @property
    def labelled(self) -> int:
        """Pixels that carry a label, in the whole set."""
        return sum(c.labelled for c in self.cases)

    @property
    def strays(self) -> int:
        """Pixels whose value belongs to no class."""
        return sum(c.strays for c in self.cases)

    @property
    def label_counts(self) -> dict[str, tuple[int, ...]]:
        """Pixels of each class, by case."""
        return {c.case: c.counts for c in self.cases}


def infer_legend(
    cases: Iterable[Case],
    names: Sequence[str] | None = None,
    ignore: Value | None = None,
    background: Background = "auto",
    given: Mapping[int, str] | None = None,
    regions: Sequence[GivenRegion] = (),
) -> tuple[Legend, MaskSurvey]:
    """Read every mask once; decide what its values mean.

    names: of the classes in ascending order of value (colours: most frequent first), or of all but the background.
    ignore: the value of unlabelled pixels. background: a value, "none" (every class counts), or "auto" (by rule).
    given: values and names that the set states itself (nnU-Net's `dataset.json`, the marks of recordings). regions:
    classes that it makes of several values, and that may overlap.

    Raises DataError: an unreadable mask, no masks, masks that hold one value only, or that are no masks.
    Raises PlanError: names or a background that do not fit the values found.
    """
    values = {name: value for value, name in (given or {}).items()} or None
    facts = [mask_facts(case, ignore, values) for case in cases if case.label is not None]
    return legend_from(facts, names, ignore, background, given, regions)


def legend_from(
    facts: Sequence[MaskFacts],
    names: Sequence[str] | None = None,
    ignore: Value | None = None,
    background: Background = "auto",
    given: Mapping[int, str] | None = None,
    regions: Sequence[GivenRegion] = (),
) -> tuple[Legend, MaskSurvey]:
    """As `infer_legend`, from masks that have been looked at already."""
    if not facts:
        raise DataError("there is no mask to learn from: every image needs a mask with the same name")
    if any(f.parts for f in facts):
        legend, notes = part_legend(facts, names, ignore, background)
    elif regions:
        legend, notes = given_legend(regions, names, ignore if isinstance(ignore, int) else None), []
    else:
        legend, notes = number_legend(facts, names, ignore, background, given)
    surveys = tuple(_survey(f, legend) for f in facts)
    notes += _notes(facts, legend)
    return legend, MaskSurvey(surveys, tuple(notes))


def _survey(facts: MaskFacts, legend: Legend) -> CaseSurvey:
    """Count the classes of one mask from its histogram: the legend maps values, so no second look is needed."""
    values, counts = facts.values, facts.counts
    if legend.kind == "colours" and not facts.coloured:
        values = values * 0x010101
    if facts.parts:
        values, _ = in_legend(values, facts.parts, legend)
    label, stray = legend.lookup(values)
    per_class = np.bincount(label, weights=counts, minlength=IGNORE + 1).astype(np.int64)
    if legend.border:
        per_class[INSIDE] -= facts.rim
        per_class[BORDER] += facts.rim
    ignored = int(per_class[IGNORE]) + facts.missing
    largest = np.flatnonzero(stray)[np.argsort(-counts[stray], kind="stable")][:8]
    return CaseSurvey(
        facts.case,
        facts.path,
        facts.shape,
        tuple(int(n) for n in legend.tally(per_class)),
        ignored,
        int(counts[stray].sum()) + facts.fractional,
        tuple((as_value(int(values[k]), legend.kind == "colours"), int(counts[k])) for k in largest),
        len(facts.values) + bool(facts.missing) == 1,
        int(counts.sum()) + facts.missing - ignored,
    )


def _notes(facts: Sequence[MaskFacts], legend: Legend) -> list[str]:
    notes = []
    # in signals it is usual that parts are not annotated; how much that is, is said anyway
    if holes := [f for f in facts if f.missing and len(f.shape) > 1]:
        share = percent(sum(f.missing for f in holes) / sum(math.prod(f.shape) for f in facts))
        notes.append(
            f"{len(holes)} mask{'s hold' if len(holes) > 1 else ' holds'} NaN (e.g. {holes[0].path.name}), {share} of "
            "all pixels: taken as not annotated"
        )
    for entry in legend.classes:
        for other in entry.also:
            files = [f.path.name for f in facts if other in f.values]
            notes.append(
                f"{len(files)} mask{'s' * (len(files) != 1)} (e.g. {files[0]}) use{'s' * (len(files) == 1)} {other} "
                f"where the others use {show(entry.value)}: taken as the same class '{entry.name}'"
            )
    numbers = [c.value for c in legend.classes if isinstance(c.value, int)]
    if legend.kind == "values" and legend.ignore is None and len(numbers) > 2:
        last, before = numbers[-1], numbers[-2]
        if last in (254, 255) and before <= 100 and before == len(numbers) - 2:
            notes.append(
                f"the value {last} stands far from the others (0 … {before}); if it marks unlabelled pixels, pass "
                f"--ignore {last}"
            )
    palettes: dict[int, dict[Colour, str]] = {}
    for f in facts:
        for value, colour in f.palette:
            palettes.setdefault(value, {}).setdefault(colour, f.path.name)
    for value, colours in sorted(palettes.items()):
        if len(colours) > 1:
            (first, a), (second, b) = list(colours.items())[:2]
            notes.append(
                f"palette index {value} is {show(first)} in {a} but {show(second)} in {b}: the index is taken as the "
                "class; if the colour is meant, save the masks as RGB"
            )
            break
    return notes
