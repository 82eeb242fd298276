"""One pass over the logits gives the few sums from which cross-entropy, Dice and their kin are computed.

Of every image b and class k, over its pixels, with p the probabilities, t_k = 1 where the truth is class k (else 0),
v = 1 where the pixel is not ignored (else 0) and w the weights:

    overlap_bk    Σ v · p_k · t_k     soft true positives
    predicted_bk  Σ v · p_k           soft size of the prediction
    truth_bk      Σ v · t_k           size of the truth, no gradient

and of the whole batch `nll`, the negative log-likelihood, and `weight`, by which it is divided (no gradient).

The backward pass is written out by hand: one pass, no one-hot label, and the probabilities are the only large tensor
that is kept. In both formulas a_k = ∂L/∂predicted_bk and b_k = ∂L/∂overlap_bk.

Classes: p is the softmax of the logits z, y the label, w that of class y:

    nll = Σ v · w · (−log p_y)        weight = Σ v · w
    ∂L/∂z_k = v · (p_k · (w·∂L/∂nll + a_k − Σ_j a_j p_j − b_y p_y) + [k = y] · (b_y p_y − w·∂L/∂nll))

Regions, which may overlap: p_k is the sigmoid of z_k, bit k of the label says t_k, w_k weighs the region's own pixels:

    nll = Σ v · (w_k · t_k · (−log p_k) + (1 − t_k) · (−log(1 − p_k))), over the regions too        weight = Σ v · K
    ∂L/∂z_k = v · (∂L/∂nll · (p_k · (1 − t_k + w_k t_k) − w_k t_k) + p_k · (1 − p_k) · (a_k + b_k t_k))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORE = 255


@dataclass(frozen=True)
class Sums:
    """The sums of this file's heading: scalars and matrices (B, K), float32 (float64 for float64 logits)."""

    nll: Tensor
    weight: Tensor
    overlap: Tensor
    predicted: Tensor
    truth: Tensor


def sums_of(z_BKN: Tensor, label_BN: Tensor, truth_BK: Tensor, weights_K: Tensor | None, regions: bool) -> Sums:
    """The sums for contiguous logits of float32 or float64, and a label that `count` has checked."""
    one_pass = _RegionSums if regions else _ClassSums
    nll, weight, overlap, predicted = one_pass.apply(z_BKN, label_BN, weights_K)  # type: ignore[no-untyped-call]
    return Sums(nll, weight, overlap, predicted, truth_BK)


def count(label_BN: Tensor, classes: int, regions: bool) -> tuple[Tensor, Tensor]:
    """Pixels of each class (or region) in each image, (B, K), and all pixels that are not ignored, (B,); int64.

    Raises ValueError: more regions than bits, a label that is none of the classes and not `IGNORE`.
    """
    if regions and classes > 7:
        raise ValueError(f"a bit mask of 8 bits holds 7 regions and the unlabelled pixels, not {classes} regions")
    allowed = 1 << classes if regions else classes
    counts = torch.stack([torch.bincount(label_N, minlength=max(allowed, IGNORE + 1)) for label_N in label_BN])
    counts[:, IGNORE] = 0
    beyond = counts[:, allowed:]
    if bool(beyond.any()):
        found = int(beyond.sum(0).nonzero()[0]) + allowed
        kinds = f"the bit masks of {classes} regions are" if regions else f"{classes} classes allow"
        raise ValueError(f"label {found} found; {kinds} 0 … {allowed - 1}, and {IGNORE} for unlabelled")
    labelled_B = counts.sum(1)
    if not regions:
        return counts[:, :classes], labelled_B
    values = torch.arange(counts.shape[1], device=counts.device)
    return torch.stack([(counts * (values >> k & 1)).sum(1) for k in range(classes)], 1), labelled_B


def region_targets(label_BN: Tensor, regions: int) -> Tensor:
    """Whether each pixel lies in each region, (B, K, N) bool; ignored pixels in none."""
    bits_K = (1 << torch.arange(regions, device=label_BN.device, dtype=label_BN.dtype)).reshape(1, regions, 1)
    label_B1N = label_BN[:, None]
    return ((label_B1N & bits_K) != 0) & (label_B1N != IGNORE)


class _ClassSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z_BKN: Tensor, label_BN: Tensor, weights_K: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        valid_BN = label_BN != IGNORE
        index_BN = label_BN.to(torch.int64) * valid_BN
        valid_BN = valid_BN.to(z_BKN.dtype)
        weight_BN = valid_BN if weights_K is None else weights_K.to(valid_BN)[index_BN] * valid_BN

        log_p_BKN = torch.log_softmax(z_BKN, dim=1)
        log_py_B1N = log_p_BKN.gather(1, index_BN[:, None])
        nll = -torch.dot(weight_BN.reshape(-1), log_py_B1N.reshape(-1))
        p_BKN = log_p_BKN.exp_()
        py_BN = log_py_B1N[:, 0].exp_().mul_(valid_BN)
        # float64: scatter_add adds one by one, and float32 stops growing at 2^24 pixels
        overlap_BK = torch.zeros(z_BKN.shape[:2], dtype=torch.float64, device=z_BKN.device)
        overlap_BK.scatter_add_(1, index_BN, py_BN.to(torch.float64))
        # a column with the strides of a row: the other way it is copied, and ten times slower
        predicted_BK = torch.matmul(p_BKN, valid_BN[:, None].transpose(1, 2))[:, :, 0]

        ctx.save_for_backward(p_BKN, py_BN, index_BN, valid_BN, weight_BN)
        weight = weight_BN.sum()
        ctx.mark_non_differentiable(weight)
        return nll, weight, overlap_BK.to(z_BKN.dtype), predicted_BK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_nll: Tensor, _: Tensor, b_BK: Tensor, a_BK: Tensor) -> tuple[Tensor, None, None]:
        p_BKN, py_BN, index_BN, valid_BN, weight_BN = ctx.saved_tensors
        own_BN = b_BK.gather(1, index_BN).mul_(py_BN)  # py is already 0 where ignored
        ce_BN = weight_BN * g_nll
        # what a pixel subtracts from all its classes, and what each class adds
        all_BN = torch.matmul(a_BK[:, None], p_BKN)[:, 0].mul_(valid_BN).add_(own_BN).neg_().add_(ce_BN)
        grad_BKN = torch.addcmul(all_BN[:, None], a_BK[:, :, None], valid_BN[:, None]).mul_(p_BKN)
        grad_BKN.scatter_add_(1, index_BN[:, None], own_BN.sub_(ce_BN)[:, None])
        return grad_BKN, None, None


class _RegionSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z_BKN: Tensor, label_BN: Tensor, weights_K: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        weights_1K1 = None if weights_K is None else weights_K.to(z_BKN).reshape(1, -1, 1)
        valid_B1N = (label_BN != IGNORE)[:, None].to(z_BKN.dtype)
        t_BKN = region_targets(label_BN, z_BKN.shape[1]).to(z_BKN.dtype)
        # −log p = softplus(−z) and −log(1 − p) = softplus(z) = z + softplus(−z): one softplus serves both
        soft_BKN = torch.nn.functional.softplus(-z_BKN)
        own_BKN = t_BKN if weights_1K1 is None else weights_1K1 * t_BKN
        nll = ((own_BKN + 1 - t_BKN) * soft_BKN).add_((1 - t_BKN) * z_BKN).mul_(valid_B1N).sum()
        p_BKN = torch.sigmoid(z_BKN)
        overlap_BK = (p_BKN * t_BKN).sum(2)  # ignored pixels have no target
        predicted_BK = torch.matmul(p_BKN, valid_B1N.transpose(1, 2))[:, :, 0]
        weight = valid_B1N.sum() * z_BKN.shape[1]

        ctx.save_for_backward(p_BKN, label_BN)
        ctx.weights = weights_1K1
        ctx.mark_non_differentiable(weight)
        return nll, weight, overlap_BK, predicted_BK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_nll: Tensor, _: Tensor, b_BK: Tensor, a_BK: Tensor) -> tuple[Tensor, None, None]:
        p_BKN, label_BN = ctx.saved_tensors
        t_BKN = region_targets(label_BN, p_BKN.shape[1]).to(p_BKN.dtype)
        own_BKN = t_BKN if ctx.weights is None else ctx.weights * t_BKN
        grad_BKN = (p_BKN * (1 - t_BKN + own_BKN)).sub_(own_BKN).mul_(g_nll)
        grad_BKN.add_(p_BKN * (1 - p_BKN) * (a_BK[:, :, None] + b_BK[:, :, None] * t_BKN))
        return grad_BKN.mul_((label_BN != IGNORE)[:, None]), None, None
