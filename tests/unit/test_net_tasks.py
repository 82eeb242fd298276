"""What goes in and what comes out: tokens, several tasks, sizes that strict networks take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from unetkit.core.errors import SpecError
from unetkit.nets import Head, NetSpec, UNet, probabilities, split
from unetkit.nets.build import build
from unetkit.predict.options import PredictOptions
from unetkit.predict.predictor import Predictor


def test_several_tasks_in_one_network() -> None:
    tasks = (
        Head(name="tissue", channels=3),
        Head(name="marks", channels=2, kind="regions"),
        Head(name="distance", channels=1, kind="values"),
    )
    spec = NetSpec(channels=(3, 4), classes=6, heads=tasks)
    assert NetSpec.model_validate_json(spec.model_dump_json()) == spec
    logits = build(spec).eval()(torch.randn(2, 1, 9, 7))
    parts, said = split(logits, spec), probabilities(logits.bfloat16(), spec)
    assert {name: tuple(p.shape[1:]) for name, p in parts.items()} == {
        "tissue": (3, 9, 7),
        "marks": (2, 9, 7),
        "distance": (1, 9, 7),
    }
    assert torch.equal(torch.cat(list(parts.values()), 1), logits)
    assert all(p.dtype == torch.float32 for p in said.values())
    torch.testing.assert_close(said["tissue"].sum(1), torch.ones(2, 9, 7))
    torch.testing.assert_close(said["marks"], torch.sigmoid(parts["marks"]), rtol=0.02, atol=0.02)
    torch.testing.assert_close(said["distance"], parts["distance"], rtol=0.02, atol=0.02)
    assert list(split(logits, NetSpec(classes=6))) == ["classes"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"classes": 3, "heads": (Head(name="a", channels=2),)},
            "they have 2 channels together, but classes is 3; make",
        ),
        ({"classes": 2, "heads": (Head(name="a", channels=1),) * 2}, "heads: two have the same name"),
    ],
)
def test_heads_that_do_not_add_up(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        NetSpec.make(values)
    assert message in str(error.value)


@pytest.mark.parametrize("size", [1, 7, 64, 101])
def test_sequences_of_integers(size: int) -> None:
    """Tokens are embedded, at any length; those that padding adds are tokens too; their type does not matter."""
    spec = NetSpec(ndim=1, channels=(6, 8, 8), vocabulary=300, classes=5, kernels=5)
    net = build(spec, seed=1).eval()
    tokens = torch.randint(0, 300, (2, 1, size), generator=torch.Generator().manual_seed(size))
    tokens[..., -1] = 299
    logits = net(tokens)
    assert logits.shape == (2, 5, size)
    torch.testing.assert_close(net(tokens.float()), logits, rtol=0, atol=0)
    torch.testing.assert_close(net(tokens.to(torch.int16)), logits, rtol=0, atol=0)
    torch.testing.assert_close(net(tokens[:1]), logits[:1])
    logits.square().sum().backward()
    embedding = next(p for name, p in net.named_parameters() if "embed" in name)
    assert embedding.shape == (300, 6)
    assert embedding.grad is not None
    seen = embedding.grad.abs().sum(1).nonzero().flatten().tolist()
    assert set(seen) == set(tokens.flatten().tolist())


def test_sequences_predict_in_tiles_in_every_precision() -> None:
    net = build(NetSpec(ndim=1, channels=(6, 8), vocabulary=1000, classes=3), seed=1).eval()
    tokens = np.random.default_rng(0).integers(0, 1000, (1, 333)).astype(np.float32)
    whole = Predictor(net, PredictOptions(precision="fp32", tile=(999,))).array(tokens, probabilities=True)
    for precision, close in (("fp32", 1e-5), ("bf16", 0.05)):
        tiled = Predictor(net, PredictOptions(precision=precision, tile=(40,))).array(tokens, probabilities=True)
        np.testing.assert_allclose(tiled, whole, atol=close)


def test_strict_networks_name_the_size_that_would_work() -> None:
    net = UNet(like=NetSpec(ndim=1, channels=(2, 3, 4)), strict=True)
    with pytest.raises(SpecError, match="24 pixels would work, or build the network without strict to have it padded"):
        net(torch.rand(1, 1, 21))
    assert net.eval()(torch.rand(1, 1, 24)).shape == (1, 2, 24)
