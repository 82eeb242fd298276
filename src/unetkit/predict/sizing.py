"""How large the tiles of an image are, and the columns of a blended one, so that memory suffices: pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unetkit.core.errors import SpecError
from unetkit.core.region import Region
from unetkit.data.prepared.grid import Grid
from unetkit.nets.geometry import Geometry
from unetkit.predict.forecast import NETWORK, Costs, tile_pixels
from unetkit.predict.tiles import fit_tile, plan_tiles, root
from unetkit.predict.work import Work, cut

SLAB = 64_000_000
"""Bytes of scores that are brought back to the image's own grid at once."""

BLENDED_PIXELS = 2**20
"""Pixels of the tiles of a blended image, where memory suffices: their size changes the result."""


@dataclass(frozen=True)
class Layout:
    """What decides the steps of an image. tile: pixels read at once along each axis; columns: sides, across the first
    axis, of the columns of a blended prediction (none of an exact one)."""

    tile: tuple[int, ...]
    columns: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sizes:
    """What of a network and an image decides sizes. grid: the image's; classes: scores per pixel; probabilities:
    whether they are kept."""

    facts: Geometry
    grid: Grid
    classes: int
    probabilities: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the prepared image."""
        return self.grid.shape

    def work(self, layout: Layout) -> Work:
        """The steps that a layout means."""
        tiles = plan_tiles(self.shape, layout.tile, self._beside(layout.tile), self.facts.divisor)
        whole = len(tiles) == 1 or self.facts.local
        return Work(self.grid, tiles, () if whole else cut(self.shape, layout.columns or self.shape[1:]))

    def whole(self) -> Layout:
        """The layout of an image that goes through at once."""
        return Layout(self.facts.fit(self.shape))

    def asked(self, tile: Sequence[int], room: float, costs: Costs) -> Layout:
        """The layout with tiles of the size that the user wants: a side, or one for each axis."""
        if len(tile) not in (1, len(self.shape)):
            raise SpecError(
                f"tile {tuple(tile)} has {len(tile)} sides, the image {len(self.shape)} axes; give one side or all"
            )
        sides = tuple(tile) * (len(self.shape) // len(tile))
        return Layout(sides, self._columns(sides, room, costs))

    def fitting(self, room: float, costs: Costs) -> Layout:
        """The layout with the largest tiles for which `room` bytes suffice. Of a blended image, whose result depends on
        its tiles, always the same ones, where half of the room suffices; the rest is for what is summed up."""
        per_pixel = costs.both + self.result
        pixels = tile_pixels(room if self.facts.local else room / 2, per_pixel, self.facts.margin)
        if not self.facts.local:
            # halved and halved again, so that costs that are measured a little differently change nothing
            pixels = BLENDED_PIXELS >> max(0, math.ceil(math.log2(BLENDED_PIXELS / pixels)))
        tile = fit_tile(self.shape, pixels, self._beside(None), self.facts.divisor)
        return Layout(tile, self._columns(tile, room, costs))

    def pixels(self, work: Work) -> int:
        """Pixels of the largest tile, with all that the network takes beyond it."""
        return self.through(work.tiles.largest)

    def through(self, shape: Sequence[int]) -> int:
        """Pixels that go through the network for the scores of `shape` pixels."""
        return math.prod(self.facts.fit([n + 2 * m for n, m in zip(shape, self.facts.margin, strict=True)]))

    def parts(self, work: Work, costs: Costs) -> tuple[tuple[str, float], ...]:
        """What is held for the tiles of an image, by purpose."""
        pixels = self.pixels(work)
        blending = work.widest * self._per_sum + 8 * pixels if work.columns else 0
        back = SLAB if self.grid.moved else 0
        return (
            (NETWORK, pixels * costs.run),
            ("reading ahead", pixels * costs.read),
            ("blending", blending),
            ("results", work.widest * self.result + back),
        )

    @property
    def result(self) -> float:
        """Bytes of what is decided of a pixel: made, and written behind, in labels and half-precision probabilities."""
        share = math.prod(self.grid.own) / math.prod(self.shape)
        return share * (3 + (8 * self.classes if self.probabilities else 0))

    @property
    def _per_sum(self) -> int:
        # of each class, of the weights, and a copy of one while rows move up; and what deciding needs
        return 4 * (self.classes + 2) + 6

    def _columns(self, tile: tuple[int, ...], room: float, costs: Costs) -> tuple[int, ...]:
        if self.facts.local:
            return ()
        pixels = self.through(tile)
        left = room - pixels * (costs.both + 8)
        rows = min(self.shape[0], tile[0] + 2 * self.grid.context()[0])
        area, across = max(1, int(left / (rows * (self._per_sum + self.result)))), self.shape[1:]
        sides, axes = [0] * len(across), sorted(range(len(across)), key=lambda a: across[a])
        for count, axis in enumerate(axes):
            # never much narrower than a tile, most of which would be computed for nothing
            least = max(1, tile[axis + 1] // 2)
            sides[axis] = min(across[axis], max(least, root(area, len(axes) - count)))
            area = max(1, area // sides[axis])
        return tuple(sides)

    def _beside(self, tile: tuple[int, ...] | None) -> tuple[int, ...]:
        """Pixels that neighbouring tiles share on each side: the halo and what bringing back needs; a quarter of the
        tile where tiles are blended (None: the least).

        No halo for unpadded convolutions: there each tile is read with its margin, beyond its own borders.
        """
        facts = self.facts
        if not facts.local:
            least = facts.divisor
            return least if tile is None else tuple(max(t // 4, d) for t, d in zip(tile, least, strict=True))
        halo = (0,) * len(facts.halo) if any(facts.margin) else facts.halo
        return tuple(h + c for h, c in zip(halo, self.grid.context(), strict=True))


def slabs(write: Region, classes: int) -> list[Region]:
    """A region in parts, along its first axis, of which the scores of each take at most about `SLAB` bytes."""
    rows = max(1, SLAB // max(1, 4 * classes * math.prod(write.shape[1:])))
    first, last = write.start[0], write.stop[0]
    return [Region((a, *write.start[1:]), (min(last, a + rows), *write.stop[1:])) for a in range(first, last, rows)]
