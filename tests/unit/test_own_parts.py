"""Parts of the user's own: functions that write layers, and classes of torch modules, in every place."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unetkit.core.errors import SpecError
from unetkit.nets import NetSpec, trust
from unetkit.nets.build import build
from unetkit.nets.geometry import flops, geometry
from unetkit.nets.parts import untrusted
from unetkit.nets.program import Value, Writer
from unetkit.predict.options import PredictOptions
from unetkit.predict.predictor import Predictor
from unetkit.predict.reader import ArrayReader


def wide_block(
    w: Writer, x: Value, channels: int, kernel: Sequence[int], count: int, stride: Sequence[int], rate: int = 2
) -> Value:
    for _ in range(count):
        x = w.activate(w.norm(w.conv(x, channels, kernel, dilation=rate)))
    return x


def difference(w: Writer, kept: Value, below: Value, coarse: Value, stride: Sequence[int]) -> Value:
    return w.concat(w.crop(kept, like=below), below, w.add(w.conv(kept, 2), w.conv(below, 2)))


def straight(w: Writer) -> tuple[Value, ...]:
    with w.part("all"):
        x = w.unit(w.input(), w.spec.channels[0], w.spec.kernel(0))
        return (w.conv(x, w.spec.classes, 1, bias=True),)


class OwnBlock(nn.Module):
    halo = 2

    def __init__(self, in_channels: int, channels: int, kernel: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.conv(x))


class OwnSkip(nn.Module):
    halo = 0

    def __init__(self, kept: int, below: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(kept))

    def forward(self, kept: Tensor, below: Tensor) -> Tensor:
        return torch.cat([kept * self.weight.view(-1, 1, 1), below, below[:, :1]], 1)


class OwnBottleneck(nn.Module):  # says nothing of how far it sees
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x.mean((2, 3), keepdim=True))


class OwnHead(nn.Module):
    halo = 1

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class OwnNet(nn.Module):
    divisor, halo = 4, 9

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(in_channels, 6, 5, padding=2)
        self.up = nn.Conv2d(6, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        assert image.shape[2] % 4 == image.shape[3] % 4 == 0
        x = nn.functional.max_pool2d(self.down(image), 4)
        return self.up(nn.functional.interpolate(x, scale_factor=4.0, mode="nearest"))


class Quiet(nn.Module):  # as OwnNet, but says nothing of itself
    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, classes, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        assert image.shape[2] % 32 == 0
        return self.conv(image)


OWN = {
    "function as block": {"block": wide_block},
    "function with settings": {"block": partial(wide_block, rate=3)},
    "function as skip": {"skip": difference},
    "function as network": {"topology": straight},
    "module as block": {"block": OwnBlock},
    "module with settings": {"block": partial(OwnBlock, kernel=3)},
    "module as decoder block": {"decoder_block": OwnBlock, "down": "block"},
    "module as skip": {"skip": OwnSkip},
    "module as bottleneck": {"bottleneck": OwnBottleneck},
    "module as head": {"head": OwnHead, "deep_supervision": True},
    "module as network": {"topology": OwnNet},
    "module as network that says nothing": {"topology": Quiet},
    "everything": {"block": OwnBlock, "skip": OwnSkip, "bottleneck": OwnBottleneck, "head": OwnHead},
}
BLENDED = ("module as bottleneck", "module as network that says nothing", "everything")


@pytest.mark.parametrize("name", OWN)
def test_own_parts_are_like_others(name: str) -> None:
    spec = NetSpec(channels=(3, 4, 5), in_channels=2, classes=3, **OWN[name])
    before = torch.get_rng_state()
    facts, net, twin, other = geometry(spec), build(spec, 1), build(spec, 1), build(spec, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert sum(p.numel() for p in net.parameters()) == facts.parameters
    assert set(net.state_dict()) == {k for k, _ in net.named_parameters()} | {k for k, _ in net.named_buffers()}
    image = torch.randn(2, 2, 21, 18)
    results = net(image)
    results = results if isinstance(results, list) else [results]
    assert results[0].shape == (2, 3, 21, 18)
    torch.stack([r.square().mean() for r in results]).sum().backward()
    assert [k for k, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    with torch.no_grad():
        logits = net.eval()(image)
        assert torch.equal(build(spec, 1).eval()(image), twin.eval()(image))
        assert not torch.allclose(other.eval()(image), logits)
    assert flops(spec, (20, 20)) > 0


@pytest.mark.parametrize("name", OWN)
def test_tiles_are_exact_where_a_part_says_how_far_it_sees(name: str) -> None:
    spec = NetSpec(channels=(3, 4), **OWN[name] | {"deep_supervision": False})
    net, facts = build(spec, seed=1).eval(), geometry(spec)
    assert facts.local == (name not in BLENDED)
    assert facts.why_not_local == ("" if facts.local else "how far a part of your own sees is not known")
    shape = (2 * facts.halo[0] + 150, 23)
    image = np.random.default_rng(0).standard_normal((1, *shape), np.float32)
    tiled = Predictor(net, PredictOptions(precision="fp32", tile=(40,)))
    assert len(tiled.plan(ArrayReader(image)).work) > 1
    with torch.no_grad():
        whole = torch.softmax(net(torch.from_numpy(image)[None]), 1)[0].numpy()
    result = tiled.array(image, probabilities=True)
    warnings = [event.message for event in tiled.remarks(tiled.plan(ArrayReader(image))) if event.kind == "warned"]
    if facts.local:
        assert warnings == []
        np.testing.assert_allclose(result, whole, atol=1e-5)
    else:
        assert "cannot be tiled exactly (how far a part of your own sees is not known)" in warnings[0]
        np.testing.assert_allclose(result.sum(0), 1, atol=1e-5)


def test_what_a_part_says_of_itself_is_in_the_geometry() -> None:
    assert geometry(NetSpec(topology=OwnNet)).divisor == (4, 4)
    assert geometry(NetSpec(topology=OwnNet)).halo == (9, 9)
    assert geometry(NetSpec(topology=Quiet)).divisor == (32, 32)
    # one 5 × 5 block at each of two levels and back: 2 + 2·2 + 2, and what pooling and going up add
    assert geometry(NetSpec(channels=(3, 4), block=OwnBlock)).halo == (9, 9)


class Shrinks(nn.Conv2d):
    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(in_channels, channels, 3)


class Narrow(nn.Conv2d):
    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(in_channels, 1, 1)


class Broken(nn.Module):
    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(7, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class NoNumber(OwnBlock):
    halo: Any = "far"


class ByValue(nn.Conv2d):
    """Looks at values, which cannot be tried without memory."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(in_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.abs().max().item() >= 0 else x


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"block": nn.Conv2d(1, 1, 1)},
            "a network or layer that is built already (Conv2d) cannot be copied and trained anew; give its class, or a "
            "function that builds it",
        ),
        ({"down": OwnBlock}, "which must keep the size of a map; a part that changes it is a function that writes"),
        ({"block": Shrinks}, "Shrinks: for maps of (1, 1, 32, 32) it gives (1, 3, 30, 30); a part of your own must"),
        ({"block": Narrow}, "Narrow: called with 1, 3 it gives maps of 1 channels; it must give 3"),
        ({"topology": Narrow, "classes": 4}, "Narrow: called with 1, 4 it gives maps of 1 channels; it must give 4"),
        ({"head": Broken}, ":Broken: built and run on (1, 3, 32, 32) it fails: RuntimeError: "),
        ({"block": NoNumber}, "NoNumber: its halo is 'far'; it must be a whole number of pixels"),
        ({"bottleneck": nn.Conv2d}, ":Conv2d: built and run on (1, 4, 32, 32) it fails: TypeError: "),
        (
            {"block": "mine:Block"},
            "net.block 'mine:Block' is code of your own; it is run only where you say so: --trust",
        ),
        ({"skip": 3}, "must be one of concat, add, attention, attention-up, fusion, none, or code of your own"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        build(NetSpec.make({"channels": (3, 4), **values}))
    assert message in str(error.value)


def test_parts_that_look_at_values_are_tried_with_zeros() -> None:
    assert build(NetSpec(channels=(3, 4), block=ByValue)).eval()(torch.rand(1, 1, 8, 8)).shape == (1, 2, 8, 8)


CODE = """
from pathlib import Path
from torch import nn
Path("it-ran").touch()

class Block(nn.Conv2d):
    halo = 0

    def __init__(self, in_channels, channels):
        super().__init__(in_channels, channels, 1)

def skip(w, kept, below, coarse, stride):
    return below
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with the module family_parts.py."""
    (tmp_path / "family_parts.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "family_parts", raising=False)
    return tmp_path


def test_names_of_code_are_inert_until_trusted(folder: Path) -> None:
    written = '{"channels": [3, 4], "block": "family_parts:Block", "skip": "family_parts:skip"}'
    spec = NetSpec.model_validate_json(written)
    assert untrusted(spec) == ("family_parts:Block", "family_parts:skip")
    assert NetSpec.model_validate_json(spec.model_dump_json()) == spec
    for use in (geometry, build):
        with pytest.raises(SpecError, match="is code of your own"):
            use(spec)
    assert not (folder / "it-ran").exists()

    trusted = trust(spec)
    assert (folder / "it-ran").exists()
    assert untrusted(trusted) == ()
    assert trusted.block.__name__ == "Block"
    assert build(trusted).eval()(torch.rand(1, 1, 5, 6)).shape == (1, 2, 5, 6)
    # in a file it is a name again, and a name is inert
    assert NetSpec.model_validate_json(trusted.model_dump_json()) == spec
    assert trust(NetSpec()) == NetSpec()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("family_part:Block", "there is no module 'family_part' here; call from the folder that holds family_part.py"),
        ("family_parts:Blok", "module family_parts has no 'Blok'; it holds Path, Block, skip"),
        ("family_parts:__name__", "is a str; a part is a function or a class"),
    ],
)
def test_names_that_lead_nowhere_say_what_is_there(folder: Path, name: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        trust(NetSpec(block=name))
    assert message in str(error.value)


def test_loading_a_spec_imports_nothing(folder: Path) -> None:
    code = (
        "import sys; from unetkit.nets import NetSpec; "
        'NetSpec.model_validate_json(\'{"block": "family_parts:Block"}\'); '
        "assert 'family_parts' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not (folder / "it-ran").exists()


def test_a_partial_is_named_after_what_it_wraps() -> None:
    written = NetSpec(block=partial(OwnBlock, kernel=3)).model_dump(mode="json")
    assert written["block"].endswith(":OwnBlock")
