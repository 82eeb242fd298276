"""Networks and parts of the user's own: passed in from Python, or named on the command line and run when trusted."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unetkit
from unetkit.cli import main
from unetkit.core.errors import SpecError
from unetkit.data.samples import write_samples
from unetkit.nets import NetSpec
from unetkit.nets.program import Value, Writer
from unetkit.plan.plan import Request

CODE = """
from pathlib import Path
from torch import nn
Path("it-ran").touch()

class Net(nn.Module):
    divisor = 4

    def __init__(self, in_channels, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(in_channels, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, classes, 1))

    def forward(self, image):
        return self.layers(image)

number = 3
"""


class Gain(nn.Module):
    """A block of one convolution, which knows how far it sees."""

    halo = 1

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1)

    def forward(self, x_BCYX: Tensor) -> Tensor:
        return torch.relu(self.conv(x_BCYX))


def doubled(w: Writer, kept: Value, below: Value, coarse: Value, stride: tuple[int, ...]) -> Value:
    return w.concat(kept, kept, below)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with data and the module own_nets.py."""
    write_samples(tmp_path / "data", 6, seed=1)
    (tmp_path / "own_nets.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the folder goes in, and out again
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)
    return tmp_path


def train(*more: str) -> list[str]:
    return ["train", "data/train", "-o", "run", "--steps", "2", "--set", "machine.threads=1", "-q", *more]


def test_code_named_on_the_command_line_runs_only_with_trust(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(train("--model", "own_nets:Net")) == 2
    error = capsys.readouterr().err
    assert "error: --model own_nets:Net: is code of your own; it is imported, and so run, only with --trust" in error
    assert not (folder / "it-ran").exists()
    assert not (folder / "run").exists()

    assert main(train("--model", "own_nets:Net", "--trust")) == 0
    plan = json.loads((folder / "run" / "plan.json").read_text())
    assert plan["net"]["topology"] == plan["request"]["model"] == "own_nets:Net"
    assert "trust" not in plan["request"]  # every command says it again
    capsys.readouterr()

    (folder / "it-ran").unlink()
    assert main(["predict", "run", "data/test/images", "-o", "masks", "-q"]) == 2
    assert "net.topology 'own_nets:Net' is code of your own; it is run only where you say so: --trust" in (
        capsys.readouterr().err
    )
    assert not (folder / "it-ran").exists()
    assert main(["predict", "run", "data/test/images", "-o", "masks", "-q", "--trust"]) == 0
    assert len(list((folder / "masks").glob("*.png"))) == len(list((folder / "data/test/images").iterdir()))
    assert main(["evaluate", "run", "data/test", "-q", "--trust"]) == 0
    capsys.readouterr()
    assert main(train("--model", "own_nets:Net", "--trust")) == 0  # the same command: finished already


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_nets:Nett", "'own_nets:Nett': module own_nets has no 'Nett'; it holds"),
        ("no_such_module:Net", "'no_such_module:Net': there is no module 'no_such_module' here; call from the folder"),
        ("own_nets:number", "'own_nets:number' is a int; a part is a function or a class"),
    ],
)
def test_names_that_lead_nowhere(folder: Path, capsys: pytest.CaptureFixture[str], name: str, message: str) -> None:
    assert main(train("--set", f"net.block={name}", "--trust")) == 2
    assert message in capsys.readouterr().err


def test_callables_are_passed_in_from_python_and_a_run_of_them_goes_on(folder: Path) -> None:
    settings = {"net.block": Gain, "net.skip": doubled, "net.channels": [4, 8], "machine.threads": 1}
    request = Request(settings=settings)
    run = unetkit.train(folder / "data" / "train", folder / "run", request, steps=2)
    net = run.model().net
    assert isinstance(net.get_submodule("encoder0.module1"), Gain)
    assert net.geometry.local
    mask = run.predict(np.zeros((40, 30), np.uint8))
    assert mask.shape == (40, 30)
    again = unetkit.train(folder / "data" / "train", folder / "run", request, steps=2)
    assert again.finished
    with pytest.raises(SpecError, match="is code of your own"):
        unetkit.open_run(folder / "run").model()
    trusted = unetkit.open_run(folder / "run", trust=True).model().net
    for name, value in net.state_dict().items():
        torch.testing.assert_close(trusted.state_dict()[name], value)


@pytest.mark.parametrize(
    ("part", "named"),
    [(lambda w, kept, *_: kept, "test_own_code:<lambda>'"), (partial(Gain, 1), "a functools.partial")],
)
def test_what_a_run_could_not_find_again_is_refused_before_anything_is_read(
    folder: Path, part: Any, named: str
) -> None:
    request = Request(settings={"net.skip": part})
    with pytest.raises(SpecError, match="cannot be found again by name when the run is read") as error:
        unetkit.train(folder / "data" / "train", folder / "run", request, steps=2)
    assert named in str(error.value)
    assert not (folder / "run").exists()


def test_a_spec_is_a_model_and_is_taken_as_it_stands(folder: Path) -> None:
    spec = NetSpec(channels=(4, 8), block="separable", norm="layer")
    run = unetkit.train(
        folder / "data" / "train", folder / "run", Request(model=spec, settings={"machine.threads": 1}), steps=2
    )
    assert run.plan.net == spec.replace({"classes": 3})
    assert run.plan.request.model == spec
