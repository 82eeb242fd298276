"""One draw, one warp, one intensity pass: equal to the naive sequence, replayable, mirrored at borders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from unetkit.augment.apply import augment, reach
from unetkit.augment.draw import Draws, draw
from unetkit.augment.intensity import change_intensity
from unetkit.augment.plan import AugmentPlan
from unetkit.augment.warp import sampling_grid, warp
from unetkit.core.rng import numpy_generator

OFF = AugmentPlan(
    flip=False, turn=False, rotate=0, scale=0, stretch=0, elastic=0, brightness=0, contrast=0, gamma=0, noise=0, blur=0
)


def draws_for(matrix: np.ndarray, **changes: np.ndarray) -> Draws:
    one, zero = np.ones(1), np.zeros(1)
    values = {"elastic_BDG": None, "gain_B": one, "shift_B": zero, "gamma_B": one, "noise_B": zero, "blur_B": zero}
    return Draws(matrix_BDD=matrix[None], noise_seed_B=np.zeros(1, np.int64), **(values | changes))


def scene(ndim: int, n: int = 24, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(g.normal(size=(n,) * ndim), 1.0).astype(np.float32)
    return torch.from_numpy(image)[None, None], torch.from_numpy((image > 0).astype(np.uint8))[None]


@pytest.mark.parametrize("ndim", [2, 3])
def test_nothing_drawn_is_a_plain_crop(ndim: int) -> None:
    image, label = scene(ndim)
    patch = (16,) * ndim
    out, mask = augment(image, label, patch, OFF, [np.random.default_rng(0)])
    inner = (..., *[slice(4, 20)] * ndim)
    assert torch.allclose(out, image[inner], atol=1e-5)
    assert torch.equal(mask, label[inner])


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_flips_and_quarter_turns_move_pixels_onto_pixels(turns: int, flip: bool) -> None:
    image, label = scene(2)
    matrix = np.linalg.matrix_power(np.array([[0.0, -1.0], [1.0, 0.0]]), turns) @ np.diag([-1.0 if flip else 1.0, 1.0])
    out, mask = warp(image, label, (16, 16), draws_for(matrix))
    crop = image[0, 0, 4:20, 4:20].numpy()
    # the sampling place is turned by +90°, so the picture is turned by −90°
    expected = np.rot90(crop, -turns)
    expected = expected[::-1] if flip else expected
    assert np.allclose(out[0, 0].numpy(), expected, atol=1e-4)
    assert np.array_equal(mask[0].numpy(), expected > 0)


@pytest.mark.parametrize("ndim", [2, 3])
def test_one_warp_equals_sampling_at_the_composed_places(ndim: int) -> None:
    """Flip, then turn, then zoom, then displace: composed point by point in plain numpy, and read by scipy."""
    image, label = scene(ndim, 48)
    patch = (16, 14, 12)[:ndim]
    plan = AugmentPlan(elastic=1.0, elastic_spacing=8)
    draws = draw(plan, patch, [numpy_generator(1, "sample", i) for i in range(3)])
    image3, label3 = image.expand(3, -1, *image.shape[2:]), label.expand(3, *label.shape[1:])
    out, mask = warp(image3, label3, patch, draws)
    for b in range(3):
        grids = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in patch], indexing="ij")
        places = np.einsum("ij,j...->i...", draws.matrix_BDD[b], np.stack(grids))
        mode = "bicubic" if ndim == 2 else "trilinear"
        coarse = torch.from_numpy(draws.elastic_BDG[b][None]).float()
        dense = torch.nn.functional.interpolate(coarse, size=patch, mode=mode, align_corners=True)[0].numpy()
        places = places + dense + (48 - 1) / 2
        expected = ndimage.map_coordinates(image[0, 0].numpy(), places, order=1, mode="mirror")
        assert np.abs(out[b, 0].numpy() - expected).max() < 2e-3
        labels = ndimage.map_coordinates(label[0].numpy(), places, order=0, mode="mirror")
        assert (mask[b].numpy() == labels).mean() > 0.99  # places half-way between two pixels may round either way


def test_a_patch_never_reaches_beyond_its_window() -> None:
    plan = AugmentPlan()
    patch = (64, 48)
    half = reach(plan, patch)
    draws = draw(plan, patch, [numpy_generator(0, i) for i in range(200)])
    grid = sampling_grid([2 * h for h in half], patch, draws)
    assert float(grid.abs().max()) <= 1.0


def test_a_sample_depends_on_its_own_generator_alone() -> None:
    image, label = scene(2, 64)
    plan = AugmentPlan(elastic=2.0)
    two = [numpy_generator(0, i) for i in (5, 6)]
    pair = augment(image.expand(2, -1, -1, -1), label.expand(2, -1, -1), (16, 16), plan, two)
    alone = augment(image, label, (16, 16), plan, [numpy_generator(0, 6)])
    assert torch.equal(pair[0][1:], alone[0])
    assert torch.equal(pair[1][1:], alone[1])


def test_intensity_pass_equals_the_naive_sequence() -> None:
    image, _ = scene(2)
    draws = draws_for(
        np.eye(2),
        gain_B=np.array([1.3]),
        shift_B=np.array([-0.2]),
        gamma_B=np.array([1.4]),
        blur_B=np.array([0.8]),
    )
    x = image[0, 0].numpy().astype(np.float64)
    x = ndimage.gaussian_filter(x, 0.8, mode="nearest", radius=2)
    low, span = x.min(), x.max() - x.min()
    x = ((x - low) / span) ** 1.4 * span + low
    x = x * 1.3 - 0.2
    assert np.allclose(change_intensity(image, draws)[0, 0].numpy(), x, atol=1e-4)


def test_noise_has_the_drawn_strength_and_is_replayed() -> None:
    image = torch.zeros(1, 1, 128, 128)
    draws = draws_for(np.eye(2), noise_B=np.array([0.5]))
    first, again = change_intensity(image, draws), change_intensity(image, draws)
    assert torch.equal(first, again)
    assert abs(float(first.std()) - 0.5) < 0.02


def test_turning_one_change_off_leaves_the_others() -> None:
    a = draw(AugmentPlan(), (32, 32), [numpy_generator(0, 1)])
    b = draw(AugmentPlan(noise=0.0, flip=False), (32, 32), [numpy_generator(0, 1)])
    assert np.array_equal(a.gain_B, b.gain_B)
    assert np.array_equal(a.elastic_BDG, b.elastic_BDG)
    assert np.array_equal(np.abs(np.linalg.det(a.matrix_BDD)), np.abs(np.linalg.det(b.matrix_BDD)))
