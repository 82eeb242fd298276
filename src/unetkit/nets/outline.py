"""A network part by part, before it is built: what each does, what it gives, what it costs. No torch.

The list of layers (`program`) grouped by part is what `unetkit models show` prints and `drawing` draws; networks of
parts of the user's own come out the same way.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from unetkit.core.errors import SpecError
from unetkit.nets.geometry import Geometry, activation_memory, format_shape, geometry, parameters, shapes
from unetkit.nets.program import CONVOLUTIONS, INPUT, Layer
from unetkit.nets.rules import KINDS
from unetkit.nets.spec import NetSpec
from unetkit.nets.topology import program

# The size at which networks are compared where none is given, by number of axes.
SIZES = {1: (5000,), 2: (512, 512), 3: (96, 96, 96)}

_NAME = re.compile(r"(stem|encoder|down|bottleneck|up|skip|decoder|node|head)(\d+)?(?:_(\d+))?")
# These say their level by their number; of the others the size tells it.
_NUMBERED = ("encoder", "down", "up", "skip", "decoder", "node")
_POINTWISE = ("_norm", "_pad")
_PASSING = ("relu", "leaky_relu", "prelu", "elu", "gelu", "silu", "dropout", "map_dropout", "shift")
_WORDS = {
    "max_pool": "max pool",
    "average_pool": "mean pool",
    "blur": "blur",
    "nearest_up": "nearest",
    "linear_up": "linear",
    "corners_up": "linear (corners aligned)",
    "shuffle": "pixel shuffle",
    "unpool": "max unpooling",
    "embed": "embedding",
    "positions": "positions",
    "attention": "attention",
    "mean": "mean of the map",
    "sigmoid": "gate",
    "fuse": "weighted mean",
    "concat": "concat",
    "add": "add",
    "crop": "crop",
    "dropout": "dropout",
    "map_dropout": "dropout of maps",
    "module": "code of your own",
}
_SIZED = ("max_pool", "average_pool", "blur")
_ENLARGING = ("nearest_up", "linear_up", "corners_up", "shuffle", "unpool")


@dataclass(frozen=True)
class Map:
    """A feature map: its width, and its size in pixels, one number per axis."""

    channels: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """Layers of one name. Level 0 is the finest; `column` counts along a level of nested topologies (0: the encoder).

    role        stem, encoder, down, bottleneck, up, skip, decoder, node, head, or other (code of the user's own)
    reads       the parts that it reads ("input": the image), in the order in which it does
    gives       how many values others read
    maps        what its convolutions give, one after the other, where they stand in a row; else the result alone.
                The last is what the part gives
    kinds       the kinds of its layers, each once, that of the last layer last
    repeats     how many convolutions wider than a pixel it has
    parameters  learned numbers
    flops       floating point operations of one prediction
    training    whether it takes part in training alone (heads for deep supervision)
    """

    name: str
    role: str
    level: int
    column: int
    reads: tuple[str, ...]
    gives: int
    maps: tuple[Map, ...]
    kinds: tuple[str, ...]
    repeats: int
    what: str
    parameters: int
    flops: int
    training: bool

    @property
    def result(self) -> Map:
        """What it gives."""
        return self.maps[-1]


@dataclass(frozen=True)
class Outline:
    """A network for one image of a size.

    shape      the size asked for, one number per axis; `padded`: the size that it is padded to (the same where it fits)
    output     size of the logits
    flops, inference_bytes, training_bytes   of one image; memory of feature maps in fp32
    """

    spec: NetSpec
    geometry: Geometry
    shape: tuple[int, ...]
    padded: tuple[int, ...]
    output: tuple[int, ...]
    parts: tuple[Part, ...]
    inference_bytes: int
    training_bytes: int

    @property
    def flops(self) -> int:
        """Floating point operations of one prediction."""
        return sum(part.flops for part in self.parts)

    @property
    def parameters(self) -> int:
        """Learned numbers."""
        return self.geometry.parameters


def outline(spec: NetSpec, shape: Sequence[int] | None = None) -> Outline:
    """The parts of a network for images of `shape` pixels, in the order in which they run.

    Without a shape: `SIZES`, or more where that leaves no output. Raises SpecError: a size with another number of axes,
    or one that leaves no output.
    """
    facts = geometry(spec)
    asked = tuple(map(max, SIZES[spec.ndim], facts.smallest)) if shape is None else tuple(shape)
    if len(asked) != spec.ndim:
        raise SpecError(
            f"a size of {format_shape(asked)} has {len(asked)} {'axis' if len(asked) == 1 else 'axes'}, this network "
            f"has {spec.ndim}; give a size like {'x'.join(map(str, SIZES[spec.ndim]))}"
        )
    if min(asked) < 1:
        raise SpecError(f"a size of {format_shape(asked)} holds nothing; every axis needs a pixel or more")
    left = facts.output_shape(asked)
    padded = facts.fit(asked)
    return Outline(
        spec=spec,
        geometry=facts,
        shape=asked,
        padded=padded,
        output=left,
        parts=_parts(spec, padded),
        inference_bytes=activation_memory(spec, 1, asked),
        training_bytes=activation_memory(spec, 1, asked, training=True),
    )


def _parts(spec: NetSpec, padded: tuple[int, ...]) -> tuple[Part, ...]:
    whole = program(spec)
    size = shapes(whole, padded)
    predicts = {layer.name for layer in whole.inference.layers}
    owner = {INPUT: INPUT, **{layer.name: layer.part for layer in whole.layers}}
    levels = _scales(spec)
    scale = {INPUT: (1,) * spec.ndim}  # pixels of the input per pixel of each map, one number per axis
    for layer in whole.layers:
        before = scale[layer.inputs[0]]
        scale[layer.name] = tuple(KINDS[layer.kind].scale(n, layer, axis) for axis, n in enumerate(before))
    groups: dict[str, list[Layer]] = {}
    for layer in whole.layers:
        groups.setdefault(layer.part, []).append(layer)
    found = []
    for name, layers in groups.items():
        match = _NAME.fullmatch(name)
        role = match[1] if match else "other"
        made = {layer.name for layer in layers}
        read = dict.fromkeys(owner[i] for layer in layers for i in layer.inputs if i not in made)
        outside = {i for layer in whole.layers if layer.part != name for i in layer.inputs} | set(whole.outputs)
        number = int(match[2]) if match and match[2] else 0
        found.append(
            Part(
                name=name,
                role=role,
                level=number if role in _NUMBERED else _level(levels, prod(scale[layers[-1].name])),
                column=int(match[3] or 0) if match else 0,
                reads=tuple(read),
                gives=len(made & outside),
                maps=_maps(layers, size),
                kinds=tuple(dict.fromkeys(layer.kind for layer in reversed(layers)))[::-1],
                repeats=sum(_wide(layer) for layer in layers),
                what=describe(layers),
                parameters=sum(parameters(layer) for layer in layers),
                flops=sum(
                    KINDS[layer.kind].flops(layer, size[layer.inputs[0]], size[layer.name])
                    for layer in layers
                    if layer.name in predicts
                ),
                training=not made & predicts,
            )
        )
    return tuple(found)


def _scales(spec: NetSpec) -> list[int]:
    """Pixels of the input per pixel of each level."""
    scales = [spec.stem_stride**spec.ndim]
    for level in range(spec.levels - 1):
        scales.append(scales[-1] * prod(spec.stride(level)))
    return scales


def _level(scales: Sequence[int], scale: int) -> int:
    """The level of that scale, or the nearest (before a stem with a stride, after a head that undoes it)."""
    return min(range(len(scales)), key=lambda level: max(scales[level] / scale, scale / scales[level]))


def _maps(layers: Sequence[Layer], size: Mapping[str, tuple[int, ...]]) -> tuple[Map, ...]:
    """The maps that convolutions give where each reads the one before, and the part gives what the last gives."""
    result = layers[-1]
    last = Map(result.channels, size[result.name])
    by_name = {layer.name: layer for layer in layers}

    def source(name: str) -> str:
        """The layer of the part whose values these are, but for norms and activations; "" where there is none."""
        while name in by_name and (by_name[name].kind in _PASSING or by_name[name].kind.endswith(_POINTWISE)):
            name = by_name[name].inputs[0]
        return name if name in by_name else ""

    row = [layer for layer in layers if _wide(layer)]
    before = ""
    for layer in row:
        if source(layer.inputs[0]) != before:
            return (last,)
        before = layer.name
    if not row or row[-1].channels != result.channels:
        return (last,)
    return (*(Map(layer.channels, size[layer.name]) for layer in row[:-1]), last)


def _wide(layer: Layer) -> bool:
    return layer.kind in CONVOLUTIONS and prod(layer.kernel) > 1


def describe(layers: Sequence[Layer]) -> str:
    """'2 conv 3×3' or 'crop, concat': what the layers do, without norms and activations."""
    count = Counter(word for layer in layers if (word := _word(layer)))
    return ", ".join(word if n == 1 else f"{n} {word}" for word, n in count.items())


def _word(layer: Layer) -> str:
    kind = layer.kind
    if kind == "transposed":
        return f"transposed conv {format_kernel(layer.kernel)}"
    if kind in CONVOLUTIONS:
        strided = "strided " if any(n > 1 for n in layer.stride) else ""
        dilated = f", dilation {max(layer.dilation)}" if max(layer.dilation) > 1 else ""
        depthwise = "depthwise " if 1 < layer.groups == layer.in_channels else ""
        return f"{strided}{depthwise}conv {format_kernel(layer.kernel)}{dilated}"
    word = _WORDS.get(kind, "")
    if kind in _SIZED:
        return f"{word} {format_kernel(layer.stride)}"
    if kind in _ENLARGING:
        factor = str(layer.stride[0]) if len(set(layer.stride)) == 1 else format_kernel(layer.stride)
        return f"{word} ×{factor}"
    return word


def format_kernel(kernel: Sequence[int]) -> str:
    """'3×3', '1×3×3', '5³' or '9'."""
    if len(kernel) == 3 and len(set(kernel)) == 1 and kernel[0] > 1:
        return f"{kernel[0]}³"
    return "×".join(map(str, kernel))


def format_count(n: float) -> str:
    """'19.1 M' for 19 069 955: three significant digits."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= 0.9995 * size:
            value = n / size
            return f"{value:.{max(0, 2 - int(value >= 9.995) - int(value >= 99.95))}f} {unit}"
    return f"{n:.0f}"
