"""Sizes in words, as the people of each field say them: 512 × 384 pixels, 35 × 51 × 35 voxels, 5000 samples."""

from __future__ import annotations

from collections.abc import Sequence

_UNITS = {1: "sample", 2: "pixel", 3: "voxel"}


def size(shape: Sequence[int]) -> str:
    """Width × height of an image, as viewers show it; the axes of a volume or signal in the order of its array."""
    return " × ".join(str(n) for n in (reversed(shape) if len(shape) == 2 else shape))


def units(ndim: int, n: int = 2) -> str:
    """What `n` elements of an image with this number of axes are called: samples, pixels, voxels."""
    return _UNITS.get(ndim, "element") + "s" * (n != 1)


def extent(shape: Sequence[int]) -> str:
    """The size with its unit: '35 × 51 × 35 voxels'."""
    return f"{size(shape)} {units(len(shape))}"
