"""The members of the family whose skips or levels are joined in another way, against straight-line implementations."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from straight import MODE, Straight, agree, noise, stirred
from unetkit.nets import preset, prune
from unetkit.nets.geometry import geometry
from unetkit.nets.topology import program

SIZES = {1: (32,), 2: (32, 16), 3: (16, 8, 8)}


def zhou(s: Straight, image: Tensor) -> list[Tensor]:
    """U-Net++, node by node as its equation 1 says, of four levels."""

    def node(i: int, j: int, before: list[Tensor], below: Tensor) -> Tensor:
        return s.double(f"node{i}_{j}", torch.cat([*before, s.up(f"up{i}_{j}.transposed1", below)], 1))

    x00 = s.double("encoder0", image)
    x10 = s.double("encoder1", s.max_pool(x00))
    x20 = s.double("encoder2", s.max_pool(x10))
    x30 = s.double("encoder3", s.max_pool(x20))
    x01 = node(0, 1, [x00], x10)
    x11 = node(1, 1, [x10], x20)
    x21 = node(2, 1, [x20], x30)
    x02 = node(0, 2, [x00, x01], x11)
    x12 = node(1, 2, [x10, x11], x21)
    x03 = node(0, 3, [x00, x01, x02], x12)
    return [s.conv(f"head{j}.conv1", x) for j, x in ((3, x03), (2, x02), (1, x01))]


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("training", [False, True])
def test_unetpp(ndim: int, training: bool) -> None:
    spec = preset("unetpp").form(ndim).replace({"channels": (2, 3, 4, 5)})
    agree(stirred(spec), zhou, noise(2, 3, *SIZES[ndim]), training)


def test_unetpp_is_as_large_as_its_paper_says() -> None:
    spec = preset("unetpp").spec
    plain = geometry(spec.replace({"norm": "none"})).parameters  # the paper's has biases, and no norms
    assert round(plain / 1e6, 2) == 9.04  # Zhou 2018, table 2
    with_norms = sum(layer.channels for layer in program(spec).layers if layer.kind == "batch_norm")
    assert geometry(spec).parameters == plain + with_norms  # a scale and a shift in place of a bias


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_unetpp_pruned_gives_the_logits_of_its_inner_heads(ndim: int) -> None:
    net = stirred(preset("unetpp").form(ndim).replace({"channels": (2, 3, 4, 4, 5)})).eval()
    image, parameters = noise(1, 3, *(32, 48, 16)[:ndim]), []
    full = net.features(image, [f"head{column}.conv1" for column in (1, 2, 3, 4)])
    for column in (1, 2, 3, 4):
        small = prune(net, column)
        assert not small.training
        torch.testing.assert_close(small(image), full[f"head{column}.conv1"], rtol=1e-10, atol=1e-10)
        parameters.append(sum(p.numel() for p in small.parameters()))
        assert parameters[-1] == geometry(net.spec.replace({"prune": column})).parameters
    assert all(a < b for a, b in pairwise(parameters))


def huang(s: Straight, image: Tensor) -> list[Tensor]:
    """U-Net 3+ of four levels, every arrow of its figure 1c written out."""
    e1 = s.double("encoder0", image)
    e2 = s.double("encoder1", s.max_pool(e1))
    e3 = s.double("encoder2", s.max_pool(e2))
    d4 = s.double("encoder3", s.max_pool(e3))

    def join(level: int, sources: list[Tensor]) -> Tensor:
        narrow = [s.unit(f"skip{level}", i, x) for i, x in enumerate(sources, start=1)]
        return s.unit(f"decoder{level}", 1, torch.cat(narrow, 1))

    d3 = join(2, [s.max_pool(e1, 4), s.max_pool(e2, 2), e3, s.linear(d4, 2)])
    d2 = join(1, [s.max_pool(e1, 2), e2, s.linear(d3, 2), s.linear(d4, 4)])
    d1 = join(0, [e1, s.linear(d2, 2), s.linear(d3, 4), s.linear(d4, 8)])
    heads = [s.conv("head.conv1", d1), s.conv("head1.conv1", d2), s.conv("head2.conv1", d3)]
    return [*heads, s.conv("head3.conv1", d4)]


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("training", [False, True])
def test_unet3plus(ndim: int, training: bool) -> None:
    spec = preset("unet3plus").form(ndim).replace({"channels": (2, 3, 4, 5)})
    agree(stirred(spec), huang, noise(2, 3, *SIZES[ndim]), training)


def test_unet3plus_reads_every_scale_at_every_level_and_is_as_large_as_its_paper_says() -> None:
    spec = preset("unet3plus").spec
    layers = program(spec).layers
    for level in range(4):
        inside = [layer for layer in layers if layer.part == f"skip{level}"]
        own = {layer.name for layer in inside}
        read = [name for layer in inside for name in layer.inputs if name not in own]
        sources = [name.split(".")[0] for name in read]
        encoders = [f"encoder{i}" for i in range(level + 1)]
        assert sources == [*encoders, *(f"decoder{i}" for i in range(level + 1, 4)), "encoder4"]
        joined = next(layer for layer in layers if layer.name == f"decoder{level}.conv1")
        assert (joined.in_channels, joined.channels) == (5 * 64, 5 * 64)
    undivided = geometry(spec.replace({"deep_supervision": False})).parameters
    assert round(undivided / 1e6, 2) == 26.97  # Huang 2020, table 1


def oktay(s: Straight, image: Tensor) -> Tensor:
    """The gate on the coarser grid (equations 1 and 2), interpolated to what was kept and multiplied with it."""

    def gated(level: int, kept: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        theta = s.conv(f"skip{level}.conv1", kept, pad=0, stride=2)
        phi = s.conv(f"skip{level}.conv2", coarse)
        alpha = 1 / (1 + torch.exp(-s.conv(f"skip{level}.conv3", torch.relu(theta + phi))))
        weight = F.interpolate(alpha, size=kept.shape[2:], mode=MODE[s.n - 1], align_corners=False)
        return kept * weight, alpha

    c0 = s.double("encoder0", image)
    c1 = s.double("encoder1", s.max_pool(c0))
    x = s.double("encoder2", s.max_pool(c1))
    for level, kept in ((1, c1), (0, c0)):
        passed, alpha = gated(level, kept, x)
        s.w[f"seen{level}"] = alpha
        x = s.double(f"decoder{level}", torch.cat([passed, s.up(f"up{level}.transposed1", x)], 1))
    return s.conv("head.conv1", x)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("training", [False, True])
def test_attention(ndim: int, training: bool) -> None:
    spec = preset("attention").form(ndim).replace({"channels": (4, 6, 8)})
    agree(stirred(spec), oktay, noise(2, 1, *SIZES[ndim]), training)


@pytest.mark.parametrize("skip", ["attention", "attention-up"])
def test_gates_can_be_looked_at_by_name(skip: str) -> None:
    net = stirred(preset("attention").spec.replace({"channels": (4, 6, 8), "skip": skip})).eval()
    image = noise(1, 1, 24, 32)
    maps = net.features(image, ["skip0.gate1", "skip1.gate1"])
    assert set(maps) == {"skip0.gate1", "skip1.gate1"}
    half = 2 if skip == "attention" else 1  # the gate of the paper lives on the coarser grid
    assert maps["skip0.gate1"].shape == (1, 1, 24 // half, 32 // half)
    assert maps["skip1.gate1"].shape == (1, 1, 12 // half, 16 // half)
    for gate in maps.values():
        assert gate.min() >= 0
        assert gate.max() <= 1
        assert gate.std() > 0
    if skip == "attention":
        straight = Straight(net)
        oktay(straight, image)
        for level in (0, 1):
            torch.testing.assert_close(maps[f"skip{level}.gate1"], straight.w[f"seen{level}"], rtol=1e-9, atol=1e-9)


def fused(s: Straight, image: Tensor) -> Tensor:
    """The textbook with weighted means for skips."""

    def mean(level: int, kept: Tensor, below: Tensor) -> Tensor:
        a, b = torch.exp(s.w[f"skip{level}.fuse1.weight"])
        return (a * kept + b * below) / (a + b)

    c0 = s.double("encoder0", image)
    c1 = s.double("encoder1", s.max_pool(c0))
    x = s.double("encoder2", s.max_pool(c1))
    x = s.double("decoder1", mean(1, c1, s.up("up1.transposed1", x)))
    return s.conv("head.conv1", s.double("decoder0", mean(0, c0, s.up("up0.transposed1", x))))


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("training", [False, True])
def test_fusion(ndim: int, training: bool) -> None:
    spec = preset("fusion").form(ndim).replace({"channels": (3, 4, 5)})
    agree(stirred(spec), fused, noise(2, 1, *SIZES[ndim]), training)


def test_weights_of_fusion_sum_to_one_and_learn_at_every_level() -> None:
    net = stirred(preset("fusion").spec.replace({"channels": (3, 4, 5, 6, 7)}))
    net(noise(1, 1, 32, 48)).square().mean().backward()
    for level in range(4):
        fuse = net.get_submodule(f"skip{level}.fuse1")
        assert fuse.weight.grad.abs().min() > 0
        ones = torch.ones(1, 3, 4, 4, dtype=torch.float64)
        torch.testing.assert_close(fuse(ones, ones), ones)  # a mean: equal maps stay as they are
        with torch.no_grad():
            only = fuse(ones, 0 * ones)
        assert 0 < only.min() < 1
    for part in ("encoder0", "encoder1", "encoder2", "encoder3", "encoder4"):
        assert net.get_parameter(f"{part}.conv1.weight").grad.abs().max() > 0


def badrinarayanan(s: Straight, image: Tensor) -> Tensor:
    """SegNet of three levels with torch's own max-unpooling."""
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[s.n - 1]
    unpool = (F.max_unpool1d, F.max_unpool2d, F.max_unpool3d)[s.n - 1]
    x, where0 = pool(s.double("encoder0", image), 2, return_indices=True)
    x, where1 = pool(s.double("encoder1", x), 2, return_indices=True)
    x = s.double("encoder2", x)
    x = s.double("decoder1", unpool(s.conv("up1.conv1", x), where1, 2))
    x = s.double("decoder0", unpool(s.conv("up0.conv1", x), where0, 2))
    return s.conv("head.conv1", x)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("training", [False, True])
def test_segnet(ndim: int, training: bool) -> None:
    spec = preset("segnet").form(ndim).replace({"channels": (3, 4, 5), "blocks": 2})
    agree(stirred(spec), badrinarayanan, noise(2, 3, *SIZES[ndim]), training)


def long(s: Straight, image: Tensor) -> list[Tensor]:
    """FCN-8s of five levels: scores of the three coarsest are added on the way up, then interpolated at once."""
    c0 = s.double("encoder0", image)
    c1 = s.double("encoder1", s.max_pool(c0))
    c2 = s.double("encoder2", s.max_pool(c1))
    c3 = s.double("encoder3", s.max_pool(c2))
    c4 = s.double("encoder4", s.max_pool(c3))
    score4 = s.conv("head4.conv1", c4)
    up = {"padding": 1, "output_padding": 1}
    score3 = s.conv("head3.conv1", c3) + s.up("up3.transposed1", score4, **up)
    score2 = s.conv("head2.conv1", c2) + s.up("up2.transposed1", score3, **up)
    return [s.linear(score2, 4), score2, score3, score4]


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("deep", [False, True])
def test_fcn8s(ndim: int, deep: bool) -> None:
    narrow = {"channels": (2, 3, 4, 5, 6), "blocks": 2, "classes": 3, "deep_supervision": deep}
    net = stirred(preset("fcn8s").form(ndim).replace(narrow))
    image = noise(2, 3, *(48, 32, 16)[:ndim])
    agree(net, long, image, training=False)
    agree(net, long if deep else lambda s, x: long(s, x)[0], image, training=True)
