"""Boxes, lines and text as SVG. The page is as large as what was drawn, so nothing is cut. Needs no library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

Point = tuple[float, float]

INK, PAPER = "#1f2937", "#ffffff"
FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
MARGIN = 18
HEAD = 6.0  # length of an arrow's head


def text_width(text: str, size: float = 11) -> float:
    """About how wide a text is: no font is measured, and most are narrower."""
    return size * sum(0.84 if c == "×" else 0.64 if c.isdigit() or c.isupper() else 0.54 for c in text)


@dataclass
class Canvas:
    """What was drawn so far, and how far it reaches. Coordinates are pixels, y downwards, and may be negative."""

    _shapes: list[str] = field(default_factory=list)
    _low: list[float] = field(default_factory=lambda: [math.inf, math.inf])
    _high: list[float] = field(default_factory=lambda: [-math.inf, -math.inf])

    @property
    def left(self) -> float:
        """The smallest x so far."""
        return self._low[0]

    @property
    def right(self) -> float:
        """The largest x so far."""
        return self._high[0]

    @property
    def top(self) -> float:
        """The smallest y so far."""
        return self._low[1]

    @property
    def bottom(self) -> float:
        """The largest y so far."""
        return self._high[1]

    def box(
        self, x: float, y: float, width: float, height: float, fill: str, stroke: str, *, dashed: bool = False
    ) -> None:
        """A rectangle with its upper left corner at (x, y)."""
        self._reach((x, y), (x + width, y + height))
        dash = ' stroke-dasharray="3 2"' if dashed else ""
        self._shapes.append(
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="1.5" fill="{fill}" '
            f'stroke="{stroke}"{dash}/>'
        )

    def circle(self, centre: Point, text: str, colour: str, radius: float = 8) -> None:
        """A circle with a sign in it."""
        x, y = centre
        self._reach((x - radius, y - radius), (x + radius, y + radius))
        self._shapes.append(
            f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" fill="{PAPER}" stroke="{colour}" stroke-width="1.4"/>'
        )
        self.text((x, y + 4), text, size=12, colour=colour, bold=True)

    def line(self, points: Sequence[Point], colour: str, *, dashed: bool = False, head: bool = True) -> None:
        """Straight pieces through the points, with a head at the end."""
        self._reach(*points)
        ends = [*points[:-1], _short(points[-2], points[-1]) if head else points[-1]]
        self._stroke("M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in ends), colour, dashed)
        if head:
            self._head(points[-2], points[-1], colour)

    def curve(self, start: Point, pull: Point, push: Point, end: Point, colour: str, *, dashed: bool = False) -> None:
        """A cubic curve with a head: it leaves `start` towards `pull` and comes to `end` from `push`."""
        self._reach(start, end, *(_cubic(start, pull, push, end, t / 8) for t in range(1, 8)))
        short = _short(push, end)
        numbers = " ".join(f"{_n(x)} {_n(y)}" for x, y in (pull, push, short))
        self._stroke(f"M{_n(start[0])} {_n(start[1])}C{numbers}", colour, dashed)
        self._head(push, end, colour)

    def text(
        self,
        at: Point,
        text: str,
        *,
        size: float = 11,
        anchor: str = "middle",
        colour: str = INK,
        bold: bool = False,
    ) -> None:
        """One line of text on the base line `at`; anchor: start, middle, end."""
        x, y = at
        width = text_width(text, size)
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        self._reach((left, y - size), (left + width, y + 0.3 * size))
        weight = ' font-weight="bold"' if bold else ""
        self._shapes.append(
            f'<text x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" text-anchor="{anchor}" fill="{colour}"{weight}>'
            f"{escape(text)}</text>"
        )

    def document(self, title: str, description: str) -> str:
        """The whole file. It has its own light background, so that it can be read on a dark page too."""
        x, y = (n - MARGIN for n in self._low)
        width, height = (high - low + 2 * MARGIN for low, high in zip(self._low, self._high, strict=True))
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{_n(x)} {_n(y)} {_n(width)} {_n(height)}" '
            f'width="{_n(width)}" height="{_n(height)}" font-family="{escape(FONT)}" role="img">\n'
            f"<title>{escape(title)}</title>\n<desc>{escape(description)}</desc>\n"
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="6" fill="{PAPER}"/>\n'
        )
        return head + "\n".join(self._shapes) + "\n</svg>\n"

    def _stroke(self, path: str, colour: str, dashed: bool) -> None:
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self._shapes.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.4"{dash}/>')

    def _head(self, before: Point, tip: Point, colour: str) -> None:
        angle = math.atan2(tip[1] - before[1], tip[0] - before[0])
        corners = [tip, *(_polar(tip, angle + turn, HEAD + 1) for turn in (math.pi - 0.42, math.pi + 0.42))]
        points = " ".join(f"{_n(x)},{_n(y)}" for x, y in corners)
        self._shapes.append(f'<polygon points="{points}" fill="{colour}"/>')

    def _reach(self, *points: Point) -> None:
        for point in points:
            for axis in (0, 1):
                self._low[axis] = min(self._low[axis], point[axis])
                self._high[axis] = max(self._high[axis], point[axis])


def _short(before: Point, tip: Point) -> Point:
    """Where a line ends whose head has its tip there."""
    return _polar(tip, math.atan2(before[1] - tip[1], before[0] - tip[0]), HEAD - 1)


def _polar(origin: Point, angle: float, distance: float) -> Point:
    return origin[0] + distance * math.cos(angle), origin[1] + distance * math.sin(angle)


def _cubic(a: Point, b: Point, c: Point, d: Point, t: float) -> Point:
    u = 1 - t
    x, y = (u**3 * a[axis] + 3 * u * u * t * b[axis] + 3 * u * t * t * c[axis] + t**3 * d[axis] for axis in (0, 1))
    return x, y


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
