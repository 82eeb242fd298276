"""From class scores to labels and probabilities: the one place that knows how.

Classes exclude each other: probabilities are a softmax, and the highest has the pixel. Regions may overlap: each has a
sigmoid of its own and is where that exceeds one half; the label is a bit mask, bit k for region k. Of objects that were
learnt with help classes (their border, or levels of depth) the label says how deep in an object a pixel is expected to
lie (`unetkit.data.labels.depths`), from which post-processing tells them apart.

All of it is pointwise: what is decided in tiles is what is decided on the whole image.
"""

from __future__ import annotations

import math
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator

from unetkit.core.config import Config
from unetkit.data.labels.depths import DEEPEST

Share = Annotated[float, Field(ge=0, lt=1)]


class Rule(Config):
    """How labels are decided; the defaults are arg-max, and one half for regions that may overlap."""

    bias: tuple[float, ...] = ()
    """Added to the log-probability of each class before the largest is taken; empty: nothing."""
    thresholds: tuple[Share, ...] = ()
    """Of regions that may overlap: the probability above which each is there; empty: one half."""
    depths: tuple[float, ...] = ()
    """Of objects that touch: how deep in an object each class is, 0 to 1 (the background first, and 0): labels are
    expected depths. Empty: labels are classes."""
    ground: Share = 0.5
    """Of expected depths: the probability of all classes but the first above which a pixel belongs to an object."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (bool(self.bias) + bool(self.thresholds) + bool(self.depths)) > 1:
            raise ValueError("bias (of classes), thresholds (of regions) and depths (of objects) exclude each other")
        return self


ARGMAX = Rule()


def shares(logits_BKX: torch.Tensor, regions: bool) -> torch.Tensor:
    """Probabilities (B, K, *space) of logits."""
    return torch.sigmoid(logits_BKX) if regions else torch.softmax(logits_BKX, 1)


def decide(scores_KX: torch.Tensor, regions: bool, logits: bool, rule: Rule = ARGMAX) -> torch.Tensor:
    """The label (*space) uint8 of scores (K, *space), which are logits or probabilities.

    Raises ValueError: a rule for another number of classes, or for classes where there are `regions`.
    """
    given = len(rule.bias) + len(rule.thresholds) + len(rule.depths)
    if given not in (0, len(scores_KX)) or (regions and given != len(rule.thresholds)):
        what = "regions" if regions else "classes"
        raise ValueError(f"what is decided by is for {given} classes, and the network has {len(scores_KX)} {what}")
    if rule.depths:
        return expected_depth(torch.softmax(scores_KX, 0) if logits else scores_KX, rule.depths, rule.ground)
    if regions:
        above = list(rule.thresholds or [0.5] * len(scores_KX))
        return present(scores_KX, [_logit(t) for t in above] if logits else above)
    if rule.bias:
        bias = scores_KX.new_tensor(rule.bias).reshape(-1, *(1,) * (scores_KX.ndim - 1))
        scores_KX = scores_KX + bias if logits else scores_KX * bias.exp()
    return best_class(scores_KX)


def best_class(scores_KX: torch.Tensor) -> torch.Tensor:
    """The class of the highest score, uint8 (*space); the first of equals. Much faster than argmax over few classes."""
    best, label = scores_KX[0], torch.zeros(scores_KX.shape[1:], dtype=torch.uint8, device=scores_KX.device)
    for k in range(1, scores_KX.shape[0]):
        higher = scores_KX[k] > best
        label.masked_fill_(higher, k)
        best = torch.where(higher, scores_KX[k], best) if k + 1 < scores_KX.shape[0] else best
    return label


def expected_depth(shares_KX: torch.Tensor, depths: tuple[float, ...], ground: float) -> torch.Tensor:
    """Of probabilities (K, *space): the depth in an object that is expected of each pixel, as a label (*space) uint8:
    0 where it belongs to an object with a probability of no more than `ground`, else K (at its edge) to `DEEPEST`.
    """
    steps = DEEPEST - len(depths)
    depth_X = torch.zeros_like(shares_KX[0])
    for share_X, depth in zip(shares_KX, depths, strict=True):
        if depth > 0:
            depth_X.add_(share_X, alpha=depth)
    label = depth_X.mul_(steps).round_().clamp_(0, steps).add_(len(depths)).to(torch.uint8)
    return label.masked_fill_(shares_KX[0] >= 1 - ground, 0)


def present(scores_KX: torch.Tensor, above: list[float]) -> torch.Tensor:
    """Bit k where score k lies above its threshold, uint8 (*space)."""
    label = torch.zeros(scores_KX.shape[1:], dtype=torch.uint8, device=scores_KX.device)
    for k, (scores_X, threshold) in enumerate(zip(scores_KX, above, strict=True)):
        label += (scores_X > threshold).to(torch.uint8) << k
    return label


def _logit(share: float) -> float:
    return math.log(share / (1 - share)) if share > 0 else -math.inf
