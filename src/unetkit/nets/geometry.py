"""What can be known about a network before it is built: sizes, context, parameters, operations, memory. No torch.

Everything is computed from the same list of layers that `build` runs (`program`). Shapes are spatial: one number per
axis, in pixels of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import lcm, prod

from unetkit.core.errors import SpecError
from unetkit.nets.program import INPUT, Layer, Program, program
from unetkit.nets.spec import NetSpec


@dataclass(frozen=True)
class Geometry:
    """Facts of a network; one number per axis where there is a tuple.

    divisor          sizes that the network takes without padding are `smallest` plus multiples of this
    smallest         the smallest such size
    margin           pixels that the output loses on each side (0 unless padding is 'valid')
    halo             pixels of context on each side that can influence an output pixel, over all alignments (exact)
    receptive_field  the largest number of input pixels that one output pixel can see
    parameters       learned numbers, heads for deep supervision included
    local            whether a pixel outside the halo can have no influence at all: tiles are exact then
    why_not_local    the reason, in words, where it is not
    """

    divisor: tuple[int, ...]
    smallest: tuple[int, ...]
    margin: tuple[int, ...]
    halo: tuple[int, ...]
    receptive_field: tuple[int, ...]
    parameters: int
    local: bool
    why_not_local: str

    def fit(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The smallest shape that the network takes without padding and that holds `shape`."""
        return tuple(
            s + max(0, -(-(n - s) // d)) * d for n, s, d in zip(shape, self.smallest, self.divisor, strict=True)
        )

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Size of the logits for an input of `shape` pixels. Raises SpecError where nothing would be left."""
        left = tuple(n - 2 * m for n, m in zip(shape, self.margin, strict=True))
        if min(left) < 1:
            least = format_shape([2 * m + 1 for m in self.margin])
            raise SpecError(
                f"an input of {format_shape(shape)} gives no output: this network takes away "
                f"{format_shape(self.margin)} on each side; give {least} or more, or use another padding than 'valid'"
            )
        return left


def format_shape(shape: Sequence[int]) -> str:
    """'572 × 572 pixels'."""
    return " × ".join(str(n) for n in shape) + (" pixels" if len(shape) != 1 or shape[0] != 1 else " pixel")


# --- one axis: how a layer changes the size, and which inputs an output sees --------------------------------------


@dataclass(frozen=True)
class Rule:
    """What a kind of layer does to one axis.

    size(n, layer, axis)   size of the output for an input of n, or None where it does not come out even
    sees(j, layer, axis)   first and last index of the input that output j sees
    scale(s, layer, axis)  input pixels per pixel of the output, where there are s per pixel of the layer's input
    """

    size: Callable[[int, Layer, int], int | None]
    sees: Callable[[int, Layer, int], tuple[int, int]]
    scale: Callable[[int, Layer, int], int]


def _window_size(n: int, layer: Layer, a: int) -> int | None:
    room = n + 2 * layer.pad[a] - layer.kernel[a]
    return room // layer.stride[a] + 1 if room >= 0 and room % layer.stride[a] == 0 else None


def _window_sees(j: int, layer: Layer, a: int) -> tuple[int, int]:
    first = j * layer.stride[a] - layer.pad[a]
    return first, first + layer.kernel[a] - 1


def _linear_sees(j: int, layer: Layer, a: int) -> tuple[int, int]:
    # the centre of output pixel j lies at (j + 1/2)/s - 1/2 of the input
    first, rest = divmod(2 * j + 1 - layer.stride[a], 2 * layer.stride[a])
    return first, first + (rest > 0)


_WINDOW = Rule(_window_size, _window_sees, lambda s, layer, a: s * layer.stride[a])
_BOXES = Rule(
    lambda n, layer, a: n * layer.stride[a],
    lambda j, layer, a: (j // layer.stride[a], j // layer.stride[a]),
    lambda s, layer, a: s // layer.stride[a],
)
_LINEAR = Rule(_BOXES.size, _linear_sees, _BOXES.scale)
_POINT = Rule(lambda n, _layer, _a: n, lambda j, _layer, _a: (j, j), lambda s, _layer, _a: s)

# The same keys as `ops.MAKERS`. 'crop' also needs the sizes of the maps and is treated where it occurs.
RULES: dict[str, Rule] = {
    "conv": _WINDOW,
    "max_pool": _WINDOW,
    "average_pool": _WINDOW,
    "transposed": _BOXES,
    "nearest_up": _BOXES,
    "shuffle": _BOXES,
    "linear_up": _LINEAR,
    "batch_norm": _POINT,
    "instance_norm": _POINT,
    "group_norm": _POINT,
    "relu": _POINT,
    "leaky_relu": _POINT,
    "gelu": _POINT,
    "silu": _POINT,
    "dropout": _POINT,
    "concat": _POINT,
    "add": _POINT,
    "crop": _POINT,
}

# Kinds of layers through which far pixels matter.
NOT_LOCAL: dict[str, str] = {
    "instance_norm": "instance norm takes its statistics over the whole tile",
    "group_norm": "group norm takes its statistics over the whole tile",
}


def _sizes(layers: Sequence[Layer], axis: int, n: int) -> dict[str, int] | None:
    """Size of every map along one axis for an input of n pixels, or None where the network does not take it."""
    sizes = {INPUT: n}
    for layer in layers:
        out = RULES[layer.kind].size(sizes[layer.inputs[0]], layer, axis)
        if layer.kind == "crop":
            out = sizes[layer.inputs[1]]
            if out > sizes[layer.inputs[0]] or (sizes[layer.inputs[0]] - out) % 2:
                return None
        if out is None or out < 1:
            return None
        sizes[layer.name] = out
    return sizes


@dataclass(frozen=True)
class _Axis:
    divisor: int
    smallest: int
    margin: int
    halo: int
    receptive_field: int


def _axis(layers: Sequence[Layer], output: str, axis: int) -> _Axis:
    scale = {INPUT: 1}  # input pixels per pixel of each map
    for layer in layers:
        scale[layer.name] = RULES[layer.kind].scale(scale[layer.inputs[0]], layer, axis)
    divisor = lcm(*scale.values())
    smallest, sizes = 1, _sizes(layers, axis, 1)
    while sizes is None:  # ends: for any size of the deepest map there is an input that gives it
        smallest += 1
        sizes = _sizes(layers, axis, smallest)
    margin = (smallest - sizes[output]) // 2

    # For each map the first and last input pixel that its pixel j sees, for j within one period of the alignment.
    seen = {INPUT: [(j, j) for j in range(divisor)]}

    def look(name: str, j: int) -> tuple[int, int]:
        periods, j = divmod(j, len(seen[name]))
        first, last = seen[name][j]
        return first + periods * divisor, last + periods * divisor

    for layer in layers:
        inputs = layer.inputs[:1] if layer.kind == "crop" else layer.inputs
        offset = (sizes[layer.inputs[0]] - sizes[layer.name]) // 2 if layer.kind == "crop" else 0
        spans = []
        for j in range(divisor // scale[layer.name]):
            first, last = RULES[layer.kind].sees(j + offset, layer, axis)
            spans.append((min(look(name, first)[0] for name in inputs), max(look(name, last)[1] for name in inputs)))
        seen[layer.name] = spans
    own = [(j + margin - first, last - j - margin) for j, (first, last) in enumerate(seen[output])]
    return _Axis(
        divisor=divisor,
        smallest=smallest,
        margin=margin,
        halo=max(max(before, after) for before, after in own),
        receptive_field=max(before + after + 1 for before, after in own),
    )


@lru_cache(maxsize=64)
def geometry(spec: NetSpec) -> Geometry:
    """The facts of a network, from its spec alone."""
    whole = program(spec)
    inference = whole.inference
    axes = [_axis(inference.layers, inference.outputs[0], axis) for axis in range(spec.ndim)]
    reasons = sorted({NOT_LOCAL[layer.kind] for layer in inference.layers if layer.kind in NOT_LOCAL})
    return Geometry(
        divisor=tuple(a.divisor for a in axes),
        smallest=tuple(a.smallest for a in axes),
        margin=tuple(a.margin for a in axes),
        halo=tuple(a.halo for a in axes),
        receptive_field=tuple(a.receptive_field for a in axes),
        parameters=sum(parameters(layer) for layer in whole.layers),
        local=not reasons,
        why_not_local="; ".join(reasons),
    )


def output_shape(spec: NetSpec, shape: Sequence[int]) -> tuple[int, ...]:
    """Size of the logits for an input of `shape` pixels. Raises SpecError where nothing would be left."""
    return geometry(spec).output_shape(shape)


def parameters(layer: Layer) -> int:
    """Learned numbers of one layer."""
    if layer.kind in ("conv", "transposed"):
        return layer.in_channels * layer.channels * prod(layer.kernel) + layer.bias * layer.channels
    return 2 * layer.channels if layer.kind.endswith("_norm") else 0


def shapes(whole: Program, shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Size of every map of a program for an input of `shape`, which must be one that the network takes unpadded."""
    axes = [_sizes(whole.layers, axis, n) for axis, n in enumerate(shape)]
    if any(sizes is None for sizes in axes):
        raise SpecError(f"the network does not take {format_shape(shape)} without padding")
    found = [sizes for sizes in axes if sizes is not None]
    return {name: tuple(sizes[name] for sizes in found) for name in [INPUT, *(layer.name for layer in whole.layers)]}


def flops(spec: NetSpec, shape: Sequence[int], batch: int = 1) -> int:
    """Floating point operations of one prediction of `batch` images of `shape` pixels (padding included).

    Counted as `torch.utils.flop_counter` does: a multiply and an add per weight of a convolution and output pixel;
    norms, activations, pooling and interpolation are not counted.
    """
    whole = program(spec).inference
    size = shapes(whole, geometry(spec).fit(shape))
    total = 0
    for layer in whole.layers:
        if layer.kind in ("conv", "transposed"):
            at = layer.name if layer.kind == "conv" else layer.inputs[0]
            total += 2 * batch * prod(size[at]) * prod(layer.kernel) * layer.in_channels * layer.channels
    return total
