"""Any sum of losses trains: with deep supervision, a weight that grows, an interruption; and what makes no sense for
the classes of the masks is refused before anything is timed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unetkit as uk
from unetkit import api
from unetkit.core.errors import PlanError
from unetkit.losses import LOSSES
from unetkit.plan.loss import loss_of

SMALL = {"net.channels": "[4, 8, 8]", "sampling.patch": "[32, 32]", "machine.threads": "1"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bright cells, close to each other."""
    folder = tmp_path_factory.mktemp("data")
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for k in range(5):
        mask = np.zeros((48, 40), bool)
        mask[8 + k : 30, 6:18], mask[8 + k : 30, 21:34] = True, True
        image = np.clip(80 + 80 * mask + np.random.default_rng(k).normal(0, 10, mask.shape), 0, 255)
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{k}.png")
        Image.fromarray((mask * 255).astype(np.uint8)).save(folder / "masks" / f"{k}.png")
    return folder


def request(terms: str, **changes: object) -> uk.Request:
    values = {"steps": 6, "precision": "fp32", "settings": SMALL | {"loss.terms": terms}}
    return uk.Request(**(values | changes))


def test_every_loss_at_once_trains_with_deep_supervision_and_goes_on_bit_for_bit(data: Path, tmp_path: Path) -> None:
    terms = " + ".join(f"{name}(ramp=0.7)" if name in ("boundary", "hausdorff") else name for name in LOSSES)
    asked = request(terms)
    asked = asked.model_copy(update={"settings": asked.settings | {"net.deep_supervision": "true"}})
    assert api.plan(data, asked).plan.net.deep_supervision

    def run(name: str, *stops: int) -> bytes:
        for stop in (*stops, 99):
            assert not (tmp_path / name / "last.safetensors").exists()
            asked_at = iter(range(1, 1000))
            for _ in api.training_events(data, tmp_path / name, asked, lambda at=asked_at, n=stop: next(at) >= n):
                pass
        return (tmp_path / name / "last.safetensors").read_bytes()

    assert run("whole") == run("parts", 2, 3)


@pytest.mark.parametrize(
    ("terms", "changes", "message"),
    [
        ("tversky(alfa=1)", {}, "loss 'tversky(alfa=1)': tversky has no parameter 'alfa'"),
        (
            "border_ce(gap=7)",
            {},
            "loss 'border_ce(gap=7)': border_ce: gap is the number of a class, and they are 0 … 1",
        ),
        (
            "border_ce",
            {"background": "none"},
            "loss 'border_ce': border_ce: every class counts here: say which lies between the cells",
        ),
    ],
)
def test_a_loss_that_makes_no_sense_is_one_message(
    data: Path, terms: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(PlanError) as caught:
        api.plan(data, request(terms, **changes))
    assert str(caught.value).startswith(message)


def test_a_plan_says_what_its_loss_is_about(data: Path) -> None:
    plan = api.plan(data, request("ce")).plan
    thick = plan.augment.model_copy(update={"aspect": (3.0, 1.0)})
    target = loss_of(plan.model_copy(update={"augment": thick})).target  # type: ignore[attr-defined]
    assert (target.classes, target.regions, target.background, target.cells) == (2, False, 0, (1,))
    assert target.spacing == (3.0, 1.0)
