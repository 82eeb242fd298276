"""How deep in its object a pixel lies: as classes that a network learns, and as labels say what it expects.

Levels are classes by relative depth: the distance of a pixel to what is not its object, over the largest such distance
near by in the object. Small and large objects have a middle alike, and the middles of objects that touch do not. (Bai &
Urtasun 2017, CVPR, "Deep watershed transform for instance segmentation", learn such levels, of absolute depth.)

A label of objects that touch has the network's classes: 0 background, then the help classes, each at a depth of its own
between 0 (the object's edge) and 1 (its middle). What a network expects lies between them: such a label has, above the
K classes, the values K … `DEEPEST` for depths of 0 … 1. Both may be read by one table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetkit.data.case import IGNORE
from unetkit.data.labels.borders import INSIDE

DEEPEST = IGNORE - 1
LEVELS = (1 / 3, 2 / 3)
"""Relative depths that part the levels, where they are learnt (`learn.objects=depth`). The border is what is learnt
unless asked: nuclei, 400 steps, 45 images, each decoded best, AP at IoU 0.5 / mean over 0.5 … 0.9: border 0.762 /
0.593, these 0.750 / 0.564, four levels 0.750 / 0.557; of another split, decoded as planned, 0.689 / 0.483 and 0.698 /
0.504; cells in phase contrast, 300 steps, one image, as planned 0.40 and 0.29."""
WIDEST = {1: 2048, 2: 96, 3: 24}
"""By number of axes: in elements of the finest, the largest distance that is told from others."""


def with_levels(
    ids_X: NDArray[Any],
    label_X: NDArray[np.uint8],
    levels: Sequence[float],
    radius: int,
    spacing: Sequence[float] | None = None,
) -> NDArray[np.uint8]:
    """The label (*space) uint8 with levels of depth as classes: `INSIDE` is the deepest, the last is the edge.

    ids_X, label_X as of `borders.with_borders`. levels: the relative depths that part the classes, ascending. radius:
    see `relative_depth`.
    """
    depth_X = relative_depth(ids_X, label_X, radius, spacing)
    level_X = INSIDE + len(levels) - np.searchsorted(np.asarray(levels), depth_X, side="right")
    return np.where(label_X == INSIDE, level_X.astype(np.uint8), label_X)


def relative_depth(
    ids_X: NDArray[Any], label_X: NDArray[np.uint8], radius: int, spacing: Sequence[float] | None = None
) -> NDArray[np.float32]:
    """How deep each pixel of an object lies (*space) float32, above 0 to 1 (as deep as any of its object within
    `radius` elements of the finest axis along every axis), and 0 elsewhere.

    Depth is the distance from the middle of a pixel to the edge of the nearest that is not of its object, with the
    lengths of `spacing`; more than `radius` is taken to be that. Nothing follows from what is not known, and the edge
    of the image is none of objects.
    """
    from scipy import ndimage

    lengths = _lengths(ids_X.ndim, spacing)
    window = tuple(2 * n + 1 for n in _elements(lengths, radius))
    names, number = np.unique(np.where(label_X == INSIDE, ids_X, 0), return_inverse=True)
    number_X = number.reshape(ids_X.shape).astype(np.int32) + (0 if names[0] == 0 else 1)
    known_X, depth_X = label_X != IGNORE, np.zeros(ids_X.shape, np.float32)
    for number_of, box in enumerate(ndimage.find_objects(number_X), start=1):
        if box is None:
            continue
        wide = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
        object_X = number_X[wide] == number_of
        solid_X = object_X | ~known_X[wide]
        if solid_X.all():
            far_X = object_X.astype(np.float32)
        else:
            far_X = np.minimum(ndimage.distance_transform_edt(solid_X, lengths) - 0.5, radius) * object_X
        small = all(2 * n <= w for n, w in zip(object_X.shape, window, strict=True))
        deepest_X = far_X.max() if small else ndimage.maximum_filter(far_X, window, mode="constant")
        depth_X[wide][object_X] = (far_X / np.maximum(deepest_X, 1e-6))[object_X]
    return depth_X


def reach(ndim: int, radius: int, spacing: Sequence[float] | None = None) -> tuple[int, ...]:
    """Elements beside a region, along each axis, that decide how deep what is in it lies."""
    return tuple(2 * n + 1 for n in _elements(_lengths(ndim, spacing), radius))


def radius_for(most: float, ndim: int) -> int:
    """The radius for objects of which hardly one has more than `most` elements: twice the diameter of a ball, so that
    the whole of most objects is within it, as far as distances are told apart."""
    ball = (2.0, math.pi, 4 / 3 * math.pi)[ndim - 1]
    return max(4, min(WIDEST[ndim], math.ceil(4 * (most / ball) ** (1 / ndim)))) if most > 0 else WIDEST[ndim]


def _lengths(ndim: int, spacing: Sequence[float] | None) -> list[float]:
    return [1.0] * ndim if spacing is None else [length / min(spacing) for length in spacing]


def _elements(lengths: Sequence[float], radius: int) -> tuple[int, ...]:
    return tuple(math.ceil(radius / length) for length in lengths)


def level_depths(levels: Sequence[float]) -> tuple[float, ...]:
    """The depth, 0 to 1, that each class stands for: the background, the deepest, … the edge."""
    return (0.0, *(1 - k / len(levels) for k in range(len(levels) + 1)))


def depth_table(depths: Sequence[float]) -> NDArray[np.float32]:
    """The depth (256,) that each value of a label stands for, below 0 where there is no object or nobody knows.

    depths: of the network's classes, the background's 0 first.
    """
    table = np.full(IGNORE + 1, -1, np.float32)
    classes = len(depths)
    table[1:classes] = depths[1:]
    table[classes:IGNORE] = np.linspace(0, 1, IGNORE - classes, dtype=np.float32)
    return table
