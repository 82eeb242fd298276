"""How like the training images an image is, by its looks alone: a network is only sure of what it knows.

An image is described as the network sees it (prepared: normalised, on its own spacing), from a few windows, whatever
its size: quantiles of its values, how much neighbouring pixels differ at several scales (blur takes the fine ones away,
noise adds to them) and how unevenly, and how its channels belong together. Distances between descriptions are measured
where all of them vary as much (the shrunk covariance of the training images is made round), and what counts is the mean
distance of the nearest two training images: sets of several kinds of images are no obstacle.

How far is far, the training images say themselves: the distances of each to those of other groups. Their logarithms are
nearly normal, and the familiarity of an image is the share of such a distribution that lies farther away.
"""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from unetkit.core.config import Config
from unetkit.core.region import Region
from unetkit.data.case import Case
from unetkit.data.prepared.plan import PreparePlan
from unetkit.data.prepared.prepare import CaseReader
from unetkit.predict.reader import Reader

UNLIKE = 0.02
"""Below this familiarity an image is said to be unlike those of training."""
LEAST = 4  # training images, or groups of them, of which distances can be known
MOST = 200  # training images that are looked at, evenly drawn
MOST_CHANNELS = 8
NEAREST = 2
LEVELS = 5  # scales, each twice as coarse as the one before
# Windows by the number of axes: their pixels along each, and how many along each at most.
_WINDOWS = {1: (4096, 4), 2: (128, 3), 3: (48, 2)}
_PERCENT = (1, 5, 25, 50, 75, 95, 99)
_VALUES = 4096  # of each window, for quantiles
_TINY = 1e-6  # of differences: below it an image is flat
_USUAL, _FEW = 0.35, 6

Float = NDArray[np.float64]


class Familiar(Config):
    """What training images look like. Numbers are kept as base64 of little-endian float32."""

    size: int = Field(ge=1)
    """Numbers that describe an image."""
    middle: str
    """The mean description (size,)."""
    whitening: str
    """(size, size): takes a description less the mean to where distances are measured."""
    references: str
    """Descriptions of training images there, (images, size)."""
    typical: float
    """Logarithm of the median distance of a training image to others."""
    spread: float = Field(gt=0)
    """Standard deviation of these logarithms, from their upper half."""
    units: int = Field(ge=LEAST)
    """Training images, or groups of them where they are known, that this rests on."""

    @model_validator(mode="after")
    def _numbers(self) -> Self:
        if len(_array(self.middle)) != self.size or len(_array(self.whitening)) != self.size**2:
            raise ValueError(f"the numbers of a description do not fit its size, {self.size}")
        if not len(_array(self.references)) or len(_array(self.references)) % self.size:
            raise ValueError(f"references are no multiple of {self.size} numbers")
        return self

    def familiarity(self, description: Float) -> float:
        """In [0, 1]: about the share of training images that are farther from the others than this one is from them.
        Raises ValueError: a description of another size."""
        from scipy.stats import t as student

        if description.shape != (self.size,):
            raise ValueError(f"an image is described by {self.size} numbers, not {description.shape}")
        whitening = _array(self.whitening).reshape(self.size, -1)
        there = (description - _array(self.middle)) @ whitening
        far = float(_distances(there[None], _array(self.references).reshape(-1, self.size))[0])
        # of few images even the median and the spread are not known well
        z = (math.log(max(far, 1e-9)) - self.typical) / (self.spread * math.sqrt(1 + 1 / self.units))
        return float(student.sf(z, self.units - 1))


def fit_familiar(cases: Sequence[Case], plan: PreparePlan, groups: Mapping[str, str]) -> Familiar | None:
    """What these training images look like. groups: case id → patient, slide …, whose images resemble each other.

    At most `MOST` are looked at, and only windows of each. None of fewer than `LEAST`, and of tokens. Raises DataError:
    an image that cannot be read.
    """
    if plan.colour == "tokens" or len(cases) < LEAST:
        return None
    chosen = [cases[n] for n in np.unique(np.linspace(0, len(cases) - 1, min(MOST, len(cases))).astype(int))]
    found = []
    for case in chosen:
        with CaseReader(case, plan) as reader:
            found.append(describe(reader))
    names = [groups.get(case.id, f"\0{case.id}") for case in chosen]
    if len(set(names)) < LEAST:
        names = [case.id for case in chosen]
    return of_descriptions(np.stack(found), names)


def of_descriptions(descriptions_ND: Float, groups: Sequence[str]) -> Familiar:
    """From descriptions (N, D) of training images, and the group of each. Raises ValueError: too few of them."""
    units = len(set(groups))
    if units < LEAST:
        raise ValueError(f"{units} groups of images do not tell what is far; {LEAST} do")
    images, size = descriptions_ND.shape
    middle, scale = np.median(descriptions_ND, 0), np.maximum(descriptions_ND.std(0), 0.02)
    scaled = (descriptions_ND - middle) / scale
    shrunk = min(0.9, max(0.1, size / (images + size)))  # the fewer the images, the less is known of how values vary
    covariance = np.cov(scaled.T).reshape(size, size)
    covariance = (1 - shrunk) * covariance + shrunk * max(np.trace(covariance) / size, _TINY) * np.eye(size)
    lengths, directions = np.linalg.eigh(covariance)
    whitening = (directions / np.sqrt(lengths)) / scale[:, None]
    middle, whitening = middle.astype(np.float32), whitening.astype(np.float32)
    references = ((descriptions_ND - middle) @ whitening).astype(np.float32).astype(np.float64)
    number = {name: n for n, name in enumerate(dict.fromkeys(groups))}
    apart = np.log(np.maximum(_distances(references, references, np.array([number[name] for name in groups])), 1e-9))
    typical = float(np.median(apart))
    upper = np.mean([(np.quantile(apart, 0.75) - typical) / 0.674, np.quantile(apart, 0.84) - typical])
    # of few images the spread is not known well, and that of other sets counts as that of a few more
    spread = math.sqrt((units * float(upper) ** 2 + _FEW * _USUAL**2) / (units + _FEW))
    return Familiar(
        size=size,
        middle=_text(middle),
        whitening=_text(whitening),
        references=_text(references),
        typical=typical,
        spread=spread,
        units=units,
    )


def _distances(there_ND: Float, references_MD: Float, groups: NDArray[np.int64] | None = None) -> Float:
    """The mean distance (root mean square over D) of each to its nearest references; `groups`: those are the same
    images, and references of the same group do not count."""
    squares = (there_ND**2).sum(1)[:, None] + (references_MD**2).sum(1)[None] - 2 * there_ND @ references_MD.T
    apart = np.sqrt(np.maximum(squares, 0) / references_MD.shape[1])
    if groups is not None:
        apart = np.where(groups[:, None] == groups[None], np.inf, apart)
    nearest = np.sort(apart, 1)[:, :NEAREST]
    some = np.isfinite(nearest)
    found: Float = np.where(some, nearest, 0).sum(1) / some.sum(1)
    return found


# --- what an image looks like


def describe(reader: Reader) -> Float:
    """Numbers (D,) that describe a prepared image, from windows of it; D depends on the number of channels alone."""
    windows = [_few_channels(reader.read(window)) for window in _windows(tuple(reader.shape))]
    values = np.concatenate([_some(window.reshape(len(window), -1)) for window in windows], axis=1)
    parts = [np.percentile(values, _PERCENT, axis=1).reshape(-1)]
    details = np.array([_details(window) for window in windows])  # (windows, levels, 3, channels)
    known = np.isfinite(details)
    details = np.where(known, details, 0).sum(0) / np.maximum(known.sum(0), 1)
    first, square, second = details[:, 0] + _TINY, np.sqrt(details[:, 1]) + _TINY, details[:, 2] + _TINY
    parts += [np.log2(first).reshape(-1), np.log2(square / first)[:2].reshape(-1)]
    parts.append(np.log2(second / first)[:2].reshape(-1))
    pairs = list(itertools.combinations(range(len(values)), 2)) if len(values) <= 4 else []
    parts += [np.array([_alike(values[a], values[b]), np.abs(values[a] - values[b]).mean()]) for a, b in pairs]
    return np.concatenate(parts).astype(np.float64)


def _windows(shape: tuple[int, ...]) -> Iterator[Region]:
    """Regions that lie evenly over an image; the whole of a small one."""
    side, most = _WINDOWS[len(shape)]
    starts = []
    for length in shape:
        count, spare = min(most, math.ceil(length / side)), max(length - side, 0)
        starts.append([round(spare * n / (count - 1)) for n in range(count)] if count > 1 else [spare // 2])
    for start in itertools.product(*starts):
        yield Region(start, tuple(min(n, a + side) for a, n in zip(start, shape, strict=True)))


def _few_channels(image_CX: NDArray[np.float32]) -> NDArray[np.float32]:
    chosen = np.unique(np.linspace(0, len(image_CX) - 1, min(MOST_CHANNELS, len(image_CX))).astype(int))
    few_CX: NDArray[np.float32] = image_CX[chosen]
    return few_CX


def _some(values_CN: NDArray[np.float32]) -> NDArray[np.float32]:
    return values_CN[:, :: max(1, values_CN.shape[1] // _VALUES)]


def _details(image_CX: NDArray[np.float32]) -> Float:
    """Of each scale and channel: the mean size of first differences along the axes, their mean square, and the mean
    size of second differences, (levels, 3, channels); NaN at scales that a small image does not have."""
    found = np.full((LEVELS, 3, len(image_CX)), np.nan)
    for level in range(LEVELS):
        axes = [axis for axis in range(1, image_CX.ndim) if image_CX.shape[axis] > 2]
        if axes:
            each = []
            for axis in axes:
                step = np.diff(image_CX, axis=axis)
                change = np.abs(np.diff(step, axis=axis))
                each.append([_mean(np.abs(step)), _mean(step * step), _mean(change)])
            found[level] = np.mean(each, axis=0)
        if not axes or level == LEVELS - 1:
            break
        for axis in axes:
            image_CX = _halved(image_CX, axis)
    return found


def _mean(image_CX: NDArray[np.float32]) -> Float:
    mean: Float = image_CX.reshape(len(image_CX), -1).mean(1, dtype=np.float64)
    return mean


def _halved(image_CX: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Means of pairs along an axis."""
    even = image_CX.shape[axis] // 2 * 2
    rest: tuple[slice, ...] = (slice(None),) * axis
    total: NDArray[np.float32] = image_CX[(*rest, slice(0, even, 2))] + image_CX[(*rest, slice(1, even, 2))]
    return total * np.float32(0.5)


def _alike(a_N: NDArray[np.float32], b_N: NDArray[np.float32]) -> float:
    """Correlation; 1 where one of both does not vary."""
    spread = float(a_N.std()) * float(b_N.std())
    return float(((a_N - a_N.mean()) * (b_N - b_N.mean())).mean()) / spread if spread > _TINY else 1.0


def _text(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode("ascii")


def _array(text: str) -> Float:
    """Raises ValueError: no base64 of float32."""
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float64)
