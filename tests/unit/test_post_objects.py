"""Post-processing as users meet it: what is removed, filled, numbered and refused; objects from files to files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage.draw import disk

import unetkit as uk
from discs import touching_discs
from unetkit.core.errors import PlanError
from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.formats.base import ImageInfo
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.plan.parts import PostPlan
from unetkit.predict.decide import Rule, decide
from unetkit.predict.decoding import Decoding
from unetkit.predict.finished import Finished
from unetkit.predict.options import OutputOptions
from unetkit.predict.overlay import draw
from unetkit.predict.post import cleaned_array, plain_scores, postprocessed
from unetkit.predict.tuned import Tuned


def legend(kind: Any = "values", names: tuple[str, ...] = ("back", "liver", "tumour"), **more: Any) -> Legend:
    values = {"instances": (0, 255, 254)}.get(kind, (0, 1, 2, 3))
    if kind == "regions":
        values, more = (1, 2, 3, 4), {"background": None} | more
    classes = tuple(LegendClass(name=n, value=v, colour=(90, 9, v)) for n, v in zip(names, values, strict=False))
    return Legend(kind=kind, classes=classes, **{"background": 0, **more})


CELLS = legend("instances", ("background", "cell", "border"), border=2)


def info(shape: tuple[int, ...], spacing: tuple[float, ...] | None = None) -> ImageInfo:
    return ImageInfo(shape, 1, False, "uint8", "grey", spacing=spacing)


def cleaned(label: np.ndarray, legend: Legend, spacing: tuple[float, ...] | None = None, **plan: Any) -> np.ndarray:
    return cleaned_array(label.astype(np.uint8), legend, PostPlan(**plan), info(label.shape, spacing))[0]


ORGANS = np.array(
    [
        [1, 1, 1, 1, 0, 0, 2],
        [1, 0, 1, 1, 0, 0, 0],
        [1, 1, 1, 2, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]
)


def test_nothing_changes_unless_asked() -> None:
    assert np.array_equal(cleaned(ORGANS, legend()), ORGANS)


def test_largest_areas_stay_of_named_classes() -> None:
    result = cleaned(ORGANS, legend(), keep_largest=("liver",))
    assert np.array_equal(result, np.where((ORGANS == 1) & (np.arange(7) == 5), 0, ORGANS))
    assert (cleaned(ORGANS, legend(), keep_largest="all") == 2).sum() == 1


def test_sizes_are_in_the_unit_of_the_spacing() -> None:
    for spacing, smallest in ((None, 2), ((0.5, 2.0), 2.0), ((0.1, 0.1), 0.02)):
        result = cleaned(ORGANS, legend(), spacing, smallest=smallest)
        assert (result > 0).sum() == 10, spacing  # three areas of one pixel are gone
    assert (cleaned(ORGANS, legend(), smallest={"tumour": 2}) == 2).sum() == 0
    assert (cleaned(ORGANS, legend(), smallest={"tumour": 2}) == 1).sum() == 11


def test_holes_are_filled_with_what_surrounds_them() -> None:
    assert cleaned(ORGANS, legend(), fill_holes="all")[1, 1] == 1
    assert cleaned(ORGANS, legend(), (3.0, 1.0), fill_holes=2)[1, 1] == 0
    assert cleaned(ORGANS, legend(), (3.0, 1.0), fill_holes=3)[1, 1] == 1


def test_background_need_not_be_the_first_class() -> None:
    swapped = legend(background=1)
    label = np.array([[1, 1, 1, 1], [1, 2, 1, 0], [1, 1, 1, 1], [2, 2, 2, 1], [2, 1, 2, 1], [2, 2, 2, 1]])
    result = cleaned(label, swapped, smallest=2, fill_holes="all")
    assert result.tolist() == [[1] * 4, [1] * 4, [1] * 4, [2, 2, 2, 1], [2, 2, 2, 1], [2, 2, 2, 1]]


def test_regions_that_overlap_are_cleaned_each_by_itself() -> None:
    both = legend("regions", ("whole", "core"))
    label = np.zeros((5, 7), int)
    label[:, :5] |= 1
    label[1:4, 1:4] |= 2
    label[2, 2], label[0, 6] = 0, 3
    result = cleaned(label, both, smallest={"core": 2}, fill_holes="all")
    assert result[2, 2] == 3
    assert result[0, 6] == 1


def test_what_holds_nothing_stays_so() -> None:
    label = ORGANS.copy()
    label[3, 3:], label[1, 1] = IGNORE, IGNORE
    for plan in ({"smallest": 2.0, "fill_holes": "all"}, {"objects": "components", "fill_holes": "all"}):
        result = cleaned(label, legend(), **plan)
        assert np.array_equal(result == IGNORE, label == IGNORE)


@pytest.mark.parametrize(
    ("of", "plan", "message"),
    [
        (
            legend(),
            {"keep_largest": ("livr",)},
            "no class 'livr'; the classes are back, liver, tumour; did you mean 'liv",
        ),
        (legend(), {"smallest": {"spleen": 3}}, "no class 'spleen'"),
        (legend(), {"objects": "watershed"}, "watershed needs the border of objects as a class, and none was learnt"),
        (legend(background=None), {"smallest": 3}, "what is removed becomes background, and here every class counts"),
        (legend("regions", ("a", "b")), {"objects": "components"}, "cannot be numbered in one mask"),
    ],
)
def test_what_cannot_be_done_is_refused(of: Legend, plan: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        cleaned(ORGANS * 0, of, **plan)


def touching() -> np.ndarray:
    """Two cells that touch, one apart with a hole, one that is border throughout: inside 1, border 2."""
    label = np.zeros((30, 60), np.uint8)
    for centre in ((14, 10), (14, 25), (14, 45)):
        label[disk(centre, 8)] = 2
    for centre in ((14, 10), (14, 25), (14, 45)):
        label[disk(centre, 5.5)] = 1
    label[14, 45] = 0
    label[2:4, 55:59] = 2
    return label


def test_objects_that_touch_are_numbered_one_by_one() -> None:
    label = touching()
    plain, ids = cleaned_array(label, CELLS, PostPlan(fill_holes="all"), info(label.shape))
    assert ids is not None
    assert ids[14, [10, 25, 45]].tolist() == [1, 2, 3]
    assert ids.max() == ids[2, 56] == 4
    assert ids[14, 45] == 3  # the hole belongs to its object
    assert np.array_equal(plain, (ids > 0).astype(np.uint8))
    assert abs(int((ids == 1).sum()) - int((ids == 2).sum())) < 12
    none = cleaned_array(label, CELLS, PostPlan(objects="none"), info(label.shape))
    assert none[1] is None
    assert np.array_equal(none[0], label > 0)


def test_small_objects_are_removed_and_the_others_numbered_anew() -> None:
    label = touching()
    for spacing, least in ((None, 20), ((2.0, 2.0), 80)):
        plain, ids = cleaned_array(label, CELLS, PostPlan(smallest=least), info(label.shape, spacing))
        assert ids is not None
        assert sorted(np.unique(ids)) == [0, 1, 2, 3]
        assert not plain[2:4, 55:59].any()


def test_connected_areas_may_be_objects() -> None:
    plain, ids = cleaned_array(ORGANS.astype(np.uint8), legend(), PostPlan(objects="components"), info(ORGANS.shape))
    assert ids is not None
    assert np.array_equal(plain, ORGANS)
    assert ids[[0, 0, 2, 2], [0, 6, 3, 5]].tolist() == [1, 2, 3, 4]


def test_borders_are_part_of_objects_in_probabilities_too(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).dirichlet((1, 1, 1), (30, 60)).transpose(2, 0, 1).astype(np.float32)
    label = touching()
    finished = Finished(
        info(label.shape),
        CELLS,
        lambda region: label[region.slices],
        lambda region: scores[(slice(None), *region.slices)],
        None,
    )
    result = postprocessed(finished, PostPlan(), tmp_path, 10**8)
    assert result.legend == CELLS.plain
    assert result.count == 4
    assert result.probabilities is not None
    whole = result.probabilities(Region.of(label.shape))
    np.testing.assert_allclose(whole, [scores[0], scores[1] + scores[2]], rtol=1e-6)
    np.testing.assert_allclose(plain_scores(scores, CELLS), whole)


def test_background_is_outvoted_by_inside_and_border_together() -> None:
    shares = torch.tensor([[0.6, 0.2, 0.2], [0.4, 0.3, 0.3], [0.1, 0.85, 0.05], [0.0, 1.0, 0.0]]).T
    rule = Rule(depths=CELLS.depths)
    assert decide(shares, False, False, rule).tolist() == [0, 3 + 75, 3 + 213, 254]
    assert decide(shares.log(), False, True, rule).tolist() == [0, 3 + 75, 3 + 213, 254]
    assert decide(shares, False, False, Rule(depths=CELLS.depths, ground=0.7)).tolist() == [0, 0, 3 + 213, 254]


def test_sure_insides_grow_to_objects_and_less_sure_ones_part_at_their_necks() -> None:
    label = np.where(touching() > 0, 254, 0).astype(np.uint8)
    assert cleaned_array(label, CELLS, PostPlan(), info(label.shape))[1].max() == 3  # type: ignore[union-attr]
    split = cleaned_array(label, CELLS, PostPlan(sure=0), info(label.shape))[1]
    kept = cleaned_array(label, CELLS, PostPlan(sure=0, neck=0.9), info(label.shape))[1]
    dip = cleaned_array(label, CELLS, PostPlan(sure=0, dip=6), info(label.shape))[1]
    assert split is not None
    assert split[14, 10] != split[14, 25]
    for ids in (kept, dip):
        assert ids is not None
        assert len(np.unique(ids[14, 8:27])) == 1


def test_overlays_outline_every_object() -> None:
    label = np.ones((9, 12), np.uint8)
    ids = np.repeat([[1] * 6 + [2] * 6], 9, 0)
    image = np.zeros((1, 9, 12))
    drawn, merged = draw(image, label, CELLS.plain, (0, 1), ids), draw(image, label, CELLS.plain, (0, 1))
    assert (drawn[0][:, 5:7] == 90).all()
    assert (drawn[0][:, [0, 4, 7, 11]] == 32).all()  # 0.35 of it
    assert (merged[0] == 32).all()  # 0.35 of it


def write_cells(folder: Path, count: int = 6) -> Path:
    """Pairs of discs that touch, bright on dark: images, and masks of their numbers."""
    generator = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for k in range(count):
        ids = touching_discs(generator, 6 + k % 3)
        image = 40 + 120 * (ids > 0) + generator.normal(0, 6, ids.shape)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"c{k}.png")
        tifffile.imwrite(folder / "masks" / f"c{k}.tif", ids)
    return folder


def test_instances_through_the_plain_verbs(tmp_path: Path) -> None:
    data, run = write_cells(tmp_path / "cells"), tmp_path / "run"
    settings = {"net.channels": "[8, 16]", "net.stem_stride": "1", "sampling.patch": "[64, 64]", "sampling.batch": "4",
                "machine.threads": "1"}  # fmt: skip
    uk.train(data, run, uk.Request(steps=120, precision="fp32", settings=settings), listen=lambda _: None)
    made = uk.open_run(run)
    assert made.plan.data.legend.names == ("background", "foreground", "border")
    assert "objects touch" in made.plan.reasons["predict.post.objects"]
    assert made.plan.predict.post.smallest == pytest.approx(made.plan.data.legend.least / 2, rel=0.01)

    Tuned().save(run)
    out = tmp_path / "out"
    uk.predict(run, data / "images", out, outputs=OutputOptions(measurements="csv"), listen=lambda _: None)
    ids, truth = np.asarray(Image.open(out / "c0.png")), tifffile.imread(data / "masks" / "c0.tif")
    assert ids.dtype == np.uint16
    assert ids.max() >= 0.5 * truth.max()
    assert len((out / "measurements" / "c0.csv").read_text().splitlines()) == ids.max() + 1
    assert np.array_equal(made.predict(np.asarray(Image.open(data / "images" / "c0.png"))) > 0, ids > 0)

    Tuned(decoding=Decoding(post=made.plan.predict.post.model_copy(update={"smallest": 1e6}))).save(run)
    counts = {}
    for name, more in {"tuned": {}, "argmax": {"decode": "argmax"}, "asked": {"post": {"smallest": 20}}}.items():
        uk.predict(run, data / "images" / "c0.png", tmp_path / name, listen=lambda _: None, **more)  # type: ignore[arg-type]
        counts[name] = int(np.asarray(Image.open(tmp_path / name / "c0.png")).max())
    assert counts["tuned"] == 0  # what was taught comes before the plan, what a user asks for before both
    assert counts["argmax"] == ids.max()
    assert counts["asked"] > 0
    Tuned().save(run)

    scores = uk.evaluate(out, data, listen=lambda _: None)
    assert scores.class_names == ("background", "foreground")
    assert scores.mean("dice").mean > 0.8
    assert scores.mean("ap50").mean > 0.5
    assert "objects, AP at IoU 0.5" in (run / "README.md").read_text()
    assert "objects, AP at IoU 0.5" in (run / "report.html").read_text()
