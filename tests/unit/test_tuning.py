"""Decoding tuned on held-out predictions: what helps is found, noise teaches nothing, tables say what pixels say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.draw import disk

from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.formats.base import ImageInfo
from unetkit.data.labels.borders import with_borders
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.plan.parts import PostPlan
from unetkit.predict.calibration import Calibration
from unetkit.predict.decide import Rule, decide
from unetkit.predict.decoding import Decoding
from unetkit.predict.heldout import HeldOut
from unetkit.predict.post import cleaned_array
from unetkit.predict.tuning import tune_decoding
from unetkit.predict.tuning.objects import overlaps, score_of
from unetkit.predict.tuning.search import Scores, Setting, search
from unetkit.predict.tuning.tune import lighter


def legend(kind: Any = "values", names: tuple[str, ...] = ("back", "organ"), **more: Any) -> Legend:
    values = {"instances": (0, 255, 254)}.get(kind, (0, 1, 2, 3))
    if kind == "regions":
        values, more = (1, 2, 3), {"background": None} | more
    classes = tuple(LegendClass(name=n, value=v, colour=(9, 9, v)) for n, v in zip(names, values, strict=False))
    return Legend(kind=kind, classes=classes, **{"background": 0, **more})


CELLS = legend("instances", ("back", "cell", "border"), border=2, least=60)
APART = legend("instances", ("back", "cell"), least=60)


def held_out(
    truth_X: np.ndarray, shares_KX: np.ndarray, number: int = 0, ids_X: np.ndarray | None = None, **more: Any
) -> HeldOut:
    shares = shares_KX.astype(np.float32)
    case = HeldOut(f"case {number}", None, Region.of(truth_X.shape), truth_X.astype(np.uint8), lambda: shares, ids_X)
    return HeldOut(**{**vars(case), **more})


def softmax(logits_KX: np.ndarray) -> np.ndarray:
    powers: np.ndarray = np.exp(logits_KX - logits_KX.max(0))
    return np.asarray(powers / powers.sum(0))


def cells(number: int, inflated: float = 0.0, noise: float = 0.5) -> HeldOut:
    """Pairs of discs that touch, as a network sees them that finds them `inflated` pixels too large."""
    generator = np.random.default_rng(number)
    ids = np.zeros((70, 70), np.int32)
    for n, (y, x) in enumerate([(14, 14), (14, 29), (40, 16), (40, 31), (52, 54)], start=1):
        rows, columns = disk((y + generator.integers(-1, 2), x), 7.6)
        ids[rows, columns] = np.where(ids[rows, columns] == 0, n, ids[rows, columns])
    truth = (ids > 0).astype(np.uint8)
    label = with_borders(ids, truth, 2)
    inside = ndimage.distance_transform_edt(truth) - ndimage.distance_transform_edt(truth == 0)
    waves = ndimage.gaussian_filter(generator.normal(0, 1, (2, *truth.shape)), (0, 1.5, 1.5)) * noise * 4
    whole = 1 / (1 + np.exp(-0.6 * (inside + inflated) - waves[0]))
    middle = 1 / (1 + np.exp(-np.where(label == 1, 4.0, -4.0) - waves[1]))
    return held_out(truth, np.stack([1 - whole, whole * middle, whole * (1 - middle)]), number, ids)


def real_score(case: HeldOut, of: Legend, post: PostPlan, rule: Rule) -> float:
    label = decide(torch.from_numpy(case.probabilities()), of.regions, False, rule).numpy()
    return score_of(case, cleaned_array(label, of, post, ImageInfo(label.shape, 1, False, "uint8", "grey"))[1])


@pytest.mark.parametrize("apart", [True, False])
def test_tables_of_overlaps_score_as_the_pixels_do(apart: bool) -> None:
    for number, (ground, neck, dip, smallest) in enumerate(
        [(0.5, 0.2, 0.5, 0), (0.6, 0.1, 0.0, 40), (0.4, 0.4, 2.0, 120), (0.5, 0.0, 0.0, 10), (0.7, 1.0, 0.0, 0)]
    ):
        case = cells(number, noise=1.0)
        truth, ids = case.truth_X.copy(), case.ids_X
        truth[:20, :9] = IGNORE  # nobody judged here
        case = held_out(truth, case.probabilities(), number, ids)
        post = PostPlan(sure=0, ground=ground, neck=neck, dip=dip, smallest=smallest)
        if apart:
            real = real_score(case, CELLS, post, Rule(depths=CELLS.depths, ground=ground))
        else:
            shares = case.probabilities()
            case = held_out(truth, np.stack([shares[0], 1 - shares[0]]), number, ids)
            real = real_score(case, APART, post, Rule(bias=(0.0, float(np.log((1 - ground) / ground)))))
        table = overlaps(case, CELLS if apart else APART, ground, Calibration(), apart)
        assert table.score(neck, dip, smallest) == pytest.approx(real, abs=1e-12)


def test_objects_that_are_seen_too_large_get_a_higher_ground() -> None:
    cases = [cells(number, inflated=1.4) for number in range(8)]
    found = tune_decoding(cases, CELLS, PostPlan(sure=0.0))
    assert found.post is not None
    assert found.post.ground >= 0.6
    assert "chosen on 8 held-out cases" in found.why
    fresh = [cells(number, inflated=1.4) for number in range(50, 56)]
    before = [real_score(c, CELLS, PostPlan(sure=0), Rule(depths=CELLS.depths)) for c in fresh]
    rule = found.rule(CELLS, found.post)
    after = [real_score(c, CELLS, found.post, rule) for c in fresh]
    assert np.mean(after) > np.mean(before) + 0.02
    assert tune_decoding(cases, CELLS, PostPlan(sure=0.0)) == found  # equal input, equal output
    kept = tune_decoding(cases, CELLS, PostPlan(sure=0.0), fixed=("ground", "neck", "dip", "smallest"))
    assert kept.post is None


def test_growing_from_sure_insides_is_left_where_depth_is_better() -> None:
    def blurred(number: int) -> HeldOut:
        case = cells(number)
        # the network knows nothing of borders: shape alone parts them
        whole = np.where(case.probabilities()[0] < 0.5, 0.99, 0.01)
        return held_out(case.truth_X, np.stack([1 - whole, 0.95 * whole, 0.05 * whole]), number, case.ids_X)

    found = tune_decoding([blurred(n) for n in range(8)], CELLS, PostPlan(sure=0.9))
    assert found.post is not None
    assert found.post.sure == 0
    kept = tune_decoding([blurred(n) for n in range(8)], CELLS, PostPlan(sure=0.9), fixed=("sure",))
    assert kept.post is None or kept.post.sure == 0.9


def test_connected_objects_are_tuned_by_a_bias() -> None:
    def merged(number: int) -> HeldOut:
        case = cells(number, inflated=1.4)
        shares, ids = case.probabilities(), case.ids_X
        assert ids is not None
        return held_out(case.truth_X, np.stack([shares[0], 1 - shares[0]]), number, (ids + 1) // 2)

    found = tune_decoding([merged(n) for n in range(8)], APART, PostPlan())
    assert len(found.bias) == 2
    assert found.bias[1] < 0
    assert found.rule(APART, PostPlan()).bias == found.bias


def organs(number: int, shift: float, specks: int = 0, hole: bool = False) -> HeldOut:
    """A blob whose logit is wrong by `shift` everywhere, specks that are none, a hole in it."""
    generator = np.random.default_rng(number)
    truth = np.zeros((48, 48), np.uint8)
    truth[disk((24 + generator.integers(-6, 7), 24 + generator.integers(-6, 7)), 8 + number % 4)] = 1
    inside = ndimage.distance_transform_edt(truth) - ndimage.distance_transform_edt(truth == 0)
    logit = inside + ndimage.gaussian_filter(generator.normal(0, 1, truth.shape), 2) * 3 + shift
    for _ in range(specks):
        y, x = generator.integers(1, 44, 2)
        logit[y : y + 2, x : x + 2] = 6
    if hole:
        centre = np.argwhere(truth).mean(0).astype(int)
        logit[centre[0] - 1 : centre[0] + 2, centre[1] - 1 : centre[1] + 2] = -6
    return held_out(truth, softmax(np.stack([-logit / 2, logit / 2])), number)


def dice(case: HeldOut, of: Legend, decoding: Decoding) -> float:
    post = decoding.post or PostPlan()
    label = decide(torch.from_numpy(case.probabilities()), of.regions, False, decoding.rule(of, post)).numpy()
    label = cleaned_array(label, of, post, ImageInfo(label.shape, 1, False, "uint8", "grey"))[0]
    return float(2 * ((label == 1) & (case.truth_X == 1)).sum() / ((label == 1).sum() + (case.truth_X == 1).sum()))


def test_a_class_that_is_seen_too_seldom_is_preferred() -> None:
    found = tune_decoding([organs(n, -2.0) for n in range(12)], legend(), PostPlan())
    assert found.bias[0] == 0
    assert 1.0 <= found.bias[1] <= 2.0
    fresh = [organs(n, -2.0) for n in range(40, 50)]
    assert np.mean([dice(c, legend(), found) for c in fresh]) > np.mean([dice(c, legend(), Decoding()) for c in fresh])


def test_regions_have_thresholds_of_their_own() -> None:
    def pair(number: int) -> HeldOut:
        first, second = organs(number, -1.5), organs(number + 100, 0.0)
        shares = np.stack([first.probabilities()[1], second.probabilities()[1]])
        return held_out(first.truth_X + 2 * second.truth_X, shares, number)

    found = tune_decoding([pair(n) for n in range(12)], legend("regions", ("a", "b")), PostPlan())
    assert found.thresholds[0] < 0.35
    assert 0.4 <= found.thresholds[1] <= 0.6
    assert found.bias == ()


def test_specks_go_and_holes_are_filled_where_that_scores_better() -> None:
    cases = [organs(n, 0.0, specks=4, hole=True) for n in range(12)]
    found = tune_decoding(cases, legend(), PostPlan())
    assert found.post is not None
    assert found.post.keep_largest == ("organ",) or found.post.smallest_of("organ") > 4
    assert found.post.fill_holes == "all"
    fresh = [organs(n, 0.0, specks=4, hole=True) for n in range(40, 46)]
    gain = np.mean([dice(c, legend(), found) for c in fresh]) - np.mean([dice(c, legend(), Decoding()) for c in fresh])
    assert gain > 0.03
    assert tune_decoding(cases, legend(), PostPlan(), fixed=("smallest", "fill_holes")).post is None
    assert tune_decoding(cases, legend(), PostPlan(smallest=3)).post is None  # what was planned is not outguessed


@pytest.mark.parametrize("of", [legend(), legend("regions", ("a",)), CELLS])
def test_noise_teaches_nothing(of: Legend) -> None:
    def noise(number: int) -> HeldOut:
        generator = np.random.default_rng(number)
        ids = ndimage.label(ndimage.gaussian_filter(generator.normal(0, 1, (60, 60)), 2) > 0.05)[0]
        logits = ndimage.gaussian_filter(generator.normal(0, 1, (len(of.classes), 60, 60)), (0, 2, 2)) * 8
        shares = 1 / (1 + np.exp(-logits)) if of.regions else softmax(logits)
        return held_out((ids > 0).astype(np.uint8), shares, number, ids if of.kind == "instances" else None)

    taught = [tune_decoding([noise(100 * trial + n) for n in range(10)], of, PostPlan(sure=0.0)) for trial in range(4)]
    if of is CELLS:  # on noise, objects of another size may truly score better; what is sure stays
        assert all(not found.bias and not found.thresholds for found in taught)
    else:  # Dice of a random guess is best where everything is foreground: that is no noise, and nothing else is learnt
        assert all(b >= 0 for found in taught for b in found.bias)
        assert all(t <= 0.5 for found in taught for t in found.thresholds)


def test_settings_that_differ_by_chance_are_hardly_ever_chosen_and_one_that_is_better_is() -> None:
    cases = [held_out(np.zeros((2, 2)), np.zeros((2, 2, 2)), n, group=f"g{n // 2}") for n in range(24)]
    options = [(0.0, 1.0, 2.0, 3.0), (0.0, 1.0, 2.0)]
    chosen = 0
    for trial in range(60):
        gain = 0.05 if trial >= 40 else 0.0

        def score(setting: Setting, trial: int = trial, gain: float = gain) -> Scores:
            noise = np.random.default_rng([trial, *(int(v) for v in setting)]).normal(0, 0.02, len(cases))
            return 0.7 + noise + gain * (setting[0] == 2)

        found = search((0.0, 0.0), options, score, cases)
        if gain:
            assert found.setting[0] == 2
            assert found.gain == pytest.approx(gain, abs=0.03)
        else:
            chosen += found.better
    assert chosen <= 6


def test_well_decided_cases_stay_as_they_are() -> None:
    assert tune_decoding([organs(n, 0.0) for n in range(16)], legend(), PostPlan()).bias == ()
    assert tune_decoding([cells(n) for n in range(8)], CELLS, PostPlan(sure=0.0, dip=1.3)).post is None


def test_too_few_groups_teach_nothing() -> None:
    cases = [organs(n, -2.0) for n in range(12)]
    grouped = [HeldOut(**{**vars(case), "group": f"patient {n % 3}"}) for n, case in enumerate(cases)]
    assert tune_decoding(grouped, legend(), PostPlan()).neutral
    few = tune_decoding(cases[:3], legend(), PostPlan())
    assert few.neutral
    assert "3 held-out cases are too few to choose from" in few.why
    assert tune_decoding([], legend(), PostPlan()) == Decoding()


def test_large_cases_are_looked_at_in_part() -> None:
    cases = [held_out(np.zeros((40, 30)), np.zeros((2, 40, 30)), n) for n in range(20)]
    few = lighter(cases, 12_000)
    assert [case.id for case in few][:2] == ["case 0", "case 2"]
    assert sum(case.truth_X.size for case in few) <= 12_000
    parts = lighter(cases[:2], 600)
    assert [case.truth_X.shape for case in parts] == [(20, 15), (20, 15)]
    assert parts[0].window == Region((10, 7), (30, 22))
    assert parts[0].probabilities().shape == (2, 20, 15)


def test_rules_by_hand() -> None:
    generator = np.random.default_rng(0)
    shares = torch.from_numpy(generator.dirichlet((1, 1, 1), (9, 8)).transpose(2, 0, 1).astype(np.float32))
    bias = (0.0, 0.7, -0.4)
    expected = (shares.double().log() + torch.tensor(bias).double()[:, None, None]).argmax(0)
    for scores, logits in ((shares, False), (shares.log() + 3, True)):
        assert torch.equal(decide(scores, False, logits, Rule(bias=bias)).long(), expected)
    regions = torch.from_numpy(generator.random((2, 9, 8)).astype(np.float32))
    expected = (regions[0] > 0.3).long() + 2 * (regions[1] > 0.8).long()
    for scores, logits in ((regions, False), (regions.double().logit().float(), True)):
        assert torch.equal(decide(scores, True, logits, Rule(thresholds=(0.3, 0.8))).long(), expected)
    with pytest.raises(ValueError, match="is for 2 classes, and the network has 3 classes"):
        decide(shares, False, False, Rule(bias=(0, 1)))
    with pytest.raises(ValueError, match="exclude each other"):
        Rule(bias=(0, 1), thresholds=(0.5,))
