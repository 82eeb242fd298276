"""Curves as numbers: axes with round ticks and paths in SVG units, which the page's template draws in its own colours.

A chart is a box of 440 × 250 units, so that its text stays readable on a phone and three fit side by side on a desk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 14, 44  # margins: room for tick labels and axis titles
POINTS = 300  # more points than this per curve are averaged in equal bins: the screen shows no more

Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """One named series. `style` is a CSS class (s0 … s7, faint); `marks` draws a dot with a tooltip at each point."""

    name: str
    points: tuple[Point, ...]
    style: str = "s0"
    marks: bool = False


@dataclass(frozen=True)
class Tick:
    """Position along the axis in SVG units, and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Mark:
    """A dot in SVG units with the text that it shows on hovering."""

    x: float
    y: float
    label: str
    strong: bool = False


@dataclass(frozen=True)
class DrawnCurve:
    """A curve ready to draw: SVG path data, and dots."""

    name: str
    style: str
    path: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Chart:
    """A drawn chart: everything in SVG units, ready for the template."""

    title: str
    x_title: str
    y_title: str
    description: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    curves: tuple[DrawnCurve, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def draw(
    title: str,
    x_title: str,
    y_title: str,
    curves: Sequence[Curve],
    y_range: tuple[float, float] | None = None,
    best: Point | None = None,
    x_range: tuple[float, float] | None = None,
) -> Chart | None:
    """Lay out curves on common axes; None where no curve has a point. `best` is marked by a ring on the first curve.

    The horizontal axis starts at 0, unless `x_range` fixes it. `y_range` fixes the vertical one; else it spans the data
    in round steps.
    """
    curves = [c for c in curves if c.points]
    if not curves:
        return None
    xs = [x for c in curves for x, _ in c.points]
    ys = [y for c in curves for _, y in c.points]
    x_span = x_range or (min(0.0, *xs), max(xs) if max(xs) > 0 else 1.0)
    x_ticks = ticks(*x_span, 5)
    low, high = y_range or (min(ys), max(ys))
    y_ticks = ticks(low, high, 5)
    y_span = y_range or (min(y_ticks[0], low), max(y_ticks[-1], high))
    if y_span[0] == y_span[1]:
        y_span = (y_span[0] - 0.5, y_span[1] + 0.5)

    def px(x: float) -> float:
        return round(LEFT + (x - x_span[0]) / (x_span[1] - x_span[0]) * (WIDTH - LEFT - RIGHT), 1)

    def py(y: float) -> float:
        inside = min(max((y - y_span[0]) / (y_span[1] - y_span[0]), 0.0), 1.0)
        return round(HEIGHT - BOTTOM - inside * (HEIGHT - TOP - BOTTOM), 1)

    drawn = []
    for n, curve in enumerate(curves):
        path = "M" + "L".join(f"{px(x)} {py(y)}" for x, y in thin(curve.points))
        dots = curve.points if curve.marks else ()
        marks = [Mark(px(x), py(y), f"{curve.name}: {short(y)} at {x:g}") for x, y in dots]
        if n == 0 and best is not None:
            marks.append(Mark(px(best[0]), py(best[1]), f"best: {short(best[1])} at {best[0]:g}", strong=True))
        drawn.append(DrawnCurve(curve.name, curve.style, path, tuple(marks)))
    first, last = curves[0].points[0], curves[0].points[-1]
    return Chart(
        title=title,
        x_title=x_title,
        y_title=y_title,
        description=f"{title}: {curves[0].name} from {short(first[1])} to {short(last[1])}",
        x_ticks=tuple(Tick(px(x), short(x)) for x in x_ticks if x_span[0] <= x <= x_span[1]),
        y_ticks=tuple(Tick(py(y), short(y)) for y in y_ticks if y_span[0] <= y <= y_span[1]),
        curves=tuple(drawn),
    )


def ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten apart) that cover [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / max(1, count - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.8)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, last + 1)]


def short(value: float) -> str:
    """A number for a label: three significant digits, 1k for a thousand, 1e-04 only for the very small."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 10_000:
        return f"{value / 1000:.3g}k"
    if size < 0.001:
        return f"{value:.2g}".replace("e-0", "e-")
    return f"{value:.4g}" if size >= 1 else f"{value:.3g}"


def smooth(points: Sequence[Point], share: float = 0.05) -> tuple[Point, ...]:
    """The mean over a window of `share` of all points, centred (so that it does not lag), narrower at the ends."""
    half = int(share * len(points) / 2)
    total = list(accumulate((y for _, y in points), initial=0.0))
    out = []
    for n, (x, _) in enumerate(points):
        reach = min(half, n, len(points) - 1 - n)
        out.append((x, (total[n + reach + 1] - total[n - reach]) / (2 * reach + 1)))
    return tuple(out)


def thin(points: Sequence[Point], most: int = POINTS) -> tuple[Point, ...]:
    """At most `most` points: the means of equal runs of neighbours (the last point is kept as it is)."""
    if len(points) <= most:
        return tuple(points)
    run = math.ceil((len(points) - 1) / (most - 1))
    parts = [points[n : n + run] for n in range(0, len(points) - 1, run)]
    means = [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]
    return (*means, points[-1])


def rising(points: Sequence[Point]) -> tuple[Point, ...]:
    """One point per x, x ascending. A resumed run repeats the steps after its last save: the later record counts."""
    kept: list[Point] = []
    for point in points:
        while kept and kept[-1][0] >= point[0]:
            kept.pop()
        kept.append(point)
    return tuple(kept)
