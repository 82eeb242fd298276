"""Labels drawn as areas: GeoJSON, GeoPackage, Shapefile, LabelMe, rasterised on the pixels of their image by region.

A pixel belongs to an area where its centre lies inside (GDAL's rule without `all_touched`); of areas that overlap, the
later one in the file has the pixels; what no area covers is 0. Over a map, areas are brought into its coordinate
reference system point by point. Over an ordinary image, coordinates count pixels from its upper left corner, to the
right and down, as QuPath and LabelMe have them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.formats.base import Array, ImageInfo, ImageReader, MapGrid, PaletteAs
from unetkit.data.formats.maps.geotiff import rasterio_module
from unetkit.data.formats.maps.map_places import crs_name, crs_of, same_crs
from unetkit.data.formats.maps.vector_files import Areas, geometry_modules, read_areas, read_classes

SUFFIXES = (".geojson", ".gpkg", ".shp")
"""Suffixes of vector labels; a .json may be one, too, which its first bytes tell (`is_vector`)."""
LATITUDES = (-180.0, -90.0, 180.0, 90.0)
HEAD = 4096
BAND = 256
"""Rows that are drawn at once."""
LARGE = 1000
"""Points from which on an area is cut to the band."""


def is_vector(path: Path) -> bool:
    """Whether a file holds areas: by its suffix; of a .json by what it begins with (GeoJSON, LabelMe)."""
    name = path.suffix.lower()
    if name in SUFFIXES:
        return True
    if name != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(HEAD)
    return b'"FeatureCollection"' in head or (b'"shapes"' in head and b'"version"' in head)


def class_names(paths: Iterable[Path]) -> dict[int, str]:
    """Value → name of the classes that the areas of all these files are of, with 0 for what no area covers; {} where
    they are numbers, or where nothing says what they are.

    Values are those of an attribute "value" where every name has one of its own, as `predict` writes it; else names
    are numbered from 1 in their natural order. Raises DataError: damaged; names in some files and numbers in others;
    a name with two values.
    """
    found: dict[str, tuple[int | None, Path]] = {}
    numbers: Path | None = None
    for path in paths:
        for name, value in read_classes(path).items():
            if not isinstance(name, str):
                numbers = path
                continue
            before, where = found.setdefault(name, (value, path))
            if before is None or value is None:
                found[name] = (None, where)
            elif before != value:
                raise DataError(
                    f"{path}: the class '{name}' has the value {value}, but {before} in {where}; give it one value, or "
                    "leave the attribute 'value' out"
                )
    if not found:
        return {}
    if numbers is not None:
        name, (_, where) = next(iter(found.items()))
        raise DataError(
            f"{numbers}: classes are numbers here, but names in {where} ('{name}'); write either everywhere"
        )
    return {value: name for name, value in _numbered({name: value for name, (value, _) in found.items()}).items()}


def open_vector(path: Path, info: ImageInfo, names: Mapping[str, int] | None = None) -> ImageReader:
    """Open areas as a label (1, *shape) over the image whose header is `info`, for reading by region.

    names: class name → value, for areas that are named (of the whole set, or of a model; default: as `class_names` of
    this file alone). What was decided stands in `.info.notes`.
    Raises DataError: damaged; points or lines; nothing that says where the areas lie, or areas that lie elsewhere; an
    unknown class. Raises MachineError: a package that is not installed.
    """
    if len(info.shape) != 2:
        raise DataError(f"{path}: areas are labels of images and maps, and this image has {len(info.shape)} dimensions")
    shapely = geometry_modules()
    areas = read_areas(path)
    notes = list(areas.notes)
    geometries = _in_pixels(shapely, path, areas, info, notes)
    values = _values(path, areas, names)
    dtype = next(d for d in ("uint8", "uint16", "int32") if values.max(initial=0) <= np.iinfo(d).max)
    label = ImageInfo(
        info.shape, 1, False, dtype, "grey",
        spacing=info.spacing, axes=info.axes, unit=info.unit, map=info.map, notes=tuple(notes),
    )  # fmt: skip
    return VectorReader(path, label, geometries, values)


def rasterised(
    path: Path, info: ImageInfo, region: Region | None = None, names: Mapping[str, int] | None = None
) -> Array:
    """The areas of a file as integers (*shape) of a region of the image (default: all). As `open_vector`."""
    with open_vector(path, info, names) as reader:
        found: Array = reader.read(region)[0]
        return found


class VectorReader(ImageReader):
    """Areas, in pixels of their image, drawn as they are asked for: the areas are held, pixels are not.

    Drawn are bands of the image's rows, each as wide as the region. Of areas with many points only what lies near the
    band is handed to GDAL, whose time grows with the rows times the points. Bands begin at the same rows whatever the
    region, and all are moved by whole pixels, so that parts are bit for bit those of the whole.
    """

    def __init__(self, path: Path, info: ImageInfo, geometries: Array, values: Array) -> None:
        super().__init__(path, info)
        self._shapely = geometry_modules()
        self._geometries, self._values = geometries, values
        self._large = self._shapely.get_num_coordinates(geometries) > LARGE
        self._tree = self._shapely.STRtree(geometries)

    def _read(self, region: Region, palette: PaletteAs, alpha: bool) -> Array:  # noqa: ARG002  (has neither)
        (top, left), (bottom, right) = region.start, region.stop
        label_YX = np.zeros(region.shape, self.info.dtype)
        for begin in range(top // BAND * BAND, bottom, BAND):
            low, high = max(top, begin), min(bottom, begin + BAND)
            touched = np.sort(self._tree.query(self._shapely.box(left, low, right, high)))
            if region.size and touched.size:
                self._draw(label_YX[low - top : high - top], touched, begin, (low, left))
        return label_YX[None]

    def _draw(self, label_YX: Array, touched: Array, begin: int, corner: tuple[int, int]) -> None:
        from rasterio.features import rasterize

        geometries, values = self._geometries[touched], self._values[touched]
        if (large := self._large[touched]).any():
            x0, _, x1, _ = self._shapely.total_bounds(geometries[large])
            near = (x0 - 1, begin - 1, x1 + 1, begin + BAND + 1)
            geometries[large] = self._shapely.clip_by_rect(geometries[large], *near)
            there = ~self._shapely.is_empty(geometries)
            geometries, values = geometries[there], values[there]
        low, left = corner
        moved = self._shapely.transform(geometries, lambda points_N2: points_N2 - np.array([left, low]))
        if len(moved):
            out_YX = np.zeros(label_YX.shape, label_YX.dtype)
            label_YX[:] = rasterize(zip(moved, values.tolist(), strict=True), out=out_YX)


def _numbered(names: Mapping[str, int | None]) -> dict[str, int]:
    """Name → value, in ascending order of value, "background" 0 among them."""
    own = [value for value in names.values() if value is not None]
    if len(own) == len(names) == len(set(own)):
        found = {name: value for name, value in names.items() if value is not None}
    else:
        from unetkit.data.formats.order import natural_key

        drawn = sorted((name for name in names if name.casefold() != "background"), key=natural_key)
        found = {name: value for value, name in enumerate(drawn, 1)}
        found |= {name: 0 for name in names if name.casefold() == "background"}
    if 0 not in found.values():
        found["background"] = 0
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


def _values(path: Path, areas: Areas, names: Mapping[str, int] | None) -> Array:
    if not areas.classes:
        return np.ones(len(areas.geometries), np.int64)
    numbers = [c for c in areas.classes if isinstance(c, int)]
    if len(numbers) == len(areas.classes):
        return np.array(numbers, np.int64)
    table = dict(names) if names is not None else _numbered(read_classes_of(areas))
    unknown = sorted({str(c) for c in areas.classes if str(c) not in table})
    if unknown:
        raise DataError(
            f"{path}: the class '{unknown[0]}' is none of those that are known ({', '.join(table)}); rename it, or "
            "train with it"
        )
    return np.array([table[str(c)] for c in areas.classes], np.int64)


def read_classes_of(areas: Areas) -> dict[str, int | None]:
    """Class name → its own value, where the areas have names."""
    return {name: value for name, value in areas.own_values.items() if isinstance(name, str)}


def _in_pixels(shapely: Any, path: Path, areas: Areas, info: ImageInfo, notes: list[str]) -> Array:
    """The geometries in pixels of the image. Raises DataError where they lie elsewhere, or nobody knows where."""
    geometries = areas.geometries
    if not len(geometries):
        return geometries
    if info.map is None:
        if areas.crs and not areas.assumed:
            raise DataError(
                f"{path}: the areas lie on a map ({crs_name(areas.crs)}), but their image does not say where it lies; "
                "save it as a GeoTIFF, or the areas in pixels without a coordinate reference system"
            )
        _refuse_outside(shapely, path, geometries, info, "")
        return geometries
    found, how = _on_map(shapely, path, areas, info.map)
    if how:
        notes.append(how)
    pixels = _to_pixels(shapely, found, info.map)
    _refuse_outside(shapely, path, pixels, info, areas.crs)
    return pixels


def _on_map(shapely: Any, path: Path, areas: Areas, grid: MapGrid) -> tuple[Array, str]:
    """The geometries in the reference system of the map, and what was decided."""
    crs = areas.crs
    if areas.assumed and not _within(shapely, areas.geometries, LATITUDES):
        crs = ""  # numbers that are no longitudes and latitudes, whatever GeoJSON ought to hold
    if not crs:
        return areas.geometries, (
            "the areas do not say in which coordinate reference system they are: they are taken to be in that of their "
            f"image, {crs_name(grid.crs)}, which they overlap"
        )
    if not grid.crs:
        return areas.geometries, (
            f"the areas are in {crs_name(crs)}, and the image has no coordinate reference system: it is taken to be in "
            "that of the areas, which overlap it"
        )
    if same_crs(crs, grid.crs):
        return areas.geometries, ""
    from rasterio._err import CPLE_BaseError  # what `transform` raises; it has no public name
    from rasterio.warp import transform

    rasterio_module()

    def moved(points_N2: Array) -> Array:
        return np.stack(transform(crs_of(crs), crs_of(grid.crs), *points_N2.T.tolist()), -1)

    found = None
    with contextlib.suppress(CPLE_BaseError):
        found = shapely.transform(areas.geometries, moved)
    if found is None or not np.isfinite(shapely.get_coordinates(found)).all():
        why = " (GeoJSON that says none has longitudes and latitudes)" if areas.assumed else ""
        raise DataError(
            f"{path}: the areas are in {crs_name(crs)}{why} and have no place in {crs_name(grid.crs)}, the coordinate "
            "reference system of their image; check that the file says the right one"
        )
    return found, (
        f"the areas are in {crs_name(crs)}: their points are brought into {crs_name(grid.crs)}, that of their image"
    )


def _to_pixels(shapely: Any, geometries: Array, grid: MapGrid) -> Array:
    a, b, c, d, e, f = grid.transform
    inverse = np.linalg.inv(np.array([[a, b], [d, e]]))

    def pixels(points_N2: Array) -> Array:
        found: Array = (points_N2 - np.array([c, f])) @ inverse.T
        # what was made of pixels comes back to their corners, whatever the floats of a map made of them
        near = np.rint(found)
        return np.where(np.abs(found - near) < 1e-6, near, found)

    moved: Array = shapely.transform(geometries, pixels)
    return moved


def _within(shapely: Any, geometries: Array, box: tuple[float, float, float, float]) -> bool:
    left, low, right, high = shapely.total_bounds(geometries)
    return bool(box[0] <= left and box[1] <= low and right <= box[2] and high <= box[3])


def _refuse_outside(shapely: Any, path: Path, geometries: Array, info: ImageInfo, crs: str) -> None:
    height, width = info.shape
    left, top, right, bottom = shapely.bounds(geometries).T
    if bool(((right > 0) & (left < width) & (bottom > 0) & (top < height)).any()):
        return
    x0, y0, x1, y1 = shapely.total_bounds(geometries)
    place = f"columns {x0:.6g} … {x1:.6g} and rows {y0:.6g} … {y1:.6g} of its {width} × {height} pixels"
    if info.map is None:
        fix = "check that the file belongs to this image; coordinates count pixels from the upper left corner"
    else:
        own = crs_name(crs) if crs else "none, so that of the image was taken"
        fix = (
            f"check that the file belongs to this image, and its coordinate reference system ({own}; the image has "
            f"{crs_name(info.map.crs)})"
        )
    raise DataError(f"{path}: no area lies on the image: they would lie at {place}; {fix}")
