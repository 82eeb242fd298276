"""A network as data: a list of layers, each naming the values it reads. Does not import torch.

The parts (blocks, downs, ups, skips, heads) are written once, as functions that write layers. `build` runs the list
with torch, `geometry` computes with it; so what is computed about a network and what runs cannot drift apart.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from unetkit.nets.spec import NetSpec

INPUT = "input"

# Activations whose derivative is known from their result, so that they may overwrite their input …
_OVERWRITE = ("relu", "leaky_relu")
# … where the layer that made it does not need it for its own derivative and nobody else reads it.
_OVERWRITTEN = ("conv", "transposed", "batch_norm", "instance_norm", "group_norm", "add")
_ACTIVATIONS = ("relu", "leaky_relu", "gelu", "silu")


@dataclass(frozen=True)
class Layer:
    """One operation. Its `name` ("encoder0.conv1") is also the name of the value it makes and of its torch module.

    `kind` is a key of `ops.MAKERS` and of `rules.RULES`. `kernel`, `stride` and `pad` (on each side) have one number
    per axis; for operations that upsample, `stride` is the factor of enlargement.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    in_channels: int
    channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    bias: bool = False


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
                kept.append(layer)
        return Program(tuple(reversed(kept)), tuple(outputs))

    @property
    def inference(self) -> Program:
        """Only what the full-size logits depend on."""
        return self.needed(self.outputs[:1])

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
            if layer.kind in _ACTIVATIONS or (layer.name in reached and layer.kind.endswith("_norm")):
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

    def input(self) -> Value:
        """The image."""
        return Value(INPUT, self.spec.in_channels)

    def conv(
        self,
        x: Value,
        channels: int,
        kernel: int | Sequence[int] = 1,
        *,
        stride: int | Sequence[int] = 1,
        pad: int | Sequence[int] | None = None,
        bias: bool | None = None,
    ) -> Value:
        """Convolution; by default padded to keep the size, with a bias only where no norm follows in this network."""
        k = self._axes(kernel)
        p = tuple(0 if self.valid else (n - 1) // 2 for n in k) if pad is None else self._axes(pad)
        b = self.spec.norm == "none" if bias is None else bias
        if any(p) and self.spec.padding in ("reflect", "replicate"):
            x = self._write(f"{self.spec.padding}_pad", (x,), x.channels, pad=p, label="pad")
            p = self._axes(0)
        return self._write("conv", (x,), channels, kernel=k, stride=self._axes(stride), pad=p, bias=b)

    def transposed(self, x: Value, channels: int, stride: Sequence[int]) -> Value:
        """Transposed convolution whose kernel is its stride."""
        return self._write("transposed", (x,), channels, kernel=tuple(stride), stride=tuple(stride), bias=True)

    def norm(self, x: Value) -> Value:
        """The network's normalisation; nothing for norm 'none'."""
        return x if self.spec.norm == "none" else self._write(f"{self.spec.norm}_norm", (x,), x.channels, label="norm")

    def activate(self, x: Value) -> Value:
        """The network's activation."""
        return self._write(self.spec.activation, (x,), x.channels, label="act")

    def unit(self, x: Value, channels: int, kernel: int | Sequence[int]) -> Value:
        """Convolution, norm, activation."""
        return self.activate(self.norm(self.conv(x, channels, kernel)))

    def pool(self, kind: str, x: Value, stride: Sequence[int]) -> Value:
        """Pooling ('max' or 'average') over boxes of the stride's size."""
        return self._write(f"{kind}_pool", (x,), x.channels, kernel=tuple(stride), stride=tuple(stride), label="pool")

    def enlarge(self, kind: str, x: Value, factor: Sequence[int]) -> Value:
        """Interpolation, 'nearest' or 'linear' (pixel centres: corners are not aligned, so it is local)."""
        return self._write(f"{kind}_up", (x,), x.channels, stride=tuple(factor), label="enlarge")

    def shuffle(self, x: Value, factor: Sequence[int]) -> Value:
        """Pixel shuffle: groups of channels become boxes of pixels (Shi 2016)."""
        boxes = 1
        for n in factor:
            boxes *= n
        return self._write("shuffle", (x,), x.channels // boxes, stride=tuple(factor))

    def dropout(self, x: Value) -> Value:
        """The network's dropout; nothing at probability 0."""
        return x if self.spec.dropout == 0 else self._write("dropout", (x,), x.channels)

    def concat(self, *xs: Value) -> Value:
        """Channels side by side."""
        return self._write("concat", xs, sum(x.channels for x in xs))

    def add(self, *xs: Value) -> Value:
        """The sum; every value has the same width."""
        return self._write("add", xs, xs[0].channels)

    def crop(self, x: Value, like: Value) -> Value:
        """The middle of `x`, as large as `like`; nothing where convolutions are padded, since sizes agree."""
        return self._write("crop", (x, like), x.channels) if self.valid else x

    def _axes(self, value: int | Sequence[int]) -> tuple[int, ...]:
        return (value,) * self.spec.ndim if isinstance(value, int) else tuple(value)

    def _write(
        self,
        kind: str,
        inputs: Sequence[Value],
        channels: int,
        *,
        kernel: tuple[int, ...] = (),
        stride: tuple[int, ...] = (),
        pad: tuple[int, ...] = (),
        bias: bool = False,
        label: str = "",
    ) -> Value:
        stem = f"{self._part}.{label or kind}"
        self._count[stem] = self._count.get(stem, 0) + 1
        name = f"{stem}{self._count[stem]}"
        ones, zeros = (1,) * self.spec.ndim, (0,) * self.spec.ndim
        self.layers.append(
            Layer(
                name=name,
                kind=kind,
                inputs=tuple(x.name for x in inputs),
                in_channels=inputs[0].channels,
                channels=channels,
                kernel=kernel or ones,
                stride=stride or ones,
                pad=pad or zeros,
                bias=bias,
            )
        )
        return Value(name, channels)


def without_batch_norm(whole: Program) -> tuple[Program, dict[str, str]]:
    """The program for inference in which every batch norm that directly follows a convolution is folded into it.

    Returns it (those convolutions have a bias), and for each such convolution the name of its former norm.
    """
    by_name, uses = {layer.name: layer for layer in whole.layers}, whole.uses()
    folded: dict[str, str] = {}
    for layer in whole.layers:
        if layer.kind != "batch_norm":
            continue
        before = by_name.get(layer.inputs[0])
        if before is not None and before.kind in ("conv", "transposed") and uses[before.name] == 1:
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
