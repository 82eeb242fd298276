"""Overlap and boundary scores: worked examples, empty cases, error texts."""

from __future__ import annotations

import time

import numpy as np
import pytest

from unetkit.metrics import boundary_f1, confusion, dice, iou, precision, recall
from unetkit.metrics import overlap as overlap_module

NAN = np.nan


def test_a_worked_example() -> None:
    label = np.array([[0, 0, 1, 1], [0, 2, 2, 255]], np.uint8)
    prediction = np.array([[0, 1, 1, 1], [0, 2, 0, 1]], np.uint8)
    counts = confusion(label, prediction, 3)
    np.testing.assert_array_equal(counts, [[2, 1, 0], [0, 2, 0], [1, 0, 1]])
    np.testing.assert_allclose(dice(counts), [4 / 6, 4 / 5, 2 / 3])
    np.testing.assert_allclose(iou(counts), [2 / 4, 2 / 3, 1 / 2])
    np.testing.assert_allclose(precision(counts), [2 / 3, 2 / 3, 1])
    np.testing.assert_allclose(recall(counts), [2 / 3, 1, 1 / 2])


@pytest.mark.parametrize(
    ("truth", "found", "expected"),
    [
        (0, 0, NAN),  # nobody has class 1
        (0, 1, 0),  # invented
        (1, 0, 0),  # missed
        (1, 1, 1),  # fills both
        (255, 1, NAN),  # nothing is labelled
    ],
)
def test_empty_cases(truth: int, found: int, expected: float) -> None:
    label, prediction = np.full((4, 5), truth, np.uint8), np.full((4, 5), found, np.uint8)
    counts = confusion(label, prediction, 2)
    values = [score(counts)[1] for score in (dice, iou, precision, recall)] + [boundary_f1(label, prediction, 2)[1]]
    np.testing.assert_array_equal(values, [expected] * 5)


def test_a_large_array_is_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    label, prediction = rng.integers(0, 3, (2, 31, 17))
    whole = confusion(label, prediction, 3)
    monkeypatch.setattr(overlap_module, "_CHUNK", 100)
    np.testing.assert_array_equal(confusion(label, prediction, 3), whole)


def test_boundary_f1_of_a_shifted_square() -> None:
    label, prediction = np.zeros((2, 30, 30), np.uint8)
    label[5:15, 5:15] = 1
    prediction[5:15, 8:18] = 1
    assert boundary_f1(label, prediction, 2, tolerance=3)[1] == 1
    assert boundary_f1(label, prediction, 2, tolerance=2)[1] < 1
    # at 0: the outlines (36 pixels) share 7 pixels of the upper and of the lower side
    assert boundary_f1(label, prediction, 2, tolerance=0)[1] == pytest.approx(14 / 36)


def test_the_edge_of_the_image_and_ignored_pixels_are_no_boundary() -> None:
    label = np.zeros((10, 10), np.uint8)
    label[:, 5:] = 1
    prediction = label.copy()
    prediction[:3, 4] = 1
    assert boundary_f1(label, prediction, 2, tolerance=0)[1] < 1
    label[:4, :6] = 255
    assert boundary_f1(label, prediction, 2, tolerance=0)[1] == 1


def test_boundary_f1_is_quick_on_a_large_image() -> None:
    """Four million pixels and three classes: a distance transform per class and side would take ten times as long."""
    y, x = np.mgrid[:2000, :2000]
    label = (((x // 50) + (y // 40)) % 3).astype(np.uint8)
    prediction = np.roll(label, 2, axis=1)
    begin = time.perf_counter()
    assert boundary_f1(label, prediction, 3).min() > 0.99
    assert time.perf_counter() - begin < 5


def test_what_does_not_fit_is_refused() -> None:
    a = np.zeros((3, 4), np.uint8)
    with pytest.raises(ValueError, match=r"truth \(3, 4\) and prediction \(4, 3\) differ in shape"):
        confusion(a, a.T, 2)
    with pytest.raises(ValueError, match=r"truth \(3, 4\) and prediction \(4, 3\) differ in shape"):
        boundary_f1(a, a.T, 2)
    with pytest.raises(ValueError, match=r"the prediction holds 2 … 2; 2 classes are 0 … 1"):
        confusion(a, a + 2, 2)
    with pytest.raises(ValueError, match=r"the truth holds 0 … 7; 2 classes are 0 … 1"):
        confusion(np.array([0, 7]), np.array([0, 1]), 2)
    with pytest.raises(ValueError, match=r"the tolerance is -1; a distance in pixels is 0 or more"):
        boundary_f1(a, a, 2, tolerance=-1)
