"""NIfTI volumes: read as they are, understood as a data set, written back in their place, scored."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unetkit.core.errors import DataError
from unetkit.core.events import drain
from unetkit.core.region import Region
from unetkit.data.case import Case
from unetkit.data.doctor.examine import examine
from unetkit.data.find.discover import discover, images_of
from unetkit.data.formats import ImageReader, create_image, image_paths, open_image, probe, stem, suffix
from unetkit.data.groups import find_groups
from unetkit.data.labels.legend import Legend
from unetkit.data.labels.masks import read_label, read_raw_label
from unetkit.data.prepared.patches import PatchSampler
from unetkit.data.prepared.plan import PreparePlan
from unetkit.data.prepared.prepare import CaseReader
from unetkit.data.prepared.statistics import image_statistics
from unetkit.data.prepared.store import prepare_cases
from unetkit.data.source import open_case
from unetkit.evaluate import evaluate_folders
from unetkit.nets.build import build
from unetkit.nets.spec import NetSpec
from unetkit.predict.finished import Finished
from unetkit.predict.model import Model
from unetkit.predict.options import OutputOptions, PredictOptions
from unetkit.predict.outputs import plan_jobs
from unetkit.predict.predictor import Predictor
from unetkit.predict.products import write_products
from unetkit.predict.run import predict

SHAPE = (12, 9, 7)
AFFINE = np.array([[-0.8, 0.1, 0, 40], [0.1, 0.8, 0, -30], [0, 0, 2.5, 12], [0, 0, 0, 1]])


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = AFFINE, **header: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, affine, dtype=array.dtype)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def volume(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def label(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    found = np.zeros(shape, np.uint8)
    found[3:8, 2:6, 1:4] = 1
    found[3:8, 2:6, 4:6] = 2
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(5):
        save(tmp_path / "data" / "images" / f"brain_{number:03d}.nii.gz", volume(number))
        mask = label() if number else label().astype(np.float32)  # some tools write masks as floats
        save(tmp_path / "data" / "masks" / f"brain_{number:03d}.nii.gz", mask)
    return tmp_path / "data"


def test_names_know_the_double_suffix() -> None:
    assert [suffix(Path(n)) for n in ("a.nii.gz", "b.c.NII.GZ", "a.nii", "a.gz", "a.png", "a")] == [
        ".nii.gz", ".NII.GZ", ".nii", ".gz", ".png", "",
    ]  # fmt: skip
    assert [stem(Path(n)) for n in ("x/a.nii.gz", "b.c.nii", "a.png")] == ["a", "b.c", "a"]


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_axes_are_those_of_the_file_and_spacing_is_in_millimetres(tmp_path: Path, name: str) -> None:
    array = volume(1)
    path = save(tmp_path / name, array)
    with open_image(path) as reader:
        assert reader.info.shape == SHAPE
        assert (reader.info.channels, reader.info.dtype, reader.info.mode) == (1, "float32", "grey")
        assert reader.info.spacing == pytest.approx(nibabel.affines.voxel_sizes(AFFINE), abs=1e-5)
        assert np.reshape(reader.info.affine, (4, 4)) == pytest.approx(AFFINE, abs=1e-5)
        np.testing.assert_array_equal(reader.read()[0], nibabel.load(path).get_fdata())
        part = Region((2, 3, 1), (7, 9, 2))
        np.testing.assert_array_equal(reader.read(part)[0], array[part.slices])


def test_what_headers_say_of_scale_units_and_place(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), None)
    image.header.set_zooms((500.0, 500.0, 2000.0))
    image.header.set_xyzt_units("micron")
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, tmp_path / "a.nii.gz")
    info = probe(tmp_path / "a.nii.gz")
    assert info.spacing == (0.5, 0.5, 2.0)
    assert info.affine is None  # the header states none, and nothing is compared with what is not known
    with open_image(tmp_path / "a.nii.gz") as reader:
        found = reader.read()[0]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, nibabel.load(tmp_path / "a.nii.gz").get_fdata())


def test_axes_of_length_one_are_none_and_the_fourth_holds_channels(tmp_path: Path) -> None:
    assert probe(save(tmp_path / "slice.nii.gz", volume(0, (8, 6, 1)))).shape == (8, 6)
    two = volume(0, (5, 4, 3, 2))
    with open_image(save(tmp_path / "two.nii", two)) as reader:
        assert (reader.info.shape, reader.info.channels, reader.info.mode) == ((5, 4, 3), 2, "bands")
        np.testing.assert_array_equal(reader.read(Region((1, 0, 0), (3, 4, 2))), np.moveaxis(two[1:3, :, :2], -1, 0))


def test_what_is_no_volume(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"five.nii: a file of 2 × 2 × 2 × 2 × 2 is no volume; volumes have three axes"):
        probe(save(tmp_path / "five.nii", volume(0, (2, 2, 2, 2, 2))))
    with pytest.raises(DataError, match="values of the kind complex64 are not read; save real numbers"):
        probe(save(tmp_path / "complex.nii", np.zeros((2, 2, 2), np.complex64)))
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"no volume" * 100))
    with pytest.raises(DataError, match=r"text.nii.gz: the file is truncated or damaged"):
        probe(tmp_path / "text.nii.gz")
    for name in ("cut.nii", "cut.nii.gz"):
        whole = save(tmp_path / name, volume(0, (20, 20, 20))).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with (
            pytest.raises(DataError, match=f"{name}: the file is truncated or damaged"),
            open_image(tmp_path / name) as r,
        ):
            r.read()


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(1, 7), min_size=2, max_size=3),
    st.integers(1, 3),
    st.sampled_from(["uint8", "int16", "uint16", "int32", "float32"]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_written_by_region_is_read_by_region(tmp_path_factory, sides, channels, dtype, packed, random) -> None:
    path = tmp_path_factory.mktemp("n") / ("a.nii.gz" if packed else "a.nii")
    shape = tuple(max(2, n) if axis > 1 else n for axis, n in enumerate(sides))  # one slice would be an image
    array = np.random.default_rng(random.randrange(1 << 30)).integers(0, 100, (channels, *shape)).astype(dtype)
    cut = random.randint(0, shape[0])
    with create_image(path, shape, channels, dtype) as writer:
        for start, stop in ((cut, shape[0]), (0, cut)):
            part = Region((start, *(0,) * (len(shape) - 1)), (stop, *shape[1:]))
            writer.write(part, array[(slice(None), *part.slices)])
    with open_image(path) as reader:
        assert (reader.info.shape, reader.info.channels, reader.info.dtype) == (shape, channels, dtype)
        start = tuple(random.randint(0, n) for n in shape)
        part = Region(start, tuple(random.randint(a, n) for a, n in zip(start, shape, strict=True)))
        np.testing.assert_array_equal(reader.read(part), array[(slice(None), *part.slices)])


def test_a_folder_of_volumes_is_a_data_set(folder: Path, tmp_path: Path) -> None:
    found = discover(folder)
    assert [case.id for case in found.cases] == [f"brain_{n:03d}" for n in range(5)]
    assert found.layout == "images/ + masks/ paired by name"
    diagnosis = examine(found)
    assert not diagnosis.stops
    assert [c.value for c in diagnosis.legend.classes] == [0, 1, 2]
    assert diagnosis.survey.counts[1:] == (5 * 60, 5 * 40)
    prepared = prepare_cases(found.cases, diagnosis.legend, PreparePlan(), 0, tmp_path)
    assert prepared[0].image_CX.shape == (1, *SHAPE)
    assert prepared[0].spacing == pytest.approx(nibabel.affines.voxel_sizes(AFFINE), abs=1e-5)
    np.testing.assert_array_equal(prepared[0].label_X, label())
    assert abs(prepared[0].image_CX.mean()) < 1e-5
    number, centre = PatchSampler(prepared, (6, 4, 4), 1.0, 0).choose(3, 1)
    assert 0 <= number < 5
    assert all(p // 2 <= c <= n - p // 2 for c, p, n in zip(centre, (6, 4, 4), SHAPE, strict=True))


def test_nnunet_folders_of_volumes(tmp_path: Path) -> None:
    for number in range(2):
        for channel in range(2):
            save(tmp_path / "imagesTr" / f"b{number}_{channel:04d}.nii.gz", volume(number + channel))
        save(tmp_path / "labelsTr" / f"b{number}.nii.gz", label())
    save(tmp_path / "imagesTr" / "b9_0000.nii.gz", volume(9))
    with pytest.raises(DataError, match=r"b9_0001.nii.gz: this channel file is missing"):
        discover(tmp_path)
    save(tmp_path / "imagesTr" / "b9_0001.nii.gz", volume(9))
    (tmp_path / "dataset.json").write_text('{"labels": {"0": "background", "1": "front", "2": "back"}}')
    found = discover(tmp_path)
    assert [(case.id, len(case.images)) for case in found.cases] == [("b0", 2), ("b1", 2)]
    assert [case.id for case in found.unlabelled_cases] == ["b9"]
    with CaseReader(found.cases[0], PreparePlan(channels=2, colour="bands")) as reader:
        assert reader.read(reader.whole).shape == (2, *SHAPE)
    assert examine(found).legend.names == ("background", "front", "back")


def test_names_of_volumes_are_no_stack() -> None:
    cases = [Case(f"scan_t_{n:02d}", (Path(f"scan_t_{n:02d}.nii.gz"),)) for n in range(9)]
    assert find_groups(cases).ordered
    assert not find_groups(cases, ndim=3).ordered


def test_the_doctor_speaks_of_voxels(folder: Path) -> None:
    save(folder / "images" / "brain_001.nii.gz", volume(1), np.diag([1, 1, 1, 1]))  # not where its mask is
    save(folder / "images" / "brain_002.nii.gz", np.full(SHAPE, 4, np.float32))
    save(folder / "masks" / "brain_003.nii.gz", label((12, 9, 6)))
    stray = label()
    stray[0, 0, 0] = 200
    save(folder / "masks" / "brain_004.nii.gz", stray)
    said = {(f.code, Path(f.file).name.split(".")[0]): f.message for f in examine(discover(folder)).findings}
    place = "it does not lie over its image brain_001.nii.gz: their affines differ: voxels lie up to "
    assert said["other-grid", "brain_001"].startswith(place)
    assert said["constant-image", "brain_002"] == "the image is empty: every voxel has the value 4"
    assert said["size-mismatch", "brain_003"] == (
        "the mask is 12 × 9 × 6 voxels, its image brain_003.nii.gz 12 × 9 × 7"
    )
    assert said["stray-values", "brain_004"].startswith("1 voxels (0.13 % of the mask) have values of no class: 200")
    assert "0.81 × 0.81 × 2.5 mm: 4, 1 × 1 × 1 mm: 1" in next(m for (c, _), m in said.items() if c == "mixed-spacing")


def test_images_and_volumes_do_not_mix(folder: Path) -> None:
    for kind in ("images", "masks"):
        Image.fromarray(label()[..., 2]).save(folder / kind / "flat.png")
    errors = [f for f in examine(discover(folder)).findings if f.code == "mixed-dimensions"]
    assert len(errors) == 1
    assert errors[0].severity == "error"
    assert "this is a volume (12 × 9 × 7 voxels), but" in errors[0].message
    assert errors[0].message.endswith("flat.png is an image (9 × 12 pixels)")
    assert errors[0].fix == "a network works in one number of dimensions; put each kind into a folder of its own"


def test_statistics_by_blocks_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    array = volume(3, (70, 30, 41))
    with CaseReader(array, PreparePlan(), ndim=3) as reader:
        whole = image_statistics(reader.pixels(), reader.plan)
    monkeypatch.setattr("unetkit.data.prepared.statistics.BLOCK", 16**3)
    with CaseReader(array, PreparePlan(), ndim=3) as reader:
        parts = image_statistics(reader.pixels(), reader.plan)
        sampled = image_statistics(reader.pixels(), reader.plan, samples=9000)
    for name in ("mean", "std", "low", "high"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-5)
        np.testing.assert_allclose(getattr(sampled, name), getattr(whole, name), rtol=0.1)
    np.testing.assert_allclose(whole.mean, array.mean(), rtol=1e-5)


def finished(image: ImageReader, legend: Legend, label_X: np.ndarray, scores_KX: np.ndarray) -> Finished:
    def scores(region: Region) -> np.ndarray:
        return scores_KX[(slice(None), *region.slices)]

    return Finished(image.info, legend, lambda region: label_X[region.slices], scores, image.read)


def predictions(folder: Path, out: Path, **outputs: bool) -> list[Path]:
    """Write the truth of every case of a folder as its prediction."""
    found = discover(folder)
    legend = examine(found).legend
    jobs = plan_jobs(images_of(folder), out, legend, OutputOptions(**outputs))
    for job, case in zip(jobs, found.cases, strict=True):
        label_X, _ = read_label(case, legend)
        scores_KX = np.stack([label_X == k for k in range(len(legend.classes))]).astype(np.float32)
        with open_case(job.case) as image:
            list(write_products(job, finished(image, legend, label_X, scores_KX), 10**8))
    return [target for job in jobs for target in job.targets]


def test_masks_lie_where_their_images_lie(folder: Path, tmp_path: Path) -> None:
    written = predictions(folder, tmp_path / "out", probabilities=True, overlay=True)
    assert [str(p.relative_to(tmp_path / "out")) for p in written[:3]] == [
        "brain_000.nii.gz", "probabilities/brain_000.nii.gz", "overlays/brain_000.png",
    ]  # fmt: skip
    image = nibabel.load(folder / "images" / "brain_000.nii.gz")
    mask, probabilities = nibabel.load(written[0]), nibabel.load(written[1])
    for result in (mask, probabilities):
        np.testing.assert_allclose(result.affine, image.affine)
        for name in ("sform_code", "qform_code", "xyzt_units"):
            assert result.header[name] == image.header[name]
        assert result.header.get_zooms()[:3] == image.header.get_zooms()
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(mask.dataobj), label())
    assert probabilities.shape == (*SHAPE, 3)
    np.testing.assert_array_equal(np.asarray(probabilities.dataobj)[..., 2], label() == 2)
    picture = np.array(Image.open(written[2]))
    assert picture.ndim == 3
    assert max(picture.shape) > 500
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    scores = evaluate_folders(tmp_path / "out", folder)
    assert scores.mean("dice").mean == scores.mean("boundary_f1").mean == 1
    assert image_paths(folder / "images") == images_of(folder)


def test_equal_masks_are_equal_files(folder: Path, tmp_path: Path) -> None:
    first, second = (predictions(folder, tmp_path / name)[1] for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_the_header_of_a_mask_says_nothing_of_the_values_of_its_image(tmp_path: Path) -> None:
    array = (volume(0, (6, 5, 1)) * 10).astype(np.int16)
    image = save(tmp_path / "a.nii.gz", array, cal_max=700, descrip=b"a patient's name")
    with create_image(tmp_path / "m.nii.gz", (6, 5), 1, "uint8", like=image) as writer:
        writer.write(Region.of((6, 5)), np.full((6, 5), 3, np.uint8))
    found = nibabel.load(tmp_path / "m.nii.gz")
    assert found.shape == (6, 5, 1)  # as its image is stored
    assert (float(found.header["cal_max"]), bytes(found.header["descrip"]).strip(b"\0")) == (0, b"")
    np.testing.assert_array_equal(read_raw_label(tmp_path / "m.nii.gz"), np.full((6, 5), 3))


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a volume is written as .tif, .zarr, .h5, .npy or .nii.gz, not as '.png'"):
        create_image(tmp_path / "a.png", SHAPE, 1, "uint8")
    with pytest.raises(DataError, match="NIfTI files do not hold float16; write integers or float32"):
        create_image(tmp_path / "a.nii.gz", SHAPE, 1, "float16")


def test_masks_elsewhere_are_not_scored(folder: Path, tmp_path: Path) -> None:
    for path in predictions(folder, tmp_path / "out"):
        save(path, label(), np.eye(4))
    with pytest.raises(DataError) as error:
        evaluate_folders(tmp_path / "out", folder)
    assert str(error.value) == (
        f"{tmp_path}/out/brain_000.nii.gz does not lie where its truth {folder}/masks/brain_000.nii.gz does: their "
        "affines differ: voxels lie up to 55.7 mm apart, and are turned; predict the image that the mask belongs to, "
        "or resample one to the other"
    )


def test_a_plain_folder_of_masks_is_a_truth(folder: Path, tmp_path: Path) -> None:
    predictions(folder, tmp_path / "out")
    assert evaluate_folders(tmp_path / "out", folder / "masks").mean().mean == 1


def test_real_volumes(shared_data) -> None:
    found = discover(shared_data("hippocampus"))
    assert len(found.cases) == 200
    case = found.cases[0]
    with CaseReader(case, PreparePlan()) as reader:
        assert (reader.shape, reader.spacing) == ((35, 51, 35), (1, 1, 1))
        assert abs(reader.read(reader.whole).mean()) < 1e-4
    assert set(np.unique(read_raw_label(case.label))) == {0, 1, 2}  # type: ignore[arg-type]


@pytest.mark.parametrize("tile", [None, (8, 8, 8)])
def test_volumes_are_predicted_as_arrays_are(folder: Path, tmp_path: Path, tile: tuple[int, ...] | None) -> None:
    spec = NetSpec(ndim=3, channels=(4, 6), classes=3, in_channels=1, blocks=1)
    model = Model(build(spec, seed=3).eval(), examine(discover(folder)).legend, PreparePlan())
    options = PredictOptions(precision="fp32", tile=tile)
    sources = images_of(folder)
    result = drain(predict(model, sources, tmp_path / "out", options, OutputOptions(overlay=True)))
    assert [path.name for path in result.done] == [path.name for path in sources]
    with CaseReader(sources[0], model.prepare) as reader:
        expected = Predictor(model.net, PredictOptions(precision="fp32")).array(reader.read(reader.whole))
    found = nibabel.load(tmp_path / "out" / "brain_000.nii.gz")
    assert (np.asarray(found.dataobj) != expected).mean() < 1e-3
    again = drain(predict(model, sources, tmp_path / "out", options, OutputOptions(overlay=True)))
    assert (len(again.done), len(again.skipped)) == (0, 5)


def test_a_network_of_another_dimension_says_so(folder: Path, tmp_path: Path) -> None:
    model = Model(
        build(NetSpec(channels=(4,), classes=3), seed=0).eval(), examine(discover(folder)).legend, PreparePlan()
    )
    result = drain(predict(model, images_of(folder)[:1], tmp_path / "out"))
    assert result.failed[0][1].endswith(
        "the network takes images with 2 axes, this one has 3; predict images like those it was trained on"
    )


def test_one_folder_of_volumes_and_masks(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"b{number}.nii.gz", volume(number))
        save(tmp_path / f"b{number}_seg.nii.gz", label())
    (tmp_path / "._b0.nii.gz").write_bytes(b"left by a file manager")
    found = discover(tmp_path)
    assert [(case.id, Path(str(case.label)).name) for case in found.cases] == [
        (f"b{number}", f"b{number}_seg.nii.gz") for number in range(3)
    ]
    assert [path.name for path in images_of(tmp_path)] == ["b0.nii.gz", "b1.nii.gz", "b2.nii.gz"]
    (tmp_path / "set.csv").write_text("image,mask,group\nb0.nii.gz,b0_seg.nii.gz,p1\nb1.nii.gz,b1_seg.nii.gz,p2\n")
    assert [(case.id, case.group) for case in discover(tmp_path).cases] == [("b0", "p1"), ("b1", "p2")]
