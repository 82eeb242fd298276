"""The quick metrics equal the slow and obvious ones."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from unetkit import metrics

SPACES = [(60,), (17, 23), (9, 8, 7)]


def naive_overlap(label: NDArray[Any], prediction: NDArray[Any], k: int) -> tuple[float, float, float, float]:
    """Dice, IoU, precision, recall of one class from sets of pixels."""
    a = {tuple(i) for i in np.argwhere((label == k) & (label != 255))}
    b = {tuple(i) for i in np.argwhere((prediction == k) & (label != 255))}
    if not a and not b:
        return math.nan, math.nan, math.nan, math.nan
    both = len(a & b)
    return (
        2 * both / (len(a) + len(b)),
        both / len(a | b),
        both / len(b) if b else 0.0,
        both / len(a) if a else 0.0,
    )


def naive_boundary_f1(
    label: NDArray[Any], prediction: NDArray[Any], k: int, tolerance: float, spacing: tuple[float, ...] | None = None
) -> float:
    """Boundary F1 of one class through distance transforms."""
    valid = label != 255

    def boundary(array: NDArray[Any]) -> NDArray[np.bool_]:
        edge = np.zeros(array.shape, bool)
        for index in np.argwhere((array == k) & valid):
            for axis in range(array.ndim):
                for step in (-1, 1):
                    other = index.copy()
                    other[axis] += step
                    if 0 <= other[axis] < array.shape[axis] and valid[tuple(other)] and array[tuple(other)] != k:
                        edge[tuple(index)] = True
        return edge

    true, found = boundary(label), boundary(prediction)
    in_truth, in_prediction = bool(((label == k) & valid).any()), bool(((prediction == k) & valid).any())
    if not true.any() and not found.any():
        return math.nan if not in_truth and not in_prediction else float(in_truth and in_prediction)
    if not true.any() or not found.any():
        return 0.0
    p = float((ndimage.distance_transform_edt(~true, spacing)[found] <= tolerance).mean())
    r = float((ndimage.distance_transform_edt(~found, spacing)[true] <= tolerance).mean())
    return 2 * p * r / (p + r) if p + r else 0.0


def naive_segments(predicted: NDArray[Any], truth: NDArray[Any]) -> tuple[float, float, float, float]:
    """V_rand, V_info, and both parts of the variation of information, from dictionaries of shares of pixels."""
    names: list[tuple[Any, Any]] = []
    for index in np.ndindex(truth.shape):
        if truth[index]:
            s = int(predicted[index])
            names.append((s if s else ("single", index), int(truth[index])))
    n = len(names)
    p_ij = {key: count / n for key, count in Counter(names).items()}
    s_i = {key: count / n for key, count in Counter(s for s, _ in names).items()}
    t_j = {key: count / n for key, count in Counter(t for _, t in names).items()}

    def square(shares: dict[Any, float]) -> float:
        return sum(v * v for v in shares.values())

    def entropy(shares: dict[Any, float]) -> float:
        return -sum(v * math.log2(v) for v in shares.values())

    shared = sum(v * math.log2(v / (s_i[s] * t_j[t])) for (s, t), v in p_ij.items())
    both = entropy(s_i) + entropy(t_j)
    return (
        square(p_ij) / (0.5 * square(s_i) + 0.5 * square(t_j)),
        2 * shared / both if both else 1.0,
        entropy(p_ij) - entropy(t_j),
        entropy(p_ij) - entropy(s_i),
    )


def pair(space: tuple[int, ...], classes: int, seed: int, ignored: bool) -> tuple[np.ndarray, np.ndarray]:
    """Blobs of classes and a disturbed copy, in which class `classes − 1` seldom occurs."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal(space), 1.5)
    cuts = np.quantile(field, np.linspace(0, 1, classes + 1)[1:-1])
    label = np.digitize(field, cuts).astype(np.uint8)
    shifted = field + 0.5 * field.std() * ndimage.gaussian_filter(rng.standard_normal(space), 1) / 0.3
    prediction = np.digitize(shifted, cuts).astype(np.uint8)
    if ignored:
        label[rng.random(space) < 0.1] = 255
        label[: space[0] // 3] = 255
    return label, prediction


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("ignored", [False, True])
def test_overlap(space: tuple[int, ...], classes: int, ignored: bool) -> None:
    label, prediction = pair(space, classes, 0, ignored)
    counts = metrics.confusion(label, prediction, classes + 1)  # one class that nobody has
    ours = [f(counts) for f in (metrics.dice, metrics.iou, metrics.precision, metrics.recall)]
    for k in range(classes + 1):
        np.testing.assert_allclose([values[k] for values in ours], naive_overlap(label, prediction, k), rtol=1e-12)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 2, 5])
@pytest.mark.parametrize("ignored", [False, True])
def test_boundary_f1(space: tuple[int, ...], tolerance: float, ignored: bool) -> None:
    label, prediction = pair(space, 3, 1, ignored)
    ours = metrics.boundary_f1(label, prediction, 4, tolerance)
    np.testing.assert_allclose(ours, [naive_boundary_f1(label, prediction, k, tolerance) for k in range(4)], rtol=1e-12)
    assert np.isnan(ours[3])


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 3.0), (0.5, 0.7, 0.6), (2.0, 2.0, 2.0), (9.0, 1.0, 1.0)])
def test_distances_follow_the_spacing(spacing: tuple[float, ...]) -> None:
    label, prediction = pair((16, 14, 10), 3, 2, True)
    ours = metrics.boundary_f1(label, prediction, 3, 2.3, spacing=spacing)
    reach = 2.3 * min(spacing)  # in units of the finest axis
    naive = [naive_boundary_f1(label, prediction, k, reach, spacing) for k in range(3)]
    np.testing.assert_allclose(ours, naive, rtol=1e-12)
    if len(set(spacing)) == 1:
        np.testing.assert_array_equal(ours, metrics.boundary_f1(label, prediction, 3, 2.3))


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 0.0)])
def test_spacings_that_do_not_fit(spacing: tuple[float, ...]) -> None:
    label = np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match="does not fit 2 axes; each has a length above 0"):
        metrics.boundary_f1(label, label, 2, spacing=spacing)


@pytest.mark.parametrize("seed", range(4))
def test_segment_scores(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, predicted = (rng.integers(0, 9, (15, 14)) for _ in range(2))
    predicted = np.where(rng.random(truth.shape) < 0.7, truth, predicted)
    scores = metrics.segment_scores(predicted * 1000, truth)
    expected = naive_segments(predicted, truth)
    np.testing.assert_allclose((scores.v_rand, scores.v_info, scores.voi_split, scores.voi_merge), expected, rtol=1e-9)
