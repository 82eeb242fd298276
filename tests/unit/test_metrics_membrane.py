"""Membrane scores: what a split, a merge and a thick membrane cost; the image's edge; the best threshold."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from skimage import io

from unetkit.metrics import membrane_scores, segment_scores, segments_between


def grid(thickness: int = 3, size: int = 64) -> np.ndarray:
    """Membranes of a 2 × 2 grid of cells."""
    membrane = np.zeros((size, size), bool)
    low = size // 2 - thickness // 2
    membrane[low : low + thickness] = True
    membrane[:, low : low + thickness] = True
    return membrane


@pytest.mark.parametrize("thickness", [1, 2, 3, 6, 9, 20])
def test_a_membrane_in_the_right_place_is_perfect_however_thick(thickness: int) -> None:
    probability = grid(thickness).astype(float)
    assert segments_between(grid(thickness)).max() == 4
    assert membrane_scores(probability, grid(thickness)).v_rand == 1
    assert membrane_scores(grid(1).astype(float), grid(thickness)).v_rand == 1
    # where the truth is one pixel wide, a skeleton beside it costs its own pixels, one by one
    assert membrane_scores(probability, grid(1)).v_rand > (0.9999 if thickness % 2 else 0.96)


def test_thinning_does_not_open_membranes_at_the_edge_of_the_image() -> None:
    thinned = segments_between(grid(9)) == 0
    assert thinned[0].any()
    assert thinned[-1].any()
    assert thinned[:, 0].any()
    assert thinned[:, -1].any()


def test_one_lost_membrane_merges_two_cells() -> None:
    """Four equal cells, two of them merged: Σ p² = 1/4, Σ s² = 3/8, so V_rand = 0.25 / 0.3125."""
    membrane = grid(2)
    segments = segments_between(np.zeros_like(membrane))
    assert segments.max() == 1
    truth = np.array([[1, 1, 2, 2], [3, 3, 4, 4]])
    scores = segment_scores(np.array([[1, 1, 1, 1], [3, 3, 4, 4]]), truth)
    assert scores.v_rand == pytest.approx(0.25 / 0.3125)
    assert scores.rand_split == 1
    assert scores.rand_merge == pytest.approx(2 / 3)
    assert (scores.info_split, scores.info_merge) == (1, pytest.approx(0.75))
    assert scores.v_info == pytest.approx(2 * 1.5 / 3.5)
    assert (scores.voi_split, scores.voi_merge) == (pytest.approx(0), pytest.approx(0.5))


def test_border_pixels_inside_a_cell_are_segments_of_their_own() -> None:
    truth = np.ones((1, 4), int)
    scores = segment_scores(np.array([[1, 1, 0, 0]]), truth)
    assert scores.v_rand == pytest.approx((4 + 1 + 1) / (0.5 * (4 + 1 + 1) + 0.5 * 16))
    assert scores.voi_split == pytest.approx(1.5)  # shares 1/2, 1/4, 1/4


def test_pixels_on_the_true_border_and_ignored_pixels_do_not_count() -> None:
    truth = np.array([[1, 1, 0, 2, 2]])
    assert segment_scores(np.array([[5, 5, 5, 7, 7]]), truth).v_rand == 1
    membrane, probability = grid(1), grid(1).astype(float)
    ignored = np.zeros_like(membrane)
    probability[10, :32] = 1  # cuts one cell in two
    assert membrane_scores(probability, membrane).v_rand < 0.95
    ignored[:32, :32] = True
    assert membrane_scores(probability, membrane, ignored).v_rand == 1


def test_the_best_threshold_is_found() -> None:
    membrane = grid(3)
    probability = np.where(membrane, 0.65, 0.05)
    probability[20:22, :31] = 0.35  # a false membrane, less sure
    scores = membrane_scores(probability, membrane)
    assert scores.v_rand == 1
    assert (scores.rand_threshold, scores.info_threshold) == (0.4, 0.4)
    assert membrane_scores(probability, membrane, thresholds=[0.3]).v_rand < 0.95


def test_nothing_but_membrane_gives_nan() -> None:
    scores = membrane_scores(np.ones((8, 8)), np.ones((8, 8), bool))
    assert math.isnan(scores.v_rand)
    assert math.isnan(scores.v_info)


def test_one_cell_found_as_one_cell_is_perfect() -> None:
    scores = segment_scores(np.ones((3, 3)), np.ones((3, 3)))
    assert (scores.v_rand, scores.v_info, scores.voi_split, scores.voi_merge) == (1, 1, 0, 0)


def test_real_membranes_score_perfectly_against_themselves(shared_data: Callable[[str], Path]) -> None:
    membrane = io.imread(shared_data("em") / "masks" / "slice07.png") == 0
    scores = membrane_scores(membrane.astype(np.float32), membrane)
    assert scores.v_rand > 0.9999
    assert scores.v_info > 0.9999


def test_ids_may_be_large() -> None:
    truth = np.array([[0, 1, 1, 2, 2]])
    predicted = np.array([[7, 2**31, 2**31, 2**40, 0]])
    assert segment_scores(predicted, truth * 2**40) == segment_scores(np.array([[3, 1, 1, 2, 0]]), truth)


def test_nothing_but_border_predicted() -> None:
    scores = segment_scores(np.zeros((1, 4)), np.ones((1, 4)))
    assert scores.v_rand == pytest.approx(2 * 4 / (4 + 16))
    assert scores.v_info == 0


def test_what_does_not_fit_is_refused() -> None:
    a = np.zeros((3, 4))
    with pytest.raises(ValueError, match=r"probabilities \(3, 4\) and membrane \(4, 3\) must be 2-D and alike"):
        membrane_scores(a, a.T > 0)
    with pytest.raises(ValueError, match=r"segments \(3, 4\) and truth \(4, 3\) differ in shape"):
        segment_scores(a, a.T)
