"""Which class, tuned: a bias on each logarithm of a probability, or a threshold for each region, by mean Dice.

Arg-max minimises the share of wrong pixels; the Dice of a rare class is often higher where it is preferred (of a single
class the best threshold is half of the Dice that it reaches: Lipton 2014, "Optimal thresholding of classifiers to
maximize F1 measure").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from unetkit.core.rng import numpy_generator
from unetkit.data.case import IGNORE
from unetkit.data.labels.legend import Legend
from unetkit.predict.calibration import Calibration
from unetkit.predict.decide import Rule, decide
from unetkit.predict.decoding import Decoding
from unetkit.predict.heldout import HeldOut
from unetkit.predict.tuning.search import Scores, Setting, search

BIASES = (-2.0, -1.5, -1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9)
VALUES = 30_000_000
"""Probabilities that can be decided in a second, about."""
LEAST = 6e-8


@dataclass(frozen=True)
class Sampled:
    """Judged pixels of all cases. scores (K, N): logarithms of probabilities, or probabilities of regions; truth (N,);
    case (N,): to which each belongs."""

    scores_KN: torch.Tensor
    truth_N: NDArray[np.uint8]
    case_N: NDArray[np.int64]
    cases: int

    def dice(self, rule: Rule, legend: Legend) -> Scores:
        """Mean Dice of the classes that count, of every case; 1 of a class that neither side has."""
        label_N = decide(self.scores_KN, legend.regions, not legend.regions, rule).numpy()
        total = np.zeros(self.cases)
        for k in legend.foreground:
            found_N, true_N = legend.where(label_N, k), legend.where(self.truth_N, k)
            both, found, true = (
                np.bincount(self.case_N, weights, self.cases) for weights in (found_N & true_N, found_N, true_N)
            )
            total += np.where(found + true > 0, 2 * both / np.maximum(found + true, 1), 1.0)
        return total / max(1, len(legend.foreground))


def tune_bias(cases: Sequence[HeldOut], legend: Legend, calibration: Calibration, seconds: float) -> Decoding:
    """The bias of each class that raises the mean Dice; neutral where none does by more than chance."""
    classes = len(legend.classes)
    fixed = 0 if legend.background is None else legend.background
    tries = (classes - 1) * len(BIASES) * 4
    sampled = sample(cases, legend, calibration, int(seconds * VALUES / tries / classes))

    def score(setting: Setting) -> Scores:
        return sampled.dice(Rule(bias=setting), legend)

    options = [() if k == fixed else BIASES for k in range(classes)]
    found = search((0.0,) * classes, options, score, cases)
    return Decoding(bias=found.setting if found.better else (), why=found.words("Dice", len(cases)))


def tune_thresholds(cases: Sequence[HeldOut], legend: Legend, calibration: Calibration, seconds: float) -> Decoding:
    """The threshold of each region that raises the mean Dice; neutral where none does by more than chance."""
    classes = len(legend.classes)
    sampled = sample(cases, legend, calibration, int(seconds * VALUES / (classes * len(THRESHOLDS) * 4) / classes))

    def score(setting: Setting) -> Scores:
        return sampled.dice(Rule(thresholds=setting), legend)

    found = search((0.5,) * classes, [THRESHOLDS] * classes, score, cases)
    return Decoding(thresholds=found.setting if found.better else (), why=found.words("Dice", len(cases)))


def sample(cases: Sequence[HeldOut], legend: Legend, calibration: Calibration, most: int) -> Sampled:
    """At most `most` judged pixels of all cases, of each as many as of the others where it has them."""
    each = max(1024, most // len(cases))
    scores, truths, numbers = list[NDArray[np.float32]](), list[NDArray[np.uint8]](), list[NDArray[np.int64]]()
    for number, case in enumerate(cases):
        truth_N = case.truth_X.reshape(-1)
        judged = np.flatnonzero(truth_N != IGNORE)
        if len(judged) > each:
            judged = np.sort(numpy_generator(0, "decoding", case.id).choice(judged, each, replace=False))
        shares_KN = case.probabilities().reshape(len(legend.classes), -1)[:, judged]
        shares_KN = calibration.apply(shares_KN, legend.regions)
        scores.append(shares_KN if legend.regions else np.log(np.maximum(shares_KN, LEAST)))
        truths.append(truth_N[judged])
        numbers.append(np.full(len(judged), number))
    scores_KN = torch.from_numpy(np.ascontiguousarray(np.concatenate(scores, 1)))
    return Sampled(scores_KN, np.concatenate(truths), np.concatenate(numbers), len(cases))
