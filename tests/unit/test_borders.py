"""Borders of objects: what is border, at what spacing, at what edge, and what is not known."""

from __future__ import annotations

import numpy as np
import pytest

from unetkit.core.region import Region
from unetkit.data.case import IGNORE, Case
from unetkit.data.labels.borders import BORDER, INSIDE, WIDTH, crowded, reach, with_borders
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.data.labels.masks import OpenLabel
from unetkit.data.labels.survey import infer_legend


def borders(ids: np.ndarray, width: float = 1, spacing: tuple[float, ...] | None = None) -> np.ndarray:
    return with_borders(ids, (ids != 0).astype(np.uint8), width, spacing)


def squares(gap: int = 0, side: int = 8) -> np.ndarray:
    ids = np.zeros((side + 4, 2 * side + gap + 4), np.uint16)
    ids[2 : 2 + side, 2 : 2 + side] = 1
    ids[2 : 2 + side, 2 + side + gap : 2 + 2 * side + gap] = 7
    return ids


def test_the_rim_of_every_object_is_border() -> None:
    label = borders(squares(), 2)
    assert label[2:10, 2:18].tolist() == [
        [BORDER] * 16,
        [BORDER] * 16,
        *[[BORDER] * 2 + [INSIDE] * 4 + [BORDER] * 4 + [INSIDE] * 4 + [BORDER] * 2] * 4,
        [BORDER] * 16,
        [BORDER] * 16,
    ]
    assert not label[squares() == 0].any()


def test_the_edge_of_the_image_is_no_border() -> None:
    assert (borders(np.full((5, 6), 3), 2) == INSIDE).all()
    assert borders(np.array([4, 4, 4, 0, 9]), 1).tolist() == [1, 1, 2, 0, 2]


def test_nothing_follows_from_what_is_not_known() -> None:
    ids = np.array([[5, 5, 5, 0, 0, 6, 6, 6]])
    label = np.array([[1, 1, 1, IGNORE, IGNORE, 1, 1, 1]], np.uint8)
    assert with_borders(ids, label, 2).tolist() == label.tolist()


def test_a_thick_axis_has_no_border_of_its_own_but_keeps_objects_apart() -> None:
    ids = np.zeros((4, 9, 9), np.uint8)
    ids[1, 1:8, 1:8], ids[2, 1:8, 1:8] = 1, 2
    thick = borders(ids, 1, (5.0, 1.0, 1.0))
    assert (thick[1:3, 2:7, 2:7] == BORDER).all()  # another object lies in the next slice
    alone = np.where(ids == 1, 1, 0)
    assert (borders(alone, 1, (5.0, 1.0, 1.0))[1, 2:7, 2:7] == INSIDE).all()  # background does not count so far away
    assert (borders(alone, 1)[1, 2:7, 2:7] == BORDER).all()


def test_widths_below_a_pixel_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 pixel wide, not 0"):
        borders(squares(), 0)


@pytest.mark.parametrize("spacing", [None, (2.0, 0.5), (1.0, 1.0)])
def test_a_region_with_its_reach_has_the_borders_of_the_whole(spacing: tuple[float, ...] | None) -> None:
    generator = np.random.default_rng(0)
    ids = generator.integers(0, 4, (12, 14)).repeat(3, 0).repeat(3, 1)
    legend = Legend(
        kind="instances",
        classes=tuple(LegendClass(name=n, value=v, colour=(0, 0, 0)) for n, v in (("b", 0), ("o", 255), ("r", 2))),
        background=0,
        border=WIDTH,
    )
    whole = legend.encode(ids, False, spacing)[0]
    region = Region((7, 9), (20, 31))
    wide = region.grow(reach(2, WIDTH, spacing)).intersect(Region.of(ids.shape))
    part = legend.encode(ids[wide.slices], False, spacing)[0]
    assert np.array_equal(part[region.within(wide).slices], whole[region.slices])
    with OpenLabel(Case("a", (), ids), legend) as label:
        assert np.array_equal(label.read(region), legend.encode(ids)[0][region.slices])


@pytest.mark.parametrize(("gap", "found"), [(0, [1, 7]), (1, [1, 7]), (2, [])])
def test_objects_are_crowded_with_a_pixel_between_them_at_most(gap: int, found: list[int]) -> None:
    assert crowded(squares(gap)).tolist() == found


def cases(gap: int) -> list[Case]:
    """Masks of 12, 13 and 14 pairs of squares, `gap` pixels apart."""
    found = []
    for n in (12, 13, 14):
        tiles = []
        for k in range(n):
            one = squares(gap).astype(np.int32)
            tiles.append(np.where(one == 1, 2 * k + 1, np.where(one == 7, 2 * k + 2, 0)))
        found.append(Case(str(n), (), np.concatenate(tiles)))
    return found


def test_the_border_is_learnt_where_objects_touch() -> None:
    legend, survey = infer_legend(cases(0))
    assert legend.names == ("background", "foreground", "border")
    assert (legend.border, legend.least, legend.foreground) == (WIDTH, 64, (1,))
    assert "100 % of them touch another: their border (2 pixels) is learnt" in legend.reason
    for case, counted in zip(cases(0), survey.cases, strict=True):
        assert isinstance(case.label, np.ndarray)
        assert counted.counts == tuple(np.bincount(legend.encode(case.label)[0].reshape(-1)))


def test_objects_that_lie_apart_need_no_border() -> None:
    legend, _ = infer_legend(cases(3))
    assert legend.names == ("background", "foreground")
    assert legend.border == 0
    assert "0 % of them touch another: connected areas are objects" in legend.reason


def test_masks_and_scores_know_objects_only() -> None:
    legend, _ = infer_legend(cases(0))
    ids = squares()
    label = legend.encode(ids)[0]
    assert legend.plain.names == ("background", "foreground")
    assert np.array_equal(legend.merge(label), (ids != 0).astype(np.uint8))
    assert np.array_equal(legend.merge(label), legend.plain.encode(ids)[0])
    assert np.array_equal(legend.decode(label), np.where(ids != 0, 255, 0))
    assert legend.plain.plain == legend.plain
    assert Legend.model_validate_json(legend.model_dump_json()) == legend


def test_a_border_belongs_to_instances() -> None:
    two = tuple(LegendClass(name=n, value=v, colour=(0, 0, 0)) for n, v in (("a", 0), ("b", 1)))
    with pytest.raises(ValueError, match="a border tells instances apart"):
        Legend(kind="values", classes=two, background=0, border=2)
    with pytest.raises(ValueError, match="three classes, of which the last is the border and the first is 0"):
        Legend(kind="instances", classes=two, background=0, border=2)
