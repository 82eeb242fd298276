"""Bottlenecks: what follows the block of the coarsest level. Each takes (writer, value, kernel) and keeps the width."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unetkit.nets.program import Value, Writer

Bottleneck = Callable[[Writer, Value, Sequence[int]], Value]

RATES = (1, 2, 4)
# Width of one head of attention (Vaswani 2017), and points of the grid of positions along an axis (ViT-B/16 on 224²).
HEAD_WIDTH, GRID = 64, 14


def convolution(w: Writer, x: Value, kernel: Sequence[int]) -> Value:  # noqa: ARG001 - one signature
    """Nothing more: the block of the coarsest level is the bottleneck (Ronneberger 2015)."""
    return x


def pyramid(w: Writer, x: Value, kernel: Sequence[int]) -> Value:
    """Convolutions of growing dilation side by side, and a 1×1 convolution over all (atrous pyramid, Chen 2017, figure
    5; without its pooling of the whole image, so that the network stays local)."""
    branches: list[Value] = []
    for rate in reversed(RATES):
        y = w.activate(w.norm(w.conv(x, x.channels, kernel, dilation=rate)))
        branches.insert(0, w.crop(y, like=branches[-1]) if branches else y)
    narrow = w.crop(w.unit(x, x.channels, 1), like=branches[-1])
    return w.unit(w.concat(narrow, *branches), x.channels, 1)


def transformer(w: Writer, x: Value, kernel: Sequence[int]) -> Value:  # noqa: ARG001 - one signature
    """Pixels of the coarsest level as tokens: positions added, then layers of attention and of two 1×1 convolutions of
    four times the width, each behind a norm and around an identity (Dosovitskiy 2021, section 3.1; in a U-Net Chen
    2021). Positions are learned on a grid and interpolated to the map, so that any size will do."""
    heads = next(n for n in range(max(1, x.channels // HEAD_WIDTH), 0, -1) if x.channels % n == 0)
    x = w.positions(x, GRID if w.spec.ndim < 3 else GRID // 2)
    for _ in range(w.spec.bottleneck_layers):
        qkv = w.conv(w.norm(x, "layer"), 3 * x.channels, 1, bias=True)
        x = w.add(x, w.conv(w.attention(qkv, heads), x.channels, 1, bias=True))
        inner = w.activate(w.conv(w.norm(x, "layer"), 4 * x.channels, 1, bias=True), "gelu")
        x = w.add(x, w.conv(w.drop("convolutions", inner), x.channels, 1, bias=True))
    return w.norm(x, "layer")


BOTTLENECKS: dict[str, Bottleneck] = {"convolution": convolution, "pyramid": pyramid, "transformer": transformer}
