"""Signals, images and volumes in memory: planned, trained, resumed, scored, shown and predicted like folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import unetkit as uk
from unetkit.core.errors import DataError, PlanError, RunError
from unetkit.core.events import Event, Progress
from unetkit.report.pictures import OUTSIDE

SIZES = {1: (300,), 2: (40, 44), 3: (14, 18, 16)}
SETTINGS = {"net.channels": [4, 8], "machine.threads": 1}


def samples(ndim: int, count: int = 6, seed: int = 0, spacing: tuple[float, ...] | None = None) -> list[uk.Sample]:
    """A bright block in noise, in every sample somewhere else."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        label = np.zeros(SIZES[ndim], np.uint8)
        block = []
        for n in SIZES[ndim]:
            start = int(random.integers(1, n // 2))
            block.append(slice(start, start + n // 3))
        label[tuple(block)] = 1
        image = (label + random.normal(0, 0.2, label.shape)).astype(np.float32)
        made.append(uk.Sample(image, label, id=f"s{number}", spacing=spacing))
    return made


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def request(**changes: Any) -> uk.Request:
    values: dict[str, Any] = {"steps": 6, "precision": "fp32", "settings": SETTINGS}
    return uk.Request(**(values | changes))


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_samples_become_a_run_that_predicts_arrays(ndim: int, tmp_path: Path) -> None:
    data = samples(ndim, spacing=(0.5,) * ndim)
    run = uk.train(data, tmp_path / "run", request(steps=12))
    assert run.finished
    assert run.plan.net.ndim == ndim
    assert len(run.plan.sampling.patch) == ndim
    assert run.plan.data.path == "samples"
    facts = json.loads((tmp_path / "run" / "fingerprint.json").read_text())
    assert facts["cases"][0]["shape"] == list(SIZES[ndim])
    assert facts["cases"][0]["spacing"] == [0.5] * ndim
    image = data[0].image
    mask = run.predict(image)
    assert mask.shape == image.shape
    probabilities = run.predict(image, probabilities=True)
    assert probabilities.shape == (2, *image.shape)
    assert np.allclose(probabilities.sum(0), 1, atol=1e-4)
    scores = uk.evaluate(run.path, data)
    assert len(scores.cases) == len(data)
    page = (tmp_path / "run" / "report.html").read_text()
    assert {1: "300 samples", 2: "44 × 40 pixels", 3: "14 × 18 × 16 voxels"}[ndim] in page


def test_a_run_on_samples_goes_on_where_it_was_and_refuses_other_samples(tmp_path: Path) -> None:
    whole = uk.train(samples(1), tmp_path / "whole", request())
    seen: list[Event] = []
    stopped = uk.api.training_events(samples(1), tmp_path / "part", request(), lambda: bool(seen))
    for event in stopped:
        if isinstance(event, Progress) and event.task == "train":
            seen.append(event)
    with pytest.raises(RunError, match="samples: the images or masks changed since this run began"):
        uk.train(samples(1, seed=1), tmp_path / "part", request())
    again = uk.train(samples(1), tmp_path / "part", request())
    assert again.finished
    names = ("weights.safetensors", "last.safetensors")
    assert [(whole.path / n).read_bytes() for n in names] == [(again.path / n).read_bytes() for n in names]


def test_pictures_of_a_volume_are_three_planes_in_their_true_proportions(tmp_path: Path) -> None:
    run = uk.train(samples(3, spacing=(1.0, 1.0, 3.0)), tmp_path / "run", request())
    entries = json.loads((run.path / "examples" / "examples.json").read_text())
    pictures = {kind: read(run.path / "examples" / entries[0][kind]) for kind in ("image", "truth", "prediction")}
    assert len({p.shape for p in pictures.values()}) == 1
    truth = pictures["truth"]
    assert set(np.unique(truth)) == {0, 1, OUTSIDE}
    across = np.flatnonzero((truth == OUTSIDE).all(0))
    first = int(across[0])  # the plane across x: y to the right, z upwards
    height = int((truth[:, 0] != OUTSIDE).sum())
    assert OUTSIDE not in truth[truth.shape[0] // 2, :first], "planes of unequal height stand in the middle"
    assert first / height == pytest.approx(18 / (16 * 3), rel=0.05)
    assert "planes x = " in entries[0]["size"]


def test_pictures_of_a_signal_show_every_sample_s_class_in_its_column(tmp_path: Path) -> None:
    data = samples(1, spacing=(0.01,))
    run = uk.train(data, tmp_path / "run", request())
    entry = json.loads((run.path / "examples" / "examples.json").read_text())[0]
    truth = read(run.path / "examples" / entry["truth"])
    label = next(s.label for s in data if s.id == entry["case"])
    assert label is not None
    assert (truth == truth[:1]).all()
    places = ((np.arange(truth.shape[1]) + 0.5) * len(label) / truth.shape[1]).astype(int)
    assert np.array_equal(truth[0], np.asarray(label)[places])
    assert entry["size"] == "300 samples (3 s, a line every 0.2 s)"


def test_integers_are_embedded_and_learnt(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    codes = [random.integers(0, 20, 400) for _ in range(5)]
    data = [uk.Sample(c, (c >= 10).astype(np.uint8), id=f"t{k}") for k, c in enumerate(codes)]
    settings = SETTINGS | {"net.vocabulary": 20, "net.channels": [8, 8], "optim.lr": 0.03}
    run = uk.train(data, tmp_path / "run", request(steps=80, settings=settings))
    assert run.plan.prepare.colour == "tokens"
    assert (run.plan.augment.scale, run.plan.augment.noise) == (0, 0)
    assert (run.predict(codes[0]) == (codes[0] >= 10)).mean() > 0.95


@pytest.mark.parametrize("ndim", [1, 3])
def test_a_named_network_is_taken_into_the_dimension_of_the_data(ndim: int, tmp_path: Path) -> None:
    plan = uk.plan(samples(ndim), request(model="unet", settings={"machine.threads": 1})).plan
    assert plan.net.ndim == ndim
    assert plan.net.channels[0] == 32, "with a budget in steps the widths are the preset's own"
    if ndim == 3:
        assert plan.net.levels < 5
        assert "of the preset's 5 levels" in plan.reasons["net.channels"]


def test_a_named_network_too_large_for_the_minutes_is_narrowed_and_says_so() -> None:
    asked = uk.Request(minutes=0.05, model="unet", precision="fp32", settings={"machine.threads": 1})
    plan = uk.plan(samples(2), asked).plan
    assert plan.net.channels[0] < 32
    assert "--model unet with a" in plan.reasons["net.channels"]
    assert "--set net.channels=[32,64,128" in plan.reasons["net.channels"]


def test_samples_cannot_be_scored_against_a_folder_of_masks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no run folder; only a run is scored on samples in memory"):
        uk.evaluate(tmp_path, samples(2))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"augment.flip": [True]}, "augment.flip has 1 entries, but the network has 2 axes"),
        ({"augment.aspect": [1, 1, 1]}, "augment.aspect has 3 entries, but the network has 2 axes"),
        ({"augment.aspect": [0, 1]}, "every length must be above 0"),
        ({"loss.scales": [0, 0]}, "weights are 0 or more, and not all 0"),
        (
            {"net.heads": [{"name": "cell", "channels": 1, "kind": "regions"}, {"name": "depth", "channels": 1}]},
            "net.heads: masks teach one set of classes, and this network has other tasks",
        ),
        ({"loss.scales": [1, 1]}, "loss.scales has 2 weights, but this network gives 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError) as caught:
        uk.train(samples(2), tmp_path / "run", request(settings=SETTINGS | settings))
    assert says in str(caught.value)
