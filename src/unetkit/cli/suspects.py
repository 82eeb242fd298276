"""Likely label errors that a run found: what `unetkit check DATA --run RUN` prints below the doctor's findings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from unetkit.evaluate.suspects import Suspects

# Areas that are printed; the rest is in the run's suspects.csv.
SHOWN = 20
# Cases that are named as doubted most in all.
WHOLE = 5


def show_suspects(console: Console, run: Path, found: Suspects) -> None:
    """The areas, the most suspicious first: a table where somebody reads it, a line for each where a program does."""
    from unetkit.report.suspects import place, said

    head = f"likely label errors, by what {run} says of cases that it did not learn from: "
    if not found.areas:
        console.print(Text(f"{head}none in {found.examined} cases"), soft_wrap=True)
        return
    console.print()
    images = f"{len(found.areas)} areas in {len(found.cases)} of {found.examined} cases"
    console.print(Text.assemble((head, "bold"), images), soft_wrap=not console.is_terminal)
    rows = [
        (area.case, said(area.kind, area.given, area.suggested), place(area.region.start, area.region.stop), area)
        for area in found.areas[:SHOWN]
    ]
    if not console.is_terminal:
        for rank, (case, what, where, area) in enumerate(rows, start=1):
            line = f"{rank}. {case}: {what}, at {where} ({area.pixels} pixels, sure by {area.confidence:.0%})"
            console.print(Text(line), soft_wrap=True)
    else:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for name in ("", "case", "what", "where", "pixels", "sure by"):
            table.add_column(name, justify="right" if name in ("", "pixels", "sure by") else "left", overflow="fold")
        for rank, (case, what, where, area) in enumerate(rows, start=1):
            table.add_row(str(rank), case, what, where, str(area.pixels), f"{area.confidence:.0%}")
        console.print(table)
    doubted = ", ".join(case for case, _ in found.cases[:WHOLE])
    console.print(Text(f"doubted most as a whole (a mask that is shifted, say): {doubted}"), soft_wrap=True)
    more = f"{len(found.areas) - SHOWN} more are in {run / 'suspects.csv'}; " if len(found.areas) > SHOWN else ""
    console.print(Text(f"{more}pictures are in {run / 'report.html'}", style="dim"), soft_wrap=True)


def suspects_json(found: Suspects) -> dict[str, Any]:
    """What `check --run --json` adds: `examined`, `areas` and `cases`, as suspects.json of the run has them."""
    from unetkit.job.suspects import plain

    return {
        "examined": found.examined,
        "areas": [plain(area) for area in found.areas],
        "cases": [{"case": case, "score": score} for case, score in found.cases],
    }
