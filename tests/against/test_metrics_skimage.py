"""Rand and information scores against scikit-image, where the definitions agree: no predicted border in the truth."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import adapted_rand_error, variation_of_information

from unetkit.metrics import segment_scores


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_scikit_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 12, (8, 8)), np.ones((16, 16), int))
    predicted = np.where(rng.random(truth.shape) < 0.8, truth + 1, rng.integers(1, 14, truth.shape))
    ours = segment_scores(predicted, truth)

    split, merge = variation_of_information(truth, predicted, ignore_labels=(0,))
    assert ours.voi_split == pytest.approx(split)
    assert ours.voi_merge == pytest.approx(merge)

    # scikit-image counts pairs of different pixels, n (n − 1), the challenge n²: alike to about 1/size
    error, precision, recall = adapted_rand_error(truth, predicted)
    assert ours.v_rand == pytest.approx(1 - error, abs=2e-3)
    assert {round(ours.rand_split, 2), round(ours.rand_merge, 2)} == {round(precision, 2), round(recall, 2)}
