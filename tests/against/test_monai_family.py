"""MONAI's V-Net, U-Net++ and attention U-Net give the same logits and derivatives from the same weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from straight import noise, stirred
from unetkit.nets import UNet, preset
from unetkit.nets.program import Value, Writer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    monai = pytest.importorskip("monai.networks.nets", reason="MONAI is not installed: pip install -e .[against]")

# The state of one of our parts and of theirs, in an order that corresponds; and what is done to ours to fit theirs.
Pair = tuple[str, str, Callable[[str, Tensor], Tensor]]


def as_it_is(_name: str, value: Tensor) -> Tensor:
    return value


def compare(ours: UNet, theirs: nn.Module, pairs: Sequence[Pair], image: Tensor, derive: bool = True) -> None:
    """Copy our state to theirs, part by part, and compare logits, and derivatives by the image and all parameters."""
    matched: list[tuple[str, str, Callable[[str, Tensor], Tensor]]] = []
    mine, wanted = ours.state_dict(), theirs.state_dict()
    for part, their_part, change in pairs:
        left = [name for name in mine if name.startswith(f"{part}.")]
        right = [name for name in wanted if name.startswith(f"{their_part}.")]
        assert len(left) == len(right), (part, left, right)
        matched += [(a, b, change) for a, b in zip(left, right, strict=True)]
    assert {a for a, _, _ in matched} == set(mine)
    assert {b for _, b, _ in matched} == set(wanted)
    theirs.load_state_dict({b: change(a, mine[a]) for a, b, change in matched})

    images = [image.clone().requires_grad_() for _ in range(2)]
    with torch.set_grad_enabled(derive):
        logits, expected = ours(images[0]), theirs(images[1])
    logits, expected = ([r] if isinstance(r, Tensor) else r for r in (logits, expected))
    for a, b in zip(logits, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    if not derive:
        return
    for results in (logits, expected):
        sum((r * noise(*r.shape, seed=4)).sum() for r in results).backward()
    torch.testing.assert_close(images[0].grad, images[1].grad, rtol=1e-6, atol=1e-8)
    own, other = dict(ours.named_parameters()), dict(theirs.named_parameters())
    for a, b, change in matched:
        if a in own and own[a].grad is not None:
            torch.testing.assert_close(change(a, own[a].grad), other[b].grad, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("ndim", "size", "training"), [(2, (32, 48), False), (2, (48, 16), True), (3, (16, 16, 16), False)]
)
def test_vnet(ndim: int, size: tuple[int, ...], training: bool) -> None:
    # MONAI's stages are shorter at the bottom and on the way up than the paper's; its widths cannot be chosen
    stages = {"blocks": (1, 1, 2, 3, 2), "decoder_blocks": (1, 1, 2, 2), "head": "block"}
    ours = stirred(preset("vnet").form(ndim).replace({**stages, "in_channels": 2, "classes": 3})).train(training)
    theirs = monai.VNet(ndim, 2, 3, act="prelu", dropout_prob_down=None, dropout_prob_up=(None, 0.0)).double()
    theirs.train(training)
    for module in theirs.modules():  # two of theirs cannot be asked for
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0

    def turned(half: int, axes: Sequence[int]) -> Callable[[str, Tensor], Tensor]:
        """They put what comes from below in front of what was kept; since the sum goes around the convolutions, the
        whole level has its channels in that order, as has what reads it."""

        def change(_name: str, value: Tensor) -> Tensor:
            for axis in axes:
                if axis < value.ndim and value.shape[axis] == 2 * half:
                    value = torch.cat([value.narrow(axis, half, half), value.narrow(axis, 0, half)], axis)
            return value

        return change

    pairs: list[Pair] = []
    for level, width in enumerate((16, 32, 64, 128, 256)):
        their = f"down_tr{width}" if level else "in_tr"
        if level == 0:
            pairs += [("encoder0.act1", "in_tr.act_function", as_it_is)]
            pairs += [(f"encoder0.{a}", f"in_tr.conv_block.{b}", as_it_is) for a, b in CONV_NORM]
            continue
        pairs += [(f"down{level}.{a}", f"{their}.{b}", as_it_is) for a, b in DOWN]
        count = stages["blocks"][level]
        pairs += [(f"encoder{level}.act{count + 1}", f"{their}.act_function2", as_it_is)]
        for i in range(count):
            pairs += [(f"encoder{level}.{a[:-1]}{i + 1}", f"{their}.ops.{i}.{b}", as_it_is) for a, b in LU]
    for level, width in enumerate((32, 64, 128, 256)):
        their, half = f"up_tr{width}", width // 2
        above = turned(width, [0]) if level < 3 else as_it_is  # its input is the level below, turned as well
        pairs += [(f"up{level}.transposed1", f"{their}.up_conv", above)]
        pairs += [(f"up{level}.norm1", f"{their}.bn1", as_it_is)]
        pairs += [(f"up{level}.act1", f"{their}.act_function1", as_it_is)]
        count = stages["decoder_blocks"][level]
        pairs += [(f"decoder{level}.act{count + 1}", f"{their}.act_function2", turned(half, [0]))]
        for i in range(count):
            pairs += [(f"decoder{level}.{a[:-1]}{i + 1}", f"{their}.ops.{i}.{b}", turned(half, [0, 1])) for a, b in LU]
    pairs += [("head.conv1", "out_tr.conv_block.conv", turned(16, [1]))]
    pairs += [("head.norm1", "out_tr.conv_block.adn.N", as_it_is), ("head.act1", "out_tr.act_function1", as_it_is)]
    pairs += [("head.conv2", "out_tr.conv2", as_it_is)]
    compare(ours, theirs, pairs, noise(2, 2, *size), derive=ndim == 2)  # 45 million parameters in 3-D


CONV_NORM = (("conv1", "conv"), ("norm1", "adn.N"))
DOWN = (("conv1", "down_conv"), ("norm1", "bn1"), ("act1", "act_function1"))
LU = (("conv1", "conv_block.conv"), ("norm1", "conv_block.adn.N"), ("act1", "act_function"))


def wide_at_the_top(w: Writer, x: Value, channels: int, stride: Sequence[int], kept: Value) -> Value:
    """MONAI's U-Net++ keeps the width where it goes up to the finest level, and halves it elsewhere."""
    return w.transposed(x, x.channels if kept.channels == w.spec.channels[0] else channels, stride)


@pytest.mark.parametrize(
    ("ndim", "norm", "deep"),
    [(1, "batch", True), (2, "batch", False), (2, "instance", True), (3, "batch", True), (3, "instance", False)],
)
def test_unetpp(ndim: int, norm: str, deep: bool) -> None:
    changes: dict[str, Any] = {"channels": (2, 4, 8, 16, 32), "up": wide_at_the_top, "norm": norm, "bias": True}
    changes |= {"activation": "leaky_relu", "in_channels": 2, "classes": 3, "deep_supervision": True}
    ours = stirred(preset("unetpp").form(ndim).replace(changes)).train(deep)
    theirs = monai.BasicUNetPlusPlus(
        spatial_dims=ndim,
        in_channels=2,
        out_channels=3,
        features=(2, 4, 8, 16, 32, 2),
        deep_supervision=True,
        act=("leakyrelu", {"negative_slope": 0.01}),
        norm=(norm, {"affine": True}),
    )
    theirs = theirs.double().train(deep)
    pairs: list[Pair] = [("encoder0", "conv_0_0", as_it_is)]
    pairs += [(f"encoder{level}", f"conv_{level}_0", as_it_is) for level in range(1, 5)]
    for column in range(1, 5):
        pairs += [(f"head{column}", f"final_conv_0_{column}", as_it_is)]
        for level in range(5 - column):
            pairs += [(f"up{level}_{column}", f"upcat_{level}_{column}.upsample", as_it_is)]
            pairs += [(f"node{level}_{column}", f"upcat_{level}_{column}.convs", as_it_is)]

    class LastFirst(nn.Module):
        """Their results in our order: of the last column first, in evaluation that alone."""

        def forward(self, x: Tensor) -> list[Tensor]:
            return theirs(x)[::-1] if deep else theirs(x)[-1:]

        def state_dict(self, *a: Any, **k: Any) -> Any:
            return theirs.state_dict(*a, **k)

        def load_state_dict(self, *a: Any, **k: Any) -> Any:
            return theirs.load_state_dict(*a, **k)

        def named_parameters(self, *a: Any, **k: Any) -> Any:
            return theirs.named_parameters(*a, **k)

    compare(ours, LastFirst(), pairs, noise(2, 2, *{1: (64,), 2: (32, 48), 3: (16, 32, 16)}[ndim]))


def merge(w: Writer, x: Value, channels: int, kernel: Sequence[int], count: int, stride: Sequence[int]) -> Value:
    """What MONAI's attention U-Net does behind a skip: convolution, instance norm, PReLU."""
    return w.activate(w.norm(w.conv(x, channels, kernel), "instance"), "prelu")


@pytest.mark.parametrize(("ndim", "size"), [(1, (40,)), (2, (32, 24)), (3, (16, 8, 24))])
@pytest.mark.parametrize("training", [False, True])
def test_the_common_form_of_the_attention_unet(ndim: int, size: tuple[int, ...], training: bool) -> None:
    widths = (4, 6, 8, 10)
    changes = {
        "channels": widths,
        "skip": "attention-up",
        "down": "block",
        "up": "overlapping-unit",
        "decoder_block": merge,
        "bias": True,
        "in_channels": 2,
        "classes": 3,
    }
    ours = stirred(preset("attention").form(ndim).replace(changes)).train(training)
    with torch.no_grad():  # their instance norm learns nothing, and their PReLU one slope for all channels
        for name, value in ours.named_parameters():
            if name.startswith("decoder") and ".act" in name:
                value.fill_(0.2)
            elif name.startswith("decoder") and ".norm" in name:
                value.fill_(1.0 if name.endswith("weight") else 0.0)
    theirs = monai.AttentionUnet(ndim, 2, 3, channels=widths, strides=(2, 2, 2)).double().train(training)

    state, copied = ours.state_dict(), theirs.state_dict()
    seen: set[str] = set()

    def take(part: str, prefix: str, numbers: dict[str, str]) -> None:
        for mine, their in numbers.items():
            for name in [n for n in state if n.startswith(f"{part}.{mine}.")]:
                copy = f"{prefix}.{their}.{name.rsplit('.', 1)[1]}"
                copied[copy] = state[name][:1] if their.endswith("adn.A") else state[name]
                seen.update((copy, name))

    both = {"conv1": "conv.0.conv", "norm1": "conv.0.adn.N", "conv2": "conv.1.conv", "norm2": "conv.1.adn.N"}
    gate = {"conv1": "W_g.0.conv", "norm1": "W_g.1", "conv2": "W_x.0.conv", "norm2": "W_x.1"}
    gate |= {"conv3": "psi.0.conv", "norm3": "psi.1"}
    take("encoder0", "model.0", both)
    take("head", "model", {"conv1": "2.conv"})
    layer = "model.1"
    for level in range(3):
        below = f"{layer}.submodule" if level == 2 else f"{layer}.submodule.0"
        take(f"encoder{level + 1}", below, both)
        take(f"up{level}", f"{layer}.upconv.up", {"transposed1": "conv", "norm1": "adn.N"})
        take(f"skip{level}", f"{layer}.attention", gate)
        take(f"decoder{level}", f"{layer}.merge", {"conv1": "conv", "act1": "adn.A"})
        layer = f"{layer}.submodule.1"
    assert set(copied) == {name for name in seen if name in copied}  # everything of theirs
    theirs.load_state_dict(copied)

    images = [noise(2, 2, *size).requires_grad_() for _ in range(2)]
    logits, expected = ours(images[0]), theirs(images[1])
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    for r in (logits, expected):
        (r * noise(*r.shape, seed=4)).sum().backward()
    torch.testing.assert_close(images[0].grad, images[1].grad, rtol=1e-6, atol=1e-8)
