"""docs/models.md and its pictures, from the presets themselves. Call it after a change to a preset or to the drawing.

python docs/make_models.py
"""

from __future__ import annotations

from pathlib import Path

from unetkit.cli.networks import listing_cells, part_docs
from unetkit.core.files import write_text
from unetkit.nets.drawing import draw
from unetkit.nets.geometry import format_shape
from unetkit.nets.outline import Outline, outline
from unetkit.nets.presets import PRESETS, Preset

PAGE = Path(__file__).parent / "models.md"
# The networks that are drawn, and for images of which size: that of the paper, or the usual one.
DRAWN: dict[str, tuple[int, ...] | None] = {
    "unet2015": (572, 572),
    "unet3d": (132, 132, 116),
    "unetpp": None,
    "unet3plus": None,
    "attention": None,
    "transunet": None,
    "nnunet-resenc": None,
    "fcn8s": None,
    "segnet": None,
}

INTRO = """# The networks

Written by `docs/make_models.py` from the presets themselves; what is said here is computed, not copied.

```sh
unetkit models                                         # this table
unetkit models show unet --size 256x256 --classes 3    # part by part: sizes, parameters, operations, memory
unetkit models draw unetpp -o unetpp.svg               # the pictures below
unetkit models parts                                   # what can be combined
unetkit train DATA -o RUN --model unetpp
```

A network is a value (`NetSpec`), a preset is a paper's; any field can be changed with `--set net.FIELD=VALUE`, and
every preset can be taken in one, two or three dimensions with `--ndim`. Parameters and operations (FLOPs, a multiply
and an add counted as two) are those of the preset's own channels and classes, for one image of 512 × 512 pixels
(2-D), 96 × 96 × 96 voxels (3-D) or 5000 samples (1-D). *Halo*: how many pixels around a pixel its result depends on.
*Tiles*: exact where they give the same result as the whole image, else blended.
"""


def main() -> None:
    """Write the page and the pictures."""
    write_text(PAGE, page())
    for name, picture in pictures().items():
        write_text(picture_file(name), picture)


def page() -> str:
    """The text of docs/models.md."""
    found = {name: outline(entry.spec) for name, entry in PRESETS.items()}
    rows = "\n".join(_row(entry, found[name]) for name, entry in PRESETS.items())
    head = "| preset | axes | parameters | FLOPs | halo | tiles | year |\n|---|--:|--:|--:|--:|---|--:|\n"
    sections = "\n".join(_section(entry, found[name]) for name, entry in PRESETS.items())
    return f"{INTRO}\n{head}{rows}\n\n{sections}\n{_parts()}"


def pictures() -> dict[str, str]:
    """The SVG documents, by the name of the preset."""
    return {name: draw(outline(PRESETS[name].spec, size), name) for name, size in DRAWN.items()}


def picture_file(name: str) -> Path:
    """Where the picture of a preset is."""
    return PAGE.parent / "images" / "models" / f"{name}.svg"


def _row(entry: Preset, found: Outline) -> str:
    return f"| {' | '.join((f'[`{entry.name}`](#{entry.name})', *listing_cells(entry, found)))} |"


def _section(entry: Preset, found: Outline) -> str:
    facts = found.geometry
    tiles = "" if facts.local else f" Tiles are blended: {facts.why_not_local}."
    text = (
        f"## {entry.name}\n\n{entry.paper} ({entry.year}).\n\n{found.parameters:,} parameters with "
        f"{found.spec.in_channels} channel{'s' * (found.spec.in_channels > 1)} in and {found.spec.classes} out. "
        f"Unusual: {entry.note}.{tiles}\n"
    )
    if entry.name not in DRAWN:
        return text
    size = format_shape(DRAWN[entry.name] or found.shape)
    return f"{text}\n![{entry.name} for {size}](images/models/{entry.name}.svg)\n"


def _parts() -> str:
    lines = ["## The parts\n\nEach is the value of a field, and all go together: `--set net.skip=attention`.\n"]
    for field, docs in part_docs().items():
        lines += [f"**net.{field}**\n", *(f"- `{name}`: {doc}." for name, doc in docs.items()), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
