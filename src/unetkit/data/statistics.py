"""The statistics that images are normalised by: one bounded pass over blocks, for images, volumes and signals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region

if TYPE_CHECKING:
    from unetkit.data.prepare import PreparePlan

Float = NDArray[np.float32]

# Read at a time while measuring, 4 Mpx: whole rows of tiles or strips of an image, slabs of a volume.
BLOCKS = {1: (1 << 22,), 2: (512, 8192), 3: (64, 256, 256)}
MOST_PIXELS = 64_000_000  # larger images are measured on a regular subset of their blocks
SAMPLES = 1 << 20  # pixels per channel kept for percentiles


@dataclass(frozen=True)
class Statistics:
    """Per channel, float32 of shape (C,): mean and deviation (never 0), and the range that "percentile" clips to."""

    mean: Float
    std: Float
    low: Float
    high: Float


class PixelSource(Protocol):
    """What can be measured: a size, and its channels by region, not yet normalised."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def channels(self, region: Region) -> Float: ...


def image_statistics(
    sources: PixelSource | Iterable[PixelSource], plan: PreparePlan, samples: int = SAMPLES
) -> Statistics:
    """Mean, deviation and clipping range of each channel, of one image or of a set taken together.

    One pass over blocks of 4 Mpx; images over 64 Mpx are measured on a regular subset of blocks. Means and deviations
    are over all pixels visited; percentiles, and with `method == "percentile"` the mean and deviation of the clipped
    values, are over a regular subsample of at most about `samples` pixels per image. Pixels that are not finite are
    left out. A constant channel has deviation 1. Deterministic.
    """
    each = sources if isinstance(sources, Iterable) else [sources]
    sums = _Sums(plan.channels)
    sampled: list[list[Float]] = [[] for _ in range(plan.channels)]
    for source in each:
        regions = list(_blocks(source.shape))
        visited = sum(region.size for region in regions)
        step = max(1, math.ceil((visited / samples) ** (1 / len(source.shape))))
        for region in regions:
            block_CX = source.channels(region)
            sums.add(block_CX)
            # the subsample is one grid over the whole image
            grid = tuple(slice(-start % step, None, step) for start in region.start)
            for channel, values_X in enumerate(block_CX[(slice(None), *grid)]):
                sampled[channel].append(_finite(values_X))
    return _statistics(sums, [np.concatenate([*parts, np.zeros(0, np.float32)]) for parts in sampled], plan)


class _Sums:
    """Count, sum and sum of squares per channel in float64, about the first value seen (so that nothing cancels)."""

    def __init__(self, channels: int) -> None:
        self.n = np.zeros(channels)
        self.first = np.full(channels, np.nan)
        self.sum = np.zeros(channels)
        self.squares = np.zeros(channels)

    def add(self, block_CX: Float) -> None:
        for channel, block_X in enumerate(block_CX):
            values = _finite(block_X).astype(np.float64)
            if not values.size:
                continue
            if np.isnan(self.first[channel]):
                self.first[channel] = values[0]
            values -= self.first[channel]
            self.n[channel] += values.size
            self.sum[channel] += values.sum()
            self.squares[channel] += np.dot(values, values)

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        n = np.maximum(self.n, 1)
        mean = self.sum / n
        variance = np.maximum(self.squares / n - mean**2, 0)
        return np.nan_to_num(self.first) + mean, np.sqrt(variance)


def _statistics(sums: _Sums, sampled: Sequence[Float], plan: PreparePlan) -> Statistics:
    mean, std = sums.moments()
    low, high = np.zeros(len(sampled)), np.zeros(len(sampled))
    for channel, values in enumerate(sampled):
        if not values.size:
            continue
        low[channel], high[channel] = np.percentile(values, plan.clip)
        if low[channel] == high[channel]:  # e.g. few bright spots on black: clipping would erase what matters
            low[channel], high[channel] = values.min(), values.max()
        if plan.method == "percentile":
            clipped = np.clip(values.astype(np.float64), low[channel], high[channel])
            mean[channel], std[channel] = clipped.mean(), clipped.std()
    constant = std <= 1e-6 * np.abs(mean)  # beside the values themselves: floats around 1e-9 are not constant
    std[constant] = 1
    with np.errstate(over="ignore", under="ignore"):
        return Statistics(*(values.astype(np.float32) for values in (mean, std, low, high)))


def _blocks(shape: tuple[int, ...]) -> Iterator[Region]:
    """Blocks that cover the image; of a huge one, a regular lattice of them with about `MOST_PIXELS` pixels."""
    whole = Region.of(shape)
    block = BLOCKS[len(shape)]
    first, *others = (range(0, n, b) for n, b in zip(shape, block, strict=True))
    if (excess := whole.size / MOST_PIXELS) > 1:
        first = first[min(int(excess) // 2, len(first) - 1) :: int(np.ceil(excess))]
    for start in itertools.product(first, *others):
        yield Region(start, tuple(a + b for a, b in zip(start, block, strict=True))).intersect(whole)


def _finite(values_X: Float) -> Float:
    finite = np.isfinite(values_X)
    return values_X.reshape(-1) if finite.all() else values_X[finite]
