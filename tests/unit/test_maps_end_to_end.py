"""A real satellite image through the verbs: trained on parts of it, predicted whole, drawn as polygons."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import unetkit as uk
from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.formats import open_image, probe
from unetkit.data.formats.maps.map_places import same_map
from unetkit.data.formats.maps.vector import rasterised
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.predict.finished import Finished
from unetkit.predict.options import OutputOptions
from unetkit.predict.polygons import write_polygons

rasterio = pytest.importorskip("rasterio", reason="maps need the geo packages")
affine = pytest.importorskip("affine", reason="maps need the geo packages")
pytest.importorskip("shapely", reason="maps need the geo packages")
pyogrio = pytest.importorskip("pyogrio", reason="maps need the geo packages")

REQUEST = uk.Request(steps=12, precision="fp32", settings={"net.channels": [4, 8, 8], "machine.threads": 1})
WINDOWS = ((0, 0), (300, 0), (600, 0), (0, 300))  # of the left two thirds


def cut(source: Path, target: Path, top: int, left: int, side: int = 300) -> None:
    """A part of a map as a map of its own."""
    from rasterio.windows import Window

    with rasterio.open(source) as file:
        window = Window(left, top, side, side)
        moved = file.transform @ affine.Affine.translation(left, top)
        profile = file.profile | {"width": side, "height": side, "transform": moved}
        profile |= {"blockysize": 4, "blockxsize": side}
        pixels = file.read(window=window)
    target.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(target, "w", **profile) as file:
        file.write(pixels)


def parts(sample: Path, folder: Path) -> Path:
    for kind in ("images", "masks"):
        for top, left in WINDOWS:
            cut(sample / kind / "buildings.tif", folder / kind / f"part{top}-{left}.tif", top, left)
    return folder


def outlined(data: Path) -> Path:
    """The same set with its masks as polygons in longitude and latitude, named."""
    from rasterio.features import shapes
    from rasterio.warp import transform_geom
    from shapely import to_wkb
    from shapely.geometry import shape

    for path in sorted((data / "masks").iterdir()):
        with rasterio.open(path) as file:
            found = shapes(file.read(1), mask=file.read(1) != 0, transform=file.transform)
            polygons = [shape(transform_geom(file.crs, "EPSG:4326", outline)) for outline, _ in found]
        names = np.array(["building"] * len(polygons), object)
        wkb = to_wkb(np.array(polygons, object))
        pyogrio.raw.write(
            path.with_suffix(".gpkg"), wkb, [names], ["class"], geometry_type="Polygon", crs="EPSG:4326", layer="roofs"
        )
        path.unlink()
    return data


def test_a_part_is_trained_on_and_the_whole_is_predicted_where_it_lies(
    shared_data: Callable[[str], Path], tmp_path: Path
) -> None:
    sample = shared_data("geo")
    image = sample / "images" / "buildings.tif"
    run = uk.train(parts(sample, tmp_path / "data"), tmp_path / "run", REQUEST)
    result = uk.predict(run.path, image, tmp_path / "out", outputs=OutputOptions(polygons="gpkg", probabilities=True))
    assert result.failed == ()
    (path,) = result.done
    with rasterio.open(path) as mask, rasterio.open(image) as source:
        assert mask.crs == source.crs
        assert mask.transform == source.transform
        assert mask.shape == source.shape
        assert mask.profile["tiled"]
        empty_YX = source.read(1) == 0
        found_YX = mask.read(1)
        if mask.nodata is None:
            assert not empty_YX.any()
        else:
            np.testing.assert_array_equal(found_YX == mask.nodata, empty_YX)
    assert same_map(probe(image), probe(tmp_path / "out" / "probabilities" / "buildings.tif")) == ""
    polygons = tmp_path / "out" / "polygons" / "buildings.gpkg"
    assert rasterio.crs.CRS.from_user_input(pyogrio.raw.read(polygons)[0]["crs"]).to_epsg() == 32616
    again_YX = rasterised(polygons, probe(image))
    np.testing.assert_array_equal(again_YX, np.where(empty_YX, 0, found_YX))


def test_footprints_in_another_reference_system_are_labels(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    sample = shared_data("geo")
    data = parts(sample, tmp_path / "data")
    rasters = uk.check(data)
    outlines = uk.check(outlined(data))
    assert not outlines.stops
    assert outlines.legend.names == ("background", "building")
    assert any("brought into EPSG:32616" in finding.message for finding in outlines.findings)
    # through longitudes and back, corners come within less than a pixel's centre: the pixels are the same
    assert outlines.survey.counts == rasters.survey.counts
    run = uk.train(data, tmp_path / "run", REQUEST)
    assert run.finished
    assert run.plan.data.legend.names == ("background", "building")


def test_the_footprints_come_back_from_polygons_pixel_by_pixel(
    shared_data: Callable[[str], Path], tmp_path: Path
) -> None:
    sample = shared_data("geo") / "masks" / "buildings.tif"
    with open_image(sample) as reader:
        truth_YX = reader.read()[0]
        info = reader.info
    entries = (("background", 0), ("building", 1))
    classes = tuple(LegendClass(name=name, value=value, colour=(9 * value, 0, 0)) for name, value in entries)
    legend = Legend(kind="values", classes=classes, background=0)
    source = Finished(info, legend, lambda region: truth_YX[region.slices], None, None)
    for name in ("a.geojson", "a.gpkg"):
        assert write_polygons(tmp_path / name, source) > 20
        np.testing.assert_array_equal(rasterised(tmp_path / name, info), truth_YX)
        np.testing.assert_array_equal(
            rasterised(tmp_path / name, info, Region((100, 200), (333, 444))), truth_YX[100:333, 200:444]
        )


def test_a_label_in_another_zone_stops_training_by_name(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    from unetkit.core.errors import DataError

    data = parts(shared_data("geo"), tmp_path / "data")
    moved = data / "masks" / "part0-0.tif"
    with rasterio.open(moved, "r+") as file:
        file.crs = rasterio.crs.CRS.from_epsg(32617)
    with pytest.raises(DataError) as caught:
        uk.train(data, tmp_path / "run", REQUEST)
    assert str(moved) in str(caught.value)
    assert "EPSG:32617 (WGS 84 / UTM zone 17N), not EPSG:32616 (WGS 84 / UTM zone 16N)" in str(caught.value)


def test_what_an_image_does_not_hold_is_not_learnt(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    from unetkit.data.case import Case
    from unetkit.data.labels.survey import infer_legend
    from unetkit.data.prepared.label_reader import LabelReader
    from unetkit.data.prepared.plan import PreparePlan
    from unetkit.data.prepared.prepare import CaseReader

    data = parts(shared_data("geo"), tmp_path / "data")
    image = data / "images" / "part0-0.tif"
    with rasterio.open(image, "r+") as file:
        pixels = file.read()
        pixels[:, :50] = 0  # its nodata value
        file.write(pixels)
    case = Case("a", (image,), data / "masks" / "part0-0.tif")
    legend, _ = infer_legend([case])
    with CaseReader(case, PreparePlan()) as reader, LabelReader(case, legend, reader) as label:
        image_CYX, label_YX = reader.read(reader.whole), label.read(label.whole)
    assert (label_YX[:50] == IGNORE).all()
    assert (image_CYX[:, :50] == 0).all()  # the mean
    rest = image_CYX[:, 50:]
    assert abs(float(rest.mean())) < 0.01
    assert float(rest.std()) == pytest.approx(1, abs=0.01)
