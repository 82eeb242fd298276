"""`unetkit models`: the networks there are, one of them part by part, a picture of it, and the parts to combine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from unetkit.cli.flags import Json, Quiet, Trust, set_fields, whole
from unetkit.core.errors import PlanError, nearest

if TYPE_CHECKING:
    from unetkit.nets.outline import Outline
    from unetkit.nets.presets import Preset
    from unetkit.nets.spec import NetSpec

COMMANDS = ("show", "draw", "parts")

app = App(
    name="models",
    sort_key=10,
    usage="Usage: unetkit models [show NAME | draw NAME -o FILE | parts] [OPTIONS]",
    help="List, show and draw the networks there are.\n\nWhat is shown is known before anything is built. "
    "`unetkit train DATA -o RUN --model NAME` trains one.",
    help_epilogue="Examples:\n\n"
    "  unetkit models\n"
    "  unetkit models show unet --size 256x256 --classes 3\n"
    "  unetkit models draw unetpp -o unetpp.svg\n"
    "  unetkit models parts",
)

Name = Annotated[str | None, Parameter(name="NAME", help="a network of `unetkit models`, or your own as module:name")]
Ndim = Annotated[
    int | None, Parameter(name="--ndim", metavar="N", converter=whole, help="1, 2 or 3 axes; else its own.")
]


@dataclass(frozen=True, kw_only=True)
class Form:
    """The form in which a network is taken."""

    size: Annotated[
        str | None, Parameter(metavar="SIZE", help="Of the image, such as 256x256; 512x512, 96x96x96 or 5000 if not.")
    ] = None
    channels: Annotated[
        int | None, Parameter(metavar="N", converter=whole, help="Channels of the image; else those of the paper.")
    ] = None
    classes: Annotated[int | None, Parameter(metavar="N", converter=whole, help="Classes; else the paper's.")] = None
    fields: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set",
            metavar="FIELD=VALUE",
            help="Set a field of the network, such as net.block=residual; may be repeated.",
        ),
    ] = ()
    ndim: Ndim = None
    trust: Trust = False


FORM = Form()
Forms = Annotated[Form, Parameter(name="*")]


@app.default
def listing(*words: Annotated[str, Parameter(show=False)], ndim: Ndim = None, json: Json = False) -> int:
    """See the help above."""
    if words:
        from unetkit.nets.presets import PRESETS

        hint = (
            f"; did you mean `unetkit models show {words[0]}`?" if words[0] in PRESETS else nearest(words[0], COMMANDS)
        )
        raise PlanError(f"unetkit models takes {', '.join(COMMANDS)} or nothing, not '{words[0]}'{hint}")
    from unetkit.cli.networks import listing_json, listing_table
    from unetkit.cli.output import print_json
    from unetkit.cli.terminal import open_terminal
    from unetkit.nets.outline import outline
    from unetkit.nets.presets import PRESETS

    _check_ndim(ndim)
    rows = [(entry, outline(entry.form(ndim))) for entry in PRESETS.values()]
    if json:
        print_json([listing_json(entry, found) for entry, found in rows])
        return 0
    with open_terminal() as terminal:
        terminal.console.print(listing_table(rows, terminal.console.width))
        terminal.hint("next: unetkit models show NAME, or unetkit models draw NAME -o picture.svg")
    return 0


@app.command(
    sort_key=1,
    usage="Usage: unetkit models show NAME [OPTIONS]",
    help="A network part by part: the flow of sizes, parameters and operations; then what is known of the whole.",
    help_epilogue="Examples:\n\n  unetkit models show unet --size 256x256 --channels 3 --classes 4\n"
    "  unetkit models show unet --set net.block=residual --set net.skip=attention",
)
def show(name: Name = None, /, *, form: Forms = FORM, json: Json = False) -> int:
    """See the help above."""
    entry, found = _asked("show", name, form)
    from unetkit.cli.networks import outline_json, show_outline
    from unetkit.cli.output import print_json
    from unetkit.cli.terminal import open_terminal

    if json:
        print_json(outline_json(str(name), entry, found))
        return 0
    with open_terminal() as terminal:
        show_outline(terminal.console, str(name), entry, found)
    return 0


@app.command(
    sort_key=2,
    usage="Usage: unetkit models draw NAME -o FILE.svg [OPTIONS]",
    help="Draw a network: its maps as boxes, levels under each other, skips between them; an SVG file.",
    help_epilogue="Examples:\n\n  unetkit models draw unet2015 -o unet2015.svg --size 572x572\n"
    "  unetkit models draw unet -o mine.svg --set net.topology=nested",
)
def draw(
    name: Name = None,
    /,
    *,
    out: Annotated[
        Path | None, Parameter(name=["--out", "-o"], metavar="FILE", help="File for the picture, .svg.")
    ] = None,
    form: Forms = FORM,
    quiet: Quiet = False,
) -> int:
    """See the help above."""
    if out is None:
        raise PlanError(
            f"unetkit models draw needs -o (a file for the picture), for example:\n"
            f"  unetkit models draw {name or 'unet'} -o {name or 'unet'}.svg"
        )
    if out.suffix.lower() != ".svg":
        raise PlanError(f"-o {out}: pictures of networks are SVG files; for example -o {out.stem or 'network'}.svg")
    _, found = _asked("draw", name, form)
    from unetkit.cli.terminal import open_terminal
    from unetkit.core.files import write_text
    from unetkit.nets import drawing

    write_text(out, drawing.draw(found, str(name)))
    with open_terminal(quiet=quiet) as terminal:
        terminal.result(f"{out}: the picture; open it in a browser")
    return 0


@app.command(
    sort_key=3,
    usage="Usage: unetkit models parts",
    help="Every block, skip, topology, down, up, bottleneck and head, in a sentence each; all go together.",
    help_epilogue="Example:\n\n  unetkit models parts",
)
def parts(*, json: Json = False) -> int:
    """See the help above."""
    from unetkit.cli.networks import part_docs, parts_table
    from unetkit.cli.output import print_json
    from unetkit.cli.terminal import open_terminal

    if json:
        print_json(part_docs())
        return 0
    with open_terminal() as terminal:
        terminal.console.print(parts_table())
    return 0


def _asked(command: str, name: str | None, form: Form) -> tuple[Preset | None, Outline]:
    """The preset (None: a network of the user's own) and its outline in the form asked for."""
    if name is None:
        more = " -o unet.svg" if command == "draw" else ""
        raise PlanError(
            f"unetkit models {command} needs NAME (a network of `unetkit models`), for example:\n"
            f"  unetkit models {command} unet{more}"
        )
    from unetkit.nets.outline import outline
    from unetkit.nets.parts import trust
    from unetkit.nets.presets import preset
    from unetkit.nets.spec import REFERENCE, NetSpec

    _check_ndim(form.ndim)
    own = REFERENCE.fullmatch(name) is not None
    entry = None if own else preset(name)
    base = NetSpec(ndim=form.ndim or 2, channels=(1,), topology=name) if entry is None else entry.form(form.ndim)
    spec = _formed(base, form)
    spec = trust(spec) if form.trust else spec
    return entry, outline(spec, None if form.size is None else _size(form.size, spec.ndim))


def _formed(spec: NetSpec, form: Form) -> NetSpec:
    """The spec with what the flags change. Raises PlanError, SpecError."""
    given = set_fields(form.fields)
    foreign = [field for field in given if not field.startswith("net.")]
    if foreign:
        raise PlanError(f"--set {foreign[0]}: only fields of the network can be set here, such as net.block=residual")
    changes = {field.removeprefix("net."): value for field, value in given.items()}
    for flag, field, value in (("channels", "in_channels", form.channels), ("classes", "classes", form.classes)):
        if value is not None and value < 1:
            raise PlanError(f"--{flag} {value}: must be 1 or more")
        changes |= {} if value is None else {field: value}
    return spec.override(changes, "--set net") if changes else spec


def _size(text: str, ndim: int) -> Sequence[int]:
    """(256, 256) from '256x256', or from '256' for two axes. Raises PlanError."""
    if not re.fullmatch(r"\d+([x×,]\d+)*", text):
        example = "x".join(["256"] * ndim)
        raise PlanError(f"--size {text}: write it in pixels, such as {example}; one number holds for all axes")
    numbers = [int(n) for n in re.split("[x×,]", text)]
    return numbers * ndim if len(numbers) == 1 else numbers


def _check_ndim(ndim: int | None) -> None:
    if ndim not in (None, 1, 2, 3):
        raise PlanError(f"--ndim {ndim}: must be 1 (signals), 2 (images) or 3 (volumes)")
