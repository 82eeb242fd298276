"""The statistics that images are normalised by: one bounded pass over blocks, for images, volumes and signals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region

if TYPE_CHECKING:
    from unetkit.data.prepared.plan import PreparePlan

Float = NDArray[np.float32]

BLOCK = 1 << 22  # values read at a time while measuring
MOST_PIXELS = 64_000_000  # larger images are measured on a regular subset of their blocks
SAMPLES = 1 << 20  # pixels per channel kept for percentiles
GOLDEN = 0.6180339887498949  # multiples of it, without their whole part, are spread evenly over 0 … 1
MOST_SAMPLES = 1 << 24  # of a set: each image keeps fewer where there are many


@dataclass(frozen=True)
class Statistics:
    """Per channel, float32 of shape (C,): mean and deviation (never 0), and the range that values are clipped to."""

    mean: Float
    std: Float
    low: Float
    high: Float


@dataclass(frozen=True)
class Pixels:
    """What is measured: an image on its own grid, by region, not yet normalised.

    chunk: what its file is read in at the least. backwards: whether its first axis lies closest in the file, as in
    medical volumes. wanted: the pixels of a region that count; None: all.
    """

    shape: tuple[int, ...]
    channels: Callable[[Region], Float]
    chunk: tuple[int, ...] | None = None
    backwards: bool = False
    wanted: Callable[[Region], NDArray[np.bool_]] | None = None


def image_statistics(sources: Pixels | Iterable[Pixels], plan: PreparePlan, samples: int = SAMPLES) -> Statistics:
    """Mean, deviation and clipping range of each channel, of one image or of a set taken together.

    One pass over blocks of 4 million values; images over 64 Mpx are measured on a regular subset of blocks. Means and
    deviations are over all pixels visited; percentiles, and where values are clipped the mean and deviation of the
    clipped values, are over a regular subsample of at most about `samples` pixels per image. Pixels that are not finite
    are left out. A constant channel has deviation 1, and so has one without pixels. Deterministic.
    """
    each = [sources] if isinstance(sources, Pixels) else sources
    sums = _Sums(plan.channels)
    sampled: list[list[Float]] = [[] for _ in range(plan.channels)]
    for source in each:
        pixels = BLOCK // max(1, plan.channels)
        regions = _visited(list(blocks(source.shape, source.chunk, source.backwards, pixels)), source)
        visited = sum(region.size for region in regions)
        step = max(1, math.ceil((visited / samples) ** (1 / len(source.shape))))
        kept = _Thinned(2 * samples)
        for region in regions:
            block_CX = source.channels(region)
            if source.wanted is not None:
                block_CX = block_CX[:, source.wanted(region)]
                kept.add(block_CX)
            else:
                # the subsample is one grid over the whole image
                kept.add(block_CX[(slice(None), *(slice(-start % step, None, step) for start in region.start))])
            sums.add(block_CX)
        for channel in range(plan.channels):
            sampled[channel] += [_finite(values_CN[channel]) for values_CN in kept.parts]
    return _statistics(sums, [np.concatenate([*parts, np.zeros(0, np.float32)]) for parts in sampled], plan)


def blocks(
    shape: Sequence[int], chunk: Sequence[int] | None = None, backwards: bool = False, pixels: int = BLOCK
) -> Iterator[Region]:
    """Regions of about `pixels` that partition an image, in the order of its file: whole chunks where it has such, long
    along the axes that lie closest, which are the last ones, or `backwards` the first."""
    step = list(chunk or (1,) * len(shape))
    axes = range(len(shape)) if backwards else range(len(shape) - 1, -1, -1)
    for axis in axes:
        others = math.prod(n for a, n in enumerate(step) if a != axis)
        step[axis] = min(shape[axis], max(1, pixels // (others * step[axis])) * step[axis])
    starts = [range(0, n, s) for n, s in zip(shape, step, strict=True)]
    for reverse in itertools.product(*(starts[axis] for axis in reversed(axes))):
        start = tuple(reverse[len(shape) - 1 - axes.index(axis)] for axis in range(len(shape)))
        yield Region(start, tuple(min(a + s, n) for a, s, n in zip(start, step, shape, strict=True)))


def _visited(regions: list[Region], source: Pixels) -> list[Region]:
    """All regions of an image; of a huge one so many that `MOST_PIXELS` are about what is left: evenly along the axis
    that is slowest in its file, and all over the others."""
    share = MOST_PIXELS / max(1, math.prod(source.shape))
    if share >= 1:
        return regions
    count = max(1, round(share * len(regions)))
    beside = len(regions) // len({region.start[-1 if source.backwards else 0] for region in regions})
    chosen = set()
    for i in range(count):
        place = (2 * i + 1) * len(regions) // (2 * count)
        chosen.add(place // beside * beside + int((0.5 + i * GOLDEN) % 1 * beside))
    return [regions[place] for place in sorted(chosen) if place < len(regions)]


class _Thinned:
    """Parts (C, N) of at most so many pixels in all: where there are more, every second is let go, again and again."""

    def __init__(self, most: int) -> None:
        self.parts: list[Float] = []
        self._most, self._step, self._held = most, 1, 0

    def add(self, block_CX: Float) -> None:
        part_CN = block_CX.reshape(len(block_CX), -1)[:, :: self._step]
        self.parts.append(part_CN if self._step == 1 else part_CN.copy())
        self._held += part_CN.shape[1]
        while self._held > self._most:
            self.parts = [part[:, ::2].copy() for part in self.parts]
            self._step, self._held = 2 * self._step, sum(part.shape[1] for part in self.parts)


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
        if plan.clips:
            clipped = np.clip(values.astype(np.float64), low[channel], high[channel])
            mean[channel], std[channel] = clipped.mean(), clipped.std()
    constant = std <= 1e-6 * np.abs(mean)  # beside the values themselves: floats around 1e-9 are not constant
    std[constant] = 1
    with np.errstate(over="ignore", under="ignore"):
        return Statistics(*(values.astype(np.float32) for values in (mean, std, low, high)))


def _finite(values_X: Float) -> Float:
    finite = np.isfinite(values_X)
    return values_X.reshape(-1) if finite.all() else values_X[finite]
