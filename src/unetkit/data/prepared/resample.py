"""Resampling by region: separable, from a grid of `have` voxels along each axis to one of `want` in the same space.

Kernels: cubic convolution (Keys 1981, a = −0.5), linear and nearest; where voxels become fewer, the first two are
widened by that factor, so that what the coarser grid cannot hold is averaged and not folded over. They have a bounded
reach, and every value is reckoned from the same weights in the same order wherever the region around it ends: a region
is, bit for bit, that part of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region
from unetkit.data.case import IGNORE

if TYPE_CHECKING:
    from scipy import sparse

Array = NDArray[Any]
Float = NDArray[np.float32]
Kernel = Literal["cubic", "linear", "nearest"]

REACH: dict[Kernel, int] = {"cubic": 2, "linear": 1}
# Shares that differ by less are alike: what rounding makes of them must not decide which class a voxel has.
ALIKE = 1e-5


def reaches(region: Region, have: Sequence[int], want: Sequence[int], kernels: Sequence[Kernel]) -> Region:
    """What is read of the grid that one has for a region of the grid that one wants."""
    each = zip(region.start, region.stop, have, want, kernels, strict=True)
    ends = [_span(a, b, n, m, kernel) for a, b, n, m, kernel in each]
    return Region(tuple(a for a, _ in ends), tuple(b for _, b in ends))


def resampler(
    read: Region, region: Region, have: Sequence[int], want: Sequence[int], kernels: Sequence[Kernel]
) -> Callable[[Array], Float]:
    """The function that makes (*region) from (*read), which holds what the region `reaches`."""
    spans = reaches(region, have, want, kernels)
    if not read.contains(spans):
        raise ValueError(f"{region} needs {spans}, and {read} was given")
    axes = sorted((a for a in range(len(have)) if have[a] != want[a]), key=lambda a: want[a] / have[a])
    weights = [
        _weights(region.start[a], region.stop[a], have[a], want[a], kernels[a], read.start[a], read.stop[a])
        for a in axes
    ]
    kept = tuple(
        slice(None) if a in axes else slice(region.start[a] - read.start[a], region.stop[a] - read.start[a])
        for a in range(len(have))
    )

    def resample(array_X: Array) -> Float:
        part_X = np.asarray(array_X[kept], np.float32)
        for axis, matrix in zip(axes, weights, strict=True):
            along = np.moveaxis(part_X, axis, 0)
            flat = np.ascontiguousarray(along).reshape(len(along), math.prod(along.shape[1:]))
            part_X = np.moveaxis((matrix @ flat).reshape(matrix.shape[0], *along.shape[1:]), 0, axis)
        return part_X

    return resample


def nearest(index: NDArray[np.int64], have: int, want: int) -> NDArray[np.int64]:
    """The voxels that the centres of wanted ones lie in."""
    return (2 * index + 1) * have // (2 * want)


def _first(index: NDArray[np.int64], have: int, want: int, kernel: Kernel) -> NDArray[np.int64]:
    """The first voxel that has a weight, in whole numbers: no rounding moves it."""
    return ((2 * index + 1) * have - want - 2 * REACH[kernel] * max(have, want)) // (2 * want) + 1


def _last(index: NDArray[np.int64], have: int, want: int, kernel: Kernel) -> NDArray[np.int64]:
    return ((2 * index + 1) * have - want + 2 * REACH[kernel] * max(have, want) - 1) // (2 * want)


def _span(start: int, stop: int, have: int, want: int, kernel: Kernel) -> tuple[int, int]:
    """The voxels that `start` … `stop` of the wanted grid are made of."""
    if have == want:
        return start, stop
    if stop == start:
        return (min(start * have // want, have),) * 2
    ends = np.array([start, stop - 1], np.int64)
    if kernel == "nearest":
        first, last = nearest(ends, have, want)
    else:
        first, last = _first(ends[:1], have, want, kernel)[0], _last(ends[1:], have, want, kernel)[0]
    return max(0, int(first)), min(have, int(last) + 1)


@lru_cache(maxsize=64)
def _weights(start: int, stop: int, have: int, want: int, kernel: Kernel, low: int, high: int) -> sparse.csr_matrix:
    """The matrix (stop − start, high − low) that makes `start` … `stop` of the wanted grid from `low` … `high`.
    Beyond its ends the image is mirrored, the last voxel included."""
    index = np.arange(start, stop, dtype=np.int64)
    if kernel == "nearest":
        places, values = nearest(index, have, want)[:, None], np.ones((len(index), 1))
    else:
        first, last = _first(index, have, want, kernel), _last(index, have, want, kernel)
        most = math.ceil(2 * REACH[kernel] * max(have, want) / want)
        # the one after the last weighs nothing
        places = np.minimum(first[:, None] + np.arange(most), last[:, None] + 1)
        centre = ((2 * index + 1) * have - want) / (2 * want)
        distance = np.abs(places - centre[:, None]) / max(1.0, have / want)
        values = _cubic(distance) if kernel == "cubic" else np.maximum(1 - distance, 0)
        values /= values.sum(axis=1, keepdims=True)
    columns = np.minimum(places % (2 * have), -(places + 1) % (2 * have)).clip(low, high - 1) - low
    # a voxel that is met twice (at the ends) has two entries: sums have one order, whatever the region
    rows = np.arange(len(index) + 1) * places.shape[1]
    shape = (len(index), high - low)
    from scipy import sparse  # half a second to import, and most images are not resampled

    return sparse.csr_matrix((values.astype(np.float32).reshape(-1), columns.reshape(-1), rows), shape=shape)


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cubic convolution with a = −0.5: third order, exact for parabolas (Keys 1981, equation 15)."""
    d = distance
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d < 1, near, np.where(d < 2, far, 0.0))


def every(kernel: Kernel, axes: int) -> tuple[Kernel, ...]:
    """One kernel for all axes."""
    return (kernel,) * axes


def largest(label_X: Array, values: NDArray[np.int64], share: Callable[[Array], Float]) -> NDArray[np.uint8]:
    """The value of the largest `share` of every voxel, the first of equals."""
    best_X = share(label_X == values[0])
    out_X = np.full(best_X.shape, values[0], np.uint8)
    for value in values[1:]:
        share_X = share(label_X == value)
        more = share_X > best_X + ALIKE
        out_X[more] = value
        np.maximum(best_X, share_X, out=best_X)
    return out_X


def bit_mask(label_X: Array, values: NDArray[np.int64], share: Callable[[Array], Float]) -> NDArray[np.uint8]:
    """The mask of those bits whose share of what is annotated is at least half; IGNORE where more than half is not."""
    ignored_X = share(label_X == IGNORE) if values[-1] == IGNORE else np.float32(0)
    out_X = np.zeros(share(label_X == values[0]).shape, np.uint8)
    present = int(np.bitwise_or.reduce([v for v in values if v != IGNORE]))
    for k in range(7):
        if present >> k & 1:
            share_X = share((label_X >> k & 1).astype(bool) & (label_X != IGNORE))
            out_X[2 * share_X >= 1 - ignored_X - 2 * ALIKE] |= np.uint8(1 << k)
    out_X[np.broadcast_to(ignored_X > 0.5 + ALIKE, out_X.shape)] = IGNORE
    return out_X
