"""Fine-tuning: the weights of one network as the beginning of another, whose channels and classes may be others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unetkit.nets.alignment import Pattern
from unetkit.nets.build import UNet
from unetkit.nets.checkpoint import COUNTER
from unetkit.nets.matching import patterns


@dataclass(frozen=True)
class Transfer:
    """What a network begins with.

    state   what was taken, by the network's names; the rest stays as drawn
    spread  input layers whose channels became others: every new channel has an equal share of all old ones
    rows    heads that were filled class by class, and the classes that they know
    drawn   tensors that found nothing, or nothing of their shape
    """

    state: dict[str, Tensor]
    spread: tuple[str, ...]
    rows: Mapping[str, tuple[str, ...]]
    drawn: tuple[str, ...]


@torch.no_grad()
def transfer(net: UNet, classes: Sequence[str], old: Mapping[str, Tensor], old_classes: Sequence[str]) -> Transfer:
    """What of the tensors `old`, of a network for `old_classes`, fits into `net`, which is for `classes`; by name.

    Heads are filled class by class where both sides name their classes, whole where one does not ("class0" …) and
    their number is the same. An input layer with another number of channels gets the mean of the old ones, scaled so
    that an image whose channels are alike gives the same result as before. `net` itself is not changed.
    """
    state = net.state_dict()
    wanted = patterns(net.spec)
    taken: dict[str, Tensor] = {}
    spread: list[str] = []
    rows: dict[str, tuple[str, ...]] = {}
    known = _known(classes, old_classes)
    for name, own in state.items():
        value = old.get(name)
        if value is None or value.ndim != own.ndim or name.endswith(COUNTER):
            continue
        pattern = wanted.get(name, ())  # nothing: a projection that only these channels need
        channel, of_class = _axis(pattern, "per_channel"), _axis(pattern, "per_class")
        differ = [axis for axis in range(own.ndim) if own.shape[axis] != value.shape[axis]]
        if channel is not None and differ == [channel] and pattern[channel].per_channel == 1:
            taken[name] = (value.sum(channel, keepdim=True) / own.shape[channel]).expand_as(own).contiguous()
            spread.append(name)
        elif of_class is not None and known is not None:
            if set(differ) <= {of_class} and any(before is not None for before in known):
                taken[name] = _by_class(own, value, of_class, pattern[of_class].per_class, known)
                rows[name] = tuple(classes[k] for k, before in enumerate(known) if before is not None)
        elif not differ and (of_class is None or len(classes) == len(old_classes)):
            taken[name] = value
    return Transfer(
        state=taken,
        spread=tuple(spread),
        rows=rows,
        drawn=tuple(name for name in state if name not in taken and not name.endswith(COUNTER)),
    )


def _known(classes: Sequence[str], old_classes: Sequence[str]) -> list[int | None] | None:
    """For each class its index among the old ones; None where heads are taken whole, or not at all."""
    if _unnamed(classes) or _unnamed(old_classes) or tuple(classes) == tuple(old_classes):
        return None
    return [old_classes.index(name) if name in old_classes else None for name in classes]


def _unnamed(classes: Sequence[str]) -> bool:
    return all(re.fullmatch(r"class\d+", name) for name in classes)


def _axis(pattern: Pattern, what: str) -> int | None:
    """The axis whose length is a multiple of the channels or the classes, and nothing else."""
    axes = [axis for axis, size in enumerate(pattern) if getattr(size, what)]
    return axes[0] if len(axes) == 1 and pattern[axes[0]].fixed == 0 else None


def _by_class(own: Tensor, value: Tensor, axis: int, per_class: int, known: Sequence[int | None]) -> Tensor:
    """`own` with the parts of the classes that are known taken from `value`."""
    result = own.clone()
    for k, before in enumerate(known):
        if before is not None:
            part = value.narrow(axis, before * per_class, per_class)
            result.narrow(axis, k * per_class, per_class).copy_(part)
    return result
