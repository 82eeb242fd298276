"""Calibration and ranking of probabilities, against loops written from the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unetkit.metrics.calibration import (
    ConfidenceCounts,
    average_precision,
    confidence_scores,
    roc_auc,
)


def made_up(seed: int, shape: tuple[int, ...] = (24, 17), classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (K, *space) that are too sure, of which many are all but 0 or 1; and truth with ignored pixels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (classes, *shape))
    shares = np.exp(logits) / np.exp(logits).sum(0)
    truth = np.array([rng.choice(classes, p=p) for p in _softer(shares)]).reshape(shape).astype(np.uint8)
    truth[rng.random(shape) < 0.1] = 255
    return shares.astype(np.float32), truth


def _softer(shares: np.ndarray) -> np.ndarray:
    soft = shares.reshape(len(shares), -1).T ** 0.4
    return soft / soft.sum(1, keepdims=True)


def naive_ece(confidence: list[float], right: list[bool], bins: int = 15) -> float:
    error = 0.0
    for m in range(1, bins + 1):
        inside = [n for n, c in enumerate(confidence) if (m - 1) / bins < c <= m / bins or (m == 1 and c == 0)]
        if inside:
            accuracy = sum(right[n] for n in inside) / len(inside)
            error += len(inside) / len(confidence) * abs(accuracy - sum(confidence[n] for n in inside) / len(inside))
    return error


def naive_auc(scores: list[float], true: list[bool]) -> float:
    wins = pairs = 0.0
    for score, is_true in zip(scores, true, strict=True):
        for other, is_other in zip(scores, true, strict=True):
            if is_true and not is_other:
                pairs += 1
                wins += 1 if score > other else 0.5 if score == other else 0
    return wins / pairs


def naive_ap(scores: list[float], true: list[bool]) -> float:
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = [t for s, t in zip(scores, true, strict=True) if s >= threshold]
        recall = sum(chosen) / sum(true)
        total += (recall - before) * sum(chosen) / len(chosen)
        before = recall
    return total


def test_classes_against_loops() -> None:
    shares, truth = made_up(0)
    found = confidence_scores(shares, truth)
    pixels = [
        (shares[:, y, x].astype(float), int(truth[y, x])) for y, x in np.ndindex(*truth.shape) if truth[y, x] != 255
    ]
    assert found.pixels == len(pixels)
    brier = sum(sum((p - (k == t)) ** 2 for k, p in enumerate(ps)) for ps, t in pixels) / len(pixels)
    assert found.brier == pytest.approx(brier)
    assert found.nll == pytest.approx(-sum(math.log(ps[t]) for ps, t in pixels) / len(pixels))
    assert found.ece == pytest.approx(
        naive_ece([max(ps) for ps, _ in pixels], [int(np.argmax(ps)) == t for ps, t in pixels])
    )
    for k in range(3):
        of_class, is_class = [ps[k] for ps, _ in pixels], [t == k for _, t in pixels]
        assert found.classes[k].ece == pytest.approx(naive_ece(of_class, is_class))
        # from bins of 8 bits
        assert found.auc[k] == pytest.approx(naive_auc(of_class, is_class), abs=1e-3)
        assert found.ap[k] == pytest.approx(naive_ap(of_class, is_class), abs=5e-3)
    assert found.ece_by_class == pytest.approx(np.mean([table.ece for table in found.classes]))


def test_regions_against_loops() -> None:
    rng = np.random.default_rng(1)
    shares = rng.beta(0.4, 0.6, (2, 30, 20)).astype(np.float32)
    truth = (rng.random((2, 30, 20)) < shares**1.5).astype(np.uint8)
    label = (truth[0] + 2 * truth[1]).astype(np.uint8)
    label[:3] = 255
    found = confidence_scores(shares, label, regions=True)
    kept = label != 255
    p, y = shares[:, kept].astype(float).reshape(-1), truth[:, kept].reshape(-1)
    assert found.brier == pytest.approx(((p - y) ** 2).mean())
    assert found.nll == pytest.approx(-np.log(np.where(y == 1, p, 1 - p)).mean())
    confidence = list(np.maximum(p, 1 - p))
    assert found.ece == pytest.approx(naive_ece(confidence, list((p >= 0.5) == (y == 1))))
    each = [naive_ece(list(shares[k, kept].astype(float)), list(truth[k, kept] == 1)) for k in range(2)]
    assert [table.ece for table in found.classes] == pytest.approx(each)


def test_equal_mass_is_what_sorting_gives() -> None:
    shares, truth = made_up(2, (200, 150))
    kept = truth != 255
    confidence, right = shares.max(0)[kept].astype(float), (shares.argmax(0) == truth)[kept]
    order = np.argsort(confidence)
    parts = np.array_split(order, 15)
    expected = sum(len(part) * abs(right[part].mean() - confidence[part].mean()) for part in parts) / len(order)
    table = confidence_scores(shares, truth).top_mass
    assert table.ece == pytest.approx(expected, abs=1e-3)
    assert table.pixels.max() < 1.2 * table.pixels.min()


def test_parts_and_images_add_up() -> None:
    shares, truth = made_up(3, (24, 20, 9), 4)
    whole = confidence_scores(shares, truth)
    counts = ConfidenceCounts(4)
    for part in (slice(0, 5), slice(5, 6), slice(6, 24)):
        counts.add(shares[:, part], truth[part])
    found = counts.scores()
    assert (found.pixels, found.auc, found.ap) == (whole.pixels, whole.auc, whole.ap)
    assert found.ece == pytest.approx(whole.ece)
    assert found.brier == pytest.approx(whole.brier)


def test_ranking_against_loops() -> None:
    rng = np.random.default_rng(4)
    scores = np.round(rng.random(120), 1)  # many ties
    true = rng.random(120) < scores
    assert roc_auc(scores, true) == pytest.approx(naive_auc(list(scores), list(true)))
    assert average_precision(scores, true) == pytest.approx(naive_ap(list(scores), list(true)))


def test_what_ranks_extremes_is_not_lost() -> None:
    """Of a sure network nearly all is below 0.001 or above 0.999, and there the order counts as well."""
    scores = np.array([1e-6, 1e-5, 1e-4, 1e-3, 1 - 1e-3, 1 - 1e-4, 1 - 1e-5, 1 - 1e-6])
    true = np.array([False, True, False, False, True, False, True, True])
    shares = np.stack([1 - scores, scores])
    found = confidence_scores(shares, true.astype(np.uint8))
    assert found.auc[1] == pytest.approx(roc_auc(scores, true))
    assert found.ap[1] == pytest.approx(average_precision(scores, true))


def test_nothing_to_judge() -> None:
    found = confidence_scores(np.full((2, 3, 3), 0.5), np.full((3, 3), 255, np.uint8))
    assert found.pixels == 0
    assert all(math.isnan(v) for v in (found.brier, found.nll, found.ece, found.top_mass.ece, *found.auc, *found.ap))
    one = confidence_scores(np.full((2, 3, 3), 0.5), np.zeros((3, 3), np.uint8))
    assert math.isnan(one.auc[0])
    assert one.ap == (1.0, pytest.approx(math.nan, nan_ok=True))


@pytest.mark.parametrize(
    ("shares", "truth", "message"),
    [
        (np.zeros((2, 3, 4)), np.zeros((3, 3), np.uint8), "do not fit probabilities (2, 3, 4)"),
        (np.full((2, 3), 0.5), np.array([0, 1, 2], np.uint8), "the truth holds 0 … 2, which is beyond 2 classes"),
        (np.full((2, 3), 1.5), np.zeros(3, np.uint8), "probabilities lie between 0 and 1"),
    ],
)
def test_refusals(shares: np.ndarray, truth: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        confidence_scores(shares, truth)
