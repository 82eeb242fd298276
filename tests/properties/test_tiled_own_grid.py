"""Predictions come back on the image's own grid: in tiles as of the whole, for any tile, column, grid and flip."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from unetkit.core.region import Region
from unetkit.data.prepared.grid import Grid
from unetkit.nets.build import build
from unetkit.nets.spec import NetSpec
from unetkit.predict.options import PredictOptions
from unetkit.predict.predictor import Predictor
from unetkit.predict.reader import ArrayReader
from unetkit.predict.sizing import Layout
from unetkit.predict.work import Work, cut

LOCAL = build(NetSpec(channels=(4, 6), classes=3, blocks=1), seed=1).eval()
BLENDED = build(NetSpec(channels=(4, 6), classes=3, blocks=1, norm="instance"), seed=1).eval()
VOLUMES = build(NetSpec(ndim=3, channels=(4, 6), classes=2, blocks=1, norm="instance"), seed=1).eval()
SIGNALS = build(NetSpec(ndim=1, channels=(4, 6), classes=2, blocks=1, norm="instance"), seed=1).eval()

grids = st.builds(
    lambda own, shape, order, flips: Grid(own, shape, order, flips, ("cubic", "cubic")),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.sampled_from([(0, 1), (1, 0)]),
    st.tuples(st.booleans(), st.booleans()),
)


@dataclass(frozen=True)
class Prepared(ArrayReader):
    """A prepared image whose file has another grid."""

    grid: Grid


def prepared(grid: Grid, seed: int = 0) -> Prepared:
    return Prepared(np.random.default_rng(seed).standard_normal((1, *grid.shape), np.float32), grid)


def predictor(net: torch.nn.Module, tile: tuple[int, ...] = (1000,), **options: bool) -> Predictor:
    return Predictor(net, PredictOptions(precision="fp32", tile=tile), **options)


def in_steps(what: Predictor, reader: ArrayReader, work: Work, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(label, probabilities) put together from pieces; every pixel is written once."""
    own = work.grid.own
    label, times = np.full(own, 99, np.uint8), np.zeros(own, int)
    shares = np.zeros((what.spec.classes, *own), np.float32)
    for _, piece in what.pieces(reader, work, probabilities=True, first=first):
        label[piece.region.slices] = piece.label_X
        shares[(slice(None), *piece.region.slices)] = piece.probabilities_KX
        times[piece.region.slices] += 1
    assert (times == 1).all() if first == 0 else (times <= 1).all()
    return label, shares


@settings(deadline=None, max_examples=40)
@given(grid=grids, tile=st.tuples(st.integers(1, 64), st.integers(1, 64)))
def test_tiles_come_back_as_the_whole_does(grid, tile):
    reader = prepared(grid)
    whole = predictor(LOCAL).array(reader.image_CX, probabilities=True)
    expected = grid.back(whole, Region.of(grid.shape), Region.of(grid.own))
    what = predictor(LOCAL, tile)
    label, shares = in_steps(what, reader, what.plan(reader).work)
    np.testing.assert_allclose(shares, expected, atol=1e-5)
    clear = np.sort(expected, 0)[-1] - np.sort(expected, 0)[-2] > 1e-5
    assert (label == expected.argmax(0))[clear].all()
    np.testing.assert_array_equal(what.whole(reader), label)


@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_coming_back_is_linear_interpolation_between_the_centres_of_pixels(data):
    own = data.draw(st.tuples(st.integers(2, 60), st.integers(2, 60)))
    shape = tuple(data.draw(st.integers(1, n)) for n in own)  # finer own pixels: nothing is averaged
    flips = data.draw(st.tuples(st.booleans(), st.booleans()))
    reader = prepared(Grid(own, shape, (0, 1), flips, ("cubic", "cubic")))
    whole = predictor(LOCAL).array(reader.image_CX, probabilities=True)
    places = [(np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(own, shape, strict=True)]
    places = [place[::-1] if flip else place for place, flip in zip(places, flips, strict=True)]
    grid = np.meshgrid(*places, indexing="ij")
    naive = np.stack([map_coordinates(scores, grid, order=1, mode="nearest") for scores in whole])
    found = predictor(LOCAL, (24,)).whole(reader, probabilities=True)
    np.testing.assert_allclose(found, naive, atol=2e-5)


@pytest.mark.parametrize("net", [BLENDED, LOCAL])
def test_regions_that_overlap_come_back_as_bits(net):
    grid = Grid((50, 41), (37, 60), (1, 0), (True, False), ("cubic", "cubic"))
    reader = prepared(grid)
    what = predictor(net, (24,), regions=True)
    label, shares = in_steps(what, reader, what.plan(reader).work)
    bits = sum((shares[k] > 0.5).astype(np.uint8) << k for k in range(3))
    np.testing.assert_array_equal(label, bits)
    assert len(np.unique(label)) > 3
    assert not np.allclose(shares.sum(0), 1)


def test_regions_are_a_sigmoid_each_and_views_average_them():
    image = np.random.default_rng(0).standard_normal((1, 32, 40), np.float32)
    with torch.no_grad():
        expected = torch.sigmoid(LOCAL(torch.from_numpy(image)[None]))[0].numpy()
        flipped = torch.sigmoid(LOCAL(torch.from_numpy(image[:, ::-1].copy())[None]))[0].numpy()[:, ::-1]
    what = predictor(LOCAL, regions=True)
    np.testing.assert_allclose(what.array(image, probabilities=True), expected, atol=1e-5)
    np.testing.assert_array_equal(what.array(image) & 1, expected[0] > 0.5)
    options = PredictOptions(precision="fp32", tta=True, flip=(True, False), turn=False)
    mean = Predictor(LOCAL, options, regions=True).array(image, probabilities=True)
    np.testing.assert_allclose(mean, (expected + flipped) / 2, atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(grid=grids, tile=st.integers(8, 48), side=st.integers(1, 70), place=st.floats(0, 0.99))
def test_columns_change_nothing_but_the_order_of_sums_and_work_goes_on_anywhere(grid, tile, side, place):
    what, reader = predictor(BLENDED, (tile,)), prepared(grid)
    sizes = what.plan(reader).layout
    work = what.plan(reader, layout=Layout(sizes.tile, grid.shape[1:])).work
    narrow = what.plan(reader, layout=Layout(sizes.tile, (side,))).work
    label, shares = in_steps(what, reader, work)
    _, again = in_steps(what, reader, narrow)
    np.testing.assert_allclose(again, shares, atol=1e-5)
    first = int(place * len(narrow))
    for step, piece in what.pieces(reader, narrow, probabilities=True, first=first):
        assert step.number >= first
        expected = again[(slice(None), *piece.region.slices)]
        np.testing.assert_array_equal(piece.probabilities_KX, expected)  # bit by bit
    assert label.shape == grid.own


@pytest.mark.parametrize(("net", "shape", "tile"), [(VOLUMES, (33, 26, 29), (16,)), (SIGNALS, (301,), (64,))])
def test_blending_of_volumes_and_signals_is_the_naive_sum_over_tiles(net, shape, tile):
    image = np.random.default_rng(0).standard_normal((1, *shape), np.float32)
    what = predictor(net, tile)
    planned = what.plan(ArrayReader(image))
    total, weights = np.zeros((2, *shape)), np.zeros(shape)
    for part in planned.work.tiles:
        index = [(np.arange(n) - (n - 1) / 2) / (n / 8) for n in part.read.shape]
        axes = [np.exp(-0.5 * x**2) for x in index]
        weight = axes[0]
        for other in axes[1:]:
            weight = np.multiply.outer(weight, other)
        weight = np.maximum(weight, 1e-4)
        fitted = image[(slice(None), *part.read.slices)]
        total[(slice(None), *part.read.slices)] += predictor(net).array(fitted, probabilities=True) * weight
        weights[part.read.slices] += weight
    np.testing.assert_allclose(what.array(image, probabilities=True), total / weights, atol=1e-5)
    for sides in ((7,) * (len(shape) - 1), shape[1:]):
        work = what.plan(ArrayReader(image), layout=Layout(planned.layout.tile, sides)).work
        _, shares = in_steps(what, ArrayReader(image), work)
        np.testing.assert_allclose(shares, total / weights, atol=1e-5)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 50)), min_size=1, max_size=3))
def test_columns_partition_the_image(axes):
    shape, sides = tuple(n for n, _ in axes), [side for _, side in axes][1:]
    times = np.zeros(shape, int)
    for column in cut(shape, sides):
        assert (column.start[0], column.stop[0]) == (0, shape[0])
        assert all(n <= max(1, side) for n, side in zip(column.shape[1:], sides, strict=True))
        times[column.slices] += 1
    assert (times == 1).all()


def test_what_is_computed_twice_is_told():
    what = predictor(BLENDED, (32,))
    work = what.plan(ArrayReader(np.zeros((1, 64, 64), np.float32)), layout=Layout((32, 32), (64,))).work
    pairs = list(itertools.product(work.tiles.spans[0], work.tiles.spans[1]))
    area = sum((a.read_stop - a.read_start) * (b.read_stop - b.read_start) for a, b in pairs)
    assert work.twice == pytest.approx(area / 64**2 - 1)
    assert work.runs == len(work.tiles) == len(pairs)
    halves = what.plan(ArrayReader(np.zeros((1, 64, 64), np.float32)), layout=Layout((32, 32), (32,))).work
    assert halves.runs > work.runs
    assert halves.twice > work.twice
