"""Block by block is as the whole: components, holes and objects, for any image and any blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unetkit.core.region import Region
from unetkit.predict.post.components import components
from unetkit.predict.post.flood import Relief, flooded, relief_of_levels
from unetkit.predict.post.holes import UNKNOWN, filling
from unetkit.predict.post.room import CHUNKS, Room

PLENTY = 10**9


@st.composite
def images(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, ...], int]:
    """Values 0 … 2 in coarse or fine areas, the sides of blocks, and a seed."""
    ndim = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(1, {1: 60, 2: 14, 3: 6}[ndim])) for _ in range(ndim))
    seed = draw(st.integers(0, 2**32 - 1))
    values = np.random.default_rng(seed).choice(3, shape, p=draw(st.sampled_from([(0.4, 0.3, 0.3), (0.2, 0.7, 0.1)])))
    if draw(st.booleans()):
        for axis in range(ndim):
            values = values.repeat(draw(st.integers(1, 3)), axis)
    return values, tuple(draw(st.integers(1, 7)) for _ in range(ndim)), seed


def room(block: tuple[int, ...] | None) -> Room:
    return Room(Path("nothing lies on disk"), PLENTY, block)


def of(array: np.ndarray):  # type: ignore[no-untyped-def]
    return lambda region: array[region.slices]


@settings(max_examples=150, deadline=None)
@given(images(), st.booleans())
def test_components_are_those_of_scipy(image: tuple[np.ndarray, tuple[int, ...], int], diagonal: bool) -> None:
    values, block, _ = image
    structure = ndimage.generate_binary_structure(values.ndim, values.ndim if diagonal else 1)
    theirs, count = ndimage.label(values == 1, structure)
    ours = components(of(values), (1,), values.shape, room(block), "x", diagonal)
    assert np.array_equal(ours.read(Region.of(values.shape)), theirs)
    assert ours.count == count
    assert np.array_equal(ours.sizes, np.bincount(theirs.reshape(-1), minlength=count + 1))


@settings(max_examples=60, deadline=None)
@given(images())
def test_components_of_several_values_do_not_depend_on_blocks(image: tuple[np.ndarray, tuple[int, ...], int]) -> None:
    values, block, _ = image
    whole = components(of(values), (1, 2), values.shape, room(None), "x")
    parts = components(of(values), (1, 2), values.shape, room(block), "x")
    everything = Region.of(values.shape)
    ids = whole.read(everything)
    assert np.array_equal(parts.read(everything), ids)
    assert np.array_equal(parts.values, whole.values)
    assert np.array_equal(whole.values[ids], values)
    first = np.unique(ids[ids > 0], return_index=True)[1]
    assert (np.diff(first) > 0).all()  # in order of their first pixels


@settings(max_examples=150, deadline=None)
@given(images())
def test_holes_are_those_of_scipy(image: tuple[np.ndarray, tuple[int, ...], int]) -> None:
    values, block, _ = image
    inside = (values == 1).astype(int)
    theirs = ndimage.binary_fill_holes(inside) & (inside == 0)
    assert np.array_equal(filling(of(inside), values.shape, room(block), "x")(Region.of(values.shape)), theirs)


def test_holes_between_two_values_or_beside_what_is_not_known_stay_open() -> None:
    image = np.full((7, 11), 1, np.uint32)
    image[2:5, 2:5], image[2:5, 6:9] = 0, 0
    image[3, 9] = UNKNOWN
    image[6, 6:] = 2
    fill = filling(of(image), image.shape, room(None), "x")(Region.of(image.shape))
    assert (fill[2:5, 2:5] == 1).all()
    assert fill.sum() == 9
    image[2:5, 1] = 3
    assert not filling(of(image), image.shape, room(None), "x")(Region.of(image.shape)).any()


def test_holes_up_to_a_size() -> None:
    image = np.pad(np.zeros((3, 3), int), 2, constant_values=1)
    for largest, filled in ((8, 0), (9, 9)):
        assert (filling(of(image), image.shape, room(None), "x", largest)(Region.of(image.shape)) > 0).sum() == filled


@st.composite
def reliefs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, ...]]:
    """Ground, seeds in it, and heights of few different values: plateaus and ties are what is hard."""
    ndim = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(3, {1: 80, 2: 24, 3: 10}[ndim])) for _ in range(ndim))
    noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).random(shape)
    noise = ndimage.gaussian_filter(noise, draw(st.sampled_from([0.7, 1.2])))
    ground = noise > np.quantile(noise, draw(st.sampled_from([0.2, 0.5])))
    seeds = noise > np.quantile(noise, draw(st.sampled_from([0.6, 0.8])))
    steps = draw(st.sampled_from([3, 10, 1000]))
    height = np.round(-noise / noise.max() * steps).astype(np.float32)
    return ground, seeds, height, tuple(draw(st.integers(1, 9)) for _ in range(ndim))


@settings(max_examples=80, deadline=None)
@given(reliefs(), st.integers(1, 5))
def test_flat_ground_floods_by_blocks_as_the_whole_where_the_halo_reaches(
    relief: tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, ...]], halo: int
) -> None:
    ground, seeds, _, block = relief
    ndim, everything = ground.ndim, Region.of(ground.shape)
    # the condition: no ground is farther from a seed, along the ground, than the halo
    near = seeds.copy()
    for _ in range(halo):
        near |= ndimage.binary_dilation(near, np.ones((3,) * ndim)) & ground
    flat = Relief(of(seeds), of(near))
    whole = flooded(flat, ground.shape, room(None))
    parts = flooded(flat, ground.shape, room(block), halo=(halo,) * ndim)
    assert parts.count == whole.count
    assert np.array_equal(parts.read(everything), whole.read(everything))
    assert np.array_equal(parts.sizes, whole.sizes)


@settings(max_examples=80, deadline=None)
@given(reliefs())
def test_clumps_within_the_halo_flood_by_blocks_as_the_whole(
    relief: tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, ...]],
) -> None:
    ground, seeds, height, block = relief
    ground |= seeds
    clumps = ndimage.find_objects(ndimage.label(ground, np.ones((3,) * ground.ndim))[0])
    halo = tuple(max(box[axis].stop - box[axis].start for box in clumps) for axis in range(ground.ndim))
    hilly = Relief(of(seeds), of(ground), of(height))
    whole = flooded(hilly, ground.shape, room(None))
    parts = flooded(hilly, ground.shape, room(block), halo=halo)
    everything = Region.of(ground.shape)
    assert np.array_equal(parts.read(everything), whole.read(everything))
    assert np.array_equal(whole.read(everything) > 0, ground)


def test_ground_without_a_seed_is_an_object_of_its_own() -> None:
    label = np.zeros((8, 20), np.uint8)
    label[2:6, 2:8], label[3:5, 3:7] = 2, 1  # an object with an inside
    label[2:4, 12:15] = 2  # one that is border throughout
    found = flooded(relief_of_levels(of(np.array([-1.0, 1.0, 0.0])[label]), 0.9), label.shape, room(None), 4)
    assert found.sizes.tolist() == [label.size - 30, 24, 6]


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_what_does_not_fit_in_memory_lies_on_disk(tmp_path: Path, ndim: int) -> None:
    shape = {1: (CHUNKS[1] + 1000,), 2: (700, 600), 3: (70, 66, 80)}[ndim]
    noise = ndimage.gaussian_filter(np.random.default_rng(0).random(shape), 1.5)
    inside = noise > np.quantile(noise, 0.6)
    small = Room(tmp_path, int(inside.size * 4))  # bytes: a quarter of what the ids take
    ours = components(of(inside), (1,), shape, small, "areas")
    theirs, count = ndimage.label(inside, np.ones((3,) * ndim))
    assert (tmp_path / "areas").is_dir()
    assert len(list(small.blocks(shape, 32))) > 1
    assert ours.count == count
    assert np.array_equal(ours.read(Region.of(shape)), theirs)
