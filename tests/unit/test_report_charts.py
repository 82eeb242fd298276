"""Axes, paths and the thinning of curves."""

from __future__ import annotations

import pytest

from unetkit.report.charts import Curve, draw, rising, short, smooth, thin, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.0, 840.0, [0, 200, 400, 600, 800, 1000]),
        (0.31, 1.52, [0, 0.5, 1, 1.5, 2]),
        (0.0, 0.002, [0, 0.0005, 0.001, 0.0015, 0.002]),
        (3.0, 3.0, [3]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high, 5) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "label"),
    [(0, "0"), (0.2, "0.2"), (0.0015, "0.0015"), (0.00012, "0.00012"), (2e-5, "2e-5"), (840, "840"), (25000, "25k")],
)
def test_labels_are_short(value: float, label: str) -> None:
    assert short(value) == label


def test_nothing_to_draw() -> None:
    assert draw("Loss", "step", "loss", [Curve("loss", ())]) is None


def test_one_point_is_drawn() -> None:
    chart = draw("Dice", "step", "Dice", [Curve("mean", ((10, 0.5),), marks=True)], (0.0, 1.0), best=(10, 0.5))
    assert chart is not None
    assert [mark.strong for mark in chart.curves[0].marks] == [False, True]
    assert chart.curves[0].marks[1].label == "best: 0.5 at 10"


def test_a_constant_curve_has_an_axis() -> None:
    chart = draw("Rate", "step", "rate", [Curve("rate", ((0, 0.001), (5, 0.001)))])
    assert chart is not None
    assert [tick.label for tick in chart.y_ticks] == ["0.001"]


def test_repeated_steps_of_a_resumed_run_count_once() -> None:
    assert rising([(1, 9.0), (2, 8.0), (3, 7.0), (2, 6.0), (3, 5.0), (4, 4.0)]) == ((1, 9), (2, 6), (3, 5), (4, 4))


def test_smoothing_keeps_a_line_a_line() -> None:
    line = [(float(n), 3.0 - n / 100) for n in range(200)]
    assert [y for _, y in smooth(line)] == pytest.approx([y for _, y in line])


def test_thinning_keeps_both_ends_and_the_mean() -> None:
    points = [(float(n), float(n % 7)) for n in range(5000)]
    few = thin(points, 100)
    assert len(few) <= 100
    assert few[-1] == points[-1]
    assert sum(y for _, y in few) / len(few) == pytest.approx(3, abs=0.2)
    assert thin(points[:50], 100) == tuple(points[:50])
