"""From class scores to labels and probabilities: the one place that knows how.

Classes exclude each other: probabilities are a softmax, and the highest has the pixel. Regions may overlap: each has a
sigmoid of its own and is where that exceeds one half; the label is a bit mask, bit k for region k.
"""

from __future__ import annotations

import torch


def shares(logits_BKX: torch.Tensor, regions: bool) -> torch.Tensor:
    """Probabilities (B, K, *space) of logits."""
    return torch.sigmoid(logits_BKX) if regions else torch.softmax(logits_BKX, 1)


def decide(scores_KX: torch.Tensor, regions: bool, logits: bool, sure: float = 0.0) -> torch.Tensor:
    """The label (*space) uint8 of scores (K, *space), which are logits or probabilities. sure: see `of_objects`."""
    if sure > 0:
        return of_objects(torch.softmax(scores_KX, 0) if logits else scores_KX, sure)
    return present(scores_KX, 0.0 if logits else 0.5) if regions else best_class(scores_KX)


def best_class(scores_KX: torch.Tensor) -> torch.Tensor:
    """The class of the highest score, uint8 (*space); the first of equals. Much faster than argmax over few classes."""
    best, label = scores_KX[0], torch.zeros(scores_KX.shape[1:], dtype=torch.uint8, device=scores_KX.device)
    for k in range(1, scores_KX.shape[0]):
        higher = scores_KX[k] > best
        label.masked_fill_(higher, k)
        best = torch.where(higher, scores_KX[k], best) if k + 1 < scores_KX.shape[0] else best
    return label


def of_objects(shares_KX: torch.Tensor, sure: float) -> torch.Tensor:
    """Of probabilities of background, inside and border: 1 where it is surely inside of an object, 2 elsewhere in an
    object, where inside and border together are more likely than background. Being sure keeps apart what is inside of
    objects that touch; what is lost of them there is border, and belongs to them all the same."""
    background, inside = shares_KX[0], shares_KX[1]
    label = (background < 0.5).to(torch.uint8) * 2
    return label.masked_fill_(inside > max(sure, 0.5), 1)


def present(scores_KX: torch.Tensor, above: float) -> torch.Tensor:
    """Bit k where score k lies above a threshold, uint8 (*space)."""
    label = torch.zeros(scores_KX.shape[1:], dtype=torch.uint8, device=scores_KX.device)
    for k, scores_X in enumerate(scores_KX):
        label += (scores_X > above).to(torch.uint8) << k
    return label
