"""Predicted areas as polygons: what they cover, how they are joined over blocks, what stands in the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from unetkit.core.errors import DataError, MachineError
from unetkit.core.region import Region
from unetkit.data.formats import ImageInfo, MapGrid
from unetkit.data.formats.maps.vector import rasterised
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.predict.finished import Finished
from unetkit.predict.polygons import areas, write_polygons

shapely = pytest.importorskip("shapely", reason="polygons need the geo packages")
pyogrio = pytest.importorskip("pyogrio", reason="polygons need the geo packages")
rasterio = pytest.importorskip("rasterio", reason="polygons need the geo packages")

UTM = MapGrid(rasterio.crs.CRS.from_epsg(32616).to_wkt(), (0.5, 0.0, 733601.0, 0.0, -0.5, 3725139.0))
LEGEND = Legend(
    kind="values",
    classes=(
        LegendClass(name="background", value=0, colour=(0, 0, 0)),
        LegendClass(name="roof", value=10, colour=(230, 159, 0)),
        LegendClass(name="straße", value=20, colour=(86, 180, 233)),
    ),
    background=0,
)


def finished(
    labels_YX: NDArray[np.uint8], grid: MapGrid | None = UTM, legend: Legend = LEGEND, ids_YX: Any = None
) -> Finished:
    info = ImageInfo(labels_YX.shape, 1, False, "uint8", "grey", map=grid)
    objects = None if ids_YX is None else lambda region: ids_YX[region.slices].astype(np.uint32)
    count = 0 if ids_YX is None else int(ids_YX.max())
    return Finished(info, legend, lambda region: labels_YX[region.slices], None, None, objects, count)


def random_labels(shape: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """Areas of all sizes, with holes, that touch at corners."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 3, tuple(-(-n // 5) for n in shape))
    labels_YX = np.kron(coarse, np.ones((5, 5), int))[: shape[0], : shape[1]]
    noise = rng.random(shape) < 0.2
    labels_YX[noise] = rng.integers(0, 3, int(noise.sum()))
    return labels_YX.astype(np.uint8)


def drawn(found: list[Any], shape: tuple[int, int], value: str = "index") -> NDArray[np.int32]:
    from rasterio.features import rasterize

    out = np.zeros(shape, np.int32)
    return rasterize([(a.polygon, getattr(a, value)) for a in found], out=out) if found else out


@pytest.mark.parametrize("block", [7, 16, 64])
def test_areas_cover_their_pixels_exactly_whatever_the_blocks(block: int) -> None:
    labels_YX = random_labels((47, 61), 3)
    found = list(areas(finished(labels_YX), block))
    np.testing.assert_array_equal(drawn(found, labels_YX.shape), labels_YX)
    assert all(a.polygon.is_valid for a in found)
    whole = list(areas(finished(labels_YX), 4096))
    assert len(found) == len(whole)
    # the same polygons with the same corners, in another order
    same = {shapely.normalize(a.polygon).wkb for a in found}
    assert same == {shapely.normalize(a.polygon).wkb for a in whole}


def test_areas_are_the_components_that_are_connected_by_edges() -> None:
    from scipy.ndimage import label

    labels_YX = random_labels((40, 40), 5)
    found = list(areas(finished(labels_YX), 11))
    for index in (1, 2):
        assert sum(a.index == index for a in found) == label(labels_YX == index)[1]


def test_what_is_finished_does_not_wait_for_the_rest() -> None:
    labels_YX = np.zeros((40, 10), np.uint8)
    labels_YX[1:3, 1:3] = 1
    asked: list[int] = []
    source = finished(labels_YX)

    def labels(region: Region) -> NDArray[np.uint8]:
        asked.append(region.start[0])
        return labels_YX[region.slices]

    first = next(areas(Finished(source.info, LEGEND, labels, None, None), 10))
    assert first.polygon.area == 4
    assert asked == [0]


def test_an_object_is_one_feature_however_it_is_connected() -> None:
    ids_YX = np.zeros((12, 12), np.int64)
    ids_YX[2, 2] = ids_YX[3, 3] = ids_YX[4, 4] = 1  # by corners alone, over a border of blocks
    ids_YX[6:11, 6:11] = 2
    labels_YX = (ids_YX > 0).astype(np.uint8)
    labels_YX[ids_YX == 2] = 2
    found = list(areas(finished(labels_YX, ids_YX=ids_YX), 4))
    assert sorted((a.object, a.index, a.polygon.geom_type) for a in found) == [
        (1, 1, "MultiPolygon"),
        (2, 2, "Polygon"),
    ]
    np.testing.assert_array_equal(drawn(found, ids_YX.shape, "object"), ids_YX)


def test_objects_that_touch_stay_apart() -> None:
    ids_YX = np.arange(1, 37).reshape(6, 6).repeat(5, 0).repeat(5, 1)
    found = list(areas(finished(np.ones(ids_YX.shape, np.uint8), ids_YX=ids_YX), 8))
    assert [a.polygon.area for a in found] == [25.0] * 36
    np.testing.assert_array_equal(drawn(found, ids_YX.shape, "object"), ids_YX)


def test_regions_that_overlap_have_areas_of_their_own() -> None:
    classes = tuple(LegendClass(name=n, value=1 << k, colour=(9, 9, k)) for k, n in enumerate(("cell", "nucleus")))
    legend = Legend(kind="regions", classes=classes, background=None)
    bits_YX = np.zeros((20, 20), np.uint8)
    bits_YX[2:18, 2:18] = 1
    bits_YX[5:9, 5:9] |= 2
    bits_YX[0] = 255  # nothing there
    found = {a.index: a.polygon.area for a in areas(finished(bits_YX, legend=legend), 8)}
    assert found == {0: 256.0, 1: 16.0}


def test_pixels_that_hold_nothing_belong_to_no_area() -> None:
    labels_YX = np.full((10, 10), 255, np.uint8)
    labels_YX[:3, :3] = 1
    assert [a.polygon.area for a in areas(finished(labels_YX))] == [9.0]


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg"])
def test_files_are_what_gdal_reads_in_the_reference_system_of_the_map(tmp_path: Path, suffix: str) -> None:
    labels_YX = np.zeros((30, 40), np.uint8)
    labels_YX[4:20, 6:30] = 1
    labels_YX[8:12, 10:14] = 2  # in a hole of the first
    path = tmp_path / f"areas{suffix}"
    assert write_polygons(path, finished(labels_YX)) == 2
    meta, _, wkb, columns = pyogrio.raw.read(path)
    assert rasterio.crs.CRS.from_user_input(meta["crs"]).to_epsg() == 32616
    table = dict(zip(meta["fields"], columns, strict=True))
    rows = {name: (int(v), float(a)) for name, v, a in zip(table["class"], table["value"], table["area"], strict=True)}
    assert rows == {"roof": (10, (16 * 24 - 16) * 0.25), "straße": (20, 16 * 0.25)}
    shapes = shapely.from_wkb(wkb)
    assert shapely.is_valid(shapes).all()
    assert shapely.bounds(shapes).min(0)[0] == 733601.0 + 3
    for polygon in shapely.get_parts(shapes):
        assert polygon.exterior.is_ccw
        assert not any(ring.is_ccw for ring in polygon.interiors)
    if suffix == ".gpkg":
        assert pyogrio.list_layers(path).tolist() == [["areas", "MultiPolygon"]]
    else:
        assert json.loads(path.read_text())["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32616"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg"])
def test_drawn_again_the_areas_are_the_prediction(tmp_path: Path, suffix: str) -> None:
    labels_YX = random_labels((50, 70), 8)
    for name, grid in (("map", UTM), ("picture", None)):
        source = finished(labels_YX, grid)
        write_polygons(tmp_path / f"{name}{suffix}", source)
        again_YX = rasterised(tmp_path / f"{name}{suffix}", source.info)
        np.testing.assert_array_equal(again_YX, labels_YX * 10)


def test_over_a_picture_coordinates_are_pixels_as_qupath_reads_them(tmp_path: Path) -> None:
    labels_YX = np.zeros((10, 10), np.uint8)
    labels_YX[2:5, 1:4] = 1
    write_polygons(tmp_path / "a.geojson", finished(labels_YX, None))
    content = json.loads((tmp_path / "a.geojson").read_text())
    assert "crs" not in content
    (feature,) = content["features"]
    assert feature["properties"] == {
        "objectType": "annotation", "classification": {"name": "roof", "color": [230, 159, 0]},
        "class": "roof", "value": 10, "area": 9.0,
    }  # fmt: skip
    assert shapely.geometry.shape(feature["geometry"]).bounds == (1, 2, 4, 5)


def test_a_map_turned_and_without_a_code_keeps_its_place(tmp_path: Path) -> None:
    wkt = rasterio.crs.CRS.from_proj4("+proj=laea +lat_0=10 +lon_0=20 +datum=WGS84 +units=m").to_wkt()
    grid = MapGrid(wkt, (3.0, 1.0, 1000.0, 1.0, -3.0, 2000.0))
    source = finished(random_labels((20, 20), 2), grid)
    for name in ("a.geojson", "a.gpkg"):
        write_polygons(tmp_path / name, source)
        crs = rasterio.crs.CRS.from_user_input(pyogrio.raw.read(tmp_path / name)[0]["crs"])
        assert "20" in crs.to_proj4()
        assert "laea" in crs.to_proj4()
        np.testing.assert_array_equal(rasterised(tmp_path / name, source.info), source.labels(Region.of((20, 20))) * 10)
    sizes = [f["properties"]["area"] for f in json.loads((tmp_path / "a.geojson").read_text())["features"]]
    assert sum(sizes) == pytest.approx(10 * np.count_nonzero(source.labels(Region.of((20, 20)))))


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg"])
def test_a_prediction_of_background_alone_is_a_file_without_features(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"none{suffix}"
    assert write_polygons(path, finished(np.zeros((9, 9), np.uint8))) == 0
    assert len(pyogrio.raw.read(path)[2]) == 0


def test_object_numbers_stand_in_the_files(tmp_path: Path) -> None:
    ids_YX = np.zeros((9, 9), np.int64)
    ids_YX[1:3, 1:3], ids_YX[5:8, 5:8] = 7, 3
    source = finished((ids_YX > 0).astype(np.uint8), None, ids_YX=ids_YX)
    for name in ("a.geojson", "a.gpkg"):
        write_polygons(tmp_path / name, source)
        meta, _, _, columns = pyogrio.raw.read(tmp_path / name)
        table = dict(zip(meta["fields"], columns, strict=True))
        assert dict(zip(table["object"].tolist(), table["area"].tolist(), strict=True)) == {7: 4.0, 3: 9.0}


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg"])
def test_nothing_is_left_of_a_file_that_could_not_be_finished(tmp_path: Path, suffix: str) -> None:
    source = finished(np.ones((9, 9), np.uint8))

    def broken(region: Region) -> NDArray[np.uint8]:
        raise DataError("the image is damaged")

    with pytest.raises(DataError, match="the image is damaged"):
        write_polygons(tmp_path / f"a{suffix}", Finished(source.info, LEGEND, broken, None, None))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_drawn_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = ImageInfo((3, 4, 5), 1, False, "uint8", "grey")
    with pytest.raises(DataError, match="polygons are drawn of images and maps, and this prediction has 3 dimensions"):
        write_polygons(
            tmp_path / "a.geojson", Finished(volume, LEGEND, lambda r: np.zeros(r.shape, np.uint8), None, None)
        )
    source = finished(np.ones((9, 9), np.uint8))
    with pytest.raises(DataError, match=r"polygons are written as \.geojson or \.gpkg, not as '\.kml'"):
        write_polygons(tmp_path / "a.kml", source)
    monkeypatch.setitem(__import__("sys").modules, "pyogrio.raw", None)
    with pytest.raises(MachineError, match=r"pip install 'unetkit\[geo\]'; GeoJSON \(\.geojson\) needs none"):
        write_polygons(tmp_path / "a.gpkg", source)
    monkeypatch.setitem(__import__("sys").modules, "shapely", None)
    with pytest.raises(MachineError, match=r"shapely is not installed: pip install 'unetkit\[geo\]'"):
        write_polygons(tmp_path / "a.geojson", source)
