"""`unetkit import` and fine-tuning: folders that predict, train further, and say what they do not know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import unetkit as uk
from unetkit.cli import main
from unetkit.core.errors import PlanError, RunError
from unetkit.core.events import Decided, Event, Warned
from unetkit.nets.build import build
from unetkit.nets.spec import NetSpec

WIDTHS = [4, 8, 8]
SET = f"net.channels={','.join(map(str, WIDTHS))}"
SMALL = {"sampling.patch": "[32, 32]", "machine.threads": "1", "budget.save_every": 0}


def checkpoint(path: Path, **changes: Any) -> Path:
    """Weights with foreign names."""
    spec = NetSpec.make({"channels": WIDTHS, **changes})
    state = build(spec, seed=3).state_dict()
    torch.save({name.replace("conv", "layers."): value for name, value in state.items()}, path)
    return path


def write_set(folder: Path, coloured: bool = False, count: int = 4) -> Path:
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for k in range(count):
        mask = np.zeros((40, 48), np.uint8)
        mask[8 + k : 30, 10:30] = 1
        image = np.clip(80 + 80 * mask + random.normal(0, 10, mask.shape), 0, 255).astype(np.uint8)
        pixels = np.stack([image, image // 2, image], -1) if coloured else image
        Image.fromarray(pixels).save(folder / "images" / f"{k}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{k}.png")
    return folder


def request(**changes: Any) -> uk.Request:
    return uk.Request(**({"steps": 3, "precision": "fp32", "settings": SMALL} | changes))


def test_an_imported_run_predicts_and_is_evaluated_but_has_no_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, source = tmp_path / "run", checkpoint(tmp_path / "a.pt")
    words = ["import", str(source), "--model", "unet", "--set", SET, "-o", str(run), "--classes", "ground,cell"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "encoder0.conv1  ← encoder0.layers.1  by order" in out
    assert "2 axes, 1 channel, 2 outputs" in out
    assert "images are prepared as grey, each by its own mean and deviation" in out
    assert {p.name for p in run.iterdir() if p.name[0] != "."} == {
        "plan.json", "weights.safetensors", "import.json", "environment.json",
    }  # fmt: skip
    record = json.loads((run / "import.json").read_text())
    assert (record["checkpoint"], record["missing"], record["left"]) == ("a.pt", [], [])
    plan = uk.open_run(run).plan
    assert (plan.data.path, plan.data.cases, plan.data.legend.names) == ("imported", 0, ("ground", "cell"))

    data = write_set(tmp_path / "data")
    assert main(["predict", str(run), str(data / "images"), "-o", str(tmp_path / "masks"), "-q"]) == 0
    assert set(np.unique(np.array(Image.open(tmp_path / "masks" / "0.png")))) <= {0, 1}
    assert len(uk.evaluate(run, data).cases) == 4
    with pytest.raises(
        RunError, match=r"its weights were imported; .*nothing to report\. `unetkit evaluate .* scores it"
    ):
        uk.report(run)
    with pytest.raises(RunError, match=r"holds imported weights, no training to go on with; .*-o NEW --start"):
        uk.train(data, run, request())


def test_what_finds_nothing_stops_the_import_unless_the_rest_may_stay_as_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, source = tmp_path / "run", checkpoint(tmp_path / "a.pt")
    words = ["import", str(source), "--model", "unet", "--set", SET, "--set", "net.block=residual", "-o", str(run)]
    assert main(words) == 1
    shown = capsys.readouterr()
    assert "encoder0.conv3.weight: nothing in the checkpoint" in shown.out
    assert "of the 60 tensors of 'unet'; nothing was written; name the network that it is of" in shown.err
    assert not run.exists()
    assert main([*words, "--partial"]) == 0
    assert "tensors stay as drawn (encoder0.conv3.weight" in " ".join(capsys.readouterr().out.split())
    assert json.loads((run / "import.json").read_text())["partial"] is True


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({}, PlanError, r"how many channels its images have cannot be told: no layer of it is like that of 'unet' with"
         r" widths 32, 64, 128, 256, 512; .* or give --channels N"),
        ({"model": "unett"}, uk.UnetkitError, "there is no network called 'unett'; did you mean 'unet'"),
        ({"settings": {"optim.lr": 1}}, PlanError, "an import takes only fields of net, prepare, predict"),
        ({"channels": 0}, PlanError, "'channels': input should be greater than or equal to 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_is_one_message(
    tmp_path: Path, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    torch.save({"a.weight": torch.ones(3, 3)}, tmp_path / "a.pt")
    with pytest.raises(kind, match=text):
        uk.import_weights(tmp_path / "a.pt", **{"model": "unet", "run": tmp_path / "run", **options})
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_something_is_kept(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "a.pt")
    with pytest.raises(
        RunError, match=r"holds files \(a\.pt\); nothing was written; name a new or empty folder with -o"
    ):
        uk.import_weights(source, "unet", tmp_path, settings={"net.channels": WIDTHS})


def test_one_output_becomes_background_and_foreground(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "a.pt", classes=1, in_channels=3)
    imported = uk.import_weights(source, "unet", tmp_path / "run", settings={"net.channels": WIDTHS})
    assert (imported.net.in_channels, imported.net.classes) == (3, 2)
    assert any("its one output became two classes" in note for note in imported.notes)
    image = np.random.default_rng(0).normal(size=(1, 3, 16, 24)).astype(np.float32)
    one = build(NetSpec(channels=tuple(WIDTHS), classes=1, in_channels=3), seed=3).eval()(torch.from_numpy(image))
    two = uk.open_run(tmp_path / "run").model().net(torch.from_numpy(image))
    torch.testing.assert_close(two.softmax(1)[:, 1:], one.sigmoid(), rtol=1e-4, atol=1e-5)


def test_the_axes_are_those_of_the_convolutions(tmp_path: Path) -> None:
    for ndim in (1, 3):
        source = checkpoint(tmp_path / f"{ndim}.pt", ndim=ndim)
        imported = uk.import_weights(source, "unet", tmp_path / f"run{ndim}", settings={"net.channels": WIDTHS})
        assert imported.net.ndim == ndim
        assert uk.open_run(tmp_path / f"run{ndim}").model().net.spec.ndim == ndim


def test_training_begins_with_another_run_and_does_not_need_it_again(tmp_path: Path) -> None:
    before, run = tmp_path / "before", tmp_path / "run"
    uk.import_weights(
        checkpoint(tmp_path / "a.pt", classes=3), "unet", before,
        classes=("other", "foreground", "background"), settings={"net.channels": WIDTHS},
    )  # fmt: skip
    data, events = write_set(tmp_path / "data"), list[Event]()
    uk.train(data, run, request(), start=before, listen=events.append)
    assert {p.name for p in run.iterdir()} >= {"start.safetensors", "weights.safetensors", "report.html"}
    plan = uk.open_run(run).plan
    assert plan.net.channels == tuple(WIDTHS)
    assert plan.request.start == str(before)
    assert plan.reasons["net.channels"].endswith(f"as in {before}")
    assert [e.value for e in events if isinstance(e, Decided) and e.what == "start"] == [
        f"56 of 56 tensors from {before}"
    ]
    begin, old = load_file(run / "start.safetensors"), load_file(before / "weights.safetensors")
    assert torch.equal(begin["encoder1.conv1.weight"], old["encoder1.conv1.weight"])
    assert torch.equal(begin["head.conv1.weight"], old["head.conv1.weight"][[2, 1]])

    for path in sorted(before.iterdir()):
        path.unlink()
    same = uk.train(data, run, request(), start=before)
    assert same.finished
    with pytest.raises(RunError, match=r"started with other settings \(start was '.*before', now None\)"):
        uk.train(data, run, request())
    (run / "state.safetensors").unlink()  # as if it had been killed before its first step was saved
    (run / "report.html").unlink()
    first = (run / "last.safetensors").read_bytes()
    uk.train(data, run, request(), start=before)
    assert (run / "last.safetensors").read_bytes() == first


def test_other_channels_are_spread_and_what_is_new_is_said(tmp_path: Path) -> None:
    before = tmp_path / "before"
    source = checkpoint(tmp_path / "a.pt")
    uk.import_weights(source, "unet", before, classes=("ground", "cell"), settings={"net.channels": WIDTHS})
    events: list[Event] = []
    data = write_set(tmp_path / "data", coloured=True)
    named = request(start=str(before), classes=("ground", "wall"))
    uk.train(data, tmp_path / "run", named, listen=events.append)
    said = [e.message for e in events if isinstance(e, Warned)]
    share = "each begins with an equal share of what was learnt"
    assert f"encoder0.conv1.weight: channels, 1 in {before}, 3 here; {share}" in said
    assert f"head.conv1.weight, head.conv1.bias: known from {before}: ground; drawn anew: wall" in said


def test_a_network_of_another_form_takes_what_fits_and_names_the_rest(tmp_path: Path) -> None:
    before, events = tmp_path / "before", list[Event]()
    uk.import_weights(checkpoint(tmp_path / "a.pt"), "unet", before, settings={"net.channels": WIDTHS})
    settings = {**SMALL, "net.norm": "instance"}
    uk.train(
        write_set(tmp_path / "data"), tmp_path / "run", request(start=str(before), settings=settings),
        listen=events.append,
    )  # fmt: skip
    said = [e.message for e in events if isinstance(e, Warned)]
    assert any(f"20 tensors of {before} have no place in this network: decoder0.norm1.running_mean" in m for m in said)
    settings["net.block"] = "residual"
    events.clear()
    uk.train(tmp_path / "data", tmp_path / "again", request(start=str(before), settings=settings), listen=events.append)
    said = [e.message for e in events if isinstance(e, Warned)]
    assert any("tensors are drawn anew: encoder0.conv3.weight" in m for m in said)


def test_a_start_that_is_none_is_refused_before_any_work(tmp_path: Path) -> None:
    data = write_set(tmp_path / "data")
    with pytest.raises(RunError, match="there is no such folder; name a folder that `unetkit train` wrote"):
        uk.train(data, tmp_path / "run", request(), start=tmp_path / "none")
    uk.import_weights(
        checkpoint(tmp_path / "a.pt", ndim=3), "unet", tmp_path / "volumes", settings={"net.channels": WIDTHS}
    )
    with pytest.raises(
        PlanError, match=r"its network takes data of 3 axes, these have 2; begin with a run on such data"
    ):
        uk.train(data, tmp_path / "run", request(), start=tmp_path / "volumes")
