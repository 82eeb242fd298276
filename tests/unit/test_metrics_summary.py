"""Means with intervals, and the score table as rows, CSV and JSON."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from unetkit.metrics import METRICS, Scores, score_case, summarise


def test_the_interval_is_that_of_a_normal_mean() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.1, 400)
    s = summarise(values)
    assert s.mean == pytest.approx(values.mean())
    assert s.high - s.low == pytest.approx(2 * 1.96 * 0.1 / 20, rel=0.1)
    assert (s.n, s.missing) == (400, 0)
    assert summarise(values) == s
    assert summarise(values, seed=1) != s


def test_groups_widen_the_interval_when_their_images_are_alike() -> None:
    values = np.repeat(np.random.default_rng(1).normal(0.8, 0.1, 20), 10)
    groups = np.repeat(np.arange(20), 10).tolist()
    alone, grouped = summarise(values), summarise(values, groups)
    assert grouped.mean == pytest.approx(alone.mean)
    assert grouped.high - grouped.low > 2.5 * (alone.high - alone.low)


def test_the_mean_over_classes_gives_each_class_the_same_weight() -> None:
    """Class b occurs once only, and counts half."""
    s = summarise(np.array([[0.9, math.nan], [0.7, math.nan], [math.nan, math.nan], [0.8, 0.2]]))
    assert s.mean == pytest.approx((0.8 + 0.2) / 2)
    assert (s.n, s.missing) == (3, 1)


@pytest.mark.parametrize(
    ("values", "groups", "mean"),
    [([0.5], None, 0.5), ([0.5, math.nan], None, 0.5), ([0.5, 0.7], ["rat", "rat"], 0.6)],
)
def test_one_unit_has_a_mean_but_no_interval(values: list[float], groups: list[str] | None, mean: float) -> None:
    s = summarise(values, groups)
    assert s.mean == pytest.approx(mean)
    assert math.isnan(s.low)
    assert math.isnan(s.high)


def test_no_value_at_all() -> None:
    for values in ([], [math.nan, math.nan]):
        s = summarise(values)
        assert math.isnan(s.mean)
        assert (s.n, s.missing) == (0, len(values))


def test_groups_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="3 images and 2 groups"):
        summarise([1, 2, 3], ["a", "b"])


def table() -> Scores:
    rng = np.random.default_rng(0)
    cases = []
    for i in range(4):
        label = rng.integers(0, 2, (12, 13))
        label[:2] = 255
        prediction = np.where(rng.random(label.shape) < 0.8, label, 1 - label).clip(0, 1)
        cases.append(score_case(f"a,{i}", label, prediction, 3, group=f"rat{i // 2}", image={"v_rand": i / 4}))
    return Scores(("background", "cell", 'rare "one"'), (1, 2), tuple(cases))


def test_rows() -> None:
    scores = table()
    rows = scores.rows()
    assert len(rows) == 12
    assert list(rows[0]) == ["case", "group", "class", "truth_pixels", *METRICS]
    assert rows[1]["class"] == "cell"
    assert rows[1]["dice"] == scores.cases[0].classes["dice"][1]
    assert rows[2]["dice"] is None
    # the background, and the class that no image has, leave the mean alone
    expected = np.mean([case.classes["dice"][1] for case in scores.cases])
    assert scores.mean("dice").mean == pytest.approx(expected)
    assert scores.mean("v_rand").mean == pytest.approx(0.375)
    assert scores.case_mean(scores.cases[0]) == scores.cases[0].classes["dice"][1]
    assert math.isnan(scores.class_mean("dice", 2).mean)
    summary = scores.summary_rows()
    assert [row["metric"] for row in summary[:6]] == [*METRICS, "v_rand"]
    assert {row["class"] for row in summary} == {"mean", *scores.class_names}


def test_csv_and_json_files(tmp_path: Path) -> None:
    scores = table()
    table_path, full_path = scores.write(tmp_path / "new")
    with table_path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert rows[0]["case"] == "a,0"
    assert rows[2]["class"] == 'rare "one"'
    assert rows[2]["dice"] == ""
    assert float(rows[1]["dice"]) == scores.cases[0].classes["dice"][1]
    assert float(rows[5]["v_rand"]) == 0.25
    full = json.loads(full_path.read_text(), parse_constant=pytest.fail)
    assert full["foreground"] == ["cell", 'rare "one"']
    assert full["interval"] == "95 % percentile bootstrap over groups"
    assert full["rows"] == scores.rows()
    assert full["summary"][0]["class"] == "mean"
    assert full["summary"][0]["mean"] == pytest.approx(scores.mean("dice").mean)
    assert full["summary"][-5] == {
        "class": 'rare "one"', "metric": "dice", "mean": None, "low": None, "high": None, "n": 0, "missing": 4,
    }  # fmt: skip
    assert full["cases"][1]["v_rand"] == 0.25
    assert full["cases"][1]["iou"] == scores.cases[1].classes["iou"][1]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["scores.csv", "scores.json"]


def test_no_case_at_all() -> None:
    scores = Scores(("background", "cell"), (1,), ())
    assert scores.rows() == []
    assert scores.as_json()["summary"][0]["mean"] is None
