"""The held-out pass: what a model says of cases it never saw is kept, decided by what others taught, and scored."""

from __future__ import annotations

import json

import numpy as np
import pytest

from unetkit.core.events import drain
from unetkit.core.region import Region
from unetkit.job.heldout import MOST_VALUES, forget, hold_out, window_of
from unetkit.job.sides import Side
from unetkit.job.tuning import crossed, decoded, teach
from unetkit.job.understand import understand
from unetkit.plan.plan import Request
from unetkit.predict.calibration import Calibration
from unetkit.predict.heldout import HeldOut, halves
from unetkit.predict.load import load_plan
from unetkit.predict.tuned import TUNED, Tuned


def held(name: str, group: str | None = None) -> HeldOut:
    return HeldOut(
        name, group, Region.of((2, 2)), np.zeros((2, 2), np.uint8), lambda: np.full((3, 2, 2), 1 / 3, np.float32)
    )


def test_halves_share_no_group_and_are_of_like_size():
    cases = [held(str(k), f"g{k // 3}") for k in range(12)] + [held("x"), held("y")]
    one, two = halves(cases)
    assert sorted((*one, *two)) == list(range(14))
    assert {cases[k].group for k in one if cases[k].group}.isdisjoint(cases[k].group for k in two if cases[k].group)
    assert abs(len(one) - len(two)) <= 1


def test_fewer_than_four_units_are_not_parted():
    assert halves([held(str(k), f"g{k % 3}") for k in range(12)]) is None
    assert halves([held(str(k)) for k in range(3)]) is None


@pytest.mark.parametrize(("shape", "classes"), [((512, 512), 3), ((40_000, 40_000), 2), ((900, 900, 900), 20)])
def test_of_a_huge_image_the_middle_is_kept(shape, classes):
    window = window_of(shape, classes)
    assert classes * window.size <= MOST_VALUES
    assert Region.of(shape).contains(window)
    if classes * np.prod(shape, dtype=float) <= MOST_VALUES:
        assert window == Region.of(shape)
    for a, b, n in zip(window.start, window.stop, shape, strict=True):
        assert abs(a - (n - b)) <= 1


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run on generated micrographs."""
    import unetkit as uk
    from unetkit.data.samples import write_samples

    folder = tmp_path_factory.mktemp("heldout")
    write_samples(folder / "data", 16, 64)
    settings = {"net.channels": [4, 8], "sampling.patch": [32, 32], "machine.threads": 1}
    request = Request(steps=30, precision="fp32", settings=settings)
    return folder / "data" / "train", uk.train(folder / "data" / "train", folder / "run", request).path


def test_what_is_kept_is_what_the_model_says(run, tmp_path):
    data, folder = run
    plan = load_plan(folder)
    cases = tuple(drain(understand(data, plan.request), None).cases("val"))
    model, predictor = Side(folder, plan, cases).open()
    assert model.tuned == Tuned()
    found = drain(hold_out(predictor, model, cases, {cases[0].id: "a"}, tmp_path / "kept", "predict"), None)
    assert [case.id for case in found] == [case.id for case in cases]
    assert found[0].group == "a"
    from unetkit.data.prepared.prepare import CaseReader

    for case, kept in zip(cases, found, strict=True):
        with CaseReader(case, model.prepare) as reader:
            shares = predictor.whole(reader, probabilities=True)
            label = predictor.whole(reader)
        np.testing.assert_allclose(kept.probabilities(), shares, atol=1e-3)
        again = decoded(kept, plan, Tuned())[0]
        assert np.mean(again == label) > 0.999
        assert kept.truth_X.shape == kept.window.shape == label.shape
    forget(tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_the_run_keeps_what_was_taught_and_nothing_else(run):
    _, folder = run
    assert (folder / TUNED).is_file()
    assert not (folder / "held-out").exists()
    calibration = json.loads((folder / "metrics.json").read_text())["calibration"]
    assert calibration["before"]["ece"] >= 0


def test_each_half_is_decided_by_what_the_other_taught(run, monkeypatch):
    _, folder = run
    plan = load_plan(folder)
    seen = []

    def fitted(cases, legend):
        seen.append([case.id for case in cases])
        return Calibration(temperatures=(float(len(seen)),) * len(legend.classes))

    monkeypatch.setattr("unetkit.job.tuning.fit_calibration", fitted)
    monkeypatch.setattr("unetkit.job.tuning.tune_decoding", lambda *_, **__: Tuned().decoding, raising=False)
    cases = [held(str(k)) for k in range(6)]
    for case, tuned in zip(cases, crossed(cases, plan), strict=True):
        fit = seen[int(tuned.calibration.temperatures[0]) - 1]
        assert case.id not in fit
        assert len(fit) == 3
    assert [t.calibration.neutral for t in crossed(cases[:3], plan)] == [True] * 3
    assert teach([], plan) == Tuned()
