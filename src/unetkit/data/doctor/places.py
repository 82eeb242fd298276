"""Do two files lie over each other in space? In the scanner by their affines, on Earth by their maps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from unetkit.data.formats.base import ImageInfo, MapGrid

# Voxels by which corners may lie apart: headers are rounded, and some programs count from voxel corners.
NEAR = 0.5


class Placed(Protocol):
    """What lies somewhere: the facts or the header of an image."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def affine(self) -> tuple[float, ...] | None: ...
    @property
    def map(self) -> MapGrid | None: ...


def apart(one: Placed, other: Placed) -> str:
    """How two files of equal size lie apart, in words; "" where they do not, or where one of them does not say."""
    if one.affine is not None and other.affine is not None:
        return _affines(one.affine, other.affine, one.shape)
    if one.map is not None and other.map is not None:
        from unetkit.data.formats.maps.map_places import same_map  # rasterio, which only maps need

        return same_map(_header(one), _header(other))
    return ""


def nowhere(placed: Placed) -> bool:
    """Whether an affine only says that voxels are 1 mm from the origin: what programs write that know no place."""
    return placed.affine is not None and bool(np.allclose(np.abs(np.reshape(placed.affine, (4, 4))), np.eye(4)))


def _affines(one: Sequence[float], other: Sequence[float], shape: Sequence[int]) -> str:
    a, b = (np.reshape(matrix, (4, 4)) for matrix in (one, other))
    ends = [(0, n - 1) for n in shape] + [(0,)] * (3 - len(shape))
    corners = np.array([(*corner, 1.0) for corner in itertools.product(*ends)]).T
    moved = ((b - a) @ corners)[:3]
    size = np.linalg.norm(a[:3, :3], axis=0)
    worst = np.abs(moved).max()
    if not np.isfinite(worst) or worst > NEAR * size[size > 0].min(initial=np.inf):
        far = np.linalg.norm(moved, axis=0)
        turned = not np.array_equal(np.sign(np.round(a[:3, :3], 3)), np.sign(np.round(b[:3, :3], 3)))
        and_turned = ", and are turned" if turned else ""
        return f"their affines differ: voxels lie up to {far.max():.3g} mm apart{and_turned}"
    return ""


def _header(placed: Placed) -> ImageInfo:
    return ImageInfo(placed.shape, 1, False, "", "grey", map=placed.map)
