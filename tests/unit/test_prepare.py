"""From file to network input: channels, statistics, normalisation, reading by region."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from unetkit.core.errors import DataError, PlanError
from unetkit.core.region import Region
from unetkit.data.case import Case
from unetkit.data.prepared.plan import PreparePlan
from unetkit.data.prepared.prepare import CaseReader, fit, normalise
from unetkit.data.prepared.statistics import Pixels, blocks, image_statistics


def _save(path: Path, array: np.ndarray) -> Path:
    if path.suffix == ".tif":
        tifffile.imwrite(path, array)
    else:
        Image.fromarray(array).save(path)
    return path


def _random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_image_has_mean_0_and_deviation_1(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", _random(60, 47))
    with CaseReader(path, PreparePlan()) as reader:
        image = reader.read(reader.whole)
    assert image.shape == (1, 60, 47)
    assert image.dtype == np.float32
    assert abs(image.mean()) < 1e-5
    assert abs(image.std() - 1) < 1e-5


def test_regions_are_parts_of_the_whole(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.tif", _random(130, 90))
    with CaseReader(path, PreparePlan(method="percentile")) as reader:
        whole = reader.read(reader.whole)
        region = Region((17, 3), (99, 90))
        np.testing.assert_array_equal(reader.read(region), whole[(slice(None), *region.slices)])


def test_grey_is_repeated_and_colours_become_luminance(tmp_path: Path) -> None:
    grey, rgb = _random(20, 30), _random(20, 30, 3)
    none = PreparePlan(normalise="none")
    with CaseReader(_save(tmp_path / "rgb.png", rgb), none) as reader:
        expected = rgb.astype(np.float64) @ [0.299, 0.587, 0.114]
        np.testing.assert_allclose(reader.read(reader.whole)[0], expected, rtol=1e-5)
    with CaseReader(
        _save(tmp_path / "grey.png", grey), PreparePlan(channels=3, colour="rgb", normalise="none")
    ) as reader:
        np.testing.assert_array_equal(reader.read(reader.whole), np.stack([grey] * 3).astype(np.float32))


def test_alpha_is_left_out(tmp_path: Path) -> None:
    rgba = _random(12, 9, 4)
    with CaseReader(_save(tmp_path / "a.png", rgba), PreparePlan(channels=3, colour="rgb", normalise="none")) as reader:
        np.testing.assert_array_equal(reader.read(reader.whole), np.moveaxis(rgba[..., :3], 2, 0).astype(np.float32))


@pytest.mark.parametrize("layout", ["HW", "HWC", "CHW"])
def test_arrays_of_any_layout(layout: str) -> None:
    array = _random(40, 50, 3)
    plan = PreparePlan(channels=3, colour="rgb", normalise="none")
    given = {"HW": array[..., 0], "HWC": array, "CHW": np.moveaxis(array, 2, 0)}[layout]
    expected = np.stack([array[..., 0]] * 3) if layout == "HW" else np.moveaxis(array, 2, 0)
    reader = CaseReader(given, plan)
    assert reader.shape == (40, 50)
    np.testing.assert_array_equal(reader.read(reader.whole), expected.astype(np.float32))


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (1, 1), (3, 7), (7, 3), (1, 3), (3, 3)])
def test_thin_arrays(shape: tuple[int, int]) -> None:
    reader = CaseReader(_random(*shape), PreparePlan())
    assert reader.read(reader.whole).shape == (1, *shape)
    assert CaseReader(_random(*shape)[None], PreparePlan()).shape == shape


def test_an_array_and_its_file_are_the_same(tmp_path: Path) -> None:
    array = _random(33, 21)
    with CaseReader(_save(tmp_path / "a.png", array), PreparePlan()) as file:
        memory = CaseReader(array, PreparePlan())
        np.testing.assert_array_equal(file.read(file.whole), memory.read(memory.whole))


def test_channel_files_are_stacked(tmp_path: Path) -> None:
    a, b = _random(10, 12), _random(10, 12, seed=1)
    case = Case("x", (_save(tmp_path / "x_0000.png", a), _save(tmp_path / "x_0001.png", b)))
    with CaseReader(case, PreparePlan(channels=2, colour="bands", normalise="none")) as reader:
        np.testing.assert_array_equal(reader.read(reader.whole), np.stack([a, b]).astype(np.float32))


def test_channel_files_of_different_sizes(tmp_path: Path) -> None:
    case = Case("x", (_save(tmp_path / "x_0000.png", _random(10, 12)), _save(tmp_path / "x_0001.png", _random(10, 13))))
    with pytest.raises(DataError, match=r"x_0001\.png: 13 × 10 pixels, but x_0000\.png of the same case has 12 × 10"):
        CaseReader(case, PreparePlan(channels=2, colour="bands"))


def test_bands_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "bands.tif"
    tifffile.imwrite(path, _random(4, 20, 20), photometric="minisblack", planarconfig="separate")
    for plan, takes in (
        (PreparePlan(), "takes grey or RGB images"),
        (PreparePlan(channels=3, colour="rgb"), "takes RGB or grey images"),
        (PreparePlan(channels=5, colour="bands"), "takes images with exactly 5 channels"),
    ):
        with pytest.raises(DataError, match=rf"bands\.tif: the image has 4 channels \(.*, uint8\), but .* {takes}"):
            CaseReader(path, plan)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 5, 6, 3)), "shape .2, 5, 6, 3. is no image for this network; it takes one at a time"),
        (np.zeros((5, 6, 7)), "with 1 or 3 or 4 channels"),
        (np.zeros((0, 6)), "is empty"),
        (np.zeros((5, 6), complex), "type complex128: an image has real numbers; convert it to uint8"),
    ],
)
def test_arrays_that_are_no_images(array: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        CaseReader(array, PreparePlan())


@pytest.mark.parametrize("method", ["zscore", "percentile"])
@pytest.mark.parametrize("value", [0, 7.5, -3e30])
def test_a_constant_image_becomes_zeros(method: str, value: float) -> None:
    reader = CaseReader(np.full((9, 11), value, np.float32), PreparePlan.parse({"method": method}, "test"))
    np.testing.assert_array_equal(reader.read(reader.whole), np.zeros((1, 9, 11), np.float32))


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_the_scale_of_floats_does_not_matter(scale: float) -> None:
    image = np.random.default_rng(0).normal(size=(64, 64))
    a, b = CaseReader(image, PreparePlan()), CaseReader(image * scale, PreparePlan())
    np.testing.assert_allclose(a.read(a.whole), b.read(b.whole), atol=1e-4)


@pytest.mark.parametrize("method", ["zscore", "percentile"])
def test_pixels_that_are_not_finite_become_the_mean(method: str) -> None:
    image = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
    image[3, 4], image[5, 6], image[7, 8] = np.nan, np.inf, -np.inf
    reader = CaseReader(image, PreparePlan.parse({"method": method}, "test"))
    out = reader.read(reader.whole)[0]
    assert out[3, 4] == out[5, 6] == out[7, 8] == 0
    assert abs(out.std() - 1) < 0.01
    whole = CaseReader(np.full((4, 4), np.nan, np.float32), PreparePlan())
    assert not whole.read(whole.whole).any()


def test_percentiles_clip_outliers() -> None:
    image = np.random.default_rng(0).integers(1000, 2000, (100, 100)).astype(np.uint16)
    image[0, 0] = 65535
    reader = CaseReader(image, PreparePlan(method="percentile"))
    out = reader.read(reader.whole)[0]
    assert out.max() < 2
    assert abs(out.mean()) < 1e-3


def test_percentiles_do_not_erase_few_bright_spots() -> None:
    image = np.zeros((200, 200), np.uint16)
    image[5:10, 5:10] = 4000  # 0.06 % of the pixels: both percentiles are 0
    reader = CaseReader(image, PreparePlan(method="percentile"))
    out = reader.read(reader.whole)[0]
    assert out[7, 7] > 10 * abs(out[100, 100])


def test_statistics_of_a_set_are_those_of_its_images_together() -> None:
    images = [_random(30, 40, seed=s) // (s + 1) for s in range(3)]
    plan = PreparePlan(normalise="set")
    fitted = fit(plan, (CaseReader(image, plan).pixels() for image in images))
    together = np.concatenate([image.reshape(-1) for image in images]).astype(np.float64)
    assert fitted.mean == pytest.approx((together.mean(),), rel=1e-6)
    assert fitted.std == pytest.approx((together.std(),), rel=1e-6)
    assert fitted.low == pytest.approx((np.percentile(together, 0.5),))
    reader = CaseReader(images[0], fitted)
    expected = (images[0] - together.mean()) / together.std()
    np.testing.assert_allclose(reader.read(reader.whole)[0], expected, atol=1e-4)
    assert PreparePlan.model_validate_json(fitted.model_dump_json()) == fitted
    assert fit(PreparePlan(), []) == PreparePlan()


def test_huge_images_are_measured_on_a_subset_of_blocks() -> None:
    class Huge:
        shape = (100_000, 9_000)
        seen = 0

        def channels(self, region: Region) -> np.ndarray:
            self.seen += region.size
            rows = np.arange(region.start[0], region.stop[0], dtype=np.float32)[:, None]
            return np.broadcast_to(rows, region.shape)[None]

    huge = Huge()
    found = image_statistics(Pixels(huge.shape, huge.channels), PreparePlan())
    assert 30e6 < huge.seen < 80e6
    assert found.mean[0] == pytest.approx(50_000, rel=0.02)
    assert found.std[0] == pytest.approx(100_000 / 12**0.5, rel=0.02)


def test_settings_that_contradict_each_other() -> None:
    for values, message in (
        ({"channels": 3}, "colour 'grey' goes with channels 1, not 3"),
        ({"channels": 2, "colour": "rgb"}, "colour 'rgb' goes with channels 3, not 2"),
        ({"clip": (99, 1)}, "two percentiles in ascending order"),
        ({"mean": (1, 2)}, "mean needs one value per channel .1., not 2"),
    ):
        with pytest.raises(PlanError, match=message):
            PreparePlan.parse(values, "plan.json")


def test_normalise_leaves_its_input_alone() -> None:
    image = np.ones((1, 3, 3), np.float32)
    reader = CaseReader(image, PreparePlan())
    normalise(image, reader.statistics, PreparePlan())
    assert (image == 1).all()


@pytest.mark.parametrize("name", ["axons", "phase"])
def test_real_images(shared_data: Callable[[str], Path], name: str) -> None:
    path = sorted((shared_data(name) / "images").iterdir())[-1]
    with CaseReader(path, PreparePlan(method="percentile")) as reader:
        image = reader.read(reader.whole)
    assert abs(image.mean()) < 0.02
    assert abs(image.std() - 1) < 0.02
    assert np.abs(image).max() < 8


def _volume(path: Path, seed: int = 0, spacing: tuple[float, ...] = (1.0, 1.0, 3.0), codes: str = "LPS") -> Path:
    """A NIfTI file of smooth voxels whose axes point as `codes` say."""
    rng = np.random.default_rng(seed)
    voxels = ndimage.gaussian_filter(rng.normal(size=(20, 16, 9)), 1.5).astype(np.float32)
    turn = nibabel.orientations.inv_ornt_aff(
        nibabel.orientations.ornt_transform(
            nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(tuple(codes))
        ),
        voxels.shape,
    )
    nibabel.save(nibabel.Nifti1Image(voxels, turn @ np.diag([*spacing, 1.0])), path)
    return path


def test_a_volume_is_seen_on_the_grid_of_the_plan_region_by_region(tmp_path: Path) -> None:
    path = _volume(tmp_path / "a.nii")
    own = np.asarray(nibabel.load(path).dataobj)
    plan = PreparePlan(spacing=(1.0, 1.6, 3.0), unit="mm")
    with CaseReader(path, plan) as reader:
        assert (reader.shape, reader.grid.own) == ((20, 10, 9), (20, 16, 9))
        assert reader.spacing == pytest.approx((1.0, 1.6, 3.0))
        assert reader.notes == ()
        whole = reader.read(reader.whole)
        # statistics are those of the file, whatever the grid
        np.testing.assert_allclose(reader.statistics.mean, own.mean(), atol=1e-6)
        for region in (Region((3, 2, 1), (9, 10, 8)), Region((0, 0, 0), (1, 1, 1))):
            np.testing.assert_array_equal(reader.read(region), whole[(slice(None), *region.slices)])
        scores = reader.grid.back(whole, reader.whole, Region.of(reader.grid.own))
    assert np.corrcoef(scores.ravel(), own.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("codes", ["LPS", "RAS", "SAL", "IRP"])
def test_volumes_that_lie_differently_are_seen_alike(tmp_path: Path, codes: str) -> None:
    path = _volume(tmp_path / "a.nii", codes=codes)
    plan = PreparePlan(orientation="RAS", normalise="none")
    with CaseReader(path, plan) as reader:
        found = reader.read(reader.whole)[0]
    np.testing.assert_array_equal(found, nibabel.as_closest_canonical(nibabel.load(path)).get_fdata(dtype=np.float32))


def test_units_of_length_are_turned_into_each_other_and_what_is_unknown_is_said(tmp_path: Path) -> None:
    path = _volume(tmp_path / "a.nii")
    with CaseReader(path, PreparePlan(spacing=(2000.0, 1000.0, 3000.0), unit="µm")) as reader:
        assert reader.shape == (10, 16, 9)
    with CaseReader(path, PreparePlan(spacing=(2.0, 1.0, 3.0), unit="degree")) as reader:
        assert reader.shape == (20, 16, 9)
        assert reader.notes == ("its spacing is in mm, the network's in degree: it is taken to be 2 × 1 × 3 degree",)
    stack = tmp_path / "b.tif"
    tifffile.imwrite(stack, _random(5, 20, 30), photometric="minisblack", metadata={"axes": "ZYX"})
    with CaseReader(stack, PreparePlan(spacing=(2.0, 1.0, 1.0), unit="µm", orientation="RAS")) as reader:
        assert reader.grid.identity
        assert reader.notes[0] == "its spacing is not known: it is taken to be 2 × 1 × 1 µm, as the network expects"
        assert reader.notes[1] == "where its axes point is not known: they are taken to be RAS"
    with pytest.raises(DataError, match=r"a\.nii: images are resampled to 2 spacings .* this one has 3 axes"):
        CaseReader(path, PreparePlan(spacing=(1.0, 1.0)))


def test_a_window_is_measured_on_the_foreground_of_the_set(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sources, organ = [], []
    for _ in range(3):
        scan = np.full((12, 40, 40), -1000, np.int16)
        inside = np.zeros(scan.shape, bool)
        inside[3:9, 10:30, 10:30] = True
        scan[inside] = rng.normal(50, 20, inside.sum())
        organ.append(scan[inside])
        reader = CaseReader(scan, PreparePlan(normalise="none"), ndim=3)
        sources.append(reader.pixels(lambda region, inside=inside: inside[region.slices]))
    plan = fit(PreparePlan(normalise="set", method="window"), sources)
    low, high = np.percentile(np.concatenate(organ), (0.5, 99.5))
    assert plan.low == pytest.approx((low,), abs=1)
    assert plan.high == pytest.approx((high,), abs=1)
    assert plan.mean == pytest.approx((50,), abs=1)
    reader = CaseReader(scan, plan, ndim=3)
    assert reader.read(reader.whole).min() == pytest.approx((plan.low[0] - plan.mean[0]) / plan.std[0], rel=1e-5)
    nothing = [reader.pixels(lambda region: np.zeros(region.shape, bool))]
    with pytest.raises(DataError, match=r"masks of the training set have none of them; mark some"):
        fit(PreparePlan(normalise="set", method="window"), nothing)


@pytest.mark.parametrize("name", ["chunk", "backwards", "plain"])
def test_blocks_partition_an_image_in_the_order_of_its_file(name: str) -> None:
    shape, chunk = (50, 64, 70), (16, 16, 16) if name == "chunk" else None
    seen = np.zeros(shape, int)
    regions = list(blocks(shape, chunk, name == "backwards", 20_000))
    for region in regions:
        assert region.size <= 20_000 * (1 if chunk is None else 4)
        seen[region.slices] += 1
    assert (seen == 1).all()
    first = regions[0]
    assert first.shape == {"chunk": (16, 16, 64), "backwards": (50, 64, 6), "plain": (4, 64, 70)}[name]


def test_statistics_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    image = _random(90, 70).astype(np.float32)
    plan = PreparePlan(method="percentile")
    whole = CaseReader(image, plan).statistics
    monkeypatch.setattr("unetkit.data.prepared.statistics.BLOCK", 500)
    parts = CaseReader(image, plan).statistics
    for name in ("mean", "std", "low", "high"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-6)


def test_settings_of_the_grid_that_make_no_sense() -> None:
    for values, message in (
        ({"spacing": (1.0, 0.0)}, "spacing holds one length above 0 per axis"),
        ({"orientation": "RAP"}, "three letters, one of L or R"),
        ({"orientation": "ras"}, "such as RAS, not 'ras'"),
        ({"method": "window"}, "it goes with normalise 'set', not 'image'"),
        ({"colour": "tokens", "normalise": "none", "spacing": (1.0,)}, "cannot be resampled"),
    ):
        with pytest.raises(PlanError, match=message):
            PreparePlan.parse(values, "plan.json")


def test_what_holds_nothing_in_a_map_is_left_out(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    source = next((shared_data("geo") / "images").glob("*.tif"))
    with rasterio.open(source) as dataset:
        pixels, profile = dataset.read(), dataset.profile
    pixels[:, :300] = 0
    with rasterio.open(tmp_path / "cut.tif", "w", **(profile | {"nodata": 0})) as dataset:
        dataset.write(pixels)
    with CaseReader(tmp_path / "cut.tif", PreparePlan(method="percentile")) as reader:
        assert reader.statistics.mean[0] == pytest.approx(np.clip(pixels[:, 300:], 0, 1e9).mean(), rel=0.02)
        assert not reader.read(Region((0, 0), (300, 900))).any()
