"""Adaptation to new images without labels: it helps where they are of another scanner, does little where they are not,
and is the same again for the same images."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from scipy import ndimage

import unetkit as uk
from unetkit.cli import main
from unetkit.core.errors import PlanError
from unetkit.core.events import Decided, Event, Warned, drain
from unetkit.data.case import Case
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.data.prepared.plan import PreparePlan
from unetkit.nets.build import UNet, build
from unetkit.nets.spec import NetSpec
from unetkit.predict.adapt import PRIOR, TILES, adapt, adapted, apart, entropy, mix_statistics, proportions, spots, take
from unetkit.predict.model import Model
from unetkit.predict.options import PredictOptions
from unetkit.predict.predictor import Predictor
from unetkit.predict.run import predict

CPU = torch.device("cpu")
CLASSES = tuple(LegendClass(name=str(v), value=v, colour=(v, v, v)) for v in (0, 255))
LEGEND = Legend(kind="values", classes=CLASSES, background=0)
PLAIN = PreparePlan(normalise="none")


def sample(side: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Blobs under noise: (side, side) float32, (side, side) of 0 and 1."""
    random = np.random.default_rng(seed)
    label = ndimage.gaussian_filter(random.standard_normal((side, side)), 5) > 0.12
    return (label * 2.0 - 1 + 0.4 * random.standard_normal((side, side))).astype(np.float32), label.astype(np.int64)


def another_scanner(image: np.ndarray) -> np.ndarray:
    """Less contrast, more light, less sharp."""
    return (0.4 * ndimage.gaussian_filter(image, 0.8) + 0.9).astype(np.float32)


@pytest.fixture(scope="module")
def trained() -> UNet:
    net = build(NetSpec(channels=(8, 16), blocks=1), seed=0).train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-2)
    pairs = [sample(64, seed) for seed in range(8)]
    image_BCX = torch.from_numpy(np.stack([image for image, _ in pairs]))[:, None]
    label_BX = torch.from_numpy(np.stack([label for _, label in pairs]))
    for _ in range(60):
        optimiser.zero_grad()
        F.cross_entropy(net(image_BCX), label_BX).backward()
        optimiser.step()
    return net.eval()


def dice(net: UNet, changed: bool) -> float:
    scores = []
    for seed in range(50, 54):
        image, truth = sample(96, seed)
        image = another_scanner(image) if changed else image
        label = Predictor(net, PredictOptions(precision="fp32")).array(image[None])
        scores.append(2 * (label * truth).sum() / (label.sum() + truth.sum()))
    return float(np.mean(scores))


def cases(changed: bool) -> list[Case]:
    made = [sample(96, seed)[0] for seed in range(50, 54)]
    return [Case(str(k), ((another_scanner(i) if changed else i)[None],)) for k, i in enumerate(made)]


@pytest.mark.parametrize("how", ["norm", "entropy"])
def test_images_of_another_scanner_are_segmented_better(trained, how):
    tiles, images = take(Model(trained, LEGEND, PLAIN), cases(changed=True))
    assert images == 4
    net, moved = adapted(trained, tiles, how, CPU)
    before, after = dice(trained, changed=True), dice(net, changed=True)
    assert before < 0.5
    assert after > 0.9
    assert np.mean(moved.means) > 0.1


@pytest.mark.parametrize("how", ["norm", "entropy"])
def test_images_like_those_of_training_lose_nothing_much(trained, how):
    tiles, _ = take(Model(trained, LEGEND, PLAIN), cases(changed=False))
    net, moved = adapted(trained, tiles, how, CPU)
    assert dice(net, changed=False) > dice(trained, changed=False) - 0.015
    assert np.mean(moved.means) < 0.1


def test_the_statistics_are_the_mixture_of_the_paper():
    """Schneider 2020, equation 3, of the first norm, whose input nothing adapted has touched."""
    net = build(NetSpec(channels=(4, 6), blocks=1), seed=1).eval()
    norm = next(m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d))
    norm.running_mean.uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    batches = [torch.randn(3, 1, 16, 16), torch.randn(2, 1, 16, 16) * 2 + 1]
    seen: list[torch.Tensor] = []
    handle = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    own_mean, own_var = norm.running_mean.clone(), norm.running_var.clone()
    share = 5 / (5 + PRIOR)
    mix_statistics(net, batches, share, CPU)
    handle.remove()
    x = torch.cat(seen)
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    torch.testing.assert_close(norm.running_mean, (1 - share) * own_mean + share * mean)
    torch.testing.assert_close(norm.running_var, (1 - share) * own_var + share * var)


def test_entropy_is_that_of_probabilities():
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 3
    p = torch.softmax(logits, 1)
    torch.testing.assert_close(entropy(logits, False), -(p * p.log()).sum(1).mean())
    q = torch.sigmoid(logits)
    expected = -(q * q.log() + (1 - q) * (1 - q).log()).mean()
    torch.testing.assert_close(entropy(logits, True), expected)


def test_proportions_are_told_apart_by_their_divergence():
    logits = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    share = proportions(logits, False)
    torch.testing.assert_close(share, torch.softmax(logits, 1).mean((0, 2, 3)))
    assert float(apart(share, share)) == 0.0
    other = torch.tensor([0.2, 0.5, 0.3])
    expected = sum(
        float(b * (b / a).log() + (1 - b) * ((1 - b) / (1 - a)).log()) for a, b in zip(share, other, strict=True)
    )
    assert float(apart(share, other)) == pytest.approx(expected, rel=1e-5)


def test_entropy_falls_and_only_norms_move(trained):
    tiles, _ = take(Model(trained, LEGEND, PLAIN), cases(changed=True))
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    net, moved = adapted(trained, tiles, "entropy", CPU)
    assert moved.entropy is not None
    assert moved.entropy[1] < moved.entropy[0]
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert {name.rpartition(".")[0].rpartition(".")[2].rstrip("0123456789") for name in changed} == {"norm"}
    again, _ = adapted(trained, tiles, "entropy", CPU)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))


def test_tiles_are_spread_over_images_and_stay_inside():
    found = spots((1000, 300), (256, 256), 6)
    assert len(found) == 6
    assert all(r.shape == (256, 256) and min(r.start) >= 0 and r.stop[0] <= 1000 and r.stop[1] <= 300 for r in found)
    assert len({r.start for r in found}) == 6
    assert [r.shape for r in spots((20, 300), (256, 256), 9)] == [(20, 256)] * 2
    model = Model(build(NetSpec(ndim=1, channels=(4, 6), blocks=1)).eval(), LEGEND, PLAIN)
    many = [Case(str(k), (np.full((1, 100), k, np.float32),)) for k in range(3 * TILES)]
    tiles, images = take(model, many)
    assert (len(tiles), images) == (TILES, TILES)
    assert {t.shape for t in tiles} == {tiles[0].shape}


@pytest.mark.parametrize(
    ("how", "norm", "text"),
    [
        ("norm", "instance", r"--adapt norm: this network has no batch norm \(its norm is 'instance'\)"),
        ("entropy", "none", r"--adapt entropy: this network has no norm with a scale and a shift"),
    ],
)
def test_networks_without_what_is_adapted_are_refused(how, norm, text):
    model = Model(build(NetSpec(channels=(4, 6), blocks=1, norm=norm)).eval(), LEGEND, PLAIN)
    with pytest.raises(PlanError, match=text):
        drain(adapt(model, cases(changed=False), PredictOptions(adapt=how)))


def test_what_was_done_is_told(trained, tmp_path):
    for k, case in enumerate(cases(changed=True)):
        (tmp_path / "in").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "in" / f"{k}.tif", case.images[0][0])
    (tmp_path / "in" / "bad.tif").write_bytes(b"no image")
    said: list[Event] = []
    model, options = Model(trained, LEGEND, PLAIN), PredictOptions(precision="fp32", adapt="norm")
    result = drain(predict(model, tmp_path / "in", tmp_path / "out", options), said.append)
    assert (len(result.done), len(result.failed)) == (4, 1)
    told = next(e for e in said if isinstance(e, Decided) and e.what == "adapt")
    norms = sum(isinstance(m, torch.nn.BatchNorm2d) for m in trained.modules())
    assert told.value == f"norm: {norms} batch norms, by 4 tiles of 4 images"
    assert "their means moved by" in told.why
    warned = [e.message for e in said if isinstance(e, Warned)]
    assert any("every mask depends on which images are predicted with it" in text for text in warned)
    (tmp_path / "out" / "0.tif").unlink()
    said.clear()
    drain(predict(model, tmp_path / "in", tmp_path / "out", options), said.append)
    assert any("3 masks were there already" in e.message for e in said if isinstance(e, Warned))


SCRIPT = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import torch
    from unetkit.core.events import drain
    from unetkit.data.labels.legend import Legend, LegendClass
    from unetkit.data.prepared.plan import PreparePlan
    from unetkit.nets.build import build
    from unetkit.nets.spec import NetSpec
    from unetkit.predict.model import Model
    from unetkit.predict.options import PredictOptions
    from unetkit.predict.run import predict

    torch.set_num_threads(1)
    net = build(NetSpec(channels=(4, 6), blocks=1), seed=3).eval()
    classes = tuple(LegendClass(name=str(v), value=v, colour=(v, v, v)) for v in (0, 255))
    model = Model(net, Legend(kind="values", classes=classes, background=0), PreparePlan())
    options = PredictOptions(precision="fp32", tile=(48,), adapt=sys.argv[3])
    drain(predict(model, sys.argv[1], Path(sys.argv[2]), options), lambda e: print(e.model_dump_json()))
    """
)


def test_a_killed_prediction_goes_on_with_the_same_adapted_weights(tmp_path):
    (tmp_path / "in").mkdir()
    for k, shape in enumerate([(90, 60), (520, 100)]):
        image = np.random.default_rng(k).integers(0, 255, shape, np.uint8)
        tifffile.imwrite(tmp_path / "in" / f"{k}.tif", image, tile=(64, 64))

    def words(out: str, how: str = "entropy") -> list[str]:
        return [sys.executable, "-c", SCRIPT, str(tmp_path / "in"), str(tmp_path / out), how]

    def pieces() -> int:
        return len(list((tmp_path / "out").glob(".1.unetkit-work/[0-9]*.labels")))

    undisturbed = subprocess.run(words("whole"), capture_output=True, text=True, check=True)
    assert "resume" not in undisturbed.stdout
    with subprocess.Popen(words("out"), stdout=subprocess.DEVNULL) as process:
        end = time.monotonic() + 120
        while pieces() < 6 and process.poll() is None and time.monotonic() < end:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert pieces() >= 6
    resumed = subprocess.run(words("out"), capture_output=True, text=True, check=True)
    assert "the rest was done before" in resumed.stdout
    for name in ("0.tif", "1.tif"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_flag_and_the_verb(tmp_path, capsys):
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for k in range(4):
        image, label = sample(48, k)
        tifffile.imwrite(tmp_path / "data" / "images" / f"{k}.tif", image)
        tifffile.imwrite(tmp_path / "data" / "masks" / f"{k}.tif", (label * 255).astype(np.uint8))
    settings = {"net.channels": "[4, 8]", "sampling.patch": "[32, 32]", "machine.threads": "1"}
    run = uk.train(tmp_path / "data", tmp_path / "run", uk.Request(steps=4, precision="fp32", settings=settings))
    images = str(tmp_path / "data" / "images")
    assert main(["predict", str(run.path), images, "-o", str(tmp_path / "masks"), "--adapt", "entropy"]) == 0
    shown = " ".join("".join(capsys.readouterr()).split())
    assert "the network was adapted (--adapt entropy) to 4 images taken together" in shown
    assert "nats" in shown
    assert len(list((tmp_path / "masks").glob("*.tif"))) == 4
    with pytest.raises(PlanError, match="the options: 'adapt': input should be 'none', 'norm' or 'entropy'"):
        uk.predict(run.path, images, tmp_path / "other", adapt="stain")
