"""NetSpec → torch module. One executor runs the program of the spec; it knows no variant by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unetkit.core.errors import SpecError, nearest
from unetkit.core.rng import torch_generator
from unetkit.nets.geometry import format_shape, geometry
from unetkit.nets.ops import MAKERS, pad_end
from unetkit.nets.presets import preset
from unetkit.nets.program import INPUT, Layer, Program, Segment
from unetkit.nets.spec import NetSpec
from unetkit.nets.topology import program
from unetkit.nets.weights import initialise

AXES = "ZYX"


class UNet(nn.Module):
    """A U-Net: images (B, in_channels, *space) in, logits (B, classes, *space) out, for images of any size.

    `UNet(in_channels=3, classes=4)` is the textbook network; `like` is a `NetSpec` or the name of a preset whose form
    it takes. Weights are drawn from `seed` (a number or a torch generator), never from torch's global state.

    An image whose size the network cannot take is made longer at the end of its axes (reflected where it is long
    enough, else the edge is repeated), and the logits are cropped again; with `strict` it is refused instead. With
    padding 'valid' the logits lack `geometry.margin` pixels on each side.

    With `net.checkpointing = True` training keeps less and computes the inside of each part twice (Chen 2016).

    In training mode with `spec.deep_supervision` the result is a list: the logits, then those of each coarser decoder
    level, finest first, each ⌈size / stride of the level⌉ large. In evaluation mode it is always the logits alone.

    Raises SpecError: unknown preset, impossible spec, an input of the wrong number of axes or channels, a size that
    leaves no output, or (strict) one that would have to be padded.
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 2,
        like: NetSpec | str = "unet",
        seed: int | torch.Generator = 0,
        strict: bool = False,
    ) -> None:
        super().__init__()
        base = preset(like).spec if isinstance(like, str) else like
        self.spec = base.replace({"in_channels": in_channels, "classes": classes})
        self.geometry = geometry(self.spec)
        self.strict = strict
        self.checkpointing = False
        self.install(program(self.spec))
        initialise(self, self.program, seed if isinstance(seed, torch.Generator) else torch_generator(seed, "weights"))

    def install(self, whole: Program) -> None:
        """Make the modules of a program, their weights not yet set. (For `fold_batch_norm`; else called once.)"""
        for name in [name for name, _ in self.named_children()]:
            delattr(self, name)
        self.program = whole
        in_place = whole.in_place()
        for layer in whole.layers:
            if layer.weights:
                continue  # it uses the module of an earlier layer
            part, name = layer.name.rsplit(".", 1)
            owner: nn.Module = self
            for step in part.split("."):
                if step not in owner._modules:
                    owner.add_module(step, nn.Module())
                owner = owner.get_submodule(step)
            owner.add_module(name, _made(layer, self.spec, layer.name in in_place))
        self._plans = {True: _schedule(whole), False: _schedule(whole.inference)}
        self._segments = whole.segments()

    def forward(self, image_BCX: Tensor) -> Tensor | list[Tensor]:
        """Logits (B, classes, *space); in training mode with deep supervision a list, finest first."""
        shape = tuple(image_BCX.shape[2:])
        image_BCX, fitted = self._fitted(image_BCX, shape)
        if self.training and self.checkpointing and torch.is_grad_enabled():
            values = self._run_again_later(image_BCX)
        else:
            values = self._run(self._plans[self.training].steps, {INPUT: image_BCX})
        results = [self._crop(values[name], shape, fitted) for name in self._plans[self.training].outputs]
        return results[0] if len(results) == 1 else results

    @torch.no_grad()
    def features(self, image_BCX: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """The values of some layers, in evaluation mode, by name, such as "skip0.gate1" (an attention gate's map).

        (B, channels, *space of the level), of the image padded to a size that the network takes. Raises SpecError: a
        name of none of the network's layers.
        """
        known = [layer.name for layer in self.program.layers]
        for name in names:
            if name not in known:
                raise SpecError(f"this network has no layer '{name}'{nearest(name, known)}")
        training = self.training
        self.eval()
        try:
            image_BCX, _ = self._fitted(image_BCX, tuple(image_BCX.shape[2:]))
            # what in-place activations overwrite is copied first
            kept: dict[str, Tensor] = {}
            values = {INPUT: image_BCX}
            for layer in self.program.needed(list(names)).layers:
                values[layer.name] = self.get_submodule(layer.module)(*[values[i] for i in layer.inputs])
                if layer.name in names:
                    kept[layer.name] = values[layer.name].clone()
            return kept
        finally:
            self.train(training)

    def _run(self, steps: Sequence[_Step], values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run layers; values that are no longer read are let go."""
        for step in steps:
            values[step.name] = self.get_submodule(step.module)(*[values[name] for name in step.inputs])
            for gone in step.spent:
                del values[gone]
        return values

    def _run_again_later(self, image_BCX: Tensor) -> dict[str, Tensor]:
        """The whole program, part by part; of each part only what others read is kept, and the rest is computed again
        when the backward pass comes to it."""
        values = {INPUT: image_BCX}
        for segment in self._segments:
            steps = _steps(segment.layers, segment.spent)

            def part(*inputs: Tensor, segment: Segment = segment, steps: Sequence[_Step] = steps) -> tuple[Tensor, ...]:
                made = self._run(steps, dict(zip(segment.reads, inputs, strict=True)))
                return tuple(made[name] for name in segment.gives)

            inputs = [values[name] for name in segment.reads]
            results = checkpoint(part, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), self._again()))
            values.update(zip(segment.gives, results, strict=True))
        return values

    @contextmanager
    def _again(self) -> Iterator[None]:
        """While a part is computed a second time, batch norms must not count the batch a second time."""
        norms = [m for m in self.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        counted = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
            norm.num_batches_tracked = None
        try:
            yield
        finally:
            for norm, momentum, batches in counted:
                norm.momentum = momentum
                norm.num_batches_tracked = batches

    def _fitted(self, image_BCX: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
        """The image, padded at the end of its axes to a size that the network takes, and that size."""
        fitted = self._fit(image_BCX, shape)
        if fitted != shape:
            image_BCX = pad_end(image_BCX, [f - n for f, n in zip(fitted, shape, strict=True)])
        return image_BCX, fitted

    def _fit(self, image_BCX: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The size to pad to. Raises SpecError for an input that this network does not take."""
        spec, facts = self.spec, self.geometry
        axes = ", ".join(["batch", "channels", *AXES[-spec.ndim :]])
        if image_BCX.ndim != spec.ndim + 2:
            raise SpecError(
                f"the network takes tensors of {spec.ndim + 2} axes ({axes}), the input has {image_BCX.ndim}: "
                f"{tuple(image_BCX.shape)}"
            )
        if image_BCX.shape[1] != spec.in_channels:
            raise SpecError(
                f"the network takes {spec.in_channels} channel{'s' * (spec.in_channels > 1)}, "
                f"the input has {image_BCX.shape[1]}: {tuple(image_BCX.shape)} ({axes})"
            )
        facts.output_shape(shape)
        fitted = facts.fit(shape)
        if self.strict and fitted != shape:
            raise SpecError(
                f"an input of {format_shape(shape)} does not fit this network, whose sizes are "
                f"{format_shape(facts.smallest)} plus multiples of {' × '.join(map(str, facts.divisor))}; "
                f"{format_shape(fitted)} would work, or build the network without strict to have it padded"
            )
        return fitted

    def _crop(self, logits_BKX: Tensor, shape: Sequence[int], fitted: Sequence[int]) -> Tensor:
        """Without what padding added: the same fraction, rounded up, of coarse logits."""
        margin = self.geometry.margin
        for axis, (n, f, m) in enumerate(zip(shape, fitted, margin, strict=True)):
            if n != f:
                size = logits_BKX.shape[axis + 2]
                logits_BKX = logits_BKX.narrow(axis + 2, 0, -(-(n - 2 * m) * size // (f - 2 * m)))
        return logits_BKX


@dataclass(frozen=True)
class _Step:
    """One layer as the executor sees it: its module, what it reads, and whom nobody reads after it."""

    name: str
    module: str
    inputs: tuple[str, ...]
    spent: tuple[str, ...]


@dataclass(frozen=True)
class _Plan:
    steps: tuple[_Step, ...]
    outputs: tuple[str, ...]


def _schedule(whole: Program) -> _Plan:
    return _Plan(_steps(whole.layers, whole.spent()), whole.outputs)


def _steps(layers: Sequence[Layer], spent: Sequence[tuple[str, ...]]) -> tuple[_Step, ...]:
    return tuple(_Step(n.name, n.module, n.inputs, gone) for n, gone in zip(layers, spent, strict=True))


def _made(layer: Layer, spec: NetSpec, in_place: bool) -> nn.Module:
    """The torch module of a layer; its weights are not yet set, unless it is the user's own."""
    if layer.kind == "module":
        with torch.random.fork_rng():  # it may draw
            return MAKERS[layer.kind](layer, spec, in_place)
    device = torch.get_default_device()
    with torch.device("meta"):  # no memory, and no draw from torch's global generator
        module = MAKERS[layer.kind](layer, spec, in_place)
    return module.to_empty(device=device)


def build(spec: NetSpec, seed: int | torch.Generator = 0, strict: bool = False) -> UNet:
    """The network of a spec, its weights drawn from `seed`. Raises SpecError as `UNet`."""
    return UNet(spec.in_channels, spec.classes, spec, seed, strict)


def centred(label_BX: Tensor, shape: Sequence[int]) -> Tensor:
    """The middle part of a label (B, *space) that logits of `shape` (*space) speak of: valid convolutions give fewer
    pixels than they take. With equal shapes it is the label itself."""
    for axis, n in enumerate(shape, start=1):
        label_BX = label_BX.narrow(axis, (label_BX.shape[axis] - n) // 2, n)
    return label_BX
