"""Downs: from one level to the next coarser one. Each takes (writer, value, width of the coarser level, stride).

Most keep the width, which the block below changes. Down 'block' has no function here: the block itself has the stride.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unetkit.nets.program import Value, Writer

Down = Callable[[Writer, Value, int, Sequence[int]], Value]


def max_pool(w: Writer, x: Value, channels: int, stride: Sequence[int]) -> Value:  # noqa: ARG001 - one signature
    """Maximum over boxes (Ronneberger 2015)."""
    return w.pool("max", x, stride)


def average_pool(w: Writer, x: Value, channels: int, stride: Sequence[int]) -> Value:  # noqa: ARG001 - one signature
    """Mean over boxes."""
    return w.pool("average", x, stride)


def strided(w: Writer, x: Value, channels: int, stride: Sequence[int]) -> Value:
    """Convolution to the width of the coarser level, its kernel its stride; norm, activation (Milletari 2016)."""
    return w.activate(w.norm(w.conv(x, channels, stride, stride=stride, pad=0)))


def blur(w: Writer, x: Value, channels: int, stride: Sequence[int]) -> Value:  # noqa: ARG001 - one signature
    """A binomial low-pass, then every stride-th pixel: against aliasing (Zhang 2019, section 3)."""
    return w.blur(x, stride)


def transition(w: Writer, x: Value, channels: int, stride: Sequence[int]) -> Value:  # noqa: ARG001 - one signature
    """Norm, activation, 1×1 convolution, dropout, maximum over boxes: "transition down" (Jégou 2017, table 1)."""
    y = w.conv(w.activate(w.norm(x)), x.channels, 1)
    return w.pool("max", w.drop("convolutions", y), stride)


DOWNS: dict[str, Down] = {
    "max": max_pool,
    "average": average_pool,
    "strided": strided,
    "blur": blur,
    "transition": transition,
}
