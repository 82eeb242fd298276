"""What each kind of layer does to a size, which inputs its outputs see, and what torch keeps of it. No torch.

One table per question, with the keys of `ops.MAKERS`: a new kind of layer gets a row in each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unetkit.nets.program import INPUT, Layer


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
_BORDER = Rule(
    lambda n, layer, a: n + 2 * layer.pad[a],
    # as if the map went on: what a border repeats lies nearer to the output than what it stands for
    lambda j, layer, a: (j - layer.pad[a], j - layer.pad[a]),
    lambda s, _layer, _a: s,
)
_LINEAR = Rule(_BOXES.size, _linear_sees, _BOXES.scale)
_POINT = Rule(lambda n, _layer, _a: n, lambda j, _layer, _a: (j, j), lambda s, _layer, _a: s)

# The same keys as `ops.MAKERS`. 'crop' also needs the sizes of the maps and is treated where it occurs.
RULES: dict[str, Rule] = {
    "conv": _WINDOW,
    "max_pool": _WINDOW,
    "average_pool": _WINDOW,
    "transposed": _BOXES,
    "reflect_pad": _BORDER,
    "replicate_pad": _BORDER,
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


def axis_sizes(layers: Sequence[Layer], axis: int, n: int) -> dict[str, int] | None:
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
class Saves:
    """What torch keeps of a layer until the backward pass: its input, its output, and bytes per value besides."""

    input: bool = False
    output: bool = False
    extra: int = 0


_INPUT, _OUTPUT, _NOTHING = Saves(input=True), Saves(output=True), Saves()

SAVES: dict[str, Saves] = {
    "conv": _INPUT,
    "transposed": _INPUT,
    "reflect_pad": _INPUT,
    "replicate_pad": _INPUT,
    "max_pool": Saves(input=True, extra=8),  # where the maximum was: an int64 for each value
    "average_pool": _INPUT,
    "batch_norm": _INPUT,
    "instance_norm": _INPUT,
    "group_norm": _INPUT,
    "relu": _OUTPUT,
    "leaky_relu": _OUTPUT,
    "gelu": _INPUT,
    "silu": _INPUT,
    "dropout": Saves(extra=4),  # what was kept, as factors
    "linear_up": _NOTHING,
    "nearest_up": _NOTHING,
    "shuffle": _NOTHING,
    "concat": _NOTHING,
    "add": _NOTHING,
    "crop": _NOTHING,
}
