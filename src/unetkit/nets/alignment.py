"""Two lists of modules that mean the same network, each with names of its own: which is which, by shapes and order.

Shapes are compared through `Pattern`s, in which the sizes that follow from the number of channels or classes may stay
open; so the same comparison also tells how many there are. Does not import torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Shape = tuple[int, ...]
How = Literal["name", "order", "shape", "guess"]


@dataclass(frozen=True)
class Size:
    """One size of a tensor: fixed + per_channel · channels + per_class · classes."""

    fixed: int
    per_channel: int = 0
    per_class: int = 0


Pattern = tuple[Size, ...]


@dataclass(frozen=True)
class Ours:
    """A module of the network: the patterns of its tensors by the last part of their names."""

    name: str
    tensors: Mapping[str, Pattern]


@dataclass(frozen=True)
class Theirs:
    """A module of a checkpoint: the shapes of its tensors by the last part of their names."""

    name: str
    tensors: Mapping[str, Shape]


def numbers(pattern: Pattern, shape: Shape) -> tuple[set[int], set[int]] | None:
    """The channels and the classes that would give a tensor this shape (empty: any); None where none would."""
    channels: set[int] = set()
    classes: set[int] = set()
    if len(pattern) != len(shape):
        return None
    for size, n in zip(pattern, shape, strict=True):
        rest, per = n - size.fixed, size.per_channel or size.per_class
        if per == 0:
            if rest != 0:
                return None
        elif (size.per_channel and size.per_class) or rest < per or rest % per:
            return None
        else:
            (channels if size.per_channel else classes).add(rest // per)
    return (channels, classes) if len(channels) <= 1 and len(classes) <= 1 else None


def fits(ours: Ours, theirs: Theirs) -> bool:
    """Whether one can be the other: matrices (convolutions) by their shapes, since a bias may be absent; vectors
    (norms, activations) by names and lengths, since their lengths alone say little."""
    mine = {leaf: p for leaf, p in ours.tensors.items() if len(p) >= 2}
    other = {leaf: s for leaf, s in theirs.tensors.items() if len(s) >= 2}
    if not mine and not other:
        return ours.tensors.keys() == theirs.tensors.keys() and all(
            numbers(p, theirs.tensors[leaf]) is not None for leaf, p in ours.tensors.items()
        )
    return len(mine) == len(other) and all(numbers(mine[a], other[b]) is not None for a, b in leaves(mine, other))


def _kind(module: Ours) -> object:
    """What `fits` looks at."""
    return [p for p in module.tensors.values() if len(p) >= 2] or module.tensors


def leaves(mine: Mapping[str, object], other: Mapping[str, object]) -> list[tuple[str, str]]:
    """Names of two modules' tensors in pairs: the same names, then the others in their order."""
    same = [name for name in mine if name in other]
    rest = zip([n for n in mine if n not in other], [n for n in other if n not in mine], strict=False)
    return [*((name, name) for name in same), *rest]


def is_matrix(shapes: Iterable[Shape | Pattern]) -> bool:
    """Whether a module has tensors of two axes or more."""
    return any(len(shape) >= 2 for shape in shapes)


def align(ours: Sequence[Ours], theirs: Sequence[Theirs], ordered: bool) -> list[tuple[Ours, Theirs, How]]:
    """Pairs of modules, each used once: the longest common subsequence; then, anywhere in the order, those shapes of
    which both sides have equally many left.

    A pair is a "guess" where the two sides have its shape in different numbers, or (unless their order is known to be
    `ordered` as the network was made) where the second way pairs several of one shape.
    """

    def alike(a: Ours, mine: Sequence[Ours], others: Sequence[Theirs]) -> tuple[int, int]:
        return sum(_kind(m) == _kind(a) for m in mine), sum(fits(a, b) for b in others)

    def sure(a: Ours, mine: Sequence[Ours], others: Sequence[Theirs]) -> bool:
        n, m = alike(a, mine, others)
        return n == m

    pairs: list[tuple[Ours, Theirs, How]] = [
        (a, b, "order" if sure(a, ours, theirs) else "guess") for a, b in _common(ours, theirs)
    ]
    while True:
        used_a, used_b = {a.name for a, _, _ in pairs}, {b.name for _, b, _ in pairs}
        rest_a, rest_b = [a for a in ours if a.name not in used_a], [b for b in theirs if b.name not in used_b]
        more = [(a, b) for a, b in _common(rest_a, rest_b) if sure(a, rest_a, rest_b)]
        if not more:
            return pairs
        pairs += [(a, b, "shape" if ordered or alike(a, rest_a, rest_b)[0] == 1 else "guess") for a, b in more]


def _common(ours: Sequence[Ours], theirs: Sequence[Theirs]) -> list[tuple[Ours, Theirs]]:
    """The longest common subsequence; of equally long ones that where names most often speak of the same part of the
    network (encoder, decoder …) and modules have the same tensors (a bias, or none); and of those the latest."""
    roles_a, roles_b = [_role(a.name) for a in ours], [_role(b.name) for b in theirs]
    one = 3 * (len(ours) + len(theirs)) + 1  # a pair counts more than all that agrees besides
    worth = [
        [
            one + 2 * (roles_a[i] == roles_b[j]) + (a.tensors.keys() == b.tensors.keys()) if fits(a, b) else 0
            for j, b in enumerate(theirs)
        ]
        for i, a in enumerate(ours)
    ]
    best = [[0] * (len(theirs) + 1) for _ in range(len(ours) + 1)]
    for i, row in enumerate(worth):
        above, here = best[i], best[i + 1]
        for j, value in enumerate(row):
            here[j + 1] = max(above[j + 1], here[j], above[j] + value if value else 0)
    pairs: list[tuple[Ours, Theirs]] = []
    i, j = len(ours), len(theirs)
    while i and j:
        value = worth[i - 1][j - 1]
        if value and best[i][j] == best[i - 1][j - 1] + value:
            i, j = i - 1, j - 1
            pairs.append((ours[i], theirs[j]))
        elif best[i][j] == best[i - 1][j]:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def running_orders(names: Sequence[str]) -> list[list[str]]:
    """Orders in which modules whose own order is lost may run: by the part of the network that their names speak of,
    then by the numbers in them; the decoder's first number ascending, or descending."""

    def key(name: str, sign: int) -> tuple[int, list[tuple[int, int, str]]]:
        role, turned = _role(name), False
        parts: list[tuple[int, int, str]] = []
        for word in re.findall(r"\d+|[a-zA-Z]+", name):
            if not word.isdigit():
                parts.append((1, word.lower() not in _RAISES, word.lower()))
                continue
            parts.append((0, int(word) * (sign if role == _DECODER and not turned else 1), ""))
            turned = True
        return role, parts

    return [sorted(names, key=lambda name: key(name, sign)) for sign in (1, -1)]


_DECODER = 3
_RAISES = frozenset(("up", "upsample", "upsampling", "upconv", "deconv", "transp", "transpconv", "transpconvs"))
"""What runs before the convolutions of its level."""
_ROLES = (
    ("stem", "inc", "input", "init", "initial", "first", "in"),
    ("encoder", "encoders", "enc", "down", "downs", "downsample", "contract", "contracting", "backbone"),
    ("bottleneck", "bridge", "middle", "mid", "bottom", "center", "centre", "bottleneck"),
    ("decoder", "decoders", "dec", "up", "ups", "upcat", "upsample", "expand", "expanding", "skip", "gate"),
    ("head", "heads", "out", "outc", "output", "final", "last", "seg", "segmentation", "classifier", "logits"),
)
_ROLE_OF = {word: role for role, words in enumerate(_ROLES) for word in words}


def _role(name: str) -> int:
    """Which part of a network a name speaks of: 0 the stem … 4 the head; names that do not say it count as encoder."""
    words = re.findall(r"[a-z]+", name.lower())
    return next((_ROLE_OF[word] for word in words if word in _ROLE_OF), 1)
