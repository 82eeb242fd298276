"""docs/losses.md, from the table of losses itself. Call it after a change to the table.

python docs/make_losses.py
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from unetkit.cli.losses import assigned, losses_page
from unetkit.core.files import write_text
from unetkit.losses.table import LOSSES, RAMP

PAGE = Path(__file__).parent / "losses.md"

INTRO = """# The losses

Written by `docs/make_losses.py` from the table in `src/unetkit/losses/table.py`, from which the command line reads too.

```sh
unetkit plan --losses                                                    # this page, shorter
unetkit train DATA -o RUN --set "loss.terms=ce + dice + 0.1*cldice"      # a sum with weights
unetkit train DATA -o RUN --set "loss.terms=0.5*ce + tversky(alpha=0.2, beta=0.8)"
```

A loss is a sum of terms, each with a weight in front and parameters in brackets. Unless told otherwise it is
`ce + dice`: cross-entropy is right per pixel, Dice per structure. All of them

- take images of one, two or three axes, and two kinds of classes: those that exclude each other (softmax), and regions
  that may overlap (a sigmoid each, labels are bit masks);
- leave out pixels of which nothing is known (255), in value and gradient; where nothing is known the loss is 0;
- are computed in float32, whatever the precision of the network;
- see the coarse results of deep supervision with labels as coarse; distances stay those of the full grid, and follow
  the lengths of a voxel where slices are thick (`augment.aspect`).

P, T and I are the soft areas of a class: of what is predicted (the sum of p), of the truth (of t), and of both (of
p·t); s is `smooth`. Class weights (`loss.class_weights`) act on losses of single pixels: `ce`, `focal`, `border_ce`;
those of overlap weigh their classes equally, or as said below. `background=false` leaves out the class that
`--background` names, or that was found to be the background.

"""


def main() -> None:
    """Write the page."""
    write_text(PAGE, page())


def page() -> str:
    """The text of docs/losses.md."""
    every = (
        f"Every loss takes `{assigned(RAMP)}`, too: {RAMP.says}. It is for those that mean nothing while the network "
        "is wrong everywhere: beside Dice, `0.1*boundary(ramp=1)`."
    )
    rows = [f"| [`{k.name}`](#{k.name}) | {k.says} | {k.source.split(',')[0]} |\n" for k in LOSSES.values()]
    table = "".join(["| loss | what it is for | source |\n|---|---|---|\n", *rows])
    return INTRO + textwrap.fill(every, 118) + "\n\n" + table + "\n" + "\n".join(map(losses_page, LOSSES.values()))


if __name__ == "__main__":
    main()
