"""The members of the family whose units are not the plain ones: residual, recurrent, dense, with a transformer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from straight import Straight, agree, noise, stirred
from unetkit.nets import NetSpec, preset
from unetkit.nets.geometry import geometry
from unetkit.nets.topology import program

SIZES = {1: (32,), 2: (32, 16), 3: (16, 8, 8)}


def same_width(x: Tensor, channels: int) -> Tensor:
    """A shortcut without weights, channel by channel: repeated in turn, or the mean of those in turn."""
    if channels >= x.shape[1]:
        return torch.stack([x[:, c % x.shape[1]] for c in range(channels)], 1)
    return torch.stack([x[:, c::channels].mean(1) for c in range(channels)], 1)


def zhang(s: Straight, image: Tensor) -> Tensor:
    """Table 1 of the deep residual U-Net: three levels, bridge, three levels; the shortcuts have no weights."""

    def unit(part: str, x: Tensor, stride: int, first: bool = False) -> Tensor:
        norms = ["", f"{part}.norm1"] if first else [f"{part}.norm1", f"{part}.norm2"]
        y = x if first else torch.relu(s.norm(norms[0], x))
        y = torch.relu(s.norm(norms[1], s.conv(f"{part}.conv1", y, stride=stride)))
        y = s.conv(f"{part}.conv2", y)
        return y + same_width(s.average_pool(x) if stride == 2 else x, y.shape[1])

    e0 = unit("encoder0", image, 1, first=True)
    e1 = unit("encoder1", e0, 2)
    e2 = unit("encoder2", e1, 2)
    x = unit("encoder3", e2, 2)
    for level, kept in ((2, e2), (1, e1), (0, e0)):
        x = unit(f"decoder{level}", torch.cat([kept, s.linear(x)], 1), 1)
    return s.conv("head.conv1", x)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("training", [False, True])
def test_resunet(ndim: int, training: bool) -> None:
    spec = preset("resunet").form(ndim).replace({"channels": (4, 6, 8, 10)})
    agree(stirred(spec), zhang, noise(2, 3, *SIZES[ndim]), training)


def test_resunet_is_as_large_as_its_paper_says_and_has_fifteen_convolutional_layers() -> None:
    assert round(preset("resunet").parameters / 1e6, 1) == 7.8  # Zhang 2018, section III-C
    assert sum(layer.kind in ("conv", "strided_conv") for layer in program(preset("resunet").spec).layers) == 15


def recurrent_convolutions(s: Straight, part: str, x: Tensor, first: int, steps: int, convolutions: int = 2) -> Tensor:
    """Equation 1 unrolled: the same weights and the same norm in every step."""
    for i in range(convolutions):
        forward, back = f"{part}.conv{first + (1 + steps) * i}", f"{part}.conv{first + (1 + steps) * i + 1}"
        norm = f"{part}.norm{1 + (1 + steps) * i}"
        once = s.conv(forward, x)
        h = torch.relu(s.norm(norm, once))
        for _ in range(steps):
            h = torch.relu(s.norm(norm, once + s.conv(back, h)))
        x = h
    return x


def alom(residual: bool, steps: int) -> Any:
    def block(s: Straight, part: str, x: Tensor) -> Tensor:
        if not residual:
            return recurrent_convolutions(s, part, x, 1, steps)
        x = s.conv(f"{part}.conv1", x)
        return x + recurrent_convolutions(s, part, x, 2, steps)

    def straight(s: Straight, image: Tensor) -> Tensor:
        c0 = block(s, "encoder0", image)
        c1 = block(s, "encoder1", s.max_pool(c0))
        x = block(s, "encoder2", s.max_pool(c1))
        x = block(s, "decoder1", torch.cat([c1, s.up("up1.transposed1", x)], 1))
        x = block(s, "decoder0", torch.cat([c0, s.up("up0.transposed1", x)], 1))
        return s.conv("head.conv1", x)

    return straight


@pytest.mark.parametrize(("ndim", "steps"), [(1, 3), (2, 2), (2, 1), (3, 2)])
@pytest.mark.parametrize("name", ["r2unet", "recurrent"])
@pytest.mark.parametrize("training", [False, True])
def test_recurrent_networks_are_the_unrolled_loop(name: str, ndim: int, steps: int, training: bool) -> None:
    spec = preset(name).form(ndim).replace({"channels": (3, 4, 5), "recurrences": steps})
    agree(stirred(spec), alom(name == "r2unet", steps), noise(2, 3, *SIZES[ndim]), training)


def test_recurrence_costs_no_parameters() -> None:
    spec = preset("r2unet").spec
    assert spec.recurrences == 2  # t = 2 (Alom 2018, section III)
    assert geometry(spec).parameters == geometry(spec.replace({"recurrences": 5})).parameters


def jegou(s: Straight, image: Tensor, depth: int, layers: int) -> Tensor:
    """The tiramisu with its lists: what a dense block has made is kept apart from what it was given."""
    p = 0.2

    def layer(part: str, i: int, x: Tensor) -> Tensor:
        x = s.conv(f"{part}.conv{i}", torch.relu(s.norm(f"{part}.norm{i}", x)))
        return F.dropout(x, p, s.training)

    def block(part: str, x: Tensor) -> list[Tensor]:
        new: list[Tensor] = []
        for i in range(1, layers + 1):
            new.append(layer(part, i, torch.cat([x, *new], 1)))
        return new

    x = torch.relu(s.norm("stem.norm1", s.conv("stem.conv1", image)))
    kept = []
    for level in range(depth):
        x = torch.cat([x, *block(f"encoder{level}", x)], 1)
        kept.append(x)
        x = s.max_pool(layer(f"down{level + 1}", 1, x))
    new = block(f"encoder{depth}", x)
    for level in reversed(range(depth)):
        x = s.up(f"up{level}.transposed1", torch.cat(new, 1), padding=1, output_padding=1)
        x = torch.cat([kept[level], x], 1)
        new = block(f"decoder{level}", x)
    return s.conv("head.conv1", torch.cat([x, *new], 1))


def tiramisu(layers: tuple[int, ...], growth: int, ndim: int = 2, stem: int = 48) -> NetSpec:
    """FC-DenseNet with so many layers in its blocks on the way down and at the bottom, the same on the way up."""
    depth = len(layers) - 1
    down = [stem + growth * sum(layers[: i + 1]) for i in range(depth)]
    # on the way up what is new goes on; at the end everything
    new = [growth * n for n in layers]
    up = (down[0] + new[1] + new[0], *new[1:depth])
    changes = {"channels": (*down, new[-1]), "decoder_channels": up, "blocks": layers, "decoder_blocks": layers[:depth]}
    return preset("dense").form(ndim).replace({**changes, "stem": stem})


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("training", [False, True])
def test_dense(ndim: int, training: bool) -> None:
    net = stirred(tiramisu((3, 3, 3), 2, ndim, stem=4))
    agree(net, lambda s, x: jegou(s, x, 2, 3), noise(2, 3, *SIZES[ndim]), training)


def test_dense_is_as_large_as_its_paper_says() -> None:
    # Jégou 2017, table 3: FC-DenseNet56, 67 and 103
    counts = [geometry(tiramisu((4,) * 6, 12)).parameters, geometry(tiramisu((5,) * 6, 16)).parameters]
    assert [round(n / 1e6, 1) for n in counts] == [1.4, 3.5]
    spec = preset("dense").spec
    assert tiramisu((4, 5, 7, 10, 12, 15), 16) == spec
    assert 9.3e6 < geometry(spec).parameters < 9.45e6
    convolutions = sum(layer.kind in ("conv", "transposed") for layer in program(spec).layers)
    assert convolutions == 103


def test_the_transformer_is_torchs() -> None:
    channels, size = 128, (3, 5)  # two heads of 64
    spec = NetSpec(channels=(channels,), block=lambda w, x, *_: w.conv(x, channels, 1), bottleneck="transformer")
    net = stirred(spec.replace({"bottleneck_layers": 2, "classes": 3})).eval()
    state, image = net.state_dict(), noise(2, 1, *size)

    x_BCX = F.conv2d(image, state["encoder0.conv1.weight"])
    grid = F.interpolate(state["bottleneck.positions1.weight"], size=size, mode="bilinear", align_corners=False)
    tokens_BTC = (x_BCX + grid).flatten(2).transpose(1, 2)
    for i in range(2):
        layer = nn.TransformerEncoderLayer(channels, 2, 4 * channels, 0.0, "gelu", batch_first=True, norm_first=True)
        names = {"self_attn.in_proj_": f"conv{4 * i + 1}.", "self_attn.out_proj.": f"conv{4 * i + 2}."}
        names |= {"linear1.": f"conv{4 * i + 3}.", "linear2.": f"conv{4 * i + 4}."}
        names |= {"norm1.": f"norm{2 * i + 1}.", "norm2.": f"norm{2 * i + 2}."}
        copied = {}
        for theirs, ours in names.items():
            copied[f"{theirs}weight"] = state[f"bottleneck.{ours}weight"].flatten(1 if "norm" not in ours else 0)
            copied[f"{theirs}bias"] = state[f"bottleneck.{ours}bias"]
        layer = layer.double().eval()
        layer.load_state_dict(copied)
        tokens_BTC = layer(tokens_BTC)
    tokens_BTC = F.layer_norm(
        tokens_BTC, (channels,), state["bottleneck.norm5.weight"], state["bottleneck.norm5.bias"], 1e-5
    )
    x_BCX = tokens_BTC.transpose(1, 2).reshape(2, channels, *size)
    expected = F.conv2d(x_BCX, state["head.conv1.weight"], state["head.conv1.bias"])
    torch.testing.assert_close(net(image), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_transunet_takes_any_size_and_its_positions_span_the_map(ndim: int) -> None:
    spec = preset("transunet").form(ndim).replace({"channels": (4, 6, 8, 16), "bottleneck_layers": 1})
    net = stirred(spec).eval()
    for size in ((1, 1, 1), (9, 17, 5), (40, 23, 12)):
        assert net(noise(1, 1, *size[:ndim])).shape == (1, 2, *size[:ndim])

    positions = net.get_submodule("bottleneck.positions1")
    points = positions.weight.shape[-1]
    zeros = torch.zeros(1, 16, *(points,) * ndim, dtype=torch.float64)
    torch.testing.assert_close(positions(zeros), positions.weight)  # on its own grid it is what was learned
    with torch.no_grad():  # and a ramp stays a ramp, from one end of the map to the other
        ramp = (torch.arange(points, dtype=torch.float64) + 0.5) / points
        positions.weight.copy_(ramp.expand(positions.weight.shape))
    for n in (3, 40):
        along = positions(torch.zeros(1, 16, *(2,) * (ndim - 1), n, dtype=torch.float64))[0, 0].reshape(-1, n)[0]
        expected = ((torch.arange(n, dtype=torch.float64) + 0.5) / n).clamp(0.5 / points, 1 - 0.5 / points)
        torch.testing.assert_close(along, expected)
    assert not net.geometry.local
    assert "a transformer looks at the whole tile" in net.geometry.why_not_local
