"""The grid that a network sees: where voxels lie, what resampling makes of them, and the way back."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from nibabel.affines import from_matvec
from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.prepared.grid import Grid, make_grid, orientation_codes, reorientation
from unetkit.data.prepared.resample import Kernel

CODES = [
    "".join(pair[side] for pair, side in zip(pairs, sides, strict=True))
    for pairs in itertools.permutations(("LR", "PA", "IS"))
    for sides in itertools.product((0, 1), repeat=3)
]


def _grid(own: tuple[int, ...], shape: tuple[int, ...], kernel: Kernel = "cubic") -> Grid:
    n = len(own)
    return Grid(own, shape, tuple(range(n)), (False,) * n, (kernel,) * n)


def _bring(grid: Grid, own_CX: np.ndarray) -> np.ndarray:
    return grid.bring(own_CX.astype(np.float32), Region.of(grid.own), Region.of(grid.shape))


def _label(grid: Grid, own_X: np.ndarray, bits: bool = False) -> np.ndarray:
    return grid.bring_label(own_X.astype(np.uint8), Region.of(grid.own), Region.of(grid.shape), bits)


def test_orientation_codes_are_those_of_nibabel() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        affine = np.eye(4)
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] if rng.random() < 0.7 else rng.normal(size=(3, 3))
        affine[:3, :3] = turn @ np.diag(rng.uniform(0.2, 6, 3))
        assert orientation_codes(affine.ravel().tolist()) == "".join(nibabel.aff2axcodes(affine))


@pytest.mark.parametrize("codes", CODES)
def test_every_orientation_is_brought_to_every_other_as_nibabel_does(codes: str) -> None:
    volume = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    for target in ("RAS", "LPS", "SAR"):
        order, flips = reorientation(codes, target)
        grid = Grid(volume.shape, tuple(volume.shape[a] for a in order), order, flips, ("cubic",) * 3)
        expected = apply_orientation(volume, ornt_transform(axcodes2ornt(codes), axcodes2ornt(target)))
        np.testing.assert_array_equal(_bring(grid, volume[None])[0], expected)
        assert grid.identity == (codes == target)


def test_a_grid_from_the_header() -> None:
    oblique = from_matvec([[0, 0.1, 3.0], [-0.5, 0.02, 0.0], [0.0, 0.5, -0.4]], [7, 8, 9])
    assert orientation_codes(oblique.ravel().tolist()) == "PSR"
    spacing = (0.5, 0.51, 3.0)
    grid = make_grid((60, 40, 20), spacing, "PSR", target=(2.0, 0.5, 0.5), orientation="RAS")
    assert (grid.order, grid.flips) == ((2, 0, 1), (False, True, False))
    # towards the right 20 voxels of 3 mm become 30 of 2; 2 % are no difference
    assert grid.shape == (30, 60, 40)
    assert grid.spacing(spacing) == pytest.approx((2.0, 0.5, 0.51))
    assert grid.kernels == ("nearest", "cubic", "cubic")
    assert not grid.identity
    assert grid.moved


def test_what_is_not_known_is_left_alone() -> None:
    assert make_grid((30, 20, 10), None, "", (1.0, 1.0, 1.0), "RAS") == Grid.same((30, 20, 10))
    assert make_grid((30, 20, 10), (1.01, 0.99, 1.0), "", (1.0, 1.0, 1.0)).identity
    assert make_grid((5000,), (0.002,), "", (0.004,)).shape == (2500,)


def test_identity_copies_nothing() -> None:
    grid, image, label = Grid.same((4, 5)), np.zeros((1, 4, 5), np.float32), np.zeros((4, 5), np.uint8)
    whole = Region.of((4, 5))
    assert np.shares_memory(grid.bring(image, whole, whole), image)
    assert np.shares_memory(grid.bring_label(label, whole, whole), label)
    assert np.shares_memory(grid.back(image, whole, whole), image)
    assert grid.context() == (0, 0)


@pytest.mark.parametrize(("have", "want"), [(40, 100), (40, 63), (100, 40), (63, 40)])
def test_kernels_are_those_of_torch_away_from_the_border(have: int, want: int) -> None:
    """torch's antialiased modes: cubic with a = −0.5, both widened where pixels become fewer."""
    image = torch.from_numpy(np.random.default_rng(have).normal(size=(1, 1, have, 30)).astype(np.float32))
    inside = slice(want // 8, -want // 8)
    grid = _grid((have, 30), (want, 30))
    expected = F.interpolate(image.double(), (want, 30), mode="bicubic", align_corners=False, antialias=True)[
        0, :, inside
    ]
    np.testing.assert_allclose(_bring(grid, image[0].numpy())[:, inside], expected, atol=3e-6)
    back = _grid((want, 30), (have, 30))  # its way back goes from `have` to `want`, linearly
    expected = F.interpolate(image.double(), (want, 30), mode="bilinear", align_corners=False, antialias=True)[
        0, :, inside
    ]
    found = back.back(image[0].numpy(), Region.of((have, 30)), Region.of((want, 30)))
    np.testing.assert_allclose(found[:, inside], expected, atol=3e-6)


def test_parabolas_stay_and_constants_stay_to_the_border() -> None:
    grid = _grid((20,), (50,))
    place = (np.arange(50) + 0.5) * 0.4 - 0.5
    parabola = _bring(grid, (np.arange(20.0)[None] - 3) ** 2)[0]
    np.testing.assert_allclose(parabola[6:-6], (place[6:-6] - 3) ** 2, rtol=1e-5, atol=1e-4)
    for shape in ((50,), (7,), (1,)):
        np.testing.assert_allclose(_bring(_grid((20,), shape), np.full((1, 20), 3.25)), 3.25, rtol=1e-6)


def test_what_a_coarser_grid_cannot_hold_is_averaged() -> None:
    stripes = np.tile([1.0, -1.0], 100)[None]
    assert np.abs(_bring(_grid((200,), (50,)), stripes))[0, 2:-2].max() < 1e-6


def test_slices_of_a_thick_axis_are_not_mixed() -> None:
    slices = np.arange(5.0)[None, :, None] + np.zeros((1, 5, 8))
    grid = Grid((5, 8), (10, 4), (0, 1), (False, False), ("nearest", "cubic"))
    np.testing.assert_allclose(_bring(grid, slices)[0, :, 1], np.repeat(np.arange(5.0), 2), atol=1e-6)


def test_the_largest_share_has_the_voxel_and_the_lower_class_a_tie() -> None:
    halved = _grid((4, 4), (2, 2))
    label = np.array([[2, 2, 1, 1], [2, 0, 1, 1], [3, 3, 1, 1], [3, 3, 1, 1]])
    np.testing.assert_array_equal(_label(halved, label), [[2, 1], [3, 1]])
    np.testing.assert_array_equal(_label(_grid((2,), (1,)), np.array([5, 4])), [4])
    # of three pixels that become two, the middle one is shared evenly
    np.testing.assert_array_equal(_label(_grid((3,), (6,)), np.array([7, 0, 1])), [7, 7, 0, 0, 1, 1])


def test_unlabelled_stays_where_it_prevails() -> None:
    label = np.array([IGNORE, IGNORE, IGNORE, 1, 1, 1, 1, IGNORE])  # halves of the second and the last: a tie
    np.testing.assert_array_equal(_label(_grid((8,), (4,)), label), [IGNORE, 1, 1, 1])
    np.testing.assert_array_equal(_label(_grid((8,), (4,)), label, bits=True), [IGNORE, 1, 1, 1])


def test_overlapping_regions_are_resampled_each_for_itself() -> None:
    first, second = np.zeros((2, 12, 12), bool)
    first[2:8, 2:8], second[4:, 4:] = True, True
    grid = _grid((12, 12), (30, 7))
    both = _label(grid, first + 2 * second, bits=True)
    for bit, region in enumerate((first, second)):
        # a tie between a region and the rest goes to the region: it is the lower class of the inverse
        np.testing.assert_array_equal((both >> bit) & 1, 1 - _label(grid, ~region))


def test_a_fine_grid_comes_back_as_means_of_its_voxels() -> None:
    fine = np.random.default_rng(1).random((1, 400), np.float32)
    back = _grid((100,), (400,)).back(fine, Region.of((400,)), Region.of((100,)))
    assert np.corrcoef(back[0], fine.reshape(100, 4).mean(axis=1))[0, 1] > 0.9
    scores = np.stack([fine[0], 1 - fine[0]])
    sums = _grid((90,), (400,)).back(scores, Region.of((400,)), Region.of((90,))).sum(axis=0)
    np.testing.assert_allclose(sums, 1, atol=1e-6)


def test_too_little_given_is_said() -> None:
    grid = _grid((40,), (20,))
    with pytest.raises(ValueError, match="was given"):
        grid.bring(np.zeros((1, 10), np.float32), Region((0,), (10,)), Region((0,), (10,)))
