"""Prepared cases, and the facts that the plan rests on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unetkit.augment.apply import augment
from unetkit.augment.plan import AugmentPlan
from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.core.rng import numpy_generator
from unetkit.data.case import Case
from unetkit.data.find.discover import discover
from unetkit.data.labels.survey import infer_legend
from unetkit.data.prepared.plan import PreparePlan
from unetkit.data.prepared.store import Keep, prepare_cases, prepared_bytes
from unetkit.plan.fingerprint import fingerprint
from unetkit.train.step import as_tensor


def write_set(folder: Path, grey: bool = True, side: int = 40) -> Path:
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for k in range(3):
        mask = np.zeros((side, 60 if side == 40 else side + 40), np.uint8)
        mask[10:18, 5:55] = 255  # a strip of 8 × 50
        shape = mask.shape if grey else (*mask.shape, 3)
        Image.fromarray(random.integers(50 * k, 50 * k + 40, shape, np.uint8)).save(folder / "images" / f"{k}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{k}.png")
    return folder


@pytest.mark.parametrize("keep", ["store", "originals"])
def test_what_does_not_fit_in_memory_is_read_as_needed_and_equal(tmp_path: Path, keep: Keep) -> None:
    cases = discover(write_set(tmp_path / "data", side=600)).cases
    legend, _ = infer_legend(cases)
    plan = PreparePlan()
    inside = prepare_cases(cases, legend, plan, 0, tmp_path / "a", areas=True)
    outside = prepare_cases(cases, legend, plan, 0, tmp_path / "b", limit=5 * 600 * 640, keep=keep, areas=True)
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "b").exists() is (keep == "store")
    assert [isinstance(case.image_CX, np.ndarray) for case in outside] == [True, False, False]
    for a, b in zip(inside, outside, strict=True):
        whole = Region.of(a.shape)
        assert b.shape == a.shape
        assert np.array_equal(a.read(whole), b.read(whole))
        assert a.read(whole).dtype == b.read(whole).dtype == np.float32
        part = Region((500, 130), (530, 600))  # across chunks
        assert np.array_equal(a.read(part), b.read(part))
        assert np.array_equal(a.label(part), b.label(part))
        assert a.places.counts == b.places.counts
        assert all(np.array_equal(a.places.of[k], b.places.of[k]) for k in a.places.of)
        assert a.places.areas[1].sizes.tolist() == b.places.areas[1].sizes.tolist() == [8 * 50]
        assert np.array_equal(a.places.areas[1].places, b.places.areas[1].places)
    assert prepared_bytes([(600, 640)] * 3, 1) == sum(c.image_CX.nbytes + c.label_X.nbytes for c in inside)


def test_it_is_known_what_black_and_white_became(tmp_path: Path) -> None:
    cases = discover(write_set(tmp_path / "data", grey=False)).cases
    legend, _ = infer_legend(cases)
    plan = PreparePlan(channels=3, colour="rgb")
    inside = prepare_cases(cases, legend, plan, 0, tmp_path / "a")
    raw_YXC = np.asarray(Image.open(cases[0].images[0]))
    black_C, white_C = inside[0].scale[:, :, None]
    assert np.allclose(
        black_C + (white_C - black_C) * np.moveaxis(raw_YXC / 255, -1, 0).reshape(3, -1),
        np.asarray(inside[0].image_CX[:]).reshape(3, -1),
        atol=1e-4,
    )
    for keep in ("store", "originals"):
        for _ in range(2):  # anew, and taken up
            outside = prepare_cases(cases, legend, plan, 0, tmp_path / "b", limit=0, keep=keep)
            assert all(np.array_equal(a.scale, b.scale) for a, b in zip(inside, outside, strict=True))
    assert prepare_cases(cases, legend, PreparePlan(), 0, tmp_path / "c", limit=0)[0].scale is None


def test_training_sees_the_same_wherever_the_pixels_are(tmp_path: Path) -> None:
    cases = discover(write_set(tmp_path / "data", side=300)).cases
    legend, _ = infer_legend(cases)

    def batches(**where: Any) -> list[torch.Tensor]:
        prepared = prepare_cases(cases, legend, PreparePlan(), 0, tmp_path / "store", **where)
        chosen = [(prepared[k], (40 + 90 * k, 150)) for k in range(3)]
        pixels = [(as_tensor(c.image_CX), as_tensor(c.label_X)) for c, _ in chosen]
        generators = [numpy_generator(0, k) for k in range(3)]
        centres = [centre for _, centre in chosen]
        done = augment([i for i, _ in pixels], [x for _, x in pixels], centres, (64, 64), AugmentPlan(), generators)
        return [done.image_BCX, done.label_BX]

    image, label = batches()
    for where in ({"limit": 0}, {"limit": 0, "keep": "originals"}):
        other_image, other_label = batches(**where)
        assert torch.equal(label, other_label)
        assert torch.allclose(image, other_image, atol=2e-4)  # places are reckoned from a window


def test_an_interrupted_store_is_taken_up_and_a_half_written_one_made_anew(tmp_path: Path) -> None:
    cases = discover(write_set(tmp_path / "data", side=300)).cases
    legend, _ = infer_legend(cases)
    first = prepare_cases(cases, legend, PreparePlan(), 0, tmp_path / "store", limit=0)
    marker = tmp_path / "store" / "00000.zarr" / "image" / "zarr.json"
    before = marker.stat().st_mtime_ns
    again = prepare_cases(cases, legend, PreparePlan(), 0, tmp_path / "store", limit=0)
    assert marker.stat().st_mtime_ns == before
    group = json.loads((tmp_path / "store" / "00000.zarr" / "zarr.json").read_text())
    (tmp_path / "store" / "00000.zarr" / "zarr.json").write_text(json.dumps({**group, "attributes": {}}))
    anew = prepare_cases(cases, legend, PreparePlan(), 0, tmp_path / "store", limit=0)
    assert marker.stat().st_mtime_ns > before
    whole = Region.of(first[0].shape)
    assert np.array_equal(first[0].read(whole), again[0].read(whole))
    assert np.array_equal(first[0].read(whole), anew[0].read(whole))


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
