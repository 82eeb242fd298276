"""Objects parted by depth: by blocks as in the whole, the h-maxima of scikit-image, shapes that all would part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.morphology import local_maxima, reconstruction

from unetkit.core.region import Region
from unetkit.predict.post import divide
from unetkit.predict.post.divide import THRESHOLDS, basins, divided, expected_distance, joined
from unetkit.predict.post.room import Room


def room(block: tuple[int, ...] | None = None) -> Room:
    return Room(Path("nothing lies on disk"), 10**9, block)


def of(array: np.ndarray):  # type: ignore[no-untyped-def]
    return lambda region: array[region.slices]


@st.composite
def depths(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, ...]]:
    """Depths of blobs, in few or many steps, below 0 outside of them; and the sides of blocks."""
    ndim = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(3, {1: 90, 2: 30, 3: 11}[ndim])) for _ in range(ndim))
    noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).random(shape)
    noise = ndimage.gaussian_filter(noise, draw(st.sampled_from([0.8, 1.5])))
    low = np.quantile(noise, draw(st.sampled_from([0.2, 0.5, 0.7])))
    level = np.clip((noise - low) / (noise.max() - low + 1e-9) * 1.3, 0, 1)
    level = np.round(level * draw(st.sampled_from([4, 251]))) / 251
    level = np.where(noise > low, level / level.max() if level.max() else level, -1)
    return level.astype(np.float32), tuple(draw(st.integers(2, 9)) for _ in range(ndim))


def widest(ground: np.ndarray) -> tuple[int, ...]:
    """The sides of the box that holds every connected area."""
    boxes = ndimage.find_objects(ndimage.label(ground, np.ones((3,) * ground.ndim))[0])
    return tuple(max([box[axis].stop - box[axis].start for box in boxes], default=1) for axis in range(ground.ndim))


@settings(max_examples=50, deadline=None)
@given(depths(), st.sampled_from([0.0, 0.2, 0.5]), st.sampled_from([0.0, 0.5, 1.0]))
def test_clumps_within_the_halo_are_divided_by_blocks_as_in_the_whole(
    image: tuple[np.ndarray, tuple[int, ...]], neck: float, dip: float
) -> None:
    level, block = image
    everything, halo = Region.of(level.shape), widest(level >= 0)
    whole = divided(of(level), level.shape, room(), neck, dip)
    parts = divided(of(level), level.shape, room(block), neck, dip, halo=halo)
    ids = whole.read(everything)
    assert np.array_equal(parts.read(everything), ids)
    assert np.array_equal(parts.sizes, whole.sizes)
    assert np.array_equal(whole.sizes, np.bincount(ids.reshape(-1), minlength=whole.count + 1))
    assert np.array_equal(ids > 0, level >= 0)
    for number in range(1, whole.count + 1):
        assert ndimage.label(ids == number, np.ones((3,) * level.ndim))[1] == 1  # in one piece


@settings(max_examples=40, deadline=None)
@given(depths(), st.sampled_from([0.3, 0.8, 1.6]))
def test_without_a_share_there_is_an_object_for_each_of_the_h_maxima(
    image: tuple[np.ndarray, tuple[int, ...]], dip: float
) -> None:
    level, _ = image
    corners, dip = np.ones((3,) * level.ndim), dip + 1e-4
    hill = expected_distance(level, (1,) * level.ndim, 999).astype(float)
    high = np.pad(np.where(level >= 0, hill, -99), 1, constant_values=-99)
    # far below the ground, so that every area of it has a maximum of its own
    cut = reconstruction(np.where(high < 0, high, high - dip), high, footprint=corners)
    expected = ndimage.label((local_maxima(cut, connectivity=level.ndim) > 0) & (high >= 0), corners)[1]
    assert divided(of(level), level.shape, room(), 0.0, dip).count == expected


@pytest.mark.parametrize("radius", [5, 15])
def test_discs_that_touch_are_two_at_any_size_and_an_ellipse_is_one(radius: int) -> None:
    y, x = np.mgrid[: 4 * radius, : 6 * radius]
    pair = np.hypot(y - 2 * radius, x - 2 * radius) <= radius
    pair |= np.hypot(y - 2 * radius, x - 3.8 * radius) <= radius
    ellipse = np.hypot(y - 2 * radius, (x - 3 * radius) / 2) <= radius
    for shape, count in ((pair, 2), (ellipse, 1)):
        level = np.where(shape, 1.0, -1).astype(np.float32)
        assert divided(of(level), level.shape, room(), 0.2, 0.5).count == count


def test_a_gap_that_the_network_sees_parts_what_has_no_neck() -> None:
    level = np.full((11, 41), -1, np.float32)
    level[2:9, 2:39] = 1
    assert divided(of(level), level.shape, room(), 0.2, 0.5).count == 1
    level[2:9, 20] = 0.6  # below two of three thresholds
    assert divided(of(level), level.shape, room(), 0.2, 0.5).count == 2


def test_distances_are_means_over_thresholds_in_the_finest_unit_and_end_somewhere() -> None:
    level = np.array([[-1, 0.4, 0.6, 0.8, 1, 1, 1]], np.float32)
    one = [np.array([[0, 0, 1, 2, 3, 4, 5]]), np.array([[0, 0, 0, 1, 2, 3, 4]]), np.array([[0, 0, 0, 0, 1, 2, 3]])]
    assert len(THRESHOLDS) == 3
    np.testing.assert_allclose(expected_distance(level, (1, 1), 99), np.mean(one, 0), rtol=1e-6)
    np.testing.assert_allclose(expected_distance(level, (1, 3), 99), np.mean(one, 0) * 3, rtol=1e-6)
    np.testing.assert_allclose(expected_distance(level, (1, 1), 2), np.mean(np.minimum(one, 2), 0), rtol=1e-6)
    assert (expected_distance(np.ones((3, 3), np.float32), (1, 1), 7) == 7).all()
    assert not expected_distance(np.zeros((3, 3), np.float32), (1, 1), 7).any()


def test_slices_far_apart_are_parted_as_finer_ones() -> None:
    z, y, x = np.mgrid[:24, :24, :40]
    balls = (np.sqrt((z - 12) ** 2 + (y - 12) ** 2 + (x - 12) ** 2) < 8) | (
        np.sqrt((z - 12) ** 2 + (y - 12) ** 2 + (x - 26) ** 2) < 8
    )
    level = np.where(balls, 1.0, -1).astype(np.float32)
    assert divided(of(level), level.shape, room(), 0.2, 0.5).count == 2
    thin = level[::3]
    assert divided(of(thin), thin.shape, room(), 0.2, 0.5, spacing=(3.0, 1.0, 1.0)).count == 2


def test_what_does_not_fit_in_memory_is_divided_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(divide.FARTHEST, 2, 8)
    monkeypatch.setitem(divide.HALO, 2, 24)
    noise = ndimage.gaussian_filter(np.random.default_rng(0).random((500, 400)), 2.5)
    level = np.where(noise > np.quantile(noise, 0.7), 1.0, -1).astype(np.float32)
    everything = Region.of(level.shape)
    whole = divided(of(level), level.shape, Room(tmp_path / "a", 10**9), 0.2, 0.5)
    small = divided(of(level), level.shape, Room(tmp_path / "b", level.size * 30), 0.2, 0.5)
    assert (tmp_path / "b" / "hills").is_dir()
    same = np.mean(small.read(everything) == whole.read(everything))
    assert small.count == whole.count
    assert same > 0.999


def test_joining_more_never_makes_more_objects_and_keeps_every_pixel() -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(1).random((80, 90)), 1.5)
    level = np.where(noise > np.quantile(noise, 0.4), 1.0, -1).astype(np.float32)
    found = basins(of(level), level.shape, room())
    counts = [joined(found, neck, 0.0).count for neck in (0.0, 0.1, 0.2, 0.4, 0.8, 1.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[2] > counts[-1]
    areas = ndimage.label(level >= 0, np.ones((3, 3)))[1]
    assert counts[-1] == areas  # all that touch are one
