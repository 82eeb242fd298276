"""Cases made ready for training once: kept in memory where they fit, in memory-mapped files of the run otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unetkit.core.errors import DataError
from unetkit.core.files import atomic
from unetkit.core.machine import free_memory
from unetkit.data.case import Case
from unetkit.data.legend import Legend
from unetkit.data.masks import read_label
from unetkit.data.patches import PreparedCase, find_places
from unetkit.data.prepare import CaseReader, PreparePlan
from unetkit.data.sizes import extent, size

# Share of the free memory that prepared cases may take; the network needs the rest.
SHARE = 0.25


def prepared_bytes(shapes: Sequence[tuple[int, ...]], channels: int) -> int:
    """Bytes of prepared images (float32) and labels (uint8)."""
    return sum(int(np.prod(shape)) * (4 * channels + 1) for shape in shapes)


def prepare_cases(
    cases: Sequence[Case], legend: Legend, plan: PreparePlan, seed: int, folder: Path, limit: int | None = None
) -> list[PreparedCase]:
    """Read and normalise every case whole, one after the other.

    What does not fit into `limit` bytes (default: a quarter of the free memory) goes to `.npy` files in `folder`.
    Raises DataError: an unreadable file, an image and a mask of different size.
    """
    limit = int(SHARE * free_memory()) if limit is None else limit
    prepared, used = [], 0
    for number, case in enumerate(cases):
        if case.label is None:
            raise DataError(f"{case.where}: has no mask; training needs one")
        with CaseReader(case, plan) as reader:
            image_CX, spacing = reader.read(reader.whole), reader.spacing
        label_X, _ = read_label(case, legend)
        if label_X.shape != image_CX.shape[1:]:
            raise DataError(
                f"{case.mask_where}: {extent(label_X.shape)}, but its image {case.where.name} has"
                f" {size(image_CX.shape[1:])}; make them equal"
            )
        places = find_places(label_X, seed, case.id)
        used += image_CX.nbytes + label_X.nbytes
        if used > limit:
            image_CX = _mapped(image_CX, folder / f"{number:05d}-image.npy")
            label_X = _mapped(label_X, folder / f"{number:05d}-label.npy")
        prepared.append(PreparedCase(case.id, image_CX, label_X, places, spacing))
    return prepared


def _mapped(array: np.ndarray, path: Path) -> np.ndarray:
    """The same array, read from a file as it is needed (copy on write: torch wants arrays that it could write to)."""
    with atomic(path) as temporary:
        np.save(temporary, array, allow_pickle=False)
    mapped: np.ndarray = np.load(path, mmap_mode="c", allow_pickle=False)
    return mapped
