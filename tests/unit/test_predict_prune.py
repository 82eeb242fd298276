"""A trained U-Net++ predicts with fewer columns where the user asks for it; other networks say why they cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unetkit
from unetkit.cli import main
from unetkit.data.samples import write_samples
from unetkit.nets import prune
from unetkit.plan.plan import Request
from unetkit.predict.options import PredictOptions
from unetkit.predict.predictor import Predictor


def trained(folder: Path, model: str) -> unetkit.Run:
    write_samples(folder / "data", 5, seed=2)
    settings = {"net.channels": [4, 8, 16], "machine.threads": 1, "sampling.patch": [64, 64]}
    return unetkit.train(folder / "data" / "train", folder / model, Request(model=model, settings=settings), steps=3)


def test_fewer_columns_of_a_nested_network(tmp_path: Path) -> None:
    run = trained(tmp_path, "unetpp")
    images = sorted((tmp_path / "data" / "test" / "images").iterdir())
    command = ["predict", str(run.path), str(images[0]), "-q", "--no-tta"]
    assert main([*command, "-o", str(tmp_path / "pruned"), "--prune", "1"]) == 0
    assert main([*command, "-o", str(tmp_path / "whole")]) == 0
    (mask,) = (tmp_path / "pruned").glob("*.png")
    net = prune(run.model().net, 1)
    options = PredictOptions(precision=run.plan.machine.precision, layout=run.plan.machine.layout)
    image = np.asarray(Image.open(images[0]), np.float32)
    prepared = (image - image.mean()) / image.std() if run.plan.prepare.normalise == "image" else None
    if prepared is None:
        (mean,), (std,) = run.plan.prepare.mean, run.plan.prepare.std
        prepared = (image - np.float32(mean)) / np.float32(std)
    expected = run.model().legend.decode(Predictor(net, options).array(prepared[None], False).astype(np.uint8))
    agreement = np.mean(np.asarray(Image.open(mask)) == expected)
    assert agreement > 0.999
    assert sum(p.numel() for p in net.parameters()) < sum(p.numel() for p in run.model().net.parameters())
    assert not torch.equal(net.train()(torch.ones(1, 1, 16, 16)), run.model().net(torch.ones(1, 1, 16, 16)))


@pytest.mark.parametrize(
    ("model", "columns", "message"),
    [
        ("unet", "1", "prune: only topology 'nested' has columns to leave out; use prune 0"),
        ("unetpp", "7", "prune: there are 2 columns, not 7; give a number below 3, or 0 for all"),
    ],
)
def test_what_cannot_be_pruned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, columns: str, message: str
) -> None:
    run = trained(tmp_path, model)
    assert main(["predict", str(run.path), str(tmp_path / "data"), "-o", str(tmp_path / "m"), "--prune", columns]) == 2
    assert message in capsys.readouterr().err
