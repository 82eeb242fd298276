"""Losses of single pixels: cross-entropy and its kin, and the weight map of the 2015 paper."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from unetkit.losses.cells import separation
from unetkit.losses.pair import Pair
from unetkit.losses.sums import sums_of


def cross_entropy(pair: Pair, *, smoothing: float, positive: float) -> Tensor:
    """Mean of −log p of the truth over labelled pixels (of regions: of each yes-or-no question, over regions too).

    Class weights, smoothing and the weight of positive pixels as in torch's `cross_entropy(weight, label_smoothing)`
    and `BCEWithLogitsLoss(pos_weight)`: of classes the mean is weighted, of regions it is not.
    """
    weights_K = pair.weights
    if positive == 1:
        sums = pair.sums
    else:
        factor_K = torch.ones_like(pair.truth_BK[0])
        factor_K[slice(None) if pair.target.regions else pair.target.positive] = positive
        weights_K = factor_K if weights_K is None else weights_K * factor_K
        sums = sums_of(pair.z_BKN, pair.label_BN, pair.truth_BK, weights_K, pair.target.regions)
    above_0 = torch.where(sums.weight > 0, sums.weight, 1.0)  # weight is 0 only where nll is 0 too
    mean = sums.nll / above_0
    if smoothing == 0:
        return mean
    own_1K1 = 1.0 if weights_K is None else weights_K[:, None]
    # of regions the other answer, no, weighs 1, and each answer gets half of what is smoothed
    away_BKN = -own_1K1 * pair.log_p
    if pair.target.regions:
        away_BKN = away_BKN - logsigmoid(-pair.z_BKN)
    answers = 2 if pair.target.regions else pair.target.classes
    away = (away_BKN * pair.valid[:, None]).sum() / above_0
    return (1 - smoothing) * mean + smoothing / answers * away


def focal(pair: Pair, *, gamma: float, alpha: float | None) -> Tensor:
    """Mean of −(1 − p)^gamma · log p, with p the probability given to the truth.

    alpha: the weight of what is there; the background (of regions: what is not there) weighs 1 − alpha. Class weights
    act as in `cross_entropy`: with gamma 0 and no alpha this is cross-entropy.
    """
    weights_K = pair.weights
    if pair.target.regions:
        t_BKN = pair.truth
        sign_BKN = 2 * t_BKN - 1
        value_BKN = -logsigmoid(sign_BKN * pair.z_BKN) * torch.exp(gamma * logsigmoid(-sign_BKN * pair.z_BKN))
        if weights_K is not None:
            value_BKN = value_BKN * (1 + t_BKN * (weights_K[:, None] - 1))
        if alpha is not None:
            value_BKN = value_BKN * torch.where(t_BKN > 0, alpha, 1 - alpha)
        asked = pair.labelled_B.sum() * pair.target.classes
        return (value_BKN * pair.valid[:, None]).sum() / asked.clamp(min=1)
    log_py_BN = pair.log_p.gather(1, pair.index[:, None])[:, 0]
    weight_BN = pair.valid if weights_K is None else pair.valid * weights_K[pair.index]
    below = weight_BN.sum()
    if alpha is not None:
        factor_K = torch.full_like(pair.truth_BK[0], alpha)
        factor_K[pair.target.background] = 1 - alpha
        weight_BN = weight_BN * factor_K[pair.index]
    # a power below 1 is infinitely steep where p is 1
    value_BN = -((1 - log_py_BN.exp()).clamp(min=1e-7) ** gamma) * log_py_BN
    return (value_BN * weight_BN).sum() / torch.where(below > 0, below, 1.0)


def border_cross_entropy(pair: Pair, *, w0: float, sigma: float, balance: bool, gap: int | None) -> Tensor:
    """Weighted mean of −log p of the truth, with the weights w = w_c + w0 · exp(−(d1 + d2)² / (2 σ²)) of each pixel.

    w_c: the class weights of the plan, else (`balance`) one over the share of the class in the batch. d1, d2: distances
    to the nearest and the second nearest cell. Of regions each is a problem of its own, with cells of its own.
    """
    between = separation(pair, w0, sigma, gap)
    if pair.target.regions:
        t_BKN = pair.truth
        yes_K1, no_K1 = _balance_of_regions(pair, balance)
        weight_BKN = torch.where(t_BKN > 0, yes_K1, no_K1) + between
        value_BKN = -logsigmoid((2 * t_BKN - 1) * pair.z_BKN)
    else:
        weight_BKN = _balance_of_classes(pair, balance)[pair.index][:, None] + between
        value_BKN = -pair.log_p.gather(1, pair.index[:, None])
    weight_BKN = weight_BKN * pair.valid[:, None]
    below = weight_BKN.sum()
    return (value_BKN * weight_BKN).sum() / torch.where(below > 0, below, 1.0)


def _balance_of_classes(pair: Pair, balance: bool) -> Tensor:
    """The weight of each class: that of the plan, else one over its share, scaled to a mean of 1 over the pixels."""
    truth_K = pair.truth_BK.sum(0)
    if pair.weights is not None or not balance:
        return torch.ones_like(truth_K) if pair.weights is None else pair.weights
    occurring = (truth_K > 0).sum().clamp(min=1)
    return torch.where(truth_K > 0, truth_K.sum() / (occurring * truth_K.clamp(min=1)), 0.0)


def _balance_of_regions(pair: Pair, balance: bool) -> tuple[Tensor, Tensor]:
    """The weights of the pixels in each region and of those outside, (K, 1); where there is only one kind, 1."""
    truth_K, asked = pair.truth_BK.sum(0), pair.labelled_B.sum()
    ones_K = torch.ones_like(truth_K)
    if pair.weights is not None or not balance:
        yes_K, no_K = ones_K if pair.weights is None else pair.weights, ones_K
    else:
        both_K = (truth_K > 0) & (truth_K < asked)
        yes_K = torch.where(both_K, asked / (2 * truth_K.clamp(min=1)), ones_K)
        no_K = torch.where(both_K, asked / (2 * (asked - truth_K).clamp(min=1)), ones_K)
    return yes_K[:, None], no_K[:, None]
