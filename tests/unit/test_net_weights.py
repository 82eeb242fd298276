"""Saving, loading and folding weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from unetkit.core.errors import RunError
from unetkit.nets import NetSpec, UNet, fold_batch_norm, load_weights, save_weights
from unetkit.nets.build import build
from unetkit.nets.weights import read_weights


def trained(spec: NetSpec) -> UNet:
    """A network whose batch norms have seen data and have scales and shifts of their own."""
    net = build(spec, seed=1).train()
    generator = torch.Generator().manual_seed(2)
    for _ in range(3):
        net(torch.randn(2, spec.in_channels, *(16,) * spec.ndim, generator=generator) * 3 + 1)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return net.eval()


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"ndim": 1},
        {"ndim": 3, "channels": (3, 4)},
        {"block": "residual", "padding": "reflect"},
        {"down": "strided", "stem_stride": 2, "up": "shuffle", "activation": "gelu"},
        {"deep_supervision": True, "dropout": 0.2},
        {"norm": "none"},
        {"norm": "instance"},
    ],
)
def test_folding_batch_norm_changes_nothing_but_rounding(values: dict[str, Any]) -> None:
    spec = NetSpec(**{"channels": (4, 5, 6), **values})
    net = trained(spec)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    folded = fold_batch_norm(net)
    image = torch.randn(2, 1, *(24,) * spec.ndim)
    torch.testing.assert_close(folded(image), net(image), rtol=1e-4, atol=1e-4)
    assert not any("BatchNorm" in type(module).__name__ for module in folded.modules())
    assert not folded.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_weights_carry_their_metadata(tmp_path: Path) -> None:
    net = build(NetSpec(channels=(2, 3)))
    save_weights(net.to(memory_format=torch.channels_last), tmp_path / "a.safetensors", {"spec": "x"})
    state, metadata = read_weights(tmp_path / "a.safetensors")
    assert metadata == {"spec": "x"}
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    save_weights(state, tmp_path / "b.safetensors")
    assert read_weights(tmp_path / "b.safetensors")[1] == {}


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(build(NetSpec(channels=(2, 3), classes=2, block="residual")), path)
    net = build(NetSpec(channels=(2, 3), classes=5, norm="none"), seed=7)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(RunError) as error:
        load_weights(net, path)
    text = str(error.value)
    assert text.startswith(f"{path}: these weights are of another network: 6 missing (encoder0.conv1.bias, ")
    assert "; 33 extra (decoder0.conv3.weight, decoder0.norm1.bias, " in text
    assert "2 of another shape (head.conv1.weight: 2×2×1×1 in the file, 5×2×1×1 in the network, head.conv1.bias" in text
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())

    report = load_weights(net, path, strict=False)
    assert report
    assert report.misshapen[1] == "head.conv1.bias: 2 in the file, 5 in the network"
    assert torch.equal(net.state_dict()["encoder0.conv1.weight"], read_weights(path)[0]["encoder0.conv1.weight"])


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    net = build(NetSpec(channels=(2,)))
    with pytest.raises(RunError, match=r"none\.safetensors: there is no such file of weights"):
        load_weights(net, tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(RunError, match=r"bad\.safetensors: not a whole safetensors file"):
        load_weights(net, tmp_path / "bad.safetensors")
    save_weights(net, tmp_path / "cut.safetensors")
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"cut\.safetensors: not a whole safetensors file"):
        load_weights(net, tmp_path / "cut.safetensors")
