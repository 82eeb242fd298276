"""Metrics beside the usual ones: asked for by name, shown and written."""

from __future__ import annotations

import json

import numpy as np
import pytest

from unetkit.cli import main
from unetkit.core.errors import PlanError
from unetkit.evaluate.folders import wanted_metrics
from unetkit.metrics.scoring import possible, score_case, usual


@pytest.mark.parametrize(
    ("names", "ndim", "message"),
    [
        (("hd59",), 2, "--metrics: there is no metric 'hd59'; there are hd95, .*did you mean 'hd95'"),
        (("cldice",), 1, "--metrics: cldice is not for signals; for these there are onset_f1"),
        (("onset_f1",), 3, "--metrics: onset_f1 is not for volumes; for these there are hd95"),
    ],
)
def test_a_metric_that_there_is_not_is_named(names, ndim, message):
    with pytest.raises(PlanError, match=message):
        wanted_metrics(names, ndim)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_all_and_the_usual_metrics_of_any_number_of_axes(ndim):
    label = np.zeros((12,) * ndim, np.uint8)
    label[(slice(3, 8),) * ndim] = 1
    assert wanted_metrics(None, ndim) is None
    everything = score_case("a", label, label, 2, more=wanted_metrics(("all",), ndim))
    assert set(possible(ndim)) <= set(everything.classes)
    assert set(usual(ndim)) <= set(score_case("a", label, label, 2).classes)
    assert all(everything.classes[name][1] in (0.0, 1.0) for name in possible(ndim))


def test_regions_have_distances_each(tmp_path):
    label = np.zeros((20, 20), np.uint8)
    label[4:10, 4:10] |= 1
    label[6:9, 6:9] |= 2
    found = label.copy()
    found[6:9, 9] |= 2
    scores = score_case("a", label, found, 2, regions=True, more=("hausdorff",))
    assert scores.classes["hausdorff"] == (0.0, 1.0)


def test_evaluate_shows_and_writes_what_was_asked_for(tmp_path, capsys):
    from PIL import Image

    for folder, shift in (("truth", 0), ("found", 1)):
        mask = np.zeros((40, 40), np.uint8)
        mask[10 + shift : 20 + shift, 10:30] = 255
        (tmp_path / folder).mkdir()
        Image.fromarray(mask).save(tmp_path / folder / "a.png")
    arguments = ["evaluate", str(tmp_path / "found"), str(tmp_path / "truth"), "--metrics", "hd95, cldice"]
    assert main([*arguments, "-o", str(tmp_path / "scores")]) == 0
    shown = capsys.readouterr()
    assert "HD95" in shown.out + shown.err
    assert "clDice" in shown.out + shown.err
    rows = json.loads((tmp_path / "scores" / "scores.json").read_text())["summary"]
    assert next(row["mean"] for row in rows if row["class"] == "mean" and row["metric"] == "hd95") == 1.0
    assert "hd95" in (tmp_path / "scores" / "scores.csv").read_text().splitlines()[0]
    assert main(["evaluate", str(tmp_path / "found"), str(tmp_path / "truth"), "--metrics", "hd59"]) == 2
