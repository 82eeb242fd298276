"""docs/images/demo.png from what `make demo` left: image, truth, prediction and differences of one held-out image.

python docs/make_picture.py demo
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from unetkit.core.files import atomic

COLOURS = {0: (0, 0, 0), 128: (86, 180, 233), 255: (230, 159, 0)}  # background, cell, membrane
WRONG = (213, 94, 0)


def main(demo: Path) -> None:
    truths = sorted((demo / "data" / "test" / "masks").glob("*.png"))
    path = truths[len(truths) // 2]
    image = np.array(Image.open(demo / "data" / "test" / "images" / path.name))
    truth, found = np.array(Image.open(path)), np.array(Image.open(demo / "predictions" / path.name))
    grey = np.repeat(image[..., None], 3, axis=2).astype(float)
    panels = [grey, *(blend(grey, mask) for mask in (truth, found))]
    differences = 0.35 * grey
    differences[truth != found] = WRONG
    gap = np.full((image.shape[0], 8, 3), 255.0)
    row = [part for panel in (*panels, differences) for part in (panel, gap)][:-1]
    with atomic(Path(__file__).parent / "images" / "demo.png") as temporary:
        Image.fromarray(np.concatenate(row, axis=1).astype(np.uint8)).save(temporary, format="PNG", optimize=True)


def blend(grey: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image with its classes in colour; the background as it is."""
    out = grey.copy()
    for value, colour in COLOURS.items():
        if value:
            out[mask == value] = 0.55 * grey[mask == value] + 0.45 * np.array(colour)
    return out


if __name__ == "__main__":
    main(Path(sys.argv[1]))
