"""What is special to some networks: borders, deep supervision, unpadded convolutions, weights, refusals, precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from unetkit.core.errors import SpecError
from unetkit.nets import NetSpec, UNet
from unetkit.nets.build import build
from unetkit.nets.geometry import geometry
from unetkit.nets.ops import Conv3d, InstanceNorm
from unetkit.nets.topology import program


@pytest.mark.parametrize(
    "values", [{}, {"padding": "reflect"}, {"norm": "instance"}, {"norm": "group"}, {"stem_stride": 2}]
)
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 2), (16, 16)])
def test_any_size_down_to_one_pixel(values: dict[str, Any], shape: tuple[int, int]) -> None:
    net = build(NetSpec(channels=(2, 3, 4, 4), **values)).eval()
    assert net(torch.rand(1, 1, *shape)).shape == (1, 2, *shape)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_border_that_forward_adds_is_a_reflection_where_there_is_room(ndim: int) -> None:
    net = build(NetSpec(ndim=ndim, channels=(3, 4, 5)), seed=4).eval()
    small = torch.randn(1, 1, *(11, 13, 10)[:ndim])
    reflected = small
    for axis, n in enumerate(small.shape[2:], start=2):
        wanted = -(-n // 4) * 4
        index = [i if i < n else 2 * (n - 1) - i for i in range(wanted)]
        reflected = reflected.index_select(axis, torch.tensor(index))
    crop = (slice(None), slice(None), *(slice(n) for n in small.shape[2:]))
    torch.testing.assert_close(net(small), net(reflected)[crop], rtol=0, atol=0)
    tiny = torch.randn(1, 1, *(1,) * ndim)
    torch.testing.assert_close(net(tiny), net(tiny.expand(1, 1, *(4,) * ndim).contiguous())[(..., *(slice(1),) * ndim)])


def test_deep_supervision_gives_every_decoder_level_in_training_only() -> None:
    net = build(NetSpec(channels=(2, 3, 4, 4), deep_supervision=True, classes=3))
    results = net(torch.randn(1, 1, 21, 40))
    assert [tuple(r.shape) for r in results] == [(1, 3, 21, 40), (1, 3, 11, 20), (1, 3, 6, 10)]
    assert net.eval()(torch.randn(1, 1, 21, 40)).shape == (1, 3, 21, 40)


def test_padding_valid_is_the_padded_network_on_the_inner_part() -> None:
    spec = NetSpec(channels=(3, 4, 5), padding="valid", norm="none")
    inner, padded = build(spec, seed=3).eval(), build(spec.replace({"padding": "same"}), seed=3).eval()
    n, margin = geometry(spec).smallest[0] + 3 * 4, geometry(spec).margin[0]
    large = torch.randn(1, 1, n + 80, n + 80)
    # the padded network sees the same alignment where its own pooling grid starts at the inner network's
    shift = next(s for s in range(40, 44) if (s + margin) % 4 == 0)
    part = inner(large[..., shift : shift + n, shift : shift + n])
    at = slice(shift + margin, shift + n - margin)
    for start in range(4):  # one of the four alignments of the padded network is the paper's
        same = padded(large[..., start : start + n + 76, start : start + n + 76])
        moved = same[..., at.start - start : at.stop - start, at.start - start : at.stop - start]
        if torch.allclose(part, moved, atol=1e-5):
            return
    pytest.fail("no alignment of the padded network gives the valid network's logits")


def test_dropout_is_at_the_end_of_the_two_coarsest_levels() -> None:
    layers = program(NetSpec(channels=(2, 2, 2, 2), dropout=0.5)).layers
    assert [layer.name for layer in layers if layer.kind == "dropout"] == ["encoder2.dropout1", "encoder3.dropout1"]


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_spatial_dropout_drops_whole_maps(ndim: int) -> None:
    spec = NetSpec(ndim=ndim, channels=(8, 16), dropout=0.5, dropout_of="maps")
    net = build(spec, seed=0).train()
    dropped = net.get_submodule("encoder1.dropout1")
    torch.manual_seed(0)
    flat = dropped(torch.ones(4, 16, *(6,) * ndim)).flatten(2)
    assert set(flat.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(flat.amin(-1), flat.amax(-1))
    assert dropped.eval()(torch.ones(1, 16, *(6,) * ndim)).eq(1).all()


def test_convolutions_have_a_bias_only_where_no_norm_follows() -> None:
    names = [n for n, _ in build(NetSpec(channels=(2, 2), block="residual")).named_parameters() if n.endswith("bias")]
    assert [n for n in names if "conv" in n] == ["head.conv1.bias"]
    assert [n for n in names if "transposed" in n] == ["up0.transposed1.bias"]


def test_seeds_decide_the_weights_and_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    a, b, c = build(NetSpec(channels=(2, 3)), 1), build(NetSpec(channels=(2, 3)), 1), build(NetSpec(channels=(2, 3)), 2)
    d = build(NetSpec(channels=(2, 3)), torch.Generator().manual_seed(5))
    assert torch.equal(torch.get_rng_state(), before)
    key = "encoder1.conv1.weight"
    assert torch.equal(a.state_dict()[key], b.state_dict()[key])
    assert not torch.equal(a.state_dict()[key], c.state_dict()[key])
    assert not torch.equal(a.state_dict()[key], d.state_dict()[key])


def test_initial_activations_keep_their_scale_without_norm() -> None:
    for kind in ("plain", "residual"):
        net = build(NetSpec(channels=(32, 64, 128), norm="none", block=kind), seed=0).eval()
        spread = net(torch.randn(2, 1, 32, 32)).std().item()
        assert 0.1 < spread < 10, (kind, spread)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 64, 64), "the network takes tensors of 4 axes (batch, channels, Y, X), the input has 3: (1, 64, 64)"),
        ((1, 3, 64, 64), "the network takes 1 channel, the input has 3: (1, 3, 64, 64) (batch, channels, Y, X)"),
        (
            (1, 1, 64, 65),
            "64 × 65 pixels does not fit this network, whose sizes are 4 × 4 pixels plus multiples of 4 × 4; ",
        ),
        ((1, 1, 64, 65), "64 × 68 pixels would work"),
    ],
)
def test_a_wrong_input_is_refused_with_what_would_work(shape: tuple[int, ...], message: str) -> None:
    net = build(NetSpec(channels=(2, 2, 2)), strict=True)
    with pytest.raises(SpecError) as error:
        net(torch.zeros(shape))
    assert message in str(error.value)


def test_valid_padding_refuses_what_leaves_nothing() -> None:
    net = build(NetSpec(channels=(2, 2, 2), padding="valid"))
    with pytest.raises(SpecError, match="takes away 20 × 20 pixels on each side; give 41 × 41 pixels or more"):
        net(torch.zeros(1, 1, 100, 40))
    assert net(torch.zeros(1, 1, 100, 41)).shape == (1, 2, 60, 1)


def test_sugar() -> None:
    net = UNet(in_channels=3, classes=4, like="resunet-small")
    assert (net.spec.block, net.spec.in_channels, net.spec.classes) == ("residual", 3, 4)
    with pytest.raises(SpecError, match="there is no network called 'resunet-smal'; did you mean 'resunet-small'"):
        UNet(like="resunet-smal")
    with pytest.raises(SpecError, match="'classes': input should be greater than or equal to 1"):
        UNet(classes=0)


@pytest.mark.parametrize(
    "values", [{}, {"stem_stride": 2, "block": "residual", "deep_supervision": True}, {"padding": "valid"}]
)
def test_the_graph_is_captured_whole(values: dict[str, Any]) -> None:
    net = build(NetSpec(channels=(2, 3, 4), **values))
    image = torch.randn(1, 1, 60, 60)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    expected, got = net.eval()(image), compiled(image)
    torch.testing.assert_close(got, expected)


def test_bf16_autocast_and_channels_last_agree_with_float32() -> None:
    net = build(NetSpec(channels=(8, 16, 16), stem_stride=2), seed=1).eval()
    image = torch.randn(2, 1, 32, 32)
    expected = net(image)
    net.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(logits.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize(
    "values",
    [
        {"norm": "instance", "up": "linear", "down": "average", "padding": "reflect"},
        {"norm": "group", "up": "shuffle", "down": "strided", "padding": "replicate"},
        {"norm": "batch", "up": "nearest", "stem_stride": 2, "activation": "gelu"},
    ],
)
def test_every_part_trains_in_bf16(ndim: int, values: dict[str, Any]) -> None:
    net = build(NetSpec(**{"ndim": ndim, "channels": (4, 4), **values}))
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(torch.randn(2, 1, *(8,) * ndim))
    logits.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(("planes", "kernel"), [(1, 3), (2, 3), (3, 3), (3, 5), (4, 5)])
def test_convolutions_of_flat_volumes_are_torchs(planes: int, kernel: int) -> None:
    """Where torch's own are at fault in bfloat16, planes of zeros are put behind: the numbers are the same."""
    ours = Conv3d(2, 3, kernel, padding=kernel // 2)
    torchs = torch.nn.Conv3d(2, 3, kernel, padding=kernel // 2)
    torchs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 2, planes, 6, 5, requires_grad=True)
    expected, got = torchs(x), ours(x)
    torch.testing.assert_close(got, expected)
    for a, b in zip(
        torch.autograd.grad(got.square().sum(), [x, *ours.parameters()]),
        torch.autograd.grad(expected.square().sum(), [x, *torchs.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((2, 3, 6, 8), torch.channels_last),
        ((1, 3, 6, 8), torch.channels_last),
        ((3, 4, 5, 6, 4), torch.channels_last_3d),
        ((2, 3, 1, 1), torch.channels_last),
    ],
)
def test_instance_norm_is_the_same_in_both_layouts_and_keeps_them(
    shape: tuple[int, ...], layout: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(0)
    norm = InstanceNorm(shape[1], affine=True)
    torch.nn.init.uniform_(norm.weight, 0.5, 2, generator=generator)
    image, towards = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    found = []
    for form in (torch.contiguous_format, layout):
        x_BCX = image.clone(memory_format=form).requires_grad_()
        y_BCX = norm(x_BCX)
        assert y_BCX.is_contiguous(memory_format=form)
        found.append((y_BCX, *torch.autograd.grad((y_BCX * towards).sum(), (x_BCX, norm.weight, norm.bias))))
    for plain, other in zip(*found, strict=True):
        torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-5)
    axes = tuple(range(2, len(shape)))
    mean, spread = image.mean(axes, keepdim=True), image.var(axes, correction=0, keepdim=True)
    scale = norm.weight.view(1, -1, *(1,) * len(axes))
    torch.testing.assert_close(found[1][0], (image - mean) / (spread + 1e-5).sqrt() * scale, rtol=1e-4, atol=1e-5)
