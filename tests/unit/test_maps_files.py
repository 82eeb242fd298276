"""GeoTIFF: what is read from one, what results over one carry, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetkit.core.errors import DataError, MachineError
from unetkit.core.region import Region
from unetkit.data.formats import ImageInfo, MapGrid, Reading, TargetClass, create_image, open_image, probe
from unetkit.data.formats.maps.geotiff import is_map, missing, valid
from unetkit.data.formats.maps.map_places import same_map

rasterio = pytest.importorskip("rasterio", reason="maps need the geo packages")
affine = pytest.importorskip("affine", reason="maps need the geo packages")

PLACE = affine.Affine(0.5, 0.0, 733601.0, 0.0, -0.5, 3725139.0)
CLASSES = (TargetClass("background", 0, (0, 0, 0)), TargetClass("roof", 255, (230, 159, 0)))


def geotiff(path: Path, array_CYX: Any, epsg: int | None = 32616, place: Any = PLACE, **more: Any) -> Path:
    count, height, width = array_CYX.shape
    overviews, tags, names = more.pop("overviews", []), more.pop("tags", {}), more.pop("names", [])
    profile = {"driver": "GTiff", "tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"} | more
    crs = None if epsg is None else rasterio.crs.CRS.from_epsg(epsg)
    with rasterio.open(
        path, "w", height=height, width=width, count=count, dtype=array_CYX.dtype, crs=crs, transform=place, **profile
    ) as file:
        file.update_tags(**tags)
        for number, name in enumerate(names, 1):
            file.set_band_description(number, name)
        file.write(array_CYX)
        if overviews:
            file.build_overviews(overviews)
    return path


def noise(shape: tuple[int, ...], dtype: str = "uint16", seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(1, 200, shape).astype(dtype)


def mask_over(path: Path, like: Path, value: int = 255, **options: Any) -> Path:
    shape = probe(like, options.get("reading", Reading())).shape
    with create_image(path, shape, 1, "uint8", like=like, **({"classes": CLASSES} | options)) as writer:
        for region in writer.bands(10_000):
            writer.write(region, np.full(region.shape, value, np.uint8))
    return path


def test_the_header_says_where_a_map_lies_and_what_its_bands_are(tmp_path: Path) -> None:
    image_CYX = noise((4, 150, 200))
    path = geotiff(
        tmp_path / "a.tif", image_CYX, nodata=0, overviews=[2, 4], names=["blue", "green", "red", "infrared"]
    )
    info = probe(path)
    assert info.shape == (150, 200)
    assert (info.channels, info.dtype, info.mode, info.axes) == (4, "uint16", "bands", "YX")
    assert info.channel_names == ("blue", "green", "red", "infrared")
    assert (info.spacing, info.unit) == ((0.5, 0.5), "m")
    assert info.map is not None
    assert rasterio.crs.CRS.from_wkt(info.map.crs).to_epsg() == 32616
    assert info.map.transform == tuple(PLACE)[:6]
    assert info.nodata == 0.0
    assert info.levels == ((150, 200), (75, 100), (38, 50))
    assert info.chunk == (64, 64)
    assert info.notes == ()


@pytest.mark.parametrize(
    ("epsg", "unit", "factor"), [(32616, "m", 1.0), (4326, "degree", 1.0), (2263, "m", 1200 / 3937), (None, "", 1.0)]
)
def test_pixel_sizes_are_metres_or_degrees(tmp_path: Path, epsg: int | None, unit: str, factor: float) -> None:
    place = affine.Affine(0.3, 0.0, 10.0, 0.0, -0.4, 50.0)
    info = probe(geotiff(tmp_path / "a.tif", noise((1, 20, 30)), epsg, place))
    assert info.unit == unit
    assert info.spacing == pytest.approx((0.4 * factor, 0.3 * factor), rel=1e-6)


def test_regions_of_any_level_are_read(tmp_path: Path) -> None:
    image_CYX = noise((2, 150, 200))
    path = geotiff(tmp_path / "a.tif", image_CYX, overviews=[2, 4])
    region = Region((60, 3), (130, 199))
    with open_image(path) as reader:
        np.testing.assert_array_equal(reader.read(region), image_CYX[(slice(None), *region.slices)])
    with open_image(path, Reading(level=1)) as reader, rasterio.open(path, overview_level=0) as file:
        assert reader.info.shape == (75, 100)
        assert reader.info.spacing == (1.0, 1.0)
        assert reader.info.map is not None
        assert reader.info.map.transform == (1.0, 0.0, 733601.0, 0.0, -1.0, 3725139.0)
        np.testing.assert_array_equal(reader.read(), file.read())
    assert probe(path, Reading(pixel_size=1.9)).shape == (38, 50)
    with pytest.raises(DataError, match=r"there is no level 3; it has 3 \(0: 150 × 200; 1: 75 × 100; 2: 38 × 50\)"):
        probe(path, Reading(level=3))
    with pytest.raises(DataError, match=r"--axes ZYX does not fit a map, which has bands, rows and columns"):
        probe(path, Reading(axes="ZYX"))


def test_pixels_that_hold_nothing_are_told(tmp_path: Path) -> None:
    image_CYX = noise((2, 40, 50))
    image_CYX[:, :5, :6] = 0
    image_CYX[1, 10, 10] = 0
    whole = Region((0, 0), (40, 50))
    with open_image(geotiff(tmp_path / "nodata.tif", image_CYX, nodata=0)) as reader:
        holds_YX, lost_CYX = valid(reader, whole), missing(reader, whole, reader.read(whole))
        assert valid(reader, Region((20, 20), (30, 30))) is None
    assert holds_YX is not None
    assert lost_CYX is not None
    # a 0 in one channel is a value like others …
    np.testing.assert_array_equal(lost_CYX, np.stack([(image_CYX == 0).all(0)] * 2))
    np.testing.assert_array_equal(holds_YX, (image_CYX != 0).any(0))
    # … and a number that stands for nothing is none
    other_CYX = np.where(image_CYX == 0, 9999, image_CYX).astype(np.uint16)
    with open_image(geotiff(tmp_path / "other.tif", other_CYX, nodata=9999)) as reader:
        lost_CYX, again_YX = missing(reader, whole, reader.read(whole)), valid(reader, whole)
    assert lost_CYX is not None
    assert again_YX is not None
    np.testing.assert_array_equal(lost_CYX, image_CYX == 0)
    np.testing.assert_array_equal(again_YX, holds_YX)
    with open_image(geotiff(tmp_path / "all.tif", image_CYX)) as reader:
        assert valid(reader, whole) is None
    floats_CYX = image_CYX.astype(np.float32)
    floats_CYX[:, 7, 7], floats_CYX[:, 8, 8] = np.nan, -9999
    with open_image(geotiff(tmp_path / "nan.tif", floats_CYX, nodata=-9999)) as reader:
        holds_YX = valid(reader, whole)
    assert holds_YX is not None
    assert np.argwhere(~holds_YX).tolist() == [[7, 7], [8, 8]]
    masked = geotiff(tmp_path / "mask.tif", image_CYX)
    with rasterio.open(masked, "r+") as file:
        file.write_mask(image_CYX[0] != 0)
    with open_image(masked) as reader:
        holds_YX = valid(reader, whole)
    assert holds_YX is not None
    np.testing.assert_array_equal(holds_YX, image_CYX[0] != 0)
    alpha_CYX = noise((4, 40, 50), "uint8")
    alpha_CYX[3, :3] = 0
    with open_image(geotiff(tmp_path / "rgba.tif", alpha_CYX, photometric="rgb", alpha="yes")) as reader:
        assert (reader.info.channels, reader.info.alpha, reader.info.mode) == (3, True, "rgb")
        assert reader.read(whole, alpha=True).shape[0] == 4
        holds_YX = valid(reader, whole)
    assert holds_YX is not None
    np.testing.assert_array_equal(holds_YX, alpha_CYX[3] != 0)


def test_a_mask_over_a_map_has_its_place_its_tags_and_its_holes(tmp_path: Path) -> None:
    image_CYX = noise((2, 150, 200))
    image_CYX[:, 3:20, 4:30] = 0
    like = geotiff(tmp_path / "a.tif", image_CYX, nodata=0, tags={"SENSOR": "WV-3", "AREA_OR_POINT": "Point"})
    with rasterio.open(mask_over(tmp_path / "m.tif", like)) as file, rasterio.open(like) as source:
        assert file.crs == source.crs
        assert file.transform == source.transform
        assert file.tags() == source.tags()
        assert file.tags(1) == {"CLASS_0": "background", "CLASS_255": "roof"}
        assert file.colormap(1)[255] == (230, 159, 0, 255)
        assert file.nodata == 254  # 255 is a class here
        assert file.profile["tiled"]
        assert file.profile["compress"] == "deflate"
        np.testing.assert_array_equal(file.read(1), np.where(image_CYX.any(0), 255, 254))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "m.tif"]


def test_a_mask_of_a_level_has_the_pixels_of_that_level(tmp_path: Path) -> None:
    like = geotiff(tmp_path / "a.tif", noise((1, 150, 200)), overviews=[2])
    path = mask_over(tmp_path / "m.tif", like, reading=Reading(level=1))
    assert same_map(probe(like, Reading(level=1)), probe(path)) == ""
    with rasterio.open(path) as file:
        assert file.nodata is None  # the image has no holes
        assert file.transform.a == 1.0
    with pytest.raises(DataError, match=r"m\.tif: 10 × 9 pixels do not lie over .*a\.tif, which has 200 × 150"):
        create_image(tmp_path / "m.tif", (9, 10), 1, "uint8", like=like).__enter__()


def test_a_mask_of_one_value_is_read_as_that_value(tmp_path: Path) -> None:
    """Its colour table makes it a palette image; one of greys alone would be read as those greys."""
    from unetkit.data.labels.masks import read_raw_label

    like = geotiff(tmp_path / "a.tif", noise((1, 30, 40)))
    black = (TargetClass("background", 255, (0, 0, 0)), TargetClass("membrane", 0, (230, 159, 0)))
    for value in (0, 255):
        path = mask_over(tmp_path / "m.tif", like, value, classes=black)
        assert np.unique(read_raw_label(path)).tolist() == [value]


def test_probabilities_are_float_bands_with_names_and_nan_where_nothing_is(tmp_path: Path) -> None:
    image_CYX = noise((1, 90, 100))
    image_CYX[:, :4] = 0
    like = geotiff(tmp_path / "a.tif", image_CYX, nodata=0)
    scores_CYX = np.random.default_rng(1).random((2, 90, 100)).astype(np.float16)
    with create_image(
        tmp_path / "p.tif", (90, 100), 2, "float16", like=like, channel_names=("background", "roof")
    ) as writer:
        for region in [Region((0, 0), (90, 37)), Region((0, 37), (90, 100))]:
            writer.write(region, scores_CYX[(slice(None), *region.slices)])
    with rasterio.open(tmp_path / "p.tif") as file:
        assert file.dtypes == ("float32", "float32")
        assert file.descriptions == ("background", "roof")
        assert np.isnan(file.nodata)
        assert np.isnan(file.read()[:, :4]).all()
        np.testing.assert_array_equal(file.read()[:, 4:], scores_CYX[:, 4:])


def test_a_mask_in_colours_has_a_mask_of_its_own_for_what_holds_nothing(tmp_path: Path) -> None:
    image_CYX = noise((1, 40, 50))
    image_CYX[:, 5] = 0
    like = geotiff(tmp_path / "a.tif", image_CYX, nodata=0)
    with create_image(tmp_path / "m.tif", (40, 50), 3, "uint8", like=like) as writer:
        for region in writer.bands(1):
            writer.write(region, np.full((3, *region.shape), 9, np.uint8))
    with open_image(tmp_path / "m.tif") as reader:
        assert reader.info.mode == "rgb"
        holds_YX = valid(reader, Region((0, 0), (40, 50)))
    assert holds_YX is not None
    np.testing.assert_array_equal(holds_YX, image_CYX[0] != 0)


def test_large_results_are_written_in_blocks_and_have_overviews(tmp_path: Path) -> None:
    shape = (600, 4500)
    like = geotiff(tmp_path / "a.tif", np.ones((1, *shape), np.uint8))
    with create_image(tmp_path / "m.tif", shape, 1, "uint8", like=like, classes=CLASSES) as writer:
        regions = list(writer.bands(600_000))
        assert max(r.size for r in regions) <= 600_000
        assert all(start % 512 == 0 for r in regions for start in r.start)
        for region in regions:
            writer.write(region, np.full(region.shape, 255, np.uint8))
    with rasterio.open(tmp_path / "m.tif") as file:
        assert file.overviews(1) == [2, 4, 8, 16]
        assert file.read(1).min() == 255


def test_a_result_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    like = geotiff(tmp_path / "a.tif", noise((1, 30, 40)))

    def broken() -> None:
        with create_image(tmp_path / "m.tif", (30, 40), 1, "uint8", like=like) as writer:
            writer.write(Region((0, 0), (10, 40)), np.zeros((10, 40), np.uint8))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_control_points_and_world_files_are_kept(tmp_path: Path) -> None:
    from rasterio.control import GroundControlPoint

    points = [GroundControlPoint(r, c, 100.0 + c, 50.0 - r) for r, c in ((0, 0), (0, 40), (30, 0), (30, 40))]
    like = geotiff(tmp_path / "a.tif", noise((1, 30, 40)), gcps=points, place=None)
    info = probe(like)
    assert info.map is None
    assert "the map has ground control points instead of a transform" in info.notes[0]
    with rasterio.open(mask_over(tmp_path / "m.tif", like)) as file:
        assert [(p.row, p.col, p.x, p.y) for p in file.gcps[0]] == [(p.row, p.col, p.x, p.y) for p in points]
    import tifffile

    tifffile.imwrite(tmp_path / "w.tif", noise((30, 40)))
    assert not is_map(tmp_path / "w.tif")
    (tmp_path / "w.tfw").write_text("0.5\n0\n0\n-0.5\n100.25\n49.75\n")
    grid = probe(tmp_path / "w.tif").map
    assert grid == MapGrid("", (0.5, 0.0, 100.0, 0.0, -0.5, 50.0))


def test_mosaics_are_maps(tmp_path: Path) -> None:
    image_CYX = noise((1, 40, 50))
    source = geotiff(tmp_path / "a.tif", image_CYX)
    wkt = rasterio.crs.CRS.from_epsg(32616).to_wkt().replace('"', "&quot;")
    (tmp_path / "m.vrt").write_text(
        f'<VRTDataset rasterXSize="50" rasterYSize="40"><SRS>{wkt}</SRS>'
        "<GeoTransform>733601, 0.5, 0, 3725139, 0, -0.5</GeoTransform>"
        f'<VRTRasterBand dataType="UInt16" band="1"><SimpleSource><SourceFilename relativeToVRT="1">{source.name}'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with open_image(tmp_path / "m.vrt") as reader:
        assert same_map(probe(source), reader.info) == ""
        np.testing.assert_array_equal(reader.read(Region((3, 4), (20, 30))), image_CYX[:, 3:20, 4:30])
    assert same_map(probe(source), probe(mask_over(tmp_path / "r.tif", tmp_path / "m.vrt"))) == ""


def test_a_map_without_a_reference_system_says_so(tmp_path: Path) -> None:
    info = probe(geotiff(tmp_path / "a.tif", noise((1, 30, 40)), None))
    assert info.map == MapGrid("", tuple(PLACE)[:6])  # type: ignore[arg-type]
    assert "but not in which coordinate reference system (CRS)" in info.notes[0]
    assert "rio edit-info --crs EPSG:… FILE" in info.notes[0]


def test_damaged_maps_are_refused_by_name(tmp_path: Path) -> None:
    path = geotiff(tmp_path / "a.tif", noise((2, 150, 200)), overviews=[2])
    content = path.read_bytes()
    for size in (len(content) // 2, 2000, 60):
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match=r"a\.tif: the file is truncated or damaged"), open_image(path) as reader:
            reader.read()
    path.write_bytes(content[:20_000] + b"\xff" * 3000 + content[23_000:])
    with pytest.raises(DataError, match=r"a\.tif: the file is truncated or damaged"), open_image(path) as reader:
        reader.read()
    radar = geotiff(tmp_path / "r.tif", noise((1, 30, 40)).astype(np.complex64))
    with pytest.raises(DataError, match=r"r\.tif: values of type complex64 are not read; save amplitudes"):
        probe(radar)
    (tmp_path / "m.vrt").write_text("<VRTDataset")
    with pytest.raises(DataError, match=r"m\.vrt: the file is truncated or damaged"):
        probe(tmp_path / "m.vrt")


def test_without_rasterio_a_map_is_an_image_that_says_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_CYX = noise((3, 40, 50), "uint8")
    like = geotiff(tmp_path / "a.tif", image_CYX, photometric="rgb")
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with open_image(like) as reader:
        np.testing.assert_array_equal(reader.read(), image_CYX)
        assert reader.info.map is None
        assert "rasterio is not installed: pip install 'unetkit[geo]'" in reader.info.notes[-1]
    mask_over(tmp_path / "m.tif", like)
    (tmp_path / "m.vrt").write_text("<VRTDataset/>")
    with pytest.raises(MachineError, match=r"rasterio package, which is not installed: pip install 'unetkit\[geo\]'"):
        probe(tmp_path / "m.vrt")


def placed(epsg: int | None, *transform: float) -> ImageInfo:
    wkt = "" if epsg is None else rasterio.crs.CRS.from_epsg(epsg).to_wkt()
    return ImageInfo((100, 200), 1, False, "uint8", "grey", map=MapGrid(wkt, transform))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (placed(32616, 0.5, 0, 1000, 0, -0.5, 2000), ""),
        (placed(32616, 0.5, 0, 1000.05, 0, -0.5, 2000), ""),  # rounded
        (placed(None, 0.5, 0, 1000, 0, -0.5, 2000), ""),
        (
            placed(32617, 0.5, 0, 1000, 0, -0.5, 2000),
            "its coordinate reference system is EPSG:32617 (WGS 84 / UTM zone 17N), not EPSG:32616 (WGS 84 / UTM zone "
            "16N)",
        ),
        (placed(32616, 0.6, 0, 1000, 0, -0.6, 2000), "its pixels are 0.6 × 0.6, not 0.5 × 0.5"),
        (
            placed(32616, 0.5, 0, 1003, 0, -0.5, 1998),
            "its upper left corner lies at (1003, 1998), not at (1000, 2000): 6 pixels to the right, 4 pixels down",
        ),
        (
            placed(32616, 0, 0.5, 1000, -0.5, 0, 2000),
            "it is turned against the image: its transform is (0, 0.5, 1000, -0.5, 0, 2000), not (0.5, 0, 1000, 0, "
            "-0.5, 2000)",
        ),
    ],
)
def test_what_differs_between_the_places_of_two_maps_is_said(other: ImageInfo, text: str) -> None:
    image = placed(32616, 0.5, 0, 1000, 0, -0.5, 2000)
    assert same_map(image, other) == text


def test_what_a_mask_marks_as_nothing_is_not_annotated(tmp_path: Path) -> None:
    from unetkit.data.case import IGNORE, Case
    from unetkit.data.labels.masks import OpenLabel
    from unetkit.data.labels.survey import infer_legend

    values_CYX = np.repeat(np.repeat(np.random.default_rng(3).integers(0, 2, (1, 8, 8)), 10, 1), 10, 2)
    image = geotiff(tmp_path / "i.tif", noise((1, 80, 80)))
    for dtype, nothing in (("uint8", 255), ("uint16", 60000), ("int32", -1), ("float32", -9999)):
        label_CYX = values_CYX.astype(dtype)
        label_CYX[:, :6] = nothing
        path = geotiff(tmp_path / f"{dtype}.tif", label_CYX, nodata=nothing)
        case = Case("a", (image,), path)
        legend, survey = infer_legend([case])
        assert [c.value for c in legend.classes] == [0, 1]
        assert survey.cases[0].ignored == 6 * 80
        with OpenLabel(case, legend) as label:
            found_YX = label.read(Region((0, 0), (80, 80)))
        np.testing.assert_array_equal(found_YX[:6], IGNORE)
        np.testing.assert_array_equal(found_YX[6:], values_CYX[0, 6:])
    # of many masks of maps, 0 is both the background and nodata
    path = geotiff(tmp_path / "zero.tif", values_CYX.astype("uint8"), nodata=0)
    legend, survey = infer_legend([Case("a", (image,), path)])
    assert [c.value for c in legend.classes] == [0, 1]
    assert survey.cases[0].ignored == 0


def test_a_written_mask_is_read_back_with_its_holes_not_annotated(tmp_path: Path) -> None:
    from unetkit.data.labels.legend import UNANNOTATED
    from unetkit.data.labels.masks import read_raw_label

    image_CYX = noise((1, 60, 70))
    image_CYX[:, 50:] = 0
    like = geotiff(tmp_path / "a.tif", image_CYX, nodata=0)
    label_YX = read_raw_label(mask_over(tmp_path / "m.tif", like))
    assert np.unique(label_YX[:50]).tolist() == [255]
    assert np.unique(label_YX[50:]).tolist() == [UNANNOTATED]


def test_bands_in_files_of_their_own_lie_on_one_grid(tmp_path: Path) -> None:
    from unetkit.data.case import Case
    from unetkit.data.source import open_case

    image_CYX = noise((2, 40, 50))
    image_CYX[0, 3], image_CYX[:, 5] = 0, 0
    bands = tuple(geotiff(tmp_path / f"B0{n}.tif", image_CYX[n : n + 1], nodata=0) for n in range(2))
    with open_case(Case("a", bands)) as reader:
        holds_YX = valid(reader, Region((0, 0), (40, 50)))
        assert same_map(probe(bands[0]), reader.info) == ""
    assert holds_YX is not None
    np.testing.assert_array_equal(holds_YX, image_CYX.any(0))
    geotiff(bands[1], image_CYX[1:], 32617)
    with pytest.raises(DataError, match=r"B01\.tif: it does not lie over B00\.tif of the same case: its coordinate"):
        open_case(Case("a", bands))
