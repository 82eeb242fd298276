"""A network as data: a list of layers, each naming the values it reads. Does not import torch.

The parts (blocks, downs, ups, skips, heads) are written once, as functions that write layers. `build` runs the list
with torch, `geometry` computes with it; so what is computed about a network and what runs cannot drift apart.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from unetkit.nets.spec import NetSpec

INPUT = "input"

# Activations whose derivative is known from their result, so that they may overwrite their input …
_OVERWRITE = ("relu", "leaky_relu")
# … where the layer that made it does not need it for its own derivative and nobody else reads it.
_OVERWRITTEN = ("conv", "strided_conv", "transposed", "batch_norm", "instance_norm", "group_norm", "shift", "add")
_ACTIVATIONS = ("relu", "leaky_relu", "prelu", "elu", "gelu", "silu")
# Kinds with a weight per tap and pair of channels.
CONVOLUTIONS = ("conv", "strided_conv", "transposed")


@dataclass(frozen=True)
class Layer:
    """One operation. Its `name` ("encoder0.conv1") is also the name of the value it makes and of its torch module.

    `kind` is a key of `ops.MAKERS` and of `rules.KINDS`. `kernel`, `stride`, `pad` (on each side) and `dilation` have
    one number per axis; for operations that upsample, `stride` is the factor of enlargement. `size`: learned numbers
    per channel of a norm, heads of an attention, entries of an embedding, points along an axis of a grid of positions,
    or what sizes must be a multiple of for a module of the user's own. `weights`: the earlier layer whose parameters
    (and torch module) this one uses; "" its own. `make` builds a module of the user's own; `note` says what is not
    known about it.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    in_channels: int
    channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    bias: bool = False
    size: int = 0
    weights: str = ""
    make: Callable[[], Any] | None = None
    note: str = ""

    @property
    def part(self) -> str:
        """The part of the network that it belongs to: "encoder0"."""
        return self.name.rsplit(".", 1)[0]

    @property
    def module(self) -> str:
        """Name of the torch module that runs it."""
        return self.weights or self.name


@dataclass(frozen=True)
class Segment:
    """Layers of one part, one after the other: what is computed again in one go with gradient checkpointing.

    reads: values made before it; gives: its values that others read, or that are results.
    """

    layers: tuple[Layer, ...]
    reads: tuple[str, ...]
    gives: tuple[str, ...]

    @property
    def spent(self) -> tuple[tuple[str, ...], ...]:
        """For each layer the values that can be let go after it."""
        return Program(self.layers, self.gives).spent()


@dataclass(frozen=True)
class Program:
    """Layers in the order in which they run, and the values that are the results: full-size logits first."""

    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]

    def needed(self, outputs: Sequence[str]) -> Program:
        """Only what these outputs depend on."""
        wanted, kept = set(outputs), []
        for layer in reversed(self.layers):
            if layer.name in wanted:
                wanted.update(layer.inputs)
                wanted.add(layer.module)  # whose weights it uses
                kept.append(layer)
        return Program(tuple(reversed(kept)), tuple(outputs))

    @property
    def inference(self) -> Program:
        """Only what the full-size logits depend on."""
        return self.needed(self.outputs[:1])

    def segments(self) -> tuple[Segment, ...]:
        """The layers part by part."""
        found = []
        for _, group in itertools.groupby(self.layers, key=lambda layer: layer.part):
            layers = tuple(group)
            made = {layer.name for layer in layers}
            reads = dict.fromkeys(name for layer in layers for name in layer.inputs if name not in made)
            outside = {name for layer in self.layers if layer.name not in made for name in layer.inputs}
            outside.update(self.outputs)
            gives = tuple(layer.name for layer in layers if layer.name in outside)
            found.append(Segment(layers, tuple(reads), gives))
        return tuple(found)

    def uses(self) -> dict[str, int]:
        """How often each value is read (results count as read once more)."""
        count = dict.fromkeys([INPUT, *(layer.name for layer in self.layers)], 0)
        for name in [*(name for layer in self.layers for name in layer.inputs), *self.outputs]:
            count[name] += 1
        return count

    def in_place(self) -> frozenset[str]:
        """Layers that may overwrite their input."""
        kinds, uses = {layer.name: layer.kind for layer in self.layers}, self.uses()
        return frozenset(
            layer.name
            for layer in self.layers
            if layer.kind in _OVERWRITE and kinds.get(layer.inputs[0]) in _OVERWRITTEN and uses[layer.inputs[0]] == 1
        )

    def before_activation(self) -> frozenset[str]:
        """Layers whose result goes to an activation, directly or through a norm."""
        reached: set[str] = set()
        for layer in reversed(self.layers):
            if layer.kind in _ACTIVATIONS or (
                layer.name in reached and (layer.kind.endswith("_norm") or layer.kind == "shift")
            ):
                reached.update(layer.inputs)
        return frozenset(reached)

    def spent(self) -> tuple[tuple[str, ...], ...]:
        """For each layer the values that nobody reads after it, so that their memory can be let go."""
        last = {name: i for i, layer in enumerate(self.layers) for name in layer.inputs}
        for name in self.outputs:
            last.pop(name, None)
        gone: list[list[str]] = [[] for _ in self.layers]
        for name, i in last.items():
            gone[i].append(name)
        return tuple(tuple(names) for names in gone)


@dataclass(frozen=True)
class Value:
    """A feature map while a program is written: its name and width."""

    name: str
    channels: int


@dataclass
class Writer:
    """What the parts receive: writes layers with the norm, activation, padding and dimension that the spec asks for."""

    spec: NetSpec
    layers: list[Layer] = field(default_factory=list)
    _part: str = ""
    _count: dict[str, int] = field(default_factory=dict)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Layers written inside are named `name.conv1`, `name.norm1`, …"""
        outer, self._part = self._part, f"{self._part}.{name}" if self._part else name
        try:
            yield
        finally:
            self._part = outer

    @property
    def valid(self) -> bool:
        """Whether convolutions are unpadded, so that maps of one level differ in size and must be cropped to meet."""
        return self.spec.padding == "valid"

    @property
    def ones(self) -> tuple[int, ...]:
        """The stride that changes nothing."""
        return (1,) * self.spec.ndim

    def input(self) -> Value:
        """The image (or, with a vocabulary, the integers)."""
        return Value(INPUT, self.spec.in_channels)

    def conv(
        self,
        x: Value,
        channels: int,
        kernel: int | Sequence[int] = 1,
        *,
        stride: int | Sequence[int] = 1,
        pad: int | Sequence[int] | None = None,
        dilation: int = 1,
        groups: int = 1,
        bias: bool | None = None,
        like: Value | None = None,
    ) -> Value:
        """Convolution; by default padded to keep the size, with a bias where the spec says, else where no norm follows.

        With a stride it gives every stride-th value of what it would give without, unless `pad` is said. `like`: the
        result of an earlier convolution whose weights this one uses as well.
        """
        k = self._axes(kernel)
        thin = pad is None and any(n > 1 for n in self._axes(stride))
        p = tuple(0 if self.valid else dilation * (n - 1) // 2 for n in k) if pad is None else self._axes(pad)
        own = self.spec.norm == "none" if self.spec.bias is None else self.spec.bias
        if any(p) and self.spec.padding in ("reflect", "replicate"):
            x = self._write(f"{self.spec.padding}_pad", (x,), x.channels, pad=p, label="pad")
            p = self._axes(0)
        return self._write(
            "strided_conv" if thin else "conv",
            (x,),
            channels,
            label="conv",
            kernel=k,
            stride=self._axes(stride),
            pad=p,
            dilation=self._axes(dilation),
            groups=groups,
            bias=own if bias is None else bias,
            weights=like.name if like is not None else "",
        )

    def transposed(self, x: Value, channels: int, stride: Sequence[int], overlap: bool = False) -> Value:
        """Transposed convolution. Its kernel is its stride; or, with `overlap`, odd and larger (3 at stride 2)."""
        kernel = tuple(max(3, s + 1 - s % 2) if overlap else s for s in stride)
        pad = tuple((k - 1) // 2 if overlap else 0 for k in kernel)
        return self._write(
            "transposed", (x,), channels, kernel=kernel, stride=tuple(stride), pad=pad, bias=self.spec.up_bias
        )

    def norm(self, x: Value, kind: str = "", like: Value | None = None) -> Value:
        """The network's normalisation; nothing for norm 'none'. `like`: share the parameters of an earlier result."""
        kind = kind or self.spec.norm
        if kind == "none":
            return x
        learned = 2 if self.spec.norm_scale else 0
        shared = shift = like.name if like is not None else ""
        if shared and not learned:  # the shift is a layer of its own
            shared = next(layer.inputs[0] for layer in self.layers if layer.name == shift)
        y = self._write(f"{kind}_norm", (x,), x.channels, label="norm", size=learned, weights=shared)
        return y if learned else self._write("shift", (y,), y.channels, weights=shift)

    def activate(self, x: Value, kind: str = "") -> Value:
        """The network's activation."""
        return self._write(kind or self.spec.activation, (x,), x.channels, label="act")

    def unit(self, x: Value, channels: int, kernel: int | Sequence[int], stride: int | Sequence[int] = 1) -> Value:
        """Convolution, norm, activation (and dropout where the spec wants it after every convolution)."""
        return self.drop("convolutions", self.activate(self.norm(self.conv(x, channels, kernel, stride=stride))))

    def pool(self, kind: str, x: Value, stride: Sequence[int]) -> Value:
        """Pooling ('max' or 'average') over boxes of the stride's size; nothing where that is one pixel."""
        if all(n == 1 for n in stride):
            return x
        return self._write(f"{kind}_pool", (x,), x.channels, kernel=tuple(stride), stride=tuple(stride), label="pool")

    def blur(self, x: Value, stride: Sequence[int]) -> Value:
        """Every stride-th value of a map smoothed with binomial weights (Zhang 2019)."""
        kernel = tuple(2 * n - 1 for n in stride)
        pad = tuple(0 if self.valid else (k - 1) // 2 for k in kernel)
        return self._write("blur", (x,), x.channels, kernel=kernel, stride=tuple(stride), pad=pad)

    def unpool(self, x: Value, source: Value, stride: Sequence[int]) -> Value:
        """Every value back to where the maximum of its box of `source` was, zeros elsewhere (Badrinarayanan 2017)."""
        where = self._write("where_max", (source,), source.channels, kernel=tuple(stride), stride=tuple(stride))
        return self._write("unpool", (x, where), x.channels, stride=tuple(stride))

    def enlarge(self, kind: str, x: Value, factor: Sequence[int]) -> Value:
        """Interpolation: 'nearest'; 'linear' between pixel centres, which is local; 'corners': linear, with the corners
        of the map aligned, which is not."""
        if all(n == 1 for n in factor):
            return x
        return self._write(f"{kind}_up", (x,), x.channels, stride=tuple(factor), label="enlarge")

    def shuffle(self, x: Value, factor: Sequence[int]) -> Value:
        """Pixel shuffle: groups of channels become boxes of pixels (Shi 2016)."""
        return self._write("shuffle", (x,), x.channels // prod(factor), stride=tuple(factor))

    def drop(self, place: str, x: Value) -> Value:
        """The network's dropout, where the spec wants it ('bottom', 'blocks', 'convolutions')."""
        wanted = self.spec.dropout > 0 and place == self.spec.dropout_at
        kind = "dropout" if self.spec.dropout_of == "values" else "map_dropout"
        return self._write(kind, (x,), x.channels, label="dropout") if wanted else x

    def concat(self, *xs: Value) -> Value:
        """Channels side by side."""
        return xs[0] if len(xs) == 1 else self._write("concat", xs, sum(x.channels for x in xs))

    def add(self, *xs: Value) -> Value:
        """The sum; every value has the same width."""
        return self._write("add", xs, xs[0].channels)

    def multiply(self, x: Value, factor: Value) -> Value:
        """The product; a factor of one channel, or of one pixel, holds for all."""
        return self._write("multiply", (x, factor), x.channels)

    def fuse(self, *xs: Value) -> Value:
        """A mean of maps of the same width with learned weights that are positive and sum to one."""
        return self._write("fuse", xs, xs[0].channels, size=len(xs))

    def sigmoid(self, x: Value, label: str = "") -> Value:
        """1 / (1 + e⁻ˣ)."""
        return self._write("sigmoid", (x,), x.channels, label=label)

    def mean(self, x: Value) -> Value:
        """The mean of every channel: a map of one pixel."""
        return self._write("mean", (x,), x.channels)

    def repeat(self, x: Value, channels: int) -> Value:
        """Exactly so many channels, without weights: repeated in turn, or the mean of groups where there are more."""
        return x if x.channels == channels else self._write("repeat", (x,), channels)

    def scale(self, x: Value) -> Value:
        """A learned factor per channel, 1e-6 at first (Touvron 2021)."""
        return self._write("scale", (x,), x.channels)

    def embed(self, x: Value, channels: int) -> Value:
        """A learned vector for every integer below the vocabulary."""
        return self._write("embed", (x,), channels, size=self.spec.vocabulary)

    def positions(self, x: Value, grid: int) -> Value:
        """A learned vector for every place of a coarse grid that spans the map, interpolated, added."""
        return self._write("positions", (x,), x.channels, size=grid)

    def attention(self, qkv: Value, heads: int) -> Value:
        """Scaled dot-product attention over all pixels; queries, keys and values are the thirds of the channels."""
        return self._write("attention", (qkv,), qkv.channels // 3, size=heads)

    def crop(self, x: Value, like: Value) -> Value:
        """The middle of `x`, as large as `like`; nothing where convolutions are padded, since sizes agree."""
        return self._write("crop", (x, like), x.channels) if self.valid else x

    def module(
        self, make: Callable[[], Any], xs: Sequence[Value], channels: int, *, halo: int | None = None, multiple: int = 1
    ) -> Value:
        """A torch module of the user's own: `make()` builds it; it takes the maps `xs`, all of one size, and gives one
        of `channels` channels and the same size. `halo`: how many pixels around a pixel its result there depends on
        (None: not known, so that tiles are blended). `multiple`: sizes must be multiples of this."""
        reach = self._axes(halo or 0)
        return self._write(
            "module",
            xs,
            channels,
            kernel=tuple(2 * n + 1 for n in reach),
            pad=reach,
            size=multiple,
            make=make,
            note="" if halo is not None else "how far a part of your own sees is not known",
        )

    def _axes(self, value: int | Sequence[int]) -> tuple[int, ...]:
        return (value,) * self.spec.ndim if isinstance(value, int) else tuple(value)

    def _write(
        self,
        kind: str,
        inputs: Sequence[Value],
        channels: int,
        *,
        label: str = "",
        kernel: tuple[int, ...] = (),
        stride: tuple[int, ...] = (),
        pad: tuple[int, ...] = (),
        dilation: tuple[int, ...] = (),
        **more: Any,
    ) -> Value:
        stem = f"{self._part}.{label or kind}"
        self._count[stem] = self._count.get(stem, 0) + 1
        name = f"{stem}{self._count[stem]}"
        layer = Layer(
            name=name,
            kind=kind,
            inputs=tuple(x.name for x in inputs),
            in_channels=inputs[0].channels,
            channels=channels,
            kernel=kernel or self.ones,
            stride=stride or self.ones,
            pad=pad or self._axes(0),
            dilation=dilation or self.ones,
            **more,
        )
        self.layers.append(layer)
        return Value(name, channels)


def without_batch_norm(whole: Program) -> tuple[Program, dict[str, str]]:
    """The program for inference in which every batch norm that directly follows a convolution is folded into it.

    Returns it (those convolutions have a bias), and for each such convolution the name of its former norm.
    """
    by_name, uses = {layer.name: layer for layer in whole.layers}, whole.uses()
    # what several layers use cannot be folded for one of them
    shared = {name for layer in whole.layers if layer.weights for name in (layer.name, layer.weights)}
    folded: dict[str, str] = {}
    for layer in whole.layers:
        if layer.kind != "batch_norm" or layer.name in shared:
            continue
        before = by_name.get(layer.inputs[0])
        if before is None or before.name in shared:
            continue
        if before.kind in CONVOLUTIONS and uses[before.name] == 1:
            folded[before.name] = layer.name
    renamed = {norm: conv for conv, norm in folded.items()}
    layers = tuple(
        replace(
            layer,
            inputs=tuple(renamed.get(name, name) for name in layer.inputs),
            bias=layer.bias or layer.name in folded,
        )
        for layer in whole.layers
        if layer.name not in renamed
    )
    return Program(layers, tuple(renamed.get(name, name) for name in whole.outputs)), folded
