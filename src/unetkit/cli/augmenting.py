"""`unetkit augment`: a picture of what training will see."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unetkit.cli.flags import CHOICES, FILES, MASKS, Choices, Files, Masks, Quiet, make_request, start_terminal, whole

Flat = Parameter(name="*")


def augment(
    data: Annotated[Path, Parameter(help="a folder of images and masks, or a CSV; most layouts are understood")],
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], metavar="FILE", help="The sheet, a .png file.")],
    rows: Annotated[int, Parameter(metavar="N", converter=whole, help="Training cases that are shown; 4.")] = 4,
    columns: Annotated[int, Parameter(metavar="N", converter=whole, help="Changed samples of each; 5.")] = 5,
    masks: Annotated[Masks, Flat] = MASKS,
    files: Annotated[Files, Flat] = FILES,
    choices: Annotated[Choices, Flat] = CHOICES,
    quiet: Quiet = False,
) -> int:
    """See the help of the command."""
    request = make_request(masks, files, choices)
    with start_terminal(quiet) as terminal:
        terminal.doing("examining the data")
        from unetkit import api

        sheet = api.augment(data, out, request, rows=rows, columns=columns, listen=terminal)
    terminal.result(f"{sheet}: each row a training case, as it is and as training sees it")
    terminal.hint("--set augment.FIELD=VALUE changes how far; `unetkit plan --fields` lists the fields")
    return 0
