"""Several networks in one pass over the image: what they say is averaged, tile by tile, as if each had run alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from unetkit.core.errors import SpecError
from unetkit.core.region import Region
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.data.prepared.grid import Grid
from unetkit.data.prepared.plan import PreparePlan
from unetkit.data.prepared.resample import every
from unetkit.nets.build import UNet, build
from unetkit.nets.presets import preset
from unetkit.nets.reduced import prune
from unetkit.nets.spec import NetSpec
from unetkit.predict.forecast import formula
from unetkit.predict.model import Model
from unetkit.predict.options import PredictOptions
from unetkit.predict.predictor import ArrayReader, Predictor
from unetkit.predict.resume import digests
from unetkit.predict.tta import views

SPEC = NetSpec(channels=(4, 6), classes=3, blocks=1)


def networks(spec: NetSpec = SPEC, count: int = 3) -> list[UNet]:
    """Random ones, whose batch norms are not those of fresh networks."""
    nets = [build(spec, seed=seed).eval() for seed in range(count)]
    for seed, net in enumerate(nets):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, value in net.state_dict().items():
                if value.is_floating_point() and "norm" in name:
                    value.copy_(torch.rand(value.shape, generator=generator) * 2 + 0.5)
    return nets


def options(**changes: object) -> PredictOptions:
    return PredictOptions(**({"precision": "fp32"} | changes))  # type: ignore[arg-type]


def picture(shape: tuple[int, ...] = (61, 50)) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((1, *shape), np.float32)


def mean_of(nets: list[UNet], image: NDArray[np.float32], regions: bool = False, **changes: object) -> NDArray:
    """What each says alone, averaged."""
    each = [Predictor(net, options(**changes), regions).array(image, probabilities=True) for net in nets]
    return np.mean(each, 0)


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize("tile", [(1000,), (24,), (16, 40)])
def test_an_ensemble_is_the_mean_of_its_networks_whole_or_in_tiles(
    regions: bool, tta: bool, tile: tuple[int, ...]
) -> None:
    nets = networks()
    together = Predictor(nets, options(tta=tta, tile=tile), regions)
    found = together.array(picture(), probabilities=True)
    expected = mean_of(nets, picture(), regions, tta=tta, tile=(1000,))
    np.testing.assert_allclose(found, expected, atol=2e-6)
    label = together.array(picture())
    sure = np.abs(expected - 0.5).min(0) > 1e-4 if regions else np.ptp(np.sort(expected, 0)[-2:], 0) > 1e-4
    wanted = (expected > 0.5).astype(int).T.dot([1, 2, 4]).T if regions else expected.argmax(0)
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(label[sure], wanted[sure])


def test_a_naive_average_of_softmaxes_in_torch() -> None:
    nets, image = networks(), picture((64, 48))
    with torch.no_grad():
        x = torch.from_numpy(image)[None]
        shown = views(Predictor(nets).geometry)
        naive = torch.stack([view.undo(net(view.apply(x)).softmax(1)) for net in nets for view in shown]).mean(0)[0]
    found = Predictor(nets, options(tta=True)).array(image, probabilities=True)
    np.testing.assert_allclose(found, naive.numpy(), atol=2e-6)


def test_blended_tiles_are_the_mean_of_each_network_blended() -> None:
    spec = SPEC.replace({"norm": "instance"})
    nets, image = networks(spec), picture((90, 70))
    found = Predictor(nets, options(tile=(32,))).array(image, probabilities=True)
    np.testing.assert_allclose(found, mean_of(nets, image, tile=(32,)), atol=2e-6)
    whole = Predictor(nets, options(tile=(1000,))).array(image, probabilities=True)
    assert np.abs(found - whole).max() > 1e-3, "it was blended indeed"


def test_on_another_grid_the_mean_is_brought_back() -> None:
    """The prepared grid is coarser than the file's: probabilities are resampled, then decided."""
    nets, grid = networks(), Grid((60, 40), (40, 20), (0, 1), (False, False), every("linear", 2))

    class Resampled(ArrayReader):
        grid: Grid

    Resampled.grid = grid
    reader = Resampled(picture(grid.shape))
    found = Predictor(nets, options(tile=(16,))).whole(reader, probabilities=True)
    each = [Predictor(net, options(tile=(16,))).whole(reader, probabilities=True) for net in nets]
    assert found.shape == (3, 60, 40)
    np.testing.assert_allclose(found, np.mean(each, 0), atol=2e-6)


def test_every_tile_is_read_once() -> None:
    class Counting(ArrayReader):
        reads: list[Region]

        def read(self, region: Region) -> NDArray[np.float32]:
            self.reads.append(region)
            return super().read(region)

    reader = Counting(picture())
    reader.reads = []
    predictor = Predictor(networks(), options(tile=(24,)))
    tiles = len(list(predictor.regions(reader)))
    assert len(reader.reads) == tiles > 4


def test_networks_of_other_form_are_refused() -> None:
    other = build(SPEC.replace({"channels": (6, 8)}))
    with pytest.raises(SpecError, match="networks of different form cannot be averaged tile by tile; predict with"):
        Predictor([*networks(count=1), other])


def test_it_is_said_that_several_networks_are_averaged_and_one_is_as_before() -> None:
    said = [event.what for event in Predictor(networks(), options()).decisions]
    assert said == ["precision", "ensemble"]
    (net,) = networks(count=1)
    assert [event.what for event in Predictor([net], options()).decisions] == ["precision"]
    alone = Predictor(net, options()).array(picture(), probabilities=True)
    np.testing.assert_array_equal(Predictor([net], options()).array(picture(), probabilities=True), alone)


def test_another_precision_keeps_all_networks() -> None:
    predictor = Predictor(networks(), options()).with_precision("bf16")
    assert len(predictor.runner.nets) == 3
    found = predictor.array(picture(), probabilities=True)
    np.testing.assert_allclose(found, mean_of(networks(), picture()), atol=0.05)


def test_the_forecast_counts_the_sums_and_one_network_at_a_time() -> None:
    nets = networks()
    one, several = (Predictor(n, options(memory=10**9)).plan(ArrayReader(picture((400, 400)))) for n in (nets[0], nets))
    network = [dict(planned.forecast.tiles)["the network"] for planned in (one, several)]
    assert formula(SPEC, "fp32", averages=True) - formula(SPEC, "fp32") == 4 * SPEC.classes
    assert network[0] <= network[1] < 1.5 * network[0]


def test_an_interrupted_prediction_begins_anew_with_other_networks() -> None:
    classes = tuple(LegendClass(name=str(v), value=v, colour=(v, v, v)) for v in (0, 128, 255))
    legend = Legend(kind="values", classes=classes, background=0)
    a, b, c = networks()
    models = [Model(a, legend, PreparePlan(), others=others) for others in ((b,), (b, c), (c,), ())]
    found = {digests(model, Predictor(model.nets, options()))["the weights"] for model in models}
    assert len(found) == 4
    assert Model(a, legend, PreparePlan(), others=(b,)).nets == (a, b)


def test_files_are_predicted_with_all_networks(tmp_path: Path) -> None:
    from unetkit.core.events import drain
    from unetkit.predict.run import predict

    classes = tuple(LegendClass(name=str(v), value=v, colour=(v, v, v)) for v in (0, 128, 255))
    nets = networks()
    model = Model(
        nets[0],
        Legend(kind="values", classes=classes, background=0),
        PreparePlan(normalise="none"),
        others=(*nets[1:],),
    )
    pixels = np.random.default_rng(1).integers(0, 255, (60, 40)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    drain(predict(model, tmp_path / "a.png", tmp_path / "out", options()))
    expected = mean_of(nets, pixels[None].astype(np.float32)).argmax(0)
    found = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert (found == np.array([0, 128, 255])[expected]).mean() > 0.999


def test_nested_networks_are_pruned_and_averaged() -> None:
    spec = (
        preset("unetpp")
        .form(2)
        .replace({"in_channels": 1, "classes": 3, "channels": (4, 4, 4), "deep_supervision": True})
    )
    smaller = [prune(net, 1) for net in networks(spec)]
    found = Predictor(smaller, options(tile=(24,))).array(picture(), probabilities=True)
    np.testing.assert_allclose(found, mean_of(smaller, picture()), atol=2e-6)
