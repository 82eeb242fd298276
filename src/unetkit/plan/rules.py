"""The rules of the network: pure functions from the fingerprint and the request to a value and a reason in one
sentence. Those of training are in `training.py`, those of random changes in `augmenting.py`."""

from __future__ import annotations

from collections.abc import Sequence

from unetkit.data.sizes import units
from unetkit.nets.spec import NetSpec
from unetkit.plan.fingerprint import Fingerprint
from unetkit.plan.shape import UNEQUAL, fitted, kernels, strides
from unetkit.plan.view import Look

# A structure thinner than this many pixels needs the network's finest level at full resolution.
THIN = 3.0
# Structures about this thick or more are seen well at a quarter of the resolution.
BULKY = 48.0
# The same beside images, where the stem has two steps: from this thickness on, half resolution.
HALVED = {1: 12.0, 3: 8.0}


# Width of the finest level, batch, and the fewest steps with which they are worth their cost, in rising cost, by number
# of axes. With fewer, the narrower network reaches more: on membranes in six minutes width 16 (4138 steps) beat width
# 32 (1835 steps), see benchmarks/README.md. On hippocampi width 24 loses with 990 steps; width 32 with 1495 is as good
# as width 24 with 2117, see benchmarks/results/defaults-first.md.
CAPACITIES = {
    1: ((8, 8, 0), (16, 8, 400), (16, 16, 1000), (32, 16, 2500), (48, 16, 8000), (64, 16, 16_000)),
    2: ((8, 2, 0), (16, 2, 400), (16, 4, 1000), (24, 4, 3500), (32, 4, 5000), (48, 4, 10_000), (64, 4, 20_000)),
    3: ((8, 2, 0), (16, 2, 400), (24, 2, 1800), (32, 2, 2500), (48, 2, 6000), (64, 2, 12_000)),
}
# How much wider than the finest the coarser levels become at most, by number of axes. In a signal a level has half as
# many pixels as the one before, not a quarter: doubling on and on would put all the work into the coarsest levels.
WIDEST = {1: 4, 2: 16, 3: 16}


def resolution(facts: Fingerprint, foreground: tuple[int, ...], look: Look | None = None) -> tuple[int, str]:
    """Stride of the stem: 1 (full resolution), 2 or 4, from the thickness of the thinnest class of interest."""
    if facts.ndim == 3 and ((look is not None and look.slices) or max(facts.aspect()) >= UNEQUAL):
        return 1, "a stem would halve all axes alike, and there is nothing to spare across slices"
    thin = min(
        ((c.thickness, c.name) for k, c in enumerate(facts.classes) if k in foreground and c.thickness is not None),
        default=None,
    )
    if thin is None:
        return 2, "no structure could be measured: half resolution inside, full resolution out"
    thickness, name = thin
    if facts.ndim != 2:
        return _resolution_beside_images(facts.ndim, name, thickness)
    if thickness < THIN:
        return 1, f"'{name}' is only about {thickness:.1f} pixels thick: every pixel is kept"
    if thickness >= BULKY and facts.smallest_side() >= 512:
        return (
            4,
            f"even '{name}', the thinnest, is about {thickness:.0f} pixels thick: a quarter resolution sees it whole",
        )
    return 2, (
        f"'{name}', the thinnest, is about {thickness:.0f} pixels thick: half resolution inside trains"
        " several times faster, a learned upsampling restores the pixels"
    )


def _resolution_beside_images(ndim: int, name: str, thickness: float) -> tuple[int, str]:
    """Of signals and volumes: where the thinnest structure spans many pixels, half of them tell as much."""
    unit = units(ndim)
    if thickness < HALVED[ndim]:
        return 1, f"'{name}', the thinnest, is about {thickness:.0f} {unit} thick: every one is kept"
    return 2, f"'{name}', the thinnest, is about {thickness:.0f} {unit} thick: half resolution inside sees it whole"


def network(
    facts: Fingerprint,
    classes: int,
    channels: int,
    width: int,
    patch: Sequence[int],
    stem: int,
    look: Look | None = None,
) -> NetSpec:
    """A residual U-Net of `width` channels at its finest level, doubled at every level up to `WIDEST` times."""
    aspect = (1.0,) * facts.ndim if facts.ndim < 3 else facts.aspect() if look is None else look.aspect
    steps = strides(patch, aspect, stem)
    net = NetSpec(
        ndim=facts.ndim,
        in_channels=channels,
        classes=classes,
        channels=widths(width, len(steps) + 1, facts.ndim),
        strides=2 if all(set(step) == {2} for step in steps) else steps,
        block="residual",
        stem_stride=stem,
        # hippocampi at 1300 steps, two seeds: a mean Dice of 0.8812 with it, 0.8794 without; images gained nothing
        deep_supervision=facts.ndim == 3 and len(steps) > 1,
    )
    net = net.replace({"kernels": kernels(net, aspect, look is not None and look.view == "2.5d")})
    return net.replace({"norm": "instance"}) if _seen_whole(facts, patch, net, look) else net


def _seen_whole(facts: Fingerprint, patch: Sequence[int], net: NetSpec, look: Look | None) -> bool:
    """Whether a patch holds a whole volume, so that its statistics are those of the volume, in training and in use."""
    if facts.ndim != 3 or (look is not None and look.slices):
        return False
    return all(p >= n for p, n in zip(fitted(patch, net), facts.median_size(), strict=True))


def capacities(net: NetSpec) -> tuple[tuple[int, int, int], ...]:
    """The widths and batches for a network, in rising cost: one of slices, each for itself, is one of images."""
    each = [*map(net.kernel, range(net.levels)), *map(net.stride, range(net.levels - 1))]
    slices = net.ndim == 3 and any(all(entry[axis] == 1 for entry in each) for axis in range(3))
    return CAPACITIES[2 if slices else net.ndim]


def widths(width: int, levels: int, ndim: int) -> tuple[int, ...]:
    """Widths of all levels, from that of the finest."""
    return tuple(width * min(2**level, WIDEST[ndim]) for level in range(levels))


def learning_rate(net: NetSpec) -> tuple[float, str]:
    """The largest learning rate that such a network bears, by what keeps its feature maps in bounds."""
    if net.norm == "none":
        return 1e-3, "without norm layers twice this was worse on membranes"
    if net.bottleneck == "transformer":
        return 1e-3, "attention layers bear smaller steps than convolutions: twice this was less steady on membranes"
    return 2e-3, f"steady for networks with {net.norm} norm and AdamW on every set we measured"
