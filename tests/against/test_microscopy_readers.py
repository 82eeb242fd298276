"""Stacks and OME-Zarr against other packages: what they write is read alike, what is written they read and accept."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image, ImageSequence

from unetkit.core.region import Region
from unetkit.data.formats import Reading, TargetClass, create_image, open_image, probe

CLASSES = (TargetClass("background", 0, (0, 0, 0)), TargetClass("cell", 1, (230, 159, 0)))
SHAPE = (6, 70, 50)


def noise(shape: tuple[int, ...], dtype: str = "uint16", top: int = 250) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top, shape).astype(dtype)


def write(path: Path, pixels: np.ndarray, like: Path | None = None, **more: object) -> None:
    with create_image(path, pixels.shape[1:], len(pixels), pixels.dtype, like=like, **more) as writer:  # type: ignore[arg-type]
        for region in writer.bands(5000):
            writer.write(region, pixels[(slice(None), *region.slices)])


def read(path: Path, region: Region | None = None, reading: Reading | None = None) -> np.ndarray:
    with open_image(path, reading or Reading()) as reader:
        return reader.read(region)


def their_image(path: Path, version: int) -> np.ndarray:
    """An image of two channels in two levels whose metadata the package of the OME community writes."""
    models = pytest.importorskip("ome_zarr_models")
    specs = pytest.importorskip("pydantic_zarr.v3" if version == 3 else "pydantic_zarr.v2")
    module = models.v05 if version == 3 else models.v04
    if version == 2:  # the package leaves this to its caller
        module.Image.model_rebuild(_types_namespace={"ArraySpec": specs.ArraySpec, "GroupSpec": specs.GroupSpec})
    pixels = noise((1, 2, 12, 70, 50))
    levels = [pixels, np.ascontiguousarray(pixels[..., ::2, ::2])]
    names = {"dimension_names": list("tczyx")} if version == 3 else {}
    kinds = [("t", "time", "second"), ("c", "channel", None), *((n, "space", "nanometer") for n in "zyx")]
    image = module.Image.new(
        array_specs=[specs.ArraySpec.from_array(array, **names) for array in levels],
        paths=["full", "half"],
        axes=[module.axes.Axis(name=n, type=t, unit=u) for n, t, u in kinds],
        scales=[[1, 1, 400, 100, 100], [1, 1, 400, 200, 200]],
        translations=[None, None],
        global_scale=[1, 1, 2, 2, 2],
    )
    group = image.to_zarr(zarr.storage.LocalStore(path), path="")
    for name, array in zip(("full", "half"), levels, strict=True):
        group[name][...] = array
    return pixels[0]


@pytest.mark.parametrize("version", [2, 3])
def test_ome_zarr_of_the_community_is_read(tmp_path: Path, version: int) -> None:
    pixels = their_image(tmp_path / "a.zarr", version)
    info = probe(tmp_path / "a.zarr")
    assert (info.shape, info.channels, info.axes, info.spacing, info.unit) == (
        (12, 70, 50), 2, "ZYX", (800, 200, 200), "nm",
    )  # fmt: skip
    box = Region((2, 11, 5), (9, 60, 40))
    np.testing.assert_array_equal(read(tmp_path / "a.zarr", box), pixels[(slice(None), *box.slices)])
    np.testing.assert_array_equal(read(tmp_path / "a.zarr", reading=Reading(level=1)), pixels[..., ::2, ::2])


def test_ome_zarr_that_is_written_is_accepted(tmp_path: Path) -> None:
    """Image, probabilities, a mask as image and as label, and the list of labels, each by the models of version 0.5."""
    models = pytest.importorskip("ome_zarr_models.v05")
    their_image(tmp_path / "like.zarr", 3)
    mask, scores = noise((1, 12, 70, 50), "uint8", 2), noise((2, 12, 70, 50), "float32")
    write(tmp_path / "m.zarr", mask, tmp_path / "like.zarr", classes=CLASSES)
    write(tmp_path / "p.zarr", scores, tmp_path / "like.zarr", channel_names=("background", "cell"))
    write(tmp_path / "large.zarr", noise((1, 700, 600), "uint8", 2), classes=CLASSES)
    for name, pixels in (("m.zarr", mask[0]), ("p.zarr", scores)):
        image = models.image.Image.from_zarr(zarr.open_group(tmp_path / name, mode="r"))
        scale = image.attributes.ome.multiscales[0].datasets[0].coordinateTransformations[0].scale
        assert [float(s) for s in scale[-3:]] == [800, 200, 200]
        path = image.attributes.ome.multiscales[0].datasets[0].path
        np.testing.assert_array_equal(zarr.open_group(tmp_path / name, mode="r")[path][...], pixels)
    for name in ("m.zarr", "large.zarr"):
        assert models.labels.Labels.from_zarr(zarr.open_group(tmp_path / name / "labels", mode="r"))
        label = models.image_label.ImageLabel.from_zarr(
            zarr.open_group(tmp_path / name / "labels" / "segmentation", mode="r")
        )
        said = label.attributes.ome.image_label
        assert [c.rgba for c in said.colors] == [(0, 0, 0, 0), (230, 159, 0, 255)]
        assert [p.label_value for p in said.properties] == [0, 1]


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_stacks_that_are_written_are_read_by_libtiff(tmp_path: Path, name: str, dtype: str) -> None:
    """By Pillow page by page and by ITK as a volume: neither knows how tifffile or we lay out a stack."""
    pixels = noise((1, *SHAPE), dtype)
    write(tmp_path / name, pixels)
    with Image.open(tmp_path / name) as image:
        pages = np.stack([np.array(page) for page in ImageSequence.Iterator(image)])
    np.testing.assert_array_equal(pages, pixels[0])
    itk = pytest.importorskip("SimpleITK")
    np.testing.assert_array_equal(itk.GetArrayFromImage(itk.ReadImage(str(tmp_path / name))), pixels[0])


def test_a_stack_of_itk_is_read(tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK")
    pixels = noise(SHAPE)
    itk.WriteImage(itk.GetImageFromArray(pixels), str(tmp_path / "a.tif"), useCompression=True)
    info = probe(tmp_path / "a.tif")
    assert (info.shape, info.axes) == (SHAPE, "ZYX")
    assert "are taken as Z, Y, X" in info.notes[0]
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[0], pixels)


def test_bands_that_are_written_are_read_by_gdal(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    pixels = noise((5, 70, 50), "float32")
    write(tmp_path / "a.tif", pixels)
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(tmp_path / "a.tif") as data:
        np.testing.assert_array_equal(data.read(), pixels)


def test_overviews_of_gdal_are_levels(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    pixels = noise((1, 512, 600))
    options = {"driver": "GTiff", "count": 1, "dtype": "uint16", "tiled": True, "blockxsize": 128, "blockysize": 128}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "a.tif", "w", height=512, width=600, compress="deflate", **options) as data:
            data.write(pixels)
        with rasterio.open(tmp_path / "a.tif", "r+") as data:
            data.build_overviews([2, 4])
        with rasterio.open(tmp_path / "a.tif", overview_level=0) as data:
            half = data.read()
    assert probe(tmp_path / "a.tif").levels == ((512, 600), (256, 300), (128, 150))
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), pixels)
    np.testing.assert_array_equal(read(tmp_path / "a.tif", reading=Reading(level=1)), half)
