"""Whatever the numbers, a chart stays inside its box and its axes cover its data."""

from __future__ import annotations

import itertools
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from unetkit.report.charts import HEIGHT, WIDTH, Curve, draw, rising, smooth, thin, ticks

numbers = st.floats(-1e6, 1e6, allow_subnormal=False)
points = st.lists(st.tuples(st.integers(0, 10_000).map(float), numbers), min_size=1, max_size=60)


@settings(deadline=None, max_examples=100)
@given(points)
def test_everything_lies_in_the_box(raw: list[tuple[float, float]]) -> None:
    chart = draw("t", "x", "y", [Curve("a", rising(raw), marks=True)])
    assert chart is not None
    drawn = [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", chart.curves[0].path)]
    drawn += [(mark.x, mark.y) for mark in chart.curves[0].marks]
    drawn += [(tick.at, HEIGHT / 2) for tick in chart.x_ticks] + [(WIDTH / 2, tick.at) for tick in chart.y_ticks]
    assert all(chart.left <= x <= chart.right and chart.top <= y <= chart.bottom for x, y in drawn if x != WIDTH / 2)
    assert all(chart.top <= y <= chart.bottom for _, y in drawn)


@settings(deadline=None, max_examples=200)
@given(numbers, st.floats(1e-6, 1e6))
def test_ticks_cover_the_range_in_few_equal_steps(low: float, span: float) -> None:
    high = low + span
    marks = ticks(low, high, 5)
    if high > low and span > 1e-5 * abs(low):
        assert marks[0] <= low + 1e-6 * span
        assert marks[-1] >= high - 1e-6 * span
        assert 2 <= len(marks) <= 9


@settings(deadline=None, max_examples=100)
@given(points, st.integers(2, 50))
def test_curves_stay_ordered_short_and_within_their_range(raw: list[tuple[float, float]], most: int) -> None:
    curve = rising(raw)
    assert all(a[0] < b[0] for a, b in itertools.pairwise(curve))
    assert curve[-1] == raw[-1]
    few = thin(curve, most)
    assert len(few) <= max(most, 2)
    low, high = min(y for _, y in curve), max(y for _, y in curve)
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert all(low - slack <= y <= high + slack for _, y in (*few, *smooth(curve)))
