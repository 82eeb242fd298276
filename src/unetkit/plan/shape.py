"""How large a patch is, and how often it is halved: the rules of a network's shape, in any number of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from unetkit.core.errors import SpecError
from unetkit.data.sizes import extent
from unetkit.nets.geometry import Geometry, geometry
from unetkit.nets.spec import NetSpec, PerLevel
from unetkit.plan.fingerprint import Fingerprint
from unetkit.plan.plan import Plan

# Patches: large enough for context, small enough that a batch has several. Side of an image's, length of a signal's.
PATCH = 256
LENGTH = 2048
# A volume's patch has at most the voxels of a cube of this side (times the stride of the stem), and of the second.
CUBE, LARGEST_CUBE = 48, 96
# Pixels that the coarsest level keeps along each axis, by number of axes, and the most times that a patch is halved.
COARSEST = {1: 16, 2: 8, 3: 4}
HALVINGS = {1: 6, 2: 4, 3: 4}
# Unpadded convolutions take away at most this share of a patch's shortest side, on each of its sides: beyond, the
# network would see little but mirrored border.
MARGIN = 2 / 3
# A preset is halved as often as its paper does, as long as so many pixels are left of a patch.
LEAST = 4
# An axis whose pixels are longer than the shortest by this factor is not halved until the others have caught up
# (Isensee 2021, nnU-Net, supplementary note 2).
UNEQUAL = 2.0


def patch(facts: Fingerprint, stem: int) -> tuple[tuple[int, ...], str]:
    """Lengths of a patch along every axis, before they are fitted to a network, and why."""
    size = facts.median_size()
    if len(size) == 3:
        return _volume_patch(size, facts.aspect(), stem)
    if len(size) == 1:
        if size[0] > LENGTH:
            return (LENGTH,), f"{LENGTH} samples give context; the signals ({size[0]} samples) hold several"
        return size, f"the median signal has only {size[0]} samples"
    wanted = PATCH if stem < 4 else 2 * PATCH
    unit = 8 * stem
    side = min(size)
    if side >= wanted:
        return (wanted, wanted), f"{wanted} pixels give context; the images (median side {side}) hold several"
    value = max(unit, side // unit * unit)
    return (value, value), f"the median image is only {side} pixels on its short side"


def _volume_patch(size: tuple[int, ...], aspect: tuple[float, ...], stem: int) -> tuple[tuple[int, ...], str]:
    value = within(size, aspect, _held(stem))
    if value == size:
        return size, f"the median volume, {extent(size)}, is small enough to be seen whole, or nearly"
    return value, f"a part of the median volume ({extent(size)}) that a step can hold"


def _held(stem: int) -> int:
    """Voxels that a patch has at most."""
    return min(CUBE * stem, LARGEST_CUBE) ** 3


def within(size: Sequence[int], aspect: Sequence[float], most: int) -> tuple[int, ...]:
    """The part of an image with at most so many elements that is as long along every axis, in space."""
    if math.prod(size) <= most:
        return tuple(size)
    side = max(size) * max(aspect)
    while math.prod(min(n, round(side / a)) for n, a in zip(size, aspect, strict=True)) > most:
        side *= 0.98
    return tuple(max(1, min(n, round(side / a))) for n, a in zip(size, aspect, strict=True))


def strides(shape: Sequence[int], aspect: Sequence[float], stem: int) -> tuple[tuple[int, ...], ...]:
    """By how much each axis of a patch is reduced from level to level: by 2 as long as enough is left.

    `aspect`: lengths of a pixel along each axis. Axes of longer pixels wait until the others are as coarse; one of
    infinite length is never reduced.
    """
    seen = [a for a in range(len(shape)) if math.isfinite(aspect[a])]
    left, length = [shape[a] / stem for a in seen], [aspect[a] for a in seen]
    steps: list[tuple[int, ...]] = []
    while len(steps) < HALVINGS[len(seen)]:
        may = [n / 2 >= COARSEST[len(seen)] for n in left]
        if not any(may):
            break
        least = min(a for a, m in zip(length, may, strict=True) if m)
        step = [2 if m and a < UNEQUAL * least else 1 for a, m in zip(length, may, strict=True)]
        left = [n / s for n, s in zip(left, step, strict=True)]
        length = [a * s for a, s in zip(length, step, strict=True)]
        steps.append(tuple(step[seen.index(a)] if a in seen else 1 for a in range(len(shape))))
    return tuple(steps) or (tuple(2 if a in seen else 1 for a in range(len(shape))),)


def kernels(net: NetSpec, aspect: Sequence[float], neighbours: bool = False) -> PerLevel:
    """The kernels of a network, but 1 along an axis as long as its pixels are longer than the shortest by `UNEQUAL`
    (Isensee 2021, nnU-Net, supplementary note 2). neighbours: the finest level keeps its own."""
    length, open_axes = list(aspect), [False] * net.ndim
    found: list[tuple[int, ...]] = []
    for level in range(net.levels):
        open_axes = [o or a < UNEQUAL * min(length) for o, a in zip(open_axes, length, strict=True)]
        own = net.kernel(level)
        keep = neighbours and level == 0
        found.append(tuple(k if o or keep else 1 for k, o in zip(own, open_axes, strict=True)))
        if level + 1 < net.levels:
            length = [a * s for a, s in zip(length, net.stride(level), strict=True)]
    return net.kernels if found == [net.kernel(level) for level in range(net.levels)] else tuple(found)


def levels_text(shape: Sequence[int], net: NetSpec) -> str:
    """'5 levels, down to 8 × 8 pixels of a 256-pixel patch'."""
    coarse = [n // net.stem_stride for n in shape]
    for level in range(net.levels - 1):
        coarse = [n // s for n, s in zip(coarse, net.stride(level), strict=True)]
    what = f"{shape[0]}-pixel patch" if len(shape) == 2 and len(set(shape)) == 1 else f"patch of {extent(shape)}"
    down = " × ".join(str(n) for n in coarse) + ("" if what.startswith("patch") else " pixels")
    return f"{net.levels} levels, down to {down} of a {what}"


def fitted(shape: Sequence[int], net: NetSpec) -> tuple[int, ...]:
    """The patch near to `shape` that the network takes as it is; images and signals hold it.

    A patch holds a small volume, and a little more, where a step can hold that: hippocampi of 35 × 51 × 35 voxels reach
    in ten minutes a Dice of 0.888 with patches of 40 × 56 × 40, and 0.885 with 32 × 48 × 32; in five 0.886 with both.
    Of unpadded convolutions it is the input whose output is `shape` or more.
    """
    facts = geometry(net)
    if any(facts.margin):
        return facts.fit([n + 2 * m for n, m in zip(shape, facts.margin, strict=True)])
    if net.ndim == 3:
        above = facts.fit(shape)
        if math.prod(above) <= _held(net.stem_stride):
            return above
        return tuple(max(d, round(n / d) * d) for n, d in zip(shape, facts.divisor, strict=True))
    return tuple(max(d, n // d * d) for n, d in zip(shape, facts.divisor, strict=True))


def output(plan: Plan) -> tuple[int, ...]:
    """The part of a plan's patch that is learnt: all of it, unless convolutions are unpadded."""
    return geometry(plan.net).output_shape(plan.sampling.patch)


def takes(shape: Sequence[int], facts: Geometry) -> bool:
    """Whether a network takes patches of this shape without padding them."""
    return tuple(facts.fit(shape)) == tuple(shape)


def preset_for(
    net: NetSpec, shape: Sequence[int], aspect: Sequence[float] = (), neighbours: bool = False
) -> tuple[NetSpec, str]:
    """A preset with as many levels as patches of `shape` can be halved, and what was changed (empty: nothing).

    `aspect`, `neighbours`: as in `strides` and `kernels`; a preset that has its own strides or kernels per axis keeps
    them. Raises SpecError: no form of this network fits.
    """
    waits = bool(aspect) and not _per_axis(net)
    length = list(aspect) if waits else [1.0] * net.ndim
    left = [n / net.stem_stride for n in shape]
    steps: list[tuple[int, ...]] = []
    for level in range(net.levels - 1):
        may = [n / s >= LEAST for n, s in zip(left, net.stride(level), strict=True)]
        least = min((a for a, m in zip(length, may, strict=True) if m), default=1.0)
        step = tuple(
            s if m and a < UNEQUAL * least else 1 for s, m, a in zip(net.stride(level), may, length, strict=True)
        )
        if level > 0 and max(step) == 1 < max(net.stride(level)):
            break
        left = [n / s for n, s in zip(left, step, strict=True)]
        steps.append(step if max(step) > 1 else _flattened(net.stride(level), length))
        length = [a * s if waits else a for a, s in zip(length, steps[-1], strict=True)]
    cut = _with_levels(net, len(steps) + 1)
    if steps != [net.stride(level) for level in range(len(steps))]:
        cut = cut.replace({"strides": tuple(steps)})
    while any(m > MARGIN * n for m, n in zip(geometry(cut).margin, shape, strict=True)) and cut.levels > 2:
        cut = _with_levels(cut, cut.levels - 1)
    if waits:
        cut = cut.replace({"kernels": kernels(cut, aspect, neighbours)})
    if cut == net:
        return net, ""
    said = f"{cut.levels} of the preset's {net.levels} levels" if cut.levels < net.levels else "short axes halved less"
    if cut.kernels != net.kernels and cut.levels == net.levels:
        slices = not all(map(math.isfinite, aspect))
        said = (
            "strides and kernels of 1 across slices"
            if slices
            else "long voxels halved later, with kernels of 1 till then"
        )
    return cut, f"{said}, for patches of about {extent(tuple(shape))}"


def _per_axis(net: NetSpec) -> bool:
    """Whether a network has strides or kernels that differ between axes."""
    each = [*map(net.stride, range(net.levels - 1)), *map(net.kernel, range(net.levels))]
    return any(len(set(entry)) > 1 for entry in each)


def _flattened(step: tuple[int, ...], length: Sequence[float]) -> tuple[int, ...]:
    return tuple(s if math.isfinite(a) else 1 for s, a in zip(step, length, strict=True))


def _with_levels(net: NetSpec, levels: int) -> NetSpec:
    """A network without its coarsest levels."""
    if levels >= net.levels:
        return net
    counts = dict.fromkeys(("channels", "kernels", "blocks"), levels)
    counts |= dict.fromkeys(("strides", "decoder_blocks", "decoder_channels"), levels - 1)
    values = {name: getattr(net, name) for name in counts}
    changes: dict[str, object] = {n: v[: counts[n]] for n, v in values.items() if isinstance(v, tuple)}
    if net.prune >= levels:
        changes["prune"] = 0
    if levels < 3:
        changes["deep_supervision"] = False
    return net.replace(changes)


def narrowed(net: NetSpec, factor: float) -> NetSpec | None:
    """The network with all widths times `factor`; None where a part of it does not come that narrow."""
    try:
        narrow = net.widths(factor)
        geometry(narrow)
    except SpecError:
        return None
    return narrow
