"""Losses: logits (B, K, *space) and labels (B, *space) in, one number out. Any number of axes; ignored pixels count
nowhere; float32 inside whatever the precision of the logits. Where every pixel is ignored the loss is 0, and so is
its gradient: never NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unetkit.losses.region_sums import region_sums
from unetkit.losses.sums import IGNORE, Sums, soft_sums

# Added above and below the fraction of soft Dice. It only matters for structures of a few pixels: a class that does
# not occur is left out, so the fraction is never 0/0. The value is MONAI's and nnU-Net's.
SMOOTH = 1e-5


def cross_entropy(
    logits_BKX: Tensor, label_BX: Tensor, weights_K: Tensor | None = None, ignore: int = IGNORE
) -> Tensor:
    """Mean of −log softmax(logits)[label] over labelled pixels, each weighted with its class's weight (as torch does).

    logits (B, K, *space) float; label (B, *space) uint8 or int64, `ignore` where unlabelled; weights (K,) ≥ 0.
    Returns a scalar, float32. Raises ValueError for shapes or labels that do not fit.
    """
    return cross_entropy_of(soft_sums(logits_BKX, label_BX, weights_K, ignore))


def dice(logits_BKX: Tensor, label_BX: Tensor, ignore: int = IGNORE) -> Tensor:
    """1 − mean over classes of the soft Dice of the batch, (2 Σ p·t + s) / (Σ p + Σ t + s), s = 1e-5.

    p is the softmax probability, t the truth (0 or 1); the sums run over all labelled pixels of the whole batch
    (Milletari 2016, V-Net, section 3, with the sums unsquared; "batch Dice"). The mean runs over the classes that
    occur in the batch's truth, background included: a class that no pixel has would reward nothing but its absence,
    and cross-entropy takes care of that.

    Shapes, return value and errors as `cross_entropy`.
    """
    return dice_of(soft_sums(logits_BKX, label_BX, None, ignore))


def region_cross_entropy(
    logits_BKX: Tensor, label_BX: Tensor, weights_K: Tensor | None = None, ignore: int = IGNORE
) -> Tensor:
    """Mean over labelled pixels and regions of the binary cross-entropy of sigmoid(logits), as torch's
    BCEWithLogitsLoss; weights (K,) are its `pos_weight`: how much the pixels of each region weigh beside the others.

    logits (B, K, *space) float, K ≤ 7; label (B, *space) bit masks, bit k where region k is, `ignore` where unlabelled.
    Returns a scalar, float32. Raises ValueError for shapes or labels that do not fit.
    """
    return cross_entropy_of(region_sums(logits_BKX, label_BX, weights_K, ignore))


def region_dice(logits_BKX: Tensor, label_BX: Tensor, ignore: int = IGNORE) -> Tensor:
    """As `dice`, for regions that may overlap: p is the sigmoid of each, the mean runs over the regions that occur.

    Shapes, return value and errors as `region_cross_entropy`.
    """
    return dice_of(region_sums(logits_BKX, label_BX, None, ignore))


def cross_entropy_of(sums: Sums) -> Tensor:
    """Cross-entropy from the sums of a batch."""
    # weight is 0 only where nll is 0 too
    return sums.nll / torch.where(sums.weight > 0, sums.weight, 1.0)


def dice_of(sums: Sums) -> Tensor:
    """Soft Dice loss from the sums of a batch."""
    dice_K = (2 * sums.overlap + SMOOTH) / (sums.predicted + sums.truth + SMOOTH)
    occurs_K = sums.truth > 0
    return torch.where(occurs_K, 1 - dice_K, 0.0).sum() / occurs_K.sum().clamp(min=1)
