"""Ups: from one level to the next finer one. Each takes (writer, value, width of the finer level, stride)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from unetkit.nets.program import Value, Writer

Up = Callable[[Writer, Value, int, Sequence[int]], Value]


def transposed(w: Writer, x: Value, channels: int, stride: Sequence[int]) -> Value:
    """Transposed convolution, kernel = stride: the "up-convolution" of Ronneberger 2015."""
    return w.transposed(x, channels, stride)


def linear(w: Writer, x: Value, channels: int, stride: Sequence[int]) -> Value:
    """1×1 convolution, then linear interpolation. The two commute, and this order is the cheaper one."""
    return w.enlarge("linear", w.conv(x, channels, 1, bias=True), stride)


def nearest(w: Writer, x: Value, channels: int, stride: Sequence[int]) -> Value:
    """1×1 convolution, then every pixel becomes a box."""
    return w.enlarge("nearest", w.conv(x, channels, 1, bias=True), stride)


def shuffle(w: Writer, x: Value, channels: int, stride: Sequence[int]) -> Value:
    """Sub-pixel convolution: 3×3 convolution to a channel per pixel of the box, then pixel shuffle (Shi 2016)."""
    return w.shuffle(w.conv(x, channels * prod(stride), 3, bias=True), stride)


UPS: dict[str, Up] = {"transposed": transposed, "linear": linear, "nearest": nearest, "shuffle": shuffle}
