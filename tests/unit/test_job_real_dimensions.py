"""A few real volumes and recordings through every verb: files in, files of the same kind out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import unetkit as uk

SETTINGS = {"net.channels": [4, 8, 8], "machine.threads": 1}


def few(source: Path, target: Path, wanted: Callable[[Path], bool]) -> Path:
    """The wanted files of a set, in a folder of its own."""
    for file in sorted(p for p in source.rglob("*") if p.is_file() and wanted(p)):
        link = target / file.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    return target


def request() -> uk.Request:
    return uk.Request(steps=5, precision="fp32", settings=SETTINGS)


def test_volumes_from_files_to_files(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    names = [p.name for p in sorted((shared_data("hippocampus") / "images").iterdir())[:5]]
    data = few(shared_data("hippocampus"), tmp_path / "data", lambda p: p.name in names)
    run = uk.train(data, tmp_path / "run", request())
    assert run.finished
    plan = run.plan
    assert (plan.net.ndim, plan.augment.flip, plan.predict.tta) == (3, False, False)
    assert plan.data.legend.names == ("background", "class 1", "class 2")
    result = uk.predict(run.path, data / "images", tmp_path / "masks")
    assert len(result.done) == 5
    image, mask = (nibabel.load(folder / names[0]) for folder in (data / "images", tmp_path / "masks"))
    assert np.array_equal(image.affine, mask.affine)
    assert np.array_equal(run.predict(np.asarray(image.dataobj)), np.asarray(mask.dataobj))
    assert len(uk.evaluate(run.path, data).cases) == 5
    page = (run.path / "report.html").read_text()
    assert "Spacing in mm" in page
    assert "validation volumes" in page


def test_recordings_from_files_to_scores(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    pytest.importorskip("wfdb")
    data = few(shared_data("ecg"), tmp_path / "data", lambda p: p.stem in ("1", "2", "3", "4"))
    run = uk.train(data, tmp_path / "run", request())
    assert run.finished
    plan = run.plan
    assert (plan.net.ndim, plan.prepare.channels) == (1, 1)
    assert plan.data.legend.names == ("background", "P", "QRS", "T")
    split = (run.path / "split.csv").read_text().splitlines()[1:]
    sides = {row.split(",")[0].split("/")[0]: row.split(",")[1] for row in split}
    assert all(sides[row.split(",")[0].split("/")[0]] == row.split(",")[1] for row in split), "no recording is torn"
    page = (run.path / "report.html").read_text()
    assert "500 Hz" in page
    assert "not annotated: not counted" in page
    signal = np.random.default_rng(0).normal(size=1234)
    assert run.predict(signal).shape == (1234,)
