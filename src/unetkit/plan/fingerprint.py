"""What the training images are like, from one streaming pass: sizes, intensities, class shares, thickness.

Volumes and signals are images here too, and their voxels and samples are pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from unetkit.core.config import Config
from unetkit.core.region import Region
from unetkit.data.case import IGNORE, Case
from unetkit.data.formats import ImageReader
from unetkit.data.formats.maps.geotiff import missing
from unetkit.data.labels.borders import BORDER, INSIDE
from unetkit.data.labels.legend import MOST_REGIONS, Legend
from unetkit.data.labels.masks import OpenLabel
from unetkit.data.prepared.grid import Grid
from unetkit.data.prepared.placing import codes_of, is_backwards, planned_grid
from unetkit.data.prepared.plan import PreparePlan
from unetkit.data.prepared.statistics import BLOCK, blocks
from unetkit.data.source import open_case
from unetkit.plan.layout import Places

# Pixels looked at per image for its mean and colour: every n-th of them, evenly over the image.
SAMPLED = 200_000
# Hounsfield units: air and lung lie below the first, nearly everything between the others (metal is above, and what
# lies outside the scanner's circle below), water and soft tissue between the last two.
AIR, HOUNSFIELD, TISSUE = -500, (-1100, 1500), (-200, 200)
# Shares of the pixels between them from which an image is taken for a CT.
MOSTLY, SOME = 0.95, 0.02


class CaseFacts(Config):
    """One image: pixels along every axis, their lengths in `unit` (none where not known), channels (without alpha),
    type, mean and standard deviation over its pixels and channels.

    orientation: where the axes of a volume point, such as LPS. map: whether it lies on Earth. ct: whether its values
    look like Hounsfield units.
    """

    id: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None = None
    channels: int
    dtype: str
    mean: float
    std: float
    unit: str = ""
    orientation: str = ""
    map: bool = False
    ct: bool = False

    def grid(self, plan: PreparePlan) -> Grid:
        """The grid on which it will be seen."""
        return planned_grid(plan, self.shape, self.spacing, self.unit, self.orientation)


class ClassFacts(Config):
    """One class: share of the labelled pixels, images that have it, thickness in pixels: of an image 2 · area / border,
    which is right for lines, of a volume 4 · volume / surface, which is right for tubes.

    lean: along each axis how far from the middle of the image the class lies, in lengths of the image, where that is so
    in nearly all images, else 0; empty where it lies anywhere."""

    name: str
    fraction: float = Field(ge=0, le=1)
    cases: int
    thickness: float | None
    lean: tuple[float, ...] = ()


class Fingerprint(Config):
    """Facts about the training cases."""

    cases: tuple[CaseFacts, ...]
    classes: tuple[ClassFacts, ...]
    colour: bool
    """Whether any image has channels that differ from each other."""
    ignored: float
    """Share of the pixels that carry no label."""

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.cases[0].shape)

    def median_size(self) -> tuple[int, ...]:
        """Median length of every axis in pixels."""
        return tuple(int(n) for n in np.median([c.shape for c in self.cases], axis=0))

    def smallest_side(self) -> int:
        """Shortest side of any image, in pixels."""
        return min(min(c.shape) for c in self.cases)

    def spacing(self) -> tuple[float, ...] | None:
        """Median length of a pixel along every axis; None where it is known of no image."""
        known = [c.spacing for c in self.cases if c.spacing is not None]
        return tuple(float(v) for v in np.median(known, axis=0)) if known else None

    def aspect(self) -> tuple[float, ...]:
        """Lengths of a pixel along every axis in units of the shortest; all 1 where they are not known."""
        spacing = self.spacing()
        if spacing is None or min(spacing) <= 0:
            return (1.0,) * self.ndim
        return tuple(round(v / min(spacing), 2) for v in spacing)

    def dtypes(self) -> tuple[str, ...]:
        """The pixel types that occur."""
        return tuple(sorted({c.dtype for c in self.cases}))

    def prepared(self, plan: PreparePlan) -> Fingerprint:
        """The same facts of the images as they will be seen: resampled, their axes reordered. Thickness follows."""
        if plan.spacing is None and not plan.orientation:
            return self
        cases, finer = [], []
        for case in self.cases:
            grid = case.grid(plan)
            spacing = None if case.spacing is None else grid.spacing(case.spacing)
            cases.append(case.model_copy(update={"shape": grid.shape, "spacing": spacing}))
            finer.append((math.prod(grid.shape) / math.prod(grid.own)) ** (1 / len(grid.own)))
        factor = float(np.median(finer))
        classes = [
            c if c.thickness is None else c.model_copy(update={"thickness": c.thickness * factor}) for c in self.classes
        ]
        return self.model_copy(update={"cases": tuple(cases), "classes": tuple(classes)})


def fingerprint(cases: Sequence[Case], legend: Legend) -> Fingerprint:
    """Read every image and mask once, block by block. Raises DataError where a file cannot be read."""
    facts: list[CaseFacts] = []
    counts = _Counts(legend.regions)
    colour = False
    for case in cases:
        with open_case(case) as reader:
            sample_CN, info = _sample(reader), reader.info
            order = (info.chunk, is_backwards(info))
        colour = colour or (len(sample_CN) > 1 and bool(np.abs(sample_CN[1:] - sample_CN[:1]).max(initial=0) > 0))
        values = sample_CN[np.isfinite(sample_CN)]
        facts.append(
            CaseFacts(
                id=case.id,
                shape=info.shape,
                spacing=info.spacing,
                channels=info.channels,
                dtype=info.dtype,
                mean=float(values.mean()) if values.size else 0.0,
                std=float(values.std()) if values.size else 0.0,
                unit=info.unit,
                orientation=codes_of(info),
                map=info.map is not None,
                ct=_is_ct(values),
            )
        )
        if case.label is not None:
            counts.add(case, legend, *order)
    labelled = max(int(counts.labelled), 1)
    ratio = 4 if len(facts[0].shape) == 3 else 2
    # as wide as it was drawn, help says nothing of the size of structures; levels together are as thick as objects are
    rim, solid = list(range(BORDER, len(legend.classes))) if legend.touching else [], counts.pixels.copy()
    if legend.levels:
        solid[INSIDE] += solid[rim].sum()
    leans = counts.places.lean(cases, len(facts[0].shape), legend.names)
    classes = tuple(
        ClassFacts(
            name=name,
            fraction=float(counts.pixels[k] / labelled),
            cases=int(counts.present[k]),
            thickness=float(ratio * solid[k] / counts.border[k]) if counts.border[k] and k not in rim else None,
            lean=leans.get(name, ()),
        )
        for k, name in enumerate(legend.names)
    )
    return Fingerprint(
        cases=tuple(facts),
        classes=classes,
        colour=colour,
        ignored=float(counts.ignored / max(int(counts.labelled + counts.ignored), 1)),
    )


def _sample(reader: ImageReader) -> NDArray[np.float32]:
    """Every n-th pixel of an image in the order of its array, (C, N); NaN where nothing is."""
    info = reader.info
    step = max(1, math.prod(info.shape) // SAMPLED)
    strides = [math.prod(info.shape[axis + 1 :]) for axis in range(len(info.shape))]
    places, values = [], []
    for region in blocks(info.shape, info.chunk, is_backwards(info), BLOCK // info.channels):
        block_CX = reader.read(region)
        nothing = missing(reader, region, block_CX)
        axes = [np.arange(a, b) * n for a, b, n in zip(region.start, region.stop, strides, strict=True)]
        place_N = sum(np.ix_(*axes), np.int64(0)).reshape(-1)
        chosen = np.flatnonzero(place_N % step == 0)
        part_CN = block_CX.reshape(len(block_CX), -1)[:, chosen].astype(np.float32)
        if nothing is not None:
            part_CN[nothing.reshape(len(block_CX), -1)[:, chosen]] = np.nan
        places.append(place_N[chosen])
        values.append(part_CN)
    order = np.argsort(np.concatenate(places))
    return np.ascontiguousarray(np.concatenate(values, axis=1)[:, order])


def _is_ct(values: NDArray[np.float32]) -> bool:
    """Whether air, tissue and hardly anything else than what a CT measures is there."""
    if not values.size or values.min() > AIR:
        return False
    # outside the circle that is measured, files hold one value far below
    inside = values[values > HOUNSFIELD[0]]
    filled = values.size - len(inside)
    if not len(inside) or (filled and len(np.unique(values[values <= HOUNSFIELD[0]])) > 1):
        return False
    usual = np.mean(inside < HOUNSFIELD[1])
    tissue = np.mean((inside > TISSUE[0]) & (inside < TISSUE[1]))
    return bool(inside.min() < AIR and usual > MOSTLY and tissue > SOME)


class _Counts:
    """Over all labels, by class: pixels, border (faces between pixels; the frame of the image is none), images that
    have it. With `bits` classes overlap, and a label is a mask of them."""

    def __init__(self, bits: bool) -> None:
        self._bits = bits
        self.pixels, self.border, self.present = (np.zeros(IGNORE + 1, np.int64) for _ in range(3))
        self.labelled = self.ignored = 0
        self.places = Places()

    def add(self, case: Case, legend: Legend, chunk: tuple[int, ...] | None, backwards: bool) -> None:
        """Count the label of a case, in blocks that lie as its image's."""
        here, places = np.zeros(IGNORE + 1, np.int64), self.places.begin(case)
        with OpenLabel(case, legend) as label:
            fits = chunk is None or len(chunk) == len(label.shape)
            for region in blocks(label.shape, chunk if fits else None, backwards):
                wide = Region(region.start, tuple(b + 1 for b in region.stop)).intersect(Region.of(label.shape))
                wide_X = label.read(wide)
                inside = tuple(slice(0, n) for n in region.shape)
                places.add(wide_X[inside], region, len(legend.classes) if self._bits else 0)
                count = np.bincount(wide_X[inside].reshape(-1), minlength=IGNORE + 1)
                self.ignored += int(count[IGNORE])
                self.labelled += int(count[:IGNORE].sum())
                if not self._bits:
                    here += count
                    self.border += _border(legend.merge(wide_X) if legend.levels else wide_X, region.shape)
                    continue
                wide_X = np.where(wide_X == IGNORE, np.uint8(0), wide_X)
                for k in range(MOST_REGIONS):
                    bit_X = ((wide_X >> k) & 1).astype(np.uint8)
                    here[k] += np.count_nonzero(bit_X[inside])
                    self.border[k] += _border(bit_X, region.shape)[1]
            places.finish(label.shape)
        self.pixels += here
        self.present += here > 0


def _border(wide_X: NDArray[np.uint8], shape: Sequence[int]) -> NDArray[np.int64]:
    """Faces of each class between pixels of a block of `shape` and their next ones; `wide_X` holds those as well."""
    size = np.zeros(IGNORE + 1, np.int64)
    for axis in range(wide_X.ndim):
        beside = tuple(slice(None) if a == axis else slice(0, n) for a, n in enumerate(shape))
        along = np.moveaxis(wide_X[beside], axis, 0)
        a, b = along[1:], along[:-1]
        edge = a != b
        for side in (a[edge], b[edge]):
            size += np.bincount(side, minlength=IGNORE + 1)
    return size
