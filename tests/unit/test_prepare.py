"""From file to network input: channels, statistics, normalisation, reading by region."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unetkit.core.errors import DataError, PlanError
from unetkit.core.region import Region
from unetkit.data.case import Case
from unetkit.data.prepare import CaseReader, PreparePlan, fit, normalise
from unetkit.data.statistics import Pixels, image_statistics


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
