"""Probabilities that are true: temperatures by class, fitted on held-out predictions (Guo et al. 2017, ICML, sec. 4.2).

Of classes that exclude each other p = softmax(log p / T + b), of regions that may overlap p = sigmoid(logit p / T + b),
with a temperature T and an offset b for each. Both are functions of the probabilities of one pixel: tiles stay exact,
and of an ensemble or of averaged views the logarithm of the mean probability stands for the logit.

One temperature for all classes changes no label; one for each, or an offset, may (temperature and vector scaling there:
offsets undo what class weights and overlap losses add to rare classes). More than one temperature is fitted only where
cross-validation over cases, or groups of them, says that the data bear it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from unetkit.core.config import Config
from unetkit.core.rng import numpy_generator
from unetkit.data.case import IGNORE
from unetkit.data.labels.borders import with_borders
from unetkit.data.labels.legend import Legend
from unetkit.predict.heldout import HeldOut

COLDEST, HOTTEST, FARTHEST = 0.25, 8.0, 4.0
"""Bounds of temperatures, and of offsets on either side."""
LEAST = 6e-8
"""Probabilities below are taken to be this: what half precision, in which held-out predictions are kept, can hold."""
MOST = 1 - 2.0**-12
"""The largest probability of a region: half precision knows none between it and 1, where a logit would be infinite."""
VALUES = 1 << 20  # pixels × classes that temperatures are fitted on
FOLDS = 5
_PULL = 1e-4  # of the squared difference of a log temperature from the mean of all: a class that is nowhere stays there

Array = NDArray[np.float64]
Temperature = Annotated[float, Field(ge=COLDEST, le=HOTTEST)]
Offset = Annotated[float, Field(ge=-2 * FARTHEST, le=2 * FARTHEST)]


class Calibration(Config):
    """How probabilities become true ones; empty: they are as the network gives them."""

    temperatures: tuple[Temperature, ...] = ()
    """Of each class of the network (the border of objects included); above 1: it was too sure."""
    offsets: tuple[Offset, ...] = ()
    """Added to the logarithm of each class's probability, divided by its temperature; empty: nothing."""
    why: str = ""
    """On what it was fitted, and what it gained, in a sentence."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.offsets and len(self.offsets) != len(self.temperatures):
            raise ValueError(f"{len(self.offsets)} offsets do not fit {len(self.temperatures)} temperatures")
        return self

    @property
    def neutral(self) -> bool:
        """Whether it changes nothing."""
        return not self.temperatures

    def logits(self, scores_KX: torch.Tensor, regions: bool, logits: bool) -> torch.Tensor:
        """Calibrated logits (K, *space) of scores (K, *space), float32, which are logits or probabilities: their
        softmax (of `regions` sigmoid) is the calibrated probability. Raises ValueError: another number of classes.
        """
        if len(self.temperatures) != len(scores_KX):
            raise ValueError(f"{len(self.temperatures)} temperatures do not fit {len(scores_KX)} classes")
        if regions:
            found_KX = scores_KX if logits else torch.logit(scores_KX.clamp(LEAST, MOST))
            found_KX = found_KX.clamp(math.log(LEAST), math.log(MOST / (1 - MOST)))
        else:
            found_KX = torch.log_softmax(scores_KX, 0) if logits else scores_KX.clamp_min(LEAST).log_()
            found_KX = found_KX.clamp_min_(math.log(LEAST))
        per_class = (-1, *(1,) * (scores_KX.ndim - 1))
        found_KX = found_KX.div_(found_KX.new_tensor(self.temperatures).reshape(per_class))
        return found_KX.add_(found_KX.new_tensor(self.offsets).reshape(per_class)) if self.offsets else found_KX

    def apply(self, shares_KX: NDArray[np.float32], regions: bool) -> NDArray[np.float32]:
        """Calibrated probabilities of the network's, (K, *space) float32; the same array where it is neutral.
        Raises ValueError as `logits`."""
        if self.neutral:
            return shares_KX
        logits_KX = self.logits(torch.from_numpy(np.ascontiguousarray(shares_KX, np.float32)), regions, False)
        result: NDArray[np.float32] = (torch.sigmoid(logits_KX) if regions else torch.softmax(logits_KX, 0)).numpy()
        return result


def fit_calibration(cases: Sequence[HeldOut], legend: Legend) -> Calibration:
    """Temperatures that make the probabilities of held-out cases likeliest (least mean negative log-likelihood).

    legend: the network's, with the border of objects where it learnt one. The same number of pixels is drawn from each
    case, `VALUES` in all. One temperature is taken if it is better than none, one for each class if that is better by
    more than chance, and so with offsets: by likelihood on cases that were left out, in up to `FOLDS` folds of whole
    groups; of fewer than four units (groups, or cases without one) it is at most one temperature. Equal input gives
    equal output. Neutral where no pixel is judged.
    """
    units = [f"group {case.group}" if case.group is not None else f"case {case.id}" for case in cases]
    pixels = [_pixels(case, legend, max(64, VALUES // len(legend.classes) // len(cases))) for case in cases]
    kept = [n for n, (logs, _) in enumerate(pixels) if len(logs)]
    if not kept:
        return Calibration()
    pixels, units = [pixels[n] for n in kept], [units[n] for n in kept]
    forms, regions = _forms(len(legend.classes)), legend.regions
    fold_of = {unit: number % FOLDS for number, unit in enumerate(dict.fromkeys(units))}
    folds = [fold_of[unit] for unit in units]
    if len(fold_of) < 4:
        chosen = 1
        gain = ""
    else:
        chosen, gain = _chosen(forms, pixels, units, folds, regions)
    temperatures, offsets = _fitted(forms[chosen], pixels, regions)
    if chosen == 0 or (np.allclose(temperatures, 1, atol=1e-3) and not offsets.any()):
        return Calibration()
    what = ("", "one temperature", "a temperature for each class", "a temperature and an offset for each class")[chosen]
    return Calibration(
        temperatures=tuple(round(float(t), 4) for t in temperatures),
        offsets=tuple(round(float(b), 4) for b in offsets) if offsets.any() else (),
        why=f"{what}, fitted on {len(kept)} held-out case{'s' * (len(kept) != 1)}{gain}",
    )


# --- forms: from a few free parameters to (log temperatures, offsets) of all classes, and the gradient back

Form = tuple[int, NDArray[np.int64], bool]  # parameters that are log temperatures, which one each class has, offsets?


def _forms(classes: int) -> tuple[Form, ...]:
    """None, one temperature, one for each class, and with an offset for each: from simple to rich."""
    one, each = np.zeros(classes, np.int64), np.arange(classes)
    return (0, one, False), (1, one, False), (classes, each, False), (classes, each, True)


def _fitted(form: Form, pixels: Sequence[tuple[Array, NDArray[np.uint8]]], regions: bool) -> tuple[Array, Array]:
    """(temperatures, offsets) of all classes, least in the mean negative log-likelihood of the pixels."""
    from scipy.optimize import minimize

    free, which, shifts = form
    classes = len(which)
    if free == 0:
        return np.ones(classes), np.zeros(classes)
    logs_NK = np.concatenate([logs for logs, _ in pixels])
    truth_NK = _one_hot(np.concatenate([truth for _, truth in pixels]), classes, regions)

    def cost(values: Array) -> tuple[float, Array]:
        t, b = values[:free], values[free:] if shifts else np.zeros(classes)
        scaled_NK = logs_NK * np.exp(-t[which])
        found, error_NK = _likelihood(scaled_NK + b, truth_NK, regions)
        of_t = np.bincount(which, -(error_NK * scaled_NK).mean(0), free)
        apart = t - t.mean()
        total = float(found.mean() + _PULL * (apart @ apart + (b @ b if shifts else 0)))
        slope = of_t + 2 * _PULL * apart
        return total, np.concatenate([slope, error_NK.mean(0) + 2 * _PULL * b]) if shifts else slope

    bounds = [(math.log(COLDEST), math.log(HOTTEST))] * free + [(-FARTHEST, FARTHEST)] * (classes if shifts else 0)
    best = minimize(cost, np.zeros(len(bounds)), jac=True, method="L-BFGS-B", bounds=bounds).x
    offsets = best[free:] if shifts else np.zeros(classes)
    if shifts and not regions:
        offsets = offsets - offsets.mean()  # the same added to all changes nothing
    return np.exp(best[:free])[which], offsets


def _chosen(
    forms: Sequence[Form],
    pixels: Sequence[tuple[Array, NDArray[np.uint8]]],
    units: Sequence[str],
    folds: Sequence[int],
    regions: bool,
) -> tuple[int, str]:
    """Which form to take, the simplest of those that the data cannot tell from the best; and what it gains, in words.

    A richer one is taken where it is better on units that were left out, by more than the standard error of that."""
    number = {unit: n for n, unit in enumerate(dict.fromkeys(units))}
    loss_FU = np.zeros((len(forms), len(number)))
    count_U = np.zeros(len(number))
    for fold in sorted(set(folds)):
        inside = [p for p, f in zip(pixels, folds, strict=True) if f != fold]
        found = [_fitted(form, inside, regions) for form in forms]
        for (logs_NK, truth_N), unit, f in zip(pixels, units, folds, strict=True):
            if f != fold:
                continue
            truth_NK = _one_hot(truth_N, logs_NK.shape[1], regions)
            count_U[number[unit]] += len(logs_NK)
            for n, (temperatures, offsets) in enumerate(found):
                loss_FU[n, number[unit]] += _likelihood(logs_NK / temperatures + offsets, truth_NK, regions)[0].sum()
    mean_F = loss_FU.sum(1) / count_U.sum()
    chosen = 0
    for n in range(1, len(forms)):
        gain_U = (loss_FU[chosen] - loss_FU[n]) / count_U.mean()
        if gain_U.mean() > gain_U.std(ddof=1) / math.sqrt(len(gain_U)):
            chosen = n
    return chosen, f", whose mean surprise falls from {mean_F[0]:.4f} to {mean_F[chosen]:.4f} when left out in turn"


def _likelihood(logits_NK: Array, truth_NK: Array, regions: bool) -> tuple[Array, Array]:
    """The negative log-likelihood of each pixel, (N,), and its gradient by the logits (N, K): p − y."""
    if regions:
        soft_NK = np.logaddexp(0, logits_NK)
        return (soft_NK - truth_NK * logits_NK).sum(1), np.exp(logits_NK - soft_NK) - truth_NK
    highest = logits_NK.max(1, keepdims=True)
    total_N1 = highest + np.log(np.exp(logits_NK - highest).sum(1, keepdims=True))
    return (total_N1 - (truth_NK * logits_NK).sum(1, keepdims=True))[:, 0], np.exp(logits_NK - total_N1) - truth_NK


def _one_hot(truth_N: NDArray[np.uint8], classes: int, regions: bool) -> Array:
    each = np.arange(classes)
    return (truth_N[:, None] >> each & 1 if regions else truth_N[:, None] == each).astype(np.float64)


# --- pixels of held-out cases


def truth_of(case: HeldOut, legend: Legend) -> NDArray[np.uint8]:
    """What the network was to say, uint8 (*window): in its own classes, with the border where it learnt one."""
    if not legend.border:
        return case.truth_X
    ids_X = case.truth_X if case.ids_X is None else case.ids_X
    return with_borders(ids_X, case.truth_X, legend.border, case.spacing)


def _pixels(case: HeldOut, legend: Legend, most: int) -> tuple[Array, NDArray[np.uint8]]:
    """Logarithms of probabilities (of regions: logits), (N, K), and the truth (N,), of at most `most` judged pixels."""
    truth_N, shares_KN = truth_of(case, legend).reshape(-1), case.probabilities()
    judged = np.flatnonzero(truth_N != IGNORE)
    if len(judged) > most:
        judged = np.sort(numpy_generator(0, "calibration", case.id).choice(judged, most, replace=False))
    shares_NK = shares_KN.reshape(len(shares_KN), -1)[:, judged].T.astype(np.float64)
    if legend.regions:
        shares_NK = np.clip(shares_NK, LEAST, MOST)
        return np.log(shares_NK) - np.log1p(-shares_NK), truth_N[judged]
    return np.log(np.maximum(shares_NK, LEAST)), truth_N[judged]


def calibrated(
    cases: Sequence[HeldOut], calibration: Calibration, legend: Legend
) -> Iterator[tuple[HeldOut, NDArray[np.float32]]]:
    """Each case, and its probabilities (K, *window) of the network's classes, calibrated."""
    for case in cases:
        yield case, calibration.apply(case.probabilities(), legend.regions)
