"""Tile grids: the write regions partition the image, the reads carry the halo and keep to the divisor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetkit.core.region import Region
from unetkit.predict.tiles import fit_tile, plan_tiles, round_up, smallest_tile

axis = st.tuples(
    st.integers(1, 90), st.integers(1, 70), st.integers(0, 20), st.sampled_from([1, 2, 3, 4, 8, 16])
)  # length, tile, halo, divisor


@settings(deadline=None, max_examples=300)
@given(st.lists(axis, min_size=1, max_size=3))
def test_every_pixel_is_written_once_and_in_order(axes):
    shape, tile, halo, divisor = zip(*axes, strict=True)
    grid = plan_tiles(shape, tile, halo, divisor)
    order = np.full(shape, -1)
    for number, part in enumerate(grid):
        assert part.write.size > 0
        assert (order[part.write.slices] == -1).all()
        order[part.write.slices] = number
    assert (order >= 0).all()
    assert number + 1 == len(grid)
    starts = [part.write.start for part in grid]
    assert starts == sorted(starts)  # row by row: writers get bands


@settings(deadline=None, max_examples=300)
@given(st.lists(axis, min_size=1, max_size=3))
def test_reads_carry_the_halo_and_keep_to_the_divisor(axes):
    shape, tile, halo, divisor = zip(*axes, strict=True)
    grid = plan_tiles(shape, tile, halo, divisor)
    least = smallest_tile(halo, divisor)
    for part in grid:
        assert Region.of(shape).contains(part.read)
        assert part.read.contains(part.write.grow(halo).intersect(Region.of(shape)))
        for a, (n, d) in enumerate(zip(shape, divisor, strict=True)):
            assert part.read.start[a] % d == 0
            assert part.read.stop[a] % d == 0 or part.read.stop[a] == n
            assert part.write.start[a] % d == 0
            assert round_up(part.read.shape[a], d) <= max(tile[a] // d * d, least[a])
    for a, d in enumerate(divisor):  # one shape of input per axis, once padded
        assert len({round_up(s.read_stop - s.read_start, d) for s in grid.spans[a]}) == 1


@settings(deadline=None, max_examples=200)
@given(st.lists(axis, min_size=1, max_size=3), st.integers(1, 5000))
def test_fitted_tiles_stay_within_the_pixels_allowed(axes, pixels):
    shape, _, halo, divisor = zip(*axes, strict=True)
    tile = fit_tile(shape, pixels, halo, divisor)
    least = smallest_tile(halo, divisor)
    padded = [round_up(n, d) for n, d in zip(shape, divisor, strict=True)]
    assert all(t % d == 0 for t, d in zip(tile, divisor, strict=True))
    if all(t > m or t == p for t, m, p in zip(tile, least, padded, strict=True)) and pixels > np.prod(least):
        assert np.prod(tile) <= max(pixels, np.prod(np.minimum(least, padded)))


def test_a_single_tile_for_a_small_image():
    (part,) = plan_tiles((5, 7), (64, 64), (20, 20), (16, 16))
    assert part.read == part.write == Region.of((5, 7))


def test_the_overlap_is_two_halos():
    grid = plan_tiles((100,), (48,), (7,), (8,))
    assert [(s.read_start, s.read_stop) for s in grid.spans[0]] == [(0, 48), (32, 80), (56, 100)]
    assert [(s.write_start, s.write_stop) for s in grid.spans[0]] == [(0, 40), (40, 72), (72, 100)]


def test_long_narrow_images_get_long_tiles():
    assert fit_tile((32, 100_000), 32 * 4096, (40, 40), (16, 16)) == (32, 4096)
    assert fit_tile((100_000, 100_000), 1024 * 1024, (40, 40), (16, 16)) == (1024, 1024)


def test_empty_axes_are_refused():
    with pytest.raises(ValueError, match="shape \\(0, 3\\) must be at least 1"):
        plan_tiles((0, 3), (8, 8), (1, 1), (1, 1))
