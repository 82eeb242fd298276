"""Folders of masks against the truth: pairing, legends, sizes, membranes, events, files, and error texts."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unetkit.core.errors import DataError, PlanError
from unetkit.core.events import Done, Event, Progress, Started, Warned
from unetkit.evaluate import EvaluateOptions, evaluate_folders


def blob(seed: int, size: tuple[int, int] = (40, 50)) -> np.ndarray:
    """One disc per image, of 0 and 1."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[: size[0], : size[1]]
    cy, cx, r = rng.integers(12, 28), rng.integers(12, 38), rng.integers(6, 10)
    return ((y - cy) ** 2 + (x - cx) ** 2 < r * r).astype(np.uint8)


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three images with masks of 0 and 255, and predictions: perfect, shifted, empty."""
    truth, found = tmp_path / "data", tmp_path / "out"
    for i in range(3):
        mask = blob(i) * 255
        save(truth / "images" / f"a{i}.png", 255 - mask)
        save(truth / "masks" / f"a{i}.png", mask)
        save(found / f"a{i}.png", (mask, np.roll(mask, 3, axis=1), mask * 0)[i])
    return found, truth


def test_a_data_set_and_a_plain_folder_of_masks_give_the_same(folders: tuple[Path, Path], tmp_path: Path) -> None:
    found, truth = folders
    events: list[Event] = []
    scores = evaluate_folders(found, truth, listen=events.append)
    assert [case.case for case in scores.cases] == ["a0", "a1", "a2"]
    assert scores.class_names == ("background", "foreground")
    assert scores.foreground == (1,)
    dice = [case.classes["dice"][1] for case in scores.cases]
    mask = blob(1)
    assert dice == [1, pytest.approx(2 * (mask & np.roll(mask, 3, axis=1)).sum() / (2 * mask.sum())), 0]
    assert scores.mean().mean == pytest.approx(sum(dice) / 3)
    assert scores.mean().low <= scores.mean().mean <= scores.mean().high
    assert scores.notes == ()

    kinds = [type(event) for event in events]
    assert kinds == [Started, Progress, Progress, Progress, Done]
    assert isinstance(events[-1], Done)
    assert events[-1].message == f"3 images scored; mean Dice {sum(dice) / 3:.3f}"

    # as JSON, since NaN is not equal to itself
    assert evaluate_folders(found, truth / "masks").as_json() == scores.as_json()
    table, full = scores.write(tmp_path / "scores")
    assert len(list(csv.DictReader(table.read_text().splitlines()))) == 6
    assert json.loads(full.read_text())["summary"][0]["n"] == 3


def test_perfect_and_empty_masks(tmp_path: Path) -> None:
    """An image without the class, predicted without it, says nothing: NaN, null, left out of the mean."""
    for i, mask in enumerate((blob(0), blob(0) * 0)):
        save(tmp_path / "truth" / f"{i}.png", mask)
        save(tmp_path / "found" / f"{i}.png", mask)
    scores = evaluate_folders(tmp_path / "found", tmp_path / "truth")
    assert scores.cases[0].classes["boundary_f1"][1] == 1
    assert math.isnan(scores.cases[1].classes["dice"][1])
    assert (scores.mean().mean, scores.mean().n, scores.mean().missing) == (1, 1, 1)
    assert math.isnan(scores.mean().low)
    assert scores.as_json()["cases"][1]["dice"] is None


@pytest.mark.parametrize(
    ("predicted", "true"),
    [("{}.tif", "{}.png"), ("{}_pred.png", "{}_mask.png"), ("{}.png", "{}_seg.png"), ("rat1/{}.png", "{}.png")],
)
def test_names_that_fit(tmp_path: Path, predicted: str, true: str) -> None:
    for i in range(2):
        save(tmp_path / "found" / predicted.format(f"slice{i}"), blob(i))
        save(tmp_path / "truth" / true.format(f"slice{i}"), blob(i))
    save(tmp_path / "found" / "overlays" / "slice0.png", blob(5))
    tifffile.imwrite(tmp_path / "found" / "other.tif", blob(4))
    scores = evaluate_folders(tmp_path / "found", tmp_path / "truth")
    assert [case.classes["dice"][1] for case in scores.cases] == [1, 1]
    assert scores.notes == (f"{tmp_path / 'found'}: no truth for other.tif; left out of the scores",)


def test_folders_of_patients_are_told_apart(tmp_path: Path) -> None:
    for rat in (1, 2, 3):
        for part in ("images", "masks"):
            save(tmp_path / "data" / part / f"rat{rat}" / "a.png", blob(rat))
        if rat < 3:
            save(tmp_path / "out" / f"rat{rat}" / "a.png", blob(rat))
    events: list[Event] = []
    scores = evaluate_folders(tmp_path / "out", tmp_path / "data", listen=events.append)
    assert [case.case for case in scores.cases] == ["rat1/a", "rat2/a"]
    assert scores.mean().mean == 1
    message = f"{tmp_path / 'data'}: no prediction for rat3/a; left out of the scores"
    assert [event.message for event in events if isinstance(event, Warned)] == [message]
    assert scores.as_json()["notes"] == [message]


def test_groups_from_a_table_and_from_the_caller(folders: tuple[Path, Path]) -> None:
    found, truth = folders
    rows = "".join(f"images/a{i}.png,masks/a{i}.png,rat{i // 2}\n" for i in range(3))
    (truth / "set.csv").write_text("image,mask,group\n" + rows)
    scores = evaluate_folders(found, truth / "set.csv")
    assert [case.group for case in scores.cases] == ["rat0", "rat0", "rat1"]
    assert scores.as_json()["interval"] == "95 % percentile bootstrap over groups"
    (truth / "set.csv").unlink()
    given = evaluate_folders(found, truth, EvaluateOptions(groups={"a0": "x", "a1": "x", "a2": "y"}))
    assert given.mean() == scores.mean()


def test_class_numbers_and_stray_values_in_predictions(folders: tuple[Path, Path]) -> None:
    found, truth = folders
    expected = evaluate_folders(found, truth)
    a0 = np.asarray(Image.open(found / "a0.png")).copy()
    save(found / "a0.png", a0 // 255)
    a1 = np.asarray(Image.open(found / "a1.png")).copy()
    a1[a1 == 255] = 250
    save(found / "a1.png", a1)
    scores = evaluate_folders(found, truth)
    assert scores.cases == expected.cases
    strays = int((a1 == 250).sum())
    assert scores.notes == (
        f"{found / 'a0.png'}: its values are no values of the truth (0, 255); read as class numbers from 0",
        f"{found / 'a1.png'}: {strays} pixels have a value that is no class; each was given the nearest class",
    )


def test_unlabelled_pixels_names_and_background(tmp_path: Path) -> None:
    for i in range(2):
        mask = blob(i) + 1
        mask[:5] = 9
        save(tmp_path / "truth" / f"{i}.png", mask)
        save(tmp_path / "found" / f"{i}.png", blob(i) + 1)
    options = EvaluateOptions(ignore=9, names=("sea", "island"), background="none")
    scores = evaluate_folders(tmp_path / "found", tmp_path / "truth", options)
    assert scores.class_names == ("sea", "island")
    assert scores.foreground == (0, 1)
    assert scores.mean().mean == 1
    assert sum(scores.cases[0].truth_pixels) == 35 * 50
    save(tmp_path / "found" / "1.png", np.full((40, 50), 9, np.uint8))
    with pytest.raises(DataError) as caught:
        evaluate_folders(tmp_path / "found", tmp_path / "truth", options)
    assert str(caught.value) == (
        f"{tmp_path / 'found' / '1.png'}: 1750 pixels have the ignore value where the truth has a class; a prediction "
        "names a class for every pixel"
    )


def test_membrane_scores_from_probabilities(tmp_path: Path) -> None:
    membrane = np.zeros((48, 48), bool)
    membrane[23:25] = True
    membrane[:, 20:22] = True
    save(tmp_path / "truth" / "a.png", np.where(membrane, 0, 255).astype(np.uint8))
    save(tmp_path / "found" / "a.png", np.full((48, 48), 255, np.uint8))
    p = np.where(membrane, 0.35, 0.05).astype(np.float16)
    probabilities = tmp_path / "found" / "probabilities"
    probabilities.mkdir()
    tifffile.imwrite(probabilities / "a.tif", np.stack([p, 1 - p]), photometric="minisblack", planarconfig="separate")
    options = EvaluateOptions(names=("membrane", "cell"), background=255, membrane="membrane")
    scores = evaluate_folders(tmp_path / "found", tmp_path / "truth", options)
    assert scores.cases[0].image == {
        "v_rand": 1,
        "v_info": 1,
        "v_rand_threshold": 0.1,
        "v_info_threshold": 0.1,
    }
    assert scores.mean("v_rand").mean == 1
    assert scores.cases[0].classes["dice"][0] == 0

    with pytest.raises(PlanError) as unknown:
        evaluate_folders(tmp_path / "found", tmp_path / "truth", options.model_copy(update={"membrane": "membrame"}))
    assert str(unknown.value) == (
        "--membrane: there is no class 'membrame'; the classes are membrane, cell; did you mean 'membrane'?"
    )
    tifffile.imwrite(
        probabilities / "a.tif", np.stack([p, p])[:, :-1], photometric="minisblack", planarconfig="separate"
    )
    with pytest.raises(
        DataError, match=r"a\.tif holds 2 classes of 48 × 47 pixels, which does not fit class 0 of the "
    ):
        evaluate_folders(tmp_path / "found", tmp_path / "truth", options)
    (probabilities / "a.tif").unlink()
    with pytest.raises(DataError) as missing:
        evaluate_folders(tmp_path / "found", tmp_path / "truth", options)
    assert str(missing.value) == (
        f"{probabilities / 'a.tif'}: membranes are scored from probabilities, and this file is missing; predict with "
        "--probabilities"
    )


def test_sizes_that_differ_name_both_files(folders: tuple[Path, Path]) -> None:
    found, truth = folders
    save(found / "a1.png", blob(1, (40, 49)))
    with pytest.raises(DataError) as caught:
        evaluate_folders(found, truth)
    assert str(caught.value) == (
        f"{found / 'a1.png'} is 49 × 40 pixels but its truth {truth / 'masks' / 'a1.png'} is 50 × 40 pixels; predict "
        "the image that the mask belongs to, at its own size"
    )


def test_nothing_fits(folders: tuple[Path, Path], tmp_path: Path) -> None:
    _, truth = folders
    other = tmp_path / "other"
    save(other / "x.png", blob(0))
    with pytest.raises(DataError) as caught:
        evaluate_folders(other, truth)
    assert str(caught.value) == (
        f"no file in {other} (x.png) has the name of an image or mask in {truth} (a0, a1, …); predictions are matched "
        "by name, whatever the suffix"
    )


def test_two_predictions_for_one_case(folders: tuple[Path, Path]) -> None:
    found, truth = folders
    save(found / "a1.tif", blob(1))
    with pytest.raises(DataError) as caught:
        evaluate_folders(found, truth)
    assert str(caught.value) == (
        f"{found / 'a1.png'} and {found / 'a1.tif'} both fit the case 'a1'; keep one of them, or give them the names "
        "of the images, folders included"
    )


def test_one_prediction_for_two_cases(tmp_path: Path) -> None:
    for rat in (1, 2):
        for part in ("images", "masks"):
            save(tmp_path / "data" / part / f"rat{rat}" / "a.png", blob(rat))
    save(tmp_path / "out" / "a.png", blob(1))
    with pytest.raises(DataError) as caught:
        evaluate_folders(tmp_path / "out", tmp_path / "data")
    assert str(caught.value) == (
        f"{tmp_path / 'out' / 'a.png'}: fits the case 'rat1/a' as well as 'rat2/a'; give predictions the names of the "
        "images, folders included"
    )


def test_folders_that_are_absent_or_empty(folders: tuple[Path, Path], tmp_path: Path) -> None:
    found, truth = folders
    with pytest.raises(DataError) as absent:
        evaluate_folders(tmp_path / "nowhere", truth)
    assert str(absent.value) == (
        f"{tmp_path / 'nowhere'}: there is no such folder; name the folder that holds the predicted masks"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError) as nothing:
        evaluate_folders(empty, truth)
    assert (
        str(nothing.value) == f"{empty}: there are no masks here; `unetkit predict RUN IMAGES -o {empty}` writes them"
    )
    with pytest.raises(DataError, match="nowhere"):
        evaluate_folders(found, tmp_path / "nowhere")
    with pytest.raises(DataError, match="empty"):
        evaluate_folders(found, empty)


def test_a_damaged_prediction_is_named(folders: tuple[Path, Path]) -> None:
    found, truth = folders
    content = (found / "a1.png").read_bytes()
    (found / "a1.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a1\.png: .*truncated"):
        evaluate_folders(found, truth)


def test_evaluating_needs_no_torch() -> None:
    import subprocess

    code = "import sys, unetkit.evaluate, unetkit.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
