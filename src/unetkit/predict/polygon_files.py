"""Files of predicted areas: GeoJSON as text, feature by feature, and GeoPackage, some thousand features at a time."""

from __future__ import annotations

import contextlib
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np

from unetkit.core.errors import MachineError
from unetkit.core.files import disk_errors
from unetkit.data.formats.base import ImageInfo
from unetkit.data.formats.maps.geotiff import INSTALL
from unetkit.data.formats.maps.map_places import crs_of
from unetkit.data.formats.maps.vector_files import geometry_modules
from unetkit.data.labels.legend import code
from unetkit.predict.finished import Finished

LAYER = "areas"
MANY = 4096
"""Features of a GeoPackage that are written together."""

Geometry: TypeAlias = Any  # of shapely


@dataclass(frozen=True)
class Area:
    """A feature. polygon: in pixels, columns and rows. index: of its class. object: its number, 0 where none."""

    polygon: Geometry
    index: int
    object: int


def polygon_file(path: Path, temporary: Path, finished: Finished) -> PolygonFile:
    """The file, by the suffix of `path`, written at `temporary`. Raises MachineError: a package is not installed."""
    return (_GeoPackage if path.suffix.lower() == ".gpkg" else _GeoJson)(path, temporary, finished)


class PolygonFile(ABC):
    """Takes areas and appends them to a file. A context manager. count: how many there are."""

    def __init__(self, path: Path, temporary: Path, finished: Finished) -> None:
        self._path, self._temporary = path, temporary
        self._info = finished.info
        self._classes = finished.legend.classes
        self._objects = finished.objects is not None
        self.count = 0

    def add(self, area: Area) -> None:
        """Append an area, its polygon brought from pixels into the coordinates of the map."""
        entry = self._classes[area.index]
        properties = {"class": entry.name, "value": code(entry.value), "area": self._size(area.polygon)}
        if self._objects:
            properties["object"] = area.object
        with disk_errors(self._path):
            self._append(area, properties, _placed(area.polygon, self._info))
        self.count += 1

    def _size(self, polygon: Geometry) -> float:
        """In the unit of the coordinates, squared; from whole pixels, which is exact."""
        if self._info.map is None:
            return float(polygon.area)
        a, b, _, d, e, _ = self._info.map.transform
        return float(f"{polygon.area * abs(a * e - b * d):.12g}")

    @abstractmethod
    def _append(self, area: Area, properties: dict[str, Any], geometry: Geometry) -> None: ...

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(self, kind: type[BaseException] | None, value: object, trace: object) -> None: ...


class _GeoJson(PolygonFile):
    def __enter__(self) -> Self:
        head = {"type": "FeatureCollection", "name": self._path.stem, **_crs_member(self._info)}
        with disk_errors(self._path):
            self._file = self._temporary.open("w", encoding="utf-8")
            self._file.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "features": [')
        return self

    def _append(self, area: Area, properties: dict[str, Any], geometry: Geometry) -> None:
        entry = self._classes[area.index]
        shown = {"objectType": "annotation", "classification": {"name": entry.name, "color": list(entry.colour)}}
        content = json.dumps(shown | properties, ensure_ascii=False)
        shape = geometry_modules().to_geojson(geometry)
        comma = "," if self.count else ""
        self._file.write(f'{comma}\n{{"type": "Feature", "properties": {content}, "geometry": {shape}}}')

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: object) -> None:
        with self._file, disk_errors(self._path):
            if kind is None:
                self._file.write("\n]}\n")
                self._file.flush()


class _GeoPackage(PolygonFile):
    def __enter__(self) -> Self:
        self._write = _pyogrio(self._path)
        self._rows: list[tuple[dict[str, Any], Geometry]] = []
        self._begun = False
        self._temporary.unlink()  # an empty file is no GeoPackage; GDAL makes its own
        return self

    def _append(self, area: Area, properties: dict[str, Any], geometry: Geometry) -> None:  # noqa: ARG002
        self._rows.append((properties, geometry))
        if len(self._rows) >= MANY:
            self._flush()

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: object) -> None:
        if kind is None and (self._rows or not self._begun):
            self._flush()

    def _flush(self) -> None:
        types = {"class": object, "value": np.int32, "area": np.float64}
        types |= {"object": np.int64} if self._objects else {}
        columns = [np.array([row[name] for row, _ in self._rows], kind) for name, kind in types.items()]
        geometries = geometry_modules().to_wkb(np.array([geometry for _, geometry in self._rows], object))
        crs = self._info.map.crs if self._info.map is not None else ""
        with warnings.catch_warnings(), _writing(self._path):
            warnings.simplefilter("ignore")  # "no CRS": pixels have none
            self._write(
                self._temporary, np.asarray(geometries, object), columns, list(types), layer=LAYER, driver="GPKG",
                geometry_type="MultiPolygon", promote_to_multi=True, crs=crs or None, append=self._begun,
            )  # fmt: skip
        self._begun, self._rows = True, []


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # pyogrio's own
        raise MachineError(f"{path}: cannot be written ({error}); free some space, or choose another folder") from error


def _pyogrio(path: Path) -> Any:
    try:
        from pyogrio.raw import write
    except ModuleNotFoundError:
        raise MachineError(
            f"{path}: a GeoPackage is written by the pyogrio package, which is not installed: {INSTALL}; GeoJSON "
            "(.geojson) needs none"
        ) from None
    return write


def _placed(polygon: Geometry, info: ImageInfo) -> Geometry:
    """In the coordinates of the map (of pixels, where there is none), shells against the clock."""
    shapely = geometry_modules()
    if info.map is not None:
        a, b, c, d, e, f = info.map.transform
        turn, shift = np.array([[a, d], [b, e]]), np.array([c, f])
        polygon = shapely.transform(polygon, lambda points_N2: points_N2 @ turn + shift)
    return shapely.orient_polygons(polygon)


def _crs_member(info: ImageInfo) -> dict[str, Any]:
    """The member that names the reference system, as GDAL has it: a URN, or the WKT of one without a code."""
    if info.map is None or not info.map.crs:
        return {}
    known = crs_of(info.map.crs).to_authority()
    name = f"urn:ogc:def:crs:{known[0]}::{known[1]}" if known else info.map.crs
    if known == ("EPSG", "4326"):
        name = "urn:ogc:def:crs:OGC:1.3:CRS84"
    return {"crs": {"type": "name", "properties": {"name": name}}}
