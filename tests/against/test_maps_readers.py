"""Maps against the libraries that define them: GDAL (rasterio, pyogrio) and, for the pixels alone, tifffile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from unetkit.core.region import Region
from unetkit.data.formats import ImageInfo, MapGrid, create_image, open_image
from unetkit.data.formats.maps.vector import rasterised

rasterio = pytest.importorskip("rasterio", reason="maps need the geo packages")
affine = pytest.importorskip("affine", reason="maps need the geo packages")
shapely = pytest.importorskip("shapely", reason="maps need the geo packages")
pyogrio = pytest.importorskip("pyogrio", reason="maps need the geo packages")

PLACE = affine.Affine(10.0, 0.0, 300000.0, 0.0, -10.0, 5000000.0)
LAYOUTS: list[dict[str, Any]] = [
    {},
    {"compress": "lzw", "predictor": 2},
    {"compress": "deflate", "interleave": "pixel"},
    {"tiled": True, "blockxsize": 32, "blockysize": 16, "compress": "zstd"},
    {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": "pixel", "BIGTIFF": "YES"},
    {"ENDIANNESS": "BIG", "compress": "deflate"},
    {"driver": "COG", "compress": "deflate", "blocksize": 128},
]


def written(path: Path, array_CYX: Any, **layout: Any) -> Path:
    count, height, width = array_CYX.shape
    profile = {"driver": "GTiff", "crs": "EPSG:32633", "transform": PLACE, "dtype": array_CYX.dtype} | layout
    with rasterio.open(path, "w", count=count, height=height, width=width, **profile) as file:
        file.write(array_CYX)
    return path


def values(shape: tuple[int, ...], dtype: str) -> Any:
    rng = np.random.default_rng(len(dtype))
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "uint32", "float32", "float64"])
def test_any_region_holds_what_gdal_and_tifffile_read(tmp_path: Path, layout: dict[str, Any], dtype: str) -> None:
    from rasterio.windows import Window

    image_CYX = values((3, 101, 83), dtype)
    path = written(tmp_path / "a.tif", image_CYX, **layout)
    with open_image(path) as reader, rasterio.open(path) as file:
        for top, left, height, width in ((0, 0, 101, 83), (13, 7, 50, 60), (100, 82, 1, 1), (31, 0, 2, 83)):
            found = reader.read(Region((top, left), (top + height, left + width)))
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, file.read(window=Window(left, top, width, height)))
        info = reader.info
        assert info.map is not None
        assert rasterio.crs.CRS.from_wkt(info.map.crs) == file.crs
        assert info.map.transform == tuple(file.transform)[:6]
    stored = tifffile.imread(path)
    np.testing.assert_array_equal(np.moveaxis(stored, -1, 0) if stored.shape[-1] == 3 else stored, image_CYX)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_what_is_written_is_read_by_gdal_and_tifffile(tmp_path: Path, dtype: str, channels: int) -> None:
    like = written(tmp_path / "like.tif", values((1, 530, 700), "uint8"))
    result_CYX = values((channels, 530, 700), dtype)
    with create_image(tmp_path / "r.tif", (530, 700), channels, dtype, like=like) as writer:
        for top, left in ((0, 0), (0, 411), (97, 0), (97, 411)):  # any order, any borders
            region = Region((top, left), (97 if top == 0 else 530, 411 if left == 0 else 700))
            writer.write(region, result_CYX[(slice(None), *region.slices)])
    with rasterio.open(tmp_path / "r.tif") as file, rasterio.open(like) as source:
        np.testing.assert_array_equal(file.read(), result_CYX)
        assert (file.crs, file.transform) == (source.crs, source.transform)
    stored = tifffile.imread(tmp_path / "r.tif")
    stored = np.moveaxis(stored, -1, 0) if channels == 3 and dtype == "uint8" else stored
    np.testing.assert_array_equal(stored.reshape(result_CYX.shape), result_CYX)


def test_single_bits_and_palettes_are_read_as_gdal_reads_them(tmp_path: Path) -> None:
    bits_CYX = values((1, 40, 50), "uint8") % 2
    with open_image(written(tmp_path / "bits.tif", bits_CYX, nbits=1)) as reader:
        np.testing.assert_array_equal(reader.read(), bits_CYX * 255)  # as of any image of one bit
    indices_CYX = values((1, 40, 50), "uint8") % 4
    path = written(tmp_path / "palette.tif", indices_CYX, photometric="palette")
    table = {0: (0, 0, 0, 255), 1: (255, 0, 0, 255), 2: (0, 128, 0, 255), 3: (9, 8, 7, 255)}
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, table)
    with open_image(path) as reader:
        assert reader.info.mode == "palette"
        np.testing.assert_array_equal(reader.read(palette="indices"), indices_CYX)
        colours = np.array([table[n][:3] for n in range(4)], np.uint8)
        np.testing.assert_array_equal(reader.read(), np.moveaxis(colours[indices_CYX[0]], -1, 0))


@pytest.mark.parametrize("epsg", [32633, 4326, 3035])
@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".shp"])
def test_areas_are_drawn_as_gdal_draws_them_on_the_grid_of_the_map(tmp_path: Path, suffix: str, epsg: int) -> None:
    from rasterio.features import rasterize
    from rasterio.warp import transform_geom

    rng = np.random.default_rng(11)
    corners = np.array(PLACE @ np.zeros(2))
    polygons = [
        shapely.MultiPoint(corners + (rng.random((6, 2)) * 300 + rng.random(2) * 500) * (1, -1)).convex_hull
        for _ in range(25)
    ]
    moved = [shapely.geometry.shape(transform_geom("EPSG:32633", f"EPSG:{epsg}", p)) for p in polygons]
    path = tmp_path / f"a{suffix}"
    numbers = np.arange(1, 26, dtype=np.int32)
    pyogrio.raw.write(
        path, shapely.to_wkb(np.array(moved, object)), [numbers], ["class"], geometry_type="Polygon",
        crs=f"EPSG:{epsg}", **({"WRITE_BBOX": "NO", "RFC7946": "NO", "COORDINATE_PRECISION": 15} if suffix == ".geojson"
        else {}),
    )  # fmt: skip
    info = ImageInfo(
        (90, 80), 1, False, "uint8", "grey",
        map=MapGrid(rasterio.crs.CRS.from_epsg(32633).to_wkt(), tuple(PLACE)[:6]),  # type: ignore[arg-type]
    )  # fmt: skip
    expected_YX = rasterize(
        zip(polygons, numbers.tolist(), strict=True), out_shape=(90, 80), transform=PLACE, dtype="uint8"
    )
    found_YX = rasterised(path, info)
    assert expected_YX.max() == 25
    # what lies on the very border of a pixel's centre may fall either way after two projections
    assert np.count_nonzero(found_YX != expected_YX) <= 2
