"""clDice: whether the middle lines of thin structures are found, and are true (Shit et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from unetkit.losses.overlap import counts_of
from unetkit.losses.pair import Pair

_POOL: Mapping[int, Callable[..., Tensor]] = {
    1: functional.max_pool1d,
    2: functional.max_pool2d,
    3: functional.max_pool3d,
}


def cldice(pair: Pair, *, iterations: int, image: bool, background: bool, absent: bool, smooth: float) -> Tensor:
    """1 − mean of 2 · precision · sensitivity / (precision + sensitivity) of the soft skeletons S (equations 1 to 3):
    precision (Σ S(p)·t + s) / (Σ S(p) + s), sensitivity (Σ S(t)·p + s) / (Σ S(t) + s).

    What is ignored is background in both, so that it is no part of a skeleton.
    """
    chosen = list(pair.target.counted(background))
    p_BKN = pair.p[:, chosen] * pair.valid[:, None]
    t_BKN = pair.truth[:, chosen]
    line_p_BKN, line_t_BKN = (soft_skeleton(pair.whole(x), iterations).flatten(2) for x in (p_BKN, t_BKN))
    axes = (2,) if image else (0, 2)
    found_GK = ((line_p_BKN * t_BKN).sum(axes) + smooth) / (line_p_BKN.sum(axes) + smooth)
    true_GK = ((line_t_BKN * p_BKN).sum(axes) + smooth) / (line_t_BKN.sum(axes) + smooth)
    counts_GK = counts_of(pair, image, background, absent)[:, chosen]
    values_GK = 1 - 2 * found_GK * true_GK / (found_GK + true_GK)
    return torch.where(counts_GK, values_GK.reshape(counts_GK.shape), 0.0).sum() / counts_GK.sum().clamp(min=1)


def soft_skeleton(image_BKX: Tensor, iterations: int) -> Tensor:
    """What an opening removes, of the image and of each of its `iterations` erosions (algorithm 1): of a structure no
    thicker than twice as many pixels, its middle line. Any number of axes up to three; values in [0, 1]."""
    line_BKX = functional.relu(image_BKX - _dilate(_erode(image_BKX)))
    for _ in range(iterations):
        image_BKX = _erode(image_BKX)
        more_BKX = functional.relu(image_BKX - _dilate(_erode(image_BKX)))
        line_BKX = line_BKX + functional.relu(more_BKX - line_BKX * more_BKX)
    return line_BKX


def _erode(image_BKX: Tensor) -> Tensor:
    """The least of a pixel and its two neighbours along each axis."""
    ndim = image_BKX.ndim - 2
    least = -_largest(-image_BKX, [3 if axis == 0 else 1 for axis in range(ndim)])
    for along in range(1, ndim):
        least = torch.minimum(least, -_largest(-image_BKX, [3 if axis == along else 1 for axis in range(ndim)]))
    return least


def _dilate(image_BKX: Tensor) -> Tensor:
    """The largest of a pixel and all its neighbours, corners included."""
    return _largest(image_BKX, [3] * (image_BKX.ndim - 2))


def _largest(image_BKX: Tensor, size: Sequence[int]) -> Tensor:
    return _POOL[len(size)](image_BKX, size, stride=1, padding=[n // 2 for n in size])
