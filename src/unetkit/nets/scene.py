"""Boxes in rows and the arrows between them: what both layouts of `drawing` make, and how it becomes lines.

A row is a level. A layout says where along its row a box is; the heights of the rows follow from what is in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod, sqrt

from unetkit.nets.outline import Map, Outline, Part
from unetkit.nets.svg import Canvas, Point, text_width

# Fill and stroke of each kind of box (colours that colour-blind readers tell apart, on paper as on screens).
STYLES = {
    "input": ("#e5e7eb", "#6b7280"),
    "encoder": ("#8ec1e8", "#1d5f93"),
    "pooled": ("#dcecf8", "#1d5f93"),
    "kept": ("#cfe4f5", "#1d5f93"),
    "up": ("#d9f0e3", "#1f7a55"),
    "decoder": ("#8fd1b0", "#1f7a55"),
    "bottleneck": ("#f6cf8b", "#a86608"),
    "head": ("#efb3c8", "#a02c5d"),
    "training": ("#ffffff", "#a02c5d"),
    "sign": ("#ffffff", "#6b21a8"),
}
CONV, SKIP, DOWN, UP, SIGNAL, HEAD = "#4b5563", "#6b7280", "#c2410c", "#1f7a55", "#6b21a8", "#a02c5d"
SMALL, LINE = 10.5, 12.5  # size of labels, distance of their lines
CLEAR = 3.0  # between an arrow and a box
ARROW = 32.0  # length of the arrows between rows
TALLEST, POWER = 150.0, 0.62  # of a map as large as the image; smaller ones shrink less than their size does


def thickness(channels: int) -> float:
    """Of a box, by its width in channels: a thousand times as many are thirty times as thick."""
    return min(42.0, 3 + 1.1 * sqrt(channels))


def height(shape: Sequence[int], image: Sequence[int], tallest: float = TALLEST) -> float:
    """Of a box, by the size of its map."""
    ratio: float = (prod(shape) / prod(image)) ** (1 / len(image))
    return max(11.0, tallest * float(min(1.0, ratio) ** POWER))


def format_size(shape: Sequence[int]) -> str:
    """'512²', '96³', '5000' or '132×132×116'."""
    if len(shape) > 1 and len(set(shape)) == 1:
        return f"{shape[0]}{' ²³'[len(shape) - 1]}"
    return "×".join(map(str, shape))


def style_of(part: Part) -> str:
    """The kind of box of a part's maps."""
    if part.role == "head":
        return "training" if part.training else "head"
    styles = {"bottleneck": "bottleneck", "decoder": "decoder", "node": "decoder", "other": "bottleneck"}
    return styles.get(part.role, "encoder")


def caption_of(part: Part, found: Outline) -> str:
    """What is written under the box, where it is no ordinary map."""
    if part.role == "bottleneck":
        return "transformer" if "attention" in part.kinds else "pyramid" if "concat" in part.kinds else part.name
    if part.role in ("head", "other"):
        last = not part.training and not any(part.name in other.reads for other in found.parts)
        return "logits" if last else part.name if part.role == "other" else ""
    return ""


@dataclass(eq=False)
class Box:
    """A map, or with a `sign` an operation. `x`: its centre; `y` follows from its row when the scene is drawn.

    above, below   lines of text: channels, size and what it is
    inside         the first line stands in the box
    pieces         width and style from left to right, where it is several maps side by side
    stacked        it stands for several maps of the same kind
    """

    x: float
    row: int
    map: Map
    style: str
    width: float
    height: float
    above: str = ""
    below: tuple[str, ...] = ()
    inside: bool = False
    pieces: tuple[tuple[float, str], ...] = ()
    stacked: bool = False
    sign: str = ""
    y: float = 0.0

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2 + (5 if self.stacked else 0)

    @property
    def span(self) -> float:
        """Width with its text."""
        return max(self.width, *(text_width(line, SMALL) for line in (self.above, *self.below)))

    @property
    def up_x(self) -> float:
        """Where what comes from below arrives: the last piece."""
        return self.right - self.pieces[-1][0] / 2 if self.pieces else self.x

    @property
    def top(self) -> float:
        """The upper edge, its text included."""
        label = LINE + 2 if self.above and not self.inside else 0
        return self.y - self.height / 2 - label - (5 if self.stacked else 0)

    @property
    def bottom(self) -> float:
        """The lower edge, its text included."""
        return self.y + self.height / 2 + LINE * len(self.below) + (2 if self.below else 0)


@dataclass(frozen=True)
class Link:
    """An arrow. kind: beside, elbow, down, up, skip, signal, branch (chains); straight, arc, sweep, climb (grids).

    slot: which of how many arrive there, so that they do not end in one point.
    """

    kind: str
    source: Box
    target: Box
    colour: str
    dashed: bool = False
    slot: tuple[int, int] = (0, 1)


@dataclass
class Scene:
    """What a layout made."""

    boxes: list[Box] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)

    def add(self, box: Box) -> Box:
        """Put a box in."""
        self.boxes.append(box)
        return box

    def link(
        self, kind: str, source: Box, target: Box, colour: str, *, dashed: bool = False, slot: tuple[int, int] = (0, 1)
    ) -> None:
        """Put an arrow in."""
        self.links.append(Link(kind, source, target, colour, dashed, slot))

    def row(self, row: int) -> list[Box]:
        """The boxes of a row."""
        return [box for box in self.boxes if box.row == row]

    def draw(self) -> Canvas:
        """Everything in its place."""
        self._place_rows()
        canvas = Canvas()
        for link in self.links:
            _draw_link(canvas, link)
        for box in self.boxes:
            _draw_box(canvas, box)
        return canvas

    def _place_rows(self) -> None:
        y, before = 0.0, None
        for row in sorted({box.row for box in self.boxes}):
            boxes = self.row(row)
            above = max(box.y - box.top for box in boxes)
            arcs = [link for link in self.links if link.kind == "arc" and link.target.row == row]
            above += max((_rise(link) for link in arcs), default=0.0)
            y = y if before is None else y + before + ARROW + above
            before = max(box.bottom - box.y for box in boxes)
            for box in boxes:
                box.y = y


def _draw_box(canvas: Canvas, box: Box) -> None:
    fill, stroke = STYLES[box.style]
    top = box.y - box.height / 2
    if box.sign:
        canvas.circle((box.x, box.y), box.sign, stroke, box.width / 2)
    elif box.pieces:
        x = box.left
        for width, style in box.pieces:
            canvas.box(x, top, width, box.height, *STYLES[style])
            x += width
    else:
        for shift in (5, 2.5) if box.stacked else ():
            canvas.box(box.left + shift, top - shift, box.width, box.height, fill, stroke)
        canvas.box(box.left, top, box.width, box.height, fill, stroke, dashed=box.style == "training")
    if box.above and box.inside:
        canvas.text((box.x, box.y + 0.36 * SMALL), box.above, size=SMALL)
    elif box.above:
        canvas.text((box.x, top - (9 if box.stacked else 4)), box.above, size=SMALL)
    for k, line in enumerate(box.below):
        canvas.text((box.x, box.y + box.height / 2 + LINE * (k + 1)), line, size=SMALL, colour="#4b5563")


def _rise(link: Link) -> float:
    """How far above the boxes an arc goes: the more, the farther apart they are."""
    return 10 + 0.09 * abs(link.target.x - link.source.x)


def _draw_link(canvas: Canvas, link: Link) -> None:
    a, b, colour = link.source, link.target, link.colour
    if link.kind in ("beside", "skip"):
        points: list[Point] = [(a.right + CLEAR, a.y), (b.left - CLEAR, b.y)]
    elif link.kind == "elbow":
        points = [(a.x, a.bottom + CLEAR), (a.x, b.y), (b.left - CLEAR, b.y)]
    elif link.kind == "down":
        points = [(b.x, a.bottom + CLEAR), (b.x, b.top - CLEAR)]
    elif link.kind == "up":
        points = [(b.up_x, a.top - CLEAR), (b.up_x, b.bottom + CLEAR)]
    elif link.kind in ("signal", "branch"):
        # a gate's signal: beside the arrow up from the level below, or off that arrow
        x = a.x - 10 if link.kind == "signal" else a.x
        y = a.top - CLEAR - (0.35 if link.kind == "signal" else 0.6) * ARROW
        start = [(x, a.top - CLEAR)] if link.kind == "signal" else []
        points = [*start, (x, y), (b.x, y), (b.x, b.bottom + CLEAR)]
    elif link.kind == "straight":
        points = [_edge(a, b), _edge(b, a)]
    else:
        _draw_curve(canvas, link)
        return
    canvas.line(points, colour, dashed=link.dashed)


def _draw_curve(canvas: Canvas, link: Link) -> None:
    a, b = link.source, link.target
    place = (link.slot[0] + 1) / (link.slot[1] + 1)
    if link.kind == "arc":
        start = (a.x, a.y - a.height / 2 - CLEAR)
        end = (b.left + place * b.width * 0.8, b.y - b.height / 2 - CLEAR)
        peak = min(start[1], end[1]) - 1.34 * _rise(link)
        shoulder = 0.25 * (end[0] - start[0])
        canvas.curve(start, (start[0] + shoulder, peak), (end[0] - shoulder, peak), end, link.colour, dashed=True)
        return
    end = (b.left - CLEAR, b.y - b.height / 2 + place * b.height)
    if link.kind == "climb":  # up and then across, so that it passes around the levels between
        start = (a.right - min(0.9, 0.17 * (a.row - b.row)) * a.width, a.top - CLEAR)
        canvas.curve(start, (start[0], end[1] + 0.3 * (start[1] - end[1])), (start[0], end[1]), end, link.colour)
    else:
        start = (a.right + CLEAR, a.y)
        reach = max(24.0, 0.45 * (end[0] - start[0]))
        canvas.curve(start, (start[0] + reach, start[1]), (end[0] - reach, end[1]), end, link.colour)


def _edge(box: Box, towards: Box) -> Point:
    """Where the line between two centres leaves a box and its text."""
    dx, dy = towards.x - box.x, towards.y - box.y
    down = (box.bottom if dy > 0 else 2 * box.y - box.top) - box.y
    sides = [(box.width / 2 + CLEAR) / abs(dx)] if dx else []
    ends = [(down + CLEAR) / abs(dy)] if dy else []
    share = min([*sides, *ends, 0.5])
    return box.x + share * dx, box.y + share * dy
