"""One pass over the logits gives the few sums from which cross-entropy, Dice and their kin are computed.

With p = softmax(logits) over classes, y the label, v = 1 where y is not ignored (else 0) and w = v × weight of class y:

    nll         Σ w · (−log p_y)        a number
    weight      Σ w                     a number, no gradient
    overlap   Σ v · p_y · [y = k]     soft true positives
    predicted Σ v · p_k               soft size of the prediction
    truth     Σ v · [y = k]           size of the truth, no gradient

The sums run over the whole batch. The backward pass is written out by hand: one pass, no one-hot label, and the
probabilities are the only large tensor that is kept. With a_k = ∂L/∂predicted_k and b_k = ∂L/∂overlap_k,

    ∂L/∂logit_k = p_k · (w·∂L/∂nll + v·(a_k − Σ_j a_j p_j − b_y p_y)) + [k = y] · (v·b_y p_y − w·∂L/∂nll).
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
    """The sums of this file's heading: scalars and vectors of length K, float32 (float64 for float64 logits)."""

    nll: Tensor
    weight: Tensor
    overlap: Tensor
    predicted: Tensor
    truth: Tensor


def soft_sums(logits_BKX: Tensor, label_BX: Tensor, weights_K: Tensor | None = None, ignore: int = IGNORE) -> Sums:
    """The sums for logits (B, K, *space) of any float type and labels (B, *space) of uint8 or int64.

    Labels are 0 … K−1, or `ignore`. Raises ValueError: shapes that do not belong together, a label outside that range.
    """
    classes = check_shapes(logits_BKX, label_BX, weights_K)
    counts = torch.bincount(label_BX.reshape(-1), minlength=max(classes, ignore + 1))
    counts[ignore] = 0
    if bool(counts[classes:].any()):
        found = int(counts[classes:].nonzero()[0]) + classes
        raise ValueError(f"label {found} found; {classes} classes allow 0 … {classes - 1}, and {ignore} for unlabelled")
    nll, weight, overlap, predicted = _SoftSums.apply(logits_BKX, label_BX, weights_K, ignore)  # type: ignore[no-untyped-call]
    return Sums(nll, weight, overlap, predicted, counts[:classes].to(overlap.dtype))


def check_shapes(logits_BKX: Tensor, label_BX: Tensor, weights_K: Tensor | None) -> int:
    """The number of classes. Raises ValueError where label or weights do not belong to the logits."""
    if logits_BKX.ndim < 2 or label_BX.shape != (logits_BKX.shape[0], *logits_BKX.shape[2:]):
        raise ValueError(
            f"logits {tuple(logits_BKX.shape)} need a label of shape (B, *space), not {tuple(label_BX.shape)}"
        )
    classes = logits_BKX.shape[1]
    if weights_K is not None and weights_K.shape != (classes,):
        raise ValueError(f"{classes} classes need {classes} weights, not {tuple(weights_K.shape)}")
    return classes


class _SoftSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits_BKX: Tensor, label_BX: Tensor, weights_K: Tensor | None, ignore: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dtype = torch.promote_types(logits_BKX.dtype, torch.float32)  # bf16 sums of a million pixels would be noise
        batch, classes = logits_BKX.shape[:2]
        # classes apart, pixels side by side: softmax over two or three interleaved values would be slow
        logits_BKN = logits_BKX.to(dtype, memory_format=torch.contiguous_format).reshape(batch, classes, -1)
        label_B1N = label_BX.reshape(batch, 1, -1)
        valid_B1N = label_B1N != ignore
        index_B1N = label_B1N.to(torch.int64) * valid_B1N
        valid_B1N = valid_B1N.to(dtype)
        weight_B1N = valid_B1N if weights_K is None else weights_K.to(valid_B1N)[index_B1N] * valid_B1N

        log_p_BKN = torch.log_softmax(logits_BKN, dim=1)
        log_py_B1N = log_p_BKN.gather(1, index_B1N)
        nll = -torch.dot(weight_B1N.reshape(-1), log_py_B1N.reshape(-1))
        p_BKN = log_p_BKN.exp_()
        py_B1N = log_py_B1N.exp_().mul_(valid_B1N)
        # float64: index_add adds one by one, and float32 stops growing at 2^24 pixels
        overlap = torch.zeros(classes, dtype=torch.float64, device=logits_BKX.device)
        overlap.index_add_(0, index_B1N.reshape(-1), py_B1N.reshape(-1).to(torch.float64))
        predicted = torch.matmul(p_BKN, valid_B1N.transpose(1, 2)).sum((0, 2))

        ctx.save_for_backward(p_BKN, py_B1N, index_B1N, valid_B1N, weight_B1N)
        ctx.shape, ctx.dtype = logits_BKX.shape, logits_BKX.dtype
        weight = weight_B1N.sum()
        ctx.mark_non_differentiable(weight)
        return nll, weight, overlap.to(dtype), predicted

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_nll: Tensor, _: Tensor, b_K: Tensor, a_K: Tensor) -> tuple[Tensor, None, None, None]:
        p_BKN, py_B1N, index_B1N, valid_B1N, weight_B1N = ctx.saved_tensors
        own_B1N = b_K[index_B1N].mul_(py_B1N)  # py is already 0 where ignored
        ce_B1N = weight_B1N * g_nll
        # what a pixel subtracts from all its classes, and what each class adds
        all_B1N = torch.matmul(a_K, p_BKN)[:, None].mul_(valid_B1N).add_(own_B1N).neg_().add_(ce_B1N)
        grad_BKN = torch.addcmul(all_B1N, a_K[:, None], valid_B1N).mul_(p_BKN)
        grad_BKN.scatter_add_(1, index_B1N, own_B1N.sub_(ce_B1N))
        return grad_BKN.reshape(ctx.shape).to(ctx.dtype), None, None, None
