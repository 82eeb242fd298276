"""The doctor: every ailment of a set is found once, with the file and the fix."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from unetkit.core.errors import DataError, PlanError
from unetkit.data.doctor.examine import Diagnosis, examine
from unetkit.data.doctor.finding import Finding
from unetkit.data.doctor.images import ImageFacts, described
from unetkit.data.find.discover import discover


def image(seed: int, shape: tuple[int, ...] = (40, 50)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def mask(seed: int = 0, shape: tuple[int, int] = (40, 50)) -> np.ndarray:
    out = np.zeros(shape, np.uint8)
    out[5 + seed : 25, 8:30] = 255
    return out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A healthy set of six."""
    for sub in ("images", "masks"):
        (tmp_path / sub).mkdir()
    for k in range(6):
        Image.fromarray(image(k)).save(tmp_path / "images" / f"im{k}.png")
        Image.fromarray(mask(k)).save(tmp_path / "masks" / f"im{k}.png")
    return tmp_path


def save(array: np.ndarray, path: Path) -> None:
    Image.fromarray(array).save(path)


def found(diagnosis: Diagnosis, code: str) -> list[Finding]:
    return [f for f in diagnosis.findings if f.code == code]


def one(diagnosis: Diagnosis, code: str, severity: str, file: str) -> Finding:
    """The only finding of its kind."""
    (finding,) = found(diagnosis, code)
    assert (finding.severity, Path(finding.file).name) == (severity, file)
    return finding


def test_a_healthy_set(folder: Path) -> None:
    seen = []
    diagnosis = examine(discover(folder), progress=lambda done, total: seen.append((done, total)))
    assert not diagnosis.stops
    assert [f.code for f in diagnosis.findings] == ["legend"]
    assert diagnosis.legend.names == ("background", "foreground")
    assert diagnosis.label_counts["im0"] == (2000 - 440, 440)
    assert len(set(diagnosis.hashes.values())) == 6
    assert seen[-1] == (6, 6)
    plain = json.loads(json.dumps(diagnosis.to_json()))
    assert plain["pixels"]["foreground"] == sum(c[1] for c in diagnosis.label_counts.values())
    assert plain["stops"] is False


@pytest.mark.parametrize(("sub", "code"), [("images", "bad-image"), ("masks", "bad-mask")])
def test_truncated_files(folder: Path, sub: str, code: str) -> None:
    path = folder / sub / "im2.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    diagnosis = examine(discover(folder))
    finding = one(diagnosis, code, "error", "im2.png")
    assert "the file is truncated or damaged" in finding.message
    assert finding.fix == "copy or export it again, or leave it out"
    assert str(path) not in finding.message
    assert diagnosis.stops
    assert diagnosis.legend.names == ("background", "foreground")  # from the others


def test_missing_partners(folder: Path) -> None:
    (folder / "masks" / "im1.png").unlink()
    (folder / "images" / "im4.png").unlink()
    diagnosis = examine(discover(folder))
    assert one(diagnosis, "missing-mask", "warning", "im1.png").message == "the image has no mask"
    assert one(diagnosis, "missing-image", "warning", "im4.png").message == "the mask has no image"
    assert not diagnosis.stops


def test_sizes_that_differ(folder: Path) -> None:
    save(mask(shape=(50, 40)), folder / "masks" / "im1.png")
    save(mask(shape=(40, 51)), folder / "masks" / "im2.png")
    findings = found(examine(discover(folder)), "size-mismatch")
    assert [f.severity for f in findings] == ["error", "error"]
    assert findings[0].message == "the mask is 40 × 50 pixels, its image im1.png 50 × 40 (width × height)"
    assert findings[0].fix == "turn the mask (or the image) by a quarter"
    assert "resize without interpolation" in findings[1].fix


def test_stray_values(folder: Path) -> None:
    stray = mask()
    stray[0, :3], stray[1, :2] = 130, 233
    save(stray, folder / "masks" / "im0.png")
    finding = one(examine(discover(folder)), "stray-values", "note", "im0.png")
    assert finding.message == "5 pixels (0.25 % of the mask) have values of no class: 130 (3 pixels), 233 (2 pixels)"


def test_many_strays_are_a_warning(folder: Path) -> None:
    for k in range(6):
        large = Image.fromarray(mask(k)).resize((400, 320)).resize((50, 40), Image.Resampling.BILINEAR)
        save(np.asarray(large.resize((200, 160), Image.Resampling.BICUBIC)), folder / "masks" / f"im{k}.png")
        save(image(k, (160, 200)), folder / "images" / f"im{k}.png")
    assert len([f for f in found(examine(discover(folder)), "stray-values") if f.severity == "warning"]) == 6


def test_empty_images_and_masks(folder: Path) -> None:
    save(np.full((40, 50), 7, np.uint8), folder / "images" / "im0.png")
    save(np.zeros((40, 50), np.uint8), folder / "masks" / "im1.png")
    save(np.full((40, 50), 255, np.uint8), folder / "masks" / "im2.png")
    diagnosis = examine(discover(folder))
    assert "every pixel has the value 7" in one(diagnosis, "constant-image", "warning", "im0.png").message
    assert one(diagnosis, "empty-mask", "note", "im1.png").message == "the mask holds background only"
    assert "every pixel of the mask is 'foreground'" in one(diagnosis, "constant-mask", "warning", "im2.png").message


def test_ignored_throughout(folder: Path) -> None:
    save(np.full((40, 50), 9, np.uint8), folder / "masks" / "im1.png")
    assert one(examine(discover(folder), ignore=9), "unlabelled-mask", "warning", "im1.png")


def test_duplicates(folder: Path) -> None:
    Image.open(folder / "images" / "im0.png").convert("L").save(folder / "images" / "im3.bmp")  # another format
    (folder / "images" / "im3.png").unlink()
    diagnosis = examine(discover(folder))
    finding = one(diagnosis, "duplicate", "warning", "im3.bmp")
    assert finding.message == f"the same pixels as {folder / 'images' / 'im0.png'}; their masks differ"
    assert diagnosis.hashes["im0"] == diagnosis.hashes["im3"]


def test_duplicates_across_groups_and_splits(folder: Path) -> None:
    save(image(0), folder / "images" / "im1.png")
    save(image(0), folder / "images" / "im2.png")
    for k in (1, 2):
        save(mask(0), folder / "masks" / f"im{k}.png")
    rows = ["image,mask,group,split"]
    for k, (group, split) in enumerate([("a", "train"), ("a", "val"), ("b", "train"), *[("c", "train")] * 3]):
        rows.append(f"images/im{k}.png,masks/im{k}.png,{group},{split}")
    (folder / "set.csv").write_text("\n".join(rows))
    diagnosis = examine(discover(folder / "set.csv"))
    first, second = found(diagnosis, "duplicate")
    assert "but this one is in 'val' and that in 'train': scores flatter" in first.message
    assert "but the groups differ ('b' and 'a')" in second.message
    (leak,) = found(diagnosis, "leak")
    assert leak.severity == "warning"
    assert leak.message.startswith("the group 'a' is in 'train' (")


def test_classes_that_hardly_occur(folder: Path) -> None:
    rare = mask()
    rare[30:37, 30:37] = 128
    save(rare, folder / "masks" / "im0.png")
    (finding,) = found(examine(discover(folder)), "rare-class")
    assert finding.message == "the class 'class 128' hardly occurs: 0.41 % of the pixels, in 1 of 6 masks"


def test_groups_in_names(tmp_path: Path) -> None:
    for k in range(6):
        save(image(k), tmp_path / f"patient_{k // 2}_{k}.png")
        save(mask(), tmp_path / f"patient_{k // 2}_{k}_mask.png")
    diagnosis = examine(discover(tmp_path))
    (finding,) = found(diagnosis, "groups")
    assert finding.severity == "note"
    assert "3 groups of 6 cases by 'patient'" in finding.message
    assert diagnosis.groups.count == 3


def test_camera_orientation(folder: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(image(9)).save(folder / "images" / "im0.jpg", exif=exif)
    (folder / "images" / "im0.png").unlink()
    finding = one(examine(discover(folder)), "orientation", "warning", "im0.jpg")
    assert "EXIF 6" in finding.message


def test_mixed_kinds(folder: Path) -> None:
    save(image(9, (40, 50, 3)), folder / "images" / "im0.png")
    tifffile.imwrite(folder / "images" / "im1.tif", image(8).astype(np.uint16) * 100)
    (folder / "images" / "im1.png").unlink()
    save(image(9, (44, 50)), folder / "images" / "im2.png")
    save(mask(shape=(44, 50)), folder / "masks" / "im2.png")
    diagnosis = examine(discover(folder))
    assert "(1 channel: 5, 3 channels: 1)" in one(diagnosis, "mixed-channels", "warning", "im0.png").message
    assert "(uint8: 5, uint16: 1)" in one(diagnosis, "mixed-depth", "warning", "im1.tif").message
    assert "2 sizes (50 × 40: 5, 50 × 44: 1)" in one(diagnosis, "mixed-sizes", "note", "im2.png").message


def test_pixels_that_are_no_numbers(folder: Path) -> None:
    floats = image(3).astype(np.float32)
    floats[2, 3:7] = np.nan
    tifffile.imwrite(folder / "images" / "im3.tif", floats)
    (folder / "images" / "im3.png").unlink()
    assert "4 pixels are not numbers" in one(examine(discover(folder)), "not-finite", "warning", "im3.tif").message


def test_one_case(tmp_path: Path) -> None:
    save(image(0), tmp_path / "a.png")
    save(mask(), tmp_path / "a_mask.png")
    (finding,) = found(examine(discover(tmp_path)), "one-case")
    assert "nothing can validate" in finding.message


def test_masks_that_cannot_be_understood(folder: Path) -> None:
    for k in range(6):
        save(np.zeros((40, 50), np.uint8), folder / "masks" / f"im{k}.png")
    diagnosis = examine(discover(folder))
    finding = one(diagnosis, "no-legend", "error", "im0.png")
    assert "hold only the value 0" in finding.message
    assert finding.fix.startswith("check that these are the masks")
    assert diagnosis.label_counts == {}
    with pytest.raises(DataError, match=r"im0\.png: .*hold only the value 0: there is nothing to learn; check"):
        _ = diagnosis.legend
    assert diagnosis.to_json()["legend"] is None


def test_every_mask_unreadable(folder: Path) -> None:
    for k in range(6):
        (folder / "masks" / f"im{k}.png").write_bytes(b"")
    diagnosis = examine(discover(folder))
    assert diagnosis.count("error") == 6
    with pytest.raises(DataError, match=r"im0\.png: the file is empty \(0 bytes\); copy or export it again"):
        _ = diagnosis.survey


def test_settings_that_do_not_fit_are_not_findings(folder: Path) -> None:
    with pytest.raises(PlanError, match="--background 3"):
        examine(discover(folder), background=3)


def test_what_stands_in_the_survey_is_passed_on(folder: Path) -> None:
    (finding,) = found(examine(discover(folder), ignore=77), "masks")
    assert finding.message == "the ignore value 77 occurs in no mask"


def test_gravest_first(folder: Path) -> None:
    (folder / "masks" / "im1.png").write_bytes(b"")
    save(np.full((40, 50), 7, np.uint8), folder / "images" / "im0.png")
    severities = [f.severity for f in examine(discover(folder)).findings]
    assert severities == ["error", "warning", "note"]


@pytest.mark.parametrize("name", ["em", "axons", "phase", "geo", "hippocampus"])
def test_real_sets_have_no_errors(shared_data: Callable[[str], Path], name: str) -> None:
    diagnosis = examine(discover(shared_data(name)))
    assert not diagnosis.stops
    assert {f.code for f in found(diagnosis, "stray-values")} == ({"stray-values"} if name == "axons" else set())


def test_what_the_images_are_is_said_in_a_line() -> None:
    def facts(shape: tuple[int, ...], **values: Any) -> ImageFacts:
        known = {"channels": 1, "dtype": "uint8", "spacing": None, "unit": ""} | values
        rest = {"mode": "grey", "low": 0, "high": 1, "not_finite": 0, "orientation": 1, "digest": ""}
        return ImageFacts("a", Path("a"), shape, **known, **rest)

    assert described([]) == ""
    assert described([facts((40, 60))]) == "1 of 60 × 40 pixels, 1 channel, uint8"
    mm = {"spacing": (0.5, 0.5, 2.0), "unit": "mm"}
    several = [facts((9, 8, 7), **mm), facts((9, 12, 7), channels=3, dtype="float32", **mm)]
    assert described(several) == "2 of 9 × 8…12 × 7 voxels, 0.5 × 0.5 × 2 mm, 1…3 channels, float32 and uint8"
    assert described([facts((100,), spacing=(0.002,), unit="s")]) == "1 of 100 samples, 500 Hz, 1 channel, uint8"
