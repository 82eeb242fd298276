"""Sums over objects, block by block: sizes, boxes, means and second moments of place and intensity, perimeters.

Means and squared deviations of blocks are joined by the formula of Chan, Golub & LeVeque (1983), which keeps its
precision however large the image is. Held are a few numbers for each object and one block of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region

Float = NDArray[np.float64]

# Weights of a boundary pixel by what neighbours it (K. Benkrid & D. Crookes 2000, "Design and FPGA implementation of a
# perimeter estimator", as skimage.measure.perimeter has it with four neighbours): 1 straight, √2 diagonal, between.
_WEIGHTS = np.zeros(50)
_WEIGHTS[[5, 7, 15, 17, 25, 27]] = 1
_WEIGHTS[[21, 33]] = np.sqrt(2)
_WEIGHTS[[13, 23]] = (1 + np.sqrt(2)) / 2


@dataclass
class Moments:
    """What has been seen of objects 1 … n so far (index 0 is none). Arrays have n + 1 rows.

    pixels (n+1,); centre (n+1, D) and scatter (n+1, D, D): mean index and summed products of deviations from it; start,
    stop (n+1, D): the box. Of every channel values (n+1, C): counted (finite), mean, squares, low, high.
    perimeter (n+1,): of images, in pixels. share (n+1,): summed probability of the object's class.
    """

    pixels: Float
    centre: Float
    scatter: Float
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    counted: Float
    mean: Float
    squares: Float
    low: Float
    high: Float
    perimeter: Float
    share: Float
    ndim: int = field(default=2)

    @classmethod
    def of(cls, count: int, ndim: int, channels: int) -> Moments:
        """Nothing seen yet."""
        n = count + 1
        inf = np.full((n, channels), np.inf)
        return cls(
            pixels=np.zeros(n),
            centre=np.zeros((n, ndim)),
            scatter=np.zeros((n, ndim, ndim)),
            start=np.full((n, ndim), np.iinfo(np.int64).max),
            stop=np.zeros((n, ndim), np.int64),
            counted=np.zeros((n, channels)),
            mean=np.zeros((n, channels)),
            squares=np.zeros((n, channels)),
            low=inf,
            high=-inf,
            perimeter=np.zeros(n),
            share=np.zeros(n),
            ndim=ndim,
        )

    def add(
        self,
        block: Region,
        ids_X: NDArray[np.uint32],
        image_CX: NDArray[np.floating] | None = None,
        shares_X: NDArray[np.floating] | None = None,
    ) -> None:
        """A block: the ids of its pixels; its pixels (C, *block), of which those that are not finite are left out; the
        probability of each pixel's class."""
        from scipy import ndimage

        where = np.flatnonzero(ids_X)
        if not where.size:
            return
        ids, inverse = np.unique(ids_X.reshape(-1)[where], return_inverse=True)
        n = np.bincount(inverse).astype(float)
        compact_X = np.zeros(ids_X.shape, np.int32)
        compact_X.reshape(-1)[where] = inverse + 1
        for k, box in zip(ids, ndimage.find_objects(compact_X), strict=True):
            self.start[k] = np.minimum(self.start[k], [s.start + a for s, a in zip(box, block.start, strict=True)])
            self.stop[k] = np.maximum(self.stop[k], [s.stop + a for s, a in zip(box, block.start, strict=True)])
        place_ND = np.stack(np.unravel_index(where, ids_X.shape), 1).astype(float)
        self._add_places(ids, inverse, n, place_ND, np.asarray(block.start, float))
        self.pixels[ids] += n
        if image_CX is not None:
            values_CN = image_CX.reshape(len(image_CX), -1)[:, where].astype(float)
            for channel, values in enumerate(values_CN):
                self._add_values(channel, ids, inverse, values)
        if shares_X is not None:
            self.share[ids] += np.bincount(inverse, shares_X.reshape(-1)[where])

    def _add_places(
        self, ids: NDArray[np.uint32], inverse: NDArray[np.intp], n: Float, place_ND: Float, origin: Float
    ) -> None:
        ndim = place_ND.shape[1]
        centre = np.stack([np.bincount(inverse, place_ND[:, a]) / n for a in range(ndim)], 1)
        off_ND = place_ND - centre[inverse]
        before = self.pixels[ids]
        step = centre + origin - self.centre[ids]
        both = before * n / (before + n)
        for a in range(ndim):
            for b in range(ndim):
                added = np.bincount(inverse, off_ND[:, a] * off_ND[:, b])
                self.scatter[ids, a, b] += added + step[:, a] * step[:, b] * both
        self.centre[ids] += step * (n / (before + n))[:, None]

    def _add_values(self, channel: int, ids: NDArray[np.uint32], inverse: NDArray[np.intp], values: Float) -> None:
        known = np.isfinite(values)
        if not known.all():
            inverse, values = inverse[known], values[known]
        n = np.bincount(inverse, minlength=len(ids)).astype(float)
        mean = np.bincount(inverse, values, len(ids)) / np.maximum(n, 1)
        squares = np.bincount(inverse, (values - mean[inverse]) ** 2, len(ids))
        before = self.counted[ids, channel]
        total = np.maximum(before + n, 1)
        step = mean - self.mean[ids, channel]
        self.squares[ids, channel] += squares + step**2 * before * n / total
        self.mean[ids, channel] += step * n / total
        self.counted[ids, channel] += n
        for found, extreme in ((self.low, np.minimum), (self.high, np.maximum)):
            here = found[ids, channel]
            extreme.at(here, inverse, values)
            found[ids, channel] = here

    def add_perimeter(self, wide_YX: NDArray[np.uint32]) -> None:
        """The boundary of objects in a block of an image. wide_YX: ids of the block and of two pixels around it, 0
        beyond the image."""
        inner = wide_YX[1:-1, 1:-1]
        edge = np.zeros(inner.shape, bool)
        for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
            edge |= wide_YX[dy : dy + inner.shape[0], dx : dx + inner.shape[1]] != inner
        edge &= inner > 0
        ids, on_edge = inner[1:-1, 1:-1], edge[1:-1, 1:-1]
        code = on_edge.astype(np.int64)
        for dy in range(3):
            for dx in range(3):
                if (dy, dx) != (1, 1):
                    part = slice(dy, dy + ids.shape[0]), slice(dx, dx + ids.shape[1])
                    code += (10 if dy != 1 and dx != 1 else 2) * (edge[part] & (inner[part] == ids))
        self.perimeter += np.bincount(ids[on_edge], _WEIGHTS[code[on_edge]], len(self.perimeter))


def axes_of(scatter: Float, pixels: Float, spacing: Sequence[float]) -> Float:
    """Lengths (n, D), longest first, of the axes of the ellipse or ellipsoid that has the second moments of each
    object: as `skimage.measure.regionprops` has `axis_major_length` and `axis_minor_length`."""
    ndim = len(spacing)
    scale = np.asarray(spacing, float)
    covariance = scatter / pixels[:, None, None] * scale[:, None] * scale
    eigen = np.linalg.eigvalsh(covariance)[:, ::-1]
    axes: Float = 2 * np.sqrt((ndim + 2) * np.maximum(eigen, 0))
    return axes
