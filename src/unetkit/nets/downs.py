"""Downs: from one level to the next coarser one. Each takes (writer, value, stride) and keeps the width."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unetkit.nets.program import Value, Writer

Down = Callable[[Writer, Value, Sequence[int]], Value]


def max_pool(w: Writer, x: Value, stride: Sequence[int]) -> Value:
    """Maximum over boxes (Ronneberger 2015)."""
    return w.pool("max", x, stride)


def average_pool(w: Writer, x: Value, stride: Sequence[int]) -> Value:
    """Mean over boxes."""
    return w.pool("average", x, stride)


def strided(w: Writer, x: Value, stride: Sequence[int]) -> Value:
    """Convolution whose kernel is its stride, norm, activation (Milletari 2016)."""
    return w.activate(w.norm(w.conv(x, x.channels, stride, stride=stride, pad=0)))


DOWNS: dict[str, Down] = {"max": max_pool, "average": average_pool, "strided": strided}
