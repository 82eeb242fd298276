"""Augmentation against the obvious way: pixel by pixel, change after change, in plain Python and numpy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import hed_from_rgb, rgb_from_hed

from unetkit.augment.apply import augment
from unetkit.augment.draw import Draws, draw
from unetkit.augment.plan import AugmentPlan
from unetkit.core.rng import numpy_generator

Array = NDArray[Any]
IGNORE = 255

# Everything at once, each change in every sample.
ALL = AugmentPlan(
    elastic=1.5,
    elastic_spacing=6,
    shear=15,
    paste=1,
    paste_most=2,
    paste_classes=(1, 2),
    paste_border=2,
    gamma_share=1,
    gamma_inverted=0.5,
    noise_share=1,
    blur_share=1,
    low_resolution=0.6,
    low_resolution_share=1,
    bias=0.5,
    bias_share=1,
    cut_out=1,
    cut_out_size=0.4,
    mix_up=0.4,
    mix_up_share=1,
)
COLOURS = {"saturation": 0.4, "hue": 30.0, "stain": 0.1, "channel_drop": 1.0}


def folded(x: float, n: int) -> float:
    """A place mirrored at the middle of the border pixels until it lies inside."""
    while n > 1 and not 0 <= x <= n - 1:
        x = -x if x < 0 else 2 * (n - 1) - x
    return x if n > 1 else 0.0


def keys_cubic(values: Sequence[float], x: float) -> float:
    """Cubic convolution (Keys 1981, a = -0.75) at place x between values, those at the ends repeated."""
    total = 0.0
    for k in range(math.floor(x) - 1, math.floor(x) + 3):
        d, a = abs(x - k), -0.75
        w = (a + 2) * d**3 - (a + 3) * d**2 + 1 if d <= 1 else a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
        total += w * values[min(max(k, 0), len(values) - 1)]
    return total


def between(coarse_G: Array, shape: Sequence[int]) -> Array:
    """Values of every pixel from a coarse grid of the same extent: one axis after the other."""
    for axis, n in enumerate(shape):
        points = coarse_G.shape[axis]
        rows = [np.apply_along_axis(keys_cubic, axis, coarse_G, k * (points - 1) / max(n - 1, 1)) for k in range(n)]
        coarse_G = np.stack(rows, axis)
    return coarse_G


def linear(image_X: Array, place: Sequence[float]) -> float:
    low = [min(math.floor(x), max(n - 2, 0)) for x, n in zip(place, image_X.shape, strict=True)]
    total = 0.0
    for corner in itertools.product((0, 1), repeat=len(low)):
        weight = math.prod(x - a if c else 1 - (x - a) for x, a, c in zip(place, low, corner, strict=True))
        if weight:
            total += weight * image_X[tuple(a + c for a, c in zip(low, corner, strict=True))]
    return total


def cropped(image_CX: Array, label_X: Array, centre: Sequence[int], patch: Sequence[int], d: Draws, b: int) -> Any:
    out = np.zeros((len(image_CX), *patch))
    mask, doubtful = np.zeros(patch, np.uint8), np.zeros(patch, bool)
    bent = [between(d.elastic_BDG[b, axis], patch) for axis in range(len(patch))]
    for p in np.ndindex(*patch):
        offset = [q - (n - 1) / 2 for q, n in zip(p, patch, strict=True)]
        middle = [c - n // 2 + (n - 1) / 2 for c, n in zip(centre, patch, strict=True)]
        place = d.matrix_BDD[b] @ offset + [field[p] for field in bent] + middle
        place = [folded(float(x), n) for x, n in zip(place, label_X.shape, strict=True)]
        for c, channel_X in enumerate(image_CX):
            out[(c, *p)] = linear(channel_X, place)
        mask[p] = label_X[tuple(round(x) for x in place)]
        doubtful[p] = any(abs(x % 1 - 0.5) < 3e-5 for x in place)  # either neighbour may be the nearest
    return out, mask, doubtful


def connected(label_X: Array, values: Sequence[int]) -> list[list[tuple[int, ...]]]:
    """Connected areas of the values, in the order in which they are met."""
    seen: set[tuple[int, ...]] = set()
    areas = []
    for p in np.ndindex(*label_X.shape):
        if label_X[p] not in values or p in seen:
            continue
        area, todo = [], [p]
        seen.add(p)
        while todo:
            q = todo.pop()
            area.append(q)
            for axis, step in itertools.product(range(len(q)), (-1, 1)):
                r = tuple(x + step * (a == axis) for a, x in enumerate(q))
                inside = all(0 <= x < n for x, n in zip(r, label_X.shape, strict=True))
                if inside and r not in seen and label_X[r] in values:
                    seen.add(r)
                    todo.append(r)
        areas.append(area)
    return areas


def pasted(images: list[Array], labels: list[Array], d: Draws, b: int, plan: AugmentPlan) -> tuple[Array, Array]:
    image_CX, label_X = images[b].copy(), labels[b].copy()
    g = np.random.Generator(np.random.PCG64(int(d.paste_seed_B[b])))
    donor = (b + 1 + int(g.integers(max(1, len(images) - 1)))) % len(images)
    free = [axis for axis, n in enumerate(label_X.shape) if n > 1 and axis not in plan.fixed]
    areas = [
        area
        for area in connected(labels[donor], plan.paste_classes)
        if all(0 < p[axis] < label_X.shape[axis] - 1 for p in area for axis in free)
    ]
    for k in g.permutation(len(areas))[: d.paste_B[b]]:
        low, high = np.min(areas[k], axis=0), np.max(areas[k], axis=0)
        starts = [int(g.integers(n - (h - a + 1) + 1)) for n, a, h in zip(label_X.shape, low, high, strict=True)]
        shift = [0 if axis in plan.fixed else s - low[axis] for axis, s in enumerate(starts)]
        if len(areas[k]) < 4:
            continue
        for p in areas[k]:
            q = tuple(int(x + s) for x, s in zip(p, shift, strict=True))
            image_CX[(slice(None), *q)] = images[donor][(slice(None), *p)]
            label_X[q] = labels[donor][p]
        new = np.array(areas[k]) + shift
        for q in np.ndindex(*label_X.shape):
            far = ((new - q) ** 2).sum(axis=1).min()
            if 0 < far <= plan.paste_border**2 and label_X[q] == 1:
                label_X[q] = 2
    return image_CX, label_X


def coarser(image_CX: Array, share: float, fixed: Sequence[int]) -> Array:
    for axis in (a for a in range(1, image_CX.ndim) if a - 1 not in fixed):
        n = image_CX.shape[axis]
        m = max(1, round(n * share))
        moved = np.moveaxis(image_CX, axis, 0)
        small = [moved[k * n // m : -(-(k + 1) * n // m)].mean(axis=0) for k in range(m)]
        rows = []
        for q in range(n):
            x = min(max((q + 0.5) * m / n - 0.5, 0), m - 1)
            a = min(math.floor(x), max(m - 2, 0))
            rows.append(small[a] * (1 - (x - a)) + small[min(a + 1, m - 1)] * (x - a))
        image_CX = np.moveaxis(np.stack(rows), 0, axis)
    return image_CX


def recoloured(image_CX: Array, d: Draws, b: int, scale: Array) -> Array:
    pixels = np.moveaxis(image_CX, 0, -1)
    pixels = (pixels - scale[0]) / (scale[1] - scale[0])
    pixels = pixels @ d.colour_B33[b].T
    stains = -np.log(np.clip(pixels, 1 / 255, 1)) @ hed_from_rgb
    stains = stains * d.stain_B32[b, :, 0] + d.stain_B32[b, :, 1]
    pixels = np.minimum(np.exp(-(stains @ rgb_from_hed)), 1)
    return np.moveaxis(pixels * (scale[1] - scale[0]) + scale[0], -1, 0)


def changed(image_CX: Array, d: Draws, b: int, scale: Array | None, fixed: Sequence[int]) -> Array:
    low = image_CX.min()
    image_CX = (image_CX - low) * np.exp(between(d.bias_BG[b], image_CX.shape[1:])) + low
    sigma = float(d.blur_B[b])
    if sigma > 0.2:
        radius = max(1, round(3 * sigma))
        image_CX = np.stack([ndimage.gaussian_filter(x, sigma, mode="nearest", radius=radius) for x in image_CX])
    image_CX = coarser(image_CX, float(d.resolution_B[b]), fixed)
    if scale is not None:
        image_CX = recoloured(image_CX, d, b, scale)
    low, high = image_CX.min(), image_CX.max()
    share = (image_CX - low) / (high - low)
    share = 1 - (1 - share) ** d.gamma_B[b] if d.inverted_B[b] else share ** d.gamma_B[b]
    image_CX = (share * (high - low) + low) * d.gain_B[b] + d.shift_B[b]
    generator = torch.Generator().manual_seed(int(d.noise_seed_B[b]))
    noise = torch.randn(image_CX.shape[1:], generator=generator).numpy()
    for c in range(len(image_CX)):
        image_CX[c] += d.noise_B[b] * np.roll(noise.reshape(-1), c * noise.size // len(image_CX)).reshape(noise.shape)
    if d.channel_B is not None:
        gone = int(d.channel_B[b] * len(image_CX))
        image_CX[gone] = image_CX[gone].mean()
    return image_CX


def cut(image_CX: Array, label_X: Array, boxes_ND2: Array) -> None:
    mean_C = image_CX.reshape(len(image_CX), -1).mean(axis=1)
    for box in boxes_ND2:
        for p in np.ndindex(*label_X.shape):
            if all(round(a * n) <= q < round(z * n) for q, n, (a, z) in zip(p, label_X.shape, box, strict=True)):
                image_CX[(slice(None), *p)] = mean_C
                label_X[p] = IGNORE


def scene(ndim: int, channels: int, seed: int) -> tuple[Array, Array]:
    """An image of blobs of various sizes between 0.1 and 0.9, and their label: inside 1, border 2, some ignored."""
    g = np.random.default_rng(seed)
    size = (44, 40, 30)[:ndim]
    image = np.stack([ndimage.gaussian_filter(g.normal(size=size), 1.5) for _ in range(channels)])
    image = 0.1 + 0.8 * (image - image.min()) / np.ptp(image)
    inside = image[0] > np.quantile(image[0], 0.6 + 0.1 * ndim)
    label = np.where(inside, np.where(ndimage.binary_erosion(inside), 1, 2), 0).astype(np.uint8)
    label[(slice(0, 3),) * ndim] = IGNORE
    return image.astype(np.float32), label


@pytest.mark.parametrize(("ndim", "channels"), [(1, 1), (2, 1), (2, 3), (3, 1)])
def test_one_pass_equals_one_change_after_the_other(ndim: int, channels: int) -> None:
    patch, plan = (24, 22, 14)[:ndim], ALL.model_copy(update=COLOURS if channels == 3 else {})
    if ndim == 3:
        plan = plan.model_copy(update={"fixed": (2,), "aspect": (1.0, 1.0, 4.0), "flip": (True, False, False)})
        patch = (20, 18, 5)
    scenes = [scene(ndim, channels, seed) for seed in range(3)]
    centres = [(20, 21, 15)[:ndim], (5, 33, 4)[:ndim], (30, 10, 20)[:ndim]]  # mirrored at borders, too
    scale = np.array([[-0.05] * 3, [1.1, 1.0, 1.05]]) if channels == 3 else None
    for trial in range(20):  # where the nearest pixel is not a matter of rounding
        d = draw(plan, patch, [numpy_generator(trial, b) for b in range(3)])
        crops = [cropped(i, m, c, patch, d, b) for b, ((i, m), c) in enumerate(zip(scenes, centres, strict=True))]
        if not any(doubtful.any() for _, _, doubtful in crops):
            break
    done = augment(
        [torch.from_numpy(i) for i, _ in scenes],
        [torch.from_numpy(m) for _, m in scenes],
        centres,
        patch,
        plan,
        [numpy_generator(trial, b) for b in range(3)],
        None if scale is None else [scale.astype(np.float32)] * 3,
    )
    images, labels = [c[0] for c in crops], [c[1] for c in crops]
    both = [pasted(images, labels, d, b, plan) for b in range(3)]
    assert any((new != old).any() for (_, new), old in zip(both, labels, strict=True)), "something was pasted"
    expected, masks = [], []
    for b, (image, label) in enumerate(both):
        image = changed(image, d, b, scale, plan.fixed)
        cut(image, label, d.boxes_BND2[b])
        expected.append(image)
        masks.append(label)
    assert any((label == IGNORE).mean() > 0.01 for label in masks), "something was cut out"
    assert 0.5 <= done.mix < 1
    for b in range(3):
        other = (b + 1) % 3
        mixture = done.mix * expected[b] + (1 - done.mix) * expected[other]
        assert np.abs(done.image_BCX[b].numpy() - mixture).max() < 5e-3
        assert np.array_equal(done.label_BX[b].numpy(), masks[b])
        assert done.other_BX is not None
        assert np.array_equal(done.other_BX[b].numpy(), masks[other])


@pytest.mark.parametrize("aspect", [(), (3.0, 1.0, 1.0)])
def test_the_matrix_is_mirror_turn_slant_and_zoom_in_this_order(aspect: tuple[float, ...]) -> None:
    """Each alone, with the same key: every number is drawn whether it is used or not."""
    still = dict.fromkeys(("rotate", "scale", "stretch", "shear", "elastic"), 0.0) | {"flip": False, "turn": False}

    def matrix(**on: Any) -> Array:
        plan = AugmentPlan(**(still | {"aspect": aspect} | on))
        return draw(plan, (16, 16, 16), [numpy_generator(3, 0)]).matrix_BDD[0]

    on = {"flip": True, "turn": True, "rotate": 40.0, "shear": 20.0, "scale": 0.3, "stretch": 0.1}
    parts = matrix(flip=True), matrix(turn=True, rotate=40.0), matrix(shear=20.0), matrix(scale=0.3, stretch=0.1)
    whole = parts[3] @ parts[2] @ parts[1] @ parts[0]
    assert np.allclose(matrix(**on), whole, atol=1e-9)
    assert np.linalg.det(parts[2]) == pytest.approx(1), "a slant keeps volumes"
