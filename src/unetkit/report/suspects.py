"""Likely label errors as the page shows them: a row for each of the first, and pictures of the very first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unetkit.report.facts import Facts, list_of_mappings, number, text
from unetkit.report.pictures import Picture, pictures_of

ROWS = 20  # areas in the table; the rest is in suspects.csv


@dataclass(frozen=True)
class SuspectRow:
    """One area: its rank, the case, what is doubted and where, its size in pixels, how sure the model is (0 … 1)."""

    rank: int
    case: str
    what: str
    place: str
    pixels: float
    confidence: float | None


@dataclass(frozen=True)
class SuspectView:
    """What the page says: how many cases were examined, those that hold any such area, the most doubted first, rows and
    the number of further areas, pictures by rank."""

    examined: int
    cases: tuple[str, ...]
    rows: tuple[SuspectRow, ...]
    left: int
    pictures: tuple[tuple[SuspectRow, Picture], ...]
    problems: tuple[str, ...]


def suspects_view(facts: Facts) -> SuspectView | None:
    """The list in the run's suspects.json; None where there is none, or nothing was held out."""
    if not number(facts.suspects.get("examined")):
        return None
    areas = list_of_mappings(facts.suspects.get("areas"))
    rows = tuple(_row(entry) for entry in areas)
    by_rank = {row.rank: row for row in rows}
    entries = list_of_mappings(facts.suspects.get("pictures"))
    pictures, problems = pictures_of(facts, entries, "s")
    shown = [(by_rank.get(int(number(entry.get("area")) or 0)), p) for entry, p in zip(entries, pictures, strict=True)]
    return SuspectView(
        examined=int(number(facts.suspects.get("examined")) or 0),
        cases=tuple(text(entry.get("case"), "?") for entry in list_of_mappings(facts.suspects.get("cases"))),
        rows=rows[:ROWS],
        left=max(0, len(rows) - ROWS),
        pictures=tuple((row, picture) for row, picture in shown if row is not None and picture is not None),
        problems=tuple(problems),
    )


def _row(entry: Mapping[str, Any]) -> SuspectRow:
    return SuspectRow(
        rank=int(number(entry.get("rank")) or 0),
        case=text(entry.get("case"), "?"),
        what=said(text(entry.get("kind"), ""), text(entry.get("given"), "?"), text(entry.get("suggested"), "?")),
        place=place(_numbers(entry.get("start")), _numbers(entry.get("stop"))),
        pixels=number(entry.get("pixels")) or 0.0,
        confidence=number(entry.get("confidence")),
    )


def said(kind: str, given: str, suggested: str) -> str:
    """What is doubted, in words."""
    if kind == "missing":
        return f"'{suggested}' seems to be missing"
    if kind == "extra":
        return f"'{given}' is drawn where there seems to be none"
    return f"'{given}' looks like '{suggested}'"


def place(start: tuple[int, ...], stop: tuple[int, ...]) -> str:
    """'x 40–60, y 12–30' of an image; of volumes and signals the first and last index on each axis."""
    spans = [f"{a}–{b - 1}" for a, b in zip(start, stop, strict=False)]
    if len(spans) == 2:
        return f"x {spans[1]}, y {spans[0]}"
    return " × ".join(spans)


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(int(n) for v in value if (n := number(v)) is not None) if isinstance(value, list) else ()
