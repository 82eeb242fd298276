"""What one pass over the pixels of an image tells: its range, whether it is empty, and a digest to find copies."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetkit.core.region import Region
from unetkit.data.case import Case
from unetkit.data.formats import ImageReader, MapGrid
from unetkit.data.sizes import units
from unetkit.data.source import open_case

BAND = 1 << 22  # values looked at together


@dataclass(frozen=True)
class ImageFacts:
    """One image (all channel files of a case together).

    shape: of space. channels: without alpha. mode: "grey", "rgb", "palette" or "bands", of the first file.
    low, high: the range of its finite values. not_finite: pixels that are NaN or infinite. orientation: the camera's
    (EXIF), 1 where upright. digest: equal for equal pixels, whatever the file's format. The rest as in `ImageInfo`.
    """

    case: str
    path: Path
    shape: tuple[int, ...]
    channels: int
    dtype: str
    mode: str
    low: float
    high: float
    not_finite: int
    orientation: int
    digest: str
    spacing: tuple[float, ...] | None = None
    affine: tuple[float, ...] | None = None
    unit: str = ""
    map: MapGrid | None = None
    notes: tuple[str, ...] = ()

    @property
    def constant(self) -> bool:
        """Whether all pixels have one value."""
        return self.low == self.high


def described(images: Sequence[ImageFacts]) -> str:
    """What the images of a set are, in a line: how many, how large, of what; '' for none."""
    if not images:
        return ""
    first = images[0]
    ndim = len(first.shape)
    shapes = [image.shape for image in images if len(image.shape) == ndim]
    ends = [(min(n), max(n)) for n in zip(*shapes, strict=True)]
    sides = [str(low) if low == high else f"{low}…{high}" for low, high in (reversed(ends) if ndim == 2 else ends)]
    channels = sorted({image.channels for image in images})
    parts = [f"{len(images)} of {' × '.join(sides)} {units(ndim)}"]
    if len({image.spacing for image in images}) == 1 and first.spacing is not None:
        parts.append(spacing_text(first.spacing, first.unit))
    if first.map is not None and len({image.map.crs for image in images if image.map is not None}) == 1:
        from unetkit.data.formats.maps.map_places import crs_name  # rasterio, which only maps need

        parts.append(crs_name(first.map.crs))
    count = "…".join(str(n) for n in dict.fromkeys((channels[0], channels[-1])))
    parts.append(f"{count} channel{'s' * (channels != [1])}")
    return ", ".join([*parts, " and ".join(sorted({image.dtype for image in images}))])


def spacing_text(spacing: Sequence[float], unit: str) -> str:
    """The distance of neighbouring elements in words; of a signal in seconds, how many there are in one."""
    if len(spacing) == 1 and unit in ("s", ""):
        return f"{1 / spacing[0]:.4g} Hz"
    return (" × ".join(f"{s:.2g}" for s in spacing) + f" {unit}").rstrip()


def image_facts(case: Case) -> ImageFacts:
    """Look at every pixel of an image once, in bands. Raises DataError: unreadable, channel files of unequal sizes."""
    digest = hashlib.blake2b(digest_size=16)
    with open_case(case) as reader:
        info = reader.info
        digest.update(f"{info.shape} {info.channels} {info.dtype}".encode())
        low, high, not_finite = _scan(reader, digest)
    if low > high:
        low = high = 0.0  # nothing finite: as good as constant
    return ImageFacts(
        case.id, case.where, info.shape, info.channels, info.dtype, info.mode, float(low), float(high), not_finite,
        info.orientation, digest.hexdigest(), info.spacing, info.affine, info.unit, info.map, info.notes,
    )  # fmt: skip


def _scan(reader: ImageReader, digest: hashlib.blake2b) -> tuple[float, float, int]:
    """Smallest and largest finite value, and the number of others; feeds the digest."""
    height, *others = reader.info.shape
    rows = max(1, BAND // (math.prod(others) * reader.info.channels))
    rows -= rows % 256 if rows > 256 else 0  # whole rows of tiles
    low, high, not_finite = np.inf, -np.inf, 0
    for top in range(0, height, rows):
        band = np.ascontiguousarray(reader.read(Region((top, *(0,) * len(others)), (min(height, top + rows), *others))))
        digest.update(band.data)
        if band.dtype.kind == "f" and not (finite := np.isfinite(band)).all():
            not_finite += int(np.count_nonzero(~finite))
            band = band[finite]
        if band.size:
            low, high = min(low, float(band.min())), max(high, float(band.max()))
    return low, high, not_finite
