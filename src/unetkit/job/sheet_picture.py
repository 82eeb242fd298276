"""How a sheet of patches looks: a title, the classes, what is on and what is off, and a row for each case."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from unetkit.augment.words import in_words
from unetkit.data.case import IGNORE
from unetkit.data.labels.legend import Legend
from unetkit.data.sizes import extent
from unetkit.job.drawing import Contrast, Drawn, Label, contrast_of, draw_planes, draw_trace, eight_bits
from unetkit.plan.plan import Plan
from unetkit.predict.overlay import draw as overlay

# Pixels: of a cell's longest side (an image, the planes of a volume, a trace), the height of a trace, the gaps.
SIDE, WIDE, TALL, GAP, MARGIN = 240, 380, 96, 8, 20
# Channels of a signal that are shown, and how strongly a class and its outline cover what is under.
CHANNELS, STRENGTH = 2, (0.22, 0.65)
PAPER, INK, FAINT = (255, 255, 255), (25, 25, 30), (120, 120, 128)
# Sizes of letters: title, text, small print; and the longest name of a case.
TITLE, TEXT, SMALL, NAME = 22, 14, 12, 40
# What has letters beyond those of western Europe, where it is installed, in the order in which it is looked for.
FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansSC-Regular.otf",
    "msyh.ttc",
    "PingFang.ttc",
    "Arial Unicode.ttf",
    "DejaVuSans.ttf",
)


@dataclass(frozen=True)
class Cell:
    """One patch: image_CX float32 (normalised) and label_X uint8. mix: its share in a mixture."""

    image_CX: NDArray[np.float32]
    label_X: Label
    mix: float


@dataclass(frozen=True)
class Row:
    """A case: where its patch lies, and the patch as it is and as it is changed. scale: as in `PreparedCase`."""

    id: str
    centre: tuple[int, ...]
    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None
    scale: NDArray[np.float32] | None
    cells: Sequence[Cell]


def compose(rows: Sequence[Row], plan: Plan, who: str) -> Image.Image:
    """The whole sheet. who: whose cases they are, in words."""
    drawn = [[_drawn(row, cell, plan) for cell in row.cells] for row in rows]
    pictures = [[_coloured(d, plan.data.legend) for d in cells] for cells in drawn]
    width = max(p.width for cells in pictures for p in cells)
    wide = 2 * MARGIN + len(pictures[0]) * (width + GAP) - GAP
    seen = drawn[0][0].size if len(plan.sampling.patch) == 1 else extent(plan.sampling.patch)
    head = _Head(max(wide, 720), plan, f"{who}; patches of {seen}, each drawn anew at every step.")
    captions = [_titles(rows, column) for column in range(len(pictures[0]))]
    line = SMALL + 8
    heights = [max(p.height for p in cells) + line + GAP for cells in pictures]
    sheet = Image.new("RGB", (head.width, head.height + line + sum(heights) + MARGIN), PAPER)
    head.draw(sheet)
    pen, top = ImageDraw.Draw(sheet), head.height
    for column, caption in enumerate(captions):
        _write(pen, (MARGIN + column * (width + GAP), top), caption, INK, SMALL)
    top += line
    for row, cells, height in zip(rows, pictures, heights, strict=True):
        _write(pen, (MARGIN, top), _place(row, plan), FAINT, SMALL)
        for column, picture in enumerate(cells):
            sheet.paste(picture, (MARGIN + column * (width + GAP), top + line))
        top += height
    return sheet


def _titles(rows: Sequence[Row], column: int) -> str:
    if column == 0:
        return "as it is"
    mix = rows[0].cells[column].mix
    return f"sample {column}" + (f": {mix:.0%}, and {1 - mix:.0%} of the next row" if mix < 1 else "")


def _place(row: Row, plan: Plan) -> str:
    """Which part of which case a row shows."""
    name = row.id if len(row.id) <= NAME else f"{row.id[: NAME // 2]}...{row.id[-NAME // 4 :]}"
    if all(p >= n for p, n in zip(plan.sampling.patch, row.shape, strict=True)):
        return f"{name}, whole ({extent(row.shape)})"
    return f"{name}, around {', '.join(map(str, row.centre))} of {extent(row.shape)}"


def _drawn(row: Row, cell: Cell, plan: Plan) -> Drawn:
    """One patch as a picture with its label, in the contrast of the row's first, so that changes of it are seen."""
    first_CX, image_CX, label_X = row.cells[0].image_CX, cell.image_CX, cell.label_X
    if label_X.ndim == 1:
        wanted_X = np.ones(label_X.shape, bool)
        ranges = [_room(channel_X) for channel_X in first_CX[:CHANNELS]]
        step = None if row.spacing is None else row.spacing[0]
        return draw_trace(image_CX, (label_X,), wanted_X, step, (WIDE, TALL), CHANNELS, ranges, whole=True)
    if label_X.ndim == 3 and 1 not in label_X.shape:
        wanted_X = plan.data.legend.display()[1][label_X]
        spacing = row.spacing or (1.0, 1.0, 1.0)
        return draw_planes(image_CX[0], (label_X,), wanted_X, spacing, WIDE, 4, contrast_of(first_CX[0]))
    if label_X.ndim == 3:  # one slice
        axis = label_X.shape.index(1)
        image_CX, first_CX, label_X = image_CX.squeeze(axis + 1), first_CX.squeeze(axis + 1), label_X.squeeze(axis)
    return _image(image_CX, label_X, first_CX, row.scale)


def _image(
    image_CX: NDArray[np.float32],
    label_X: Label,
    first_CX: NDArray[np.float32],
    scale: NDArray[np.float32] | None,
) -> Drawn:
    """Grey, or in the colours of the file where they are known; enlarged to be seen, or made to fit."""
    if scale is not None:
        black_C, white_C = scale[:, :, None, None]
        image_CX, first_CX = ((x - black_C) / (white_C - black_C) for x in (image_CX, first_CX))
    contrast = contrast_of(first_CX)
    pixels = eight_bits(image_CX[:3] if len(image_CX) >= 3 else image_CX[:1], contrast)
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1).copy())
    zoom = SIDE / max(picture.size)
    size = (max(1, round(picture.width * zoom)), max(1, round(picture.height * zoom)))
    picture = picture.resize(size, Image.Resampling.LANCZOS if zoom < 1 else Image.Resampling.BICUBIC)
    label = Image.fromarray(label_X).resize(size, Image.Resampling.NEAREST)
    return Drawn(picture, (np.asarray(label),), "")


def _room(signal_X: NDArray[np.float32]) -> Contrast:
    """The range of a trace, with room for a gain that is larger."""
    low, high = float(signal_X.min()), float(signal_X.max())
    return low - 0.3 * (high - low), high + 0.3 * (high - low)


def _coloured(drawn: Drawn, legend: Legend) -> Image.Image:
    """The label over the picture: thin colours, solid outlines; hatched where there is no label."""
    pixels = np.atleast_3d(np.asarray(drawn.image))
    over = overlay(np.moveaxis(pixels, -1, 0), drawn.labels[0], legend, (0.0, 255.0), strength=STRENGTH)
    result = np.moveaxis(over, 0, -1).copy()
    y, x = np.indices(drawn.labels[0].shape)
    stripes = (drawn.labels[0] == IGNORE) & ((x + y) % 8 < 2)
    result[stripes] = (result[stripes] + np.array(FAINT)) // 2
    return Image.fromarray(result)


class _Head:
    """What stands above the rows: the set, its classes, the changes and their strengths."""

    def __init__(self, width: int, plan: Plan, facts: str) -> None:
        self.width, self.plan, self.facts = width, plan, f"{facts} Colours: the label."
        on, off = in_words(plan.augment, len(plan.sampling.patch), plan.prepare.channels)
        letters = int((width - 2 * MARGIN) / (0.5 * TEXT))
        self.title = f"What training will see of {Path(plan.data.path).name}"
        self.on = textwrap.wrap("On: " + "; ".join(on or ["nothing but where a patch is taken"]) + ".", letters)
        self.off = textwrap.wrap("Off: " + ", ".join(off) + "." if off else "", letters)
        lines = len(self.on) + len(self.off)
        self.height = MARGIN + TITLE + 12 + (TEXT + 8) + (TEXT + 12) + lines * (TEXT + 5) + 10

    def draw(self, sheet: Image.Image) -> None:
        """Onto the top of the sheet."""
        pen, top = ImageDraw.Draw(sheet), MARGIN
        _write(pen, (MARGIN, top), self.title, INK, TITLE)
        top += TITLE + 12
        _write(pen, (MARGIN, top), self.facts, INK, TEXT)
        top += TEXT + 8
        self._classes(pen, top)
        top += TEXT + 12
        for text, colour in ((self.on, INK), (self.off, FAINT)):
            for line in text:
                _write(pen, (MARGIN, top), line, colour, TEXT)
                top += TEXT + 5

    def _classes(self, pen: ImageDraw.ImageDraw, top: int) -> None:
        legend, left = self.plan.data.legend, MARGIN
        for k, entry in enumerate(legend.classes):
            if k == legend.background:
                continue
            pen.rectangle((left, top + 2, left + TEXT, top + TEXT + 2), entry.colour, INK)
            left += TEXT + 26 + _write(pen, (left + TEXT + 6, top), entry.name, INK, TEXT)
        for x in range(left, left + TEXT, 4):
            pen.line([(x, top + TEXT + 2), (min(x + TEXT, left + TEXT), top + 2)], FAINT)
        pen.rectangle((left, top + 2, left + TEXT, top + TEXT + 2), None, FAINT)
        _write(pen, (left + TEXT + 6, top), "no label", FAINT, TEXT)


def _write(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, colour: tuple[int, int, int], size: int) -> int:
    """Write a line; returns its length in pixels."""
    text = text.replace("×", "x").replace("–", "-").replace("…", "...")
    font = _font(size, any(ord(letter) > 255 for letter in text))
    pen.text(place, text, colour, font)
    return round(pen.textlength(text, font))


@lru_cache(maxsize=8)
def _font(size: int, wide: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that comes with Pillow; with `wide` one of the system that has more letters, where there is one."""
    for name in FONTS if wide else ():
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)
