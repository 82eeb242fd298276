"""The textbook U-Net, written straight down with torch's functions, gives the same logits from the same weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from unetkit.nets import NetSpec
from unetkit.nets.build import build

State = dict[str, Tensor]


def double_conv(w: State, name: str, x: Tensor) -> Tensor:
    for i in (1, 2):
        x = F.conv2d(x, w[f"{name}.conv{i}.weight"], padding=1)
        mean, var = w[f"{name}.norm{i}.running_mean"], w[f"{name}.norm{i}.running_var"]
        scale, shift = w[f"{name}.norm{i}.weight"], w[f"{name}.norm{i}.bias"]
        x = (x - mean[:, None, None]) / torch.sqrt(var[:, None, None] + 1e-5) * scale[:, None, None]
        x = torch.clamp(x + shift[:, None, None], min=0)
    return x


def textbook(w: State, x: Tensor) -> Tensor:
    c1 = double_conv(w, "encoder0", x)
    c2 = double_conv(w, "encoder1", F.max_pool2d(c1, 2))
    c3 = double_conv(w, "encoder2", F.max_pool2d(c2, 2))
    c4 = double_conv(w, "encoder3", F.max_pool2d(c3, 2))
    c5 = double_conv(w, "encoder4", F.max_pool2d(c4, 2))
    u4 = F.conv_transpose2d(c5, w["up3.transposed1.weight"], w["up3.transposed1.bias"], stride=2)
    d4 = double_conv(w, "decoder3", torch.cat([c4, u4], dim=1))
    u3 = F.conv_transpose2d(d4, w["up2.transposed1.weight"], w["up2.transposed1.bias"], stride=2)
    d3 = double_conv(w, "decoder2", torch.cat([c3, u3], dim=1))
    u2 = F.conv_transpose2d(d3, w["up1.transposed1.weight"], w["up1.transposed1.bias"], stride=2)
    d2 = double_conv(w, "decoder1", torch.cat([c2, u2], dim=1))
    u1 = F.conv_transpose2d(d2, w["up0.transposed1.weight"], w["up0.transposed1.bias"], stride=2)
    d1 = double_conv(w, "decoder0", torch.cat([c1, u1], dim=1))
    return F.conv2d(d1, w["head.conv1.weight"], w["head.conv1.bias"])


def test_logits_are_the_textbooks() -> None:
    generator = torch.Generator().manual_seed(0)
    net = build(NetSpec(channels=(4, 8, 12, 16, 20), classes=3, in_channels=2), generator)
    for _ in range(2):
        net(torch.randn(2, 2, 48, 32, generator=generator) + 1)
    net.eval()
    image = torch.randn(2, 2, 48, 64, generator=generator)
    torch.testing.assert_close(net(image), textbook(net.state_dict(), image), rtol=1e-4, atol=1e-5)


def valid_conv(w: State, name: str, x: Tensor) -> Tensor:
    for i in (1, 2):
        x = torch.relu(F.conv2d(x, w[f"{name}.conv{i}.weight"], w[f"{name}.conv{i}.bias"]))
    return x


def crop(x: Tensor, like: Tensor) -> Tensor:
    top, left = (x.shape[2] - like.shape[2]) // 2, (x.shape[3] - like.shape[3]) // 2
    return x[:, :, top : top + like.shape[2], left : left + like.shape[3]]


def test_valid_padding_is_copy_and_crop_of_the_paper() -> None:
    net = build(NetSpec(channels=(3, 4, 5), norm="none", padding="valid"), seed=1).eval()
    w, image = net.state_dict(), torch.randn(1, 1, 60, 44, generator=torch.Generator().manual_seed(2))
    c1 = valid_conv(w, "encoder0", image)
    c2 = valid_conv(w, "encoder1", F.max_pool2d(c1, 2))
    c3 = valid_conv(w, "encoder2", F.max_pool2d(c2, 2))
    u2 = F.conv_transpose2d(c3, w["up1.transposed1.weight"], w["up1.transposed1.bias"], stride=2)
    d2 = valid_conv(w, "decoder1", torch.cat([crop(c2, u2), u2], dim=1))
    u1 = F.conv_transpose2d(d2, w["up0.transposed1.weight"], w["up0.transposed1.bias"], stride=2)
    d1 = valid_conv(w, "decoder0", torch.cat([crop(c1, u1), u1], dim=1))
    expected = F.conv2d(d1, w["head.conv1.weight"], w["head.conv1.bias"])
    torch.testing.assert_close(net(image), expected, rtol=1e-5, atol=1e-6)


def test_pixel_shuffle_is_the_loop_over_pixels() -> None:
    from unetkit.nets.ops import Shuffle

    for factor in ((3,), (2, 2), (1, 3), (2, 1, 2)):
        boxes, space = int(torch.tensor(factor).prod()), (3, 2, 4)[: len(factor)]
        x = torch.arange(2 * 2 * boxes * int(torch.tensor(space).prod()), dtype=torch.float32).view(
            2, 2 * boxes, *space
        )
        got = Shuffle(factor)(x)
        for index in torch.ones(got.shape).nonzero().tolist():
            b, c, *at = index
            offset = 0
            for a, f in zip(at, factor, strict=True):
                offset = offset * f + a % f
            source = [a // f for a, f in zip(at, factor, strict=True)]
            assert got[tuple(index)] == x[(b, c * boxes + offset, *source)]


def test_borders_are_those_of_indexing() -> None:
    from unetkit.nets.ops import pad_sides

    x = torch.arange(5.0)[None, None]
    assert pad_sides(x, [(2, 3)], "reflect")[0, 0].tolist() == [2, 1, 0, 1, 2, 3, 4, 3, 2, 1]
    assert pad_sides(x, [(2, 3)], "replicate")[0, 0].tolist() == [0, 0, 0, 1, 2, 3, 4, 4, 4, 4]
    assert pad_sides(x, [(2, 5)], "reflect")[0, 0].tolist() == [0, 0, 0, 1, 2, 3, 4, 4, 4, 4, 4, 4]  # too short: edge
    y = torch.arange(6.0).view(1, 1, 3, 2)  # rows are long enough for a reflection by two, columns are not
    mixed = pad_sides(y, [(0, 2), (2, 0)], "reflect")[0, 0]
    assert mixed.tolist() == [[0, 0, 0, 1], [2, 2, 2, 3], [4, 4, 4, 5], [2, 2, 2, 3], [0, 0, 0, 1]]
