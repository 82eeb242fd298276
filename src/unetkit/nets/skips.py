"""Skips: how what the encoder kept meets what comes from below.

Each takes (writer, kept value, value from below at the same level, the same before it went up, stride between the two).
With valid convolutions what was kept is larger, and is cropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unetkit.nets.program import Value, Writer

Skip = Callable[[Writer, Value, Value, Value, Sequence[int]], Value]


def concat(w: Writer, kept: Value, below: Value, coarse: Value, stride: Sequence[int]) -> Value:  # noqa: ARG001 - one signature
    """Side by side, the encoder's channels first (Ronneberger 2015)."""
    return w.concat(w.crop(kept, like=below), below)


def add(w: Writer, kept: Value, below: Value, coarse: Value, stride: Sequence[int]) -> Value:  # noqa: ARG001 - one signature
    """The sum; a 1×1 convolution brings what was kept to the width of what comes from below, where they differ."""
    return w.add(_matched(w, w.crop(kept, like=below), below), below)


def attention(w: Writer, kept: Value, below: Value, coarse: Value, stride: Sequence[int]) -> Value:
    """What was kept, weighted by an additive gate, beside what comes from below (Oktay 2018, equations 1 and 2).

    The gating signal is the coarser level's: what was kept is brought to its grid by a strided convolution, the gate is
    computed there and interpolated back. The map of weights in 0 … 1 is the value `….gate1`.
    """
    kept = w.crop(kept, like=below)
    inner = max(1, kept.channels // 2)
    theta = w.conv(kept, inner, stride, stride=stride, pad=0, bias=False)
    phi = w.conv(w.crop(coarse, like=theta), inner, 1, bias=True)  # going up may have taken a border away
    psi = w.conv(w.activate(w.add(theta, phi), "relu"), 1, 1, bias=True)
    gate = w.enlarge("linear", w.sigmoid(psi, "gate"), stride)
    return w.concat(w.multiply(kept, gate), below)


def attention_up(w: Writer, kept: Value, below: Value, coarse: Value, stride: Sequence[int]) -> Value:  # noqa: ARG001 - one signature
    """The common form of the attention gate: the gating signal is what comes from below, at the size of what was kept,
    with norms inside. The map of weights in 0 … 1 is the value `….gate1`."""
    kept = w.crop(kept, like=below)
    inner = max(1, kept.channels // 2)
    g = w.norm(w.conv(below, inner, 1, bias=True))
    x = w.norm(w.conv(kept, inner, 1, bias=True))
    psi = w.norm(w.conv(w.activate(w.add(g, x), "relu"), 1, 1, bias=True))
    return w.concat(w.multiply(kept, w.sigmoid(psi, "gate")), below)


def fusion(w: Writer, kept: Value, below: Value, coarse: Value, stride: Sequence[int]) -> Value:  # noqa: ARG001 - one signature
    """A mean of the two with learned weights, of every level its own, that are positive and sum to one (softmax; as
    Tan 2020, section 3.2, fuses features of several levels)."""
    return w.fuse(_matched(w, w.crop(kept, like=below), below), below)


def none(w: Writer, kept: Value, below: Value, coarse: Value, stride: Sequence[int]) -> Value:  # noqa: ARG001 - one signature
    """Only what comes from below: an encoder-decoder without skips."""
    return below


def _matched(w: Writer, x: Value, like: Value) -> Value:
    return x if x.channels == like.channels else w.conv(x, like.channels, 1, bias=True)


SKIPS: dict[str, Skip] = {
    "concat": concat,
    "add": add,
    "attention": attention,
    "attention-up": attention_up,
    "fusion": fusion,
    "none": none,
}
