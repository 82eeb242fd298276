"""ROC AUC and average precision equal MONAI's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unetkit.metrics.calibration import average_precision, roc_auc


def test_ranking_against_monai() -> None:
    metrics = pytest.importorskip("monai.metrics")
    rng = np.random.default_rng(5)
    scores = rng.random(400)
    true = rng.random(400) < scores**2
    given = torch.from_numpy(scores), torch.from_numpy(true.astype(np.int64))
    assert roc_auc(scores, true) == pytest.approx(float(metrics.compute_roc_auc(*given)))
    assert average_precision(scores, true) == pytest.approx(float(metrics.compute_average_precision(*given)))
