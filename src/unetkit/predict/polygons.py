"""Predicted areas as polygons, GeoJSON or GeoPackage, made block by block: what is held are polygons, never pixels.

Areas are connected by edges (a pixel that touches another by a corner alone is another area); an object has one feature
however it is connected. Polygons run along the edges of pixels, shells against the clock and holes with it (RFC 7946,
section 3.1.6).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError
from unetkit.core.files import atomic
from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.formats.maps.vector_files import geometry_modules
from unetkit.predict.finished import Finished
from unetkit.predict.polygon_files import Area, polygon_file

SUFFIXES = (".geojson", ".gpkg")
BLOCK = 2048
"""Side of the blocks whose areas are found at once."""

Geometry: TypeAlias = Any  # of shapely


def write_polygons(path: Path, finished: Finished) -> int:
    """Write every connected area of a class other than the background, or every object where there are objects, as a
    feature; returns how many. `.geojson` and `.gpkg` (layer "areas"), by the suffix of `path`.

    Attributes: class (its name), value (in masks), area, where there are objects object (its number), and in GeoJSON
    objectType and classification, as QuPath reads them.
    Over a map, coordinates and areas are in its coordinate reference system. GeoJSON names that in the member "crs", as
    GDAL and QGIS write and read it; RFC 7946 itself knows longitude and latitude only, and for programs that know no
    more there is the GeoPackage. Elsewhere coordinates count pixels from the upper left corner, to the right and down.
    Pixels that hold nothing (`IGNORE`) belong to no area. Of overlapping regions each has areas of its own.

    Memory: polygons that reach into the next row of blocks. The file appears whole or not at all. Raises DataError: not
    an image in two dimensions, another suffix. Raises MachineError: a package is not installed, the disk is full.
    """
    path = Path(path)
    if len(finished.info.shape) != 2:
        raise DataError(
            f"{path}: polygons are drawn of images and maps, and this prediction has {len(finished.info.shape)} "
            "dimensions; leave --polygons out"
        )
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: polygons are written as {' or '.join(SUFFIXES)}, not as {path.suffix!r}")
    geometry_modules()
    with atomic(path) as temporary:
        with polygon_file(path, temporary, finished) as file:
            for area in areas(finished):
                file.add(area)
        return file.count


def areas(finished: Finished, block: int = BLOCK) -> Iterator[Area]:
    """All areas of a prediction, those first that end first, row of blocks by row of blocks.

    The areas of a block are found by themselves. Those that reach its border wait until the row of blocks is complete,
    and are joined; what reaches into the next row waits on. Coordinates are whole numbers, so that joining is exact.
    """
    shapely = geometry_modules()
    height, width = finished.info.shape
    whole = finished.objects is not None  # an object is one feature, with all its parts
    waiting: dict[int, list[Geometry]] = {}
    classes: dict[int, int] = {}  # of objects that wait

    def made(key: int, polygon: Geometry) -> Area:
        return Area(polygon, classes.pop(key), key) if whole else Area(polygon, key, 0)

    for top in range(0, height, block):
        bottom = min(height, top + block)
        for left in range(0, width, block):
            region = Region((top, left), (bottom, min(width, left + block)))
            for key, index, polygons in _found(finished, region):
                open_ = [_reaches(p, region, height, width) for p in polygons]
                classes.setdefault(key, index)
                if whole and not any(open_) and key not in waiting:
                    yield made(key, shapely.union_all(polygons))
                    continue
                waits = waiting.setdefault(key, [])
                for polygon, reaches in zip(polygons, open_, strict=True):
                    if reaches or whole:
                        waits.append(polygon)
                    else:
                        yield made(key, polygon)
        following: dict[int, list[Geometry]] = {}
        for key, polygons in waiting.items():
            joined = shapely.union_all(polygons)
            for part in [joined] if whole else shapely.get_parts(joined):
                if bottom < height and part.bounds[3] >= bottom:
                    following.setdefault(key, []).append(part)
                else:
                    yield made(key, _cleaned(part))
        waiting = following


def _found(finished: Finished, region: Region) -> Iterator[tuple[int, int, list[Geometry]]]:
    """The areas in a block, in pixels of the image: (number of the object or class index, class index, polygons)."""
    legend, labels_YX = finished.legend, finished.labels(region)
    background = -1 if legend.background is None else legend.background
    if finished.objects is not None:
        ids_YX = finished.objects(region).astype(np.int32)
        ids, first = np.unique(ids_YX, return_index=True)
        index_of = dict(zip(ids.tolist(), labels_YX.reshape(-1)[first].tolist(), strict=True))
        if legend.kind == "regions":  # bits: the first region that the object is in
            index_of = {number: (bits & -bits).bit_length() - 1 for number, bits in index_of.items()}
        for number, polygons in _polygons(ids_YX, ids_YX != 0, region).items():
            yield number, index_of[number], polygons
    elif legend.kind == "regions":
        for index in range(len(legend.classes)):
            inside_YX = ((labels_YX >> index) & 1).astype(bool) & (labels_YX != IGNORE)
            for polygons in _polygons(inside_YX.view(np.uint8), inside_YX, region).values():
                yield index, index, polygons
    else:
        for index, polygons in _polygons(labels_YX, (labels_YX != IGNORE) & (labels_YX != background), region).items():
            yield index, index, polygons


def _polygons(values_YX: NDArray[Any], wanted_YX: NDArray[np.bool_], region: Region) -> dict[int, list[Geometry]]:
    """The areas of each value."""
    from rasterio.features import shapes

    found: dict[int, list[Geometry]] = {}
    if not wanted_YX.any():
        return found
    shapely = geometry_modules()
    corner = np.array([region.start[1], region.start[0]], float)
    for shape, value in shapes(values_YX, mask=wanted_YX, connectivity=4):
        rings = [np.asarray(ring, float) + corner for ring in shape["coordinates"]]
        found.setdefault(int(value), []).append(shapely.Polygon(rings[0], rings[1:]))
    return found


def _reaches(polygon: Geometry, region: Region, height: int, width: int) -> bool:
    """Whether a polygon may go on beyond the block."""
    left, top, right, bottom = polygon.bounds
    (y0, x0), (y1, x1) = region.start, region.stop
    return bool(
        (left <= x0 and x0 > 0) or (top <= y0 and y0 > 0) or (right >= x1 and x1 < width) or (bottom >= y1 < height)
    )


def _cleaned(geometry: Geometry) -> Geometry:
    """Without the points in the middle of straight edges, which joining leaves at the borders of blocks."""
    shapely = geometry_modules()
    rings, part_of = shapely.get_rings(shapely.get_parts(geometry), return_index=True)
    points_N2, ring_of = shapely.get_coordinates(rings, return_index=True)
    first = np.flatnonzero(np.diff(ring_of, prepend=-1))
    last = np.append(first[1:], len(ring_of)) - 1  # the first point once more
    before, after = np.arange(len(ring_of)) - 1, np.arange(len(ring_of)) + 1
    before[first] = last - 1
    (dx, dy), (ex, ey) = (points_N2 - points_N2[before]).T, (points_N2[after % len(points_N2)] - points_N2).T
    turns = dx * ey != dy * ex
    turns[last] = False
    corners = shapely.linearrings(points_N2[turns], indices=ring_of[turns])
    parts = shapely.polygons(corners, indices=part_of)
    return parts[0] if len(parts) == 1 else shapely.multipolygons(parts)
