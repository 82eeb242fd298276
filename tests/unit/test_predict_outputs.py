"""What is written of a prediction, by what name and in which format; what else is written beside the masks."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from unetkit.core.errors import DataError
from unetkit.core.events import drain
from unetkit.data.case import Case
from unetkit.data.formats import AS_THEY_ARE, Reading, open_image, probe
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.data.prepared.plan import PreparePlan
from unetkit.nets.build import build
from unetkit.nets.spec import NetSpec
from unetkit.plan.parts import PostPlan
from unetkit.predict.model import Model
from unetkit.predict.options import OutputOptions, PredictOptions
from unetkit.predict.outputs import plan_jobs
from unetkit.predict.run import PredictResult, predict

TWO = Legend(
    kind="values",
    classes=tuple(LegendClass(name=n, value=v, colour=(v, 0, 0)) for n, v in (("background", 0), ("cell", 7))),
    background=0,
)


def model(ndim: int = 2, legend: Legend = TWO, post: PostPlan | None = None, **prepare: object) -> Model:
    spec = NetSpec(ndim=ndim, channels=(4, 6), blocks=1, classes=len(legend.classes))
    return Model(build(spec, seed=3).eval(), legend, PreparePlan(**prepare), post or PostPlan())


def run(what: Model, source: object, out: Path, reading: Reading | None = None, **outputs: object) -> PredictResult:
    options = PredictOptions(precision="fp32")
    if reading is not None:
        options = PredictOptions(precision="fp32", level=reading.level, axes=reading.axes)
    return drain(predict(what, source, out, options, OutputOptions(**outputs)))


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != ".lock")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("image", "mask", "scores"),
    [
        ("a.png", "a.png", "a.tif"),
        ("a.jpg", "a.png", "a.tif"),
        ("a.tif", "a.tif", "a.tif"),
        ("a.ome.tif", "a.ome.tif", "a.ome.tif"),
        ("a.nii.gz", "a.nii.gz", "a.nii.gz"),
        ("a.nrrd", "a.nrrd", "a.nrrd"),
        ("a.nhdr", "a.nrrd", "a.nrrd"),
        ("a.mhd", "a.mha", "a.mha"),
        ("a.dcm", "a.nii.gz", "a.nii.gz"),
        ("1.2.840.113", "1.2.840.113.nii.gz", "1.2.840.113.nii.gz"),
        ("a.npy", "a.npy", "a.npy"),
        ("a.npz", "a.npy", "a.npy"),
        ("a.h5", "a.h5", "a.h5"),
        ("a.zarr", "a.zarr", "a.zarr"),
        ("a.svs", "a.tif", "a.tif"),
        ("a.jp2", "a.tif", "a.tif"),
        ("a.edf", "a.csv", "a.csv"),
        ("a.parquet", "a.csv", "a.csv"),
    ],
)
def test_masks_keep_their_format_where_it_loses_nothing(tmp_path, image, mask, scores):
    path = tmp_path / "in" / image
    path.parent.mkdir()
    path.mkdir() if image.startswith("1.2") else path.write_bytes(b"")
    (job,) = plan_jobs([path], tmp_path / "out", TWO, OutputOptions(probabilities=True), channels=3)
    assert [p.relative_to(tmp_path / "out").as_posix() for p in job.targets] == [mask, f"probabilities/{scores}"]


def test_images_inside_a_file_are_told_apart(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.h5").write_bytes(b"")
    sources = [tmp_path / "in" / "a.h5" / "volumes" / "raw", tmp_path / "in" / "a.h5" / "volumes" / "other"]
    jobs = plan_jobs(sources, tmp_path / "out", TWO, OutputOptions())
    assert [job.label.name for job in jobs] == ["a_volumes_raw.h5", "a_volumes_other.h5"]
    with pytest.raises(DataError, match="would be written among the images themselves"):
        plan_jobs(sources, tmp_path / "in", TWO, OutputOptions())


def test_the_format_may_be_chosen(tmp_path):
    source = tmp_path / "in" / "a.png"
    for kind, suffix in ((".nrrd", ".nrrd"), ("ome.tif", ".ome.tif"), (".zarr", ".zarr"), (".dcm", ".dcm")):
        (job,) = plan_jobs([source], tmp_path / "out", TWO, OutputOptions(format=kind, polygons="gpkg"))
        assert [p.name for p in job.targets] == [f"a{suffix}", "a.gpkg"]
    for kind in (".jpg", ".edf", ".docx"):
        with pytest.raises(DataError, match=rf"format {kind}: masks are written as \.png, .*; choose one of them"):
            plan_jobs([source], tmp_path / "out", TWO, OutputOptions(format=kind))


@pytest.mark.parametrize("kind", [".npy", ".tif", ".nrrd", ".nii.gz", ".h5", ".zarr", ".mha"])
def test_a_volume_is_written_in_any_format(tmp_path, kind):
    voxels = np.random.default_rng(0).normal(size=(12, 14, 10)).astype(np.float32)
    (tmp_path / "in").mkdir()
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([2, 1, 1, 1])), tmp_path / "in" / "a.nii.gz")
    result = run(model(3), tmp_path / "in" / "a.nii.gz", tmp_path / "out", format=kind, probabilities=True)
    assert not result.failed
    run(model(3), tmp_path / "in" / "a.nii.gz", tmp_path / "as_is", probabilities=True)
    axes = Reading(axes="CZYX")  # an array does not say that it has channels
    for name in (f"a{kind}", f"probabilities/a{kind}"):
        with (
            open_image(tmp_path / "out" / name, axes if kind == ".npy" and "/" in name else AS_THEY_ARE) as made,
            open_image(tmp_path / "as_is" / f"{name[: -len(kind)]}.nii.gz") as as_is,
        ):
            np.testing.assert_allclose(made.read(), as_is.read(), atol=1e-3)


def test_what_a_format_cannot_hold_is_said_before_anything_is_predicted(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 9, 9), np.float32), np.eye(4)), tmp_path / "in" / "a.nii")
    result = run(model(3), tmp_path / "in" / "a.nii", tmp_path / "out", format=".png")
    assert "a.png: a volume is written as" in result.failed[0][1]
    result = run(model(3), tmp_path / "in" / "a.nii", tmp_path / "out", polygons="geojson")
    assert result.failed[0][1].endswith("outlines are drawn of images with 2 axes, and this has 3; leave them out")
    result = run(model(3), tmp_path / "in" / "a.nii", tmp_path / "out", format="csv")
    assert result.failed[0][1].endswith("a table has one row per sample of a signal, and this has 3 axes")
    assert names(tmp_path / "out") == []


def test_a_level_of_a_pyramid_has_its_own_size_and_geometry(tmp_path):
    path = tmp_path / "in" / "slide.ome.tif"
    path.parent.mkdir()
    image = noise(160, 200)
    with tifffile.TiffWriter(path, ome=True) as tif:
        metadata = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        tif.write(image, subifds=1, tile=(32, 32), metadata=metadata)
        tif.write(image[::2, ::2], subfiletype=1, tile=(32, 32))
    run(model(), path, tmp_path / "full")
    run(model(), path, tmp_path / "half", Reading(level=1))
    assert probe(tmp_path / "full" / "slide.ome.tif").shape == (160, 200)
    half = probe(tmp_path / "half" / "slide.ome.tif")
    assert half.shape == (80, 100)
    assert half.spacing == pytest.approx((1, 1))
    by_size = drain(
        predict(model(), path, tmp_path / "size", PredictOptions(precision="fp32", pixel_size=1.1), OutputOptions())
    )
    assert probe(by_size.done[0]).shape == (80, 100)


def test_axes_may_be_named(tmp_path):
    path = tmp_path / "in" / "a.npy"
    path.parent.mkdir()
    np.save(path, noise(40, 30, 1))
    result = run(model(), path, tmp_path / "out", Reading(axes="YXC"))
    assert not result.failed
    assert probe(result.done[0]).shape == (40, 30)


def regions() -> Legend:
    classes = [LegendClass(name=n, value=v, colour=(v, 0, 0)) for n, v in (("tumour", 255), ("core", 255))]
    return Legend(kind="regions", classes=tuple(classes), background=None)


def test_regions_have_a_mask_each(tmp_path):
    legend = regions()
    source = tmp_path / "in" / "a.png"
    source.parent.mkdir()
    Image.fromarray(noise(40, 50)).save(source)
    run(model(legend=legend), source, tmp_path / "out", probabilities=True)
    assert names(tmp_path / "out") == sorted([*(f"{f}/a.png" for f in legend.folders), "probabilities/a.tif"])
    scores = tifffile.imread(tmp_path / "out" / "probabilities" / "a.tif").astype(np.float32)
    for k, folder in enumerate(legend.folders):
        mask = np.array(Image.open(tmp_path / "out" / folder / "a.png"))
        assert set(np.unique(mask)) == {0, 255}
        clear = np.abs(scores[k] - 0.5) > 1e-3
        np.testing.assert_array_equal((mask > 0)[clear], (scores[k] > 0.5)[clear])


def test_objects_have_numbers_and_tables(tmp_path):
    legend = Legend(
        kind="instances",
        classes=tuple(LegendClass(name=n, value=v, colour=(v, 0, 0)) for n, v in (("background", 0), ("cell", 1))),
        background=0,
    )
    source = tmp_path / "in" / "a.png"
    source.parent.mkdir()
    Image.fromarray(noise(64, 80)).save(source)
    what = model(legend=legend, post=PostPlan(smallest=3))
    result = run(what, source, tmp_path / "out", measurements="csv", polygons="geojson", overlay=True)
    assert not result.failed
    assert names(tmp_path / "out") == ["a.png", "measurements/a.csv", "overlays/a.png", "polygons/a.geojson"]
    ids = np.array(Image.open(tmp_path / "out" / "a.png"))
    count = len((tmp_path / "out" / "measurements" / "a.csv").read_text().splitlines()) - 1
    assert ids.max() == count > 3
    features = json.loads((tmp_path / "out" / "polygons" / "a.geojson").read_text())["features"]
    assert len(features) == count


def test_intervals_of_a_signal(tmp_path):
    source = tmp_path / "in" / "a.npy"
    source.parent.mkdir()
    np.save(source, np.random.default_rng(0).normal(size=(1, 500)).astype(np.float32))
    result = run(model(1), source, tmp_path / "out", Reading(axes="CT"), intervals=True)
    assert not result.failed
    assert "intervals/a.csv" in names(tmp_path / "out")
    assert len((tmp_path / "out" / "intervals" / "a.csv").read_text().splitlines()) > 2


def test_pixels_that_hold_nothing_hold_nothing_in_the_mask(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    source = tmp_path / "in" / "map.tif"
    source.parent.mkdir()
    values = np.random.default_rng(0).normal(size=(1, 60, 70)).astype(np.float32)
    values[:, :20] = -9999
    place = rasterio.Affine(10, 0, 500_000, 0, -10, 4_000_000)
    with rasterio.open(
        source, "w", driver="GTiff", width=70, height=60, count=1, dtype="float32", crs="EPSG:32633",
        transform=place, nodata=-9999,
    ) as made:  # fmt: skip
        made.write(values)
    result = run(model(), source, tmp_path / "out", polygons="geojson")
    assert not result.failed
    with rasterio.open(tmp_path / "out" / "map.tif") as made:
        assert made.crs.to_epsg() == 32633
        assert made.transform == place
        assert made.nodata is not None
        mask = made.read(1)
    assert (mask[:20] == made.nodata).all()
    assert (mask[20:] != made.nodata).all()


def test_cases_with_arrays_need_no_file(tmp_path):
    case = Case("x", (np.random.default_rng(0).normal(size=(1, 40, 50)).astype(np.float32),))
    result = run(model(), [case], tmp_path / "out", overlay=True)
    assert names(tmp_path / "out") == ["overlays/x.png", "x.png"]
    assert len(result.done) == 1


def test_results_in_the_original_grid_of_a_resampled_volume(tmp_path):
    voxels = np.random.default_rng(0).normal(size=(40, 30, 12)).astype(np.float32)
    affine = np.array([[-1, 0, 0, 5], [0, 1, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1.0]])
    (tmp_path / "in").mkdir()
    nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "in" / "a.nii.gz")
    what = model(3, spacing=(1.5, 1.5, 2.0), unit="mm", orientation="RAS")
    outcomes = {}
    for name, tile in (("whole", None), ("tiles", (16,))):
        options = PredictOptions(precision="fp32", tile=tile)
        drain(predict(what, tmp_path / "in" / "a.nii.gz", tmp_path / name, options, OutputOptions(probabilities=True)))
        outcomes[name] = nibabel.load(tmp_path / name / "probabilities" / "a.nii.gz")
        mask = nibabel.load(tmp_path / name / "a.nii.gz")
        assert mask.shape == (40, 30, 12)
        np.testing.assert_allclose(mask.affine, affine)
    np.testing.assert_allclose(outcomes["whole"].get_fdata(), outcomes["tiles"].get_fdata(), atol=1e-3)
