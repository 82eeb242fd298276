"""Rules of decision in the prediction loop: tiles decide as the whole, ensembles by their calibrated mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from unetkit.data.formats.base import ImageInfo
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.nets.build import UNet, build
from unetkit.nets.spec import NetSpec
from unetkit.plan.parts import PostPlan
from unetkit.predict.calibration import Calibration
from unetkit.predict.decide import Rule, decide
from unetkit.predict.options import PredictOptions
from unetkit.predict.post import cleaned_array
from unetkit.predict.predictor import Predictor

RULES = [Rule(bias=(0.0, 4.0, 2.4)), Rule(depths=(0.0, 0.7, 1.0), ground=0.1)]


def network(seed: int) -> UNet:
    torch.manual_seed(seed)
    net = build(NetSpec(in_channels=1, classes=3, channels=(6, 12)))
    for part in net.modules():  # scores that differ from pixel to pixel
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.normal_(part.weight, std=0.4)
    return net.eval()


def image(shape: tuple[int, ...] = (70, 90)) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 1, (1, *shape)), (0, 2, 2))
    return np.asarray(noise / noise.std(), np.float32)


def predicted(nets: UNet | list[UNet], options: PredictOptions, probabilities: bool = False) -> np.ndarray:
    return np.asarray(Predictor(nets, options).array(image(), probabilities), np.float32)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("tta", [False, True])
def test_tiles_decide_as_the_whole(rule: Rule, tta: bool) -> None:
    options = PredictOptions(precision="fp32", layout="contiguous", tta=tta, rule=rule)
    net = network(0)
    whole = predicted(net, options)
    tiled = predicted(net, options.model_copy(update={"tile": (48, 48)}))
    assert len(np.unique(whole)) > 1
    # depths are rounded to 1/251: the last digit of a convolution may tip one
    assert np.mean(whole != tiled) < 2e-3
    assert np.abs(whole.astype(int) - tiled.astype(int))[(whole > 2) & (tiled > 2)].max(initial=0) <= 1
    shares = predicted(net, options, probabilities=True)
    expected = decide(torch.from_numpy(shares), False, False, rule).numpy()
    assert np.mean(whole != expected) < 2e-3


def test_an_ensemble_decides_by_its_calibrated_mean() -> None:
    calibration = Calibration(temperatures=(1.5, 1.5, 1.5))
    options = PredictOptions(precision="fp32", layout="contiguous", rule=RULES[0], calibration=calibration)
    nets = [network(seed) for seed in (1, 2)]
    plain = options.model_copy(update={"rule": Rule(), "calibration": Calibration()})
    mean = np.mean([predicted(net, plain, probabilities=True) for net in nets], 0)
    expected = decide(torch.from_numpy(calibration.apply(mean.astype(np.float32), False)), False, False, RULES[0])
    found = predicted(nets, options)
    assert np.mean(found != expected.numpy()) < 2e-3


def test_objects_of_tiles_are_those_of_the_whole() -> None:
    classes = tuple(LegendClass(name=n, value=v, colour=(0, 0, v)) for n, v in (("b", 0), ("c", 255), ("r", 254)))
    legend = Legend(kind="instances", classes=classes, background=0, border=2)
    net, post = network(3), PostPlan(sure=0.0, neck=0.2, dip=0.5)
    options = PredictOptions(precision="fp32", layout="contiguous", rule=RULES[1])
    info = ImageInfo((70, 90), 1, False, "uint8", "grey")
    ids = []
    for tile in (None, (48, 48)):
        label = predicted(net, options.model_copy(update={"tile": tile})).astype(np.uint8)
        found = cleaned_array(label, legend, post, info)[1]
        assert found is not None
        ids.append(found)
    assert ids[0].max() > 5
    assert np.mean((ids[0] > 0) != (ids[1] > 0)) < 1e-3
    assert abs(int(ids[0].max()) - int(ids[1].max())) <= 1
