"""What the doctor found: a table where somebody reads it, one line per finding where a program does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from unetkit.data.doctor.examine import Diagnosis
    from unetkit.data.doctor.finding import Finding
    from unetkit.data.labels.legend import Legend

# Findings of one kind beyond this number are shown together, with the first few as examples.
TOGETHER, FIRST = 5, 3

SEVERITIES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def show_diagnosis(console: Console, data: Path, diagnosis: Diagnosis) -> None:
    """The findings, worst first, what the masks mean, and what follows."""
    findings = sorted(diagnosis.findings, key=lambda finding: list(SEVERITIES).index(finding.severity))
    if findings and console.is_terminal:
        console.print(_table(console.width, findings, data))
        console.print()
    else:
        for finding in findings:
            mend = f"; {finding.fix}" if finding.fix else ""
            _line(console, Text(f"{finding.severity}: {finding.file or data}: {finding.message}{mend}"))
    from unetkit.data.doctor.images import described

    if images := described(diagnosis.images):
        _line(console, Text.assemble(("images: ", "bold"), images))
    if diagnosis.understood is not None:
        legend = diagnosis.understood[0]
        said = any(finding.message == legend.reason for finding in findings)
        _line(console, _legend(legend, "" if said else legend.reason))
    _line(console, _verdict(data, findings))


def diagnosis_json(data: Path, diagnosis: Diagnosis) -> dict[str, Any]:
    """What `check --json` prints: `data`, `ok`, `counts` by severity, and what the diagnosis holds."""
    return {"data": str(data), "ok": not diagnosis.stops, "counts": _counts(diagnosis.findings), **diagnosis.to_json()}


def _table(width: int, findings: Sequence[Finding], data: Path) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("file", overflow="fold", max_width=max(20, width // 3))
    table.add_column("what is wrong → how to mend it", ratio=1)
    for number, group in enumerate(_grouped(findings)):
        if number:
            table.add_row()
        first = group[0]
        what = Text(first.message)
        if len(group) > 1:
            what = Text.assemble((f"{len(group)} files", "bold"), (", for example: ", "dim"), first.message)
        if first.fix:
            what.append(f"\n→ {first.fix}", style="dim")
        table.add_row(Text(first.severity, style=SEVERITIES[first.severity]), _files(group, data), what)
    return table


def _grouped(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Findings of one kind together where there are many of them; the order of the first stays."""
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.severity, finding.code), []).append(finding)
    return [
        group
        for kind in kinds.values()
        for group in ([kind] if len(kind) > TOGETHER else [[finding] for finding in kind])
    ]


def _files(group: Sequence[Finding], data: Path) -> Text:
    names = [finding.file.removeprefix(f"{data}/") or "the whole set" for finding in group]
    shown = names if len(group) == 1 else names[:FIRST]
    text = Text("\n".join(shown))
    if len(names) > len(shown):
        text.append(f"\n… and {len(names) - len(shown)} more", style="dim")
    return text


def _legend(legend: Legend, reason: str) -> Text:
    entries = []
    for index, entry in enumerate(legend.classes):
        value = ",".join(map(str, entry.value)) if isinstance(entry.value, tuple) else str(entry.value)
        if legend.regions:
            value = "+".join(map(str, entry.codes))
            entries.append(f"{value} = {entry.name}" if value else entry.name)
            continue
        mark = " (background)" if index == legend.background and entry.name != "background" else ""
        entries.append(f"{value} = {entry.name}{mark}")
    what = "regions, which may overlap: " if legend.regions else "classes: "
    return Text.assemble((what, "bold"), ", ".join(entries), (f" · {reason}" if reason else "", "dim"))


def _verdict(data: Path, findings: Sequence[Finding]) -> Text:
    counts = _counts(findings)
    said = ", ".join(f"{n} {name}{'s' * (n != 1)}" for name, n in counts.items() if n) or "nothing to remark"
    if counts["error"]:
        return Text.assemble((said, "bold red"), "; these data cannot be trained on until the errors are mended")
    style = "bold yellow" if counts["warning"] else "bold green"
    return Text.assemble((said, style), f"; ready for `unetkit train {data} -o run`")


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    return {name: sum(finding.severity == name for finding in findings) for name in SEVERITIES}


def _line(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=not console.is_terminal)
