"""What can be known about a network before it is built: sizes, context, parameters, operations, memory. No torch.

Everything is computed from the same list of layers that `build` runs (`program`). Shapes are spatial: one number per
axis, in pixels of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import lcm, prod

from unetkit.core.errors import SpecError
from unetkit.nets.program import INPUT, Layer, Program
from unetkit.nets.rules import DROPOUTS, KINDS, Saves, axis_sizes, multiple, why_not_local
from unetkit.nets.spec import NetSpec
from unetkit.nets.topology import program


@dataclass(frozen=True)
class Geometry:
    """Facts of a network; one number per axis where there is a tuple.

    divisor          sizes that the network takes without padding are `smallest` plus multiples of this
    smallest         the smallest such size
    margin           pixels that the output loses on each side (0 unless padding is 'valid')
    halo             pixels of context on each side that can influence an output pixel, over all alignments (exact)
    receptive_field  the largest number of input pixels that one output pixel can see
    strides          for each result of training (full-size logits first), input pixels per pixel of it
    parameters       learned numbers, heads for deep supervision included
    local            whether a pixel outside the halo can have no influence at all: tiles are exact then
    why_not_local    the reason, in words, where it is not
    """

    divisor: tuple[int, ...]
    smallest: tuple[int, ...]
    margin: tuple[int, ...]
    halo: tuple[int, ...]
    receptive_field: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
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


@dataclass(frozen=True)
class _Axis:
    divisor: int
    smallest: int
    margin: int
    halo: int
    receptive_field: int


def _scales(layers: Sequence[Layer], axis: int) -> dict[str, int]:
    """Input pixels per pixel of each map, along one axis."""
    scale = {INPUT: 1}
    for layer in layers:
        scale[layer.name] = KINDS[layer.kind].scale(scale[layer.inputs[0]], layer, axis)
    return scale


def _strides(whole: Program, axis: int) -> tuple[int, ...]:
    scale = _scales(whole.layers, axis)
    return tuple(scale[name] for name in whole.outputs)


def _axis(layers: Sequence[Layer], output: str, axis: int) -> _Axis:
    scale = _scales(layers, axis)
    divisor = lcm(*scale.values(), *(scale[layer.inputs[0]] * multiple(layer) for layer in layers))
    smallest, sizes = 1, axis_sizes(layers, axis, 1)
    while sizes is None:  # ends: for any size of the deepest map there is an input that gives it
        smallest += 1
        sizes = axis_sizes(layers, axis, smallest)
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
            first, last = KINDS[layer.kind].sees(j + offset, layer, axis)
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
    reasons = sorted({why_not_local(layer) for layer in inference.layers} - {""})
    return Geometry(
        divisor=tuple(a.divisor for a in axes),
        smallest=tuple(a.smallest for a in axes),
        margin=tuple(a.margin for a in axes),
        halo=tuple(a.halo for a in axes),
        receptive_field=tuple(a.receptive_field for a in axes),
        strides=tuple(zip(*(_strides(whole, axis) for axis in range(spec.ndim)), strict=True)),
        parameters=sum(parameters(layer) for layer in whole.layers),
        local=not reasons,
        why_not_local="; ".join(reasons),
    )


def output_shape(spec: NetSpec, shape: Sequence[int]) -> tuple[int, ...]:
    """Size of the logits for an input of `shape` pixels. Raises SpecError where nothing would be left."""
    return geometry(spec).output_shape(shape)


def parameters(layer: Layer) -> int:
    """Learned numbers of one layer; none where it uses those of another."""
    return 0 if layer.weights else KINDS[layer.kind].parameters(layer)


def shapes(whole: Program, shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Size of every map of a program for an input of `shape`, which must be one that the network takes unpadded."""
    axes = [axis_sizes(whole.layers, axis, n) for axis, n in enumerate(shape)]
    if any(sizes is None for sizes in axes):
        raise SpecError(f"the network does not take {format_shape(shape)} without padding")
    found = [sizes for sizes in axes if sizes is not None]
    return {name: tuple(sizes[name] for sizes in found) for name in [INPUT, *(layer.name for layer in whole.layers)]}


def flops(spec: NetSpec, shape: Sequence[int], batch: int = 1) -> int:
    """Floating point operations of one prediction of `batch` images of `shape` pixels (padding included).

    Counted as `torch.utils.flop_counter` does: a multiply and an add per weight of a convolution and output pixel, and
    the products of attention; norms, activations, pooling and interpolation are not counted.
    """
    whole = program(spec).inference
    size = shapes(whole, geometry(spec).fit(shape))
    each = (KINDS[layer.kind].flops(layer, size[layer.inputs[0]], size[layer.name]) for layer in whole.layers)
    return batch * sum(each)


def activation_memory(
    spec: NetSpec,
    batch: int,
    shape: Sequence[int],
    bytes_per_value: int = 4,
    training: bool = False,
    checkpointing: bool = False,
) -> int:
    """Bytes of feature maps that exist at once, at the worst moment: input and result included, weights not.

    Inference: what is still to be read while a layer runs. Training: what torch keeps for the backward pass, and the
    gradients on their way back; with `checkpointing` the maps inside a part are made again when their turn comes.
    Scratch memory of the convolutions comes on top, and is the machine's own.
    """
    whole = program(spec) if training else program(spec).inference
    size = shapes(whole, geometry(spec).fit(shape))
    values = {name: batch * prod(pixels) for name, pixels in size.items()}
    memory = _Memory(whole, values, bytes_per_value, training)
    if not training:
        return memory.inference()
    return memory.checkpointed() if checkpointing else memory.training()


class _Memory:
    """Which maps share memory, and what of it is in use when. `pixels`: values per channel of every map."""

    def __init__(self, whole: Program, pixels: dict[str, int], bytes_per_value: int, training: bool) -> None:
        self.whole, self.bytes_per_value = whole, bytes_per_value
        self.owner = {INPUT: INPUT}  # the map whose memory a map lives in
        channels = {INPUT: whole.layers[0].in_channels, **{layer.name: layer.channels for layer in whole.layers}}
        width = {layer.name: KINDS[layer.kind].width or bytes_per_value for layer in whole.layers}
        self.bytes = {name: pixels[name] * n * width.get(name, bytes_per_value) for name, n in channels.items()}
        in_place = whole.in_place()
        for layer in whole.layers:
            passes = layer.kind == "crop" or (layer.kind in DROPOUTS and not training)
            shares = passes or layer.name in in_place
            self.owner[layer.name] = self.owner[layer.inputs[0]] if shares else layer.name

    def inference(self) -> int:
        alive: set[str] = set()
        peak = 0
        for layer, spent in zip(self.whole.layers, self.whole.spent(), strict=True):
            alive.add(layer.name)
            besides = 0 if layer.kind in DROPOUTS else self._besides(layer)
            peak = max(peak, self._held(alive | {INPUT}) + besides)
            alive.difference_update(spent)
        return peak

    def training(self) -> int:
        outputs = self.whole.outputs  # whoever called the network holds them
        return self._backward(self.whole.layers, {INPUT, *outputs}, set(outputs))

    def checkpointed(self) -> int:
        segments = self.whole.segments()
        # parts whose derivatives read nothing (concatenation, sums) are never run again, and keep nothing
        reads = [set(s.reads) if any(KINDS[n.kind].saves != Saves() for n in s.layers) else set() for s in segments]
        gradients = set(self.whole.outputs)
        peak = 0
        for i in range(len(segments) - 1, -1, -1):
            # what the segments up to this one read is kept; and so are results of the network itself
            crossing = {INPUT, *self.whole.outputs}.union(*reads[: i + 1])
            peak = max(peak, self._backward(segments[i].layers, crossing, gradients))
        return peak

    def _backward(self, layers: Sequence[Layer], always: set[str], gradients: set[str]) -> int:
        """The most that is held while the derivatives of `layers` are computed, last first. `gradients` (changed): the
        values whose gradient exists."""
        kept: list[set[str]] = []  # for each layer the memory that its derivative reads
        extra: list[int] = []  # and what it keeps besides
        for layer in layers:
            saves = KINDS[layer.kind].saves
            names = (set(layer.inputs) if saves.input else set()) | ({layer.name} if saves.output else set())
            kept.append({self.owner[name] for name in names})
            extra.append(self._besides(layer))
        peak = 0
        for i in range(len(layers) - 1, -1, -1):
            inputs = set(layers[i].inputs) - {INPUT}
            # what is read twice gets its gradient in two parts, which meet
            again = sum(self.bytes[name] for name in inputs & gradients if layers[i].kind != "add")
            gradients.update(inputs)
            held = always.union(*kept[: i + 1])
            own = sum(extra[: i + 1]) + sum(self.bytes[g] for g in gradients) + again
            peak = max(peak, self._held(held) + own)
            gradients.discard(layers[i].name)
        return peak

    def _besides(self, layer: Layer) -> int:
        """What a layer makes besides its result: indices, factors, maps in another order."""
        saves = KINDS[layer.kind].saves
        return int(self.bytes[layer.name] * (saves.extra / self.bytes_per_value + saves.maps))

    def _held(self, names: set[str]) -> int:
        return sum(self.bytes[owner] for owner in {self.owner[name] for name in names})
