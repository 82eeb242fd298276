"""Surfaces, centre lines, intervals and objects against code that is slow and obvious."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unetkit.metrics import aji, cldice, seg, surface_scores, wave_scores

SHAPES = st.sampled_from([(7,), (6, 5), (4, 3, 4)])


@st.composite
def pairs(draw, shapes=SHAPES, classes=3):
    shape = draw(shapes)
    values = st.sampled_from([*range(classes), 255])
    label = draw(hnp.arrays(np.uint8, shape, elements=values))
    prediction = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, classes - 1)))
    spacing = draw(st.sampled_from([None, (0.5, 2.0, 1.5)[: len(shape)]]))
    return label, prediction, spacing


def naive_surface(mask, valid):
    points = []
    for index in np.argwhere(mask):
        for axis in range(mask.ndim):
            for step in (-1, 1):
                beside = index.copy()
                beside[axis] += step
                if not 0 <= beside[axis] < mask.shape[axis]:
                    continue
                if valid[tuple(beside)] and not mask[tuple(beside)]:
                    points.append(tuple(index))
    return sorted(set(points))


@settings(max_examples=60, deadline=None)
@given(pairs())
def test_surface_distances_are_those_of_all_pairs_of_surface_pixels(arrays):
    label, prediction, spacing = arrays
    lengths = np.array(spacing or (1.0,) * label.ndim)
    valid = label != 255
    for k, found in enumerate(surface_scores(label, prediction, 3, spacing, tolerance=1.0)):
        truth, guess = label == k, (prediction == k) & valid
        a, b = naive_surface(truth, valid), naive_surface(guess, valid)
        if not truth.any() and not guess.any():
            assert math.isnan(found.hd95)
            continue
        if not a or not b:
            agree = not a and not b and truth.any() and guess.any()
            worst = 0.0 if agree else math.hypot(*(np.array(label.shape) * lengths))
            assert found.hausdorff == found.assd == pytest.approx(worst)
            assert found.surface_dice == float(agree)
            continue
        there = [min(math.dist(p * lengths, q * lengths) for q in np.array(a)) for p in np.array(b)]
        back = [min(math.dist(p * lengths, q * lengths) for q in np.array(b)) for p in np.array(a)]
        assert found.hausdorff == pytest.approx(max(there + back))
        assert found.hd95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
        assert found.assd == pytest.approx(np.mean(there + back))
        assert found.surface_dice == pytest.approx(np.mean(np.array(there + back) <= 1.0))


def test_a_class_that_was_not_found_is_as_far_away_as_can_be():
    truth, nothing = np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.uint8)
    truth[5:9, 5:9] = 1
    scores = surface_scores(truth, nothing, 2, (2.0, 1.0))[1]
    assert scores.hd95 == scores.assd == pytest.approx(math.hypot(60, 40))
    assert scores.surface_dice == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spacing": (1.0,)}, "does not fit 2 axes"),
        ({"spacing": (1.0, 0.0)}, "each has a length above 0"),
        ({"tolerance": -1.0}, "a distance is 0 or more"),
    ],
)
def test_surface_scores_refuse_what_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        surface_scores(np.zeros((3, 3)), np.zeros((3, 3)), 1, **arguments)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy")
def test_surfaces_of_monai_where_objects_end_inside_the_image():
    pytest.importorskip("monai")
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

    random = np.random.default_rng(3)
    truth, guess = np.zeros((20, 24, 18), np.uint8), np.zeros((20, 24, 18), np.uint8)
    truth[4:12, 5:15, 4:11] = 1
    guess[6:13, 4:13, 5:12] = 1
    guess[14, 20, 14] = 1
    truth[5, 6:9, 5:8] &= random.integers(0, 2, (3, 3)).astype(np.uint8)
    spacing = (1.5, 1.0, 2.0)
    ours = surface_scores(truth, guess, 2, spacing, tolerance=2.5)[1]
    both = [torch.from_numpy(np.stack([x == 0, x == 1])[None].astype(np.float32)) for x in (guess, truth)]
    kept = {"include_background": False, "spacing": spacing}
    assert ours.hausdorff == pytest.approx(float(compute_hausdorff_distance(*both, **kept)), rel=1e-5)
    assert ours.hd95 == pytest.approx(float(compute_hausdorff_distance(*both, percentile=95, **kept)), rel=1e-5)
    mean = compute_average_surface_distance(*both, symmetric=True, **kept)
    assert ours.assd == pytest.approx(float(mean), rel=1e-5)
    share = compute_surface_dice(*both, class_thresholds=[2.5], **kept)
    assert ours.surface_dice == pytest.approx(float(share), rel=1e-5)


def test_centre_lines_do_not_mind_the_width_but_the_gap():
    truth = np.zeros((40, 60), np.uint8)
    truth[18:23, 5:55] = 1
    thin, broken = np.zeros_like(truth), truth.copy()
    thin[20, 8:52] = 1
    broken[:, 25:35] = 0
    assert cldice(truth, thin, 2)[1] > 0.95
    assert cldice(truth, broken, 2)[1] < 0.93
    assert np.isnan(cldice(np.zeros_like(truth), np.zeros_like(truth), 2)[1])
    assert cldice(truth, np.zeros_like(truth), 2)[1] == 0
    with pytest.raises(ValueError, match="centre lines are of images and volumes"):
        cldice(truth[0], truth[0], 2)


def test_centre_lines_by_the_formula_of_the_paper():
    from skimage.morphology import skeletonize

    random = np.random.default_rng(0)
    truth, guess = (np.kron(random.random((9, 9)) < 0.5, np.ones((4, 4))).astype(np.uint8) for _ in range(2))
    lines = skeletonize(guess > 0), skeletonize(truth > 0)
    precision = (lines[0] & (truth > 0)).sum() / lines[0].sum()
    sensitivity = (lines[1] & (guess > 0)).sum() / lines[1].sum()
    expected = 2 * precision * sensitivity / (precision + sensitivity)
    assert cldice(truth, guess, 2)[1] == pytest.approx(expected)


def signal(length, *runs):
    label = np.zeros(length, np.uint8)
    for start, stop, value in runs:
        label[start:stop] = value
    return label


def test_onsets_and_offsets_of_waves_are_matched_within_the_tolerance():
    truth = signal(1000, (100, 150, 1), (300, 350, 1), (600, 640, 2))
    found = signal(1000, (104, 148, 1), (500, 550, 1), (602, 640, 2))
    none, one, two = wave_scores(truth, found, 3, period=0.002)
    assert one.onset_f1 == one.offset_f1 == pytest.approx(2 * 1 / 4)
    assert (one.onset_error, one.offset_error) == (pytest.approx(0.008), pytest.approx(-0.004))
    assert (two.onset_f1, two.offset_error, two.onset_spread) == (1.0, 0.0, 0.0)
    assert none.onset_f1 < 1


def test_boundaries_that_nobody_knows_are_not_expected():
    truth = signal(100, (0, 20, 255), (20, 30, 1), (60, 70, 1), (90, 100, 1))
    found = signal(100, (22, 30, 1), (60, 70, 1), (90, 100, 1))
    one = wave_scores(truth, found, 2)[1]
    # the first run begins where nobody judged, the last ends with the signal: two onsets and two offsets are known
    assert (one.onset_f1, one.offset_f1) == (1.0, 1.0)
    assert one.onset_error == one.offset_error == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 40), max_size=6, unique=True),
    st.lists(st.integers(0, 40), max_size=6, unique=True),
    st.integers(0, 8),
)
def test_the_nearest_boundaries_go_together(true, found, within):
    from unetkit.metrics.waves import _matched

    left, right, errors = sorted(true), sorted(found), []
    while left and right:
        best = min((abs(f - t), t, f) for t in left for f in right)
        if best[0] > within:
            break
        left.remove(best[1])
        right.remove(best[2])
        errors.append(best[0])
    matched = _matched(np.array(sorted(true), np.int64), np.array(sorted(found), np.int64), within)
    assert sorted(np.abs(matched)) == pytest.approx(sorted(errors))


def test_waves_refuse_what_cannot_be():
    with pytest.raises(ValueError, match="must have one axis"):
        wave_scores(np.zeros((3, 3)), np.zeros((3, 3)), 2)
    with pytest.raises(ValueError, match="it is above 0 s"):
        wave_scores(np.zeros(3), np.zeros(3), 2, period=0)
    with pytest.raises(ValueError, match="it is 0 or more"):
        wave_scores(np.zeros(3), np.zeros(3), 2, tolerance=-1)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.int64, (6, 7), elements=st.integers(0, 3)), hnp.arrays(np.int64, (6, 7), elements=st.integers(0, 3))
)
def test_aji_and_seg_as_their_papers_say_them(truth, guess):
    truths, guesses = [k for k in (1, 2, 3) if (truth == k).any()], [k for k in (1, 2, 3) if (guess == k).any()]

    def overlap(t, g):
        both, either = ((truth == t) & (guess == g)).sum(), ((truth == t) | (guess == g)).sum()
        return both, either, both / either

    above, below, used, shares = 0, 0, set(), []
    for t in truths:
        best = max(guesses, key=lambda g: overlap(t, g)[2], default=None)
        if best is None or overlap(t, best)[0] == 0:
            below += (truth == t).sum()
        else:
            above, below = above + overlap(t, best)[0], below + overlap(t, best)[1]
            used.add(best)
        covering = [g for g in guesses if 2 * overlap(t, g)[0] > (truth == t).sum()]
        shares.append(overlap(t, covering[0])[2] if covering else 0.0)
    below += sum((guess == g).sum() for g in guesses if g not in used)
    assert aji(truth, guess) == (pytest.approx(above / below) if below else pytest.approx(math.nan, nan_ok=True))
    assert seg(truth, guess) == (pytest.approx(np.mean(shares)) if truths else pytest.approx(math.nan, nan_ok=True))
