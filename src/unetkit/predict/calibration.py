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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from unetkit.core.config import Config
from unetkit.core.rng import numpy_generator
from unetkit.data.case import IGNORE
from unetkit.data.labels.legend import UNANNOTATED, Legend
from unetkit.predict.heldout import HeldOut

COLDEST, HOTTEST, FARTHEST = 0.25, 8.0, 4.0
"""Bounds of temperatures, and of offsets on either side."""
LEAST = 6e-8
"""Probabilities below are taken to be this: what half precision, in which held-out predictions are kept, can hold."""
MOST = 1 - 2.0**-12
"""The largest probability of a region: half precision knows none between it and 1, where a logit would be infinite."""
VALUES = 1 << 19  # pixels × classes that temperatures are fitted on
FOLDS = 5
WORTH = 0.002  # of the surprise: more than one temperature must gain that much
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
    """Temperatures that make the truth of held-out cases likeliest (least mean negative log-likelihood); where objects
    that touch are told apart by help classes, as well that of the classes of masks.

    legend: the network's, with those help classes. The same number of pixels is drawn from each case, `VALUES` in all.
    One temperature is taken if it is better than none, one for each class if that is better in the mean and on most
    units (groups, or cases without one), and so with offsets: by likelihood on units that were left out, in up to
    `FOLDS` folds; of fewer than four units it is one temperature. Equal input gives equal output. Neutral where no
    pixel is judged.
    """
    units = [f"group {case.group}" if case.group is not None else f"case {case.id}" for case in cases]
    pixels = [_pixels(case, legend, max(64, VALUES // len(legend.classes) // len(cases))) for case in cases]
    kept = [n for n, each in enumerate(pixels) if len(each.logits_NK)]
    if not kept:
        return Calibration()
    pixels, units = [pixels[n] for n in kept], [units[n] for n in kept]
    forms = _forms(len(legend.classes))
    fold_of = {unit: number % FOLDS for number, unit in enumerate(dict.fromkeys(units))}
    folds = [fold_of[unit] for unit in units]
    if len(fold_of) < 4:
        chosen, gain = 1, ""
    else:
        chosen, gain = _chosen(forms, [each.few() for each in pixels], units, folds)
    temperatures, offsets = _fitted(forms[chosen], pixels, legend.regions)
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


def _fitted(form: Form, cases: Sequence[Pixels], regions: bool) -> tuple[Array, Array]:
    """(temperatures, offsets) of all classes, least in the mean negative log-likelihood of the pixels."""
    from scipy.optimize import minimize

    free, which, shifts = form
    classes = len(which)
    if free == 0:
        return np.ones(classes), np.zeros(classes)
    pixels = Pixels.together(cases)

    def cost(values: Array) -> tuple[float, Array]:
        t, b = values[:free], values[free:] if shifts else np.zeros(classes)
        scaled_NK = pixels.logits_NK * np.exp(-t[which])
        found, error_NK = pixels.surprise(scaled_NK + b)
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
    forms: Sequence[Form], pixels: Sequence[Pixels], units: Sequence[str], folds: Sequence[int]
) -> tuple[int, str]:
    """Which form to take, and what it gains, in words. One temperature is taken where it is better on units that were
    left out; a richer form where it is so by `WORTH`, and on most of them: a few that differ do not decide."""
    number = {unit: n for n, unit in enumerate(dict.fromkeys(units))}
    loss_FU, count = np.zeros((len(forms), len(number))), 0
    for fold in sorted(set(folds)):
        inside = [p for p, f in zip(pixels, folds, strict=True) if f != fold]
        found = [_fitted(form, inside, pixels[0].regions) for form in forms]
        for each, unit, f in zip(pixels, units, folds, strict=True):
            if f == fold:
                count += len(each.logits_NK)
                for n, (temperatures, offsets) in enumerate(found):
                    loss_FU[n, number[unit]] += each.surprise(each.logits_NK / temperatures + offsets)[0].sum()
    chosen = 0
    for n in range(1, len(forms)):
        gain_U = loss_FU[chosen] - loss_FU[n]
        # of units that differ by chance alone, half gain; the standard error of that share is added
        most = 0.5 + 0.5 / math.sqrt(len(gain_U))
        gains = gain_U.sum() > WORTH * loss_FU[chosen].sum() and (gain_U > 0).mean() >= most
        if gains if n > 1 else gain_U.sum() > 0:
            chosen = n
    before, after = (loss_FU[n].sum() / count for n in (0, chosen))
    return chosen, f", whose mean surprise falls from {before:.4f} to {after:.4f} when left out in turn"


# --- pixels of held-out cases


@dataclass(frozen=True)
class Pixels:
    """Logits (N, K), of classes logarithms of probabilities, and what is true: of each way to see it, 1 for the classes
    that are right, (N, K): the network's own class, or all that masks do not tell from it."""

    logits_NK: Array
    truths: tuple[Array, ...]
    regions: bool

    @classmethod
    def together(cls, parts: Sequence[Pixels]) -> Pixels:
        """Those of several cases."""
        truths = tuple(np.concatenate(views) for views in zip(*(part.truths for part in parts), strict=True))
        return cls(np.concatenate([part.logits_NK for part in parts]), truths, parts[0].regions)

    def few(self) -> Pixels:
        """Every fourth, by which forms are compared."""
        return Pixels(self.logits_NK[::4], tuple(truth_NK[::4] for truth_NK in self.truths), self.regions)

    def surprise(self, logits_NK: Array) -> tuple[Array, Array]:
        """With other logits: the negative log-likelihood of each pixel, (N,), the mean of all views; and its gradient
        by the logits, (N, K)."""
        if self.regions:
            soft_NK, truth_NK = np.logaddexp(0, logits_NK), self.truths[0]
            return (soft_NK - truth_NK * logits_NK).sum(1), np.exp(logits_NK - soft_NK) - truth_NK
        shares_NK = np.exp(logits_NK - logits_NK.max(1, keepdims=True))
        shares_NK /= shares_NK.sum(1, keepdims=True)
        loss_N, error_NK = np.zeros(len(logits_NK)), np.zeros(logits_NK.shape)
        for truth_NK in self.truths:
            right_NK = shares_NK * truth_NK
            right_N1 = np.maximum(right_NK.sum(1, keepdims=True), 1e-300)
            loss_N -= np.log(right_N1[:, 0]) / len(self.truths)
            error_NK += (shares_NK - right_NK / right_N1) / len(self.truths)
        return loss_N, error_NK


def truth_of(case: HeldOut, legend: Legend) -> NDArray[np.uint8]:
    """What the network was to say, uint8 (*window): in its own classes, those included by which it tells objects apart
    that touch."""
    if legend.plain is legend:
        return case.truth_X
    ids_X = np.asarray(case.truth_X if case.ids_X is None else case.ids_X).astype(np.int64)
    ids_X[case.truth_X == IGNORE] = UNANNOTATED
    return legend.model_copy(update={"ignore": None}).encode(ids_X, False, case.spacing)[0]


def _pixels(case: HeldOut, legend: Legend, most: int) -> Pixels:
    """At most `most` judged pixels of a case."""
    truth_N, shares_KN = truth_of(case, legend).reshape(-1), case.probabilities()
    judged = np.flatnonzero(truth_N != IGNORE)
    if len(judged) > most:
        judged = np.sort(numpy_generator(0, "calibration", case.id).choice(judged, most, replace=False))
    shares_NK = shares_KN.reshape(len(shares_KN), -1)[:, judged].T.astype(np.float64)
    truth_N, each = truth_N[judged], np.arange(len(legend.classes), dtype=np.uint8)
    if legend.regions:
        shares_NK = np.clip(shares_NK, LEAST, MOST)
        return Pixels(np.log(shares_NK) - np.log1p(-shares_NK), ((truth_N[:, None] >> each & 1).astype(float),), True)
    truths = [(truth_N[:, None] == each).astype(float)]
    if legend.plain is not legend:
        truths.append((legend.merge(truth_N)[:, None] == legend.merge(each)).astype(float))
    return Pixels(np.log(np.maximum(shares_NK, LEAST)), tuple(truths), False)
