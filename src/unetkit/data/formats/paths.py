"""Which files are images, what they are called, and in which order people expect them."""

from __future__ import annotations

import re
from pathlib import Path

RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
TIFF_SUFFIXES = (".tif", ".tiff")
VOLUME_SUFFIXES = (".nii.gz", ".nii")
SIGNAL_SUFFIXES = (".hea",)
SUFFIXES = RASTER_SUFFIXES + TIFF_SUFFIXES + VOLUME_SUFFIXES + SIGNAL_SUFFIXES
"""Suffixes (lower case) of the image files that are read: images, NIfTI volumes, the headers of WFDB recordings."""


def suffix(path: Path) -> str:
    """The suffix as it stands, `.nii.gz` taken as one."""
    name = path.name
    return name[-7:] if name.lower().endswith(".nii.gz") else path.suffix


def stem(path: Path) -> str:
    """The name without its suffix: `brain` of `brain.nii.gz`."""
    return path.name.removesuffix(suffix(path))


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key by which `slice2` comes before `slice10`; case does not matter, ties are broken by the text itself."""
    parts = re.split(r"([0-9]+)", text.casefold())
    key = [(0, int(part), part) if index % 2 else (1, 0, part) for index, part in enumerate(parts) if part]
    return (*key, (-1, 0, text))


def is_image_name(path: Path) -> bool:
    """Whether the name is that of an image: a supported suffix, and not hidden (partial files are hidden)."""
    return suffix(path).lower() in SUFFIXES and not path.name.startswith(".")


def image_paths(folder: Path) -> list[Path]:
    """The image files directly in `folder`, in natural order. Hidden and half-written files are left out."""
    found = [path for path in Path(folder).iterdir() if is_image_name(path) and path.is_file()]
    return sorted(found, key=lambda path: natural_key(path.name))
