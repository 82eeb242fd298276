"""How a network sees volumes: whole (3-D), slices with their neighbours (2.5-D), or slice by slice (2-D).

All three are networks in three dimensions. One whose kernels and strides are 1 along an axis is, exactly, the network
of two dimensions on every slice across that axis; with a longer kernel there at its finest level alone it sees
neighbouring slices, in full detail and no farther than the convolutions of that level reach.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unetkit.data.sizes import extent
from unetkit.nets.spec import NetSpec
from unetkit.plan import shape
from unetkit.plan.fingerprint import Fingerprint

View = Literal["2d", "2.5d", "3d"]

# From this ratio of spacings on a network sees slices with their neighbours, and from the second each for itself: what
# lies next to each other in space is then told by the shortest spacing's structures no more.
APART, ALONE = 4.0, 8.0
# Volumes (or patches) of fewer slices are flat, where they are so many times as long along the other axes.
SLICES, FLAT = 8, 4
# Slices of a patch, and its voxels, where a network sees neighbours.
SLAB, SLAB_VOXELS = 8, 2 * shape.CUBE**3
# Sides of a patch of one slice.
SIDE = shape.PATCH


@dataclass(frozen=True)
class Look:
    """view: how volumes are seen. axis: that across the slices; None in 3-D. aspect: lengths of a voxel, infinite along
    that axis, for nothing is shared across slices at coarse levels. why: in a sentence."""

    view: View
    axis: int | None
    aspect: tuple[float, ...]
    why: str

    @property
    def slices(self) -> bool:
        """Whether slices are what is seen, with their neighbours or without."""
        return self.axis is not None


def choose(facts: Fingerprint, asked: str = "auto") -> Look:
    """The view of volumes that spacing and shape suggest, or the one that was asked for. `facts`: as prepared."""
    if facts.ndim != 3:
        return Look("3d", None, (1.0,) * facts.ndim, "")
    size, aspect = facts.median_size(), facts.aspect()
    longest = max(aspect)
    axis = min((a for a in range(3) if aspect[a] == longest), key=lambda a: size[a])
    others = [a for a in range(3) if a != axis]
    ratio = aspect[axis] / max(aspect[a] for a in others)
    view, why = _suggested(facts, axis, ratio, min(size[a] for a in others))
    if asked != "auto":
        view, why = _named(asked), "as asked" if asked == view else f"as asked (suggested: {view}, {why})"
    if view == "3d":
        return Look(view, None, aspect, why)
    flat = tuple(math.inf if a == axis else aspect[a] / min(aspect[b] for b in others) for a in range(3))
    return Look(view, axis, flat, why)


def _suggested(facts: Fingerprint, axis: int, ratio: float, across: int) -> tuple[View, str]:
    slices = facts.median_size()[axis]
    thick = f"slices are {ratio:.1f} times as thick as their pixels"
    if slices == 1:
        return "2d", "volumes have one slice"
    if ratio >= ALONE:
        return "2d", f"{thick}: each is seen for itself"
    if ratio >= APART:
        return "2.5d", f"{thick}: each is seen with its neighbours"
    if slices < SLICES and across >= FLAT * slices:
        return "2d" if slices < 3 else "2.5d", f"volumes have {slices} slices of {across} pixels and more"
    held = shape.patch(facts, 1)[0][axis]
    if held < SLICES and slices >= SLICES:
        return "2.5d", f"a patch of voxels would hold {held} slices only"
    return (
        "3d",
        "voxels are about as long along every axis" if ratio < shape.UNEQUAL else f"{thick}, and there are many",
    )


def _named(asked: str) -> View:
    return "2d" if asked == "2d" else "2.5d" if asked == "2.5d" else "3d"


def of(net: NetSpec, facts: Fingerprint) -> Look:
    """How a network that is taken as it is sees volumes: slices, where it reduces nothing across them."""
    aspect = facts.aspect() if facts.ndim == 3 else (1.0,) * facts.ndim
    if not isinstance(net.topology, str) or facts.ndim != 3:
        return Look("3d", None, aspect, "")
    for axis in range(3):
        if all(net.stride(level)[axis] == 1 for level in range(net.levels - 1)) and net.levels > 1:
            alone = all(net.kernel(level)[axis] == 1 for level in range(net.levels))
            flat = tuple(math.inf if a == axis else v for a, v in enumerate(aspect))
            return Look("2d" if alone else "2.5d", axis, flat, "as the network is")
    return Look("3d", None, aspect, "as the network is")


def patch(facts: Fingerprint, look: Look, stem: int) -> tuple[tuple[int, ...], str]:
    """Lengths of a patch along every axis, before they are fitted to a network, and why."""
    if look.axis is None:
        return shape.patch(facts, stem)
    size, thick = facts.median_size(), 1 if look.view == "2d" else SLAB
    slices = min(size[look.axis], thick)
    most = SIDE**2 if look.view == "2d" else SLAB_VOXELS // slices
    flat = [a for a in range(3) if a != look.axis]
    sides = shape.within([size[a] for a in flat], [look.aspect[a] for a in flat], most)
    value = tuple(int(v) for v in np.insert(sides, look.axis, slices))
    what = "one slice" if slices == 1 else f"{slices} slices"
    return value, f"{what} of the median volume ({extent(size)}), as large as a step can hold"
