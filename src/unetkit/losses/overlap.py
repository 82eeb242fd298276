"""Losses of overlap: how much of what is predicted is true, and how much of what is true is predicted.

All are fractions of the areas P (predicted, Σ p), T (truth, Σ t) and I (both, Σ p·t) of a class, with s (`smooth`)
added above and below. The areas are those of the whole batch, or (`image`) of each image for itself. The mean runs over
the classes that occur in that truth: a class that no pixel has would reward nothing but its absence, and cross-entropy
takes care of that. With `absent` the others count too, as they do in MONAI and nnU-Net.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unetkit.losses.pair import Pair


@dataclass(frozen=True)
class Areas:
    """Areas (G, K) of every class in every image, or in the batch (G = 1); counts: which of them are in the mean."""

    both: Tensor
    predicted: Tensor
    truth: Tensor
    counts: Tensor

    def mean(self, values_GK: Tensor) -> Tensor:
        """The mean over what counts; 0, without gradient, where nothing does."""
        return torch.where(self.counts, values_GK, 0.0).sum() / self.counts.sum().clamp(min=1)


def counts_of(pair: Pair, image: bool, background: bool, absent: bool) -> Tensor:
    """Which classes of which images (or of the batch) are in the mean, (G, K) bool."""
    truth_GK, labelled_G = pair.truth_BK, pair.labelled_B
    if not image:
        truth_GK, labelled_G = truth_GK.sum(0, keepdim=True), labelled_G.sum(0, keepdim=True)
    counts_GK = (labelled_G[:, None] > 0).expand_as(truth_GK) if absent else truth_GK > 0
    chosen = pair.target.counted(background)
    if len(chosen) == pair.target.classes:
        return counts_GK
    mask_K = torch.zeros(pair.target.classes, dtype=torch.bool, device=truth_GK.device)
    mask_K[list(chosen)] = True
    return counts_GK & mask_K


def areas_of(pair: Pair, *, image: bool, background: bool, absent: bool, squared: bool = False) -> Areas:
    """The areas; squared: those of p² and t² (which is t), as V-Net takes them, in a pass of their own."""
    sums = pair.sums
    predicted_BK = (pair.p.square() * pair.valid[:, None]).sum(2) if squared else sums.predicted
    parts = (sums.overlap, predicted_BK, sums.truth)
    if not image:
        parts = (parts[0].sum(0, keepdim=True), parts[1].sum(0, keepdim=True), parts[2].sum(0, keepdim=True))
    return Areas(*parts, counts_of(pair, image, background, absent))


def dice(pair: Pair, *, image: bool, squared: bool, background: bool, absent: bool, smooth: float) -> Tensor:
    """1 − mean of (2 I + s) / (P + T + s)."""
    of = areas_of(pair, image=image, background=background, absent=absent, squared=squared)
    return of.mean(1 - _ratio(2 * of.both + smooth, of.predicted + of.truth + smooth))


def jaccard(pair: Pair, *, image: bool, squared: bool, background: bool, absent: bool, smooth: float) -> Tensor:
    """1 − mean of (I + s) / (P + T − I + s)."""
    of = areas_of(pair, image=image, background=background, absent=absent, squared=squared)
    return of.mean(1 - _ratio(of.both + smooth, of.predicted + of.truth - of.both + smooth))


def tversky(
    pair: Pair,
    *,
    alpha: float,
    beta: float,
    image: bool,
    background: bool,
    absent: bool,
    smooth: float,
    gamma: float = 1.0,
) -> Tensor:
    """Mean of (1 − (I + s) / (I + alpha (P − I) + beta (T − I) + s)) ^ gamma."""
    of = areas_of(pair, image=image, background=background, absent=absent)
    below = of.both + alpha * (of.predicted - of.both) + beta * (of.truth - of.both) + smooth
    missing_GK = 1 - _ratio(of.both + smooth, below)
    # a power below 1 is infinitely steep at 0
    return of.mean(missing_GK if gamma == 1 else missing_GK.clamp(min=1e-7) ** gamma)


def generalised_dice(pair: Pair, *, power: float, image: bool, background: bool, smooth: float) -> Tensor:
    """1 − (2 Σ_k w_k I_k + s) / (Σ_k w_k (P_k + T_k) + s), w_k = (smallest T / T_k) ^ power.

    A class that does not occur weighs as much as the rarest one. Mean over images (or the batch) that have a label.
    """
    of = areas_of(pair, image=image, background=background, absent=True)
    occurs_GK = of.counts & (of.truth > 0)
    least_G1 = torch.where(occurs_GK, of.truth, torch.inf).amin(1, keepdim=True)
    weight_GK = torch.where(occurs_GK, least_G1 / of.truth.clamp(min=1), 1.0).pow(power) * of.counts
    above_G = 2 * (weight_GK * of.both).sum(1) + smooth
    below_G = (weight_GK * (of.predicted + of.truth)).sum(1) + smooth
    counts_G = occurs_GK.any(1)
    return torch.where(counts_G, 1 - _ratio(above_G, below_G), 0.0).sum() / counts_G.sum().clamp(min=1)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """above / below; 0 / 0, which without smoothing is a class that is not there, has no gradient that is no number."""
    return above / torch.where(below > 0, below, 1.0)
