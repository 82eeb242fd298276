"""Levels of depth in objects: by hand, against a naive loop, by region as in the whole, from files to objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import unetkit as uk
from discs import touching_discs
from unetkit.core.errors import PlanError
from unetkit.core.region import Region
from unetkit.data.case import IGNORE, Case
from unetkit.data.labels.depths import (
    DEEPEST,
    LEVELS,
    depth_table,
    level_depths,
    radius_for,
    relative_depth,
    with_levels,
)
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.data.labels.masks import OpenLabel
from unetkit.data.labels.number_classes import learnt_by


def levels_legend(radius: int = 12) -> Legend:
    names = zip(("back", "cell", "depth 2", "edge"), (0, 255, 254, 253), strict=True)
    classes = tuple(LegendClass(name=n, value=v, colour=(0, 0, v)) for n, v in names)
    return Legend(kind="instances", classes=classes, background=0, levels=LEVELS, radius=radius)


def blobs(shape: tuple[int, ...], seed: int = 0, count: int = 14) -> np.ndarray:
    """Numbered balls that touch: every pixel belongs to the nearest centre, if that is near enough."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1).astype(float)
    centres = generator.random((count, len(shape))) * shape
    distance = np.linalg.norm(grid[..., None, :] - centres, axis=-1)
    return np.where(distance.min(-1) < generator.uniform(3, 9, count)[distance.argmin(-1)], distance.argmin(-1) + 1, 0)


def test_levels_by_hand() -> None:
    ids = np.repeat([[0, 0, *[5] * 9, *[7] * 3, 0, 0]], 40, 0)  # long bars, of nine and of three pixels
    label = with_levels(ids, (ids > 0).astype(np.uint8), LEVELS, 12)
    # of nine: depths 0.5 … 4.5; of three: 0.5 and 1.5
    assert label[20].tolist() == [0, 0, 3, 2, 2, 1, 1, 1, 2, 2, 3, 2, 1, 2, 0, 0]


def test_nothing_follows_from_what_is_not_known_nor_from_the_edge() -> None:
    ids = np.array([[4, 4, 4, 0, 6, 6, 6, 0, 0, 8, 8]])
    label = np.array([[1, 1, 1, 0, 1, 1, 1, IGNORE, 0, 1, 1]], np.uint8)
    depth = relative_depth(ids, label, 9)[0]
    np.testing.assert_allclose(depth, [1, 0.6, 0.2, 0, 1 / 7, 3 / 7, 5 / 7, 0, 0, 1 / 3, 1], rtol=1e-6, atol=0.3)
    assert depth[0] == 1 > depth[1] > depth[2] > 0
    assert depth[6] == 1 > depth[5] > depth[4]  # deepest beside what nobody knows
    assert (relative_depth(np.full((3, 4), 2), np.ones((3, 4), np.uint8), 9) == 1).all()
    assert with_levels(ids, label, LEVELS, 9)[0, 7] == IGNORE


@pytest.mark.parametrize(
    ("shape", "spacing"), [((60,), None), ((22, 26), None), ((22, 26), (2.0, 1.0)), ((9, 12, 11), (3.0, 1.0, 1.0))]
)
@pytest.mark.parametrize("radius", [3, 30])
def test_relative_depth_is_that_of_a_naive_loop(
    shape: tuple[int, ...], spacing: tuple[float, ...] | None, radius: int
) -> None:
    ids = blobs(shape)
    label = (ids > 0).astype(np.uint8)
    label[(slice(0, 3),) * len(shape)] = IGNORE
    lengths = np.asarray(spacing or (1.0,) * len(shape))
    pixels = np.argwhere(np.ones(shape, bool))
    far = np.zeros(shape)
    for pixel in map(tuple, np.argwhere(label == 1)):
        others = pixels[(ids.reshape(-1) != ids[pixel]) & (label.reshape(-1) != IGNORE)]
        far[pixel] = min(radius, np.linalg.norm((others - pixel) * lengths, axis=1).min() - 0.5)
    expected = np.zeros(shape)
    for pixel in map(tuple, np.argwhere(label == 1)):
        reach = np.ceil(radius / lengths)
        near = (np.abs(pixels - pixel) <= reach).all(1) & ((ids == ids[pixel]) & (label == 1)).reshape(-1)
        expected[pixel] = far[pixel] / far.reshape(-1)[near].max()
    np.testing.assert_allclose(relative_depth(ids, label, radius, spacing), expected, rtol=1e-5)


@pytest.mark.parametrize("spacing", [None, (2.0, 0.5)])
@pytest.mark.parametrize("radius", [4, 9])
def test_a_region_with_its_reach_has_the_levels_of_the_whole(spacing: tuple[float, ...] | None, radius: int) -> None:
    ids, legend = blobs((90, 80), 1, 60), levels_legend(radius)
    whole = legend.encode(ids, False, spacing)[0]
    assert sorted(np.unique(whole)) == [0, 1, 2, 3]
    region = Region((31, 29), (60, 51))
    wide = region.grow(legend.reach(2, spacing)).intersect(Region.of(ids.shape))
    part = legend.encode(ids[wide.slices], False, spacing)[0]
    assert np.array_equal(part[region.within(wide).slices], whole[region.slices])
    with OpenLabel(Case("a", (), ids), legend) as label:
        assert np.array_equal(label.read(region), legend.encode(ids)[0][region.slices])


def test_masks_and_scores_know_objects_only() -> None:
    ids, legend = blobs((40, 40)), levels_legend()
    label = legend.encode(ids)[0]
    assert legend.touching
    assert legend.foreground == (1,)
    assert legend.depths == (0.0, 1.0, 0.5, 0.0)
    assert legend.plain.names == ("back", "cell")
    assert np.array_equal(legend.merge(label), (ids > 0).astype(np.uint8))
    assert np.array_equal(legend.decode(label), np.where(ids > 0, 255, 0))
    assert Legend.model_validate_json(legend.model_dump_json()) == legend


def test_labels_of_expected_depths_are_read_by_one_table() -> None:
    table = depth_table(level_depths(LEVELS))
    assert table[[0, IGNORE]].tolist() == [-1, -1]
    assert table[[1, 2, 3, 4, DEEPEST]].tolist() == [1, 0.5, 0, 0, 1]
    assert (np.diff(table[4:IGNORE]) > 0).all()
    assert np.array_equal(
        levels_legend().merge(np.arange(256).astype(np.uint8))[[0, 1, 4, 254, 255]], [0, 1, 1, 1, 255]
    )


def test_radii_follow_the_largest_objects_within_bounds() -> None:
    assert radius_for(314, 2) == 40  # discs of radius 10
    assert [radius_for(n, 2) for n in (1, 0, 10**6)] == [4, 96, 96]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": (0.6, 0.3)}, "relative depths between 0 and 1, ascending, not"),
        ({"radius": 0}, "at least 1 element, not 0"),
        ({"border": 2}, "by a border or by levels of depth, not by both"),
        ({"levels": (0.5,)}, "2 classes|3 classes for 1 depths"),
    ],
)
def test_levels_that_cannot_be_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Legend.model_validate(levels_legend().model_dump() | changes)


def test_a_legend_of_objects_can_be_told_what_to_learn() -> None:
    plain = levels_legend().plain
    border, depth = learnt_by(plain, "border", 2), learnt_by(plain, "depth", 2)
    assert (border.names, border.border) == (("back", "cell", "border"), 2)
    assert (depth.names, depth.levels) == (("back", "cell", "depth 2", "edge"), LEVELS)
    assert "how deep a pixel lies in its object is learnt, in 3 classes, as asked" in depth.reason
    assert learnt_by(depth, "none", 2).plain == learnt_by(depth, "none", 2)
    assert learnt_by(border, "border", 2) is border


def discs(seed: int) -> np.ndarray:
    """Numbered pairs of discs that touch."""
    return touching_discs(np.random.default_rng(seed), 6 + seed % 3)


def test_objects_by_depth_through_the_plain_verbs(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for k in range(6):
        ids = discs(k)
        noise = np.random.default_rng(k).normal(0, 6, ids.shape)
        Image.fromarray((40 + 120 * (ids > 0) + noise).clip(0, 255).astype(np.uint8)).save(
            tmp_path / "data" / "images" / f"c{k}.png"
        )
        tifffile.imwrite(tmp_path / "data" / "masks" / f"c{k}.tif", ids)
    settings = {"net.channels": "[8, 16]", "net.stem_stride": "1", "sampling.patch": "[64, 64]", "machine.threads": "1",
                "learn.objects": "depth"}  # fmt: skip
    run = tmp_path / "run"
    uk.train(tmp_path / "data", run, uk.Request(steps=60, precision="fp32", settings=settings), listen=lambda _: None)
    made = uk.open_run(run)
    assert made.plan.data.legend.levels == LEVELS
    assert made.plan.learn.objects == "depth"
    assert made.plan.net.classes == 4
    uk.predict(run, tmp_path / "data" / "images", tmp_path / "out", listen=lambda _: None)
    scores = uk.evaluate(tmp_path / "out", tmp_path / "data", listen=lambda _: None)
    assert scores.class_names == ("background", "foreground")
    assert scores.mean("dice").mean > 0.8
    assert scores.mean("ap50").mean > 0.2

    for k in range(6):  # classes instead of objects
        tifffile.imwrite(tmp_path / "data" / "masks" / f"c{k}.tif", (discs(k) > 0).astype(np.uint8))
    with pytest.raises(PlanError, match=r"--set learn\.objects=depth: these masks number no objects"):
        uk.train(tmp_path / "data", tmp_path / "b", uk.Request(steps=1, settings=settings), listen=lambda _: None)
