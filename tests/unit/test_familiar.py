"""How like the training images an image is: what is flagged, and what is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import ndimage

from unetkit.data.case import Case
from unetkit.data.find.discover import discover
from unetkit.data.prepared.plan import PreparePlan
from unetkit.data.prepared.prepare import CaseReader
from unetkit.predict.familiar import UNLIKE, Familiar, describe, fit_familiar, of_descriptions
from unetkit.predict.reader import ArrayReader

GREY, RGB = PreparePlan(), PreparePlan(channels=3, colour="rgb")


def cells(seed: int, shape: tuple[int, ...] = (96, 110)) -> np.ndarray:
    """Bright blobs on a dark ground, with a little noise, (*space) float."""
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter((rng.random(shape) > 0.995).astype(float), rng.uniform(2.5, 3.5))
    return 255 * image / image.max() + rng.normal(0, 3, shape)


def familiarity(model: Familiar, image: np.ndarray, plan: PreparePlan = GREY, ndim: int = 2) -> float:
    with CaseReader(image, plan, ndim=ndim) as reader:
        return model.familiarity(describe(reader))


@pytest.fixture(scope="module")
def model() -> Familiar:
    found = fit_familiar([Case(f"{n}", (cells(n)[None],)) for n in range(24)], GREY, {})
    assert found is not None
    return found


def test_images_of_the_same_kind_are_familiar(model: Familiar) -> None:
    found = [familiarity(model, cells(100 + n)) for n in range(20)]
    assert np.mean(np.array(found) < UNLIKE) <= 0.1
    assert np.median(found) > 0.2
    assert all(0 <= value <= 1 for value in found)


@pytest.mark.parametrize("what", ["inverted", "blurred", "noisy", "other", "flat"])
def test_others_are_not(model: Familiar, what: str) -> None:
    image = cells(200)
    rng = np.random.default_rng(0)
    changed = {
        "inverted": 255 - image,
        "blurred": ndimage.gaussian_filter(image, 2),
        "noisy": image + rng.normal(0, 40, image.shape),
        "other": rng.random(image.shape) * 255,
        "flat": np.full(image.shape, 7.0),
    }
    assert familiarity(model, changed[what]) < UNLIKE


@pytest.mark.parametrize(("shape", "ndim"), [((9000,), 1), ((40, 44, 30), 3), ((3, 5), 2), ((300, 500), 2)])
def test_images_of_every_size_are_described_alike(shape: tuple[int, ...], ndim: int) -> None:
    one = describe(ArrayReader(np.random.default_rng(0).normal(0, 1, (2, *shape)).astype(np.float32)))
    assert one.shape == (2 * 16 + 2,)
    assert np.isfinite(one).all()
    assert len(shape) == ndim


def test_it_is_the_same_every_time_and_survives_json(model: Familiar) -> None:
    again = fit_familiar([Case(f"{n}", (cells(n)[None],)) for n in range(24)], GREY, {})
    assert again == model
    read = Familiar.parse(json.loads(model.model_dump_json()), "tuned.json")
    assert familiarity(read, cells(50)) == familiarity(model, cells(50))


def test_few_images_tell_nothing() -> None:
    assert fit_familiar([Case(f"{n}", (cells(n)[None],)) for n in range(3)], GREY, {}) is None
    assert (
        fit_familiar(
            [Case(f"{n}", (cells(n)[None],)) for n in range(6)], PreparePlan(colour="tokens", normalise="none"), {}
        )
        is None
    )
    with pytest.raises(ValueError, match="3 groups of images do not tell what is far; 4 do"):
        of_descriptions(np.random.default_rng(0).normal(size=(9, 5)), list("aaabbbccc"))


def test_images_of_a_group_do_not_vouch_for_each_other() -> None:
    """Slices of a stack are nearly equal; what is far is told by other stacks."""
    rng = np.random.default_rng(0)
    stacks = np.repeat(rng.normal(0, 1, (8, 6)), 5, axis=0) + rng.normal(0, 0.01, (40, 6))
    names = [f"stack{n // 5}" for n in range(40)]
    grouped, loose = of_descriptions(stacks, names), of_descriptions(stacks, [str(n) for n in range(40)])
    new = rng.normal(0, 1, 6)
    assert grouped.familiarity(new) > UNLIKE > loose.familiarity(new)


def test_damaged_numbers_are_refused(model: Familiar) -> None:
    with pytest.raises(ValidationError, match="the numbers of a description do not fit its size, 3"):
        Familiar(**model.model_dump() | {"size": 3})
    with pytest.raises(ValueError, match="an image is described by 16 numbers, not"):
        model.familiarity(np.zeros(4))


def test_real_nuclei(shared_data: Callable[[str], Path]) -> None:
    """Held-out nuclei are familiar; inverted, blurred and those of electron microscopy are not."""
    cases = discover(shared_data("nuclei")).cases
    model = fit_familiar(cases[::2][:48], RGB, {})
    assert model is not None
    same, inverted, blurred = [], [], []
    for case in cases[1::2][:16]:
        with CaseReader(case, RGB) as reader:
            same.append(model.familiarity(describe(reader)))
        with CaseReader(case, RGB) as reader:
            image = reader.read(reader.whole)
        inverted.append(model.familiarity(describe(ArrayReader(-image))))
        soft = np.stack([ndimage.gaussian_filter(c, 2) for c in image])
        blurred.append(model.familiarity(describe(ArrayReader(soft))))
    assert np.mean(np.array(same) < UNLIKE) <= 0.1
    assert np.mean(np.array(inverted) < UNLIKE) >= 0.6  # some of the set are dark on bright as well
    assert np.mean(np.array(blurred) < UNLIKE) >= 0.9
    others = []
    for case in discover(shared_data("em")).cases[:4]:
        with CaseReader(case, RGB) as reader:
            others.append(model.familiarity(describe(reader)))
    assert np.mean(np.array(others) < UNLIKE) >= 0.5
