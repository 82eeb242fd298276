"""clDice: whether the middle lines of thin structures are found, and are true (Shit et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from unetkit.losses.overlap import counts_of
from unetkit.losses.pair import Pair


def cldice(pair: Pair, *, iterations: int, image: bool, background: bool, absent: bool, smooth: float) -> Tensor:
    """1 − mean of 2 · precision · sensitivity / (precision + sensitivity) of the soft skeletons S (equations 1 and 2):
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
    thicker than twice as many pixels, its middle line. Any number of axes; values in [0, 1]."""
    line_BKX = functional.relu(image_BKX - _dilate(_erode(image_BKX)))
    for _ in range(iterations):
        image_BKX = _erode(image_BKX)
        more_BKX = functional.relu(image_BKX - _dilate(_erode(image_BKX)))
        line_BKX = line_BKX + functional.relu(more_BKX - line_BKX * more_BKX)
    return line_BKX


def _erode(image_BKX: Tensor) -> Tensor:
    """The least of a pixel and its two neighbours along each axis."""
    return cast(Tensor, _Extreme.apply(image_BKX, range(2, image_BKX.ndim), torch.minimum))  # type: ignore[no-untyped-call]


def _dilate(image_BKX: Tensor) -> Tensor:
    """The largest of a pixel and all its neighbours, corners included."""
    for axis in range(2, image_BKX.ndim):
        image_BKX = _Extreme.apply(image_BKX, (axis,), torch.maximum)  # type: ignore[no-untyped-call]
    return image_BKX


class _Extreme(torch.autograd.Function):
    """The least (or largest) of each pixel and its neighbours along some axes; its gradient goes to the one it is, and
    of equal ones to the first. Several times as fast as torch's pooling with windows of three, which does the same."""

    @staticmethod
    def forward(ctx: Any, image_BKX: Tensor, axes: Sequence[int], pick: Callable[..., Tensor]) -> Tensor:
        best_BKX = image_BKX.clone()
        for at, of in _neighbours(image_BKX.shape, axes):
            pick(best_BKX[at], image_BKX[of], out=best_BKX[at])
        ctx.save_for_backward(image_BKX, best_BKX)
        ctx.axes = axes
        return best_BKX

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BKX: Tensor) -> tuple[Tensor, None, None]:
        image_BKX, best_BKX = ctx.saved_tensors
        back_BKX = grad_BKX * (image_BKX == best_BKX)
        rest_BKX = grad_BKX - back_BKX
        for at, of in _neighbours(image_BKX.shape, ctx.axes):
            part = rest_BKX[at] * (image_BKX[of] == best_BKX[at])
            back_BKX[of] += part
            rest_BKX[at] -= part
        return back_BKX, None, None


def _neighbours(shape: Sequence[int], axes: Sequence[int]) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Where pixels are that have a neighbour, and where it is, before and behind along each axis."""
    for axis in axes:
        rest = (slice(None),) * axis
        first, last = (*rest, slice(None, shape[axis] - 1)), (*rest, slice(1, None))
        yield last, first
        yield first, last
