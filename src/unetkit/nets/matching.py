"""Which tensor of a checkpoint is which tensor of a network: by name, else by order and shape; and filling it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import torch
from torch import Tensor

from unetkit.nets.alignment import (
    How,
    Ours,
    Pattern,
    Shape,
    Size,
    Theirs,
    align,
    is_matrix,
    leaves,
    numbers,
    running_orders,
)
from unetkit.nets.build import UNet, build
from unetkit.nets.checkpoint import COUNTER, Checkpoint, plain_names
from unetkit.nets.spec import NetSpec


@dataclass(frozen=True)
class Match:
    """A tensor of the network and the one of the checkpoint that fills it.

    how: "name"; "order" (its place in the order of equal shapes); "shape" (elsewhere in the order, but nothing else has
    that shape); "guess" (by order, but there are more or fewer tensors of that shape on the other side).
    """

    ours: str
    theirs: str
    how: How


@dataclass(frozen=True)
class Matching:
    """What fills what; ours that found nothing; theirs that found no place; theirs that are others under a second name;
    and biases that the norm behind their convolution takes: into its mean, or (instance norm) removes again."""

    matches: tuple[Match, ...]
    missing: tuple[str, ...]
    left: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    absorbed: Mapping[str, str] = field(default_factory=dict)
    """Bias of theirs → our norm."""


def patterns(spec: NetSpec, channels: int | None = None, classes: int | None = None) -> dict[str, Pattern]:
    """The shapes of a network's tensors in the order of its state; None leaves channels or classes open, unless they
    are fixed by the spec itself (a vocabulary, named heads).

    Counters of batch norms are left out. Raises SpecError: impossible numbers.
    """
    open_channels, open_classes = channels is None and not spec.vocabulary, classes is None and not spec.heads
    # an input as wide as the first level would need no projection there: such a number shows another network
    probe = next(n for n in count(1) if not {n, n + 1} & set(spec.channels)) if open_channels else 1
    c, k = channels or probe, classes or (spec.classes if spec.heads else 2)

    def shapes(channels: int, classes: int) -> dict[str, Shape]:
        state = build(spec.replace({"in_channels": channels, "classes": classes})).state_dict()
        return {name: tuple(value.shape) for name, value in state.items() if not name.endswith(COUNTER)}

    here = shapes(c, k)
    wider = shapes(c + 1, k) if open_channels else here
    richer = shapes(c, k + 1) if open_classes else here
    return {
        name: tuple(
            Size(n - (w - n) * c - (r - n) * k, w - n, r - n)
            for n, w, r in zip(shape, wider[name], richer[name], strict=True)
        )
        for name, shape in here.items()
    }


def infer(ours: Mapping[str, Pattern], theirs: Checkpoint) -> tuple[int | None, int | None]:
    """Channels and classes of the network that a checkpoint is of, as its first and its last open tensors say."""
    channels: list[int] = []
    classes: list[int] = []
    for found in match(ours, theirs).matches:
        told = numbers(ours[found.ours], tuple(theirs.tensors[found.theirs].shape))
        channels += told[0] if told else ()
        classes += told[1] if told else ()
    return (channels[0] if channels else None), (classes[-1] if classes else None)


def match(ours: Mapping[str, Pattern], theirs: Checkpoint) -> Matching:
    """By name where at least half of either side has its name and shape on the other, the rest by order and shape."""
    plain = plain_names(theirs.tensors)
    shapes = {
        name: tuple(value.shape)
        for name, value in theirs.tensors.items()
        if value.is_floating_point() and not name.endswith(COUNTER)
    }
    named = {plain[name]: name for name in shapes}
    found = [
        Match(name, named[name], "name")
        for name, pattern in ours.items()
        if name in named and numbers(pattern, shapes[named[name]]) is not None
    ]
    if 2 * len(found) < min(len(ours), len(shapes)):
        found = []  # a few names that happen to be the same mean nothing
    done, taken = {m.ours for m in found}, {m.theirs for m in found}
    aliases = _aliases(theirs.tensors, shapes)
    mine = [
        Ours(module, {_leaf(name): ours[name] for name in names})
        for module, names in _modules(name for name in ours if name not in done).items()
    ]
    others = {
        module: Theirs(module, {_leaf(name): shapes[name] for name in names})
        for module, names in _modules(n for n in shapes if n not in taken and n not in aliases).items()
    }
    orders = [list(others)] if theirs.ordered else running_orders(list(others))
    tries = [_tensors(mine, [others[name] for name in order], theirs.ordered) for order in orders]
    found += max(tries, key=lambda matches: sum(m.how == "order" for m in matches))  # the first of equals
    position = {name: i for i, name in enumerate(ours)}
    done, taken = {m.ours for m in found}, {m.theirs for m in found}
    unused = (name for name in theirs.tensors if name not in taken and not name.endswith(COUNTER))
    return Matching(
        matches=tuple(sorted(found, key=lambda m: position[m.ours])),
        missing=tuple(name for name in ours if name not in done),
        left=tuple(name for name in unused if name not in aliases),
        aliases=tuple(name for name in aliases if name not in taken),
    )


def with_absorbed(net: UNet, matching: Matching) -> Matching:
    """The matching in which biases without a place of their own are given to the norms behind their convolutions.

    A batch norm takes the bias out of its running mean, an instance norm removes it anyway: the same function.
    """
    norms = {layer.inputs[0]: layer for layer in net.program.layers if layer.kind in ("batch_norm", "instance_norm")}
    of = {_module(m.theirs): _module(m.ours) for m in matching.matches if m.ours.endswith(".weight")}
    absorbed = {
        name: norms[of[_module(name)]].name
        for name in matching.left
        if name.endswith(".bias") and of.get(_module(name)) in norms
    }
    left = tuple(name for name in matching.left if name not in absorbed)
    return Matching(matching.matches, matching.missing, left, matching.aliases, absorbed)


@torch.no_grad()
def fill(net: UNet, matching: Matching, theirs: Checkpoint) -> None:
    """Copy what matched into the network, in its own precision; the rest stays as drawn.

    A head of one output, which is the logit of the foreground against 0, becomes that of two classes: the background's
    weights are zeros, and the softmax over both is the sigmoid of the one.
    """
    state = net.state_dict()
    for found in matching.matches:
        target, value = state[found.ours], theirs.tensors[found.theirs].to(state[found.ours].dtype)
        for axis, (n, has) in enumerate(zip(target.shape, value.shape, strict=True)):
            if n == 2 * has:
                value = torch.cat([torch.zeros_like(value), value], axis)
        target.copy_(value)
    for bias, norm in matching.absorbed.items():
        if f"{norm}.running_mean" in state:
            state[f"{norm}.running_mean"].sub_(theirs.tensors[bias].to(state[f"{norm}.running_mean"].dtype))


def _tensors(ours: Sequence[Ours], theirs: Sequence[Theirs], ordered: bool) -> list[Match]:
    """Matches of the tensors of the modules that match: convolutions among themselves, then norms, since how the two
    alternate differs from file to file."""
    return [
        Match(_join(a.name, mine), _join(b.name, other), how)
        for matrices in (True, False)
        for a, b, how in align(
            [module for module in ours if is_matrix(module.tensors.values()) == matrices],
            [module for module in theirs if is_matrix(module.tensors.values()) == matrices],
            ordered,
        )
        for mine, other in leaves(a.tensors, b.tensors)
        if numbers(a.tensors[mine], b.tensors[other]) is not None
    ]


def _modules(names: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_module(name), []).append(name)
    return groups


def _aliases(tensors: Mapping[str, Tensor], names: Iterable[str]) -> frozenset[str]:
    """Tensors of modules that come a second time under another name: the same memory, or the same numbers (of which
    constant ones, as norms have before training, say nothing)."""
    seen: set[tuple[tuple[str, object], ...]] = set()
    second: set[str] = set()
    for module in _modules(names).values():
        memory = tuple((_leaf(name), _place(tensors[name])) for name in module)
        content = tuple((_leaf(name), (tuple(tensors[name].shape), _digest(tensors[name]))) for name in module)
        constant = all(bool((tensors[name] == tensors[name].flatten()[0]).all()) for name in module)
        if memory in seen or (content in seen and not constant):
            second.update(module)
        seen |= {memory, content}
    return frozenset(second)


def _place(value: Tensor) -> tuple[int, ...]:
    return (value.untyped_storage().data_ptr(), value.storage_offset(), *value.shape, *value.stride())


def _digest(value: Tensor) -> int:
    return hash(value.contiguous().view(torch.uint8).numpy().tobytes()) if value.numel() else 0


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _join(module: str, leaf: str) -> str:
    return f"{module}.{leaf}" if module else leaf
