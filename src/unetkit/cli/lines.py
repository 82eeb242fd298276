"""Single events as text: what a line says, in words and numbers that fit a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from unetkit.cli.fields import Field
from unetkit.core.events import Decided, Progress, Validated
from unetkit.core.machine import format_duration


def progress_facts(event: Progress) -> str:
    """'45 % · step 377 · loss 0.412 · Dice 0.803 · 3 min 05 s left', without what is not known."""
    facts = [f"step {event.done}"] if event.task in ("masked", "train") else []
    if event.loss is not None:
        facts.append(f"loss {event.loss:.3f}")
    if event.dice is not None:
        facts.append(f"Dice {event.dice:.3f}")
    if event.note:
        facts.append(event.note if len(event.note) <= 32 else f"…{event.note[-31:]}")
    if event.eta is not None:
        facts.append(f"{format_duration(event.eta)} left")
    return " · ".join(facts)


def validated_line(event: Validated) -> Text:
    """' 45%  step 377  loss 0.412  Dice 0.803 best  (cell 0.91, membrane 0.69)'."""
    text = Text(f"{event.fraction:4.0%}  step {event.step}  loss {event.loss:.3f}  ")
    if event.dice is None:
        return text.append("no class occurs in the validation images")
    text.append(f"Dice {event.dice:.3f}", style="bold")
    text.append(" best", style="green") if event.best else text.append("     ")
    classes = [f"{name} {value:.2f}" for name, value in event.per_class.items() if value is not None]
    if len(classes) > 2:
        text.append(f"  ({', '.join(classes)})", style="dim")
    text.rstrip()
    return text


def estimate(event: Decided) -> Text:
    """The line that comes before anything long."""
    return Text.assemble(("Estimate: ", "bold"), (event.value, "bold cyan"))


def decided_line(event: Decided) -> Text:
    """'decision · value · why'."""
    parts: list[tuple[str, str]] = [(event.what, "cyan"), (" · ", "dim"), (event.value, "bold")]
    if event.why:
        parts += [(" · ", "dim"), (event.why, "")]
    return Text.assemble(*parts)


def decisions_table(decisions: Sequence[Decided], width: int) -> Table:
    """Decision · value · why, as columns of a terminal so many characters wide."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("decision", style="cyan", no_wrap=True)
    table.add_column("value", style="bold", max_width=max(18, width // 5))
    table.add_column("why", ratio=1)
    before = ""
    for decision in decisions:
        why = "as above" if decision.why and decision.why == before else decision.why
        before = decision.why
        table.add_row(Text(decision.what), Text(decision.value), Text(why, style="dim"))
    return table


def fields_table(fields: Sequence[Field]) -> Group:
    """Every field that can be set."""
    about = (
        "Set a field with --set FIELD=VALUE, or many with --settings FILE. Where rules decide from the data, "
        "`unetkit plan DATA` shows the value and why; elsewhere the default holds.\n"
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("field", style="cyan", no_wrap=True)
    table.add_column("default", style="bold", max_width=20, overflow="fold")
    table.add_column("what it is", ratio=1)
    for field in fields:
        doc = field.doc
        if field.choices and not all(choice in doc for choice in field.choices):
            named = f"one of {', '.join(field.choices)}"
            doc = f"{doc.rstrip('.')}: {named}" if doc else named
        table.add_row(Text(field.name), Text(field.default), Text(doc))
    return Group(Text(about), table)
