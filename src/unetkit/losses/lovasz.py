"""The Lovász loss: the convex surface over the Jaccard index of sets of wrong pixels (Berman, Triki, Blaschko 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from unetkit.losses.overlap import counts_of
from unetkit.losses.pair import Pair


def lovasz(pair: Pair, *, image: bool, background: bool, absent: bool) -> Tensor:
    """Mean over classes of Σ of the sorted errors of pixels, each times what it adds to the Jaccard loss (algorithm 1).

    Classes: the errors are |t − p| of the softmax (Lovász-softmax). Regions: max(0, 1 − z · sign), the hinge of the
    logits z (Lovász hinge; Yu and Blaschko 2015).
    """
    t_BKN, valid_B1N = pair.truth, pair.valid[:, None] > 0
    error_BKN = 1 - pair.z_BKN * (2 * t_BKN - 1) if pair.target.regions else (t_BKN - pair.p).abs()
    # what is ignored comes last, where it changes nothing
    error_BKN = torch.where(valid_B1N, error_BKN, -1.0)
    if not image:
        error_BKN, t_BKN = (x.transpose(0, 1).flatten(1)[None] for x in (error_BKN, t_BKN))
    counts_GK = counts_of(pair, image, background, absent)
    error_GKN, order_GKN = error_BKN.sort(dim=2, descending=True, stable=True)
    steps_GKN = jaccard_steps(t_BKN.gather(2, order_GKN))
    values_GK = (error_GKN.relu() * steps_GKN).sum(2)
    return torch.where(counts_GK, values_GK, 0.0).sum() / counts_GK.sum().clamp(min=1)


@torch.no_grad()
def jaccard_steps(truth_GKN: Tensor) -> Tensor:
    """By how much the Jaccard loss grows as pixels become wrong, one after another, in this order; truth is 0 or 1.

    In closed form rather than as a difference of neighbours, of which float32 would lose most digits: with I pixels of
    the class still right and U in the union after the step, 1 / U where the pixel is of the class, else
    I / (U (U − 1)).
    """
    truth = truth_GKN.to(torch.int64)
    missed = truth.cumsum(-1)
    right = truth.sum(-1, keepdim=True) - missed
    # all of the truth, and the pixels so far that are not of it
    union = right + torch.arange(1, truth.shape[-1] + 1, device=truth.device)
    steps = torch.where(truth > 0, 1.0, right.to(truth_GKN) / (union - 1).clamp(min=1)) / union
    # of a class without pixels the first wrong one is the whole loss
    steps[..., 0] = torch.where(right[..., 0] + missed[..., 0] > 0, steps[..., 0], 1.0)
    return steps
