"""Networks as tables that fit 80 columns, and as plain values for JSON."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from unetkit.core.machine import format_memory
from unetkit.nets.geometry import format_shape
from unetkit.nets.outline import SIZES, Outline, Part, format_count
from unetkit.nets.presets import Preset
from unetkit.nets.scene import format_size

# A name that no function stands for.
_BLOCK_DOWN = "The first convolution of the block has the stride"


def listing_cells(entry: Preset, found: Outline) -> tuple[str, ...]:
    """What a list of networks says of one, after its name: axes, parameters, FLOPs, halo, tiles, year."""
    return (
        str(found.spec.ndim),
        format_count(found.parameters),
        format_count(found.flops),
        format_axes(found.geometry.halo),
        "exact" if found.geometry.local else "blended",
        str(entry.year),
    )


def listing_table(rows: Sequence[tuple[Preset, Outline]], width: int) -> Group:
    """A line per network; as much of each paper's name as a terminal so many characters wide has room for."""
    lines = [(entry.name, *listing_cells(entry, found)) for entry, found in rows]
    table, titles = _table(), ("name", "axes", "params", "FLOPs", "halo", "tiles", "year")
    taken = 0
    for k, title in enumerate(titles):
        numbers = title in ("axes", "params", "FLOPs", "halo")
        style = "cyan" if title == "name" else ""
        table.add_column(title, justify="right" if numbers else "left", no_wrap=True, style=style)
        taken += max(len(title), *(len(line[k]) for line in lines)) + 2
    table.add_column("paper", no_wrap=True)
    room = max(12, width - taken)
    for line, (entry, _) in zip(lines, rows, strict=True):
        paper = _short_paper(entry.paper)
        table.add_row(*line, Text(paper if len(paper) <= room else f"{paper[: room - 1].rstrip()}…"))
    sizes = [SIZES[ndim] for ndim in sorted({found.spec.ndim for _, found in rows}, key=lambda n: (n != 2, -n))]
    about = (
        f"FLOPs: of one image of {' or '.join(format_size(size) for size in sizes)}, padded where it must be. halo: "
        "pixels around a pixel on which its result depends. tiles: exact where they give the result of the whole image."
    )
    return Group(table, Text(about, style="dim"))


def listing_json(entry: Preset, found: Outline) -> dict[str, Any]:
    """What is known of a network, without its parts."""
    return _facts(entry.name, entry, found)


def outline_json(name: str, entry: Preset | None, found: Outline) -> dict[str, Any]:
    """What is known of a network, and of each of its parts."""
    return _facts(name, entry, found) | {"parts": [_part_json(part) for part in found.parts]}


def show_outline(console: Console, name: str, entry: Preset | None, found: Outline) -> None:
    """The flow of sizes, then the totals."""
    spec, facts = found.spec, found.geometry
    console.print(Text.assemble((name, "bold cyan"), f"  {entry.paper} ({entry.year})" if entry else ""))
    padded = "" if found.padded == found.shape else f", padded to {format_shape(found.padded)}"
    channels = f"{spec.in_channels} channel{'s' * (spec.in_channels > 1)}"
    console.print(Text(f"in   {channels}, {format_shape(found.shape)}{padded}"))
    console.print(Text(f"out  {spec.classes} channel{'s' * (spec.classes > 1)}, {format_shape(found.output)}"))
    console.print(_flow(found))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="cyan")
    table.add_column(ratio=1)
    for title, value in _totals(entry, found):
        table.add_row(title, Text(value))
    console.print(table)
    if not facts.local:
        console.print(Text("Tiles of such a network overlap and are blended: close to the whole image, not the same."))


def _flow(found: Outline) -> Table:
    table = _table()
    table.add_column("part", style="cyan", no_wrap=True)
    for title in ("size", "channels", "params", "FLOPs"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("what", ratio=1, style="dim")
    for part in found.parts:
        share = part.flops / found.flops if found.flops else 0.0
        wide = f"{part.gives} × " if part.gives > 1 else ""
        table.add_row(
            part.name,
            format_size(part.result.shape),
            f"{wide}{part.result.channels}",
            format_count(part.parameters) if part.parameters else "",
            "training" if part.training else f"{share:.1%}" if share >= 0.0005 else "<0.1%" if part.flops else "",
            Text(part.what),
        )
    return table


def _totals(entry: Preset | None, found: Outline) -> list[tuple[str, str]]:
    facts, spec = found.geometry, found.spec
    unit = ("samples", "pixels", "voxels")[spec.ndim - 1]
    sizes = f"multiples of {format_axes(facts.divisor)}"
    if facts.smallest != facts.divisor:
        sizes = f"{format_axes(facts.smallest)} plus {sizes}"
    rows = [
        ("parameters", f"{format_count(found.parameters)} ({found.parameters:,})".replace(",", " ")),
        ("operations", f"{format_count(found.flops)}FLOPs for this image"),
        (
            "context",
            f"halo {format_axes(facts.halo)}, receptive field {format_axes(facts.receptive_field)} {unit}",
        ),
        ("sizes", f"{sizes} {unit}; others are padded and cropped again"),
    ]
    if any(facts.margin):
        rows.append(("margin", f"the output lacks {format_axes(facts.margin)} {unit} on each side"))
    rows += [
        ("tiles", "exact: the same as of the whole image" if facts.local else f"blended: {facts.why_not_local}"),
        (
            "memory",
            f"of feature maps, for this image in fp32: {format_memory(found.inference_bytes)} to predict, "
            f"{format_memory(found.training_bytes)} to train",
        ),
    ]
    return [*rows, ("unusual", entry.note)] if entry else rows


def format_axes(numbers: Sequence[int]) -> str:
    """'140' where all axes agree, else '140×140×92'."""
    return str(numbers[0]) if len(set(numbers)) == 1 else "×".join(map(str, numbers))


def part_docs() -> dict[str, dict[str, str]]:
    """Field of the spec → name → first sentence of the function's docstring."""
    from unetkit.nets.blocks import BLOCKS
    from unetkit.nets.bottlenecks import BOTTLENECKS
    from unetkit.nets.downs import DOWNS
    from unetkit.nets.heads import HEADS
    from unetkit.nets.skips import SKIPS
    from unetkit.nets.topology import TOPOLOGIES
    from unetkit.nets.ups import UPS

    tables: dict[str, dict[str, Callable[..., Any]]] = {
        "block": dict(BLOCKS),
        "skip": dict(SKIPS),
        "topology": dict(TOPOLOGIES),
        "down": dict(DOWNS),
        "up": dict(UPS),
        "bottleneck": dict(BOTTLENECKS),
        "head": dict(HEADS),
    }
    docs = {field: {name: _sentence(part) for name, part in table.items()} for field, table in tables.items()}
    docs["down"]["block"] = _BLOCK_DOWN
    return docs


def parts_table() -> Group:
    """Every part, by the field that takes it."""
    groups: list[Any] = []
    for field, docs in part_docs().items():
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
        table.add_column(no_wrap=True, style="cyan", width=18)
        table.add_column(ratio=1)
        for name, doc in docs.items():
            table.add_row(name, Text(doc))
        groups += [Text(f"net.{field}", style="bold"), table]
    about = (
        "Every part goes with every other: --set net.block=residual --set net.skip=attention. A part of your own is "
        "module:name. `unetkit plan --fields` lists norms, paddings and the rest."
    )
    return Group(*groups, Text(about, style="dim"))


def _sentence(part: Callable[..., Any]) -> str:
    """The first sentence of a docstring."""
    text = " ".join((inspect.getdoc(part) or "").split("\n\n")[0].split())
    return re.split(r"(?<=[^\d\s.])[.] (?=[A-Z])", text)[0].rstrip(".")


def _short_paper(paper: str) -> str:
    """'Zhou et al.: UNet++' where more than two authors are named."""
    authors, colon, rest = paper.partition(": ")
    several = re.fullmatch(r"(\w+)(, \w+){2,}", authors)
    return f"{several[1]} et al.: {rest}" if colon and several else paper


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))


def _facts(name: str, entry: Preset | None, found: Outline) -> dict[str, Any]:
    facts, spec = found.geometry, found.spec
    about = {} if entry is None else {"paper": entry.paper, "year": entry.year, "note": entry.note}
    return {
        "name": name,
        "ndim": spec.ndim,
        "in_channels": spec.in_channels,
        "classes": spec.classes,
        "size": list(found.shape),
        "padded": list(found.padded),
        "output": list(found.output),
        "parameters": found.parameters,
        "flops": found.flops,
        "inference_bytes": found.inference_bytes,
        "training_bytes": found.training_bytes,
        "halo": list(facts.halo),
        "receptive_field": list(facts.receptive_field),
        "divisor": list(facts.divisor),
        "smallest": list(facts.smallest),
        "margin": list(facts.margin),
        "local": facts.local,
        "why_not_local": facts.why_not_local,
        **about,
    }


def _part_json(part: Part) -> dict[str, Any]:
    return {
        "name": part.name,
        "role": part.role,
        "level": part.level,
        "reads": list(part.reads),
        "channels": part.result.channels,
        "size": list(part.result.shape),
        "parameters": part.parameters,
        "flops": part.flops,
        "training_only": part.training,
        "what": part.what,
    }
