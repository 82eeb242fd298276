"""Every block, and the ways down, up and across that the family's own tests leave out, against naive references."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import comb
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from straight import Straight, agree, crop, noise, stirred
from unetkit.nets import NetSpec
from unetkit.nets.blocks import BLOCKS

SIZES = {1: (32,), 2: (16, 24), 3: (8, 8, 16)}
Straightened = Callable[[Straight, str, Tensor, int, int], Tensor]


def shortcut(s: Straight, part: str, i: int, n: int, x: Tensor, channels: int, stride: int) -> Tensor:
    """Mean over boxes, then a 1×1 convolution (number i) with norm (number n), each where it is needed."""
    x = s.average_pool(x) if stride == 2 else x
    return x if x.shape[1] == channels else s.norm(f"{part}.norm{n}", s.conv(f"{part}.conv{i}", x))


def residual(s: Straight, part: str, x: Tensor, channels: int, stride: int) -> Tensor:
    y = s.norm(f"{part}.norm2", s.conv(f"{part}.conv2", s.unit(part, 1, x, stride=stride)))
    x = s.average_pool(x) if stride == 2 else x
    return torch.relu(y + (x if x.shape[1] == channels else s.conv(f"{part}.conv3", x)))


def basic(s: Straight, part: str, x: Tensor, channels: int, stride: int) -> Tensor:
    y = s.norm(f"{part}.norm2", s.conv(f"{part}.conv2", s.unit(part, 1, x, stride=stride)))
    return torch.relu(y + shortcut(s, part, 3, 3, x, channels, stride))


def bottleneck(s: Straight, part: str, x: Tensor, channels: int, stride: int) -> Tensor:
    y = s.unit(part, 2, s.unit(part, 1, x), stride=stride)
    assert y.shape[1] == channels // 4
    y = s.norm(f"{part}.norm3", s.conv(f"{part}.conv3", y))
    return torch.relu(y + shortcut(s, part, 4, 4, x, channels, stride))


def squeeze_excite(s: Straight, part: str, x: Tensor, channels: int, stride: int) -> Tensor:
    y = s.norm(f"{part}.norm2", s.conv(f"{part}.conv2", s.unit(part, 1, x, stride=stride)))
    mean = y.flatten(2).mean(2)[(..., *[None] * s.n)]
    squeezed = torch.relu(s.conv(f"{part}.conv3", mean))
    assert squeezed.shape[1] == channels // 16
    y = y * torch.sigmoid(s.conv(f"{part}.conv4", squeezed))
    return torch.relu(y + shortcut(s, part, 5, 3, x, channels, stride))


def channel_norm(s: Straight, name: str, x: Tensor) -> Tensor:
    """Layer norm over the channels of every pixel, with torch's words for mean and variance."""
    shape = (-1, *[1] * s.n)
    x = (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, correction=0, keepdim=True) + 1e-5)
    return x * s.w[f"{name}.weight"].view(shape) + s.w[f"{name}.bias"].view(shape)


def convnext(s: Straight, part: str, x: Tensor, channels: int, stride: int) -> Tensor:
    x = channel_norm(s, f"{part}.norm1", s.conv(f"{part}.conv1", x, pad=0, stride=stride))
    y = channel_norm(s, f"{part}.norm2", s.conv(f"{part}.conv2", x, groups=channels))
    y = F.gelu(s.conv(f"{part}.conv3", y))
    assert y.shape[1] == 4 * channels
    y = s.conv(f"{part}.conv4", y)
    return x + y * s.w[f"{part}.scale1.weight"].view(-1, *[1] * s.n)


def separable(s: Straight, part: str, x: Tensor, channels: int, stride: int) -> Tensor:
    x = s.unit(part, 2, s.unit(part, 1, x, groups=x.shape[1], stride=stride))
    return s.unit(part, 4, s.unit(part, 3, x, groups=channels))


def inception(s: Straight, part: str, x: Tensor, channels: int, stride: int) -> Tensor:
    x = s.max_pool(x) if stride == 2 else x
    far = s.unit(part, 2, s.unit(part, 1, x))
    return torch.cat([s.unit(part, 4, x), s.unit(part, 3, x), far], 1)


def multires(s: Straight, part: str, x: Tensor, channels: int, stride: int) -> Tensor:
    x = s.max_pool(x) if stride == 2 else x
    a = s.unit(part, 1, x)
    b = s.unit(part, 2, a)
    c = s.unit(part, 3, b)
    assert [y.shape[1] for y in (a, b, c)] == [channels // 6, channels // 3, channels - channels // 6 - channels // 3]
    y = s.norm(f"{part}.norm4", torch.cat([a, b, c], 1))
    return torch.relu(y + s.norm(f"{part}.norm5", s.conv(f"{part}.conv4", x)))


NAIVE: dict[str, tuple[Straightened, dict[str, Any]]] = {
    "residual": (residual, {"blocks": 2}),
    "basic": (basic, {"blocks": 1}),
    "bottleneck": (bottleneck, {"blocks": 1, "channels": (8, 12)}),
    "squeeze-excite": (squeeze_excite, {"blocks": 1, "channels": (32, 48)}),
    "convnext": (convnext, {"blocks": 1, "norm": "layer", "activation": "gelu", "kernels": 7}),
    "separable": (separable, {"blocks": 2}),
    "inception": (inception, {"blocks": 1, "channels": (8, 11)}),
    "multires": (multires, {"blocks": 1, "channels": (6, 13)}),
}


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("name", NAIVE)
def test_a_block_at_two_levels_the_second_with_a_stride(name: str, ndim: int) -> None:
    block, changes = NAIVE[name]
    spec = NetSpec.make(
        {"ndim": ndim, "channels": (4, 6), "in_channels": 3, "down": "block", "skip": "none", **changes}
    )
    spec = spec.replace({"block": name, "decoder_block": lambda w, x, *_: x})  # nothing behind the two

    def straight(s: Straight, image: Tensor) -> Tensor:
        x = block(s, "encoder0", image, spec.channels[0], 1)
        x = block(s, "encoder1", x, spec.channels[1], 2)
        return s.conv("head.conv1", s.up("up0.transposed1", x))

    for training in (False, True):
        agree(stirred(spec, seed=ndim), straight, noise(2, 3, *SIZES[ndim]), training)


@pytest.mark.parametrize("name", sorted(set(BLOCKS) - {"squeeze-excite"}))
def test_without_padding_a_block_gives_the_middle_of_what_it_gives_with_padding(name: str) -> None:
    spec = NetSpec(channels=(12,), in_channels=3, block=name, padding="valid", kernels=((3, 5),))
    inner, padded = stirred(spec).eval(), stirred(spec.replace({"padding": "same"})).eval()
    image = noise(1, 3, 40, 50)
    got = inner(image)
    torch.testing.assert_close(got, crop(padded(image), got), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_borders_are_those_of_torch(mode: str, ndim: int) -> None:
    spec = NetSpec(ndim=ndim, channels=(3, 4), kernels=(5, 3), padding=mode)

    def unit(s: Straight, part: str, i: int, x: Tensor) -> Tensor:
        width = (s.w[f"{part}.conv{i}.weight"].shape[-1] - 1) // 2
        x = F.pad(x, (width,) * (2 * ndim), mode)
        return torch.relu(s.norm(f"{part}.norm{i}", s.conv(f"{part}.conv{i}", x, pad=0)))

    def double(s: Straight, part: str, x: Tensor) -> Tensor:
        return unit(s, part, 2, unit(s, part, 1, x))

    def straight(s: Straight, image: Tensor) -> Tensor:
        c0 = double(s, "encoder0", image)
        x = s.up("up0.transposed1", double(s, "encoder1", s.max_pool(c0)))
        return s.conv("head.conv1", double(s, "decoder0", torch.cat([c0, x], 1)))

    agree(stirred(spec), straight, noise(2, 1, *SIZES[ndim]), training=False)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_pyramid_looks_at_several_distances_at_once(ndim: int) -> None:
    spec = NetSpec(ndim=ndim, channels=(4,), blocks=1, bottleneck="pyramid")

    def straight(s: Straight, image: Tensor) -> Tensor:
        x = s.unit("encoder0", 1, image)
        rates = [s.unit("bottleneck", i, x, dilation=rate) for i, rate in ((3, 1), (2, 2), (1, 4))]
        return s.conv("head.conv1", s.unit("bottleneck", 5, torch.cat([s.unit("bottleneck", 4, x), *rates], 1)))

    for training in (False, True):
        agree(stirred(spec), straight, noise(2, 1, *SIZES[ndim]), training)


@pytest.mark.parametrize("strides", [((2,),), ((2, 2),), ((3, 1),), ((1, 2, 3),)])
def test_blur_is_the_binomial_mean_of_what_lies_around_every_nth_pixel(strides: tuple[tuple[int, ...], ...]) -> None:
    stride = strides[0]
    spec = NetSpec(ndim=len(stride), channels=(2, 2), blocks=1, down="blur", strides=strides)
    net = stirred(spec).eval()
    size = tuple(2 * n if n > 1 else 3 for n in stride)
    values = net.features(noise(1, 1, *size), ["encoder0.act1", "down1.blur1"])
    x, got = values["encoder0.act1"][0, 0], values["down1.blur1"][0, 0]
    for at in product(*[range(n) for n in got.shape]):
        total = 0.0
        for tap in product(*[range(2 * n - 1) for n in stride]):
            where = [a * n + t - (n - 1) for a, n, t in zip(at, stride, tap, strict=True)]
            if all(0 <= w < n for w, n in zip(where, size, strict=True)):  # beyond the border there are zeros
                weight = 1.0
                for n, t in zip(stride, tap, strict=True):
                    weight *= comb(2 * n - 2, t) / 2 ** (2 * n - 2)
                total += weight * float(x[tuple(where)])
        assert abs(float(got[at]) - total) < 1e-10


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("up", ["linear", "nearest", "interpolate", "corners"])
@pytest.mark.parametrize("down", ["average", "strided"])
def test_ways_down_and_up(ndim: int, up: str, down: str) -> None:
    spec = NetSpec(ndim=ndim, channels=(3, 4), up=up, down=down, skip="concat")

    def rise(s: Straight, x: Tensor) -> Tensor:
        if up in ("interpolate", "corners"):
            return s.linear(x, corners=up == "corners")
        # the 1×1 convolution behind the interpolation: the two commute
        x = F.interpolate(x, scale_factor=2.0, mode="nearest") if up == "nearest" else s.linear(x)
        return s.conv("up0.conv1", x)

    def straight(s: Straight, image: Tensor) -> Tensor:
        c0 = s.double("encoder0", image)
        x = s.average_pool(c0) if down == "average" else s.unit("down1", 1, c0, pad=0, stride=2)
        x = s.double("encoder1", x)
        return s.conv("head.conv1", s.double("decoder0", torch.cat([c0, rise(s, x)], 1)))

    agree(stirred(spec), straight, noise(2, 1, *SIZES[ndim]), training=True)


@pytest.mark.parametrize("norm", ["group", "instance", "layer"])
def test_norms_are_torchs(norm: str) -> None:
    net = stirred(NetSpec(channels=(16,), blocks=1, norm=norm)).eval()
    values = net.features(noise(2, 1, 6, 7), ["encoder0.conv1", "encoder0.norm1"])
    weight, bias = net.get_parameter("encoder0.norm1.weight"), net.get_parameter("encoder0.norm1.bias")
    x = values["encoder0.conv1"]
    theirs = {
        "group": lambda: F.group_norm(x, 8, weight, bias),
        "instance": lambda: F.instance_norm(x, weight=weight, bias=bias),
        "layer": lambda: F.layer_norm(x.permute(0, 2, 3, 1), (16,), weight, bias).permute(0, 3, 1, 2),
    }
    torch.testing.assert_close(values["encoder0.norm1"], theirs[norm]())
