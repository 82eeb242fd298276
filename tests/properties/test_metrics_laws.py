"""What must hold of metrics for any input."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from unetkit.metrics import boundary_f1, confusion, dice, iou, precision, recall, segment_scores, summarise

K = 3
SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=7)


@st.composite
def pairs(draw: st.DrawFn, low: int = 0, high: int = K - 1) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(SHAPES)
    values = arrays.arrays(np.uint8, shape, elements=st.integers(low, high))
    a = draw(values)
    return a, draw(st.one_of(values, st.just(a.copy())))


@settings(deadline=None, max_examples=100)
@given(pairs())
def test_overlap_is_symmetric_bounded_and_1_only_for_equals(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    ab, ba = confusion(a, b, K), confusion(b, a, K)
    np.testing.assert_array_equal(ab, ba.T)
    assert ab.sum() == a.size
    for score in (dice, iou):
        np.testing.assert_array_equal(score(ab), score(ba))
    np.testing.assert_array_equal(precision(ab), recall(ba))
    edge = boundary_f1(a, b, K)
    np.testing.assert_allclose(edge, boundary_f1(b, a, K))
    for k in range(K):
        values = [dice(ab)[k], iou(ab)[k], precision(ab)[k], recall(ab)[k], edge[k]]
        absent = not (a == k).any() and not (b == k).any()
        assert all(math.isnan(v) == absent for v in values)
        if not absent:
            assert all(0 <= v <= 1 for v in values)
            assert (dice(ab)[k] == 1) == np.array_equal(a == k, b == k) == (iou(ab)[k] == 1)
            np.testing.assert_allclose(iou(ab)[k], dice(ab)[k] / (2 - dice(ab)[k]))
            p, r = precision(ab)[k], recall(ab)[k]
            np.testing.assert_allclose(dice(ab)[k], 2 * p * r / (p + r) if p + r else 0)  # Dice is F1
    if np.array_equal(a, b):
        assert all(math.isnan(v) or v == 1 for v in edge)


@settings(deadline=None, max_examples=50)
@given(pairs(), st.permutations(range(K)), st.integers(0, 2**32 - 1))
def test_order_of_pixels_and_names_of_classes_do_not_matter(
    pair: tuple[np.ndarray, np.ndarray], names: list[int], seed: int
) -> None:
    a, b = pair
    order = np.random.default_rng(seed).permutation(a.size)
    np.testing.assert_array_equal(confusion(a.ravel()[order], b.ravel()[order], K), confusion(a, b, K))
    table = np.array(names, np.uint8)
    np.testing.assert_array_equal(dice(confusion(table[a], table[b], K))[table], dice(confusion(a, b, K)))
    np.testing.assert_array_equal(boundary_f1(table[a], table[b], K)[table], boundary_f1(a, b, K))
    np.testing.assert_array_equal(boundary_f1(a.T, b.T, K), boundary_f1(a, b, K))
    np.testing.assert_array_equal(boundary_f1(np.flip(a), np.flip(b), K), boundary_f1(a, b, K))


@settings(deadline=None, max_examples=50)
@given(pairs(), st.integers(0, 2**32 - 1))
def test_ignored_pixels_do_not_matter(pair: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    a, b = pair
    rng = np.random.default_rng(seed)
    ignored = rng.random(a.shape) < 0.3
    a[ignored] = 255
    other = b.copy()
    other[ignored] = rng.integers(0, K, int(ignored.sum()))
    np.testing.assert_array_equal(confusion(a, b, K), confusion(a, other, K))
    np.testing.assert_array_equal(boundary_f1(a, b, K), boundary_f1(a, other, K))


@settings(deadline=None, max_examples=50)
@given(pairs(), st.floats(0, 4), st.floats(0, 4))
def test_boundary_f1_grows_with_the_tolerance(pair: tuple[np.ndarray, np.ndarray], x: float, y: float) -> None:
    strict, loose = (boundary_f1(*pair, K, tolerance) for tolerance in sorted((x, y)))
    assert all(math.isnan(s) or s <= t + 1e-12 for s, t in zip(strict, loose, strict=True))


@settings(deadline=None, max_examples=100)
@given(pairs(0, 6), st.permutations(range(1, 7)))
def test_segment_scores_do_not_know_names(pair: tuple[np.ndarray, np.ndarray], names: list[int]) -> None:
    truth, predicted = pair
    scores = segment_scores(predicted, truth)
    if not truth.any():
        assert math.isnan(scores.v_rand)
        return
    table = np.array([0, *names])
    again = segment_scores(table[predicted], truth)
    np.testing.assert_allclose(again.v_rand, scores.v_rand)
    np.testing.assert_allclose(again.v_info, scores.v_info, atol=1e-12)
    for value in (scores.v_rand, scores.v_info, scores.rand_split, scores.rand_merge, scores.info_split):
        assert -1e-12 <= value <= 1 + 1e-12
    # V_rand is the harmonic mean of its two parts
    assert math.isclose(2 / (1 / scores.rand_split + 1 / scores.rand_merge), scores.v_rand)
    if np.array_equal(truth, predicted):
        assert scores.v_rand == 1
        assert math.isclose(scores.v_info, 1)
        assert math.isclose(scores.voi_split + scores.voi_merge, 0, abs_tol=1e-12)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.one_of(st.just(math.nan), st.floats(0, 1)), min_size=2, max_size=12))
def test_an_interval_lies_within_the_values_and_around_the_mean(values: list[float]) -> None:
    s = summarise(values, resamples=200)
    known = [v for v in values if not math.isnan(v)]
    assert s.n + s.missing == len(values)
    if len(known) >= 2:
        assert min(known) - 1e-12 <= s.low <= s.mean + 1e-12
        assert s.mean - 1e-12 <= s.high <= max(known) + 1e-12
