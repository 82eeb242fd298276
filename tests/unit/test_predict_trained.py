"""A network that was trained for a moment: tiles give the whole image, and bf16 gives nearly every label of fp32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from unetkit.nets.build import UNet, build
from unetkit.nets.spec import NetSpec
from unetkit.predict.options import PredictOptions
from unetkit.predict.predictor import Predictor


def sample(side: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth blobs under noise and uneven light: (1, side, side) float32, (side, side) int64."""
    random = np.random.default_rng(seed)
    label = ndimage.gaussian_filter(random.standard_normal((side, side)), 5) > 0
    light = np.linspace(-1, 1, side)[:, None]
    image = label * 2.0 - 1 + light + 0.5 * random.standard_normal((side, side))
    return image[None].astype(np.float32), label.astype(np.int64)


@pytest.fixture(scope="module")
def trained() -> UNet:
    net = build(NetSpec(channels=(8, 16, 24), blocks=1), seed=0).train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-2)
    pairs = [sample(64, seed) for seed in range(8)]
    image_BCX = torch.from_numpy(np.stack([image for image, _ in pairs]))
    label_BX = torch.from_numpy(np.stack([label for _, label in pairs]))
    for _ in range(40):
        optimiser.zero_grad()
        F.cross_entropy(net(image_BCX), label_BX).backward()
        optimiser.step()
    return net.eval()


@pytest.mark.parametrize("tta", [False, True])
def test_tiles_of_a_trained_network(trained, tta):
    image, truth = sample(203, seed=99)
    options = PredictOptions(precision="fp32", tta=tta)
    whole = Predictor(trained, options).array(image, probabilities=True)
    assert (whole.argmax(0) == truth).mean() > 0.9  # it has learned
    for side in (40, 64, 120):
        tiled = Predictor(trained, options.override({"tile": [side]}, "test")).array(image, probabilities=True)
        np.testing.assert_allclose(tiled, whole, atol=1e-5)


@pytest.mark.parametrize("side", [64, 1000])
def test_bf16_gives_the_labels_of_fp32(trained, side):
    image, _ = sample(403, seed=100)
    with torch.no_grad():
        whole = trained(torch.from_numpy(image)[None])[0].argmax(0).numpy()
    label = Predictor(trained, PredictOptions(precision="bf16", tile=(side,))).array(image)
    assert (label == whole).mean() >= 0.999
