"""Tiles give what the whole image gives, to rounding: real networks, random weights, any tile size, any image size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unetkit.nets.build import build
from unetkit.nets.spec import NetSpec
from unetkit.predict.options import PredictOptions
from unetkit.predict.predictor import ArrayReader, Predictor

SPECS = {
    "plain": NetSpec(channels=(4, 6), classes=3),
    "three levels": NetSpec(channels=(4, 5, 6), classes=2, down="average", up="linear"),
    "residual": NetSpec(channels=(4, 6), classes=2, block="residual", up="nearest", skip="add"),
    "stem": NetSpec(channels=(4, 6), classes=2, stem_stride=2),
    "stem 4": NetSpec(channels=(4, 6), classes=3, stem_stride=4, blocks=1),
    "reflect": NetSpec(channels=(4, 6), classes=2, padding="reflect", up="shuffle"),
    "axes differ": NetSpec(channels=(4, 6), classes=2, strides=((1, 2),), kernels=((1, 3), (3, 3))),
    "strided": NetSpec(channels=(4, 6), classes=2, down="strided", blocks=1),
    "unpadded": NetSpec(channels=(4, 6), classes=2, padding="valid", blocks=1),
    "two channels": NetSpec(channels=(4, 6), classes=2, in_channels=2),
}


def network(spec: NetSpec, seed: int = 0) -> torch.nn.Module:
    """Random weights, and batch norms with statistics that are not those of a fresh network."""
    net, generator = build(spec, seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if value.is_floating_point() and "norm" in name:
                value.copy_(torch.rand(value.shape, generator=generator) * 0.5 + 0.75)
    return net.eval()


NETS = {name: network(spec) for name, spec in SPECS.items()}


def image(net: torch.nn.Module, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((net.spec.in_channels, *shape), np.float32)


def tiled(net: torch.nn.Module, picture: np.ndarray, tile: tuple[int, ...], tta: bool = False) -> np.ndarray:
    return Predictor(net, PredictOptions(precision="fp32", tile=tile, tta=tta)).array(picture, probabilities=True)


@pytest.mark.parametrize("name", SPECS)
@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_tiled_is_whole(name, data):
    net = NETS[name]
    shape = (data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90)))
    tile = (data.draw(st.integers(1, 64)), data.draw(st.integers(1, 64)))
    tta = data.draw(st.booleans())
    picture = image(net, shape, seed=sum(shape))
    whole = tiled(net, picture, (1000,), tta)
    np.testing.assert_allclose(tiled(net, picture, tile, tta), whole, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in SPECS if n != "unpadded"])
@pytest.mark.parametrize("shape", [(37, 53), (1, 61), (61, 1), (1, 1), (64, 64)])
def test_a_single_tile_is_the_network_itself(name, shape):
    net = NETS[name]
    picture = image(net, shape)
    with torch.no_grad():
        expected = torch.softmax(net(torch.from_numpy(picture)[None]), 1)[0].numpy()
    np.testing.assert_allclose(tiled(net, picture, (1000,)), expected, atol=1e-5)
    label = Predictor(net, PredictOptions(precision="fp32")).array(picture)
    assert label.dtype == np.uint8
    clear = np.sort(expected, 0)[-1] - np.sort(expected, 0)[-2] > 1e-5
    assert (label == expected.argmax(0))[clear].all()


def test_unpadded_networks_see_the_image_mirrored():
    net = NETS["unpadded"]
    picture = image(net, (20, 30))
    margin = net.geometry.margin
    fitted = net.geometry.fit((20 + 2 * margin[0], 30 + 2 * margin[1]))
    pads = [(m, f - n - m) for m, f, n in zip(margin, fitted, (20, 30), strict=True)]
    with torch.no_grad():
        logits = net(torch.from_numpy(np.pad(picture, [(0, 0), *pads], mode="reflect"))[None])[0, :, :20, :30]
    np.testing.assert_allclose(tiled(net, picture, (1000,)), torch.softmax(logits, 0).numpy(), atol=1e-5)


def test_averaging_over_views_is_the_mean_of_the_eight_views():
    net = NETS["plain"]
    picture = image(net, (32, 48))
    total = np.zeros((3, 32, 48))
    for turns in range(4):
        for mirror in (False, True):
            view = np.rot90(picture, turns, (1, 2))
            view = np.ascontiguousarray(view[:, :, ::-1] if mirror else view)
            with torch.no_grad():
                p = torch.softmax(net(torch.from_numpy(view)[None]), 1)[0].numpy()
            total += np.rot90(p[:, :, ::-1] if mirror else p, -turns, (1, 2))
    np.testing.assert_allclose(tiled(net, picture, (1000,), tta=True), total / 8, atol=1e-5)


@pytest.mark.parametrize(("ndim", "shape"), [(1, (301,)), (3, (21, 34, 19))])
@pytest.mark.parametrize("tta", [False, True])
def test_signals_and_volumes(ndim, shape, tta):
    net = network(NetSpec(ndim=ndim, channels=(4, 6), blocks=1))
    picture = image(net, shape)
    np.testing.assert_allclose(tiled(net, picture, (12,), tta), tiled(net, picture, (1000,), tta), atol=1e-5)


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_networks_that_are_not_local_are_blended_and_say_so(norm):
    net = network(NetSpec(channels=(8, 8), norm=norm, blocks=1))
    picture = image(net, (90, 70))
    predictor = Predictor(net, PredictOptions(precision="fp32", tile=(48,)))
    planned = predictor.plan(ArrayReader(picture))
    messages = [event.message for event in predictor.remarks(planned) if event.kind == "warned"]
    assert messages == [
        f"this network cannot be tiled exactly ({norm} norm takes its statistics over the whole tile): tiles overlap "
        "by half and are blended, and the result depends a little on their size"
    ]
    blended = predictor.array(picture, probabilities=True)
    np.testing.assert_allclose(blended.sum(0), 1, atol=1e-5)
    whole = tiled(net, picture, (1000,))
    assert np.abs(blended - whole).mean() < 0.05
    regions = [piece.region for piece in predictor.regions(ArrayReader(picture))]
    assert all(region.start[1] == 0 and region.stop[1] == 70 for region in regions)
    assert [r.start[0] for r in regions] == [0, *(r.stop[0] for r in regions[:-1])]
    assert regions[-1].stop[0] == 90


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
def test_the_given_network_is_left_as_it_is(layout):
    net = network(NetSpec(channels=(4, 6))).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    picture = image(net, (33, 40))
    bf16 = Predictor(net, PredictOptions(precision="bf16", layout=layout)).array(picture, probabilities=True)
    fp32 = Predictor(net, PredictOptions(precision="fp32", layout=layout)).array(picture, probabilities=True)
    assert bf16.dtype == np.float32
    assert np.abs(bf16 - fp32).max() < 0.05
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(value.requires_grad for value in net.parameters())
