"""The sheet of what training will see, and the strengths of augmentation in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unetkit
from unetkit.augment.plan import AugmentPlan
from unetkit.augment.words import in_words
from unetkit.cli import main
from unetkit.core.errors import PlanError
from unetkit.data.find.sample import Sample
from unetkit.job.sheet_picture import SIDE
from unetkit.plan.augmenting import STILL
from unetkit.plan.plan import Request


def samples(space: tuple[int, ...], count: int = 5, channels: int = 1, spacing: float | None = None) -> list[Sample]:
    """Bright boxes on noise."""
    g = np.random.default_rng(0)
    made = []
    for k in range(count):
        mask = np.zeros(space, np.uint8)
        mask[tuple(slice(n // 4 + k, n // 2 + k) for n in space)] = 1
        image = g.integers(0, 60, (*space, channels), dtype=np.uint8) + 120 * mask[..., None]
        made.append(
            Sample(
                id=f"case {k}",
                image=np.moveaxis(image, -1, 0) if channels > 1 else image[..., 0],
                label=mask,
                spacing=None if spacing is None else (spacing,) * len(space),
            )
        )
    return made


SMALL = {"net.channels": [4, 8], "sampling.batch": 1}


@pytest.mark.parametrize(("space", "channels"), [((64, 80), 1), ((64, 80), 3), ((24, 20, 22), 1), ((600,), 1)])
def test_a_sheet_shows_rows_of_cases_and_columns_of_samples(
    tmp_path: Path, space: tuple[int, ...], channels: int
) -> None:
    on = {"augment.cut_out": 0.5, "augment.low_resolution": 0.5, "augment.mix_up": 0.3}
    out = unetkit.augment(
        samples(space, channels=channels), tmp_path / "sheet.png", Request(settings=SMALL | on), rows=2, columns=3
    )
    with Image.open(out) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    blank_columns = (pixels[-60:] == 255).all(axis=(0, 2))
    starts = np.flatnonzero(~blank_columns[1:] & blank_columns[:-1])
    assert len(starts) >= 4, "as it is, and three samples"
    again = unetkit.augment(
        samples(space, channels=channels), tmp_path / "again.png", Request(settings=SMALL | on), rows=2, columns=3
    )
    assert again.read_bytes() == out.read_bytes(), "the same command draws the same"
    assert not list(tmp_path.glob(".*")), "nothing is left beside it"


def test_the_first_column_is_the_patch_as_it_is(tmp_path: Path) -> None:
    given = samples((64, 64))
    out = unetkit.augment(given, tmp_path / "a.png", Request(settings=SMALL), rows=1, columns=1)
    with Image.open(out) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    cell = pixels[-SIDE - 20 - 8 : -20 - 8, 20 : 20 + SIDE].mean(axis=2)
    shown = np.asarray(Image.fromarray(cell.astype(np.uint8)).resize((64, 64), Image.Resampling.BOX), float)
    correlations = [np.corrcoef(shown.ravel(), s.image.ravel().astype(float))[0, 1] for s in given]
    assert max(correlations) > 0.9


def test_a_real_set(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    out = unetkit.augment(shared_data("em"), tmp_path / "em.png", rows=2, columns=2)
    with Image.open(out) as sheet:
        assert sheet.width >= 3 * SIDE
        assert sheet.height >= 2 * SIDE


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "sheet.jpg"], "-o sheet.jpg: a sheet is a PNG; for example -o sheet.png"),
        (["-o", "s.png", "--rows", "0"], "--rows 0: must be from 1 to 24"),
        (["-o", "s.png", "--columns", "99"], "--columns 99: must be from 1 to 16"),
        (["-o", "s.png", "--rows", "1.5"], "--rows 1.5: must be a whole number"),
        (["-o", "s.png", "--set", "augment.hue=20"], "augment.hue is of colours, and these images are not RGB"),
        (["-o", "s.png", "--set", "augment.shere=2"], "did you mean 'augment.shear'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for k, one in enumerate(samples((40, 40))):
        Image.fromarray(one.image).save(tmp_path / "images" / f"{k}.png")
        Image.fromarray(one.label).save(tmp_path / "masks" / f"{k}.png")
    assert main(["augment", str(tmp_path), *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_command_draws_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for k, one in enumerate(samples((40, 40))):
        Image.fromarray(one.image).save(tmp_path / "images" / f"{k}.png")
        Image.fromarray(one.label).save(tmp_path / "masks" / f"{k}.png")
    out = tmp_path / "sheet.png"
    assert main(["augment", str(tmp_path), "-o", str(out), "--rows", "2", "--columns", "2"]) == 0
    shown = capsys.readouterr().out
    assert f"{out}: each row a training case" in shown
    assert "augment.elastic" in shown, "decisions are told as they are by plan"
    assert out.is_file()


def test_words_say_what_is_on_how_strong_and_what_is_off() -> None:
    on, off = in_words(AugmentPlan(), 2)
    assert "turned by up to ±180°" in on
    assert "zoom 0.78 to 1.28" in on
    assert "blur up to 1 pixel (20%)" in on
    assert {"slanted", "objects pasted", "mixtures"} <= set(off)
    assert not any("hue" in text for text in (*on, *off)), "of grey images no colours are told"
    assert "hue" in in_words(AugmentPlan(), 2, channels=3)[1]
    assert in_words(STILL, 1)[0] == []
    assert "turned" not in in_words(STILL, 1)[1]
    on, _ = in_words(AugmentPlan(flip=(False, True, True), cut_out=0.25, cut_out_label="keep"), 3)
    assert "mirrored along axis 1 and 2, every second time" in on
    assert "up to 3 boxes cut out (25%), their label kept" in on
    with pytest.raises(PlanError):
        AugmentPlan.parse({"cut_out": 1.5}, "test")
