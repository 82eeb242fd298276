"""One body for the family: every preset, in every dimension, at odd sizes, with other channels and classes."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from unetkit.nets import PRESETS, NetSpec, UNet, fold_batch_norm, load_weights, save_weights
from unetkit.nets.build import build
from unetkit.nets.geometry import geometry, output_shape
from unetkit.predict.options import PredictOptions
from unetkit.predict.predictor import Predictor
from unetkit.predict.reader import ArrayReader

# odd sizes of the logits, and channels and classes that are no preset's
ODD = {1: (37,), 2: (11, 18), 3: (3, 6, 5)}
CHANNELS, CLASSES = {1: 1, 2: 3, 3: 2}, {1: 4, 2: 1, 3: 3}
LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}


def narrow(name: str, ndim: int) -> NetSpec:
    """The form of a preset with few channels, and units repeated at most twice; unpadded volumes, which are large, with
    three levels."""
    spec = PRESETS[name].form(ndim).widths(1 / 16)
    changes: dict[str, Any] = {"in_channels": CHANNELS[ndim], "classes": CLASSES[ndim]}
    for field in ("blocks", "decoder_blocks"):
        given = getattr(spec, field)
        changes[field] = tuple(min(n, 2) for n in given) if isinstance(given, tuple) else given
    if ndim == 3 and spec.padding == "valid":
        changes["channels"] = spec.channels[:3]
    return spec.replace(changes)


def short(name: str, ndim: int) -> NetSpec:
    """The same with three levels and one unit in each: contexts, and programs, grow quickly with both."""
    spec = narrow(name, ndim)
    decoder = spec.decoder_channels and spec.decoder_channels[:2]
    return spec.replace(
        {"channels": spec.channels[:3], "decoder_channels": decoder, "blocks": 1, "decoder_blocks": None}
    )


def image_for(spec: NetSpec, seed: int = 0, batch: int = 2) -> Tensor:
    """An image whose logits have an odd size."""
    shape = [n + 2 * m for n, m in zip(ODD[spec.ndim], geometry(spec).margin, strict=True)]
    return torch.randn(batch, spec.in_channels, *shape, generator=torch.Generator().manual_seed(seed))


def seasoned(spec: NetSpec) -> UNet:
    """A network whose batch norms have statistics, scales and shifts of their own."""
    net, generator = build(spec, seed=1), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if value.is_floating_point() and "norm" in name:
                value.copy_(torch.rand(value.shape, generator=generator) * 0.5 + 0.75)
    return net.eval()


def as_list(results: Tensor | list[Tensor]) -> list[Tensor]:
    return results if isinstance(results, list) else [results]


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_in_every_dimension(name: str, ndim: int, tmp_path: Path) -> None:
    spec = narrow(name, ndim) if ndim == 2 else short(name, ndim)
    facts, image = geometry(spec), image_for(spec)
    before = torch.get_rng_state()
    net, twin = build(spec, seed=1), build(spec, seed=1)
    assert torch.equal(torch.get_rng_state(), before)

    # forward, in training: sizes
    results = as_list(net(image))
    assert results[0].shape == (2, spec.classes, *ODD[ndim])
    assert output_shape(spec, image.shape[2:]) == ODD[ndim]
    assert (len(results) > 1) == spec.deep_supervision
    # backward: every parameter learns
    torch.stack([r.square().mean() for r in results]).sum().backward()
    assert [k for k, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    assert sum(p.numel() for p in net.parameters()) == facts.parameters

    # the state is the parameters and the buffers; seeds decide the first; a spec survives its file
    state = net.state_dict()
    assert set(state) == {k for k, _ in net.named_parameters()} | {k for k, _ in net.named_buffers()}
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), twin.parameters(), strict=True))
    assert NetSpec.model_validate_json(spec.model_dump_json()) == spec

    # in evaluation mode: logits alone; copies and files hold the same network
    net.eval()
    with torch.no_grad():
        logits = net(image)
        assert isinstance(logits, Tensor)
        assert logits.isfinite().all()
        other = build(spec, seed=2).eval()
        assert not torch.equal(other(image), logits)
        save_weights(net, tmp_path / "w.safetensors")
        assert not load_weights(other, tmp_path / "w.safetensors")
        for same in (other, deepcopy(net)):
            torch.testing.assert_close(same(image), logits, rtol=0, atol=0)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_folds_and_runs_in_other_layouts_and_precisions(name: str, ndim: int) -> None:
    spec = short(name, ndim)
    net, image = seasoned(spec), image_for(spec, batch=1)
    with torch.no_grad():
        logits = net(image)
        scale = float(logits.abs().max())
        folded = fold_batch_norm(net)
        torch.testing.assert_close(folded(image), logits, rtol=1e-3, atol=1e-4 * scale)
        if ndim in LAYOUTS:
            last = deepcopy(net).to(memory_format=LAYOUTS[ndim])(image.contiguous(memory_format=LAYOUTS[ndim]))
            torch.testing.assert_close(last, logits, rtol=1e-3, atol=1e-4 * scale)
    net.train()
    with torch.autocast("cpu", torch.bfloat16):
        results = as_list(net(image_for(spec)))
    assert all(r.isfinite().all() for r in results)
    torch.stack([r.float().square().mean() for r in results]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_predicts_in_tiles(name: str) -> None:
    """Exactly where the network is local, else blended, with the reason; in 1-D, since contexts are wide."""
    spec = short(name, 1)
    net, facts = seasoned(spec), geometry(spec)
    length = 6 * max(facts.halo[0], facts.divisor[0]) + 5
    image = np.random.default_rng(0).standard_normal((spec.in_channels, length), np.float32)
    tile = (2 * facts.halo[0] + 3 * facts.divisor[0],)
    options = PredictOptions(precision="fp32", tile=tile)
    whole = Predictor(net, options.model_copy(update={"tile": (10 * length,)})).array(image, probabilities=True)
    tiled = Predictor(net, options)
    planned = tiled.plan(ArrayReader(image))
    assert len(planned.work) > 1
    result = tiled.array(image, probabilities=True)
    warnings = [event.message for event in tiled.remarks(planned) if event.kind == "warned"]
    if facts.local:
        assert warnings == []
        np.testing.assert_allclose(result, whole, atol=2e-5)
    else:
        assert any(f"cannot be tiled exactly ({facts.why_not_local})" in message for message in warnings)
        np.testing.assert_allclose(result.sum(0), 1, atol=1e-5)
        assert np.abs(result - whole).mean() < 0.1


@pytest.mark.parametrize("name", ["unet", "resunet", "unetpp", "fusion", "segnet"])
def test_images_predict_in_tiles(name: str) -> None:
    spec = short(name, 2).replace({"classes": 2})
    net, halo = seasoned(spec), geometry(spec).halo
    shape = (2 * halo[0] + 41, 23)
    image = np.random.default_rng(0).standard_normal((spec.in_channels, *shape), np.float32)
    options = PredictOptions(precision="fp32", tile=(16,))
    tiled = Predictor(net, options)
    assert len(tiled.plan(ArrayReader(image)).work) > 1
    with torch.no_grad():
        whole = torch.softmax(net(torch.from_numpy(image)[None]), 1)[0].numpy()
    np.testing.assert_allclose(tiled.array(image, probabilities=True), whole, atol=2e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_the_graph_of_every_preset_is_captured_whole(name: str) -> None:
    torch.compiler.reset()
    net = build(short(name, 2), seed=1)
    image = image_for(net.spec)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # for the dropout
        expected = as_list(net(image))
        torch.manual_seed(0)
        got = as_list(compiled(image))
    for e, g in zip(expected, got, strict=True):
        torch.testing.assert_close(g, e)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler warns of torch's own functions
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("name", ["unet", "attention"])
def test_the_real_compiler_gives_the_same_logits(name: str) -> None:
    torch.compiler.reset()
    net = seasoned(short(name, 2))
    image = image_for(net.spec)
    with torch.no_grad():
        expected = net(image)
        torch.testing.assert_close(torch.compile(net, fullgraph=True)(image), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", PRESETS)
def test_any_size_down_to_one_pixel(name: str) -> None:
    net = build(narrow(name, 1)).eval()
    for size in (1, 2, 5):
        assert net(torch.rand(1, 1, size + 2 * net.geometry.margin[0])).shape == (1, CLASSES[1], size)
