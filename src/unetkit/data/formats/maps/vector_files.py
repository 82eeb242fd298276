"""Files of areas: what stands in GeoJSON, LabelMe, GeoPackage and Shapefile, before it is laid over an image."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from unetkit.core.errors import DataError, MachineError
from unetkit.data.formats.base import Array, decoding
from unetkit.data.formats.maps.geotiff import INSTALL
from unetkit.data.formats.maps.map_places import crs_of

Class: TypeAlias = int | str

CLASS_ATTRIBUTES = ("class", "classification", "class_name", "label", "category", "type", "name", "class_id", "value")
"""Attributes that say what an area is, the first that a file has."""
VALUE = "value"
MOST_NAMES = 32
"""Areas with more names than this, most of them with one of their own, are named things, not things of classes."""
_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError)
_AREAS = {"Polygon", "MultiPolygon"}
_WGS84 = "EPSG:4326"


@dataclass(frozen=True)
class Areas:
    """geometries: of shapely (n,). classes: of each, or () where nothing says. own_values: class → its number in the
    attribute "value" (None: it has none). crs: WKT, or "". assumed: the file does not say it; GeoJSON has longitudes
    and latitudes then. notes: what was decided, in sentences."""

    geometries: Array
    classes: tuple[Class, ...]
    own_values: Mapping[Class, int | None]
    crs: str
    assumed: bool
    notes: tuple[str, ...]


@dataclass
class _Table:
    """Rows of a file: a geometry (or None) and attributes each."""

    geometries: Array
    columns: dict[str, list[Any]]
    crs: str = ""
    assumed: bool = False


def geometry_modules() -> Any:
    """The shapely package. Raises MachineError: it, or rasterio that draws areas, is not installed."""
    try:
        import rasterio.features  # noqa: F401
        import shapely
    except ModuleNotFoundError as error:
        raise MachineError(
            f"areas are read by the packages shapely, rasterio and pyogrio; {error.name} is not installed: {INSTALL}"
        ) from None
    return shapely


def read_areas(path: Path) -> Areas:
    """All areas of a file, in its order. Raises DataError: damaged, points or lines, areas without a class among some
    with one; MachineError: a package that is not installed."""
    shapely = geometry_modules()
    table = _read(path)
    there = np.array([g is not None and not g.is_empty for g in table.geometries], bool)
    notes = []
    if not there.all():
        notes.append(f"{np.count_nonzero(~there)} rows of the file have no geometry and are left out")
    geometries = shapely.force_2d(table.geometries[there])
    kinds = [g.geom_type for g in geometries]
    if strange := [kind for kind in kinds if kind not in _AREAS]:
        n = len(strange)
        raise DataError(
            f"{path}: {n} of its {len(kinds)} geometries {'is no area' if n == 1 else 'are no areas'} ({strange[0]}); "
            "a mask is made of polygons: draw around points and lines (buffer them), or remove them"
        )
    columns = {key: [v for v, keep in zip(column, there, strict=True) if keep] for key, column in table.columns.items()}
    attribute, classes = _classes(path, columns)
    if not kinds:
        notes.append("the file holds no area: all of its image is background")
    elif attribute:
        notes.append(f"what the areas are is read from their attribute '{attribute}'")
    else:
        notes.append(
            f"no attribute says what the areas are ({', '.join(CLASS_ATTRIBUTES[:4])} …): all are of one class, 1"
        )
    own = _own_values(classes, columns)
    return Areas(geometries, classes, own, table.crs, table.assumed, tuple(notes))


def read_classes(path: Path) -> Mapping[Class, int | None]:
    """The classes of a file, in its order, each with its own number (None: it has none). Raises as `read_areas`."""
    return read_areas(path).own_values


def _classes(path: Path, columns: Mapping[str, list[Any]]) -> tuple[str, tuple[Class, ...]]:
    """Which attribute says what the areas are, and what it says of each."""
    called = {key.casefold(): key for key in columns}
    for wanted in CLASS_ATTRIBUTES:
        if (key := called.get(wanted)) is None:
            continue
        found = [_plain(value) for value in columns[key]]
        if all(value is None for value in found):
            continue
        distinct = {value for value in found if value is not None}
        if wanted in ("name", "type") and len(distinct) > max(MOST_NAMES, len(found) // 2):
            continue
        if lost := found.count(None):
            raise DataError(
                f"{path}: {lost} of its {len(found)} areas have no '{key}', which says what the others are; give them "
                "one, or remove them"
            )
        numbers = tuple(value for value in found if isinstance(value, int))
        if len(numbers) == len(found):
            if min(numbers) < 0:
                raise DataError(f"{path}: the '{key}' {min(numbers)} is no class; classes are numbers from 0 on")
            return key, numbers
        return key, tuple(str(value) for value in found)
    return "", ()


def _plain(value: Any) -> Class | None:
    """A class as a number or a name: whole floats and digits are numbers, QuPath's {"name": …} is a name."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return str(value)
    if isinstance(value, Mapping):
        value = value.get("name")
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, bool | np.bool_):
        return int(value)
    if isinstance(value, int | np.integer) or (isinstance(value, float | np.floating) and float(value).is_integer()):
        return int(value)
    text = str(value).strip()
    return int(text) if text.isdecimal() else text or None


def _own_values(classes: Sequence[Class], columns: Mapping[str, list[Any]]) -> dict[Class, int | None]:
    """Class → the number that all its areas have in "value", where that is one number and no other class has it."""
    key = next((key for key in columns if key.casefold() == VALUE), None)
    found: dict[Class, set[Class | None]] = {}
    for name, value in zip(classes, columns[key] if key else [None] * len(classes), strict=True):
        found.setdefault(name, set()).add(_plain(value))
    single = {name: next(iter(values)) if len(values) == 1 else None for name, values in found.items()}
    return {name: value if isinstance(value, int) and value >= 0 else None for name, value in single.items()}


def _read(path: Path) -> _Table:
    with decoding(path, OSError), path.open("rb") as file:
        if not file.read(1):
            raise DataError(f"{path}: the file is empty (0 bytes); copy or export it again, or leave it out")
    if path.suffix.lower() in (".geojson", ".json"):
        with decoding(path, *_ERRORS):
            content = json.loads(path.read_bytes())
        if isinstance(content, Mapping) and "shapes" in content:
            return _labelme(path, content)
        return _geojson(path, content)
    return _layer(path)


def _geojson(path: Path, content: Any) -> _Table:
    shapely = geometry_modules()
    if isinstance(content, list):  # as older versions of QuPath write it
        features, crs = content, None
    elif isinstance(content, Mapping) and content.get("type") == "FeatureCollection":
        features, crs = content.get("features") or [], content.get("crs")
    elif isinstance(content, Mapping) and content.get("type") == "Feature":
        features, crs = [content], content.get("crs")
    else:
        raise DataError(f"{path}: this is no GeoJSON FeatureCollection and no LabelMe file; export the areas again")
    with decoding(path, *_ERRORS):
        rows = [dict(feature.get("properties") or {}) for feature in features]
        geometries = np.empty(len(features), object)
        for number, feature in enumerate(features):
            shape = feature.get("geometry")
            if shape is not None:
                geometries[number] = shapely.geometry.shape(shape)
    keys = dict.fromkeys(key for row in rows for key in row)
    columns = {key: [row.get(key) for row in rows] for key in keys}
    if crs is None:
        return _Table(geometries, columns, _wkt(path, _WGS84), assumed=True)
    name = (crs.get("properties") or {}).get("name") if isinstance(crs, Mapping) else None
    if not isinstance(name, str):
        raise DataError(f"{path}: its coordinate reference system {crs!r} is not given by name; export it again")
    return _Table(geometries, columns, _wkt(path, name))


def _labelme(path: Path, content: Mapping[str, Any]) -> _Table:
    shapely = geometry_modules()
    geometries = np.empty(len(content["shapes"]), object)
    with decoding(path, *_ERRORS):
        for number, shape in enumerate(content["shapes"]):
            kind, points = shape.get("shape_type") or "polygon", np.array(shape["points"], float)
            if kind == "polygon":
                geometries[number] = shapely.Polygon(points)
            elif kind == "rectangle":
                geometries[number] = shapely.box(*points.min(0), *points.max(0))
            elif kind == "circle":
                geometries[number] = shapely.Point(points[0]).buffer(float(np.hypot(*(points[1] - points[0]))))
            else:
                raise DataError(
                    f"{path}: the shape '{shape.get('label')}' is a {kind}, which is no area; draw polygons, "
                    "rectangles or circles"
                )
        labels = [shape.get("label") for shape in content["shapes"]]
    return _Table(geometries, {"label": labels})


def _layer(path: Path) -> _Table:
    shapely = geometry_modules()
    try:
        from pyogrio import list_layers
        from pyogrio.raw import read
    except ModuleNotFoundError:
        raise MachineError(
            f"{path}: {path.suffix} is read by the pyogrio package, which is not installed: {INSTALL}"
        ) from None
    with warnings.catch_warnings(), decoding(path, *_ERRORS):
        warnings.simplefilter("ignore")  # of fields and measures that no label needs
        layers = [str(name) for name, kind in list_layers(path) if kind is not None]
        if len(layers) != 1:
            have = f"{len(layers)} layers ({', '.join(layers)})" if layers else "no layer of geometries"
            raise DataError(f"{path}: the file holds {have}; save the one that is meant as a file of its own")
        meta, _, geometry, data = read(path, layer=layers[0], force_2d=True)
        geometries = shapely.from_wkb(geometry)
    columns = {str(name): list(values) for name, values in zip(meta["fields"], data, strict=True)}
    crs = _wkt(path, meta["crs"]) if meta.get("crs") else ""
    # GeoPackages name what is no place at all: "Undefined Cartesian SRS"
    return _Table(np.asarray(geometries, object), columns, "" if _is_local(crs) else crs)


def _is_local(wkt: str) -> bool:
    return wkt.startswith(("LOCAL_CS", "ENGCRS", "ENGINEERINGCRS")) or "Undefined" in wkt[:60]


def _wkt(path: Path, name: str) -> str:
    if name.endswith("CRS84"):  # longitude and latitude, as GeoJSON has them in any case
        name = _WGS84
    try:
        return str(crs_of(name).to_wkt())
    except ValueError:
        raise DataError(
            f"{path}: its coordinate reference system {name!r} is not known; set it, e.g. to EPSG:4326"
        ) from None
