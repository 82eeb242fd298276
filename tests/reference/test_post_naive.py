"""Scores of objects and post-processing against the plainest code that says the same."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unetkit.core.region import Region
from unetkit.data.formats.base import ImageInfo
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.metrics.instances import image_scores, object_scores
from unetkit.plan.parts import PostPlan
from unetkit.predict.finished import Finished
from unetkit.predict.post.clean import _postprocessed
from unetkit.predict.post.room import Room

LEGEND = Legend(
    kind="values",
    classes=tuple(LegendClass(name=n, value=k, colour=(k, k, k)) for k, n in enumerate(("back", "a", "b"))),
    background=0,
)


def naive_scores(truth: np.ndarray, found: np.ndarray, threshold: float) -> tuple[int, int, int, float]:
    """Found, invented, missed and the summed IoU, pair by pair."""
    truths, founds = (sorted(set(ids.reshape(-1).tolist()) - {0}) for ids in (truth, found))
    pairs = []
    for t, p in itertools.product(truths, founds):
        iou = ((truth == t) & (found == p)).sum() / ((truth == t) | (found == p)).sum()
        if iou > threshold:
            pairs.append((t, p, iou))
    assert len({t for t, _, _ in pairs}) == len({p for _, p, _ in pairs}) == len(pairs)  # each at most once
    n = len(pairs)
    return n, len(founds) - n, len(truths) - n, float(sum(iou for _, _, iou in pairs))


@st.composite
def two_masks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids of true objects, of predicted ones that resemble them, and what is ignored."""
    shape = tuple(draw(st.integers(1, 9)) for _ in range(draw(st.integers(1, 3))))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    truth = generator.choice([0, 3, 500, 70_000], shape)
    for axis in range(truth.ndim):
        truth = truth.repeat(2, axis)
    found = np.where(generator.random(truth.shape) < draw(st.sampled_from([0.0, 0.1, 0.3])), 8, truth)
    return truth, found * 2, generator.random(truth.shape) < draw(st.sampled_from([0.0, 0.2]))


@settings(max_examples=100, deadline=None)
@given(two_masks())
def test_scores_of_objects_are_those_of_all_pairs(masks: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    truth, found, ignored = masks
    for score in object_scores(truth, found, ignored):
        kept = ~ignored
        n, invented, missed, overlap = naive_scores(truth * kept, found * kept, score.threshold)
        assert (score.found, score.invented, score.missed) == (n, invented, missed)
        total = n + invented + missed
        for value, expected in (
            (score.ap, n / total if total else np.nan),
            (score.f1, 2 * n / (2 * n + invented + missed) if total else np.nan),
            (score.pq, overlap / (n + (invented + missed) / 2) if total else np.nan),
        ):
            assert value == pytest.approx(expected, nan_ok=True)


def test_scores_of_objects_by_hand() -> None:
    truth = np.repeat([1, 1, 1, 1, 0, 2, 2, 3, 3, 3], 3)
    found = np.repeat([9, 9, 9, 0, 0, 4, 0, 0, 0, 7], 3)
    first = object_scores(truth, found)[0]  # 9 has 3/4 of 1; 4 exactly half of 2, which is not above it; 7 a third of 3
    assert (first.found, first.invented, first.missed, first.overlap) == (1, 2, 2, 0.75)
    scores = image_scores(truth, found)
    assert scores["ap50"] == pytest.approx(1 / 5)
    assert scores["ap50_90"] == pytest.approx((1 / 5 + 1 / 5 + 1 / 5 + 0 + 0) / 5)
    assert scores["object_f1"] == pytest.approx(1 / 3)
    assert scores["pq"] == pytest.approx(0.75 / 3)


def test_images_without_objects_have_no_value_and_wrong_arguments_are_refused() -> None:
    nothing = np.zeros((3, 3), int)
    assert np.isnan(list(image_scores(nothing, nothing).values())).all()
    assert image_scores(nothing, nothing + 1)["ap50"] == 0
    with pytest.raises(ValueError, match="differ in shape"):
        object_scores(nothing, nothing[1:])
    with pytest.raises(ValueError, match="an object may have two partners"):
        object_scores(nothing, nothing, thresholds=(0.4,))


def naive_clean(label: np.ndarray, plan: PostPlan, voxel: float) -> np.ndarray:
    """Whole image, class by class, with scipy."""
    full = np.ones((3,) * label.ndim)
    result = label.copy()
    for k, name in ((1, "a"), (2, "b")):
        ids, n = ndimage.label(label == k, full)
        sizes = np.bincount(ids.reshape(-1), minlength=n + 1)[1:]
        keep = sizes * voxel >= plan.smallest_of(name)
        if plan.keeps_one(name) and n:
            keep &= np.arange(n) == sizes.argmax()
        result[np.isin(ids, np.flatnonzero(~keep) + 1)] = 0
    if plan.fill_holes:
        most = np.inf if plan.fill_holes == "all" else plan.fill_holes
        ids, n = ndimage.label(result == 0)
        filled = result.copy()
        padded = np.pad(ids, 1, constant_values=-1)
        for hole in range(1, n + 1):
            inside = padded == hole
            beside = ndimage.binary_dilation(inside) & ~inside
            around = {
                -1 if padded[p] == -1 else result[tuple(i - 1 for i in p)]
                for p in zip(*np.nonzero(beside), strict=True)
            }
            if len(around) == 1 and -1 not in around and inside.sum() * voxel <= most:
                filled[ids == hole] = around.pop()
        result = filled
    return result


plans = st.builds(
    PostPlan,
    keep_largest=st.sampled_from([(), ("a",), ("a", "b"), "all"]),
    smallest=st.sampled_from([0.0, 3.0, {"b": 6.0}]),
    fill_holes=st.sampled_from([0.0, 2.0, "all"]),
)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), plans, st.sampled_from([None, 2.0]), st.integers(1, 3))
def test_cleaned_labels_are_those_of_plain_code_and_cleaning_twice_changes_nothing(
    seed: int, plan: PostPlan, side: float | None, ndim: int
) -> None:
    generator = np.random.default_rng(seed)
    shape = {1: (40,), 2: (9, 11), 3: (5, 4, 6)}[ndim]
    label = generator.choice(3, shape, p=(0.4, 0.4, 0.2)).astype(np.uint8)
    spacing = None if side is None else (side, *(1.0,) * (ndim - 1))
    info = ImageInfo(shape, 1, False, "uint8", "grey", spacing=spacing)
    room = Room(Path("nothing lies on disk"), 10**9, tuple(int(n) for n in generator.integers(1, 6, ndim)))

    def cleaned(array: np.ndarray) -> np.ndarray:
        finished = Finished(info, LEGEND, lambda region: array[region.slices], None, None)
        return _postprocessed(finished, plan, room).labels(Region.of(shape))

    once = cleaned(label)
    assert np.array_equal(once, naive_clean(label, plan, 1.0 if side is None else side))
    assert np.array_equal(cleaned(once), once)
