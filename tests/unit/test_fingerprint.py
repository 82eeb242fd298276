"""Facts of the training images, gathered block by block, and the grid and the intensities that follow from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from unetkit.data.case import Case
from unetkit.data.labels.legend import Legend
from unetkit.plan import fingerprint as module
from unetkit.plan import preparing
from unetkit.plan.fingerprint import CaseFacts, ClassFacts, Fingerprint, fingerprint
from unetkit.plan.resampling import with_grid


def _legend(kind: str = "values", ignore: int | None = None) -> Legend:
    classes = [{"name": f"c{v}", "value": v, "colour": (0, 0, 0)} for v in range(3)]
    return Legend.parse({"kind": kind, "classes": classes, "background": 0, "ignore": ignore, "reason": ""}, "test")


def _cases(shape: tuple[int, ...], n: int = 3) -> list[Case]:
    rng = np.random.default_rng(0)
    cases = []
    for k in range(n):
        image = rng.integers(0, 4000, (2, *shape)).astype(np.uint16)
        label = rng.choice(np.array([0, 0, 0, 1, 2, 7], np.uint8), shape)
        cases.append(Case(id=str(k), images=(image,), label=label, spacing=(1.0,) * len(shape)))
    return cases


@pytest.mark.parametrize("shape", [(3000,), (60, 50), (14, 21, 17)])
def test_facts_are_the_same_however_the_images_are_cut(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    cases, legend = _cases(shape), _legend(ignore=7)
    whole = fingerprint(cases, legend)
    assert whole.ignored == pytest.approx(1 / 6, abs=0.02)
    image = np.concatenate([np.asarray(c.images[0], np.float64).ravel() for c in cases[:1]])
    assert whole.cases[0].mean == pytest.approx(image.mean(), rel=1e-5)
    label = np.asarray(cases[0].label)
    faces = sum(int(((a != b) & ((a == 1) | (b == 1))).sum()) for a, b in _neighbours(label))
    alone = fingerprint(cases[:1], legend)
    assert alone.classes[1].thickness == pytest.approx((4 if label.ndim == 3 else 2) * (label == 1).sum() / faces)
    monkeypatch.setattr(module, "BLOCK", 700)
    monkeypatch.setattr(module, "blocks", lambda *a: _small(*a))
    assert fingerprint(cases, legend) == whole


def _small(shape: tuple[int, ...], chunk: tuple[int, ...] | None, backwards: bool, pixels: int = 700) -> object:
    from unetkit.data.prepared.statistics import blocks

    return blocks(shape, chunk, not backwards, min(pixels, 700))


def _neighbours(label: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    along = [np.moveaxis(label, axis, 0) for axis in range(label.ndim)]
    return [(a[1:], a[:-1]) for a in along]


def test_overlapping_regions_are_counted_each_for_itself() -> None:
    first, second = np.zeros((12, 12), bool), np.zeros((12, 12), bool)
    first[2:8, 2:8] = second[4:10, 4:10] = True
    label = (first + 2 * second).astype(np.uint8)  # 3 where both are
    label[:, 11] = 9
    classes = [
        {"name": n, "value": v, "colour": (0, 0, 0), "codes": codes}
        for n, v, codes in (("a", 1, (1, 3)), ("b", 2, (2, 3)))
    ]
    legend = Legend.parse(
        {"kind": "regions", "classes": classes, "background": None, "ignore": 9, "reason": ""}, "test"
    )
    facts = fingerprint([Case(id="a", images=(np.zeros((1, 12, 12), np.uint8),), label=label)], legend)
    assert facts.ignored == pytest.approx(1 / 12)
    for region in facts.classes:
        assert region.fraction == pytest.approx(36 / 132)
        assert region.thickness == pytest.approx(2 * 36 / 24)


def _ct(rng: np.random.Generator, offset: float = 0) -> np.ndarray:
    scan = rng.normal(-1000, 10, (20, 30, 30))
    scan[5:15, 5:25, 5:25] = rng.normal(40, 30, (10, 20, 20))
    scan[8:10, 8:10, 8:10] = 900
    scan[:, 0] = -2048
    return np.asarray(scan + offset, np.int16)


def test_hounsfield_units_are_known_by_their_air_and_tissue() -> None:
    rng = np.random.default_rng(0)
    label = np.zeros((20, 30, 30), np.uint8)
    label[8:12, 10:20, 10:20] = 1
    for values, expected in (
        (_ct(rng), True),
        (np.maximum(_ct(rng, 1024), 0), False),  # stored without the intercept: no Hounsfield units
        (rng.integers(-4096, 4096, (20, 30, 30)).astype(np.int16), False),  # phases of an MR
        (rng.normal(size=(20, 30, 30)).astype(np.float32), False),
        (rng.integers(0, 900, (20, 30, 30)).astype(np.uint16), False),
    ):
        facts = fingerprint([Case(id="a", images=(values[None],), label=label)], _legend())
        assert facts.cases[0].ct == expected
    facts = fingerprint([Case(id="a", images=(_ct(rng)[None],), label=label)], _legend())
    plan, why = preparing.prepare(facts, foreground=(1, 2))
    assert (plan.normalise, plan.method) == ("set", "window")
    assert "those of a CT" in why["prepare.normalise"]
    unmarked, _ = preparing.prepare(facts, foreground=(2,))
    assert (unmarked.normalise, unmarked.method) == ("set", "percentile")


def test_bands_of_maps_are_measured_over_the_set(shared_data: Callable[[str], Path]) -> None:
    pytest.importorskip("rasterio")
    image = next((shared_data("geo") / "images").glob("*.tif"))
    facts = fingerprint([Case(id="a", images=(image,))], _legend())
    assert facts.cases[0].map
    plan, why = preparing.prepare(facts)
    assert (plan.normalise, plan.method) == ("set", "percentile")
    assert "mean the same everywhere" in why["prepare.normalise"]


# --- to which grid


def facts(
    *spacings: tuple[float, ...] | None,
    size: tuple[int, ...] = (100, 100, 100),
    units: tuple[str, ...] = ("mm",),
    codes: tuple[str, ...] = ("",),
) -> Fingerprint:
    cases = tuple(
        CaseFacts(
            id=str(k),
            shape=size,
            spacing=spacing,
            channels=1,
            dtype="int16",
            mean=0,
            std=1,
            unit=units[k % len(units)] if spacing else "",
            orientation=codes[k % len(codes)],
        )
        for k, spacing in enumerate(spacings)
    )
    classes = (ClassFacts(name="organ", fraction=0.5, cases=1, thickness=8.0),)
    return Fingerprint(cases=cases, classes=classes, colour=False, ignored=0.0)


def test_spacings_that_agree_are_kept_and_what_has_another_is_brought_to_it() -> None:
    known = facts((1.0, 1.0, 1.0), (1.001, 1.0, 0.999), (1.0, 1.0, 1.0))
    plan, why = preparing.prepare(known)
    assert plan.spacing == (1.0, 1.0, 1.0)
    assert "all images have 1 × 1 × 1 mm: none is resampled" in why["prepare.spacing"]
    assert all(case.grid(plan).identity for case in known.cases)
    assert facts((2.0, 1.0, 1.0)).cases[0].grid(plan).shape == (200, 100, 100)


def test_spacings_that_differ_are_brought_to_their_median() -> None:
    known = facts((1.0, 1.0, 1.0), (1.2, 1.2, 1.2), (1.5, 1.5, 1.5))
    plan, why = preparing.prepare(known)
    assert plan.spacing == (1.2, 1.2, 1.2)
    assert why["prepare.spacing"] == "spacings differ (1 × 1 × 1 … 1.5 × 1.5 × 1.5 mm): resampled to their median"
    prepared = known.prepared(plan)
    assert [case.shape[0] for case in prepared.cases] == [83, 100, 125]
    assert prepared.cases[0].spacing == pytest.approx((1.2, 1.2, 1.2), rel=0.01)
    assert prepared.classes[0].thickness == pytest.approx(8.0)
    signals, why = with_grid(plan, facts((1 / 360,), (1 / 500,), (1 / 500,), size=(5000,), units=("s",)))
    assert signals.spacing == (0.002,)


def test_of_thick_slices_nearly_the_thinnest_are_wanted() -> None:
    spacings = [(0.7, 0.7, thick) for thick in (2.5, 5.0, 5.0, 5.0, 5.0, 7.0, 7.0, 7.0, 5.0, 5.0)]
    plan, why = preparing.prepare(facts(*spacings, size=(512, 512, 60)))
    assert plan.spacing is not None
    assert plan.spacing[:2] == (0.7, 0.7)
    assert plan.spacing[2] == pytest.approx(4.75)
    assert "along the thick axis to the 10th percentile" in why["prepare.spacing"]


def test_resampling_does_not_blow_up_what_has_to_be_held() -> None:
    spacings = [(0.1, 0.1, 0.1)] * 3 + [(1.0, 1.0, 1.0)] * 2
    known = facts(*spacings)
    plan, why = preparing.prepare(known)
    assert plan.spacing is not None
    assert plan.spacing[0] > 0.4
    assert "no more than 4 times their pixels" in why["prepare.spacing"]
    made = sum(np.prod(case.shape) for case in known.prepared(plan).cases)
    assert made < 4.2 * sum(np.prod(case.shape) for case in known.cases)


def test_where_spacings_cannot_be_compared_nothing_is_resampled() -> None:
    plan, why = preparing.prepare(facts((1.0, 1.0, 1.0), None))
    assert plan.spacing is None
    assert why["prepare.spacing"] == "of 1 images the spacing is not known: all are taken as they are"
    plan, why = preparing.prepare(facts((1.0, 1.0, 1.0), (2.0, 1.0, 1.0), units=("mm", "degree")))
    assert plan.spacing is None
    assert "some spacings are in mm, others in degree" in why["prepare.spacing"]
    plan, _ = preparing.prepare(facts((1.0, 1.0, 1.0), (1000.0, 1000.0, 1000.0), units=("mm", "µm")))
    assert plan.spacing == (1.0, 1.0, 1.0)
    plan, why = preparing.prepare(facts(None, None, size=(64, 64)))
    assert (plan.spacing, "prepare.spacing" in why) == (None, False)


def test_axes_that_point_differently_are_reordered() -> None:
    one = facts((1.0, 2.0, 3.0), (1.0, 2.0, 3.0), codes=("LPS",))
    plan, why = preparing.prepare(one)
    assert (plan.orientation, "prepare.orientation" in why) == ("LPS", False)
    mixed = facts((1.0, 2.0, 3.0), (3.0, 2.0, 1.0), size=(10, 20, 30), codes=("LPS", "SAR"))
    plan, why = preparing.prepare(mixed)
    assert (plan.orientation, plan.spacing) == ("RAS", (1.0, 2.0, 3.0))
    assert why["prepare.orientation"] == "axes point differently (1 LPS, 1 SAR): all are reordered to RAS"
    assert [case.shape for case in mixed.prepared(plan).cases] == [(10, 20, 30), (30, 20, 10)]


def test_hippocampi_stay_as_they_are(shared_data: Callable[[str], Path]) -> None:
    images = (
        sorted((shared_data("hippocampus") / "imagesTr").glob("*.nii*"))[:5]
        or sorted(shared_data("hippocampus").rglob("*.nii*"))[:5]
    )
    known = fingerprint([Case(id=p.name, images=(p,)) for p in images], _legend())
    plan, _ = preparing.prepare(known)
    assert (plan.spacing, plan.normalise) == ((1.0, 1.0, 1.0), "image")
    assert all(case.grid(plan).identity for case in known.cases)
    assert known.cases[0].orientation == "".join(nibabel.aff2axcodes(nibabel.load(images[0]).affine))
