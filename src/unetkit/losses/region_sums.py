"""The sums of `sums.py` for regions, which may overlap: one sigmoid each, the label a bit mask.

With p_k = sigmoid(z_k) of the logit z_k, t_k = 1 where bit k of the label is set (else 0), v = 1 where the pixel is not
ignored (else 0) and w_k the weight of the region's own pixels (1 unless given):

    nll         Σ v · (w_k · t_k · (−log p_k) + (1 − t_k) · (−log(1 − p_k)))   a number, summed over the regions too
    weight      Σ v · K                 a number: how many yes-or-no questions were asked
    overlap_k   Σ v · p_k · t_k
    predicted_k Σ v · p_k
    truth_k     Σ v · t_k

With a_k = ∂L/∂predicted_k and b_k = ∂L/∂overlap_k the backward pass, written out by hand as in `sums.py`, is

    ∂L/∂z_k = v · (∂L/∂nll · (p_k · (1 − t_k + w_k t_k) − w_k t_k) + p_k · (1 − p_k) · (a_k + b_k t_k)).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unetkit.losses.sums import IGNORE, Sums, check_shapes


def region_sums(logits_BKX: Tensor, label_BX: Tensor, weights_K: Tensor | None = None, ignore: int = IGNORE) -> Sums:
    """The sums for logits (B, K, *space) of any float type and labels (B, *space), uint8 or int64 bit masks of K ≤ 7
    regions, or `ignore`.

    Raises ValueError: shapes that do not belong together, more than 7 regions, a label with a bit beyond the last.
    """
    regions = check_shapes(logits_BKX, label_BX, weights_K)
    if regions > 7:
        raise ValueError(f"a bit mask of 8 bits holds 7 regions and the unlabelled pixels, not {regions} regions")
    counts = torch.bincount(label_BX.reshape(-1), minlength=max(1 << regions, ignore + 1))
    counts[ignore] = 0
    if bool(counts[1 << regions :].any()):
        found = int(counts[1 << regions :].nonzero()[0]) + (1 << regions)
        raise ValueError(
            f"label {found} found; the bit masks of {regions} regions are 0 … {(1 << regions) - 1}, and {ignore} for "
            "unlabelled"
        )
    values = torch.arange(len(counts), device=counts.device)
    truth = torch.stack([(counts * (values >> k & 1)).sum() for k in range(regions)])
    nll, weight, overlap, predicted = _RegionSums.apply(logits_BKX, label_BX, weights_K, ignore)  # type: ignore[no-untyped-call]
    return Sums(nll, weight, overlap, predicted, truth.to(overlap.dtype))


class _RegionSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits_BKX: Tensor, label_BX: Tensor, weights_K: Tensor | None, ignore: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dtype = torch.promote_types(logits_BKX.dtype, torch.float32)  # bf16 sums of a million pixels would be noise
        batch, regions = logits_BKX.shape[:2]
        z_BKN = logits_BKX.to(dtype, memory_format=torch.contiguous_format).reshape(batch, regions, -1)
        label_B1N = label_BX.reshape(batch, 1, -1)
        weights_1K1 = None if weights_K is None else weights_K.to(z_BKN).reshape(1, regions, 1)

        valid_B1N = (label_B1N != ignore).to(dtype)
        t_BKN = _targets(label_B1N, regions, ignore).to(dtype)
        # −log p = softplus(−z) and −log(1 − p) = softplus(z) = z + softplus(−z): one softplus serves both
        soft_BKN = torch.nn.functional.softplus(-z_BKN)
        own_BKN = t_BKN if weights_1K1 is None else weights_1K1 * t_BKN
        nll = ((own_BKN + 1 - t_BKN) * soft_BKN).add_((1 - t_BKN) * z_BKN).mul_(valid_B1N).sum()
        p_BKN = torch.sigmoid(z_BKN)
        overlap = (p_BKN * t_BKN).sum(2).sum(0)  # ignored pixels have no target
        predicted = torch.matmul(p_BKN, valid_B1N.transpose(1, 2)).sum((0, 2))
        weight = valid_B1N.sum() * regions

        ctx.save_for_backward(p_BKN, label_B1N)
        ctx.weights, ctx.ignore = weights_1K1, ignore
        ctx.shape, ctx.dtype = logits_BKX.shape, logits_BKX.dtype
        ctx.mark_non_differentiable(weight)
        return nll, weight, overlap, predicted

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_nll: Tensor, _: Tensor, b_K: Tensor, a_K: Tensor) -> tuple[Tensor, None, None, None]:
        p_BKN, label_B1N = ctx.saved_tensors
        t_BKN = _targets(label_B1N, p_BKN.shape[1], ctx.ignore).to(p_BKN.dtype)
        own_BKN = t_BKN if ctx.weights is None else ctx.weights * t_BKN
        grad_BKN = (p_BKN * (1 - t_BKN + own_BKN)).sub_(own_BKN).mul_(g_nll)
        grad_BKN.add_(p_BKN * (1 - p_BKN) * (a_K[:, None] + b_K[:, None] * t_BKN))
        grad_BKN.mul_(label_B1N != ctx.ignore)
        return grad_BKN.reshape(ctx.shape).to(ctx.dtype), None, None, None


def _targets(label_B1N: Tensor, regions: int, ignore: int) -> Tensor:
    """Whether each pixel lies in each region, (B, K, N) bool; ignored pixels in none."""
    bits_K = (1 << torch.arange(regions, device=label_B1N.device, dtype=label_B1N.dtype)).reshape(1, regions, 1)
    return ((label_B1N & bits_K) != 0) & (label_B1N != ignore)
