"""Checkpoints from elsewhere: what is read, what is refused (and runs nothing), and what is matched with what."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unetkit.core.errors import RunError
from unetkit.nets.build import build
from unetkit.nets.checkpoint import read_checkpoint
from unetkit.nets.matching import Matching, fill, infer, match, patterns, with_absorbed
from unetkit.nets.spec import NetSpec
from unetkit.nets.transfer import transfer

WIDTHS = (3, 4, 6)


class Pair(nn.Module):
    """Twice convolution (with a bias that the norm behind it makes needless), norm, activation."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (inside, outside):
            layers += [nn.Conv2d(channels, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU()]
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.double_conv(x)
        return result


class Tutorial(nn.Module):
    """A U-Net as tutorials write it: its parts have names of their own, and the last layer is made first."""

    def __init__(self, channels: int = 1, outputs: int = 1) -> None:
        super().__init__()
        self.outc = nn.Conv2d(WIDTHS[0], outputs, 1)
        self.inc = Pair(channels, WIDTHS[0])
        self.down1, self.down2 = Pair(*WIDTHS[:2]), Pair(*WIDTHS[1:])
        self.raise1 = nn.ConvTranspose2d(WIDTHS[2], WIDTHS[1], 2, 2)
        self.up1 = Pair(2 * WIDTHS[1], WIDTHS[1])
        self.raise2 = nn.ConvTranspose2d(WIDTHS[1], WIDTHS[0], 2, 2)
        self.up2 = Pair(2 * WIDTHS[0], WIDTHS[0])

    def forward(self, x: Tensor) -> Tensor:
        first = self.inc(x)
        second = self.down1(torch.max_pool2d(first, 2))
        below = self.down2(torch.max_pool2d(second, 2))
        below = self.up1(torch.cat([second, self.raise1(below)], 1))
        result: Tensor = self.outc(self.up2(torch.cat([first, self.raise2(below)], 1)))
        return result


def tutorial(channels: int = 1, outputs: int = 1) -> Tutorial:
    """With batch norms that have seen data."""
    torch.manual_seed(0)
    net = Tutorial(channels, outputs)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value, low in ((module.running_mean, -1.0), (module.running_var, 0.5), (module.weight, 0.5)):
                assert isinstance(value, Tensor)
                nn.init.uniform_(value, low, 2.0)
    return net.eval()


def write(net: nn.Module, path: Path, prefix: str = "") -> Path:
    state = {prefix + name: value.clone() for name, value in net.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def imported(path: Path, spec: NetSpec) -> tuple[Any, Matching]:
    theirs = read_checkpoint(path)
    channels, classes = infer(patterns(spec), theirs)
    found = match(patterns(spec, channels, classes), theirs)
    net = build(spec.replace({"in_channels": channels, "classes": classes}), seed=9)
    found = with_absorbed(net, found)
    fill(net, found, theirs)
    return net.eval(), found


class Evil:
    """An object that makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    torch.save({"state_dict": {"a.weight": torch.ones(2)}, "hook": Evil(trace)}, tmp_path / "evil.pt")
    torch.save({"a.weight": torch.ones(2), "b": Evil(trace)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(Evil(trace), protocol=2))
    for name in ("evil.pt", "old.pt", "bare.pkl"):
        with pytest.raises(
            RunError, match=r"holds Python objects \(\w+\.mkdir\), which would run code.*nothing of it"
        ) as e:
            read_checkpoint(tmp_path / name)
        assert "torch.save(net.state_dict(), 'weights.pt')" in str(e.value)
        assert "weights_only=False" not in str(e.value)
    (tmp_path / "new.pkl").write_bytes(pickle.dumps(Evil(trace), protocol=4))
    with pytest.raises(RunError, match="holds something else than tensors; nothing of it was run"):
        read_checkpoint(tmp_path / "new.pkl")
    assert not trace.exists()
    with (tmp_path / "new.pkl").open("rb") as file:
        pickle.load(file)  # noqa: S301 (it is the danger that the refusal is about)
    assert trace.exists(), "the test itself would notice"


def test_a_whole_module_and_a_program_are_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(RunError, match=r"holds Python objects \(torch\.nn\.modules\.linear\.Linear\)"):
        read_checkpoint(tmp_path / "module.pt")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"epoch": 3, "lr": 0.1}, "holds no tensors by name, .* nor under state_dict, .*entries are epoch, lr"),
        ([torch.ones(2)], "holds a list, not tensors by name"),
        ({}, "its entries are nothing"),
        ({"w": torch.tensor([1.0, float("nan")])}, "w holds values that are not finite"),
    ],
)  # fmt: skip
def test_what_is_no_state_of_a_network_is_named(tmp_path: Path, content: Any, text: str) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(RunError, match=text):
        read_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_files_cut_short_are_named(tmp_path: Path, name: str) -> None:
    whole = write(tutorial(), tmp_path / name).read_bytes()
    for length in (0, 5, len(whole) // 2, len(whole) - 8):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(RunError, match=r"not a whole (file of weights|safetensors file)"):
            read_checkpoint(tmp_path / name)
    with pytest.raises(RunError, match="there is no such file; name a safetensors file"):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(RunError, match="is a folder; name a safetensors file"):
        read_checkpoint(tmp_path)


def test_training_checkpoints_are_looked_into(tmp_path: Path) -> None:
    state = {"a.weight": torch.ones(2, 3), "note": "text"}
    log = {"losses": [np.float64(1.5), np.float32(2)], "epochs": np.int64(3)}
    for key in ("state_dict", "model", "network_weights"):
        torch.save(
            {"logging": log, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}, key: state}, tmp_path / "x.pt"
        )
        found = read_checkpoint(tmp_path / "x.pt")
        assert (found.nested, list(found.tensors), found.skipped) == (key, ["a.weight"], ("note",))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(("channels", "outputs"), [(1, 2), (3, 4)])
def test_another_authors_network_gives_the_same_logits(
    tmp_path: Path, suffix: str, channels: int, outputs: int
) -> None:
    theirs = tutorial(channels, outputs)
    net, found = imported(write(theirs, tmp_path / f"a{suffix}", "model."), NetSpec(channels=WIDTHS))
    assert (net.spec.in_channels, net.spec.classes) == (channels, outputs)
    assert (found.missing, found.left) == ((), ())
    assert len(found.absorbed) == 10
    assert {m.how for m in found.matches} <= {"order", "shape"}
    image = torch.randn(2, channels, 20, 24, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net(image), theirs(image), rtol=1e-4, atol=1e-5)


def test_our_own_names_match_by_name_whatever_wraps_them(tmp_path: Path) -> None:
    spec = NetSpec(channels=WIDTHS, in_channels=2, classes=3, block="residual")
    ours = build(spec, seed=4).eval()
    for prefix in ("", "module.", "model._orig_mod.", "module.net."):
        net, found = imported(write(ours, tmp_path / "a.pt", prefix), NetSpec(channels=WIDTHS, block="residual"))
        assert {m.how for m in found.matches} == {"name"}
        assert all(torch.equal(value, net.state_dict()[name]) for name, value in ours.state_dict().items())


def test_one_tensor_too_many_shifts_nothing_and_is_reported(tmp_path: Path) -> None:
    theirs = tutorial(1, 2)
    state = {}
    for name, value in theirs.state_dict().items():
        if name == "up1.double_conv.0.weight":
            state["extra.weight"] = torch.ones(5, 4, 1, 1)
        state[name] = value
    torch.save(state, tmp_path / "a.pt")
    _, found = imported(tmp_path / "a.pt", NetSpec(channels=WIDTHS))
    assert (found.missing, found.left) == ((), ("extra.weight",))
    pairs = {m.ours: m.theirs for m in found.matches}
    assert pairs["decoder0.conv2.weight"] == "up2.double_conv.3.weight"
    assert pairs["head.conv1.weight"] == "outc.weight"


def test_a_network_of_another_depth_is_matched_as_guesses(tmp_path: Path) -> None:
    _, found = imported(write(tutorial(1, 2), tmp_path / "a.pt"), NetSpec(channels=WIDTHS, blocks=3))
    assert {name.rpartition(".")[0] for name in found.missing if "conv" in name} <= {
        f"{part}{level}.conv{k}" for part in ("encoder", "decoder") for level in range(3) for k in (1, 2, 3)
    }
    assert found.missing
    assert "guess" in {m.how for m in found.matches}


def test_the_same_tensor_under_two_names_counts_once(tmp_path: Path) -> None:
    theirs = tutorial(1, 2)
    state = dict(theirs.state_dict())
    doubled = {f"all.{name}": value for name, value in state.items()}
    torch.save({**state, **doubled}, tmp_path / "a.pt")
    save_file({name: value.clone() for name, value in {**state, **doubled}.items()}, tmp_path / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        net, found = imported(tmp_path / name, NetSpec(channels=WIDTHS))
        assert (found.missing, found.left) == ((), ())
        assert len(found.aliases) >= len(found.matches)
        image = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(net(image), theirs(image), rtol=1e-4, atol=1e-5)


def test_half_precision_and_missing_counters_are_no_problem(tmp_path: Path) -> None:
    ours = build(NetSpec(channels=WIDTHS), seed=4)
    state = {n: v.half() for n, v in ours.state_dict().items() if not n.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "a.pt")
    net, found = imported(tmp_path / "a.pt", NetSpec(channels=WIDTHS))
    assert (found.missing, found.left) == ((), ())
    assert net.state_dict()["encoder0.conv1.weight"].dtype == torch.float32


def test_other_channels_and_classes_take_what_they_can() -> None:
    old = build(NetSpec(channels=WIDTHS, in_channels=1, classes=3), seed=1).state_dict()
    net = build(NetSpec(channels=WIDTHS, in_channels=4, classes=2), seed=2)
    found = transfer(net, ("cell", "spine"), old, ("background", "wall", "cell"))
    assert found.spread == ("encoder0.conv1.weight",)
    first = found.state["encoder0.conv1.weight"]
    torch.testing.assert_close(first.sum(1, keepdim=True), old["encoder0.conv1.weight"])
    assert found.rows == {"head.conv1.weight": ("cell",), "head.conv1.bias": ("cell",)}
    head = found.state["head.conv1.weight"]
    assert torch.equal(head[0], old["head.conv1.weight"][2])
    assert torch.equal(head[1], net.state_dict()["head.conv1.weight"][1])
    assert found.drawn == ()


def test_classes_without_names_are_taken_whole_or_not_at_all() -> None:
    old = build(NetSpec(channels=WIDTHS, classes=3), seed=1).state_dict()
    net = build(NetSpec(channels=WIDTHS, classes=3), seed=2)
    unnamed = ("class0", "class1", "class2")
    assert torch.equal(
        transfer(net, ("a", "b", "c"), old, unnamed).state["head.conv1.weight"], old["head.conv1.weight"]
    )
    fewer = build(NetSpec(channels=WIDTHS, classes=2), seed=2)
    assert transfer(fewer, ("a", "b"), old, unnamed).drawn == ("head.conv1.weight", "head.conv1.bias")
    assert transfer(net, ("x", "y", "z"), old, ("a", "b", "c")).drawn == ("head.conv1.weight", "head.conv1.bias")
