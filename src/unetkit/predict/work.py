"""What is to be done for one image, step by step, in whole numbers only: which tiles are run, which pixels they decide.

Of a local network each tile decides its own write region. Of the others the image is cut into columns, whole along the
first axis, that memory can hold; the tiles that touch a column are run from its first row to its last, and a step is
complete when no further tile reaches its rows. Tiles on the border of two columns are run for both. The tiles are those
of the whole image, so that columns change nothing but the rounding.

Where the prepared grid is not the file's own, the scores of some voxels beside a step's are needed to bring it back.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from unetkit.core.region import Region
from unetkit.data.prepared.grid import Grid
from unetkit.predict.tiles import Span, TileGrid, tile_of


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the prediction that becomes final at once.

    write: what it decides, on the prepared grid; own: the same on the file's grid (may be empty). read: what scores are
    needed for that. tiles: what goes through the network. column: which one (0 where there are none); done: the row of
    it before which sums are complete after these tiles.
    """

    number: int
    write: Region
    own: Region
    read: Region
    tiles: tuple[Region, ...]
    column: int = 0
    done: int = 0


@dataclass(frozen=True)
class Work:
    """The steps of one image. tiles: the grid they are taken from. columns: of a blended prediction; else none."""

    grid: Grid
    tiles: TileGrid
    columns: tuple[Region, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether the tiles give what the whole image gives."""
        return not self.columns

    def __len__(self) -> int:
        return len(self.columns) * len(self.tiles.spans[0]) if self.columns else len(self.tiles)

    def __getitem__(self, number: int) -> Step:
        if self.columns:
            return self._row(*divmod(number, len(self.tiles.spans[0])))
        tile = self.tiles[number]
        return Step(number, tile.write, self.grid.covers(tile.write), self._around(tile.write), (tile.read,))

    def __iter__(self) -> Iterator[Step]:
        return (self[number] for number in range(len(self)))

    @property
    def rows(self) -> int:
        """The most rows of a column that are held at once."""
        tallest = max(span.read_stop - span.read_start for span in self.tiles.spans[0])
        return min(self.tiles.shape[0], tallest + 2 * self.grid.context()[0])

    @property
    def widest(self) -> int:
        """Pixels of the largest step's row of tiles: of a tile, or across a column."""
        if not self.columns:
            return math.prod(self.tiles.largest)
        return self.rows * max(math.prod(column.shape[1:]) for column in self._wide)

    @property
    def runs(self) -> int:
        """How often the network is run."""
        return sum(len(self._touching(c)) for c in self._wide) * len(self.tiles.spans[0]) if self.columns else len(self)

    @property
    def twice(self) -> float:
        """Pixels that go through the network more than once, as a share of the image."""
        if not self.columns:
            return self.tiles.work - 1
        down = sum(span.read_stop - span.read_start for span in self.tiles.spans[0])
        across = sum(
            math.prod(s.read_stop - s.read_start for s in spans) for c in self._wide for spans in self._touching(c)
        )
        return down * across / math.prod(self.tiles.shape) - 1

    def column(self, number: int) -> Region:
        """What must be summed up for a column: its own pixels, and those beside it that are needed to bring it back."""
        return self._wide[number]

    def lead(self, step: Step) -> tuple[Region, ...]:
        """The tiles before a step, of its column, that reach into what it reads: to be run first where work goes on
        in the middle of a column."""
        number = step.number % len(self.tiles.spans[0])
        across = self._touching(self._wide[step.column])
        above = self.tiles.spans[0][:number]
        return tuple(
            tile_of((span, *spans)).read
            for span in above
            if span.read_stop > step.read.start[0]
            for spans in across
        )  # fmt: skip

    @cached_property
    def _wide(self) -> tuple[Region, ...]:
        return tuple(self._around(column) for column in self.columns)

    def _around(self, write: Region) -> Region:
        return write.grow(self.grid.context()).intersect(Region.of(self.tiles.shape))

    def _touching(self, column: Region) -> list[tuple[Span, ...]]:
        """The tiles of one row that touch a column, as their spans on the axes across."""
        across = [
            [s for s in spans if s.read_start < stop and s.read_stop > start]
            for spans, start, stop in zip(self.tiles.spans[1:], column.start[1:], column.stop[1:], strict=True)
        ]
        return list(itertools.product(*across))

    def _row(self, number: int, row: int) -> Step:
        column, spans = self.columns[number], self.tiles.spans[0]
        write = Region((self._end(row - 1), *column.start[1:]), (self._end(row), *column.stop[1:]))
        tiles = tuple(tile_of((spans[row], *others)).read for others in self._touching(self._wide[number]))
        place = number * len(spans) + row
        return Step(place, write, self.grid.covers(write), self._around(write), tiles, number, self._done(row))

    def _done(self, row: int) -> int:
        """The pixel row before which no further row of tiles reaches."""
        last = row + 1 == len(self.tiles.spans[0])
        return self.tiles.shape[0] if last else self.tiles.spans[0][row + 1].read_start

    def _end(self, row: int) -> int:
        """The pixel row before which all is decided once this row of tiles is summed up."""
        if row < 0:
            return 0
        done = self._done(row)
        return done if done == self.tiles.shape[0] else max(0, done - self.grid.context()[0])


def cut(shape: Sequence[int], sides: Sequence[int]) -> tuple[Region, ...]:
    """Columns of an image of `shape` that partition it: whole along the first axis, of about `sides` across."""
    bounds = []
    for n, side in zip(shape[1:], sides, strict=True):
        count = -(-n // max(1, side))
        edges = [n * i // count for i in range(count + 1)]
        bounds.append(list(itertools.pairwise(edges)))
    return tuple(
        Region((0, *(a for a, _ in ends)), (shape[0], *(b for _, b in ends))) for ends in itertools.product(*bounds)
    )


def places(work: Work) -> np.ndarray:
    """The own regions of all steps: starts and stops, integers (steps, 2, axes)."""
    return np.array([[step.own.start, step.own.stop] for step in work], np.int64)
