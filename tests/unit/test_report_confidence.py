"""The report's section on confidence: drawn from metrics.json, and nothing where that says nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unetkit.report.card import render_card
from unetkit.report.charts import Curve, draw
from unetkit.report.confidence import confidence_view
from unetkit.report.facts import read_facts
from unetkit.report.page import render


def side(off: float) -> dict[str, Any]:
    bins = [[10000, x / 10 + 0.05, min(1.0, x / 10 + 0.05 - off)] for x in range(4, 10)]
    classes = [{"class": name, "ece": off, "auc": 0.99, "ap": 0.95} for name in ("background", "cell", "debris")]
    tables = [{"class": name, "bins": [[5, 0.5, 0.9], *bins]} for name in ("background", "cell", "debris")]
    return {
        "ece": off,
        "ece_mass": off,
        "ece_by_class": off / 2,
        "brier": 0.1 + off,
        "nll": 0.2 + off,
        "classes": classes,
        "reliability": {"top": bins, "classes": tables},
    }


RECORD = {"cases": 6, "crossed": True, "before": side(0.04), "after": side(0.01)}
CASES = [{"case": f"case{n:02d}", "predicted": 0.8 + n / 50, "low": 0.7, "high": 0.95, "true": 0.81} for n in range(6)]
QUALITY = {"spearman": 0.71, "error": 0.034, "inside": 5 / 6, "cases": CASES}


def recorded(run: Path, **values: Any) -> Path:
    path = run / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return run


def test_what_is_measured_is_shown(made_run: Callable[..., Path]) -> None:
    run = recorded(made_run(), calibration=RECORD, quality=QUALITY)
    view = confidence_view(read_facts(run))
    assert view is not None
    assert view.rows[0] == ("Expected calibration error of the class that is chosen (15 bins)", 0.04, 0.01)
    assert [chart.title for chart in view.charts] == [
        "Sure and right",
        "cell: foretold and true",
        "debris: foretold and true",
        "Dice of images, foretold and true",
    ]
    assert [curve.name for curve in view.charts[0].curves] == ["after calibration", "before", "as it should be"]
    assert len(view.charts[1].curves[0].marks) == 6  # the bin of five pixels says nothing
    text = " ".join(render(run).split())
    assert "It is off by 4.00 percentage points in the mean, and by 1.00 after calibration" in text
    assert "of each half after calibration by the other half" in text
    assert (
        "their rank correlation with the true ones is 0.71 (Spearman), the mean error is 0.034; 83 of 100 lie" in text
    )
    assert '<a href="#confidence">' in text
    card = render_card(run)
    assert "## Probabilities" in card
    assert "| Brier score | 0.1400 | 0.1100 |" in card


def test_what_was_not_crossed_says_so(made_run: Callable[..., Path]) -> None:
    view = confidence_view(read_facts(recorded(made_run(), calibration=RECORD | {"crossed": False, "cases": 1})))
    assert view is not None
    assert view.notes == (
        "Measured on 1 image that the network was not trained on, too few to be parted: calibration was "
        "fitted on the same, which is kind to it.",
    )
    assert not [chart for chart in view.charts if "Dice" in chart.title]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"calibration": None, "quality": None},
        {"calibration": [1], "quality": "good"},
        {"calibration": {"before": 3}},
    ],
)
def test_runs_without_it_have_no_such_section(made_run: Callable[..., Path], values: dict[str, Any]) -> None:
    run = recorded(made_run(), **values)
    assert confidence_view(read_facts(run)) is None
    assert 'href="#confidence"' not in render(run)
    assert "## Probabilities" not in render_card(run)


def test_damaged_bins_are_passed_over(made_run: Callable[..., Path]) -> None:
    odd = side(0.04) | {"reliability": {"top": [["a", 1, 2], [100, None, 0.5], 7], "classes": [3]}}
    view = confidence_view(read_facts(recorded(made_run(), calibration=RECORD | {"before": odd, "after": odd})))
    assert view is not None
    assert view.charts == ()


def test_a_chart_may_begin_anywhere() -> None:
    chart = draw("a", "x", "y", [Curve("c", ((0.7, 0.7), (1.0, 1.0)))], (0.7, 1.0), x_range=(0.7, 1.0))
    assert chart is not None
    assert [tick.label for tick in chart.x_ticks] == ["0.7", "0.8", "0.9", "1"]
    assert chart.x_ticks[0].at == chart.left
