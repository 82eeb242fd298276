"""From the pixels of a file to what a network sees. Training and prediction go through here, so they cannot differ.

Three steps, each by region: the file's channels become the plan's channels (`to_channels`); the image's own statistics,
or the set's, are measured in one bounded pass (`image_statistics`); pixels are shifted and scaled (`normalise`).
`CaseReader` does all three for a case, a path or an array.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from unetkit.core.config import Config
from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.case import Case
from unetkit.data.formats import ImageInfo, open_image

if TYPE_CHECKING:
    from unetkit.data.formats import ImageReader

Float = NDArray[np.float32]
Array = NDArray[Any]

BLOCK = (512, 8192)  # rows × columns read at a time while measuring: whole rows of tiles or strips, 4 Mpx
MOST_PIXELS = 64_000_000  # larger images are measured on a regular subset of their blocks
SAMPLES = 1 << 20  # pixels per channel kept for percentiles
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, section 2.5.1


class PreparePlan(Config):
    """How pixels become the network's input.

    colour: "grey" (1 channel, colours by luminance), "rgb" (3 channels, grey repeated) or "bands" (as they are).
    normalise: "image" (each by its own statistics), "set" (by `mean` … `high` below, one value per channel), "none".
    method: "zscore", or "percentile": clipped to the `clip` percentiles first, for 16 bits and floats with outliers.
    """

    channels: int = Field(1, ge=1)
    colour: Literal["grey", "rgb", "bands"] = "grey"
    normalise: Literal["image", "set", "none"] = "image"
    method: Literal["zscore", "percentile"] = "zscore"
    clip: tuple[float, float] = (0.5, 99.5)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.colour != "bands" and self.channels != (needed := 3 if self.colour == "rgb" else 1):
            raise ValueError(f"colour '{self.colour}' goes with channels {needed}, not {self.channels}")
        if not 0 <= self.clip[0] < self.clip[1] <= 100:
            raise ValueError(f"clip holds two percentiles in ascending order between 0 and 100, not {self.clip}")
        for name in ("mean", "std", "low", "high"):
            if len(values := getattr(self, name)) not in (0, self.channels):
                raise ValueError(f"{name} needs one value per channel ({self.channels}), not {len(values)}")
        return self


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
    def shape(self) -> tuple[int, int]: ...

    def channels(self, region: Region) -> Float: ...


def to_channels(raw_CYX: Array, info: ImageInfo, plan: PreparePlan, path: Path | str) -> Float:
    """The plan's channels (C, h, w) in float32: grey repeated for "rgb", colours to luminance for "grey".

    Raises DataError: a number of channels that the plan's network cannot take.
    """
    has = raw_CYX.shape[0]
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite; such pixels are left out below
        image_CYX = raw_CYX.astype(np.float32, copy=False)
    if has == plan.channels:
        return image_CYX
    if plan.colour == "grey" and has == 3:
        return np.tensordot(np.asarray(LUMINANCE, np.float32), image_CYX, axes=(0, 0))[None]
    if plan.colour == "rgb" and has == 1:
        return np.repeat(image_CYX, 3, axis=0)
    takes = {"grey": "grey or RGB images", "rgb": "RGB or grey images"}.get(plan.colour)
    takes = takes or f"images with exactly {plan.channels} channel{'s' * (plan.channels != 1)}"
    raise DataError(
        f"{path}: the image has {has} channel{'s' * (has != 1)} ({info.mode}, {info.dtype}), but this network takes "
        f"{takes}; convert the image, or train on images of this kind"
    )


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
        step = max(1, int(np.ceil(np.sqrt(visited / samples))))
        for region in regions:
            block_CYX = source.channels(region)
            sums.add(block_CYX)
            offset = [-start % step for start in region.start]  # the subsample is one grid over the whole image
            for channel, values_YX in enumerate(block_CYX[:, offset[0] :: step, offset[1] :: step]):
                sampled[channel].append(_finite(values_YX))
    return _statistics(sums, [np.concatenate([*parts, np.zeros(0, np.float32)]) for parts in sampled], plan)


def fit(plan: PreparePlan, sources: Iterable[PixelSource], samples: int = SAMPLES // 8) -> PreparePlan:
    """The plan with the statistics of a set filled in (`normalise == "set"`; other plans come back as they are).

    `sources` may open its images one after the other; `samples` pixels of each are kept for percentiles.
    """
    if plan.normalise != "set":
        return plan
    found = image_statistics(sources, plan, samples)
    values = {name: tuple(float(v) for v in getattr(found, name)) for name in ("mean", "std", "low", "high")}
    return PreparePlan.parse(plan.model_dump() | values, "statistics of the set")


def given_statistics(plan: PreparePlan) -> Statistics:
    """The set's statistics that the plan holds; without any, ones that change nothing."""
    n = plan.channels

    def per_channel(values: tuple[float, ...], default: float) -> Float:
        return np.asarray(values or (default,) * n, np.float32)

    return Statistics(
        per_channel(plan.mean, 0),
        per_channel(plan.std, 1),
        per_channel(plan.low, -np.inf),
        per_channel(plan.high, np.inf),
    )


def normalise(image_CYX: Float, statistics: Statistics, plan: PreparePlan) -> Float:
    """(image − mean) / deviation per channel, after clipping where the method is "percentile". A new (C, h, w) float32.

    Pixels that are not finite become 0, the mean. `plan.normalise == "none"` changes nothing else.
    """
    mean, std, low, high = (
        v[:, None, None] for v in (statistics.mean, statistics.std, statistics.low, statistics.high)
    )
    out_CYX = np.array(image_CYX, np.float32)
    finite = np.isfinite(out_CYX)
    if plan.normalise != "none":
        if plan.method == "percentile":
            np.clip(out_CYX, low, high, out=out_CYX)
        out_CYX -= mean
        out_CYX /= std
    if not finite.all():
        out_CYX[~finite] = 0
    return out_CYX


class CaseReader:
    """All files of a case, an image file, or an array in memory, as one normalised image read by region.

    An array is (H, W), (H, W, C) or (C, H, W); which of the last two is told by the number of channels, and a fourth
    channel beside three colours (alpha) is left out. Use as a context manager, or `close` it.

    Raises DataError: an unreadable file, channel files of different sizes, channels the plan's network cannot take, an
    array of a shape or type that is no image.
    """

    def __init__(self, source: Case | Path | Array, plan: PreparePlan, statistics: Statistics | None = None) -> None:
        """`statistics`: where they are known already (of the same image and plan), they are not measured again."""
        self.plan = plan
        self._statistics = statistics
        self._files = contextlib.ExitStack()
        self._readers: list[ImageReader] = []
        self._array: Array | None = None
        if isinstance(source, np.ndarray):
            self.name = "array"
            self._array = _channels_first(source, plan)
            self.shape: tuple[int, int] = (self._array.shape[1], self._array.shape[2])
            return
        paths = source.images if isinstance(source, Case) else (Path(source),)
        self.name = source.id if isinstance(source, Case) else str(source)
        try:
            for path in paths:
                self._readers.append(self._files.enter_context(open_image(path)))
            first = self._readers[0]
            self.shape = first.info.shape
            for reader in self._readers[1:]:
                if reader.info.shape != self.shape:
                    raise DataError(
                        f"{reader.path}: {_size(reader.info.shape)} pixels, but {first.path.name} of the same case has "
                        f"{_size(self.shape)}; the channel files of a case must have one size"
                    )
            # refuse wrong channels now, not in the middle of a run
            has = sum(reader.info.channels for reader in self._readers)
            to_channels(np.zeros((has, 0, 0), np.uint8), first.info, plan, first.path)
        except BaseException:
            self.close()
            raise

    @property
    def whole(self) -> Region:
        """The region of all pixels."""
        return Region.of(self.shape)

    @property
    def statistics(self) -> Statistics:
        """What `read` normalises with: measured on first use where the plan says "image"."""
        if self._statistics is None:
            measured = self.plan.normalise == "image"
            self._statistics = image_statistics(self, self.plan) if measured else given_statistics(self.plan)
        return self._statistics

    def channels(self, region: Region) -> Float:
        """The plan's channels of a region inside the image, (C, h, w) float32, not normalised."""
        if self._array is not None:
            rows, columns = region.slices
            info = ImageInfo(self.shape, self._array.shape[0], False, str(self._array.dtype), "bands")
            return to_channels(self._array[:, rows, columns], info, self.plan, "the array")
        parts = [reader.read(region) for reader in self._readers]
        raw_CYX = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return to_channels(raw_CYX, self._readers[0].info, self.plan, self._readers[0].path)

    def read(self, region: Region) -> Float:
        """A region inside the image, (C, h, w) float32, normalised."""
        return normalise(self.channels(region), self.statistics, self.plan)

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Sums:
    """Count, sum and sum of squares per channel in float64, about the first value seen (so that nothing cancels)."""

    def __init__(self, channels: int) -> None:
        self.n = np.zeros(channels)
        self.first = np.full(channels, np.nan)
        self.sum = np.zeros(channels)
        self.squares = np.zeros(channels)

    def add(self, block_CYX: Float) -> None:
        for channel, block_YX in enumerate(block_CYX):
            values = _finite(block_YX).astype(np.float64)
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


def _blocks(shape: tuple[int, int]) -> Iterator[Region]:
    """Blocks that cover the image; of a huge one, a regular lattice of them with about `MOST_PIXELS` pixels."""
    whole = Region.of(shape)
    rows, columns = (range(0, n, b) for n, b in zip(shape, BLOCK, strict=True))
    if (excess := whole.size / MOST_PIXELS) > 1:
        rows = rows[min(int(excess) // 2, len(rows) - 1) :: int(np.ceil(excess))]
    for row in rows:
        for column in columns:
            yield Region((row, column), (row + BLOCK[0], column + BLOCK[1])).intersect(whole)


def _finite(values_YX: Float) -> Float:
    finite = np.isfinite(values_YX)
    return values_YX.reshape(-1) if finite.all() else values_YX[finite]


def _channels_first(array: Array, plan: PreparePlan) -> Array:
    """(C, H, W) view of an image array. Raises DataError for what is no image of this plan.

    For a grey network (1, H, 3) is one channel, three pixels wide, and not one row of RGB.
    """
    where = f"the array of shape {array.shape}"
    if array.dtype.kind not in "buif":
        raise DataError(
            f"{where} and type {array.dtype}: an image has real numbers; convert it to uint8, uint16 or float32"
        )
    if 0 in array.shape:
        raise DataError(f"{where} is empty; an image has at least one pixel")
    counts = {plan.channels} if plan.colour == "bands" else {1, 3, 4}
    if array.ndim == 2 and 1 in counts:
        return array[None]
    if array.ndim == 3:
        if array.shape[2] in counts and not (array.shape[0] == 1 and plan.channels == 1):
            array = np.moveaxis(array, 2, 0)
        if array.shape[0] in counts:
            return array[:3] if array.shape[0] == 4 and plan.colour != "bands" else array
    raise DataError(
        f"{where} is no image for this network; it takes one at a time: (height, width), (height, width, channels) or "
        f"(channels, height, width), with {_either(counts)} channels"
    )


def _either(counts: set[int]) -> str:
    return " or ".join(str(n) for n in sorted(counts))


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]} × {shape[0]}"
