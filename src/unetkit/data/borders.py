"""Objects that touch: from instance ids to background, inside and border, so that a network can tell them apart.

A pixel of an object is border where something that is not the object (background, or another object) lies within
`width` of it, and always where it adjoins another object: what is left inside is in one piece per object.
(Three classes: Ronneberger et al. 2015 weigh the gaps; Caicedo et al. 2019, Cytometry 95:952, and the winners of the
2018 Data Science Bowl learn the border as a class.)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetkit.data.case import IGNORE

INSIDE, BORDER = 1, 2


def with_borders(
    ids_X: NDArray[Any], label_X: NDArray[np.uint8], width: float, spacing: Sequence[float] | None = None
) -> NDArray[np.uint8]:
    """The label (*space) with the borders of objects as a class of their own, uint8.

    ids_X: the number of the object that each pixel belongs to. label_X: 0 background, 1 object, `IGNORE` not known;
    where something is not known, no border follows from it. width: in pixels, of the axis with the finest `spacing`
    where that is given: 1 is the outermost pixel. Objects that adjoin each other, also by a corner, get a border there
    at any spacing. The image's edge is no border, for what lies beyond is not known.

    Raises ValueError: a width below 1.
    """
    if width < 1:
        raise ValueError(f"a border is at least 1 pixel wide, not {width}")
    here_X = np.where(label_X == INSIDE, ids_X, 0)
    known_X = label_X != IGNORE
    near_X = np.zeros(here_X.shape, bool)
    for offset, far in _offsets(here_X.ndim, width, spacing):
        one = tuple(slice(max(0, -step), n - max(0, step)) for n, step in zip(here_X.shape, offset, strict=True))
        two = tuple(slice(max(0, step), n - max(0, -step)) for n, step in zip(here_X.shape, offset, strict=True))
        differs = (here_X[one] != here_X[two]) & known_X[one] & known_X[two]
        if far:
            differs &= (here_X[one] != 0) & (here_X[two] != 0)
        near_X[one] |= differs
        near_X[two] |= differs
    return np.where(near_X & (label_X == INSIDE), np.uint8(BORDER), label_X)


def reach(ndim: int, width: float, spacing: Sequence[float] | None = None) -> tuple[int, ...]:
    """Pixels beside a region, along each axis, that decide what is border in it."""
    offsets = [offset for offset, _ in _offsets(ndim, width, spacing)]
    return tuple(max(abs(offset[axis]) for offset in offsets) for axis in range(ndim))


def _offsets(ndim: int, width: float, spacing: Sequence[float] | None) -> Iterator[tuple[tuple[int, ...], bool]]:
    """Steps to the neighbours that matter, one of each pair of opposite ones; and whether a step is beyond the width,
    and matters only because its ends adjoin."""
    lengths = np.ones(ndim) if spacing is None else np.asarray(spacing, float) / min(spacing)
    most = [max(1, int(width / length)) for length in lengths]
    for offset in itertools.product(*(range(-m, m + 1) for m in most)):
        if offset <= (0,) * ndim:
            continue
        far = float(np.hypot.reduce(np.multiply(offset, lengths))) > width + 1e-6
        if not far or max(map(abs, offset)) == 1:
            yield offset, far
