"""`unetkit import`: what matched, line by line, what did not, and what to check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from unetkit.cli.flags import Quiet, class_names, set_fields, whole

if TYPE_CHECKING:
    from unetkit.cli.terminal import Terminal
    from unetkit.job.importing import Imported

UNFILLED = 1
HOW = {"name": "name", "order": "order", "shape": "only one of its shape", "guess": "GUESS"}


def import_checkpoint(
    checkpoint: Annotated[Path, Parameter(help="a safetensors file, or what torch.save(net.state_dict()) wrote")],
    /,
    *,
    model: Annotated[str, Parameter(metavar="NAME", help="The network that it is of, such as unet.")],
    out: Annotated[Path, Parameter(name=["--out", "-o"], metavar="RUN", help="folder for the model; new or empty")],
    classes: Annotated[
        str | None, Parameter(metavar="A,B,…", help="Names of the classes, in the order of the outputs.")
    ] = None,
    channels: Annotated[
        int | None, Parameter(metavar="N", converter=whole, help="Channels of an image; else as the first layer has.")
    ] = None,
    ndim: Annotated[
        int | None, Parameter(metavar="N", converter=whole, help="1, 2 or 3 axes; else as its convolutions have.")
    ] = None,
    fields: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set",
            metavar="FIELD=VALUE",
            help="Set a field of net, prepare or predict, such as net.channels=64,128,256.",
        ),
    ] = (),
    partial: Annotated[bool, Parameter(help="What finds nothing in the file may stay as drawn.")] = False,
    quiet: Quiet = False,
) -> int:
    """See the help in `app`."""
    from unetkit.cli.terminal import open_terminal

    with open_terminal(quiet=quiet) as terminal:
        terminal.doing("reading the checkpoint")
        from unetkit import api
        from unetkit.job.importing import UnfilledError

        try:
            imported = api.import_weights(
                checkpoint,
                model,
                out,
                classes=class_names(classes),
                channels=channels,
                ndim=ndim,
                settings=set_fields(fields),
                partial=partial,
            )
        except UnfilledError as error:
            _show(terminal, error.imported)
            terminal.problem(f"error: {error}")
            return UNFILLED
        _show(terminal, imported)
    terminal.result(f"{out}: the model")
    terminal.hint(f"next: unetkit predict {out} IMAGES -o masks, or unetkit train DATA -o NEW --start {out}")
    return 0


def _show(terminal: Terminal, imported: Imported) -> None:
    """A line per module that matched, a line per tensor that did not, then what was assumed, and what to check."""
    from unetkit.core.events import Warned

    if not terminal.quiet:
        for line in [*_lines(imported), *imported.notes]:
            terminal.console.print(Text(line), soft_wrap=True)
    for doubt in imported.doubts:
        terminal(Warned(message=doubt))


def _lines(imported: Imported) -> list[str]:
    matching = imported.matching
    modules: dict[tuple[str, str, str], list[str]] = {}
    for found in matching.matches:
        ours, _, leaf = found.ours.rpartition(".")
        theirs = found.theirs.rpartition(".")[0]
        modules.setdefault((ours, theirs, HOW[found.how]), []).append(leaf)
    rows = [
        (ours, theirs, f"by {how}" if how in ("name", "order") else how, ", ".join(leaves))
        for (ours, theirs, how), leaves in modules.items()
    ]
    widths = [max((len(row[k]) for row in rows), default=0) for k in range(3)]
    lines = [f"{a:<{widths[0]}} ← {b:<{widths[1]}}  {how:<{widths[2]}}  {leaves}" for a, b, how, leaves in rows]
    lines += [f"{name}: nothing in the checkpoint" for name in matching.missing]
    lines += [f"{name}: no place in the network" for name in matching.left]
    lines += _some([f"{name}: the same tensor under another name" for name in matching.aliases])
    return lines


def _some(lines: Sequence[str], most: int = 3) -> list[str]:
    return [*lines[:most], *([f"… and {len(lines) - most} more such"] if len(lines) > most else [])]
