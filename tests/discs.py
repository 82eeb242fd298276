"""Objects that touch: pairs of discs, numbered, on a small image."""

from __future__ import annotations

import numpy as np
from skimage.draw import disk


def touching_discs(generator: np.random.Generator, pairs: int) -> np.ndarray:
    """The numbers of the discs (64, 64) uint16, 0 where there is none; a disc that would lie on another is left out."""
    ids, number = np.zeros((64, 64), np.uint16), 0
    for _ in range(pairs):
        y, x = (int(v) for v in generator.integers(6, 46, 2))
        for shift in (0, 11):
            rows, columns = disk((y, x + shift), 5.6, shape=ids.shape)
            if not ids[rows, columns].any():
                number += 1
                ids[rows, columns] = number
    return ids
