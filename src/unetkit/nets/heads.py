"""The two ends of the network: the stem before the first level, and the heads that make logits."""

from __future__ import annotations

from unetkit.nets.program import Value, Writer


def stem(w: Writer) -> Value:
    """The input; with a stem stride s, reduced by a convolution of kernel s + 2 (neighbours overlap by a pixel)."""
    x, s = w.input(), w.spec.stem_stride
    if s == 1:
        return x
    return w.activate(w.norm(w.conv(x, w.spec.channels[0], s + 2, stride=s, pad=1)))


def head(w: Writer, x: Value) -> Value:
    """Logits at the size of the input: a 1×1 convolution; behind a stem, a 3×3 convolution and a pixel shuffle."""
    s = w.spec.stem_stride
    if s == 1:
        return w.conv(x, w.spec.classes, 1, bias=True)
    boxes = s**w.spec.ndim
    return w.shuffle(w.conv(x, w.spec.classes * boxes, 3, bias=True), (s,) * w.spec.ndim)


def coarse_head(w: Writer, x: Value) -> Value:
    """Logits at the size of a coarser level, for deep supervision: a 1×1 convolution."""
    return w.conv(x, w.spec.classes, 1, bias=True)
