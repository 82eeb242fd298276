"""One warp: crop, flip, turn, scale and elastic composed into one sampling grid; everything is resampled once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from unetkit.augment.draw import Draws


def warp(
    window_BCX: torch.Tensor, label_BX: torch.Tensor, patch: Sequence[int], draws: Draws
) -> tuple[torch.Tensor, torch.Tensor]:
    """Resample patches from windows that are centred on them (see `draw.reach` for how large a window must be).

    window_BCX: float32, the image around each patch centre; label_BX: uint8 on the same grid.
    Returns (image_BCP float32, label_BP uint8) with P the shape of the patch. Linear for images, nearest for labels;
    what lies outside the window is mirrored.
    """
    grid = sampling_grid(window_BCX.shape[2:], patch, draws)
    image = F.grid_sample(window_BCX, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    label = F.grid_sample(
        label_BX[:, None].float(), grid, mode="nearest", padding_mode="reflection", align_corners=False
    )
    return image, label[:, 0].to(torch.uint8)


def sampling_grid(window: Sequence[int], patch: Sequence[int], draws: Draws) -> torch.Tensor:
    """The grid for `grid_sample` (B, *patch, D): normalised window coordinates, last axis first (x, y, z)."""
    ndim = len(patch)
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in patch]
    offset_PD = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    matrix_BDD = torch.from_numpy(draws.matrix_BDD).float()
    place_BND = offset_PD.reshape(1, -1, ndim) @ matrix_BDD.transpose(1, 2)
    place_BPD = place_BND.reshape(len(matrix_BDD), *patch, ndim)
    if draws.elastic_BDG is not None:
        place_BPD = place_BPD + _dense(torch.from_numpy(draws.elastic_BDG).float(), patch).movedim(1, -1)
    # centre of the window is 0 and its borders are ±1 in grid_sample's coordinates (align_corners=False)
    size = torch.tensor(list(window), dtype=torch.float32)
    return (place_BPD * (2 / size)).flip(-1)


def _dense(coarse_BDG: torch.Tensor, patch: Sequence[int]) -> torch.Tensor:
    """Displacements for every pixel from the coarse grid: cubic in 2-D as in the 2015 paper, linear otherwise."""
    mode = {1: "linear", 2: "bicubic", 3: "trilinear"}[len(patch)]
    return F.interpolate(coarse_BDG, size=tuple(patch), mode=mode, align_corners=True)
