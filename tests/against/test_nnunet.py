"""nnU-Net's own networks (dynamic-network-architectures) give the same logits and derivatives from the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from straight import noise, stirred
from unetkit.nets import NetSpec, UNet, preset
from unetkit.nets.geometry import geometry

unet = pytest.importorskip(
    "dynamic_network_architectures.architectures.unet",
    reason="dynamic-network-architectures is not installed: pip install --no-deps dynamic-network-architectures",
)

CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORM = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def theirs_of(spec: NetSpec) -> nn.Module:
    """Their network for a spec of ours: what its planner would ask for."""
    bottom, levels = spec.levels - 1, range(spec.levels)
    how: dict[str, Any] = {
        "input_channels": spec.in_channels,
        "n_stages": spec.levels,
        "features_per_stage": list(spec.channels),
        "conv_op": CONV[spec.ndim - 1],
        "kernel_sizes": [list(spec.kernel(level)) for level in levels],
        "strides": [[1] * spec.ndim, *(list(spec.stride(level)) for level in range(bottom))],
        "num_classes": spec.classes,
        "n_conv_per_stage_decoder": [spec.repeats(level, decoder=True) for level in reversed(range(bottom))],
        "conv_bias": True,
        "norm_op": NORM[spec.ndim - 1],
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
        "deep_supervision": True,
    }
    repeats = [spec.repeats(level) for level in levels]
    if spec.block == "plain":
        return unet.PlainConvUNet(n_conv_per_stage=repeats, **how)
    return unet.ResidualEncoderUNet(n_blocks_per_stage=repeats, stem_channels=spec.stem, **how)


def parts(ours: UNet, theirs: nn.Module) -> list[tuple[str, nn.Module]]:
    """Parts of ours by name, and theirs that does the same."""
    bottom = ours.spec.levels - 1
    found = [(f"encoder{level}", stage) for level, stage in enumerate(theirs.encoder.stages)]
    if ours.spec.stem:
        found.append(("stem", theirs.encoder.stem))
    for i in range(bottom):
        level = bottom - 1 - i
        found.append((f"up{level}", theirs.decoder.transpconvs[i]))
        found.append((f"decoder{level}", theirs.decoder.stages[i]))
        found.append((f"head{level or ''}", theirs.decoder.seg_layers[i]))
    return found


def pairs(ours: UNet, theirs: nn.Module) -> list[tuple[str, nn.Parameter, nn.Parameter]]:
    """Parameters that correspond; both make them in the same order within a part."""
    found: list[tuple[str, nn.Parameter, nn.Parameter]] = []
    for name, module in parts(ours, theirs):
        mine = list(ours.get_submodule(name).named_parameters(prefix=name))
        wanted = list(module.parameters())  # each once, though they are registered twice
        assert [tuple(p.shape) for _, p in mine] == [tuple(p.shape) for p in wanted], name
        found += [(n, p, q) for (n, p), q in zip(mine, wanted, strict=True)]
    assert len(found) == len(list(ours.parameters())) == len(list(theirs.parameters()))
    return found


def swapped(name: str, value: torch.Tensor) -> torch.Tensor:
    """They put what comes from below in front of what was kept, we after it; both have the same width."""
    if name.startswith("decoder") and name.endswith(".conv1.weight"):
        half = value.shape[1] // 2
        return torch.cat([value[:, half:], value[:, :half]], 1)
    return value


SPECS = {
    "plain 1-D": ("nnunet", 1, {"channels": (4, 6, 8)}, (40,)),
    "plain 2-D": ("nnunet", 2, {"channels": (4, 6, 8, 8)}, (32, 40)),
    "plain 3-D": ("nnunet", 3, {"channels": (4, 6, 8)}, (16, 8, 12)),
    "plain, anisotropic": (
        "nnunet",
        3,
        {
            "channels": (4, 6, 8, 8),
            "kernels": ((1, 3, 3), (1, 3, 3), 3, 3),
            "strides": ((1, 2, 2), (1, 2, 2), 2),
            "blocks": (1, 2, 3, 2),
            "decoder_blocks": (2, 1, 3),
        },
        (4, 16, 24),
    ),
    "residual 2-D": ("nnunet-resenc", 2, {"channels": (4, 6, 8, 8), "stem": 5, "blocks": (1, 2, 3, 1)}, (32, 40)),
    "residual, anisotropic": (
        "nnunet-resenc",
        3,
        {
            "channels": (4, 6, 6, 8),
            "stem": 4,
            "blocks": (1, 3, 2, 2),
            "kernels": ((1, 3, 3), 3, (3, 3, 1), 3),
            "strides": ((1, 2, 2), 2, (2, 2, 1)),
        },
        (8, 16, 12),
    ),
}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("training", [False, True])
def test_logits_and_derivatives_are_theirs(name: str, training: bool) -> None:
    model, ndim, changes, size = SPECS[name]
    spec = preset(model).form(ndim).replace({"in_channels": 2, "classes": 3, **changes})
    ours, theirs = stirred(spec).train(training), theirs_of(spec).double().train()
    matched = pairs(ours, theirs)
    with torch.no_grad():
        for part, mine, copy in matched:
            copy.copy_(swapped(part, mine))
    image = noise(2, 2, *size)
    got, expected = ours(image), theirs(image)
    if training:
        assert len(got) == len(expected) == spec.levels - 1
    else:
        got, expected = [got], expected[:1]
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    for results in (got, expected):
        sum((r * noise(*r.shape, seed=5)).sum() for r in results).backward()
    for part, mine, copy in matched:
        if mine.grad is None:
            assert copy.grad is None
            assert not training
            continue
        torch.testing.assert_close(swapped(part, mine.grad), copy.grad, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("model", ["nnunet", "nnunet-resenc"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_the_presets_have_as_many_parameters_as_their_networks(model: str, ndim: int) -> None:
    spec = preset(model).form(ndim)
    with torch.device("meta"):
        theirs = theirs_of(spec)
    assert geometry(spec).parameters == sum(p.numel() for p in theirs.parameters())
