"""Calibration: what is fitted, where it is applied, and that tiles, views and decisions see the same probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from unetkit.core.errors import PlanError
from unetkit.core.region import Region
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.nets.build import build
from unetkit.nets.spec import NetSpec
from unetkit.predict.calibration import Calibration, fit_calibration, truth_of
from unetkit.predict.confidence import calibration_report
from unetkit.predict.heldout import HeldOut
from unetkit.predict.options import PredictOptions
from unetkit.predict.predictor import Predictor
from unetkit.predict.tuned import Tuned


def legend(classes: int = 3, kind: str = "values", border: int = 0) -> Legend:
    entries = [LegendClass(name=f"c{k}", value=k + (kind == "regions"), colour=(k, k, k)) for k in range(classes)]
    if kind == "instances":
        entries = [entry.model_copy(update={"value": k}) for entry, k in zip(entries, (0, 255, 254), strict=False)]
    return Legend(kind=kind, classes=tuple(entries), background=None if kind == "regions" else 0, border=border)


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(0))
    return e / e.sum(0)


def held(shares: np.ndarray, truth: np.ndarray, name: str, group: str | None = None) -> HeldOut:
    kept = shares.astype(np.float16)
    return HeldOut(name, group, Region.of(truth.shape), truth, lambda: np.maximum(kept.astype(np.float32), 6e-8))


def wrong_by(
    temperatures: Sequence[float], offsets: Sequence[float] = (), cases: int = 8, shape: tuple[int, ...] = (40, 50)
) -> list[HeldOut]:
    """Cases whose true probabilities are softmax(log p / T + b) of what is said of them."""
    made, classes = [], len(temperatures)
    per_class = (classes, *(1,) * len(shape))
    for n in range(cases):
        rng = np.random.default_rng(n)
        said = softmax(rng.normal(0, 3, (classes, *shape)))
        true = np.log(said) / np.reshape(temperatures, per_class) + np.reshape(offsets or [0.0] * classes, per_class)
        chance = np.cumsum(softmax(true), 0)
        truth = (rng.random(shape)[None] > chance).sum(0).clip(0, classes - 1).astype(np.uint8)
        truth[:2] = 255
        made.append(held(said, truth, f"case{n}"))
    return made


def test_one_temperature_is_found() -> None:
    found = fit_calibration(wrong_by((1.8, 1.8, 1.8)), legend())
    assert found.temperatures == pytest.approx((1.8,) * 3, rel=0.05)
    assert len(set(found.temperatures)) == 1
    assert not found.offsets
    assert "one temperature, fitted on 8 held-out cases" in found.why


def test_a_temperature_for_each_class_where_the_data_bear_it() -> None:
    found = fit_calibration(wrong_by((2.5, 1.2, 0.7)), legend())
    assert found.temperatures == pytest.approx((2.5, 1.2, 0.7), rel=0.1)
    few = fit_calibration(wrong_by((2.5, 1.2, 0.7), cases=3), legend())
    assert len(set(few.temperatures)) == 1


def test_offsets_are_found_but_not_what_they_have_in_common() -> None:
    found = fit_calibration(wrong_by((1.5, 1.5, 1.5), (-1.0, 0.0, 1.0)), legend())
    assert found.offsets == pytest.approx((-1.0, 0.0, 1.0), abs=0.1)
    assert found.temperatures == pytest.approx((1.5,) * 3, rel=0.1)


def test_what_is_true_already_stays() -> None:
    found = fit_calibration(wrong_by((1.0, 1.0, 1.0)), legend())
    assert found.neutral or found.temperatures == pytest.approx((1.0,) * 3, abs=0.03)


def test_equal_input_gives_equal_output_and_temperatures_are_bounded() -> None:
    cases = wrong_by((1.4, 1.4, 1.4), cases=4)
    assert fit_calibration(cases, legend()) == fit_calibration(cases, legend())
    hopeless = [
        held(
            softmax(np.random.default_rng(n).normal(0, 9, (2, 30, 30))),
            np.uint8(n % 2) * np.ones((30, 30), np.uint8),
            f"{n}",
        )
        for n in range(4)
    ]
    assert max(fit_calibration(hopeless, legend(2)).temperatures) == 8.0


def test_nothing_judged_is_neutral() -> None:
    shares = softmax(np.random.default_rng(0).normal(0, 1, (3, 9, 9)))
    assert fit_calibration([held(shares, np.full((9, 9), 255, np.uint8), "a")], legend()).neutral


def test_regions_have_a_temperature_each() -> None:
    cases = []
    for n in range(6):
        rng = np.random.default_rng(n)
        logit = rng.normal(0, 4, (2, 60, 60)).clip(-8, 8)
        true = 1 / (1 + np.exp(-logit / np.array([2.0, 1.0]).reshape(2, 1, 1)))
        bits = rng.random(logit.shape) < true
        cases.append(held(1 / (1 + np.exp(-logit)), (bits[0] + 2 * bits[1]).astype(np.uint8), f"{n}"))
    found = fit_calibration(cases, legend(2, "regions"))
    assert found.temperatures == pytest.approx((2.0, 1.0), rel=0.1)


def test_objects_that_touch_are_fitted_in_the_classes_of_the_network() -> None:
    ids = np.zeros((20, 24), np.int32)
    ids[2:10, 2:12], ids[2:10, 12:20] = 1, 2
    truth = (ids > 0).astype(np.uint8)
    truth[15:] = 255
    kind = legend(3, "instances", border=2)
    case = HeldOut("a", None, Region.of(ids.shape), truth, lambda: np.full((3, 20, 24), 1 / 3, np.float32), ids)
    label = truth_of(case, kind)
    assert set(np.unique(label[:15])) == {0, 1, 2}
    assert (label[15:] == 255).all()
    np.testing.assert_array_equal(kind.merge(label)[:15], truth[:15])
    assert label[5, 11] == label[5, 12] == 2  # between the two


@pytest.mark.parametrize("regions", [False, True])
def test_logits_and_their_probabilities_are_calibrated_alike(regions: bool) -> None:
    logits = torch.from_numpy(np.random.default_rng(1).normal(0, 2, (3, 7, 6)).astype(np.float32))
    shares = torch.sigmoid(logits) if regions else torch.softmax(logits, 0)
    calibration = Calibration(temperatures=(1.5, 0.8, 3.0), offsets=(0.3, 0.0, -0.3))
    one, two = calibration.logits(logits, regions, True), calibration.logits(shares, regions, False)
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)
    found = calibration.apply(shares.numpy(), regions)
    if regions:
        expected = 1 / (1 + np.exp(-(logits.numpy() / [[[1.5]], [[0.8]], [[3.0]]] + [[[0.3]], [[0.0]], [[-0.3]]])))
    else:
        expected = softmax(np.log(shares.numpy()) / [[[1.5]], [[0.8]], [[3.0]]] + [[[0.3]], [[0.0]], [[-0.3]]])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(ValueError, match="3 temperatures do not fit 2 classes"):
        calibration.logits(logits[:2], regions, True)


def test_one_temperature_changes_no_label() -> None:
    logits = torch.from_numpy(np.random.default_rng(2).normal(0, 4, (4, 50, 50)).astype(np.float32))
    calibrated = Calibration(temperatures=(2.2,) * 4).logits(logits, False, True)
    assert torch.equal(calibrated.argmax(0), logits.argmax(0))


@pytest.mark.parametrize("tta", [False, True])
def test_tiles_are_calibrated_as_the_whole_image(tta: bool) -> None:
    net = build(NetSpec(channels=(4, 6), classes=3, blocks=1), seed=3).eval()
    image = np.random.default_rng(3).normal(0, 1, (1, 60, 70)).astype(np.float32)
    calibration = Calibration(temperatures=(3.0, 1.0, 0.5), offsets=(0.5, 0.0, -0.5))
    plain = Predictor(net, PredictOptions(precision="fp32", tta=tta)).array(image, probabilities=True)
    options = PredictOptions(precision="fp32", tta=tta, calibration=calibration)
    whole = Predictor(net, options)
    shares = whole.array(image, probabilities=True)
    np.testing.assert_allclose(shares, calibration.apply(plain, False), atol=1e-5)
    np.testing.assert_array_equal(whole.array(image), shares.argmax(0))
    assert (whole.array(image) != plain.argmax(0)).any()
    tiled = Predictor(net, options.model_copy(update={"tile": (16, 16)}))
    np.testing.assert_allclose(tiled.array(image, probabilities=True), shares, atol=1e-5)


def test_networks_that_overlap_are_calibrated_after_the_mean() -> None:
    """Blended tiles, too: a network that sees the whole image, and an ensemble."""
    nets = [
        build(NetSpec(channels=(4, 6), classes=2, blocks=1, norm=norm), seed=n).eval()
        for n, norm in enumerate(("instance",) * 2)
    ]
    image = np.random.default_rng(4).normal(0, 1, (1, 48, 48)).astype(np.float32)
    calibration = Calibration(temperatures=(2.0, 1.5))
    options = {"precision": "fp32", "tile": (32, 32)}
    plain = Predictor(nets, PredictOptions(**options)).array(image, probabilities=True)
    found = Predictor(nets, PredictOptions(**options, calibration=calibration)).array(image, probabilities=True)
    np.testing.assert_allclose(found, calibration.apply(plain, False), atol=1e-5)


def test_the_report_judges_each_half_by_the_other() -> None:
    cases = wrong_by((2.0, 2.0, 2.0), cases=6)
    report = calibration_report(cases, legend())
    assert report.crossed
    assert report.after.ece < 0.3 * report.before.ece
    assert report.after.brier < report.before.brier
    record = report.as_json()
    assert record["cases"] == 6
    assert [entry["class"] for entry in record["after"]["classes"]] == ["c0", "c1", "c2"]
    top = record["before"]["reliability"]["top"]
    assert sum(row[0] for row in top) == report.before.pixels == 6 * 38 * 50
    assert not calibration_report(cases[:3], legend()).crossed


def test_groups_stay_together() -> None:
    """One patient in three does not make three."""
    cases = [held(case.probabilities(), case.truth_X, case.id, "one") for case in wrong_by((2.5, 1.0, 0.7), cases=6)]
    assert not calibration_report(cases, legend()).crossed
    assert len(set(fit_calibration(cases, legend()).temperatures)) == 1


def test_it_is_kept_with_the_run(tmp_path: Path) -> None:
    tuned = Tuned(calibration=Calibration(temperatures=(1.2, 0.9), offsets=(0.1, -0.1), why="so"))
    tuned.save(tmp_path)
    assert Tuned.load(tmp_path) == tuned
    (tmp_path / "tuned.json").write_text('{"calibration": {"temperatures": [1.0], "offsets": [0.1, 0.2]}}')
    with pytest.raises(PlanError, match="2 offsets do not fit 1 temperatures"):
        Tuned.load(tmp_path)
    (tmp_path / "tuned.json").write_text('{"calibration": {"temperatures": [0.0]}}')
    with pytest.raises(PlanError, match=r"'calibration.temperatures.0': input should be greater than or equal to 0.25"):
        Tuned.load(tmp_path)
