"""Labels drawn as areas: where they lie, what they are, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetkit.core.errors import DataError, MachineError
from unetkit.core.region import Region
from unetkit.data.formats import ImageInfo, MapGrid
from unetkit.data.formats.maps.vector import class_names, is_vector, open_vector, rasterised

shapely = pytest.importorskip("shapely", reason="vector labels need the geo packages")
pyogrio = pytest.importorskip("pyogrio", reason="vector labels need the geo packages")
rasterio = pytest.importorskip("rasterio", reason="vector labels need the geo packages")

PICTURE = ImageInfo((20, 30), 1, False, "uint8", "grey")
UTM = MapGrid(rasterio.crs.CRS.from_epsg(32616).to_wkt(), (0.5, 0.0, 733601.0, 0.0, -0.5, 3725139.0))
MAP = ImageInfo((20, 30), 1, False, "uint8", "grey", map=UTM)


def box(x0: float, y0: float, x1: float, y1: float) -> Any:
    return shapely.box(x0, y0, x1, y1)


def on_map(geometry: Any, epsg: int = 32616) -> Any:
    """A geometry in pixels brought onto the map, in some reference system."""
    a, b, c, d, e, f = UTM.transform
    placed = shapely.transform(geometry, lambda p: p @ np.array([[a, d], [b, e]]) + np.array([c, f]))
    if epsg == 32616:
        return placed
    from rasterio.warp import transform

    def moved(p: Any) -> Any:
        return np.stack(transform("EPSG:32616", f"EPSG:{epsg}", *p.T.tolist()), -1)

    return shapely.transform(placed, moved)


def geojson(path: Path, rows: Sequence[tuple[Any, Mapping[str, Any]]], crs: str | None = None, **more: Any) -> Path:
    features = [
        {"type": "Feature", "properties": dict(p), "geometry": None if g is None else shapely.geometry.mapping(g)}
        for g, p in rows
    ]
    content: dict[str, Any] = {"type": "FeatureCollection", "features": features, **more}
    if crs:
        content["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(content))
    return path


def layer(path: Path, rows: Sequence[tuple[Any, str]], crs: str | None, kind: str = "Polygon") -> Path:
    wkb = shapely.to_wkb(np.array([g for g, _ in rows], object))
    with pytest.warns(UserWarning, match="crs") if crs is None else _quiet():
        pyogrio.raw.write(path, wkb, [np.array([c for _, c in rows], object)], ["class"], geometry_type=kind, crs=crs)
    return path


def _quiet() -> Any:
    import contextlib

    return contextlib.nullcontext()


def expected(*boxes: tuple[int, int, int, int, int]) -> Any:
    label_YX = np.zeros((20, 30), int)
    for x0, y0, x1, y1, value in boxes:
        label_YX[y0:y1, x0:x1] = value
    return label_YX


def test_over_a_picture_areas_count_pixels(tmp_path: Path) -> None:
    path = geojson(tmp_path / "a.geojson", [(box(2, 3, 9, 7), {"class": "cell"}), (box(5, 5, 8, 6), {"class": "axon"})])
    with open_vector(path, PICTURE) as reader:
        assert reader.info.dtype == "uint8"
        label_YX = reader.read()[0]
        part_YX = reader.read(Region((4, 5), (6, 20)))[0]
    # names are numbered in their natural order, and the later area lies on top
    np.testing.assert_array_equal(label_YX, expected((2, 3, 9, 7, 2), (5, 5, 8, 6, 1)))
    np.testing.assert_array_equal(part_YX, label_YX[4:6, 5:20])
    assert class_names([path]) == {0: "background", 1: "axon", 2: "cell"}


def test_a_pixel_belongs_to_an_area_by_its_centre(tmp_path: Path) -> None:
    path = geojson(tmp_path / "a.geojson", [(box(1.4, 1.4, 3.6, 3.6), {}), (box(10.6, 2.6, 10.9, 9), {})])
    np.testing.assert_array_equal(rasterised(path, PICTURE), expected((1, 1, 4, 4, 1)))


def test_parts_are_bit_for_bit_those_of_the_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    rows = []
    for n in range(40):
        corners = rng.random((7, 2)) * 25 + rng.random(2) * 10 - 5
        rows.append((shapely.MultiPoint(corners).convex_hull, {"class": n % 5 + 1}))
    path = geojson(tmp_path / "a.geojson", [(on_map(g), p) for g, p in rows], "EPSG:32616")
    with open_vector(path, MAP) as reader:
        whole_YX = reader.read()[0]
        for top in range(0, 20, 7):
            for left in range(0, 30, 11):
                region = Region((top, left), (min(20, top + 7), min(30, left + 11)))
                np.testing.assert_array_equal(reader.read(region)[0], whole_YX[region.slices])
    assert len(np.unique(whole_YX)) == 6


@pytest.mark.parametrize("epsg", [32616, 4326, 3857, 32617])
@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".shp"])
def test_over_a_map_areas_lie_where_their_reference_system_says(tmp_path: Path, suffix: str, epsg: int) -> None:
    polygon = on_map(box(2.2, 3.2, 9.2, 7.2), epsg)
    path = tmp_path / f"a{suffix}"
    if suffix == ".geojson":
        geojson(path, [(polygon, {"class": 4})], None if epsg == 4326 else f"urn:ogc:def:crs:EPSG::{epsg}")
    else:
        layer(path, [(polygon, "4")], f"EPSG:{epsg}")
    with open_vector(path, MAP) as reader:
        np.testing.assert_array_equal(reader.read()[0], expected((2, 3, 9, 7, 4)))
        told = " ".join(reader.info.notes)
        assert reader.info.map == UTM
    assert ("their points are brought into EPSG:32616 (WGS 84 / UTM zone 16N)" in told) == (epsg != 32616)


def test_areas_that_do_not_say_their_reference_system_are_taken_to_be_in_that_of_the_map(tmp_path: Path) -> None:
    polygon = on_map(box(2, 3, 9, 7))
    for path in (
        geojson(tmp_path / "a.geojson", [(polygon, {})]),  # no longitudes and latitudes, whatever RFC 7946 says
        layer(tmp_path / "a.shp", [(polygon, "1")], None),
        layer(tmp_path / "a.gpkg", [(polygon, "1")], None),
    ):
        with open_vector(path, MAP) as reader:
            np.testing.assert_array_equal(reader.read()[0], expected((2, 3, 9, 7, 1)))
            told = " ".join(reader.info.notes)
        assert "they are taken to be in that of their image, EPSG:32616 (WGS 84 / UTM zone 16N)" in told


def test_a_map_without_a_reference_system_takes_that_of_the_areas(tmp_path: Path) -> None:
    path = layer(tmp_path / "a.gpkg", [(on_map(box(2, 3, 9, 7)), "1")], "EPSG:32616")
    info = ImageInfo((20, 30), 1, False, "uint8", "grey", map=MapGrid("", UTM.transform))
    with open_vector(path, info) as reader:
        np.testing.assert_array_equal(reader.read()[0], expected((2, 3, 9, 7, 1)))
        assert "the image has no coordinate reference system: it is taken to be in that of" in " ".join(
            reader.info.notes
        )


def test_qupath_and_labelme_files_are_read(tmp_path: Path) -> None:
    rows = [(box(2, 3, 9, 7), {"objectType": "annotation", "classification": {"name": "Tumor", "color": [1, 2, 3]}})]
    qupath = geojson(tmp_path / "q.geojson", rows)
    old = tmp_path / "old.json"  # as version 0.2 exported: an array of features
    old.write_text(json.dumps(json.loads(qupath.read_text())["features"]))
    labelme = tmp_path / "l.json"
    shapes = [
        {"label": "cell", "shape_type": "rectangle", "points": [[9, 7], [2, 3]]},
        {"label": "axon", "shape_type": "polygon", "points": [[12, 3], [15, 3], [15, 6], [12, 6]]},
        {"label": "axon", "shape_type": "circle", "points": [[20, 10], [20, 13]]},
    ]
    labelme.write_text(json.dumps({"version": "5.0.1", "flags": {}, "shapes": shapes, "imagePath": "l.png"}))
    assert class_names([qupath]) == {0: "background", 1: "Tumor"}
    np.testing.assert_array_equal(rasterised(qupath, PICTURE), expected((2, 3, 9, 7, 1)))
    np.testing.assert_array_equal(rasterised(old, PICTURE), expected((2, 3, 9, 7, 1)))
    label_YX = rasterised(labelme, PICTURE)
    np.testing.assert_array_equal(label_YX[:, :16], expected((2, 3, 9, 7, 2), (12, 3, 15, 6, 1))[:, :16])
    assert np.count_nonzero(label_YX[:, 16:]) == pytest.approx(9 * np.pi, abs=4)
    other = tmp_path / "dataset.json"
    other.write_text(json.dumps({"labels": {"0": "background"}}))
    assert [is_vector(p) for p in (qupath, labelme, other, tmp_path / "x.gpkg")] == [True, True, False, True]


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ([{"class": "b10"}, {"class": "b9"}], {0: "background", 1: "b9", 2: "b10"}),
        ([{"CLASS": "b"}, {"CLASS": "Background"}], {0: "Background", 1: "b"}),
        ([{"label": "x", "name": "y"}, {"label": "z", "name": "y"}], {0: "background", 1: "x", 2: "z"}),
        ([{"class": "a", "value": 255}, {"class": "b", "value": 7}], {0: "background", 7: "b", 255: "a"}),
        ([{"class": "a", "value": 3}, {"class": "b", "value": 3}], {0: "background", 1: "a", 2: "b"}),
        ([{"class": "a", "value": 3}, {"class": "a", "value": 4}], {0: "background", 1: "a"}),
        ([{"class": 3}, {"class": "4"}], {}),
        ([{"class": 3.0}, {"class": True}], {}),
        ([{"id": 3}, {"id": 4}], {}),
        ([{"class": None, "type": "road"}, {"class": None, "type": "road"}], {0: "background", 1: "road"}),
    ],
)
def test_the_classes_are_those_of_the_first_attribute_that_says_them(
    tmp_path: Path, rows: list[dict[str, Any]], names: dict[int, str]
) -> None:
    path = geojson(tmp_path / "a.geojson", [(box(k, 0, k + 1, 1), row) for k, row in enumerate(rows)])
    assert class_names([path]) == names


def test_names_are_numbered_over_all_files_of_a_set(tmp_path: Path) -> None:
    one = geojson(tmp_path / "1.geojson", [(box(0, 0, 4, 4), {"class": "road"})])
    two = geojson(tmp_path / "2.geojson", [(box(0, 0, 4, 4), {"class": "house"})])
    found = class_names([one, two])
    assert found == {0: "background", 1: "house", 2: "road"}
    names = {name: value for value, name in found.items()}
    assert rasterised(one, PICTURE, names=names).max() == 2
    assert rasterised(two, PICTURE, names=names).max() == 1
    with pytest.raises(DataError, match=r"2\.geojson: the class 'house' is none of those that are known \(road\)"):
        rasterised(two, PICTURE, names={"road": 1})
    three = geojson(tmp_path / "3.geojson", [(box(0, 0, 4, 4), {"class": 3})])
    with pytest.raises(DataError, match=r"3\.geojson: classes are numbers here, but names in .*1\.geojson \('road'\)"):
        class_names([one, two, three])
    four = geojson(tmp_path / "4.geojson", [(box(0, 0, 4, 4), {"class": "road", "value": 5})])
    five = geojson(tmp_path / "5.geojson", [(box(0, 0, 4, 4), {"class": "road", "value": 6})])
    with pytest.raises(DataError, match=r"5\.geojson: the class 'road' has the value 6, but 5 in .*4\.geojson"):
        class_names([four, five])


def test_named_things_are_not_classes(tmp_path: Path) -> None:
    rows = [(box(k % 20, 0, k % 20 + 1, 1), {"name": f"house {k}"}) for k in range(60)]
    path = geojson(tmp_path / "a.geojson", rows)
    with open_vector(path, PICTURE) as reader:
        assert reader.read().max() == 1
        told = " ".join(reader.info.notes)
    assert "no attribute says what the areas are (class, classification, class_name, label …): all are of one" in told


def test_areas_without_features_are_background(tmp_path: Path) -> None:
    path = geojson(tmp_path / "a.geojson", [(None, {"class": "x"})])
    with open_vector(path, PICTURE) as reader:
        assert reader.read().max() == 0
        assert reader.info.notes == (
            "1 rows of the file have no geometry and are left out",
            "the file holds no area: all of its image is background",
        )
    assert rasterised(layer(tmp_path / "a.gpkg", [], "EPSG:32616"), MAP).max() == 0


def test_values_need_the_type_that_holds_them(tmp_path: Path) -> None:
    for value, dtype in ((255, "uint8"), (256, "uint16"), (70000, "int32")):
        path = geojson(tmp_path / "a.geojson", [(box(0, 0, 3, 3), {"class": value})])
        with open_vector(path, PICTURE) as reader:
            assert (reader.info.dtype, int(reader.read().max())) == (dtype, value)


def test_areas_that_cannot_be_a_label_are_refused_by_name(tmp_path: Path) -> None:
    def refused(path: Path, info: ImageInfo, text: str) -> None:
        with pytest.raises(DataError) as caught:
            rasterised(path, info)
        assert text in str(caught.value)
        assert str(path) in str(caught.value)

    p = tmp_path / "a.geojson"
    refused(
        geojson(p, [(box(0, 0, 1, 1), {}), (shapely.Point(3, 4), {})]), PICTURE,
        "1 of its 2 geometries is no area (Point); a mask is made of polygons: draw around points and lines",
    )  # fmt: skip
    refused(
        geojson(p, [(shapely.LineString([(0, 0), (3, 4)]), {}), (shapely.Point(3, 4), {})]), PICTURE,
        "2 of its 2 geometries are no areas (LineString)",
    )  # fmt: skip
    refused(
        geojson(p, [(box(50, 50, 60, 60), {})]), PICTURE,
        "no area lies on the image: they would lie at columns 50 … 60 and rows 50 … 60 of its 30 × 20 pixels; check "
        "that the file belongs to this image; coordinates count pixels from the upper left corner",
    )  # fmt: skip
    refused(
        geojson(p, [(on_map(box(500, 0, 510, 10)), {})], "EPSG:32616"), MAP,
        "and its coordinate reference system (EPSG:32616 (WGS 84 / UTM zone 16N); the image has EPSG:32616",
    )  # fmt: skip
    refused(
        geojson(p, [(box(200, 300, 900, 700), {})]), MAP, "no area lies on the image: they would lie at columns"
    )  # no longitudes
    refused(
        geojson(p, [(box(2, 3, 9, 7), {})]), MAP,
        "the areas are in EPSG:4326 (WGS 84) (GeoJSON that says none has longitudes and latitudes) and have no place "
        "in EPSG:32616",
    )  # fmt: skip
    refused(
        layer(tmp_path / "m.gpkg", [(on_map(box(2, 3, 9, 7)), "1")], "EPSG:32616"), PICTURE,
        "the areas lie on a map (EPSG:32616 (WGS 84 / UTM zone 16N)), but their image does not say where it lies; save "
        "it as a GeoTIFF",
    )  # fmt: skip
    refused(
        geojson(p, [(box(2, 3, 9, 7), {"class": "a"}), (box(2, 3, 9, 7), {})]), PICTURE,
        "1 of its 2 areas have no 'class', which says what the others are",
    )  # fmt: skip
    refused(geojson(p, [(box(2, 3, 9, 7), {"class": -1})]), PICTURE, "the 'class' -1 is no class")
    refused(geojson(p, [(box(2, 3, 9, 7), {})], "EPSG:99999999"), MAP, "'EPSG:99999999' is not known; set it")
    refused(
        geojson(p, [(box(2, 3, 9, 7), {})]), ImageInfo((3, 4, 5), 1, False, "uint8", "grey"),
        "areas are labels of images and maps, and this image has 3 dimensions",
    )  # fmt: skip
    p.write_bytes(b"")
    refused(p, PICTURE, "the file is empty (0 bytes)")
    geojson(p, [(box(2, 3, 9, 7), {})])
    p.write_text(p.read_text()[:-30])
    refused(p, PICTURE, "the file is truncated or damaged")
    p.write_text("{}")
    refused(p, PICTURE, "this is no GeoJSON FeatureCollection and no LabelMe file")
    packed = layer(tmp_path / "t.gpkg", [(on_map(box(2, 3, 9, 7)), "1")], "EPSG:32616")
    packed.write_bytes(packed.read_bytes()[:5000])
    refused(packed, MAP, "the file is truncated or damaged")
    labelme = tmp_path / "l.json"
    labelme.write_text(
        json.dumps({"version": "5", "shapes": [{"label": "x", "shape_type": "line", "points": [[1, 2]]}]})
    )
    refused(labelme, PICTURE, "the shape 'x' is a line, which is no area; draw polygons, rectangles or circles")


def test_a_geopackage_of_several_layers_is_refused(tmp_path: Path) -> None:
    path = layer(tmp_path / "a.gpkg", [(on_map(box(2, 3, 9, 7)), "1")], "EPSG:32616")
    wkb = shapely.to_wkb(np.array([on_map(box(2, 3, 9, 7))], object))
    pyogrio.raw.write(path, wkb, [], [], layer="more", geometry_type="Polygon", crs="EPSG:32616", append=True)
    with pytest.raises(
        DataError, match=r"the file holds 2 layers \(a, more\); save the one that is meant as a file of"
    ):
        rasterised(path, MAP)


def test_missing_packages_are_named_with_what_installs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    packed = layer(tmp_path / "a.gpkg", [(on_map(box(2, 3, 9, 7)), "1")], "EPSG:32616")
    path = geojson(tmp_path / "a.geojson", [(box(2, 3, 9, 7), {})])
    monkeypatch.setitem(sys.modules, "pyogrio", None)
    with pytest.raises(
        MachineError, match=r"\.gpkg is read by the pyogrio package, which is not installed: pip install"
    ):
        rasterised(packed, MAP)
    monkeypatch.setitem(sys.modules, "shapely", None)
    with pytest.raises(MachineError, match=r"shapely is not installed: pip install 'unetkit\[geo\]'"):
        rasterised(path, PICTURE)


def test_large_areas_are_drawn_in_bands_as_if_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rasterio.features import rasterize

    rng = np.random.default_rng(6)
    rows = []
    for n in range(12):
        ring = shapely.Point(rng.random(2) * (30, 20)).buffer(4 + 3 * rng.random())
        hole = shapely.Point(ring.centroid).buffer(1.7)
        rows.append((ring.difference(hole), {"class": n + 1}))
    expected_YX = rasterize([(g, p["class"]) for g, p in rows], out_shape=(20, 30), dtype="uint8")
    path = geojson(tmp_path / "a.geojson", rows)
    monkeypatch.setattr("unetkit.data.formats.maps.vector.BAND", 3)
    monkeypatch.setattr("unetkit.data.formats.maps.vector.LARGE", 10)
    with open_vector(path, PICTURE) as reader:
        np.testing.assert_array_equal(reader.read()[0], expected_YX)
        np.testing.assert_array_equal(reader.read(Region((5, 9), (16, 21)))[0], expected_YX[5:16, 9:21])
