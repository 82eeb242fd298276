"""Axis-aligned boxes of whole pixels in any number of dimensions. Pure integer geometry, no arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Region:
    """The box of pixels with start ≤ index < stop on every axis. May reach outside an image (negative start)."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.start) != len(self.stop):
            raise ValueError(f"start {self.start} and stop {self.stop} differ in the number of axes")
        if any(b < a for a, b in zip(self.start, self.stop, strict=True)):
            raise ValueError(f"stop {self.stop} lies before start {self.start}")

    @classmethod
    def of(cls, shape: Sequence[int]) -> Self:
        """The whole of an image of `shape`."""
        return cls((0,) * len(shape), tuple(int(n) for n in shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of pixels along every axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of pixels."""
        n = 1
        for length in self.shape:
            n *= length
        return n

    @property
    def slices(self) -> tuple[slice, ...]:
        """Index of this region in an array whose origin is the image's. Raises ValueError for a negative start."""
        if any(a < 0 for a in self.start):
            raise ValueError(f"{self} starts outside the image: intersect it first")
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def grow(self, margin: int | Sequence[int]) -> Region:
        """Larger by `margin` pixels on both sides of every axis."""
        m = (margin,) * len(self.start) if isinstance(margin, int) else tuple(margin)
        return Region(
            tuple(a - k for a, k in zip(self.start, m, strict=True)),
            tuple(b + k for b, k in zip(self.stop, m, strict=True)),
        )

    def intersect(self, other: Region) -> Region:
        """The common part; empty (zero size) where there is none."""
        start = tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = tuple(max(s, min(a, b)) for s, a, b in zip(start, self.stop, other.stop, strict=True))
        return Region(start, stop)

    def shift(self, offset: Sequence[int]) -> Region:
        """Moved by `offset` pixels."""
        return Region(
            tuple(a + k for a, k in zip(self.start, offset, strict=True)),
            tuple(b + k for b, k in zip(self.stop, offset, strict=True)),
        )

    def within(self, outer: Region) -> Region:
        """This region in the coordinates of `outer` (whose start becomes the origin)."""
        return self.shift(tuple(-a for a in outer.start))

    def contains(self, other: Region) -> bool:
        """Whether every pixel of `other` lies in this region."""
        return all(a <= c and d <= b for a, b, c, d in zip(self.start, self.stop, other.start, other.stop, strict=True))
