"""What the training images are like, from one streaming pass: sizes, intensities, class shares, thickness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from unetkit.core.config import Config
from unetkit.data.case import IGNORE, Case
from unetkit.data.formats import open_image
from unetkit.data.legend import Legend
from unetkit.data.masks import read_raw_label

# Pixels looked at per image for its mean and colour: every n-th of them, evenly over the image.
SAMPLED = 200_000


class CaseFacts(Config):
    """One image: pixels, channels (without alpha), type, mean and standard deviation over its pixels and channels."""

    id: str
    height: int
    width: int
    channels: int
    dtype: str
    mean: float
    std: float


class ClassFacts(Config):
    """One class: share of the labelled pixels, images that have it, thickness in pixels (2 · area / border)."""

    name: str
    fraction: float = Field(ge=0, le=1)
    cases: int
    thickness: float | None


class Fingerprint(Config):
    """Facts about the training cases."""

    cases: tuple[CaseFacts, ...]
    classes: tuple[ClassFacts, ...]
    colour: bool
    """Whether any image has channels that differ from each other."""
    ignored: float
    """Share of the pixels that carry no label."""

    def median_size(self) -> tuple[int, int]:
        """Median height and width in pixels."""
        return (
            int(np.median([c.height for c in self.cases])),
            int(np.median([c.width for c in self.cases])),
        )

    def smallest_side(self) -> int:
        """Shortest side of any image, in pixels."""
        return min(min(c.height, c.width) for c in self.cases)

    def dtypes(self) -> tuple[str, ...]:
        """The pixel types that occur."""
        return tuple(sorted({c.dtype for c in self.cases}))


def fingerprint(cases: Sequence[Case], legend: Legend) -> Fingerprint:
    """Read every image and mask once. Raises DataError where a file cannot be read."""
    facts: list[CaseFacts] = []
    pixels = np.zeros(IGNORE + 1, np.int64)
    border = np.zeros(IGNORE + 1, np.int64)
    present = np.zeros(IGNORE + 1, np.int64)
    colour = False
    for case in cases:
        image_CYX, dtype = _read(case)
        image_CN = image_CYX.reshape(len(image_CYX), -1)
        step = max(1, image_CN.shape[1] // SAMPLED)
        sample = image_CN[:, ::step].astype(np.float32)
        colour = colour or (len(sample) > 1 and bool(np.abs(sample[1:] - sample[:1]).max() > 0))
        facts.append(
            CaseFacts(
                id=case.id,
                height=image_CYX.shape[1],
                width=image_CYX.shape[2],
                channels=len(image_CYX),
                dtype=dtype,
                mean=float(sample.mean()),
                std=float(sample.std()),
            )
        )
        if case.label is not None:
            label_YX, _ = legend.encode(read_raw_label(case.label))
            count = np.bincount(label_YX.reshape(-1), minlength=IGNORE + 1)
            pixels += count
            present += count > 0
            border += _border(label_YX)
    labelled = max(int(pixels[:IGNORE].sum()), 1)
    classes = tuple(
        ClassFacts(
            name=name,
            fraction=float(pixels[k] / labelled),
            cases=int(present[k]),
            thickness=float(2 * pixels[k] / border[k]) if border[k] else None,
        )
        for k, name in enumerate(legend.names)
    )
    return Fingerprint(
        cases=tuple(facts),
        classes=classes,
        colour=colour,
        ignored=float(pixels[IGNORE] / max(int(pixels.sum()), 1)),
    )


def _read(case: Case) -> tuple[np.ndarray, str]:
    """All channels of a case (C, Y, X) in the files' own units, and the pixel type."""
    parts = []
    dtype = ""
    for path in case.images:
        with open_image(path) as reader:
            parts.append(reader.read())
            dtype = reader.info.dtype
    return (parts[0] if len(parts) == 1 else np.concatenate(parts)), dtype


def _border(label_YX: np.ndarray) -> np.ndarray:
    """Length of each class's border in pixel edges (the frame of the image is no border)."""
    length = np.zeros(IGNORE + 1, np.int64)
    for a, b in ((label_YX[1:], label_YX[:-1]), (label_YX[:, 1:], label_YX[:, :-1])):
        edge = a != b
        for side in (a[edge], b[edge]):
            length += np.bincount(side, minlength=IGNORE + 1)
    return length
