"""What one pass over the pixels of an image tells: its range, whether it is empty, and a digest to find copies."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetkit.core.region import Region
from unetkit.data.case import Case
from unetkit.data.formats import ImageReader, MapGrid
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
