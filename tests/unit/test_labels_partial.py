"""Partly annotated sets: a few slices, strokes, parts of signals. What is not annotated teaches nothing and is not
scored, and the doctor counts only what is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from unetkit.core.region import Region
from unetkit.data.case import IGNORE, Case
from unetkit.data.doctor.examine import examine
from unetkit.data.find.discover import discover
from unetkit.data.find.sample import Sample, read_samples
from unetkit.data.labels.mask_facts import mask_facts
from unetkit.data.labels.masks import OpenLabel, read_label
from unetkit.data.labels.survey import infer_legend
from unetkit.losses import make_loss
from unetkit.metrics import score_case

Array = np.ndarray


def volume(seed: int = 0) -> Array:
    """A ball of 1 with a core of 2 in 0."""
    z, y, x = np.mgrid[:24, :24, :24] - 12 + np.random.default_rng(seed).integers(-2, 3, 3)[:, None, None, None]
    far = z**2 + y**2 + x**2
    return (far < 81).astype(np.uint8) + (far < 20)


def saved(folder: Path, name: str, label: Array) -> Case:
    path = folder / f"{name}.nii.gz"
    nib.save(nib.Nifti1Image(label, np.eye(4)), path)
    return Case(name, (), path)


def test_a_few_slices_of_a_volume(tmp_path: Path) -> None:
    cases, truths = [], []
    for seed in range(3):
        label = np.full((24, 24, 24), 9, np.uint8)
        label[:, :, 11] = volume(seed)[:, :, 11]
        truths.append(label)
        cases.append(saved(tmp_path, f"v{seed}", label))
    legend, survey = infer_legend(cases, ignore=9)
    assert (legend.kind, [c.value for c in legend.classes], legend.ignore) == ("values", [0, 1, 2], 9)
    assert [case.labelled for case in survey.cases] == [24 * 24] * 3
    assert survey.counts == tuple(sum((t == k).sum() for t in truths) for k in range(3))
    label, strays = read_label(cases[0], legend)
    assert strays == 0
    np.testing.assert_array_equal(label, np.where(truths[0] == 9, IGNORE, truths[0]))
    box = Region((3, 4, 10), (20, 20, 13))
    with OpenLabel(cases[0], legend) as opened:
        np.testing.assert_array_equal(opened.read(box), label[box.slices])


def test_nan_is_not_annotated(tmp_path: Path) -> None:
    label = volume().astype(np.float32)
    label[:, :, :20] = np.nan
    cases = [saved(tmp_path, "a", label), saved(tmp_path, "b", volume(1).astype(np.float32))]
    legend, survey = infer_legend(cases)
    assert ([c.value for c in legend.classes], legend.ignore) == ([0, 1, 2], None)
    assert survey.notes == ("1 mask holds NaN (e.g. a.nii.gz), 42 % of all pixels: taken as not annotated",)
    assert survey.cases[0].ignored == 24 * 24 * 20
    assert survey.cases[0].strays == 0
    found, _ = read_label(cases[0], legend)
    np.testing.assert_array_equal(found == IGNORE, np.isnan(label))
    whole = saved(tmp_path, "c", np.full((4, 4, 4), np.nan, np.float32))
    assert len(mask_facts(whole).values) == 0
    assert infer_legend([*cases, whole])[1].cases[2].labelled == 0


def test_strokes_where_0_is_not_annotated(tmp_path: Path) -> None:
    """Sparse labels number their classes from 1; what the rest is must be said: 0 is background otherwise."""
    mask = np.zeros((60, 60), np.uint8)
    mask[10:12, 5:50], mask[40:42, 5:50] = 1, 2
    path = tmp_path / "a.png"
    Image.fromarray(mask).save(path)
    legend, survey = infer_legend([Case("a", (), path)], names=["soil", "leaf"], ignore=0)
    assert (legend.names, legend.ignore) == (("soil", "leaf"), 0)
    assert survey.cases[0].counts == (90, 90)
    assert (survey.cases[0].labelled, survey.cases[0].ignored) == (180, 3420)
    np.testing.assert_array_equal(read_label(Case("a", (), path), legend)[0], np.where(mask == 0, IGNORE, mask - 1))


def test_thin_classes_are_judged_by_what_is_annotated(tmp_path: Path) -> None:
    """Membranes of 0 in cells of 1, a corner of it not annotated: 0 is what is looked for, as without the corner."""
    mask = np.ones((120, 120), np.uint8)
    mask[::20], mask[:, ::20] = 0, 0
    mask[::20, :], mask[1::20, :] = 0, 0
    paths = [tmp_path / "whole.png", tmp_path / "part.png"]
    Image.fromarray(mask).save(paths[0])
    mask[60:] = 255
    Image.fromarray(mask).save(paths[1])
    whole, part = (Case(p.stem, (), p) for p in paths)
    assert infer_legend([whole])[0].background == 1
    assert infer_legend([part], ignore=255)[0].background == 1
    facts = mask_facts(part, 255)
    assert facts.low < mask_facts(whole).low
    assert mask_facts(part).blobs != facts.blobs


def test_the_doctor_says_how_little_is_annotated(tmp_path: Path) -> None:
    for n in range(4):
        mask = np.full((80, 100), 255, np.uint8)
        mask[40:43, :80] = 0
        mask[41, :40] = 1
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(n).integers(0, 255, mask.shape, np.uint8)).save(
            tmp_path / "images" / f"{n}.png"
        )
        Image.fromarray(mask).save(tmp_path / "masks" / f"{n}.png")
    diagnosis = examine(discover(tmp_path), ignore=255)
    messages = [f.message for f in diagnosis.findings]
    assert "97 % of the pixels carry no label: nothing is learned from them, and they are not scored" in messages, (
        messages
    )
    assert not diagnosis.stops
    assert not [f for f in diagnosis.findings if f.code in ("rare-class", "constant-mask", "stray-values")]
    assert diagnosis.survey.counts == (4 * 200, 4 * 40)


def test_part_of_a_signal() -> None:
    label = np.full(500, -1)
    label[200:300] = 0
    label[230:240] = 1
    found = read_samples([Sample(np.zeros(500), label, id=str(n)) for n in range(3)])
    legend, survey = infer_legend(found.cases, ignore=-1)
    assert (legend.ignore, survey.cases[0].labelled) == (-1, 100)
    encoded, _ = read_label(found.cases[0], legend)
    assert (encoded == IGNORE).sum() == 400


@pytest.mark.parametrize("regions", [False, True])
def test_what_is_not_annotated_neither_teaches_nor_counts(regions: bool) -> None:
    """Any logits and any prediction there: the same loss, no gradient, the same scores."""
    rng = np.random.default_rng(0)
    classes = 3
    label = rng.integers(0, 8 if regions else classes, (2, 20, 21)).astype(np.uint8)
    label[:, 5:] = IGNORE
    logits = torch.randn(2, classes, 20, 21, generator=torch.Generator().manual_seed(0))
    loss = make_loss("ce + dice", classes, regions=regions)
    other = logits.clone()
    other[:, :, 5:] = 50 * torch.randn(2, classes, 15, 21, generator=torch.Generator().manual_seed(1))
    a, b = (x.clone().requires_grad_() for x in (logits, other))
    one, two = (loss(x, torch.from_numpy(label)) for x in (a, b))
    torch.testing.assert_close(one, two)
    for x, value in ((a, one), (b, two)):
        value.backward()
        assert x.grad is not None
        assert float(x.grad[:, :, 5:].abs().max()) == 0
        assert float(x.grad[:, :, :5].abs().min()) > 0
    found = rng.integers(0, 8 if regions else classes, (20, 21)).astype(np.uint8)
    elsewhere = found.copy()
    elsewhere[5:] = 0
    scores = [score_case("a", label[0], x, classes, regions=regions) for x in (found, elsewhere)]
    assert scores[0] == scores[1]


def test_the_unmarked_beats_of_real_recordings(shared_data: Callable[[str], Path]) -> None:
    found = discover(shared_data("ecg"))
    cases = found.cases[:12]
    legend, survey = infer_legend(cases, ignore=found.ignore, given=found.class_names)
    assert legend.names == ("background", "P", "QRS", "T")
    for case, row in zip(cases, survey.cases, strict=True):
        label, _ = read_label(case, legend)
        assert row.ignored == (label == IGNORE).sum() > 0
        assert row.labelled + row.ignored == 5000
        assert (label[:100] == IGNORE).all()
        with OpenLabel(case, legend) as opened:
            part = opened.read(Region((1000,), (1500,)))
        np.testing.assert_array_equal(part, label[1000:1500])
