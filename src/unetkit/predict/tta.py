"""The views of an image whose predictions may be averaged: its flips and, in 2-D, its quarter turns (8 in all), as far
as training showed images flipped and turned.

A view is taken of a tile that is padded to the network's divisor. Tiles begin and end on multiples of the divisor and
the halo is the same on both sides, so the view of a tile is a tile of the view: averaging is exact under tiling.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unetkit.nets.geometry import Geometry


@dataclass(frozen=True)
class View:
    """One symmetry of a grid of pixels: swap the last two axes (or not), then reverse `flips` (negative axes)."""

    swap: bool
    flips: tuple[int, ...]

    def apply(self, image_BCX: torch.Tensor) -> torch.Tensor:
        """The image as this view shows it."""
        turned = image_BCX.transpose(-1, -2) if self.swap else image_BCX
        return turned.flip(self.flips) if self.flips else turned

    def undo(self, image_BCX: torch.Tensor) -> torch.Tensor:
        """`undo(apply(x))` is `x`."""
        turned = image_BCX.flip(self.flips) if self.flips else image_BCX
        return turned.transpose(-1, -2) if self.swap else turned


IDENTITY = View(swap=False, flips=())
# Quarter turns without mirror images: swapped axes, of which one is reversed, or both of them reversed.
TURNS = (IDENTITY, View(True, (-2,)), View(False, (-2, -1)), View(True, (-1,)))


def views(geometry: Geometry, flip: Sequence[bool] | None = None, turn: bool = True) -> tuple[View, ...]:
    """The views under which tiles stay tiles, the identity first: 8 in 2-D, 4 where the axes of a 2-D network differ,
    2 in 1-D and 8 (flips alone) in 3-D. `flip`: whether each axis may be mirrored (None: all); `turn`: quarter turns.
    """
    ndim = len(geometry.divisor)
    turns = turn and ndim == 2 and len(set(geometry.divisor)) == 1 and len(set(geometry.halo)) == 1
    allowed = (True,) * ndim if flip is None else tuple(flip)
    if turns and not any(allowed):
        return TURNS
    flips = [
        tuple(-a for a in range(ndim, 0, -1) if chosen[ndim - a])
        for chosen in itertools.product(*[(False, True) if may else (False,) for may in allowed])
    ]
    return tuple(View(swap, f) for swap in ((False, True) if turns and all(allowed) else (False,)) for f in flips)
