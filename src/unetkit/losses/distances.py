"""Losses of distance: how far from the true border is what is predicted wrongly. Distances are exact (Euclidean), in
pixels of the full grid (of thick slices: in units of the finest side of a voxel), also of the coarse results of deep
supervision, and computed on the processor from the label as it comes.

What is not known is neither inside nor outside: distances are those to pixels of which the label says something.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from unetkit.losses.pair import Pair


def boundary(pair: Pair, *, background: bool) -> Tensor:
    """Mean over pixels, images and classes of φ · p, with φ the signed distance to the true border: outside it is the
    distance to the class, inside −(distance to what is not the class − 1 pixel). 0 where a class is absent or alone.
    """
    chosen, inside_BKX, outside_BKX = _truth(pair, background)
    phi_BKN = _of_each(signed_distance, pair, inside_BKX, outside_BKX)
    return _mean(pair, pair.p[:, chosen] * phi_BKN)


def hausdorff(pair: Pair, *, alpha: float, background: bool) -> Tensor:
    """Mean over pixels, images and classes of (p − t)² · (d_p^alpha + d_t^alpha), with d_t the distance to the true
    border, from both sides, and d_p that to the border of what is predicted (p > ½). 0 where there is no border.
    """
    chosen, inside_BKX, outside_BKX = _truth(pair, background)
    p_BKN = pair.p[:, chosen]
    found_BKX = pair.whole(p_BKN.detach()).cpu().numpy() > 0.5
    true_BKN = _of_each(border_distance, pair, inside_BKX, outside_BKX)
    found_BKN = _of_each(border_distance, pair, found_BKX, ~found_BKX)
    return _mean(pair, (p_BKN - pair.truth[:, chosen]) ** 2 * (found_BKN**alpha + true_BKN**alpha))


def signed_distance(
    inside_X: NDArray[np.bool_], outside_X: NDArray[np.bool_], spacing: tuple[float, ...]
) -> NDArray[Any]:
    """Distance to the nearest pixel inside; of those inside −(distance to the nearest outside − 1 pixel). 0 everywhere
    where nothing is inside, or nothing outside (Kervadec's own code; so is MONAI's)."""
    if not inside_X.any() or not outside_X.any():
        return np.zeros(inside_X.shape)
    depth_X = min(spacing) - ndimage.distance_transform_edt(~outside_X, sampling=spacing)
    return np.asarray(np.where(inside_X, depth_X, ndimage.distance_transform_edt(~inside_X, sampling=spacing)))


def border_distance(
    inside_X: NDArray[np.bool_], outside_X: NDArray[np.bool_], spacing: tuple[float, ...]
) -> NDArray[Any]:
    """Distance to the nearest pixel of the other kind; 0 where one of the kinds is absent."""
    if not inside_X.any() or not outside_X.any():
        return np.zeros(inside_X.shape)
    depth_X = ndimage.distance_transform_edt(~outside_X, sampling=spacing)
    return np.asarray(np.where(inside_X, depth_X, ndimage.distance_transform_edt(~inside_X, sampling=spacing)))


def _truth(pair: Pair, background: bool) -> tuple[list[int], NDArray[np.bool_], NDArray[np.bool_]]:
    """The classes that count, and where each is and where it is known not to be, (B, K, *space) on the processor."""
    chosen = list(pair.target.counted(background))
    inside_BKX = pair.whole(pair.truth[:, chosen]).cpu().numpy() > 0
    known_BX = pair.whole(pair.valid).cpu().numpy() > 0
    return chosen, inside_BKX, known_BX[:, None] & ~inside_BKX


def _of_each(distance: Any, pair: Pair, inside_BKX: NDArray[np.bool_], outside_BKX: NDArray[np.bool_]) -> Tensor:
    maps_BKX = [
        [distance(*both_X, pair.spacing) for both_X in zip(*both_KX, strict=True)]
        for both_KX in zip(inside_BKX, outside_BKX, strict=True)
    ]
    return torch.from_numpy(np.array(maps_BKX)).to(pair.z_BKN).flatten(2)


def _mean(pair: Pair, values_BKN: Tensor) -> Tensor:
    """Over the pixels that count, images and classes."""
    below = pair.labelled_B.sum() * values_BKN.shape[1]
    return (values_BKN * pair.valid[:, None]).sum() / below.clamp(min=1)
