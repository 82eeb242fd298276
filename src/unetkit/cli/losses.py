"""The losses as a table, for the terminal and for docs/losses.md."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from unetkit.losses.table import LOSSES, RAMP, KnownLoss, Parameter


def losses_table() -> Group:
    """Every loss: its name, what it is for, its parameters with their defaults; then what the parameters are."""
    about = (
        "What is minimised is a sum, set with --set loss.terms=..., such as 'ce + dice' or "
        "'ce + 0.5*tversky(alpha=0.2, beta=0.8)'. docs/losses.md has the formulas and their sources.\n"
    )
    losses, meanings = _table("loss"), _table("parameter")
    users: dict[tuple[str, str], list[str]] = {}
    for known in LOSSES.values():
        text = Text(f"{known.says}\n").append(", ".join(map(assigned, (*known.parameters, RAMP))), style="dim")
        losses.add_row(Text(known.name), text)
        for parameter in known.parameters:
            users.setdefault((parameter.name, f"{parameter.says}: {parameter.allowed}"), []).append(known.name)
    for (name, meaning), names in users.items():
        of = "" if len(names) > 2 else f"{', '.join(names)}: "
        meanings.add_row(Text(name), Text(of + meaning))
    meanings.add_row(Text(RAMP.name), Text(f"{RAMP.says}: {RAMP.allowed}"))
    return Group(Text(about), losses, Text(), meanings)


def _table(name: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(name, style="cyan", no_wrap=True)
    table.add_column("what it is", ratio=1)
    return table


def assigned(parameter: Parameter) -> str:
    """'alpha=0.3'."""
    return f"{parameter.name}={parameter.shown}"


def losses_page(known: KnownLoss) -> str:
    """The section of a loss in docs/losses.md."""
    lines = [f"## {known.name}", "", f"{known.says[0].upper()}{known.says[1:]}.", "", f"> {known.formula}", ""]
    if known.parameters:
        lines += ["| parameter | default | may be | what it is |", "|---|---|---|---|"]
        lines += [f"| `{p.name}` | {p.shown} | {p.allowed} | {p.says} |" for p in known.parameters]
        lines.append("")
    return "\n".join([*lines, f"{known.source}.", *(["", known.notes] if known.notes else []), ""])
