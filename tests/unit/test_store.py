"""Prepared cases, and the facts that the plan rests on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unetkit.core.errors import DataError
from unetkit.data.case import Case
from unetkit.data.discover import discover
from unetkit.data.prepare import PreparePlan
from unetkit.data.store import prepare_cases, prepared_bytes
from unetkit.data.survey import infer_legend
from unetkit.plan.fingerprint import fingerprint


def write_set(folder: Path, grey: bool = True) -> Path:
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for k in range(3):
        mask = np.zeros((40, 60), np.uint8)
        mask[10:18, 5:55] = 255  # a strip of 8 × 50
        shape = mask.shape if grey else (*mask.shape, 3)
        Image.fromarray(random.integers(50 * k, 50 * k + 40, shape, np.uint8)).save(folder / "images" / f"{k}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{k}.png")
    return folder


def test_what_does_not_fit_in_memory_is_mapped_and_equal(tmp_path: Path) -> None:
    cases = discover(write_set(tmp_path / "data")).cases
    legend, _ = infer_legend(cases)
    plan = PreparePlan()
    inside = prepare_cases(cases, legend, plan, 0, tmp_path / "a")
    mapped = prepare_cases(cases, legend, plan, 0, tmp_path / "b", limit=13_000)
    assert not (tmp_path / "a").exists()
    assert [isinstance(case.image_CX, np.memmap) for case in mapped] == [False, True, True]
    for a, b in zip(inside, mapped, strict=True):
        assert np.array_equal(a.image_CX, b.image_CX)
        assert np.array_equal(a.label_X, b.label_X)
        assert a.image_CX.dtype == np.float32
    assert prepared_bytes([(40, 60)] * 3, 1) == sum(c.image_CX.nbytes + c.label_X.nbytes for c in inside)


def test_sizes_that_differ_and_missing_masks_are_named(tmp_path: Path) -> None:
    cases = discover(write_set(tmp_path / "data")).cases
    legend, _ = infer_legend(cases)
    Image.fromarray(np.zeros((40, 61), np.uint8)).save(tmp_path / "data" / "masks" / "1.png")
    with pytest.raises(DataError, match=r"1\.png: 61 × 40 pixels, but its image 1\.png has 60 × 40; make them equal"):
        prepare_cases(cases, legend, PreparePlan(), 0, tmp_path)
    with pytest.raises(DataError, match=r"0\.png: has no mask; training needs one"):
        prepare_cases([Case("0", cases[0].images)], legend, PreparePlan(), 0, tmp_path)


@pytest.mark.parametrize("grey", [True, False])
def test_the_fingerprint_measures_the_set(tmp_path: Path, grey: bool) -> None:
    cases = discover(write_set(tmp_path / "data", grey)).cases
    legend, _ = infer_legend(cases)
    facts = fingerprint(cases, legend)
    assert facts.colour is not grey
    assert [c.channels for c in facts.cases] == [1 if grey else 3] * 3
    assert [round(c.mean / 50) for c in facts.cases] == [0, 1, 2]
    strip = next(c for c in facts.classes if c.name == "foreground")
    assert strip.cases == 3
    assert strip.fraction == pytest.approx(8 * 50 / 2400)
    # twice the area over the length of the border: 2 · 400 / (2 · 50 + 2 · 8)
    assert strip.thickness == pytest.approx(800 / 116)
    assert facts.median_size() == (40, 60)
    assert facts.smallest_side() == 40
    assert facts.dtypes() == ("uint8",)
