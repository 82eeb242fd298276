"""What holds for every grid: regions are parts of the whole, partitions stay partitions, exact ways are exact."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.prepared.grid import Grid


@st.composite
def grids(draw: st.DrawFn, moved: bool = True) -> Grid:
    ndim = draw(st.integers(1, 3))
    most = {1: 60, 2: 20, 3: 9}[ndim]
    own = tuple(draw(st.integers(1, most)) for _ in range(ndim))
    order = tuple(draw(st.permutations(range(ndim))))
    flips = tuple(draw(st.booleans()) for _ in range(ndim))
    turned = tuple(own[axis] for axis in order)
    shape = tuple(draw(st.sampled_from([n, max(1, n // 3), n + 2, 2 * n, max(1, n - 1)])) for n in turned)
    kernels = tuple(draw(st.sampled_from(["cubic", "cubic", "nearest"])) for _ in range(ndim))
    return Grid(own, shape if moved else turned, order, flips, kernels)


def part(data: st.DataObject, shape: tuple[int, ...]) -> Region:
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    return Region(start, tuple(data.draw(st.integers(a, n)) for a, n in zip(start, shape, strict=True)))


@settings(deadline=None, max_examples=120)
@given(grids(), st.data())
def test_a_region_is_bit_for_bit_that_part_of_the_whole(grid: Grid, data: st.DataObject) -> None:
    rng = np.random.default_rng(len(grid.own))
    own, whole = Region.of(grid.own), Region.of(grid.shape)
    image_CX = rng.normal(size=(2, *grid.own)).astype(np.float32)
    label_X = rng.choice(np.array([0, 1, 2, 6, IGNORE], np.uint8), grid.own)
    prepared_CX = grid.bring(image_CX, own, whole)
    assert prepared_CX.shape == (2, *grid.shape)

    region = part(data, grid.shape)
    read = grid.own_for(region)
    assert own.contains(read)
    np.testing.assert_array_equal(
        grid.bring(image_CX[(slice(None), *read.slices)], read, region), prepared_CX[(slice(None), *region.slices)]
    )
    for bits in (False, True):
        whole_X = grid.bring_label(label_X, own, whole, bits)
        assert set(np.unique(whole_X)) <= ({0, 1, 2, 3, 4, 5, 6, 7, IGNORE} if bits else {0, 1, 2, 6, IGNORE})
        np.testing.assert_array_equal(
            grid.bring_label(label_X[read.slices], read, region, bits), whole_X[region.slices]
        )

    region = part(data, grid.own)
    read = grid.needed(region)
    assert whole.contains(read)
    there = (slice(None), *read.slices)
    np.testing.assert_array_equal(
        grid.back(prepared_CX[there], read, region), grid.back(prepared_CX, whole, own)[(slice(None), *region.slices)]
    )
    whole_X = grid.bring_label(label_X, own, whole)
    np.testing.assert_array_equal(
        grid.back_label(whole_X[read.slices], read, region), grid.back_label(whole_X, whole, own)[region.slices]
    )


@settings(deadline=None, max_examples=80)
@given(grids(), st.data())
def test_partitions_stay_partitions_and_need_what_is_said(grid: Grid, data: st.DataObject) -> None:
    seen = np.zeros(grid.own, int)
    cuts = [sorted({0, n, *data.draw(st.lists(st.integers(0, n), max_size=2))}) for n in grid.shape]
    pieces = np.stack(np.meshgrid(*(range(len(c) - 1) for c in cuts), indexing="ij"), -1).reshape(-1, len(cuts))
    whole = Region.of(grid.shape)
    for piece in pieces:
        region = Region(
            tuple(c[i] for c, i in zip(cuts, piece, strict=True)),
            tuple(c[i + 1] for c, i in zip(cuts, piece, strict=True)),
        )
        own = grid.covers(region)
        seen[own.slices] += 1
        if own.size:
            assert region.grow(grid.context()).intersect(whole).contains(grid.needed(own))
            # what covers a region is what it was made from
            assert grid.own_for(region).contains(own) or grid.moved
    assert (seen == 1).all()


@settings(deadline=None, max_examples=80)
@given(grids(moved=False))
def test_without_resampling_a_label_comes_back_unchanged(grid: Grid) -> None:
    label_X = np.random.default_rng(0).integers(0, 256, grid.own).astype(np.uint8)
    own, whole = Region.of(grid.own), Region.of(grid.shape)
    assert grid.context() == (0,) * len(grid.own)
    there_X = grid.bring_label(label_X, own, whole)
    np.testing.assert_array_equal(grid.back_label(there_X, whole, own), label_X)
    scores_KX = np.stack([there_X, 255 - there_X]).astype(np.float32)
    np.testing.assert_array_equal(grid.back(scores_KX, whole, own)[0], label_X)
