"""A large prediction that is killed, interrupted, or out of disk goes on where it was, and ends as if undisturbed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from unetkit.core import files
from unetkit.core.errors import DataError, MachineError
from unetkit.core.events import Event, drain
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.data.prepared.plan import PreparePlan
from unetkit.data.prepared.prepare import CaseReader
from unetkit.nets.build import build
from unetkit.nets.spec import NetSpec
from unetkit.predict import image as image_module
from unetkit.predict import lower
from unetkit.predict.model import Model
from unetkit.predict.options import OutputOptions, PredictOptions
from unetkit.predict.run import PredictResult, predict

SCRIPT = textwrap.dedent(
    """
    import json, sys
    from pathlib import Path
    import torch
    from unetkit.core.events import drain
    from unetkit.data.labels.legend import Legend, LegendClass
    from unetkit.data.prepared.plan import PreparePlan
    from unetkit.nets.build import build
    from unetkit.nets.spec import NetSpec
    from unetkit.predict.model import Model
    from unetkit.predict.options import OutputOptions, PredictOptions
    from unetkit.predict.run import predict

    image, out, norm = sys.argv[1:]
    torch.set_num_threads(1)
    net = build(NetSpec(channels=(4, 6), blocks=1, norm=norm), seed=3).eval()
    classes = tuple(LegendClass(name=str(v), value=v, colour=(v, v, v)) for v in (0, 255))
    model = Model(net, Legend(kind="values", classes=classes, background=0), PreparePlan())
    options = PredictOptions(precision="fp32", tile=(48,))
    drain(predict(model, image, Path(out), options, OutputOptions(probabilities=True)), print)
    """
)


def model(norm: str = "batch", seed: int = 3) -> Model:
    classes = tuple(LegendClass(name=str(v), value=v, colour=(v, v, v)) for v in (0, 255))
    net = build(NetSpec(channels=(4, 6), blocks=1, norm=norm), seed=seed).eval()
    return Model(net, Legend(kind="values", classes=classes, background=0), PreparePlan())


def run(what: Model, image: Path, out: Path, **options: object) -> tuple[PredictResult, list[Event]]:
    said: list[Event] = []
    options = {"precision": "fp32", "tile": (48,)} | options
    result = drain(predict(what, image, out, PredictOptions(**options), OutputOptions(probabilities=True)), said.append)
    return result, said


def resumed(said: list[Event]) -> list[str]:
    return [f"{e.value}: {e.why}" for e in said if e.kind == "decided" and e.what == "resume"]


def contents(out: Path) -> dict[str, bytes]:
    found = {p.relative_to(out).as_posix(): p for p in out.rglob("*") if p.is_file() and p.name != ".lock"}
    return {name: path.read_bytes() for name, path in found.items()}


def done_in(out: Path) -> int:
    return len(list(out.glob(".wide.unetkit-work/[0-9]*.labels")))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As the processes: sums over an image are rounded by how many threads share them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    image = np.random.default_rng(0).integers(0, 255, (520, 100), np.uint8)
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "wide.tif", image, tile=(64, 64))
    return tmp_path / "in" / "wide.tif"


def stopped(wide: Path, out: Path, norm: str, how: signal.Signals, least: int) -> subprocess.CompletedProcess[str]:
    """Predict in a process of its own, and send it a signal when `least` pieces are done."""
    command = [sys.executable, "-c", SCRIPT, str(wide), str(out), norm]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 120
        while done_in(out) < least and process.poll() is None and time.monotonic() < end:
            time.sleep(0.001)
        process.send_signal(how)
        said, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(command, process.returncode, said, errors)


@pytest.mark.parametrize(("norm", "what", "least"), [("batch", "tile", 8), ("instance", "row of tiles", 3)])
def test_a_killed_prediction_goes_on_and_gives_the_same(wide, tmp_path, norm, what, least):
    run(model(norm), wide, tmp_path / "undisturbed")
    killed = stopped(wide, tmp_path / "out", norm, signal.SIGKILL, least)
    assert killed.returncode == -signal.SIGKILL
    before = done_in(tmp_path / "out")
    assert before >= least
    assert not (tmp_path / "out" / "wide.tif").exists()
    result, said = run(model(norm), wide, tmp_path / "out")
    (went_on,) = resumed(said)
    assert went_on.startswith(f"goes on at {what} {before + 1} of ")
    assert went_on.endswith(": the rest was done before")
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")
    assert len(result.done) == 1
    progress = [e.fraction for e in said if e.kind == "progress"]
    assert progress == sorted(progress)


def test_ctrl_c_ends_it_at_once_and_keeps_what_is_done(wide, tmp_path):
    run(model(), wide, tmp_path / "undisturbed")
    ended = stopped(wide, tmp_path / "out", "batch", signal.SIGINT, 8)
    assert ended.returncode in (-signal.SIGINT, 130, 1)
    assert "KeyboardInterrupt" in ended.stderr
    assert done_in(tmp_path / "out") >= 8
    _, said = run(model(), wide, tmp_path / "out")
    assert resumed(said)[0].startswith("goes on at tile ")
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def full_after(writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > writes:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)


def test_a_full_disk_keeps_the_pieces(wide, tmp_path, monkeypatch):
    run(model(), wide, tmp_path / "undisturbed")
    full_after(50, monkeypatch)  # two calls a file, two files a piece
    with pytest.raises(MachineError, match="the disk is full; free some space and run the same command again"):
        run(model(), wide, tmp_path / "out")
    monkeypatch.undo()
    before = done_in(tmp_path / "out")
    assert 10 < before < 20
    _, said = run(model(), wide, tmp_path / "out")
    assert resumed(said)[0].startswith(f"goes on at tile {before + 1} of ")
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def interrupted(what: Model, wide: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **options: str) -> None:
    full_after(50, monkeypatch)
    with pytest.raises(MachineError):
        run(what, wide, out, **options)
    monkeypatch.undo()


def test_what_belongs_to_something_else_is_begun_anew(wide, tmp_path, monkeypatch):
    out = tmp_path / "out"
    interrupted(model(), wide, out, monkeypatch)
    _, said = run(model(seed=4), wide, out)
    assert resumed(said) == [f"begins anew: what was done of {wide} is of no use: the weights changed since"]
    assert contents(out) == contents_of(model(seed=4), wide, tmp_path / "fresh")
    for path in out.glob("*.tif"):
        path.unlink()
    interrupted(model(), wide, out, monkeypatch)
    os.utime(wide, (1, 1))
    assert resumed(run(model(), wide, out)[1])[0].endswith("is of no use: the image changed since")
    (out / "wide.tif").unlink()
    interrupted(model(), wide, out, monkeypatch)
    (out / ".wide.unetkit-work" / "manifest.json").write_text("{")
    assert resumed(run(model(), wide, out)[1])[0].endswith("is of no use: its manifest is damaged")
    assert not (out / ".wide.unetkit-work").exists()


def test_the_precision_of_the_first_part_is_that_of_all(wide, tmp_path, monkeypatch):
    out = tmp_path / "out"
    interrupted(model(), wide, out, monkeypatch)
    interrupted(model(), wide, out, monkeypatch, precision="bf16")  # asked for: begun anew
    monkeypatch.setattr(lower, "_race", lambda *_: {"fp32": 1.0, "bf16": 2.0})
    _, said = run(model(), wide, out, precision="auto")
    assert resumed(said)[0].startswith("goes on at tile ")
    run(model(), wide, tmp_path / "undisturbed", precision="bf16")
    assert contents(out) == contents(tmp_path / "undisturbed")


def contents_of(what: Model, image: Path, out: Path) -> dict[str, bytes]:
    run(what, image, out)
    return contents(out)


def test_a_missing_piece_in_the_middle_is_made_again(wide, tmp_path, monkeypatch):
    interrupted(model(), wide, tmp_path / "out", monkeypatch)
    (tmp_path / "out" / ".wide.unetkit-work" / "000004.labels").unlink()
    _, said = run(model(), wide, tmp_path / "out")
    assert resumed(said)[0].startswith("goes on at tile 5 of ")
    assert contents(tmp_path / "out") == contents_of(model(), wide, tmp_path / "undisturbed")


def test_one_that_stopped_while_files_were_written_writes_them(wide, tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(image_module, "write_products", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(model(), wide, tmp_path / "out")
    monkeypatch.undo()
    _, said = run(model(), wide, tmp_path / "out")
    assert resumed(said)[0].endswith("tiles are there; the files are written: the rest was done before")
    assert contents(tmp_path / "out") == contents_of(model(), wide, tmp_path / "undisturbed")


def test_a_bad_image_leaves_nothing_behind(wide, tmp_path, monkeypatch):
    read, times = CaseReader.read, []

    def fail(self: CaseReader, region: object) -> np.ndarray:
        times.append(region)
        if len(times) > 20:
            raise DataError(f"{wide}: strip 3 is damaged")
        return read(self, region)

    monkeypatch.setattr(CaseReader, "read", fail)
    result, _ = run(model(), wide, tmp_path / "out")
    assert result.failed == ((str(wide), f"{wide}: strip 3 is damaged"),)
    assert not list((tmp_path / "out").glob(".wide*"))


def test_a_damaged_piece_is_named(wide, tmp_path, monkeypatch):
    interrupted(model(), wide, tmp_path / "out", monkeypatch)
    piece = tmp_path / "out" / ".wide.unetkit-work" / "000002.labels"
    piece.write_bytes(b"nonsense")
    with pytest.raises(MachineError, match=r"000002.labels: what was kept of this prediction is damaged .*; remove "):
        run(model(), wide, tmp_path / "out")


def test_small_images_need_no_folder(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "small.tif", np.zeros((60, 60), np.uint8))
    monkeypatch.setattr(image_module, "DiskCanvas", None)
    result, _ = run(model(), tmp_path / "small.tif", tmp_path / "out", tile=(48,))
    assert len(result.done) == 1
