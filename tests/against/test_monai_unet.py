"""MONAI's BasicUNet gives the same logits from the same weights, in 1-D, 2-D and 3-D."""

from __future__ import annotations

import warnings

import pytest
import torch

from unetkit.nets import NetSpec
from unetkit.nets.build import build

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    monai = pytest.importorskip("monai.networks.nets", reason="MONAI is not installed: pip install -e .[against]")


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_basic_unet(ndim: int, norm: str) -> None:
    spec = NetSpec(ndim=ndim, channels=(4, 4, 8, 16, 32), norm=norm, activation="leaky_relu", in_channels=2, classes=3)
    ours = build(spec, seed=3)
    if norm == "batch":
        ours(torch.randn(2, 2, *(32,) * ndim))
    theirs = monai.BasicUNet(
        spatial_dims=ndim,
        in_channels=2,
        out_channels=3,
        features=(4, 4, 8, 16, 32, 4),
        act=("leakyrelu", {"negative_slope": 0.01}),
        norm=(norm, {"affine": True}),
        bias=False,
    )
    # the two name their layers differently, but make them in the same order within encoder, decoder and head
    names = {"encoder0": "conv_0", "head": "final_conv"}
    names |= {f"encoder{level}": f"down_{level}.convs" for level in range(1, 5)}
    names |= {f"decoder{level}": f"upcat_{level + 1}.convs" for level in range(4)}
    names |= {f"up{level}": f"upcat_{level + 1}.upsample" for level in range(4)}
    state = ours.state_dict()
    copied = {}
    for part, their_part in names.items():
        mine = [name for name in state if name.startswith(f"{part}.")]
        wanted = [name for name in theirs.state_dict() if name.startswith(f"{their_part}.")]
        assert len(mine) == len(wanted), (mine, wanted)
        copied |= {theirs_name: state[name] for theirs_name, name in zip(wanted, mine, strict=True)}
    theirs.load_state_dict(copied)
    image = torch.randn(1, 2, *(32,) * ndim, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours.eval()(image), theirs.eval()(image), rtol=1e-4, atol=1e-5)
