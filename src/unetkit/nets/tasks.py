"""What logits mean: the heads of a network, one task each."""

from __future__ import annotations

import torch
from torch import Tensor

from unetkit.nets.spec import Head, NetSpec

# The name of the only head of a network whose spec names none.
CLASSES = "classes"


def heads(spec: NetSpec) -> tuple[Head, ...]:
    """The heads, in the order of their channels; where the spec names none, one of softmax classes."""
    return spec.heads or (Head(name=CLASSES, channels=spec.classes),)


def split(logits_BKX: Tensor, spec: NetSpec) -> dict[str, Tensor]:
    """The logits (B, classes, *X) of every head, by name: views of (B, channels of the head, *X)."""
    each = heads(spec)
    parts = torch.split(logits_BKX, [head.channels for head in each], dim=1)
    return {head.name: part for head, part in zip(each, parts, strict=True)}


def probabilities(logits_BKX: Tensor, spec: NetSpec) -> dict[str, Tensor]:
    """What every head says: probabilities of classes (they sum to one) or of regions (each for itself), or values.

    float32 whatever the precision of the logits.
    """
    kinds = {head.name: head.kind for head in heads(spec)}
    found = {}
    for name, part_BKX in split(logits_BKX.float(), spec).items():
        if kinds[name] == "classes":
            part_BKX = torch.softmax(part_BKX, dim=1)
        elif kinds[name] == "regions":
            part_BKX = torch.sigmoid(part_BKX)
        found[name] = part_BKX
    return found
