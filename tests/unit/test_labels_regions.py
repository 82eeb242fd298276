"""Classes that overlap, from a folder to scores: trained with a sigmoid each, written as read, scored one by one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unetkit
from unetkit.core.errors import DataError
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.evaluate import EvaluateOptions, evaluate_folders
from unetkit.metrics import confusion, dice, region_confusions, score_case
from unetkit.metrics.boundary import boundary_f1
from unetkit.plan.plan import Request

Array = np.ndarray


def save(path: Path, mask: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8)).save(path)


def disc(centre: tuple[int, int], radius: int, size: int = 64) -> Array:
    y, x = np.mgrid[:size, :size]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2


def make_set(root: Path, count: int = 6) -> Path:
    """Discs with a bright core: `whole` and `core` are a file each."""
    rng = np.random.default_rng(0)
    for n in range(count):
        centre = (int(rng.integers(22, 42)), int(rng.integers(22, 42)))
        whole, core = disc(centre, 16), disc((centre[0] + 3, centre[1]), 7)
        image = 60 + 60 * whole + 80 * core + rng.normal(0, 8, whole.shape)
        save(root / "images" / f"im{n}.png", np.clip(image, 0, 255))
        save(root / "masks/whole" / f"im{n}.png", whole * 255)
        save(root / "masks/core" / f"im{n}.png", core * 255)
    return root


def test_from_files_of_classes_to_scores(tmp_path: Path) -> None:
    data = make_set(tmp_path / "data")
    settings = {"machine.threads": 1, "sampling.patch": [32, 32], "net.channels": [8, 16], "net.strides": [2]}
    run = unetkit.train(data, tmp_path / "run", Request(steps=3, settings=settings), listen=lambda _: None)
    assert run.plan.data.legend.kind == "regions"
    assert run.plan.data.legend.names == ("whole", "core")
    scores = json.loads((tmp_path / "run/scores.json").read_text())
    assert scores["foreground"] == ["whole", "core"]
    assert len(json.loads((tmp_path / "run/examples/examples.json").read_text())) == 2
    assert "whole" in (tmp_path / "run/report.html").read_text()
    unetkit.predict(tmp_path / "run", data / "images", tmp_path / "out", listen=lambda _: None)
    for folder in ("whole", "core"):
        assert len(list((tmp_path / "out" / folder).glob("im*.png"))) == 6
    mask = np.stack([np.asarray(Image.open(tmp_path / "out" / folder / "im0.png")) for folder in ("whole", "core")])
    assert set(np.unique(mask)) <= {0, 255}
    image = np.asarray(Image.open(data / "images/im0.png"))
    assert run.predict(image).shape == (2, 64, 64)
    np.testing.assert_array_equal(run.predict(image), mask)
    by_folder = unetkit.evaluate(tmp_path / "out", data, listen=lambda _: None)
    by_run = unetkit.evaluate(tmp_path / "run", data, listen=lambda _: None)
    assert by_folder.rows() == by_run.rows()
    truth = np.asarray(Image.open(data / "masks/core/im0.png")) > 0
    assert by_run.cases[0].classes["dice"][1] == pytest.approx(dice(confusion(truth, mask[1] > 0, 2))[1], nan_ok=True)


def test_scores_of_regions_are_those_of_each_alone() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 8, (30, 31)).astype(np.uint8)
    found = rng.integers(0, 8, (30, 31)).astype(np.uint8)
    label[:4] = 255
    tables = region_confusions(label, found, 3)
    scores = score_case("a", label, found, 3, regions=True)
    for k in range(3):
        alone = np.where(label == 255, 255, label >> k & 1)
        np.testing.assert_array_equal(tables[k], confusion(alone, found >> k & 1, 2))
        assert scores.classes["dice"][k] == dice(confusion(alone, found >> k & 1, 2))[1]
        assert scores.classes["boundary_f1"][k] == boundary_f1(alone, found >> k & 1, 2)[1]
        assert scores.truth_pixels[k] == ((label >> k & 1) * (label != 255)).sum()
    nothing = score_case("b", np.zeros((5, 5), np.uint8), np.zeros((5, 5), np.uint8), 2, regions=True)
    assert np.isnan(nothing.classes["dice"]).all()
    with pytest.raises(ValueError, match="the truth holds"):
        region_confusions(label, found, 2)


def test_predictions_of_regions_are_read_from_their_folders(tmp_path: Path) -> None:
    data = make_set(tmp_path / "data", 2)
    for folder in ("whole", "core"):
        for n in range(2):
            mask = np.asarray(Image.open(data / "masks" / folder / f"im{n}.png"))
            save(tmp_path / "out" / folder / f"im{n}.png", mask)
    scores = evaluate_folders(tmp_path / "out", data)
    assert scores.class_names == ("whole", "core")
    assert scores.mean("dice").mean == 1
    assert scores.notes == ()
    (tmp_path / "out/core/im1.png").unlink()
    scores = evaluate_folders(tmp_path / "out", data)
    where = tmp_path / "out/whole/im1.png"
    assert scores.notes == (f"{where}: there is no file for 'core' beside it: taken not to occur",)
    assert scores.cases[1].classes["dice"] == (1.0, 0.0)
    masks = evaluate_folders(tmp_path / "out", data / "masks", EvaluateOptions(legend=_legend()))
    assert masks.cases[1].classes["dice"] == (1.0, 0.0)  # a folder of masks without images is truth enough
    save(tmp_path / "out/whole/im0.png", np.zeros((5, 5)))
    with pytest.raises(DataError, match=r"5 × 5 pixels, but .* of the same image has 64 × 64"):
        evaluate_folders(tmp_path / "out", data)


def _legend() -> Legend:
    classes = tuple(LegendClass(name=name, value=255, colour=(1, 2, 3)) for name in ("whole", "core"))
    return Legend(kind="regions", classes=classes, background=None)


def test_regions_of_one_mask_are_scored(tmp_path: Path) -> None:
    """nnU-Net's regions: truth and prediction are numbers, and every region is scored as a union of them."""
    truth = np.zeros((20, 20), np.uint8)
    truth[2:15, 2:15], truth[5:10, 5:10] = 1, 2
    found = truth.copy()
    found[5:10, 5:10] = 1
    for folder, mask in (("imagesTr", truth), ("labelsTr", truth), ("out", found)):
        save(tmp_path / folder / ("a_0000.png" if folder == "imagesTr" else "a.png"), mask)
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "regions_class_order": [1, 2]}))
    scores = evaluate_folders(tmp_path / "out", tmp_path)
    assert scores.class_names == ("whole", "core")
    assert scores.cases[0].classes["dice"] == (1.0, 0.0)
    legend = unetkit.check(tmp_path, listen=lambda _: None).legend
    assert [c.codes for c in legend.classes] == [(1, 2), (2,)]
