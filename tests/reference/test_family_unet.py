"""The plain members of the family against straight-line implementations with the same weights, and their papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from straight import Straight, agree, crop, noise, stirred
from unetkit.nets import NetSpec, preset
from unetkit.nets.build import build
from unetkit.nets.geometry import geometry, shapes
from unetkit.nets.topology import program
from unetkit.predict.options import PredictOptions
from unetkit.predict.predictor import Predictor

WIDTHS = (2, 3, 4, 5, 6)


def ronneberger(s: Straight, image: Tensor) -> Tensor:
    """Figure 1 of the paper, arrow by arrow; dropout at the end of the contracting path."""

    def blue(part: str, x: Tensor) -> Tensor:
        x = torch.relu(s.conv(f"{part}.conv1", x, pad=0))
        return torch.relu(s.conv(f"{part}.conv2", x, pad=0))

    c0 = blue("encoder0", image)
    c1 = blue("encoder1", s.max_pool(c0))
    c2 = blue("encoder2", s.max_pool(c1))
    c3 = F.dropout(blue("encoder3", s.max_pool(c2)), 0.5, s.training)
    x = F.dropout(blue("encoder4", s.max_pool(c3)), 0.5, s.training)
    for level, kept in ((3, c3), (2, c2), (1, c1), (0, c0)):
        x = s.up(f"up{level}.transposed1", x)
        x = blue(f"decoder{level}", torch.cat([crop(kept, x), x], 1))
    return s.conv("head.conv1", x)


@pytest.mark.parametrize(("ndim", "size"), [(1, (572,)), (2, (188, 204))])
@pytest.mark.parametrize("training", [False, True])
def test_unet2015_is_the_figure_drawn_with_torchs_functions(ndim: int, size: tuple[int, ...], training: bool) -> None:
    spec = preset("unet2015").form(ndim).replace({"channels": WIDTHS})
    agree(stirred(spec), ronneberger, noise(1, 1, *size), training)


def test_unet2015_has_the_sizes_that_its_figure_shows() -> None:
    spec = preset("unet2015").spec
    size = shapes(program(spec), (572, 572))
    down = [size[f"encoder{level}.conv{i}"][0] for level in range(5) for i in (1, 2)]
    assert down == [570, 568, 282, 280, 138, 136, 66, 64, 30, 28]
    up = [size[name][0] for level in (3, 2, 1, 0) for name in (f"up{level}.transposed1", f"decoder{level}.conv2")]
    assert up == [56, 52, 104, 100, 200, 196, 392, 388]
    assert size["head.conv1"] == (388, 388)
    counted = [layer for layer in program(spec).layers if layer.kind in ("conv", "transposed")]
    assert len(counted) == 23  # "In total the network has 23 convolutional layers" (section 2)


def test_unet2015_sees_what_its_gradients_say() -> None:
    spec = preset("unet2015").form(1).replace({"channels": (1,) * 5, "down": "average", "dropout": 0.0})
    net = build(spec).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(0.5)  # nothing cancels, nothing is cut off
    image = torch.ones(1, 1, 572, dtype=torch.float64, requires_grad=True)
    logits = net(image)[0, 0]
    spans, reach = [], []
    for j in range(160, 176):  # every alignment of an output pixel with the poolings
        (gradient,) = torch.autograd.grad(logits[j], image, retain_graph=True)
        seen = gradient[0, 0].nonzero().flatten()
        spans.append(int(seen[-1] - seen[0] + 1))
        reach += [j + 92 - int(seen[0]), int(seen[-1]) - j - 92]
    facts = geometry(preset("unet2015").spec)
    assert facts.receptive_field == (max(spans),) * 2
    assert facts.halo == (max(reach),) * 2
    assert facts.margin == (92, 92)


@pytest.mark.parametrize("size", [(53, 38), (200, 131), (7, 400)])
def test_unet2015_covers_any_image_by_overlapping_tiles_with_mirrored_borders(size: tuple[int, int]) -> None:
    net = stirred(preset("unet2015").spec.replace({"channels": WIDTHS, "classes": 3})).float().eval()
    picture = np.random.default_rng(0).standard_normal((1, *size), np.float32)

    # the paper's way, at once: the image is mirrored outwards, as often as it takes
    fitted = geometry(net.spec).fit([n + 2 * 92 for n in size])
    rows, columns = (
        np.abs((np.arange(-92, f - 92) + n - 1) % (2 * n - 2) - (n - 1)) for f, n in zip(fitted, size, strict=True)
    )
    mirrored = np.ascontiguousarray(picture[:, rows][:, :, columns])
    with torch.no_grad():
        logits = net(torch.from_numpy(mirrored)[None])[0, :, : size[0], : size[1]]
    expected = torch.softmax(logits, 0).numpy()

    for tile in ((1000,), (64, 48), (20, 100)):
        options = PredictOptions(precision="fp32", tile=tile)
        got = Predictor(net, options).array(picture, probabilities=True)
        np.testing.assert_allclose(got, expected, atol=1e-4)  # its logits are large, without norms


class DoubleConv(nn.Sequential):
    """The block of the common tutorials: (convolution, batch norm, ReLU) twice, perhaps narrower in the middle."""

    def __init__(self, inputs: int, outputs: int, middle: int | None = None) -> None:
        middle = middle or outputs
        super().__init__(
            nn.Conv2d(inputs, middle, 3, padding=1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )


class Tutorial(nn.Module):
    """The U-Net of the common tutorials, its modules in the order in which they run."""

    def __init__(self, channels: int, classes: int, base: int, bilinear: bool) -> None:
        super().__init__()
        w = [base, 2 * base, 4 * base, 8 * base, 16 * base]
        half = 2 if bilinear else 1
        self.down = nn.ModuleList([DoubleConv(channels, w[0])])
        for i in range(4):
            self.down.append(DoubleConv(w[i], w[i + 1] // (half if i == 3 else 1)))
        self.up, self.join = nn.ModuleList(), nn.ModuleList()
        for i in (4, 3, 2, 1):
            if bilinear:
                self.up.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True))
                self.join.append(DoubleConv(w[i], w[i - 1] // (2 if i > 1 else 1), w[i] // 2))
            else:
                self.up.append(nn.ConvTranspose2d(w[i], w[i] // 2, 2, stride=2))
                self.join.append(DoubleConv(w[i], w[i - 1]))
        self.last = nn.Conv2d(w[0], classes, 1)

    def parts(self) -> list[nn.Module]:
        joined = [part for pair in zip(self.up, self.join, strict=True) for part in pair]
        return [*self.down, *joined, self.last]

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else F.max_pool2d(x, 2))
            kept.append(x)
        for i, (up, join) in enumerate(zip(self.up, self.join, strict=True)):
            x = join(torch.cat([kept[3 - i], up(x)], dim=1))
        return self.last(x)


@pytest.mark.parametrize(("name", "base"), [("unet", 32), ("unet-bilinear", 64)])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [(32, 48), (64, 16)])
def test_unet_is_that_of_the_tutorials(name: str, base: int, training: bool, size: tuple[int, int]) -> None:
    full, narrow = preset(name).spec, {"channels": (4, 8, 16, 32, 64), "in_channels": 3, "classes": 4}
    if name == "unet-bilinear":
        narrow |= {"channels": (4, 8, 16, 32, 32), "decoder_channels": (4, 4, 8, 16)}
    with torch.device("meta"):
        theirs = Tutorial(1, 2, base, name == "unet-bilinear")
    assert sum(p.numel() for p in theirs.parameters()) == geometry(full).parameters

    ours, theirs = stirred(full.replace(narrow)), Tutorial(3, 4, 4, name == "unet-bilinear").double()
    state = [tensor for part in theirs.parts() for tensor in part.state_dict().values()]
    for mine, copy in zip(ours.state_dict().values(), state, strict=True):
        copy.copy_(mine)
    image = noise(2, 3, *size)
    ours.train(training), theirs.train(training)
    a, b = ours(image), theirs(image)
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    a.square().sum().backward(), b.square().sum().backward()
    gradients = [p.grad for part in theirs.parts() for p in part.parameters()]
    for p, gradient in zip(ours.parameters(), gradients, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-6, atol=1e-8)
    if training:  # and the statistics have moved alike
        for mine, copy in zip(ours.state_dict().values(), state, strict=True):
            torch.testing.assert_close(mine, copy)


def test_aligned_corners_are_why_tiles_of_unet_bilinear_are_not_exact() -> None:
    facts = geometry(preset("unet-bilinear").spec)
    assert not facts.local
    assert facts.why_not_local == "interpolation with aligned corners depends on the size of the tile"
    assert geometry(preset("unet").spec).local


def cicek(s: Straight, image: Tensor) -> Tensor:
    """Figure 2 of the paper; batch norm in front of every ReLU, with a shift alone."""

    def unit(part: str, i: int, x: Tensor) -> Tensor:
        x = s.norm(f"{part}.norm{i}", s.conv(f"{part}.conv{i}", x, pad=0))
        return torch.relu(x + s.w[f"{part}.shift{i}.bias"].view(-1, *[1] * s.n))

    kept, x = [], image
    levels = sum(name.startswith("encoder") and name.endswith("conv1.weight") for name in s.w)
    for level in range(levels):
        x = unit(f"encoder{level}", 2, unit(f"encoder{level}", 1, x if level == 0 else s.max_pool(x)))
        kept.append(x)
    for level in reversed(range(levels - 1)):
        x = s.up(f"up{level}.transposed1", x)
        x = torch.cat([crop(kept[level], x), x], 1)
        x = unit(f"decoder{level}", 2, unit(f"decoder{level}", 1, x))
    return s.conv("head.conv1", x)


@pytest.mark.parametrize("size", [(132,), (92, 108), (44, 44, 48)])
@pytest.mark.parametrize("training", [False, True])
def test_unet3d_is_the_figure_drawn_with_torchs_functions(size: tuple[int, ...], training: bool) -> None:
    channels = (2, 4, 6, 8)[: 3 if len(size) == 3 else 4]  # three levels in space: four need 92³ voxels or more
    spec = preset("unet3d").form(len(size)).replace({"channels": channels})
    agree(stirred(spec), cicek, noise(1, 3, *size), training)


def test_unet3d_has_the_papers_numbers() -> None:
    spec = preset("unet3d").spec
    facts = geometry(spec)
    assert facts.parameters == 19_069_955  # "The architecture has 19069955 parameters in total" (section 2.1)
    assert facts.fit((132, 132, 116)) == (132, 132, 116)
    assert facts.output_shape((132, 132, 116)) == (44, 44, 28)
    size = shapes(program(spec), (132, 132, 116))
    assert [size[f"encoder{level}.conv2"] for level in range(4)] == [
        (128, 128, 112),
        (60, 60, 52),
        (26, 26, 22),
        (9, 9, 7),
    ]
    widths = [layer.channels for layer in program(spec).layers if layer.kind in ("conv", "transposed")]
    assert widths == [32, 64, 64, 128, 128, 256, 256, 512, 512, 256, 256, 256, 128, 128, 128, 64, 64, 3]


def test_noskip_is_the_textbook_without_what_its_skips_bring() -> None:
    spec = preset("noskip").spec.replace({"channels": (3, 4, 5)})

    def straight(s: Straight, image: Tensor) -> Tensor:
        x = s.double("encoder2", s.max_pool(s.double("encoder1", s.max_pool(s.double("encoder0", image)))))
        x = s.double("decoder1", s.up("up1.transposed1", x))
        return s.conv("head.conv1", s.double("decoder0", s.up("up0.transposed1", x)))

    for training in (False, True):
        agree(stirred(spec), straight, noise(2, 1, 16, 24), training)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_add_is_the_textbook_with_sums(ndim: int) -> None:
    spec = preset("add").form(ndim).replace({"channels": (3, 4, 5)})

    def straight(s: Straight, image: Tensor) -> Tensor:
        c0 = s.double("encoder0", image)
        c1 = s.double("encoder1", s.max_pool(c0))
        x = s.double("encoder2", s.max_pool(c1))
        x = s.double("decoder1", c1 + s.up("up1.transposed1", x))
        return s.conv("head.conv1", s.double("decoder0", c0 + s.up("up0.transposed1", x)))

    for training in (False, True):
        agree(stirred(spec), straight, noise(2, 1, *(16, 24, 8)[:ndim]), training)


def test_identity_skips_between_unequal_widths_go_through_a_projection() -> None:
    spec = NetSpec(channels=(3, 4), skip="add", up_width="same")

    def straight(s: Straight, image: Tensor) -> Tensor:
        c0 = s.double("encoder0", image)
        x = s.up("up0.transposed1", s.double("encoder1", s.max_pool(c0)))
        return s.conv("head.conv1", s.double("decoder0", s.conv("skip0.conv1", c0) + x))

    agree(stirred(spec), straight, noise(1, 1, 8, 8), training=True)
