"""From the pixels of a file to what a network sees. Training and prediction go through here, so they cannot differ.

Four steps, each by region: the file's channels become the plan's channels (`to_channels`); the image's own statistics,
or the set's, are measured in one bounded pass (`image_statistics`); pixels are shifted and scaled (`normalise`), and
brought to the grid that the plan wants (`grid_of`). `CaseReader` does all of it for a case, a path or an array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetkit.core.closing import Closing
from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.case import Case
from unetkit.data.formats import ImageInfo, ImageReader, open_image
from unetkit.data.formats.maps.geotiff import missing, valid
from unetkit.data.prepared.placing import doubts, grid_of, is_backwards
from unetkit.data.prepared.plan import PreparePlan
from unetkit.data.prepared.statistics import SAMPLES, Pixels, Statistics, image_statistics
from unetkit.data.source import ArrayImage, open_case

Float = NDArray[np.float32]
Array = NDArray[Any]

LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, section 2.5.1


def to_channels(raw_CX: Array, info: ImageInfo, plan: PreparePlan, path: Path | str) -> Float:
    """The plan's channels (C, *shape) in float32: grey repeated for "rgb", colours to luminance for "grey".

    Raises DataError: a number of channels that the plan's network cannot take, tokens that are no whole numbers.
    """
    has = raw_CX.shape[0]
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite; such pixels are left out below
        image_CX = raw_CX.astype(np.float32, copy=False)
    if plan.colour == "tokens":
        _refuse_no_tokens(raw_CX, path)
    if has == plan.channels:
        return image_CX
    if plan.colour == "grey" and has == 3:
        return np.tensordot(np.asarray(LUMINANCE, np.float32), image_CX, axes=(0, 0))[None]
    if plan.colour == "rgb" and has == 1:
        return np.repeat(image_CX, 3, axis=0)
    takes = {"grey": "grey or RGB images", "rgb": "RGB or grey images", "tokens": "one row of tokens"}.get(plan.colour)
    takes = takes or f"images with exactly {plan.channels} channel{'s' * (plan.channels != 1)}"
    raise DataError(
        f"{path}: the image has {has} channel{'s' * (has != 1)} ({info.mode}, {info.dtype}), but this network takes "
        f"{takes}; convert the image, or train on images of this kind"
    )


def fit(plan: PreparePlan, sources: Iterable[Pixels], samples: int = SAMPLES // 8) -> PreparePlan:
    """The plan with the statistics of a set filled in (`normalise == "set"`; other plans come back as they are).

    `sources` may open its images one after the other; `samples` pixels of each are kept for percentiles. With method
    "window" they say which pixels are foreground. Raises DataError: none is.
    """
    if plan.normalise != "set":
        return plan
    found = image_statistics(sources, plan, samples)
    if plan.method == "window" and not (found.high > found.low).all():
        raise DataError(
            "prepare.method=window measures the classes of interest, and the masks of the training set have none of "
            "them; mark some, or set prepare.method=percentile and prepare.normalise=image"
        )
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


def normalise(image_CX: Float, statistics: Statistics, plan: PreparePlan) -> Float:
    """(image − mean) / deviation per channel, after clipping where the method is so. A new float32 array.

    Pixels that are not finite become 0, the mean. `plan.normalise == "none"` changes nothing else.
    """
    per_channel = (-1, *(1,) * (image_CX.ndim - 1))
    mean, std, low, high = (
        v.reshape(per_channel) for v in (statistics.mean, statistics.std, statistics.low, statistics.high)
    )
    out_CX = np.array(image_CX, np.float32)
    finite = np.isfinite(out_CX)
    if plan.normalise != "none":
        if plan.clips:
            np.clip(out_CX, low, high, out=out_CX)
        out_CX -= mean
        out_CX /= std
    if not finite.all():
        out_CX[~finite] = 0
    return out_CX


class CaseReader(Closing):
    """All files of a case, an image file, or an array in memory, as one normalised image read by region, on the grid
    that the plan wants.

    info: what the header of the file says. grid: how the prepared image lies over the file's. shape, spacing: of the
    prepared image. notes: what the plan asks and the header does not tell, in sentences for the user.

    An array has `ndim` axes of space, and perhaps one of channels before or behind them: (H, W), (H, W, C), (C, H, W).
    Which it is, is told by the number of channels; a fourth channel beside three colours (alpha) is left out. It is
    taken to have the spacing and the orientation of the plan (a `Case` can say its own). Use as a context manager, or
    `close` it.

    Raises DataError: an unreadable file, channel files of different sizes, channels or axes the plan's network cannot
    take, an array of a shape or type that is no image.
    """

    def __init__(
        self, source: Case | Path | Array, plan: PreparePlan, statistics: Statistics | None = None, ndim: int = 2
    ) -> None:
        """`statistics`: where they are known already (of the same image and plan), they are not measured again.
        `ndim`: axes of space of an array; files tell their own."""
        self.plan = plan
        self._statistics = statistics
        if isinstance(source, np.ndarray):
            self.name = "array"
            self._reader: ImageReader = ArrayImage(Path("the array"), _channels_first(source, plan, ndim))
        elif isinstance(source, Case):
            self.name, self._reader = source.id, open_case(source)
        else:
            self.name, self._reader = str(source), open_image(Path(source))
        self.info = info = self._reader.info
        try:
            # refuse wrong channels now, not in the middle of a run
            nothing_CX = np.zeros((info.channels, *(0,) * len(info.shape)), np.uint8)
            to_channels(nothing_CX, info, plan, self._reader.path)
            self.grid = grid_of(info, plan)
        except DataError as error:
            self.close()
            named = str(self._reader.path) in str(error)
            raise error if named else DataError(f"{self._reader.path}: {error}") from None
        except BaseException:
            self.close()
            raise
        self.shape = self.grid.shape
        self.spacing = None if info.spacing is None else self.grid.spacing(info.spacing)
        self.notes = doubts(info, plan, isinstance(self._reader, ArrayImage))

    @property
    def whole(self) -> Region:
        """The region of all prepared pixels."""
        return Region.of(self.shape)

    @property
    def statistics(self) -> Statistics:
        """What `read` normalises with: measured on first use where the plan says "image"."""
        if self._statistics is None:
            measured = self.plan.normalise == "image"
            self._statistics = image_statistics(self.pixels(), self.plan) if measured else given_statistics(self.plan)
        return self._statistics

    def pixels(self, wanted: Callable[[Region], NDArray[np.bool_]] | None = None) -> Pixels:
        """The image as statistics are measured on it: on its own grid. `wanted`: the pixels of a region that count."""
        return Pixels(self.info.shape, self.channels, self.info.chunk, is_backwards(self.info), wanted)

    def channels(self, own: Region) -> Float:
        """The plan's channels of a region of the image's own grid, (C, *shape) float32, not normalised."""
        raw_CX = self._reader.read(own)
        nothing = None if self.plan.colour == "tokens" else missing(self._reader, own, raw_CX)
        if nothing is not None:  # left out of statistics as all that is not finite, and 0 after normalising
            raw_CX = np.where(nothing, np.float32(np.nan), raw_CX)
        return to_channels(raw_CX, self.info, self.plan, self._reader.path)

    def valid(self, own: Region) -> NDArray[np.bool_] | None:
        """Which pixels of a region of a map's own grid hold anything; None where all do, and of what is no map."""
        return valid(self._reader, own) if self.info.map is not None or self.info.nodata is not None else None

    def read(self, region: Region) -> Float:
        """A region inside the prepared image, (C, *shape) float32, normalised."""
        own = self.grid.own_for(region)
        return self.grid.bring(normalise(self.channels(own), self.statistics, self.plan), own, region)

    @property
    def grows(self) -> int:
        """Bytes that its files may come to keep in memory, as they are read."""
        return self._reader.grows

    def close(self) -> None:
        """Close the files."""
        self._reader.close()


def _refuse_no_tokens(raw_CX: Array, path: Path | str) -> None:
    """Raise DataError where numbers are not whole, below 0, or beyond what float32 holds exactly."""
    if raw_CX.size and not (
        0 <= raw_CX.min() <= raw_CX.max() < 1 << 24 and (raw_CX.dtype.kind in "bui" or bool((raw_CX % 1 == 0).all()))
    ):
        raise DataError(
            f"{path}: the network takes tokens, whole numbers from 0 on, but this holds {raw_CX.min():g} … "
            f"{raw_CX.max():g} ({raw_CX.dtype}); number the things that occur"
        )


def _channels_first(array: Array, plan: PreparePlan, ndim: int) -> Array:
    """(C, *space) view of an image array. Raises DataError for what is no image of this plan.

    For a grey network (1, H, 3) is one channel, three pixels wide, and not one row of RGB.
    """
    where = f"the array of shape {array.shape}"
    if array.dtype.kind not in "buif":
        raise DataError(
            f"{where} and type {array.dtype}: an image has real numbers; convert it to uint8, uint16 or float32"
        )
    if 0 in array.shape:
        raise DataError(f"{where} is empty; an image has at least one pixel")
    coloured = plan.colour in ("grey", "rgb")
    counts = {1, 3, 4} if coloured else {plan.channels}
    if array.ndim == ndim and 1 in counts:
        return array[None]
    if array.ndim == ndim + 1:
        if array.shape[-1] in counts and not (array.shape[0] == 1 and plan.channels == 1):
            array = np.moveaxis(array, -1, 0)
        if array.shape[0] in counts:
            return array[:3] if array.shape[0] == 4 and coloured else array
    what, space = {1: ("signal", "samples"), 2: ("image", "height, width"), 3: ("volume", "x, y, z")}[ndim]
    raise DataError(
        f"{where} is no {what} for this network; it takes one at a time: ({space}), ({space}, channels) or "
        f"(channels, {space}), with {_either(counts)} channels"
    )


def _either(counts: set[int]) -> str:
    return " or ".join(str(n) for n in sorted(counts))
