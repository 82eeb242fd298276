"""Ups: from one level to the next finer one.

Each takes (writer, value, width to have, stride, what the encoder kept at the finer level).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from unetkit.nets.program import Value, Writer

Up = Callable[[Writer, Value, int, Sequence[int], Value], Value]


def transposed(w: Writer, x: Value, channels: int, stride: Sequence[int], kept: Value) -> Value:  # noqa: ARG001 - one signature
    """Transposed convolution, kernel = stride: the "up-convolution" of Ronneberger 2015."""
    return w.transposed(x, channels, stride)


def transposed_unit(w: Writer, x: Value, channels: int, stride: Sequence[int], kept: Value) -> Value:
    """The same, with norm and activation (Milletari 2016)."""
    return w.activate(w.norm(transposed(w, x, channels, stride, kept)))


def overlapping(w: Writer, x: Value, channels: int, stride: Sequence[int], kept: Value) -> Value:  # noqa: ARG001 - one signature
    """Transposed convolution whose kernel is larger than its stride: 3 at stride 2 (Jégou 2017, table 1)."""
    return w.transposed(x, channels, stride, overlap=True)


def overlapping_unit(w: Writer, x: Value, channels: int, stride: Sequence[int], kept: Value) -> Value:
    """The same, with norm and activation."""
    return w.activate(w.norm(overlapping(w, x, channels, stride, kept)))


def linear(w: Writer, x: Value, channels: int, stride: Sequence[int], kept: Value) -> Value:  # noqa: ARG001 - one signature
    """1×1 convolution, then linear interpolation. The two commute, and this order is the cheaper one."""
    return w.enlarge("linear", w.conv(x, channels, 1, bias=True), stride)


def nearest(w: Writer, x: Value, channels: int, stride: Sequence[int], kept: Value) -> Value:  # noqa: ARG001 - one signature
    """1×1 convolution, then every pixel becomes a box."""
    return w.enlarge("nearest", w.conv(x, channels, 1, bias=True), stride)


def interpolate(w: Writer, x: Value, channels: int, stride: Sequence[int], kept: Value) -> Value:  # noqa: ARG001 - one signature
    """Linear interpolation alone: the width stays, and the block after it changes it (Zhang 2018)."""
    return w.enlarge("linear", x, stride)


def corners(w: Writer, x: Value, channels: int, stride: Sequence[int], kept: Value) -> Value:  # noqa: ARG001 - one signature
    """Linear interpolation alone, corners aligned (as common tutorials have it): it depends on the size of the map."""
    return w.enlarge("corners", x, stride)


def shuffle(w: Writer, x: Value, channels: int, stride: Sequence[int], kept: Value) -> Value:  # noqa: ARG001 - one signature
    """Sub-pixel convolution: 3×3 convolution to a channel per pixel of the box, then pixel shuffle (Shi 2016)."""
    return w.shuffle(w.conv(x, channels * prod(stride), 3, bias=True), stride)


def unpool(w: Writer, x: Value, channels: int, stride: Sequence[int], kept: Value) -> Value:  # noqa: ARG001 - one signature
    """To where max pooling took its values (Badrinarayanan 2017, figure 3); a 1×1 convolution before, where the width
    differs from what was pooled."""
    if x.channels != kept.channels:
        x = w.conv(x, kept.channels, 1, bias=True)
    return w.unpool(x, kept, stride)


UPS: dict[str, Up] = {
    "transposed": transposed,
    "transposed-unit": transposed_unit,
    "overlapping": overlapping,
    "overlapping-unit": overlapping_unit,
    "linear": linear,
    "nearest": nearest,
    "interpolate": interpolate,
    "corners": corners,
    "shuffle": shuffle,
    "unpool": unpool,
}
