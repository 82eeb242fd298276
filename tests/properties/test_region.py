"""Boxes of pixels: intersections, shifts and growth obey set arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetkit.core.region import Region


@st.composite
def regions(draw: st.DrawFn, ndim: int = 2) -> Region:
    start = [draw(st.integers(-20, 20)) for _ in range(ndim)]
    return Region(tuple(start), tuple(a + draw(st.integers(0, 25)) for a in start))


def pixels(region: Region) -> set[tuple[int, ...]]:
    return set(np.ndindex(region.shape)) and {
        tuple(int(i) + a for i, a in zip(index, region.start, strict=True)) for index in np.ndindex(region.shape)
    }


@given(regions(), regions())
def test_intersection_is_that_of_the_pixels(a: Region, b: Region) -> None:
    assert pixels(a.intersect(b)) == pixels(a) & pixels(b)
    assert a.intersect(b).size == len(pixels(a) & pixels(b))


@given(regions(), st.integers(0, 5))
def test_growing_contains_and_adds_both_sides(a: Region, margin: int) -> None:
    grown = a.grow(margin)
    assert grown.contains(a)
    assert grown.shape == tuple(n + 2 * margin for n in a.shape)


@given(regions(), regions())
def test_within_and_shift_undo_each_other(a: Region, outer: Region) -> None:
    assert a.within(outer).shift(outer.start) == a


def test_a_region_that_starts_outside_cannot_index() -> None:
    with pytest.raises(ValueError, match="starts outside the image"):
        _ = Region((-1, 0), (2, 2)).slices
    with pytest.raises(ValueError, match="lies before start"):
        Region((2,), (1,))
