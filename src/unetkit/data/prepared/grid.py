"""How the grid that a network sees lies over the grid of a file: axes reordered, flipped, resampled; and back.

Voxels are boxes, and the boxes of both grids fill the same space: along an axis of n own and m prepared voxels the
centre of prepared voxel p lies at own index (p + 0.5) · n / m − 0.5. Reordering and flipping are exact, and how values
are resampled says `resample`. Everything works by region: a region is, bit for bit, that part of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.prepared.resample import Array, Float, Kernel, bit_mask, every, largest, nearest, reaches, resampler

# Spacings that differ by less than this share are one spacing: headers round, and blurring for a per cent does harm.
TOLERANCE = 0.03
# An axis whose voxels are longer than the shortest by this factor is thick: its slices are seen one by one, and are not
# mixed by interpolation (Isensee 2021, nnU-Net, supplementary note 2).
THICK = 3.0


@dataclass(frozen=True)
class Grid:
    """The prepared grid of an image over its own.

    own: shape of the file's array; shape: the prepared one. order: prepared axis a is own axis order[a]; flips: of the
    prepared axes. kernels: how images are resampled along each prepared axis (labels: linear where it is not nearest).
    """

    own: tuple[int, ...]
    shape: tuple[int, ...]
    order: tuple[int, ...]
    flips: tuple[bool, ...]
    kernels: tuple[Kernel, ...]

    @classmethod
    def same(cls, shape: Sequence[int]) -> Grid:
        """The grid of an image that is taken as it is."""
        n, shape = len(shape), tuple(int(v) for v in shape)
        return cls(shape, shape, tuple(range(n)), (False,) * n, every("cubic", n))

    @property
    def turned(self) -> tuple[int, ...]:
        """The own shape in prepared order of axes."""
        return tuple(self.own[axis] for axis in self.order)

    @property
    def identity(self) -> bool:
        """Whether nothing changes."""
        return not self.moved and not any(self.flips) and self.order == tuple(range(len(self.order)))

    @property
    def moved(self) -> bool:
        """Whether any axis is resampled; otherwise prepared voxels are own voxels, exactly."""
        return self.shape != self.turned

    def spacing(self, own: Sequence[float]) -> tuple[float, ...]:
        """Prepared spacing, from the spacing of the file."""
        each = zip(self.order, self.turned, self.shape, strict=True)
        return tuple(float(own[axis]) * n / m for axis, n, m in each)

    # --- from the file to what the network sees

    def own_for(self, region: Region) -> Region:
        """The own region that `bring` and `bring_label` read for a prepared region."""
        return self._own(reaches(region, self.turned, self.shape, self.kernels))

    def bring(self, own_CX: Float, read: Region, region: Region) -> Float:
        """A prepared region (C, *region), from the own pixels (C, *read) of a region that holds `own_for(region)`."""
        if self.identity:
            return own_CX[(slice(None), *region.within(read).slices)]
        turned_CX, at = self._turn(own_CX, 1), self._turned(read)
        if not self.moved:
            return np.ascontiguousarray(turned_CX[(slice(None), *region.within(at).slices)])
        resample = resampler(at, region, self.turned, self.shape, self.kernels)
        out_CX = np.empty((len(own_CX), *region.shape), np.float32)
        for channel_X, out_X in zip(turned_CX, out_CX, strict=True):
            out_X[...] = resample(channel_X)
        return out_CX

    def bring_label(
        self, own_X: NDArray[np.uint8], read: Region, region: Region, bits: bool = False
    ) -> NDArray[np.uint8]:
        """A prepared region of a label, from own labels (*read) of a region that holds `own_for(region)`.

        Every class is resampled for itself, and the largest share has the voxel (the first of equals). bits: the label
        is a mask of overlapping regions: each is where at least half of what is annotated is. IGNORE where it prevails.
        """
        turned_X, at = self._turn(own_X, 0), self._turned(read)
        if not self.moved:
            part_X = turned_X[region.within(at).slices]
            return part_X if self.identity else np.ascontiguousarray(part_X)
        kernels: list[Kernel] = ["nearest" if k == "nearest" else "linear" for k in self.kernels]
        part_X = turned_X[reaches(region, self.turned, self.shape, kernels).within(at).slices]
        values = np.flatnonzero(np.bincount(part_X.reshape(-1), minlength=IGNORE + 1))
        if len(values) == 1 or 0 in region.shape:
            return np.full(region.shape, values[0] if len(values) else 0, np.uint8)
        resample = resampler(at, region, self.turned, self.shape, kernels)

        def share(mask_X: NDArray[np.bool_]) -> Float:
            return resample(mask_X.astype(np.float32))

        return bit_mask(turned_X, values, share) if bits else largest(turned_X, values, share)

    # --- and back

    def covers(self, region: Region) -> Region:
        """The own voxels whose centres lie in a prepared region. What partitions one grid so partitions the other; of
        a region finer than the own voxels it may be none."""
        bounds = [
            [-((m - 2 * edge * n) // (2 * m)) for edge in (start, stop)]
            for start, stop, n, m in zip(region.start, region.stop, self.turned, self.shape, strict=True)
        ]
        return self._own(Region(tuple(a for a, _ in bounds), tuple(b for _, b in bounds)))

    def context(self) -> tuple[int, ...]:
        """Prepared voxels beside a region, on each side of every axis, that `back` may need for what it covers."""
        return tuple(
            0 if n == m else -((n - 2 * max(n, m)) // (2 * n)) for n, m in zip(self.turned, self.shape, strict=True)
        )

    def needed(self, own: Region) -> Region:
        """The prepared region that `back` and `back_label` read for an own region."""
        return reaches(self._turned(own), self.shape, self.turned, every("linear", len(self.shape)))

    def back(self, scores_KX: Float, read: Region, own: Region) -> Float:
        """Scores (K, *own) of an own region, from those (K, *read) of a prepared region that holds `needed(own)`.
        Linear: what sums to one goes on doing so."""
        if not self.moved:
            scores_KX = self._unturn(scores_KX[(slice(None), *self._turned(own).within(read).slices)], 1)
            return scores_KX if self.identity else np.ascontiguousarray(scores_KX)
        turned = self._turned(own)
        resample = resampler(read, turned, self.shape, self.turned, every("linear", len(self.shape)))
        out_KX = np.empty((len(scores_KX), *own.shape), np.float32)
        for scores_X, out_X in zip(scores_KX, out_KX, strict=True):
            out_X[...] = self._unturn(resample(scores_X), 0)
        return out_KX

    def back_label(self, label_X: NDArray[np.uint8], read: Region, own: Region) -> NDArray[np.uint8]:
        """A label (*own) from one (*read) of a prepared region that holds `needed(own)`: the nearest voxel's."""
        turned = self._turned(own)
        each = zip(turned.start, turned.stop, self.shape, self.turned, read.start, strict=True)
        index = [nearest(np.arange(a, b), have, want) - first for a, b, have, want, first in each]
        return np.ascontiguousarray(self._unturn(label_X[np.ix_(*index)], 0))

    # --- axes

    def _turn(self, array: Array, before: int) -> Array:
        """View with axes in prepared order; `before` leading axes stay."""
        axes = (*range(before), *(before + axis for axis in self.order))
        return _flip(array.transpose(axes), self.flips, before)

    def _unturn(self, array: Array, before: int) -> Array:
        axes = (*range(before), *(before + int(a) for a in np.argsort(self.order)))
        return _flip(array, self.flips, before).transpose(axes)

    def _turned(self, own: Region) -> Region:
        """An own region in prepared order of axes, flipped where they are."""
        ends = [(own.start[axis], own.stop[axis]) for axis in self.order]
        return _region(_mirror(ends, self.turned, self.flips))

    def _own(self, turned: Region) -> Region:
        ends = _mirror(list(zip(turned.start, turned.stop, strict=True)), self.turned, self.flips)
        return _region([ends[int(a)] for a in np.argsort(self.order)])


def make_grid(
    shape: Sequence[int],
    spacing: Sequence[float] | None = None,
    codes: str = "",
    target: Sequence[float] | None = None,
    orientation: str = "",
    thick: Kernel = "nearest",
) -> Grid:
    """The grid of an image of `shape`.

    orientation: where the prepared axes shall point ("RAS": right, front, top), reached by reordering and flipping
    where it is known where the own ones do (`codes`); "": axes stay. target: prepared spacing, in the
    unit of `spacing`, in prepared order; an axis within `TOLERANCE` of it stays, and all stay where `spacing` is not
    known. thick: the kernel for images along an axis that is thick before or after.
    """
    own = tuple(int(n) for n in shape)
    order, flips = tuple(range(len(own))), (False,) * len(own)
    if orientation and codes:
        order, flips = reorientation(codes, orientation)
    turned = tuple(own[axis] for axis in order)
    if spacing is None or target is None:
        return Grid(own, turned, order, flips, every("cubic", len(own)))
    now = [float(spacing[axis]) for axis in order]
    prepared = tuple(
        n if abs(s / t - 1) <= TOLERANCE else max(1, round(n * s / t))
        for n, s, t in zip(turned, now, target, strict=True)
    )
    kernels: tuple[Kernel, ...] = tuple(
        thick if max(s / min(now), t / min(target)) >= THICK else "cubic" for s, t in zip(now, target, strict=True)
    )
    return Grid(own, prepared, order, flips, kernels)


# Letters of the two directions of each axis of space: towards the second the coordinate grows.
DIRECTIONS = ("LR", "PA", "IS")


def orientation_codes(affine: Sequence[float]) -> str:
    """Where each axis of an array points, as three letters ("LPS"): the nearest rotation's largest components.

    affine: the 16 numbers, row by row, of the matrix from voxel to RAS. Equal to nibabel's `aff2axcodes`.
    """
    matrix = np.asarray(affine, np.float64).reshape(4, 4)[:3, :3]
    length = np.sqrt((matrix**2).sum(axis=0))
    u, values, vt = np.linalg.svd(matrix / np.where(length == 0, 1, length))
    keep = values > values.max() * 3 * np.finfo(np.float64).eps
    rotation = u[:, keep] @ vt[keep]
    codes = [""] * 3
    # the axis that says most clearly where it points has the first choice
    for axis in np.argsort(np.min(-(rotation**2), axis=0), kind="stable"):
        to = int(np.argmax(np.abs(rotation[:, axis])))
        codes[axis] = DIRECTIONS[to][int(rotation[to, axis] > 0)]
        rotation[to] = 0
    return "".join(codes)


def reorientation(codes: str, target: str) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """(order, flips) of a `Grid` that brings axes of these codes to those of `target`."""
    own = [next(d for d, pair in enumerate(DIRECTIONS) if code in pair) for code in codes]
    wanted = [next(d for d, pair in enumerate(DIRECTIONS) if code in pair) for code in target]
    order = tuple(own.index(direction) for direction in wanted)
    return order, tuple(codes[axis] != code for axis, code in zip(order, target, strict=True))


def _region(ends: Sequence[tuple[int, int]]) -> Region:
    return Region(tuple(a for a, _ in ends), tuple(b for _, b in ends))


def _mirror(ends: Sequence[tuple[int, int]], shape: Sequence[int], flips: Sequence[bool]) -> list[tuple[int, int]]:
    return [(n - b, n - a) if flip else (a, b) for (a, b), n, flip in zip(ends, shape, flips, strict=True)]


def _flip(array: Array, flips: Sequence[bool], before: int) -> Array:
    return array[(slice(None),) * before + tuple(slice(None, None, -1 if flip else None) for flip in flips)]
