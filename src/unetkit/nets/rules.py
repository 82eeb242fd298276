"""What each kind of layer does to a size, which inputs its outputs see, what it learns and costs. No torch.

One row per kind, with the keys of `ops.MAKERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

from unetkit.nets.program import INPUT, Layer

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Saves:
    """What torch keeps of a layer until the backward pass: its input, its output, and what it makes besides: bytes per
    value of its output, and further maps of the size of its output."""

    input: bool = False
    output: bool = False
    extra: int = 0
    maps: float = 0.0


_INPUT, _OUTPUT, _NOTHING = Saves(input=True), Saves(output=True), Saves()


# Kinds of layers that do nothing when the network is used.
DROPOUTS = ("dropout", "map_dropout")


@dataclass(frozen=True)
class Kind:
    """What a kind of layer does. The first three speak of one axis.

    size(n, layer, axis)   size of the output for an input of n, or None where it does not come out even
    sees(j, layer, axis)   first and last index of the input that output j sees
    scale(s, layer, axis)  input pixels per pixel of the output, where there are s per pixel of the layer's input
    parameters(layer)      learned numbers
    flops(layer, x, y)     floating point operations per image, x and y the shapes of input and output; a multiply
                           and an add per weight, as `torch.utils.flop_counter` counts
    saves                  what training keeps
    width                  bytes per value of the result, where they are not those of a feature map
    far                    why pixels far away matter, or ""
    """

    size: Callable[[int, Layer, int], int | None]
    sees: Callable[[int, Layer, int], tuple[int, int]]
    scale: Callable[[int, Layer, int], int]
    saves: Saves = _NOTHING
    width: int = 0
    parameters: Callable[[Layer], int] = lambda _: 0
    flops: Callable[[Layer, Shape, Shape], int] = lambda _layer, _x, _y: 0
    far: str = ""


def _reach(layer: Layer, a: int) -> int:
    """Pixels that the window of a convolution spans along an axis."""
    return layer.dilation[a] * (layer.kernel[a] - 1) + 1


def _window_size(n: int, layer: Layer, a: int) -> int | None:
    room = n + 2 * layer.pad[a] - _reach(layer, a)
    return room // layer.stride[a] + 1 if room >= 0 and room % layer.stride[a] == 0 else None


def _thinned_size(n: int, layer: Layer, a: int) -> int | None:
    # what a stride of 1 would give must come out even
    full = n + 2 * layer.pad[a] - _reach(layer, a) + 1
    return full // layer.stride[a] if full > 0 and full % layer.stride[a] == 0 else None


def _window_sees(j: int, layer: Layer, a: int) -> tuple[int, int]:
    first = j * layer.stride[a] - layer.pad[a]
    return first, first + _reach(layer, a) - 1


def _transposed_sees(j: int, layer: Layer, a: int) -> tuple[int, int]:
    # output j receives tap t of input i where i·stride − pad + t = j
    return -(-(j + layer.pad[a] - layer.kernel[a] + 1) // layer.stride[a]), (j + layer.pad[a]) // layer.stride[a]


def _linear_sees(j: int, layer: Layer, a: int) -> tuple[int, int]:
    # the centre of output pixel j lies at (j + 1/2)/s - 1/2 of the input
    first, rest = divmod(2 * j + 1 - layer.stride[a], 2 * layer.stride[a])
    return first, first + (rest > 0)


def _taps(layer: Layer) -> int:
    return prod(layer.kernel) * layer.in_channels // layer.groups * layer.channels


def _weights(layer: Layer) -> int:
    return _taps(layer) + layer.bias * layer.channels


_WINDOW = Kind(_window_size, _window_sees, lambda s, layer, a: s * layer.stride[a], _INPUT)
_CONV = replace(_WINDOW, parameters=_weights, flops=lambda layer, _x, y: 2 * prod(y) * _taps(layer))
_BOXES = Kind(
    lambda n, layer, a: n * layer.stride[a],
    lambda j, layer, a: (j // layer.stride[a], j // layer.stride[a]),
    lambda s, layer, a: s // layer.stride[a],
)
_LINEAR = replace(_BOXES, sees=_linear_sees)
_BORDER = Kind(
    lambda n, layer, a: n + 2 * layer.pad[a],
    # as if the map went on: what a border repeats lies nearer to the output than what it stands for
    lambda j, layer, a: (j - layer.pad[a], j - layer.pad[a]),
    lambda s, _layer, _a: s,
    _INPUT,
)
_POINT = Kind(lambda n, _layer, _a: n, lambda j, _layer, _a: (j, j), lambda s, _layer, _a: s)
_NORM = replace(_POINT, saves=_INPUT, parameters=lambda layer: layer.size * layer.channels)


def _module_parameters(layer: Layer) -> int:
    from unetkit.nets.own import count_parameters  # a part of the user's own is a torch module: only that knows

    return count_parameters(layer)


def _module_flops(layer: Layer, x: Shape, _y: Shape) -> int:
    from unetkit.nets.own import count_flops

    return count_flops(layer, x)


def _module_size(n: int, layer: Layer, _a: int) -> int | None:
    return n if n % layer.size == 0 else None


# The same keys as `ops.MAKERS`. 'crop' also needs the sizes of the maps and is treated where it occurs.
KINDS: dict[str, Kind] = {
    "conv": _CONV,
    "strided_conv": replace(_CONV, size=_thinned_size),
    "transposed": replace(
        _BOXES,
        sees=_transposed_sees,
        saves=_INPUT,
        parameters=_weights,
        flops=lambda layer, x, _y: 2 * prod(x) * _taps(layer),
    ),
    "max_pool": replace(_WINDOW, saves=Saves(input=True, extra=8)),  # where the maximum was: an int64 for each value
    "average_pool": _WINDOW,
    "blur": replace(
        _WINDOW,
        size=_thinned_size,
        flops=lambda layer, _x, y: 2 * prod(y) * prod(layer.kernel) * layer.channels,
    ),
    "where_max": replace(_WINDOW, saves=_OUTPUT, width=8),  # int64, which unpooling back reads
    "unpool": _BOXES,
    "reflect_pad": _BORDER,
    "replicate_pad": _BORDER,
    "nearest_up": _BOXES,
    "shuffle": _BOXES,
    "linear_up": _LINEAR,
    "corners_up": replace(_LINEAR, far="interpolation with aligned corners depends on the size of the tile"),
    "batch_norm": _NORM,
    "layer_norm": _NORM,
    "instance_norm": replace(_NORM, far="instance norm takes its statistics over the whole tile"),
    "group_norm": replace(_NORM, far="group norm takes its statistics over the whole tile"),
    "relu": replace(_POINT, saves=_OUTPUT),
    "leaky_relu": replace(_POINT, saves=_INPUT),  # the same memory where it overwrites it
    "prelu": replace(_POINT, saves=_INPUT, parameters=lambda layer: layer.channels),
    "elu": replace(_POINT, saves=_INPUT),
    "gelu": replace(_POINT, saves=_INPUT),
    "silu": replace(_POINT, saves=_INPUT),
    "sigmoid": replace(_POINT, saves=_OUTPUT),
    "dropout": replace(_POINT, saves=Saves(extra=4)),  # what was kept, as factors
    "map_dropout": _POINT,
    "concat": _POINT,
    "add": _POINT,
    "multiply": replace(_POINT, saves=_INPUT),
    "fuse": replace(_POINT, saves=_INPUT, parameters=lambda layer: layer.size),
    "repeat": _POINT,
    "scale": replace(_POINT, saves=_INPUT, parameters=lambda layer: layer.channels),
    "shift": replace(_POINT, parameters=lambda layer: layer.channels),
    "crop": _POINT,
    "mean": replace(
        _POINT, size=lambda _n, _layer, _a: 1, far="squeeze and excitation takes means over the whole tile"
    ),
    "embed": replace(_POINT, parameters=lambda layer: layer.size * layer.channels),
    "positions": replace(
        _POINT,
        parameters=lambda layer: layer.channels * layer.size ** len(layer.kernel),
        far="position encodings span the whole tile",
    ),
    "attention": replace(
        _POINT,
        saves=Saves(output=True, maps=3.0),  # queries, keys and values in their own order
        flops=lambda layer, x, _y: 4 * prod(x) ** 2 * layer.channels,
        far="a transformer looks at the whole tile",
    ),
    "module": replace(
        _WINDOW,
        size=_module_size,
        saves=Saves(input=True, output=True),
        parameters=_module_parameters,
        flops=_module_flops,
    ),
}


def multiple(layer: Layer) -> int:
    """What sizes must be a multiple of besides what strides ask for."""
    return layer.size if layer.kind == "module" else 1


def why_not_local(layer: Layer) -> str:
    """Why pixels beyond any halo matter to a layer, or ""."""
    return KINDS[layer.kind].far or (layer.note if layer.kind == "module" else "")


def axis_sizes(layers: Sequence[Layer], axis: int, n: int) -> dict[str, int] | None:
    """Size of every map along one axis for an input of n pixels, or None where the network does not take it."""
    sizes = {INPUT: n}
    for layer in layers:
        out = KINDS[layer.kind].size(sizes[layer.inputs[0]], layer, axis)
        if layer.kind == "crop":
            out = sizes[layer.inputs[1]]
            if out > sizes[layer.inputs[0]] or (sizes[layer.inputs[0]] - out) % 2:
                return None
        if out is None or out < 1:
            return None
        sizes[layer.name] = out
    return sizes
