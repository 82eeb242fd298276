"""Files that hold several images: which of them are labels, which is meant where none is named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from unetkit.core.errors import DataError, nearest
from unetkit.data.find.pairs import MASK_WORDS
from unetkit.data.formats.base import Inside

_LISTED = 8


def is_called_label(name: str) -> bool:
    """Whether the name of an image inside a file says that it is a mask: `labels/nuclei`, `gt`, `cell_mask2`."""
    words = re.split(r"[^a-z]+", name.lower())
    return any(word in MASK_WORDS for word in words) or "groundtruth" in re.sub(r"[^a-z]+", "", name.lower())


def the_one(path: Path, found: Sequence[Inside]) -> Inside:
    """The image that is meant by the file alone: its only one, or the only one that is not called a label.

    Raises DataError: there are several, or none.
    """
    images = [item for item in found if not item.label]
    if len(found) == 1 or len(images) == 1:
        return found[0] if len(found) == 1 else images[0]
    if not found:
        raise DataError(f"{path}: the file holds no image (no array of numbers with 1 to 5 axes); export it again")
    example = (images or found)[0].address.relative_to(path).as_posix()
    raise DataError(f"{path}: it holds {len(found)} images: {listed(path, found)}; name one: {path.name}/{example}")


def missing(path: Path, name: str, found: Sequence[Inside]) -> DataError:
    """The error for a name that is not in the file."""
    names = [item.address.relative_to(path).as_posix() for item in found]
    holds = f"it holds {listed(path, found)}" if found else "it holds no image"
    return DataError(f"{path}: there is no image {name!r} in it; {holds}{nearest(name, names)}")


def listed(path: Path, found: Sequence[Inside]) -> str:
    """`raw (40 × 512 × 512, uint16), label (40 × 512 × 512, uint8)`."""
    parts = [
        f"{item.address.relative_to(path).as_posix()} ({' × '.join(map(str, item.shape))}, {item.dtype})"
        for item in found[:_LISTED]
    ]
    return ", ".join(parts) + (f" and {len(found) - _LISTED} more" if len(found) > _LISTED else "")
