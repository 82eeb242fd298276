"""Blocks: what happens inside one level.

Each takes (writer, value, width, kernel, how often its unit repeats, stride). The stride is that of the first
convolution; it is more than 1 only where the spec goes down inside the block (down 'block').
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unetkit.nets.program import INPUT, Value, Writer

Block = Callable[[Writer, Value, int, Sequence[int], int, Sequence[int]], Value]


def plain(w: Writer, x: Value, channels: int, kernel: Sequence[int], count: int, stride: Sequence[int]) -> Value:
    """Convolution, norm, activation, `count` times (Ronneberger 2015; norm as in Çiçek 2016)."""
    for i in range(count):
        x = w.unit(x, channels, kernel, stride if i == 0 else 1)
    return x


def tapered(w: Writer, x: Value, channels: int, kernel: Sequence[int], count: int, stride: Sequence[int]) -> Value:
    """The plain block; where it narrows, all but its last convolution have half the width of its input, if that is more
    than the result's. What common tutorials do behind interpolation that keeps the width."""
    for i in range(count):
        width = channels if i == count - 1 else max(channels, x.channels // 2)
        x = w.unit(x, width, kernel, stride if i == 0 else 1)
    return x


def doubling(w: Writer, x: Value, channels: int, kernel: Sequence[int], count: int, stride: Sequence[int]) -> Value:
    """The plain block, only its last convolution having the whole width, those before it half: the width is doubled
    before pooling, against bottlenecks (Çiçek 2016, section 2)."""
    for i in range(count):
        width = channels if i == count - 1 else max(1, channels // 2)
        x = w.unit(x, width, kernel, stride if i == 0 else 1)
    return x


def residual(w: Writer, x: Value, channels: int, kernel: Sequence[int], count: int, stride: Sequence[int]) -> Value:
    """The plain block around an identity (a 1×1 projection where the width changes), activation after the sum (He 2016,
    basic block)."""
    y = x
    for i in range(count - 1):
        y = w.unit(y, channels, kernel, stride if i == 0 else 1)
    y = w.norm(w.conv(y, channels, kernel, stride=stride if count == 1 else 1))
    x = w.crop(w.pool("average", x, stride), like=y)
    if x.channels != channels:
        x = w.conv(x, channels, 1, bias=False)
    return w.activate(w.add(y, x))


def preactivation(
    w: Writer, x: Value, channels: int, kernel: Sequence[int], count: int, stride: Sequence[int]
) -> Value:
    """Units of norm, activation, convolution, twice, around an identity that has no weights (He 2016b; Zhang 2018,
    figure 1b): where the width changes, it is repeated, or the mean of groups of channels. Nothing is normalised in
    front of the network's very first convolution (Zhang 2018, table 1)."""
    for i in range(count):
        at = stride if i == 0 else w.ones
        y = x if x.name == INPUT else w.activate(w.norm(x))
        y = w.conv(y, channels, kernel, stride=at)
        y = w.conv(w.drop("convolutions", w.activate(w.norm(y))), channels, kernel)
        x = w.add(y, w.repeat(w.crop(w.pool("average", x, at), like=y), channels))
    return x


def basic(w: Writer, x: Value, channels: int, kernel: Sequence[int], count: int, stride: Sequence[int]) -> Value:
    """Residual units of two convolutions; where they change size or width, the shortcut is a mean over boxes and a 1×1
    convolution with norm (He 2019, ResNet-D; nnU-Net's residual encoder)."""
    for i in range(count):
        at = stride if i == 0 else w.ones
        y = w.unit(x, channels, kernel, at)
        y = w.norm(w.conv(y, channels, kernel))
        x = w.activate(w.add(y, _shortcut(w, x, y, at)))
    return x


def bottleneck(w: Writer, x: Value, channels: int, kernel: Sequence[int], count: int, stride: Sequence[int]) -> Value:
    """Residual units that narrow to a quarter, convolve, and widen again (He 2016, figure 5)."""
    for i in range(count):
        at, narrow = stride if i == 0 else w.ones, max(1, channels // 4)
        y = w.unit(w.unit(x, narrow, 1), narrow, kernel, at)
        y = w.norm(w.conv(y, channels, 1))
        x = w.activate(w.add(y, _shortcut(w, x, y, at)))
    return x


def squeeze_excite(
    w: Writer, x: Value, channels: int, kernel: Sequence[int], count: int, stride: Sequence[int]
) -> Value:
    """Residual units whose channels are weighted by what their means over the whole map say (Hu 2018, figure 3)."""
    for i in range(count):
        at = stride if i == 0 else w.ones
        y = w.norm(w.conv(w.unit(x, channels, kernel, at), channels, kernel))
        squeezed = w.activate(w.conv(w.mean(y), max(1, channels // 16), 1, bias=True), "relu")
        y = w.multiply(y, w.sigmoid(w.conv(squeezed, channels, 1, bias=True)))
        x = w.activate(w.add(y, _shortcut(w, x, y, at)))
    return x


def vnet(w: Writer, x: Value, channels: int, kernel: Sequence[int], count: int, stride: Sequence[int]) -> Value:
    """Convolution, norm, activation, `count` times, added to their input, and an activation after the sum (Milletari
    2016, figure 2). The image itself has too few channels: it is repeated."""
    y = plain(w, x, channels, kernel, count - 1, stride)
    # the first level has no activation between its convolution and the sum, as in the published network
    first = x.name == INPUT and count == 1
    y = w.norm(w.conv(y, channels, kernel, stride=stride if count == 1 else 1))
    y = y if first else w.activate(y)
    return w.activate(w.add(y, w.repeat(w.crop(w.pool("average", x, stride), like=y), channels)))


def dense(w: Writer, x: Value, channels: int, kernel: Sequence[int], count: int, stride: Sequence[int]) -> Value:
    """Norm, activation, convolution; each reads all that came before it (Huang 2017; Jégou 2017, figure 2).

    Where the width rises, the result is the input and the new maps; where it falls, the new maps alone (Jégou 2017,
    section 3.2, on the way up).
    """
    if any(n > 1 for n in stride):
        x = w.pool("max", x, stride)
    keeps = channels > x.channels
    total = channels - x.channels if keeps else channels
    new: list[Value] = []
    for i in range(count):
        growth = total // count + (i < total % count)
        if growth == 0:
            continue
        y = x if x.name == INPUT else w.activate(w.norm(x))
        y = w.drop("convolutions", w.conv(y, growth, kernel))
        new = [*(w.crop(value, like=y) for value in new), y]
        x = w.concat(w.crop(x, like=y), y)
    return x if keeps else w.concat(*new)


def recurrent(w: Writer, x: Value, channels: int, kernel: Sequence[int], count: int, stride: Sequence[int]) -> Value:
    """Recurrent convolutions (Alom 2018, equation 1): h ← f(w_f * x), then h ← f(w_f * x + w_r * h) as often as
    `recurrences` says, with the same weights and norm in every step."""
    for i in range(count):
        forward = w.conv(x, channels, kernel, stride=stride if i == 0 else 1, bias=True)
        norm = w.norm(forward)
        h = w.activate(norm)
        back: Value | None = None
        for _ in range(w.spec.recurrences):
            y = w.conv(h, channels, kernel, bias=False, like=back)
            back = back or y
            y = w.add(w.crop(forward, like=y), y)
            h = w.activate(w.norm(y, like=norm if w.spec.norm != "none" else None))
        x = w.drop("convolutions", h)
    return x


def recurrent_residual(
    w: Writer, x: Value, channels: int, kernel: Sequence[int], count: int, stride: Sequence[int]
) -> Value:
    """A 1×1 convolution to the width, then recurrent convolutions around an identity (Alom 2018, figure 4d)."""
    x = w.conv(w.pool("max", x, stride), channels, 1, bias=True)
    y = recurrent(w, x, channels, kernel, count, w.ones)
    return w.add(w.crop(x, like=y), y)


def convnext(w: Writer, x: Value, channels: int, kernel: Sequence[int], count: int, stride: Sequence[int]) -> Value:
    """Depthwise convolution, norm, 1×1 to four times the width, activation, 1×1 back, scaled, around an identity (Liu
    2022, figure 4). The paper's own norm and activation are norm 'layer', activation 'gelu', kernels 7."""
    if x.channels != channels or any(n > 1 for n in stride):
        x = w.norm(w.conv(x, channels, stride, stride=stride, pad=0, bias=True))
    for _ in range(count):
        y = w.norm(w.conv(x, channels, kernel, groups=channels, bias=True))
        y = w.activate(w.conv(y, 4 * channels, 1, bias=True))
        y = w.scale(w.conv(w.drop("convolutions", y), channels, 1, bias=True))
        x = w.add(w.crop(x, like=y), y)
    return x


def separable(w: Writer, x: Value, channels: int, kernel: Sequence[int], count: int, stride: Sequence[int]) -> Value:
    """The plain block, each convolution split into one per channel and one across channels (Howard 2017, figure 3)."""
    for i in range(count):
        y = w.activate(w.norm(w.conv(x, x.channels, kernel, groups=x.channels, stride=stride if i == 0 else 1)))
        x = w.unit(y, channels, 1)
    return x


def inception(w: Writer, x: Value, channels: int, kernel: Sequence[int], count: int, stride: Sequence[int]) -> Value:
    """Side by side a 1×1 convolution, one with the kernel, and two in a row (Szegedy 2016, figure 5): a quarter, a half
    and a quarter of the width."""
    x = w.pool("max", x, stride)
    for _ in range(count):
        quarter = max(1, channels // 4)
        far = w.unit(w.unit(x, quarter, kernel), quarter, kernel)
        branches = [far]
        if (middle := channels - 2 * quarter) > 0:
            branches.insert(0, w.crop(w.unit(x, middle, kernel), like=far))
        if channels > quarter:
            branches.insert(0, w.crop(w.unit(x, quarter, 1), like=far))
        x = w.concat(*branches)
    return x


def multires(w: Writer, x: Value, channels: int, kernel: Sequence[int], count: int, stride: Sequence[int]) -> Value:
    """Three convolutions in a row, of a sixth, a third and half of the width, all of them kept side by side, around a
    1×1 shortcut (Ibtehaz 2020, figure 3c)."""
    x = w.pool("max", x, stride)
    for _ in range(count):
        widths = [n for n in (channels // 6, channels // 3) if n]
        kept: list[Value] = []
        y = x
        for width in [*widths, channels - sum(widths)]:
            y = w.unit(y, width, kernel)
            kept = [*(w.crop(value, like=y) for value in kept), y]
        y = w.norm(w.concat(*kept))
        x = w.activate(w.add(y, w.norm(w.conv(w.crop(x, like=y), channels, 1))))
    return x


def _shortcut(w: Writer, x: Value, like: Value, stride: Sequence[int]) -> Value:
    """The identity; a mean over boxes where the size changes, a 1×1 convolution with norm where the width does."""
    x = w.crop(w.pool("average", x, stride), like=like)
    return x if x.channels == like.channels else w.norm(w.conv(x, like.channels, 1, bias=False))


BLOCKS: dict[str, Block] = {
    "plain": plain,
    "tapered": tapered,
    "doubling": doubling,
    "residual": residual,
    "preactivation": preactivation,
    "basic": basic,
    "bottleneck": bottleneck,
    "squeeze-excite": squeeze_excite,
    "vnet": vnet,
    "dense": dense,
    "recurrent": recurrent,
    "recurrent-residual": recurrent_residual,
    "convnext": convnext,
    "separable": separable,
    "inception": inception,
    "multires": multires,
}
