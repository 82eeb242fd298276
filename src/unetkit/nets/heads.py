"""The two ends of the network: the stem before the first level, and the heads that make logits."""

from __future__ import annotations

from collections.abc import Callable

from unetkit.nets.program import Value, Writer

Head = Callable[[Writer, Value, int], Value]


def stem(w: Writer) -> Value:
    """The input, embedded where it is integers; with a stem stride s, reduced by a convolution of kernel s + 2
    (neighbours overlap by a pixel); with a stem width, convolved once before the first level."""
    spec, x = w.spec, w.input()
    width = spec.stem or spec.channels[0]
    if spec.vocabulary:
        x = w.embed(x, width)
    if spec.stem_stride > 1:
        return w.activate(w.norm(w.conv(x, width, spec.stem_stride + 2, stride=spec.stem_stride, pad=1)))
    return w.activate(w.norm(w.conv(x, width, spec.kernel(0)))) if spec.stem else x


def point(w: Writer, x: Value, channels: int) -> Value:
    """A 1×1 convolution (Ronneberger 2015)."""
    return w.conv(x, channels, 1, bias=True)


def conv(w: Writer, x: Value, channels: int) -> Value:
    """A convolution with the kernel of the finest level (Huang 2020)."""
    return w.conv(x, channels, w.spec.kernel(0), bias=True)


def block(w: Writer, x: Value, channels: int) -> Value:
    """Convolution with the kernel of the finest level, norm, activation, 1×1 convolution: as implementations of V-Net
    have it."""
    return w.conv(w.unit(x, channels, w.spec.kernel(0)), channels, 1, bias=True)


HEADS: dict[str, Head] = {"point": point, "conv": conv, "block": block}


def full(w: Writer, head: Head, x: Value) -> Value:
    """Logits at the size of the input; behind a stem stride always a 3×3 convolution and a pixel shuffle."""
    s = w.spec.stem_stride
    if s == 1:
        return head(w, x, w.spec.classes)
    boxes = s**w.spec.ndim
    return w.shuffle(w.conv(x, w.spec.classes * boxes, 3, bias=True), (s,) * w.spec.ndim)
