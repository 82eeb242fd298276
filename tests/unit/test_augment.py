"""One draw, one warp, one intensity pass: equal to the naive sequence, replayable, mirrored at borders."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.color import rgb_from_hed

from unetkit.augment.apply import Augmented, augment
from unetkit.augment.draw import Draws, colour_matrix, draw
from unetkit.augment.intensity import change_intensity
from unetkit.augment.plan import AugmentPlan
from unetkit.augment.warp import mirrored, warp
from unetkit.core.errors import PlanError
from unetkit.core.rng import numpy_generator

OFF = AugmentPlan(
    flip=False, turn=False, rotate=0, scale=0, stretch=0, elastic=0, brightness=0, contrast=0, gamma=0, noise=0, blur=0
)


def draws_for(matrix: np.ndarray, **changes: np.ndarray) -> Draws:
    one, zero = np.ones(1), np.zeros(1)
    values = {"elastic_BDG": None, "gain_B": one, "shift_B": zero, "gamma_B": one, "noise_B": zero, "blur_B": zero}
    return Draws(matrix_BDD=matrix[None], noise_seed_B=np.zeros(1, np.int64), **(values | changes))


def scene(ndim: int, n: int = 24, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """One image (1, *space) and its label (*space)."""
    g = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(g.normal(size=(n,) * ndim), 1.0).astype(np.float32)
    return torch.from_numpy(image)[None], torch.from_numpy((image > 0).astype(np.uint8))


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_nothing_drawn_is_a_plain_crop(ndim: int) -> None:
    image, label = scene(ndim)
    patch = (16,) * ndim
    done = augment([image], [label], [(12,) * ndim], patch, OFF, [np.random.default_rng(0)])
    out, mask = done.image_BCX, done.label_BX
    inner = [slice(4, 20)] * ndim
    assert torch.equal(out[0], image[(slice(None), *inner)])
    assert torch.equal(mask[0], label[tuple(inner)])


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_flips_and_quarter_turns_move_pixels_onto_pixels(turns: int, flip: bool) -> None:
    image, label = scene(2)
    matrix = np.linalg.matrix_power(np.array([[0.0, -1.0], [1.0, 0.0]]), turns) @ np.diag([-1.0 if flip else 1.0, 1.0])
    out, mask = warp([image], [label], [(12, 12)], (16, 16), draws_for(matrix))
    crop = image[0, 4:20, 4:20].numpy()
    # the sampling place is turned by +90°, so the picture is turned by −90°
    expected = np.rot90(crop, -turns)
    expected = expected[::-1] if flip else expected
    assert np.allclose(out[0, 0].numpy(), expected, atol=1e-4)
    assert np.array_equal(mask[0].numpy(), expected > 0)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_one_warp_equals_sampling_at_the_composed_places(ndim: int) -> None:
    """Flip, then turn, then zoom, then displace: composed point by point in plain numpy, and read by scipy. The centre
    lies near a corner, so that much of the patch is mirrored."""
    image, label = scene(ndim, 40)
    patch, centre = (16, 14, 12)[:ndim], (30, 9, 20)[:ndim]
    plan = AugmentPlan(elastic=1.0, elastic_spacing=8)
    draws = draw(plan, patch, [numpy_generator(1, "sample", i) for i in range(3)])
    out, mask = warp([image] * 3, [label] * 3, [centre] * 3, patch, draws)
    for b in range(3):
        grids = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in patch], indexing="ij")
        places = np.einsum("ij,j...->i...", draws.matrix_BDD[b], np.stack(grids))
        coarse = draws.elastic_BDG[b]
        if ndim == 1:
            row = F.interpolate(
                torch.from_numpy(coarse[None, :, None]), (1, *patch), mode="bicubic", align_corners=True
            )
            dense = row[0, :, 0].numpy()
        elif ndim == 2:
            grid = torch.from_numpy(coarse[None])
            dense = F.interpolate(grid, patch, mode="bicubic", align_corners=True)[0].numpy()
        else:  # torch has no tricubic interpolation: two axes, then the third
            flat = F.interpolate(
                torch.from_numpy(coarse.reshape(1, -1, *coarse.shape[2:])),
                patch[1:],
                mode="bicubic",
                align_corners=True,
            )[0].reshape(3, coarse.shape[1], -1)
            dense = F.interpolate(flat[None], (patch[0], flat.shape[-1]), mode="bicubic", align_corners=True)[0]
            dense = dense.reshape(3, *patch).numpy()
        places = places + dense + np.reshape(centre, (-1, *[1] * ndim)) - 0.5
        expected = ndimage.map_coordinates(image[0].numpy(), places, order=1, mode="mirror")
        assert np.abs(out[b, 0].numpy() - expected).max() < 2e-3
        labels = ndimage.map_coordinates(label.numpy(), places, order=0, mode="mirror")
        assert (mask[b].numpy() == labels).mean() > 0.99  # places half-way between two pixels may round either way


def test_codes_of_integers_are_copied_exactly_even_where_they_are_mirrored() -> None:
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, 60_000, 70_001))
    label = (codes % 7).to(torch.uint8)
    done = augment([codes.float()[None]], [label], [(69_990,)], (65,), OFF, [np.random.default_rng(0)])
    out, mask = done.image_BCX, done.label_BX
    expected = np.pad(codes.numpy(), 100, mode="reflect")[100 + 69_958 : 100 + 70_023]
    assert np.array_equal(out[0, 0].numpy(), expected)
    assert np.array_equal(mask[0].numpy(), expected % 7)


@pytest.mark.parametrize("centre", [37, 2_000_000, 2_999_960])
def test_a_very_long_signal_is_sampled_as_precisely_as_a_short_one(centre: int) -> None:
    n = 3_000_000
    label = torch.from_numpy((np.arange(n) // 5 % 3).astype(np.uint8))
    signal = torch.from_numpy(np.random.default_rng(0).normal(size=n).astype(np.float32))
    draws = draws_for(np.array([[0.75]]))
    out, mask = warp([signal[None]], [label], [(centre,)], (200,), draws)
    places = 0.75 * (np.arange(200) - 99.5) + centre - 0.5
    folded = np.abs(places)
    folded = np.minimum(folded, 2 * (n - 1) - folded)
    low = np.minimum(np.floor(folded).astype(int), n - 2)
    x = signal.numpy().astype(np.float64)
    expected = x[low] + (folded - low) * (x[low + 1] - x[low])
    assert np.abs(out[0, 0].numpy() - expected).max() < 1e-3
    near = label.numpy()[np.round(folded).astype(int)]
    assert (mask[0].numpy() == near).mean() > 0.98  # half-way places may round either way


def test_turns_in_thick_slices_happen_in_space_and_not_in_the_grid() -> None:
    plan = AugmentPlan(rotate=90, scale=0, stretch=0, flip=False, turn=False, elastic=2.0, aspect=(4.0, 1.0, 1.0))
    drawn = draw(plan, (8, 32, 32), [numpy_generator(0, i) for i in range(4)])
    scale = np.diag(plan.aspect)
    for matrix in drawn.matrix_BDD:
        in_space = scale @ matrix @ np.linalg.inv(scale)
        assert np.allclose(in_space @ in_space.T, np.eye(3), atol=1e-9), "a turn, which keeps all lengths"
    assert drawn.elastic_BDG is not None
    reach = np.abs(drawn.elastic_BDG).max(axis=(0, 2, 3, 4))
    assert reach[0] < 0.5 * reach[1], "a shift of so many millimetres is fewer thick slices"


def test_mirroring_may_be_allowed_along_some_axes_only() -> None:
    plan = OFF.model_copy(update={"flip": (False, True)})
    signs = draw(plan, (8, 8), [numpy_generator(0, i) for i in range(20)]).matrix_BDD
    assert (signs[:, 0, 0] == 1).all()
    assert set(signs[:, 1, 1]) == {1, -1}


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(-30, 30), st.integers(1, 20))
def test_outside_the_image_it_is_mirrored_as_numpy_does(n: int, start: int, length: int) -> None:
    index = np.arange(start, start + length)
    expected = np.pad(np.arange(n), 60, mode="reflect")[index + 60]
    assert np.array_equal(mirrored(torch.from_numpy(index).float(), n).numpy(), expected)


def test_images_of_different_sizes_and_one_pixel_make_one_batch() -> None:
    pairs = [scene(2, n) for n in (1, 5, 40)]
    images, labels = [p[0] for p in pairs], [p[1] for p in pairs]
    plan = AugmentPlan()
    generators = [numpy_generator(0, i) for i in range(3)]
    done = augment(images, labels, [(0, 0), (2, 2), (20, 20)], (16, 16), plan, generators)
    out, mask = done.image_BCX, done.label_BX
    assert out.shape == (3, 1, 16, 16)
    assert torch.isfinite(out).all()
    assert set(mask[0].unique().tolist()) == set(labels[0].unique().tolist())


def test_a_sample_depends_on_its_own_generator_alone() -> None:
    image, label = scene(2, 64)
    plan = AugmentPlan(elastic=2.0)
    two = [numpy_generator(0, i) for i in (5, 6)]
    pair = augment([image] * 2, [label] * 2, [(30, 30)] * 2, (16, 16), plan, two)
    alone = augment([image], [label], [(30, 30)], (16, 16), plan, [numpy_generator(0, 6)])
    assert torch.equal(pair.image_BCX[1:], alone.image_BCX)
    assert torch.equal(pair.label_BX[1:], alone.label_BX)


def test_the_images_themselves_are_left_as_they_are() -> None:
    image, label = scene(2)
    before = image.clone()
    augment([image], [label], [(12, 12)], (16, 16), AugmentPlan(), [numpy_generator(0, 1)])
    assert torch.equal(image, before)


def test_intensity_pass_equals_the_naive_sequence() -> None:
    image, _ = scene(2)
    draws = draws_for(
        np.eye(2),
        gain_B=np.array([1.3]),
        shift_B=np.array([-0.2]),
        gamma_B=np.array([1.4]),
        blur_B=np.array([0.8]),
    )
    x = image[0].numpy().astype(np.float64)
    x = ndimage.gaussian_filter(x, 0.8, mode="nearest", radius=2)
    low, span = x.min(), x.max() - x.min()
    x = ((x - low) / span) ** 1.4 * span + low
    x = x * 1.3 - 0.2
    assert np.allclose(change_intensity(image[None], draws)[0, 0].numpy(), x, atol=1e-4)


def test_noise_has_the_drawn_strength_and_is_replayed() -> None:
    image = torch.zeros(1, 1, 128, 128)
    draws = draws_for(np.eye(2), noise_B=np.array([0.5]))
    first, again = change_intensity(image.clone(), draws), change_intensity(image.clone(), draws)
    assert torch.equal(first, again)
    assert abs(float(first.std()) - 0.5) < 0.02
    colour = change_intensity(torch.zeros(1, 3, 128, 128), draws)[0].reshape(3, -1)
    assert torch.corrcoef(colour).fill_diagonal_(0).abs().max() < 0.03, "channels have noise of their own"


def test_turning_one_change_off_leaves_the_others() -> None:
    a = draw(AugmentPlan(), (32, 32), [numpy_generator(0, 1)])
    b = draw(AugmentPlan(noise=0.0, flip=False), (32, 32), [numpy_generator(0, 1)])
    assert np.array_equal(a.gain_B, b.gain_B)
    assert np.array_equal(a.elastic_BDG, b.elastic_BDG)
    assert np.array_equal(np.abs(np.linalg.det(a.matrix_BDD)), np.abs(np.linalg.det(b.matrix_BDD)))


def test_thick_slices_are_changed_in_their_plane_alone_and_all_alike() -> None:
    plan = AugmentPlan(flip=False, turn=False, fixed=(2,), aspect=(1.0, 1.0, 5.0), elastic=3.0, elastic_spacing=8)
    draws = draw(plan, (16, 16, 6), [numpy_generator(3, "sample", i) for i in range(4)])
    assert (draws.matrix_BDD[:, 2] == [0, 0, 1]).all()
    assert (draws.matrix_BDD[:, :, 2] == [0, 0, 1]).all()
    assert not np.allclose(draws.matrix_BDD[:, 0, 1], 0), "it is turned in the plane"
    assert draws.elastic_BDG is not None
    assert draws.elastic_BDG.shape[-1] == 1
    assert (draws.elastic_BDG[:, 2] == 0).all()
    # a volume whose slices are all one picture stays so, and what differs between slices is not mixed
    picture, label = scene(2, 40)
    slices = torch.arange(8.0)
    volume = torch.stack([picture[..., None].expand(1, 40, 40, 8)[0], slices.expand(40, 40, 8)])
    out, mask = warp([volume] * 4, [label[..., None].expand(40, 40, 8)] * 4, [(20, 20, 4)] * 4, (16, 16, 6), draws)
    assert torch.allclose(out[:, 1], slices[1:7].expand_as(out[:, 1]), atol=1e-5)
    assert torch.allclose(out[:, 0], out[:, 0, :, :, :1].expand_as(out[:, 0]), atol=1e-5)
    assert torch.equal(mask, mask[..., :1].expand_as(mask))


def test_axes_that_stay_are_counted_from_0() -> None:
    with pytest.raises(PlanError, match=r"augment\.fixed|fixed.*three at most"):
        AugmentPlan.parse({"fixed": (3,)}, "test")


# Everything that needs no other sample of the batch, in every sample.
ALONE = AugmentPlan(
    shear=20,
    gamma_share=1,
    gamma_inverted=0.5,
    noise_share=1,
    blur_share=1,
    low_resolution=0.7,
    low_resolution_share=1,
    bias=0.4,
    bias_share=1,
    saturation=0.3,
    hue=20,
    stain=0.1,
    channel_drop=1,
    cut_out=1,
)


def batch(plan: AugmentPlan, images: list[torch.Tensor], labels: list[torch.Tensor], *keys: int) -> Augmented:
    space = labels[0].shape
    patch = tuple(min(n, 16) for n in space)
    centres = [tuple(n // 2 for n in space)] * len(images)
    return augment(images, labels, centres, patch, plan, [numpy_generator(0, k) for k in keys])


def test_with_every_change_a_sample_still_depends_on_its_own_generator_alone() -> None:
    label = scene(2, 40)[1]
    colour = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    pair = batch(ALONE, [colour] * 2, [label] * 2, 5, 6)
    alone = batch(ALONE, [colour], [label], 6)
    assert torch.equal(pair.image_BCX[1:], alone.image_BCX)
    assert torch.equal(pair.label_BX[1:], alone.label_BX)
    assert pair.other_BX is None


def test_turning_a_later_change_off_leaves_the_others() -> None:
    whole = draw(ALONE.model_copy(update={"paste": 1.0, "mix_up": 0.3}), (32, 32), [numpy_generator(0, 1)])
    for name, column in (
        ("low_resolution", "resolution_B"),
        ("bias", "bias_BG"),
        ("stain", "stain_B32"),
        ("channel_drop", "channel_B"),
        ("cut_out", "boxes_BND2"),
        ("gamma_inverted", "inverted_B"),
    ):
        changes = {"paste": 1.0, "mix_up": 0.3, name: 0.0}
        without = draw(ALONE.model_copy(update=changes), (32, 32), [numpy_generator(0, 1)])
        assert getattr(without, column) is None
        for field in dataclasses.fields(Draws):
            if field.name != column:
                assert np.array_equal(getattr(whole, field.name), getattr(without, field.name)), (name, field.name)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_no_class_is_invented_and_what_nobody_labelled_stays_so(ndim: int) -> None:
    g = np.random.default_rng(0)
    label = torch.from_numpy(g.choice([0, 3, 9, 255], size=(20,) * ndim).astype(np.uint8))
    plan = ALONE.model_copy(update={"saturation": 0.0, "hue": 0.0, "stain": 0.0, "channel_drop": 0.0})
    changes = {"paste": 1.0, "paste_classes": (3,), "cut_out_label": "keep"}
    done = batch(plan.model_copy(update=changes), [scene(ndim, 20)[0].repeat(2, *[1] * ndim)] * 2, [label] * 2, 1, 2)
    assert set(done.label_BX.unique().tolist()) <= {0, 3, 9, 255}
    ignored = torch.full_like(label, 255)
    assert (batch(plan, [scene(ndim, 20)[0]], [ignored], 1).label_BX == 255).all()


@pytest.mark.parametrize("shape", [(1,), (30,), (1, 30), (30, 1), (30, 30), (1, 20, 20), (20, 1, 20), (8, 8, 8)])
def test_constant_images_and_axes_of_one_pixel_stay_numbers(shape: tuple[int, ...]) -> None:
    image, label = torch.full((3, *shape), 0.5), torch.ones(shape, dtype=torch.uint8)
    done = batch(ALONE.model_copy(update={"mix_up": 0.4}), [image] * 2, [label] * 2, 1, 2)
    assert torch.isfinite(done.image_BCX).all()
    assert set(done.label_BX.unique().tolist()) <= {1, 255}
    quiet = OFF.model_copy(update={"gamma": 0.5, "gamma_share": 1.0, "bias": 0.5, "bias_share": 1.0, "blur": 1.0})
    assert torch.allclose(batch(quiet, [image], [label], 3).image_BCX, torch.tensor(0.5)), "nothing to be changed"


def test_a_patch_of_one_slice_shows_that_slice_and_no_other() -> None:
    picture = scene(2, 40)[0]
    slices = torch.arange(9.0)
    volume = torch.stack([picture[0, ..., None].expand(40, 40, 9), slices.expand(40, 40, 9)])
    labels = torch.arange(9, dtype=torch.uint8).expand(40, 40, 9).contiguous()
    plan = AugmentPlan(flip=(True, True, False), turn=False, fixed=(2,), elastic=2.0, elastic_spacing=8)
    draws = draw(plan, (16, 16, 1), [numpy_generator(0, 0)])
    out, mask = warp([volume], [labels], [(20, 20, 4)], (16, 16, 1), draws)
    assert torch.allclose(out[0, 1], torch.tensor(4.0), atol=1e-5)
    assert (mask == 4).all()
    three, _ = warp([volume], [labels], [(20, 20, 4)], (16, 16, 3), draw(plan, (16, 16, 3), [numpy_generator(0, 0)]))
    assert torch.allclose(three[0, 1, 0, 0], torch.tensor([3.0, 4.0, 5.0]), atol=1e-5)


def test_the_order_of_axes_in_memory_does_not_matter() -> None:
    image, label = scene(3)
    plan, keys = AugmentPlan(elastic=2.0), [numpy_generator(0, 0)]
    turned_image = image.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1)
    turned_label = label.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    a = augment([image], [label], [(12, 12, 12)], (8, 8, 8), plan, keys)
    b = augment([turned_image], [turned_label], [(12, 12, 12)], (8, 8, 8), plan, [numpy_generator(0, 0)])
    assert torch.equal(a.image_BCX, b.image_BCX)
    assert torch.equal(a.label_BX, b.label_BX)


def test_pasted_objects_are_whole_and_have_their_border() -> None:
    """Two patches: one of nothing, one with a ring of border around an inside, and a second object cut by the edge."""
    empty = torch.zeros(16, 16, dtype=torch.uint8)
    full = empty.clone()
    full[3:9, 4:10], full[4:8, 5:9] = 2, 1
    full[12:, 3:8] = 2
    images = [torch.zeros(1, 16, 16), full[None].float() + 5]
    plan = OFF.model_copy(update={"paste": 1.0, "paste_classes": (1, 2), "paste_border": 2, "paste_most": 1})
    done = batch(plan, images, [empty, full], 0, 1)
    label = done.label_BX[0].numpy()
    rows, columns = np.nonzero(label)
    box = label[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert np.array_equal(box, full[3:9, 4:10].numpy()), "one of the two: the other was cut off by the edge"
    assert torch.equal(done.image_BCX[0, 0], torch.where(done.label_BX[0] > 0, done.label_BX[0] + 5.0, 0.0))


def test_what_a_pasted_object_covers_in_part_gets_a_border_beside_it() -> None:
    small = torch.zeros(16, 16, dtype=torch.uint8)
    small[6:9, 6:9] = 1
    large = torch.ones(16, 16, dtype=torch.uint8)
    plan = OFF.model_copy(update={"paste": 1.0, "paste_classes": (1, 2), "paste_border": 2})
    label = batch(plan, [torch.zeros(1, 16, 16)] * 2, [large, small], 0, 1).label_BX[0].numpy()
    assert set(np.unique(label)) == {1, 2}
    pieces, count = ndimage.label(label == 1)
    assert count == 2, "the pasted object is apart from the one that it lies on"
    assert sorted(np.bincount(pieces.reshape(-1))[1:])[0] == 9


def test_a_batch_of_one_pastes_from_itself_and_is_no_mixture() -> None:
    label = torch.zeros(16, 16, dtype=torch.uint8)
    label[2:5, 2:5] = 1
    plan = OFF.model_copy(update={"paste": 1.0, "paste_classes": (1,), "mix_up": 0.4, "mix_up_share": 1.0})
    done = batch(plan, [torch.zeros(1, 16, 16)], [label], 0)
    assert 9 <= int(done.label_BX.sum()) <= 18
    assert (done.other_BX, done.mix) == (None, 1.0)


def test_boxes_are_filled_with_the_mean_and_ignored_unless_kept() -> None:
    image, label = scene(2)
    plan = OFF.model_copy(update={"cut_out": 1.0, "cut_out_size": 0.5})
    whole, done = batch(OFF, [image], [label], 3), batch(plan, [image], [label], 3)
    gone = done.label_BX[0] == 255
    assert 0.05 < gone.float().mean() < 0.8
    assert torch.allclose(done.image_BCX[0, 0][gone], whole.image_BCX.mean(), atol=1e-6)
    assert torch.equal(done.image_BCX[0, 0][~gone], whole.image_BCX[0, 0][~gone])
    kept = batch(plan.model_copy(update={"cut_out_label": "keep"}), [image], [label], 3)
    assert torch.equal(kept.label_BX, whole.label_BX)
    assert torch.equal(kept.image_BCX, done.image_BCX)


def test_one_channel_is_blanked_and_never_all() -> None:
    image = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0))
    label = torch.zeros(16, 16, dtype=torch.uint8)
    plan = OFF.model_copy(update={"channel_drop": 0.5})
    done = batch(plan, [image] * 40, [label] * 40, *range(40))
    flat = (done.image_BCX.flatten(2).std(dim=2) < 1e-6).sum(dim=1)
    assert set(flat.tolist()) == {0, 1}
    gone = done.image_BCX.flatten(2).std(dim=2) < 1e-6
    assert gone.any(dim=0).all(), "each of them now and then"
    assert torch.equal(batch(plan, [image[:1]] * 9, [label] * 9, *range(9)).image_BCX[0], image[:1]), "of one: none"


def test_mixtures_are_of_two_neighbours_of_the_batch() -> None:
    images = [torch.full((1, 16, 16), float(k)) for k in range(3)]
    labels = [torch.full((16, 16), k, dtype=torch.uint8) for k in range(3)]
    plan = OFF.model_copy(update={"mix_up": 0.5, "mix_up_share": 1.0})
    shares = []
    for key in range(60):
        done = batch(plan, images, labels, key, key + 1, key + 2)
        shares.append(done.mix)
        assert done.other_BX is not None
        expected = done.mix * done.label_BX + (1 - done.mix) * done.other_BX
        assert torch.allclose(done.image_BCX[:, 0], expected, atol=1e-6)
        assert done.other_BX[:, 0, 0].tolist() == [1, 2, 0]
    assert min(shares) >= 0.5
    assert np.mean(shares) == pytest.approx(0.5 + 1 / np.pi, abs=0.04)  # of the larger share of Beta(1/2, 1/2)


def test_hue_leaves_grey_and_a_full_turn_leaves_all() -> None:
    assert np.allclose(colour_matrix(0.0, 360.0), np.eye(3))
    assert np.allclose(colour_matrix(0.7, 50.0) @ [0.3, 0.3, 0.3], 0.3)
    red_to_green = colour_matrix(0.0, 120.0) @ [1.0, 0.0, 0.0]
    assert np.allclose(red_to_green, [0, 1, 0])
    assert np.allclose(colour_matrix(-np.inf, 10.0), 1 / 3), "no saturation: grey"
    with pytest.raises(ValueError, match="images of three channels, not 1"):
        batch(OFF.model_copy(update={"hue": 9.0}), [torch.zeros(1, 9, 9)], [torch.zeros(9, 9, dtype=torch.uint8)], 0)


def test_stain_changes_each_stain_by_itself() -> None:
    """A pixel of pure haematoxylin with twice as much of it: its absorbance doubles in every channel."""
    pure = np.exp(-0.4 * rgb_from_hed[0])
    image = torch.from_numpy(pure.astype(np.float32)).reshape(3, 1, 1).expand(3, 4, 4).contiguous()[None]
    draws = draws_for(np.eye(2), stain_B32=np.array([[[2.0, 0.0], [1.0, 0.0], [1.0, 0.0]]]))
    changed = change_intensity(image, draws)[0, :, 0, 0].numpy()
    assert np.allclose(-np.log(changed), -2 * np.log(pure), atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("there", [False, True])
def test_on_a_gpu_it_is_the_same_but_for_the_noise(there: bool) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    image = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    label = scene(2, 40)[1]
    changes = {"noise": 0.0, "paste": 1.0, "paste_classes": (1,), "mix_up": 0.3}
    plan, gpu = ALONE.model_copy(update=changes), torch.device("cuda")
    place: list[torch.Tensor] = [image.to(gpu), label.to(gpu)] if there else [image, label]
    here, far = (
        augment([i] * 2, [m] * 2, [(20, 20)] * 2, (16, 16), plan, [numpy_generator(0, k) for k in (1, 2)], None, d)
        for i, m, d in ((image, label, None), (*place, gpu))
    )
    assert far.image_BCX.device.type == far.label_BX.device.type == "cuda"
    assert torch.allclose(far.image_BCX.cpu(), here.image_BCX, atol=1e-3)
    assert (far.label_BX.cpu() == here.label_BX).float().mean() > 0.99
