"""A network made ready for inference: batch norm folded away, on its device, in the layout and precision chosen.

Precision: in "bf16" the weights and feature maps are bfloat16 (8 bits of precision; sums inside a convolution are kept
in float32 by the hardware), the head runs in float32. Labels differ from float32 only where two classes nearly tie.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from unetkit.nets.build import UNet
from unetkit.nets.geometry import shapes
from unetkit.nets.reduced import fold_batch_norm
from unetkit.predict.options import PredictOptions

Precision = Literal["fp32", "bf16"]

_TRIAL = {1: 65536, 2: 256, 3: 48}  # pixels a side of the tile whose heaviest convolution is timed, by axes
_CHANNELS_LAST = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d}
_ROUNDS, _PATIENCE = 40, 0.5  # passes of each at most; seconds after which no further one is begun
_GAIN = 1.15  # bf16 must be faster by this factor to be worth its rounding


class Lowered(nn.Module):
    """A frozen copy of a network. Takes and gives float32, whatever it computes in."""

    def __init__(self, net: UNet, precision: Precision, channels_last: bool, device: torch.device) -> None:
        super().__init__()
        self.net = fold_batch_norm(net).eval().requires_grad_(False).to(device)
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.format = _CHANNELS_LAST[net.spec.ndim] if channels_last else torch.contiguous_format
        self.layout = "contiguous" if self.format == torch.contiguous_format else "channels_last"
        self.net.to(self.dtype)
        self.net.to(memory_format=self.format)  # type: ignore[call-overload]  # torch takes it, its stubs do not say so
        # bfloat16 cannot hold integers above 256
        self.taken = torch.float32 if net.spec.vocabulary else self.dtype
        if precision == "bf16" and (head := _head(self.net)) is not None:
            self.net.get_submodule(head).float().register_forward_pre_hook(_to_float32)

    def forward(self, image_BCX: torch.Tensor) -> torch.Tensor:
        """Images (B, channels, *space), float32 → logits (B, classes, *space), float32."""
        logits: torch.Tensor = self.net(image_BCX.to(dtype=self.taken, memory_format=self.format))
        return logits.float()


def lower(net: UNet, precision: Precision, layout: str, device: torch.device) -> Lowered:
    """The network ready to run; the one that is given stays as it is. `layout` "auto" is channels_last (in eager mode
    faster on a CPU, for images about twice, and what tensor cores take); signals have but one layout."""
    return Lowered(net, precision, layout != "contiguous", device)


def ready(net: UNet, options: PredictOptions, device: torch.device) -> tuple[Lowered, Precision, str]:
    """The network ready to run, its precision, and why: as asked, or the faster in a trial on this machine."""
    if options.precision != "auto":
        return (
            lower(net, options.precision, options.layout, device),
            options.precision,
            "as asked, or as the run was trained",
        )
    if device.type == "mps":
        return lower(net, "fp32", options.layout, device), "fp32", "bf16 is not tried on this device"
    both: dict[Precision, Lowered] = {p: lower(net, p, options.layout, device) for p in ("fp32", "bf16")}
    seconds = _race(both, device)
    chosen: Precision = "bf16" if seconds["fp32"] >= _GAIN * seconds["bf16"] else "fp32"
    shown = (
        f"its heaviest convolution takes {seconds['fp32'] * 1e3:.1f} ms in fp32, {seconds['bf16'] * 1e3:.1f} ms in bf16"
    )
    return both[chosen], chosen, shown


def ready_all(
    nets: Sequence[UNet], options: PredictOptions, device: torch.device
) -> tuple[tuple[Lowered, ...], Precision, str]:
    """Networks of one spec, as `ready` makes the first of them ready: what is fastest for one is so for all."""
    first, precision, why = ready(nets[0], options, device)
    return (first, *(lower(net, precision, options.layout, device) for net in nets[1:])), precision, why


def _race(ready: dict[Precision, Lowered], device: torch.device) -> dict[Precision, float]:
    """Seconds of the heaviest convolution of each, in the fastest of several passes taken by turns.

    One layer, because on a machine with other work to do a whole network's time is that of its threads waiting for
    each other at every layer; in one short layer some pass goes through undisturbed.
    """
    best = dict.fromkeys(ready, float("inf"))
    with torch.inference_mode():
        trials = {precision: _heaviest(lowered) for precision, lowered in ready.items()}
        begin = time.perf_counter()
        for number in range(_ROUNDS):
            if number > 2 and time.perf_counter() - begin > _PATIENCE:
                break
            for precision, (layer, input_BCX) in trials.items():
                start = time.perf_counter()
                layer(input_BCX)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                best[precision] = min(best[precision], time.perf_counter() - start)
    return best


def _heaviest(lowered: Lowered) -> tuple[nn.Module, torch.Tensor]:
    """The convolution with the most multiplications (else a module of the user's own), and an input for it of the size
    that it has in a small tile."""
    net = lowered.net
    program, facts = net.program, net.geometry
    size = shapes(program, facts.fit((_TRIAL[net.spec.ndim],) * net.spec.ndim))
    layers = [layer for layer in program.layers if layer.kind in ("conv", "strided_conv")]
    layers = layers or [layer for layer in program.layers if layer.kind == "module"]
    layer = max(layers, key=lambda c: math.prod((*size[c.name], *c.kernel, c.in_channels, c.channels)))
    module = net.get_submodule(layer.name)
    like = next(module.parameters())
    input_BCX = torch.ones((1, layer.in_channels, *size[layer.inputs[0]]), dtype=like.dtype, device=like.device)
    return module, input_BCX.to(memory_format=lowered.format)


def _head(net: UNet) -> str | None:
    """The name of the convolution that makes the logits; None where code of the user's own makes them."""
    layers = {layer.name: layer for layer in net.program.layers}
    layer = layers[net.program.outputs[0]]
    while layer.kind not in ("conv", "module"):
        layer = layers[layer.inputs[0]]
    return layer.name if layer.kind == "conv" else None


def _to_float32(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x.float() for x in inputs)
