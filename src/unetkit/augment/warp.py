"""One warp: crop, flip, turn, scale and elastic composed into one place per pixel; everything is resampled once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from unetkit.augment.draw import Draws

# Along an axis longer than this the places are reckoned from a window: float32 no longer tells neighbours well apart.
LONG = 1 << 15
# Whole numbers below this are exact in float32.
WHOLE = 1 << 24


class Pixels(Protocol):
    """A tensor, or anything that is indexed by slices and lies elsewhere: of that, only what a patch needs is read."""

    @property
    def shape(self) -> Sequence[int]: ...

    def __getitem__(self, index: tuple[slice, ...], /) -> Any: ...


def warp(
    images_CX: Sequence[Pixels],
    labels_X: Sequence[Pixels],
    centres: Sequence[Sequence[int]],
    patch: Sequence[int],
    draws: Draws,
    device: torch.device | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Resample one patch from each image, around its centre (pixels; the patch begins half its length before it).

    images_CX: float32, whole images of any sizes; labels_X: uint8 on the same grids; nothing of them is copied but, to
    another `device`, the part that is needed. Returns (image_BCP float32, label_BP uint8) with P the shape of the
    patch, on `device` (none: that of the first image). Linear for images, nearest for labels; outside the image it is
    mirrored (without repeating the border pixel). Where nothing was drawn but the place, the pixels are copied as they
    are.
    """
    device = device or _device(images_CX[0])
    if is_crop(draws):
        return _cropped(images_CX, labels_X, centres, patch, device)
    image_BCP = torch.empty((len(images_CX), images_CX[0].shape[0], *patch), device=device)
    label_BP = torch.empty((len(images_CX), *patch), dtype=torch.uint8, device=device)
    place_BDP = places(patch, draws, device)
    grid_PD = torch.empty((*patch, len(patch)), device=device)
    for b, (image, label, centre) in enumerate(zip(images_CX, labels_X, centres, strict=True)):
        indices, window = [], []
        # the middle of an even number of pixels lies between two
        middles = [c - 0.5 * (length % 2 == 0) for c, length in zip(centre, patch, strict=True)]
        for axis, (c, n) in enumerate(zip(middles, label.shape, strict=True)):
            if n > LONG or _device(label) != device or not isinstance(label, torch.Tensor):
                place_P = mirrored(place_BDP[b, axis].double() + c, n)
                start, n = _window(place_P, n)
                place_P = (place_P - start).float()
                window.append(slice(start, start + n))
            else:
                place_P = mirrored(place_BDP[b, axis].add_(c), n)
                window.append(slice(0, n))
            # -1 … 1 from edge to edge, the last axis first, as grid_sample wants it
            torch.add(torch.tensor(1 / n - 1, device=device), place_P, alpha=2 / n, out=grid_PD[..., -1 - axis])
            indices.append(place_P.round_())
        label_X = _part(label, tuple(window), device)
        image_BCP[b] = _sampled(_part(image, (slice(0, image.shape[0]), *window), device), grid_PD)
        label_BP[b] = _taken(label_X, indices)
    return image_BCP, label_BP


def _taken(label_X: torch.Tensor, indices: Sequence[torch.Tensor]) -> torch.Tensor:
    """Pixels of a label by their whole-numbered places along each axis, whatever the order of its axes in memory."""
    reach = 1 + sum((n - 1) * step for n, step in zip(label_X.shape, label_X.stride(), strict=True))
    if reach > WHOLE:
        indices = [index.double() for index in indices]
    *others, last = [index.mul(step) for index, step in zip(indices, label_X.stride(), strict=True)]
    for other in others:
        last.add_(other)
    return label_X.as_strided((reach,), (1,)).index_select(0, last.long().view(-1)).view_as(last)


def _device(pixels: Pixels) -> torch.device:
    return pixels.device if isinstance(pixels, torch.Tensor) else torch.device("cpu")


def is_crop(draws: Draws) -> bool:
    """Whether no sample is moved, turned or bent."""
    return draws.elastic_BDG is None and bool((draws.matrix_BDD == np.eye(draws.matrix_BDD.shape[1])).all())


def _part(pixels: Pixels, window: tuple[slice, ...], device: torch.device) -> torch.Tensor:
    """A part of an image as a tensor: a view where it is in memory of the device."""
    part = pixels[window]
    part = part if isinstance(part, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(part))
    return part.to(device)


def _cropped(
    images_CX: Sequence[Pixels],
    labels_X: Sequence[Pixels],
    centres: Sequence[Sequence[int]],
    patch: Sequence[int],
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`warp` where there is nothing to interpolate: exact, whatever the pixels stand for."""
    images, labels = [], []
    for image, label, centre in zip(images_CX, labels_X, centres, strict=True):
        index, window = [], []
        for axis, (c, length) in enumerate(zip(centre, patch, strict=True)):
            place_P = torch.arange(c - length // 2, c - length // 2 + length)
            index.append(mirrored(place_P.double(), label.shape[axis]).long())
            window.append(slice(int(index[-1].min()), int(index[-1].max()) + 1))
        image_CX = _part(image, (slice(0, image.shape[0]), *window), device)
        label_X = _part(label, tuple(window), device)
        for axis, (i, part) in enumerate(zip(index, window, strict=True)):
            inside = (i - part.start).to(device)
            image_CX, label_X = image_CX.index_select(axis + 1, inside), label_X.index_select(axis, inside)
        images.append(image_CX)
        labels.append(label_X)
    return torch.stack(images), torch.stack(labels)


def _window(place_P: torch.Tensor, n: int) -> tuple[int, int]:
    """Start and length of the part of an axis of n pixels that holds all places, their neighbours included."""
    low, high = (float(v) for v in torch.aminmax(place_P))
    start, stop = math.floor(low), min(math.ceil(high) + 1, n)
    return start, stop - start


def _sampled(image_CX: torch.Tensor, grid_PD: torch.Tensor) -> torch.Tensor:
    """Linear interpolation at the places of a grid. The grid is taken as a batch of its parts along the first axis (and
    the image as a batch of itself, without a copy), because torch works on a batch with several threads."""
    if grid_PD.shape[-1] == 1:  # torch has no such sampling of signals: one is an image of one row
        row_PD = torch.cat([grid_PD, torch.zeros_like(grid_PD)], dim=-1)[None]
        return _sampled(image_CX[:, None], row_PD)[:, 0]
    parts = 2 if grid_PD.shape[0] % 2 == 0 else 1
    grid_NPD = grid_PD.reshape(parts, -1, *grid_PD.shape[1:])
    image_NCX = image_CX[None].expand(parts, *image_CX.shape)
    sampled_NCP = F.grid_sample(image_NCX, grid_NPD, "bilinear", "border", align_corners=False)
    return sampled_NCP.movedim(0, 1).reshape(-1, *grid_PD.shape[:-1])


def places(patch: Sequence[int], draws: Draws, device: torch.device | None = None) -> torch.Tensor:
    """Where in the image each pixel of a patch is taken: pixels from the centre, (B, D, *patch) float32."""
    ndim = len(patch)
    axes = [
        (torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2).reshape(
            *[-1 if a == axis else 1 for a in range(ndim)]
        )
        for axis, n in enumerate(patch)
    ]
    matrix_BDD = torch.from_numpy(draws.matrix_BDD).to(device, torch.float32)
    column = (-1, ndim, *[1] * ndim)
    place_BDP = matrix_BDD[:, :, 0].reshape(column) * axes[0]
    for axis in range(1, ndim):  # one axis after the other: all but the last sum are of a small part
        place_BDP = place_BDP + matrix_BDD[:, :, axis].reshape(column) * axes[axis]
    if draws.elastic_BDG is not None:
        place_BDP += dense(torch.from_numpy(draws.elastic_BDG).to(device, torch.float32), patch)
    return place_BDP.contiguous()


def mirrored(place_P: torch.Tensor, n: int) -> torch.Tensor:
    """Coordinates folded into 0 … n-1, mirrored at the middle of the border pixels as often as needed."""
    if n == 1:
        return torch.zeros_like(place_P)
    low, high = (float(v) for v in torch.aminmax(place_P))
    if low >= 0 and high <= n - 1:
        return place_P
    period = 2.0 * (n - 1)
    folded = place_P.abs()
    if max(high, -low) > period:
        folded.remainder_(period)
    return torch.minimum(folded, period - folded)


def dense(coarse_BDG: torch.Tensor, patch: Sequence[int]) -> torch.Tensor:
    """Values of every pixel from those on a coarse grid of the same extent, (B, D, *patch): cubic along every axis
    (Ronneberger 2015, section 3.1)."""
    for axis, n in enumerate(patch, start=2):
        matrix = _cubic(coarse_BDG.shape[axis], n).to(coarse_BDG.device)
        coarse_BDG = torch.tensordot(coarse_BDG, matrix, dims=([axis], [1])).movedim(-1, axis)
    return coarse_BDG


@lru_cache(maxsize=16)
def _cubic(points: int, n: int) -> torch.Tensor:
    """The (n, points) matrix that interpolates n values from points on a grid of the same extent, cubic convolution."""
    eye = torch.eye(points)[None, None]
    return F.interpolate(eye, size=(n, points), mode="bicubic", align_corners=True)[0, 0]
