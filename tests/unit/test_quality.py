"""The Dice that is predicted: its sums, the line through held-out cases, intervals, and what should be looked at."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unetkit.core.region import Region
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.predict.calibration import Calibration
from unetkit.predict.confidence import quality_report
from unetkit.predict.decide import Rule
from unetkit.predict.heldout import HeldOut
from unetkit.predict.quality import Quality, expected_dice, fit_quality, raw_and_true, sums_of

CLASSES = tuple(LegendClass(name=n, value=v, colour=(v, v, v)) for n, v in (("ground", 0), ("cell", 255)))
LEGEND = Legend(kind="values", classes=CLASSES, background=0)
PLAIN = Quality(offset=0.0, slope=1.0, low=-1.0, high=0.5, usual=0.9, least=0.8, empty=0.0, cases=9)


def blurred(seed: int, doubt: float, shape: tuple[int, int] = (48, 56), flip: float = 0.0) -> HeldOut:
    """A disc whose edge is `doubt` pixels soft; the truth is drawn from the probabilities, `flip` of it taken away."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    inside = rng.uniform(8, 18) - np.hypot(y - shape[0] / 2, x - shape[1] / 2)
    share = 1 / (1 + np.exp(-inside / doubt))
    truth = rng.random(shape) < share
    truth ^= (rng.random(shape) < flip) & (share > 0.5)
    shares = np.stack([1 - share, share]).astype(np.float32)
    return HeldOut(f"case{seed}", None, Region.of(shape), truth.astype(np.uint8), lambda: shares)


def test_sums_add_up_and_are_those_of_the_definition() -> None:
    case = blurred(0, 3.0)
    shares, label = case.probabilities(), (case.probabilities()[1] > 0.5).astype(np.uint8)
    label[:4] = 255  # a map that holds nothing there
    whole = sums_of(shares, label, LEGEND)
    parts = sums_of(shares[:, :9], label[:9], LEGEND) + sums_of(shares[:, 9:], label[9:], LEGEND)
    np.testing.assert_allclose(whole, parts)
    known = label != 255
    p, here = shares[1][known], label[known] == 1
    np.testing.assert_allclose(whole[:, 1], [p.sum(), here.sum(), p[here].sum()], rtol=1e-6)
    assert expected_dice(whole, (1,)) == pytest.approx(2 * p[here].sum() / (p.sum() + here.sum()))
    assert math.isnan(expected_dice(sums_of(shares, np.zeros_like(label), LEGEND), (1,)))


def test_true_probabilities_foretell_the_dice() -> None:
    for seed in range(4):
        raw, true = raw_and_true(blurred(seed, 2.0, (96, 96)), LEGEND, Calibration(), Rule())
        assert raw == pytest.approx(true, abs=0.04)


def test_ignored_pixels_count_on_neither_side() -> None:
    case = blurred(1, 2.0)
    truth = case.truth_X.copy()
    truth[:, :28] = 255
    half = HeldOut("half", None, case.window, truth, case.probabilities)
    cut = HeldOut("cut", None, case.window, truth[:, 28:], lambda: case.probabilities()[:, :, 28:])
    both = [raw_and_true(one, LEGEND, Calibration(), Rule()) for one in (half, cut)]
    assert both[0] == pytest.approx(both[1])


def test_a_line_is_drawn_through_held_out_cases() -> None:
    """A network that is wrong about more than it says: the prediction comes down, and keeps the order."""
    cases = [blurred(n, 0.5 + 0.5 * n, flip=0.05 + 0.02 * n) for n in range(12)]
    found = fit_quality(cases, LEGEND, Calibration(), Rule())
    assert found is not None
    assert found == fit_quality(cases, LEGEND, Calibration(), Rule())
    pairs = [raw_and_true(case, LEGEND, Calibration(), Rule()) for case in cases]
    dices = [(expected.dice, true) for raw, true in pairs if (expected := found.expected(raw)) is not None]
    assert np.mean([abs(p - t) for p, t in dices]) < 0.5 * np.mean([abs(raw - true) for raw, true in pairs])
    order = np.argsort([raw for raw, _ in pairs])
    assert np.all(np.diff(np.array([p for p, _ in dices])[order]) > 0)
    inside = [e.low <= true <= e.high for raw, true in pairs if (e := found.expected(raw)) is not None]
    assert np.mean(inside) >= 0.8
    assert found.usual == pytest.approx(np.median([true for _, true in pairs]))


def test_one_that_went_quite_wrong_does_not_draw_the_others_along() -> None:
    cases = [blurred(n, 1.0 + 0.1 * n) for n in range(9)]
    clean = fit_quality(cases, LEGEND, Calibration(), Rule())
    lost = fit_quality([*cases[:8], blurred(8, 1.8, flip=0.95)], LEGEND, Calibration(), Rule())
    assert clean is not None
    assert lost is not None
    middle = [found.expected(0.9) for found in (clean, lost)]
    assert middle[1].dice == pytest.approx(middle[0].dice, abs=0.06)  # type: ignore[union-attr]


def test_too_few_say_nothing() -> None:
    assert fit_quality([blurred(n, 2.0) for n in range(3)], LEGEND, Calibration(), Rule()) is None
    same = [HeldOut(c.id, "one", c.window, c.truth_X, c.probabilities) for c in (blurred(n, 2.0) for n in range(8))]
    assert fit_quality(same, LEGEND, Calibration(), Rule()) is None


def test_what_should_be_looked_at() -> None:
    good, bad = PLAIN.expected(0.93), PLAIN.expected(0.55)
    assert good is not None
    assert bad is not None
    assert bad.low < bad.dice < bad.high
    assert PLAIN.why(good) == ""
    assert PLAIN.why(bad) == "a Dice of 0.55 is expected, and 0.90 is usual"
    assert PLAIN.why(None) == "nothing was found in it"
    assert PLAIN.model_copy(update={"empty": 0.3}).why(None) == ""
    assert PLAIN.expected(math.nan) is None
    assert PLAIN.expected(1.0) is not None


def test_the_report_ranks_cases_by_what_others_taught() -> None:
    cases = [blurred(n, 0.5 + 0.4 * n) for n in range(10)]
    taught = [(Calibration(), Rule(), PLAIN)] * 9 + [(Calibration(), Rule(), None)]
    report = quality_report(cases, LEGEND, taught)
    assert report is not None
    record = report.as_json()
    assert len(record["cases"]) == 9
    assert record["spearman"] > 0.9
    assert record["error"] < 0.05
    assert quality_report(cases, LEGEND, [(Calibration(), Rule(), None)] * 10) is None
