"""Prediction of signals and volumes: views, layouts, unpadded networks at the border, memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unetkit.core.events import Warned
from unetkit.nets.build import build
from unetkit.nets.geometry import geometry
from unetkit.nets.spec import NetSpec
from unetkit.predict.forecast import tile_pixels
from unetkit.predict.options import PredictOptions
from unetkit.predict.predictor import Predictor
from unetkit.predict.tta import views

SIZES = {1: (37,), 2: (13, 18), 3: (9, 12, 11)}


def picture(ndim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, *SIZES[ndim])).astype(np.float32)


@pytest.mark.parametrize(
    ("ndim", "flip", "turn", "count"),
    [
        (1, None, True, 2),
        (1, (False,), True, 1),
        (2, None, True, 8),
        (2, None, False, 4),
        (2, (False, True), True, 2),
        (2, (False, False), True, 4),
        (2, (False, False), False, 1),
        (3, None, True, 8),
        (3, (True, False, False), True, 2),
    ],
)
def test_views_are_those_that_training_showed(ndim: int, flip: tuple[bool, ...] | None, turn: bool, count: int) -> None:
    found = views(geometry(NetSpec(ndim=ndim, channels=(4, 8))), flip, turn)
    assert len(set(found)) == len(found) == count
    image = torch.arange(4.0**ndim).reshape(1, 1, *(4,) * ndim)
    shown = [view.apply(image) for view in found]
    assert all(torch.equal(view.undo(seen), image) for view, seen in zip(found, shown, strict=True))
    assert torch.equal(shown[0], image)
    if flip is not None and not any(flip) and ndim == 2 and turn:
        turns = [torch.rot90(image, k, (2, 3)) for k in range(4)]
        assert all(any(torch.equal(seen, t) for t in turns) for seen in shown), "turns alone, nothing mirrored"


def test_averaging_where_nothing_may_be_mirrored_is_said_to_do_nothing() -> None:
    net = build(NetSpec(ndim=1, channels=(4, 8)))
    predictor = Predictor(net, PredictOptions(precision="fp32", tta=True, flip=(False,)))
    said = [e.message for e in predictor.decisions if isinstance(e, Warned)]
    assert said == ["nothing is averaged (--tta): training showed this network nothing flipped or turned"]


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_layout_of_memory_changes_no_result(ndim: int) -> None:
    net = build(NetSpec(ndim=ndim, channels=(8, 16), block="residual"))
    results = [
        Predictor(net, PredictOptions(precision="fp32", layout=layout)).array(picture(ndim), probabilities=True)
        for layout in ("contiguous", "channels_last")
    ]
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_unpadded_networks_see_mirrored_borders(ndim: int) -> None:
    net = build(NetSpec(ndim=ndim, channels=(4, 8), blocks=1, padding="valid")).eval()
    image = picture(ndim)
    found = Predictor(net, PredictOptions(precision="fp32")).array(image, probabilities=True)
    facts = net.geometry
    fitted = facts.fit([n + 2 * m for n, m in zip(SIZES[ndim], facts.margin, strict=True)])
    pads = [(m, f - n - m) for n, f, m in zip(SIZES[ndim], fitted, facts.margin, strict=True)]
    wide = np.pad(image, [(0, 0), *pads], mode="reflect")
    with torch.no_grad():
        logits = net(torch.from_numpy(wide)[None])[0]
    logits = logits[(slice(None), *(slice(0, n) for n in SIZES[ndim]))]
    np.testing.assert_allclose(found, torch.softmax(logits, 0).numpy(), atol=1e-5)


def test_of_unpadded_networks_memory_counts_what_goes_in() -> None:
    margin = geometry(NetSpec(ndim=3, channels=(16, 32, 64), padding="valid")).margin
    out = tile_pixels(1e9, 1000, margin)
    assert (out ** (1 / 3) + 2 * margin[0]) ** 3 == pytest.approx(tile_pixels(1e9, 1000), rel=0.05)
