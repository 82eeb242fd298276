"""Where maps lie: whether two of them have the same grid, and reference systems as people call them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from unetkit.data.formats.base import ImageInfo, MapGrid
from unetkit.data.formats.maps.geotiff import rasterio_module

APART = 0.25
"""Pixels by which the corners of two grids may differ; rounded headers do."""


def crs_of(text: str) -> Any:
    """A coordinate reference system (rasterio's) from WKT or a name such as `EPSG:4326`. Raises ValueError: none."""
    rasterio_module()
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        return CRS.from_user_input(text)
    except CRSError as error:
        raise ValueError(str(error)) from None


def crs_name(wkt: str) -> str:
    """A coordinate reference system as people call it: `EPSG:32616 (WGS 84 / UTM zone 16N)`; "none" of none."""
    if not wkt:
        return "none"
    known = crs_of(wkt).to_authority()
    name = re.search(r'"([^"]+)"', wkt)
    words = name.group(1) if name else wkt[:40]
    return f"{':'.join(known)} ({words})" if known else words


def same_crs(one: str, other: str) -> bool:
    """Whether two WKT mean one system; WKT comes in dialects."""
    if one == other:
        return True
    a, b = crs_of(one), crs_of(other)
    return bool(a == b) or (a.to_authority() is not None and a.to_authority() == b.to_authority())


def same_map(a: ImageInfo, b: ImageInfo) -> str:
    """ "" where `b` (a label) lies on the pixels of `a` (its image), else what differs, in words about `b`.

    Where one of the two does not say where it lies, or in which system, nothing speaks against it. Sizes are not
    compared.
    """
    if a.map is None or b.map is None:
        return ""
    if a.map.crs and b.map.crs and not same_crs(a.map.crs, b.map.crs):
        return f"its coordinate reference system is {crs_name(b.map.crs)}, not {crs_name(a.map.crs)}"
    height, width = a.shape
    corners = [(0, 0), (width, 0), (0, height), (width, height)]
    apart = _pixels(a.map, [_at(b.map, *corner) for corner in corners]) - np.array(corners)
    if float(np.abs(apart).max()) <= APART:
        return ""
    (x, y), (u, v) = _at(a.map, 0, 0), _at(b.map, 0, 0)
    one, other = _size(a.map), _size(b.map)
    if not np.allclose(one, other, rtol=1e-4):
        return f"its pixels are {other[0]:g} × {other[1]:g}, not {one[0]:g} × {one[1]:g}"
    if float(np.abs(apart - apart[0]).max()) <= APART:
        right, down = apart[0]
        return (
            f"its upper left corner lies at ({u:.10g}, {v:.10g}), not at ({x:.10g}, {y:.10g}): {_count(right)} to the "
            f"right, {_count(down)} down"
        )
    return f"it is turned against the image: its transform is {_shown(b.map)}, not {_shown(a.map)}"


def _at(grid: MapGrid, column: float, row: float) -> tuple[float, float]:
    a, b, c, d, e, f = grid.transform
    return a * column + b * row + c, d * column + e * row + f


def _pixels(grid: MapGrid, points: list[tuple[float, float]]) -> Any:
    """(n, 2) columns and rows of points of the map."""
    a, b, c, d, e, f = grid.transform
    x, y = np.array(points, float).T
    return np.linalg.solve(np.array([[a, b], [d, e]]), np.stack([x - c, y - f])).T


def _size(grid: MapGrid) -> tuple[float, float]:
    a, b, _, d, e, _ = grid.transform
    return float(np.hypot(a, d)), float(np.hypot(b, e))


def _count(pixels: float) -> str:
    return f"{pixels:.4g} pixels"


def _shown(grid: MapGrid) -> str:
    return "(" + ", ".join(f"{v:.10g}" for v in grid.transform) + ")"
