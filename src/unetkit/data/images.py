"""What one pass over the pixels of an image tells: its range, whether it is empty, and a digest to find copies."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.case import Case
from unetkit.data.formats import ImageReader, open_image

BAND = 1 << 22  # pixels looked at together


@dataclass(frozen=True)
class ImageFacts:
    """One image (all channel files of a case together).

    shape: (height, width). channels: without alpha. mode: "grey", "rgb", "palette" or "bands", of the first file.
    low, high: the range of its finite values. not_finite: pixels that are NaN or infinite. orientation: the camera's
    (EXIF), 1 where upright. digest: equal for equal pixels, whatever the file's format.
    """

    case: str
    path: Path
    shape: tuple[int, int]
    channels: int
    dtype: str
    mode: str
    low: float
    high: float
    not_finite: int
    orientation: int
    digest: str

    @property
    def constant(self) -> bool:
        """Whether all pixels have one value."""
        return self.low == self.high


def image_facts(case: Case) -> ImageFacts:
    """Look at every pixel of an image once, in bands. Raises DataError: unreadable, channel files of unequal sizes."""
    digest = hashlib.blake2b(digest_size=16)
    low, high, not_finite, channels = np.inf, -np.inf, 0, 0
    first = None
    for path in case.images:
        with open_image(path) as reader:
            info = reader.info
            first = first or info
            if info.shape != first.shape:
                raise DataError(
                    f"{path}: {size(info.shape)} pixels, but {case.images[0].name} of the same case has "
                    f"{size(first.shape)}; the channel files of a case must have one size"
                )
            channels += info.channels
            digest.update(f"{info.shape} {info.channels} {info.dtype}".encode())
            least, most, bad = _scan(reader, digest)
            low, high, not_finite = min(low, least), max(high, most), not_finite + bad
    if first is None:
        raise DataError(f"the case '{case.id}' has no image file; give it one")
    if low > high:
        low = high = 0.0  # nothing finite: as good as constant
    return ImageFacts(
        case.id, case.images[0], first.shape, channels, first.dtype, first.mode, float(low), float(high), not_finite,
        first.orientation, digest.hexdigest(),
    )  # fmt: skip


def size(shape: tuple[int, int]) -> str:
    """Width × height, as image viewers show it."""
    return f"{shape[1]} × {shape[0]}"


def _scan(reader: ImageReader, digest: hashlib.blake2b) -> tuple[float, float, int]:
    """Smallest and largest finite value, and the number of others; feeds the digest."""
    height, width = reader.info.shape
    rows = max(1, BAND // width)
    rows -= rows % 256 if rows > 256 else 0  # whole rows of tiles
    low, high, not_finite = np.inf, -np.inf, 0
    for top in range(0, height, rows):
        band = np.ascontiguousarray(reader.read(Region((top, 0), (min(height, top + rows), width))))
        digest.update(band.data)
        if band.dtype.kind == "f" and not (finite := np.isfinite(band)).all():
            not_finite += int(np.count_nonzero(~finite))
            band = band[finite]
        if band.size:
            low, high = min(low, float(band.min())), max(high, float(band.max()))
    return low, high, not_finite
