"""review.csv: a row for each image, whatever interrupts it; what should be looked at is said."""

from __future__ import annotations

import csv
import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from unetkit.cli import main
from unetkit.core import files
from unetkit.core.errors import DataError, MachineError
from unetkit.core.events import Event, drain
from unetkit.data.case import Case
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.data.prepared.plan import PreparePlan
from unetkit.data.prepared.prepare import CaseReader
from unetkit.evaluate.folders import evaluate_folders
from unetkit.nets.build import build
from unetkit.nets.spec import NetSpec
from unetkit.predict.calibration import Calibration
from unetkit.predict.familiar import fit_familiar
from unetkit.predict.model import Model
from unetkit.predict.options import OutputOptions, PredictOptions
from unetkit.predict.predictor import Predictor
from unetkit.predict.quality import Quality, expected_dice, sums_of
from unetkit.predict.review import COLUMNS, Tally
from unetkit.predict.run import PredictResult, predict
from unetkit.predict.tuned import Tuned

QUALITY = Quality(offset=0.2, slope=0.9, low=-1.0, high=0.5, usual=0.9, least=0.8, empty=0.0, cases=9)
CALIBRATION = Calibration(temperatures=(1.5, 1.5))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def texture(seed: int, shape: tuple[int, int] = (60, 70)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def model(**tuned: object) -> Model:
    classes = tuple(LegendClass(name=str(v), value=v, colour=(v, v, v)) for v in (0, 255))
    net = build(NetSpec(channels=(4, 6), blocks=1), seed=3).eval()
    legend = Legend(kind="values", classes=classes, background=0)
    return Model(net, legend, PreparePlan(), tuned=Tuned(**{"quality": QUALITY, "calibration": CALIBRATION} | tuned))


def run(
    what: Model, source: Path, out: Path, tile: tuple[int, ...] | None = None, **outputs: bool
) -> tuple[PredictResult, list[Event]]:
    said: list[Event] = []
    options = PredictOptions(precision="fp32", tile=tile, calibration=what.tuned.calibration)
    return drain(predict(what, source, out, options, OutputOptions(**outputs)), said.append), said


def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / "review.csv").open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        assert tuple(table.fieldnames or ()) == COLUMNS
        return {row["mask"]: row for row in table}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for n in range(3):
        Image.fromarray(texture(n)).save(tmp_path / "in" / f"a{n}.png")
    return tmp_path / "in"


def test_each_image_has_a_row(images: Path, tmp_path: Path) -> None:
    m = model()
    result, said = run(m, images, tmp_path / "out")
    found = rows(tmp_path / "out")
    assert list(found) == ["a0.png", "a1.png", "a2.png"]
    with CaseReader(images / "a0.png", m.prepare) as reader:
        shares = Predictor(m.net, PredictOptions(precision="fp32", calibration=CALIBRATION)).whole(reader, True)
    label = shares.argmax(0).astype(np.uint8)
    expected = QUALITY.expected(expected_dice(sums_of(shares.astype(np.float32), label, m.legend), (1,)))
    assert expected is not None
    row = found["a0.png"]
    assert row["image"] == str(images / "a0.png")
    assert [float(row[name]) for name in ("predicted_dice", "low", "high")] == pytest.approx(
        [expected.dice, expected.low, expected.high], abs=1e-3
    )
    assert row["familiarity"] == ""
    saved = [event for event in said if event.kind == "saved" and event.what == "what to look at"]
    assert [Path(event.path).name for event in saved] == ["review.csv"]
    assert not list((tmp_path / "out").glob(".review*"))
    look = [row for row in found.values() if row["look"] == "yes"]
    assert result.look == tuple((row["image"], row["why"]) for row in look)


def test_what_should_be_looked_at_is_said(images: Path, tmp_path: Path) -> None:
    strict = QUALITY.model_copy(update={"least": 0.999})
    result, said = run(model(quality=strict), images, tmp_path / "out")
    assert len(result.look) == 3
    (warning,) = [event.message for event in said if event.kind == "warned"]
    assert warning.startswith("3 of 3 images should be looked at: a0.png (a Dice of 0.")
    assert warning.endswith(f" (all of them in {tmp_path / 'out' / 'review.csv'})")
    kind = QUALITY.model_copy(update={"least": 0.0})
    quiet, said = run(model(quality=kind), images, tmp_path / "quiet")
    assert not quiet.look
    assert not [event for event in said if event.kind == "warned"]


def test_images_unlike_those_of_training_are_named(images: Path, tmp_path: Path) -> None:
    known = fit_familiar([Case(f"{n}", (texture(50 + n)[None],)) for n in range(12)], PreparePlan(), {})
    smooth = np.add.outer(np.arange(60), np.arange(70)).astype(np.uint8)
    Image.fromarray(smooth).save(images / "other.png")
    result, _ = run(model(quality=None, familiar=known), images, tmp_path / "out")
    assert result.look == ((str(images / "other.png"), "it does not look like the training images"),)
    found = rows(tmp_path / "out")
    assert float(found["a1.png"]["familiarity"]) > 0.02 > float(found["other.png"]["familiarity"])
    assert found["a1.png"]["predicted_dice"] == ""


def test_models_that_know_nothing_write_none(images: Path, tmp_path: Path) -> None:
    run(model(quality=None), images, tmp_path / "out")
    run(model(), images, tmp_path / "unasked", review=False)
    for out in ("out", "unasked"):
        assert not (tmp_path / out / "review.csv").exists()


def test_rows_of_earlier_commands_stay(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(model(), images / "a1.png", out)
    first = rows(out)
    result, _ = run(model(), images, out)
    assert len(result.skipped) == 1
    assert list(rows(out)) == ["a0.png", "a1.png", "a2.png"]
    assert rows(out)["a1.png"] == first["a1.png"]
    again = (out / "review.csv").stat().st_mtime_ns
    _, said = run(model(), images, out)  # nothing to do, nothing new
    assert (out / "review.csv").stat().st_mtime_ns == again
    assert not [event for event in said if event.kind == "saved"]


def test_rows_of_a_killed_command_are_in_the_journal(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(model(), images, out)
    whole = (out / "review.csv").read_text()
    (out / "review.csv").unlink()
    lines = [dict(row) for row in rows_of(whole)]
    journal = "".join(json.dumps(row) + "\n" for row in lines[:2]) + '{"image": "cut o'
    (out / ".review.unetkit-work").write_text(journal)
    (out / "a2.png").unlink()
    run(model(), images, out)
    assert (out / "review.csv").read_text() == whole
    assert not (out / ".review.unetkit-work").exists()


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_a_full_disk_in_the_middle_loses_no_row(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 3:  # two calls a mask
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(MachineError, match="the disk is full"):
        run(model(), images, tmp_path / "out")
    assert list(rows(tmp_path / "out")) == ["a0.png"]
    monkeypatch.undo()
    run(model(), images, tmp_path / "out")
    assert list(rows(tmp_path / "out")) == ["a0.png", "a1.png", "a2.png"]


def test_tiles_and_interruptions_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "wide.tif", texture(0, (520, 100)), tile=(64, 64))
    for name, tile in (("whole", None), ("tiled", (48,))):
        run(model(), tmp_path / "in", tmp_path / name, tile)
    one, two = (rows(tmp_path / name)["wide.tif"] for name in ("whole", "tiled"))
    assert float(one["predicted_dice"]) == pytest.approx(float(two["predicted_dice"]), abs=2e-3)
    calls: list[int] = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 20:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(MachineError):
        run(model(), tmp_path / "in", tmp_path / "out", (48,))
    monkeypatch.undo()
    _, said = run(model(), tmp_path / "in", tmp_path / "out", (48,))
    assert any(event.kind == "decided" and event.what == "resume" for event in said)
    assert (tmp_path / "out" / "review.csv").read_text().replace("out", "tiled") == (
        tmp_path / "tiled" / "review.csv"
    ).read_text()


def test_a_tally_knows_when_something_is_missing(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    tally.put(0, np.ones((3, 2)))
    tally.put(2, 2 * np.ones((3, 2)))
    with (tmp_path / "sums.jsonl").open("a") as file:
        file.write("[3, [[1.0,")
    again = Tally(tmp_path)
    assert again.total([0, 1, 2]) is None
    np.testing.assert_array_equal(again.total([0, 2]), 3 * np.ones((3, 2)))  # type: ignore[arg-type]
    assert again.total([0, 2, 3]) is None


def test_tables_of_others_are_not_written_over(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "review.csv").write_text("paper,verdict\nours,accept\n")
    with pytest.raises(DataError, match="a table that unetkit did not write is where that of what to look at would be"):
        run(model(), images, out)
    run(model(), images, out, review=False)
    assert (out / "review.csv").read_text() == "paper,verdict\nours,accept\n"


def test_masks_beside_the_table_are_scored_as_before(images: Path, tmp_path: Path) -> None:
    run(model(), images, tmp_path / "out")
    scores = evaluate_folders(tmp_path / "out", tmp_path / "out")
    assert [case.case for case in scores.cases] == ["a0", "a1", "a2"]
    assert scores.mean("dice").mean == 1


def test_where_nothing_is_found_it_says_so(images: Path, tmp_path: Path) -> None:
    m = model()
    none = replace(
        m, tuned=m.tuned.model_copy(update={"calibration": Calibration(temperatures=(1.0, 1.0), offsets=(4.0, -4.0))})
    )
    run(none, images / "a0.png", tmp_path / "out")
    row = rows(tmp_path / "out")["a0.png"]
    assert (row["predicted_dice"], row["look"], row["why"]) == ("", "yes", "nothing was found in it")


@pytest.mark.parametrize("flag", ["--no-review", "--uncalibrated"])
def test_flags(flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import unetkit.api

    given: dict[str, object] = {}

    def stub(*_: object, **options: object) -> PredictResult:
        given.update(options)
        return PredictResult((), (), ())

    monkeypatch.setattr(unetkit.api, "predict", stub)
    (tmp_path / "a.png").touch()
    assert main(["predict", "run", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), flag, "--quiet"]) == 0
    outputs = given["outputs"]
    assert isinstance(outputs, OutputOptions)
    assert (outputs.review, given["calibrated"]) == ((False, True) if flag == "--no-review" else (True, False))
