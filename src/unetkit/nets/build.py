"""NetSpec → torch module. One executor runs the program of the spec; it knows no variant by name."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unetkit.core.errors import SpecError
from unetkit.core.rng import torch_generator
from unetkit.nets.geometry import format_shape, geometry
from unetkit.nets.ops import MAKERS, pad_end
from unetkit.nets.presets import preset
from unetkit.nets.program import INPUT, Program
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
        self.install(program(self.spec))
        initialise(self, seed if isinstance(seed, torch.Generator) else torch_generator(seed, "weights"))

    def install(self, whole: Program) -> None:
        """Make the modules of a program, their weights not yet set. (For `fold_batch_norm`; else called once.)"""
        for name in [name for name, _ in self.named_children()]:
            delattr(self, name)
        self.program = whole
        in_place = whole.in_place()
        device = torch.get_default_device()
        with torch.device("meta"):  # no memory, and no draw from torch's global generator
            for layer in whole.layers:
                part, name = layer.name.rsplit(".", 1)
                if part not in self._modules:
                    self.add_module(part, nn.Module())
                self.get_submodule(part).add_module(name, MAKERS[layer.kind](layer, self.spec, layer.name in in_place))
        self.to_empty(device=device)
        self._plans = {True: _schedule(whole), False: _schedule(whole.inference)}

    def forward(self, image_BCX: Tensor) -> Tensor | list[Tensor]:
        """Logits (B, classes, *space); in training mode with deep supervision a list, finest first."""
        shape = tuple(image_BCX.shape[2:])
        fitted = self._fit(image_BCX, shape)
        if fitted != shape:
            image_BCX = pad_end(image_BCX, [f - n for f, n in zip(fitted, shape, strict=True)])
        steps, outputs = self._plans[self.training]
        values = {INPUT: image_BCX}
        for name, inputs, spent in steps:
            values[name] = self.get_submodule(name)(*[values[i] for i in inputs])
            for gone in spent:
                del values[gone]
        results = [self._crop(values[name], shape, fitted) for name in outputs]
        return results[0] if len(results) == 1 else results

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


def _schedule(whole: Program) -> tuple[list[tuple[str, tuple[str, ...], tuple[str, ...]]], tuple[str, ...]]:
    steps = [(layer.name, layer.inputs, spent) for layer, spent in zip(whole.layers, whole.spent(), strict=True)]
    return steps, whole.outputs


def build(spec: NetSpec, seed: int | torch.Generator = 0, strict: bool = False) -> UNet:
    """The network of a spec, its weights drawn from `seed`. Raises SpecError as `UNet`."""
    return UNet(spec.in_channels, spec.classes, spec, seed, strict)


def centred(label_BX: Tensor, shape: Sequence[int]) -> Tensor:
    """The middle part of a label (B, *space) that logits of `shape` (*space) speak of: valid convolutions give fewer
    pixels than they take. With equal shapes it is the label itself."""
    for axis, n in enumerate(shape, start=1):
        label_BX = label_BX.narrow(axis, (label_BX.shape[axis] - n) // 2, n)
    return label_BX
