"""Blocks: what happens inside one level. Each takes (writer, value, width, kernel, number of convolutions)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unetkit.nets.program import Value, Writer

Block = Callable[[Writer, Value, int, Sequence[int], int], Value]


def plain(w: Writer, x: Value, channels: int, kernel: Sequence[int], count: int) -> Value:
    """Convolution, norm, activation, `count` times (Ronneberger 2015; norm as in Çiçek 2016)."""
    for _ in range(count):
        x = w.unit(x, channels, kernel)
    return x


def residual(w: Writer, x: Value, channels: int, kernel: Sequence[int], count: int) -> Value:
    """The plain block around an identity, activation after the sum (He 2016, basic block)."""
    y = x
    for _ in range(count - 1):
        y = w.unit(y, channels, kernel)
    y = w.norm(w.conv(y, channels, kernel))
    x = w.crop(x, like=y)
    if x.channels != channels:
        x = w.conv(x, channels, 1, bias=False)
    return w.activate(w.add(y, x))


BLOCKS: dict[str, Block] = {"plain": plain, "residual": residual}
