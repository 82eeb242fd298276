"""The pixels between cells that are close to each other: the second term of the weight map of Ronneberger et al. 2015
(section 3, equation 2), w0 · exp(−(d1 + d2)² / (2 σ²)), d1 and d2 the distances to the nearest and the second nearest
cell.

The cells are the areas of foreground that are connected by their faces; of instances that touch, which are learnt with
a border as a class of its own, those of what is inside. The term is that of the gaps: pixels of a cell have their
class weight alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from unetkit.losses.pair import Pair

# A cell further than so many σ away adds less than 4e-6 · w0.
FAR = 5.0


@torch.no_grad()
def separation(pair: Pair, w0: float, sigma: float, gap: int | None) -> Tensor:
    """The term for every pixel: (B, 1, N) of classes, (B, K, N) of regions.

    gap: the class between cells, where that is not the background.
    """
    label_BX = pair.whole(pair.label_BN).cpu().numpy()
    if pair.target.regions:
        cells_BKX = pair.whole(pair.truth).cpu().numpy() > 0
    else:
        between = pair.target.background if gap is None else gap
        kinds = [k for k in pair.target.cells or range(pair.target.classes) if k != between]
        cells_BKX = np.isin(label_BX, kinds)[:, None]
    maps = [[weights_between(cells_X, w0, sigma, pair.spacing) for cells_X in cells_KX] for cells_KX in cells_BKX]
    return torch.from_numpy(np.array(maps)).to(pair.z_BKN).flatten(2)


def weights_between(
    cells_X: NDArray[np.bool_], w0: float, sigma: float, spacing: tuple[float, ...]
) -> NDArray[np.float64]:
    """w0 · exp(−(d1 + d2)² / (2 σ²)) of one image, 0 in the cells. sigma is in the unit of `spacing`."""
    first_X, second_X = two_nearest(cells_X, FAR * sigma, spacing)
    return np.where(cells_X, 0.0, w0 * np.exp(-((first_X + second_X) ** 2) / (2 * sigma**2)))


def two_nearest(
    cells_X: NDArray[np.bool_], far: float, spacing: tuple[float, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances of every pixel to the nearest and to the second nearest cell; ∞ beyond `far`.

    A cell is looked at only as far as it reaches: the work grows with the cells' own areas, not with their number times
    that of the pixels.
    """
    numbers_X, _ = ndimage.label(cells_X)
    first_X, second_X = np.full(cells_X.shape, np.inf), np.full(cells_X.shape, np.inf)
    margin = [math.ceil(far / length) for length in spacing]
    for number, box in enumerate(ndimage.find_objects(numbers_X), start=1):
        window = tuple(slice(max(0, s.start - m), s.stop + m) for s, m in zip(box, margin, strict=True))
        distance_X: NDArray[Any] = ndimage.distance_transform_edt(numbers_X[window] != number, sampling=spacing)
        distance_X[distance_X > far] = np.inf
        one, two = first_X[window], second_X[window]
        two[...] = np.minimum(two, np.maximum(one, distance_X))
        one[...] = np.minimum(one, distance_X)
    return first_X, second_X
