"""What the training images are like, from one streaming pass: sizes, intensities, class shares, thickness.

Volumes and signals are images here too, and their voxels and samples are pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from unetkit.core.config import Config
from unetkit.data.case import IGNORE, Case
from unetkit.data.legend import Legend
from unetkit.data.masks import read_label
from unetkit.data.source import open_case

# Pixels looked at per image for its mean and colour: every n-th of them, evenly over the image.
SAMPLED = 200_000


class CaseFacts(Config):
    """One image: pixels along every axis, their lengths (mm in volumes, seconds in signals; none where not known),
    channels (without alpha), type, mean and standard deviation over its pixels and channels."""

    id: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None = None
    channels: int
    dtype: str
    mean: float
    std: float


class ClassFacts(Config):
    """One class: share of the labelled pixels, images that have it, thickness in pixels: of an image 2 · area / border,
    which is right for lines, of a volume 4 · volume / surface, which is right for tubes."""

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


def fingerprint(cases: Sequence[Case], legend: Legend) -> Fingerprint:
    """Read every image and mask once. Raises DataError where a file cannot be read."""
    facts: list[CaseFacts] = []
    pixels = np.zeros(IGNORE + 1, np.int64)
    border = np.zeros(IGNORE + 1, np.int64)
    present = np.zeros(IGNORE + 1, np.int64)
    colour = False
    for case in cases:
        with open_case(case) as reader:
            image_CX, info = reader.read(), reader.info
        image_CN = image_CX.reshape(len(image_CX), -1)
        step = max(1, image_CN.shape[1] // SAMPLED)
        sample = image_CN[:, ::step].astype(np.float32)
        colour = colour or (len(sample) > 1 and bool(np.abs(sample[1:] - sample[:1]).max() > 0))
        facts.append(
            CaseFacts(
                id=case.id,
                shape=image_CX.shape[1:],
                spacing=info.spacing,
                channels=len(image_CX),
                dtype=info.dtype,
                mean=float(sample.mean()),
                std=float(sample.std()),
            )
        )
        if case.label is not None:
            label_X, _ = read_label(case, legend)
            count = np.bincount(label_X.reshape(-1), minlength=IGNORE + 1)
            pixels += count
            present += count > 0
            border += _border(label_X)
    labelled = max(int(pixels[:IGNORE].sum()), 1)
    ratio = 4 if len(facts[0].shape) == 3 else 2
    classes = tuple(
        ClassFacts(
            name=name,
            fraction=float(pixels[k] / labelled),
            cases=int(present[k]),
            thickness=float(ratio * pixels[k] / border[k]) if border[k] else None,
        )
        for k, name in enumerate(legend.names)
    )
    return Fingerprint(
        cases=tuple(facts),
        classes=classes,
        colour=colour,
        ignored=float(pixels[IGNORE] / max(int(pixels.sum()), 1)),
    )


def _border(label_X: np.ndarray) -> np.ndarray:
    """Size of each class's border in faces between pixels (the frame of the image is no border)."""
    size = np.zeros(IGNORE + 1, np.int64)
    for axis in range(label_X.ndim):
        along = np.moveaxis(label_X, axis, 0)
        a, b = along[1:], along[:-1]
        edge = a != b
        for side in (a[edge], b[edge]):
            size += np.bincount(side, minlength=IGNORE + 1)
    return size
