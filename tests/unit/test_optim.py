"""Optimisers against torch and plain loops; which parameters decay; averages of weights; hard cases; schedules."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import unetkit as uk
from unetkit.core.errors import PlanError
from unetkit.nets.build import build
from unetkit.nets.presets import preset
from unetkit.nets.spec import NetSpec
from unetkit.plan import training
from unetkit.plan.parts import BudgetPlan, OptimPlan, SamplingPlan
from unetkit.train.average import Average
from unetkit.train.hard import HardCases
from unetkit.train.optim import Lion, clip_gradient, make_optimiser, set_rate
from unetkit.train.schedule import Schedule, in_cycle

SPEC = NetSpec(channels=(4, 8), classes=2)


def step(net: nn.Module, optimiser: torch.optim.Optimizer, seed: int) -> None:
    image = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(seed))
    optimiser.zero_grad()
    net(image).square().mean().backward()
    optimiser.step()


def test_norms_biases_embeddings_and_positions_do_not_decay() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.embed = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Embedding(5, 2)
            self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
            self.pos_embed = nn.Parameter(torch.zeros(1, 4, 2))
            self.positive = nn.Linear(2, 2, bias=False)

    own = Own()
    own.again = own.conv  # used twice, counted once
    groups = make_optimiser(own, OptimPlan(weight_decay=0.1)).param_groups
    decaying = [p for g in groups if g["weight_decay"] == 0.1 for p in g["params"]]
    assert [tuple(p.shape) for p in decaying] == [(2, 1, 3, 3), (2, 2)]
    assert sum(len(g["params"]) for g in groups) == len(list(own.parameters()))
    tokens = build(preset("transunet").spec.replace({"channels": (4, 4, 8, 8), "vocabulary": 7, "dropout": 0.0}))
    decaying = [p for g in make_optimiser(tokens, OptimPlan()).param_groups if g["weight_decay"] for p in g["params"]]
    kept = {id(p) for p in decaying}
    places = [p for m in tokens.modules() if type(m).__name__ in ("Embed", "Positions") for p in m.parameters()]
    assert len(places) == 2
    assert not kept & {id(p) for p in places}
    assert all(id(m.weight) in kept for m in tokens.modules() if isinstance(m, nn.Conv2d))


def test_sgd_is_torchs_with_nesterov_momentum() -> None:
    ours, theirs = build(SPEC, seed=1), build(SPEC, seed=1)
    mine = make_optimiser(ours, OptimPlan(name="sgd", lr=0.1, weight_decay=0.0, momentum=0.9))
    torchs = torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9, nesterov=True)
    for seed in range(3):
        step(ours, mine, seed)
        step(theirs, torchs, seed)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_lion_is_its_algorithm() -> None:
    weight = nn.Parameter(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)))
    optimiser = Lion([{"params": [weight], "weight_decay": 0.1, "lr": 0.01}], lr=0.01)
    expected, mean = weight.detach().numpy().astype(np.float64), np.zeros((5, 4))
    for seed in range(4):
        gradient = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed + 1))
        weight.grad = gradient.clone()
        optimiser.step()
        g = gradient.numpy().astype(np.float64)
        # Chen 2023, algorithm 2
        update = np.sign(0.9 * mean + 0.1 * g)
        expected = expected - 0.01 * (update + 0.1 * expected)
        mean = 0.99 * mean + 0.01 * g
    assert np.allclose(weight.detach().numpy(), expected, atol=1e-6)


def test_earlier_parts_learn_more_slowly_where_asked() -> None:
    net = build(SPEC, seed=0)
    optimiser = make_optimiser(net, OptimPlan(layer_decay=0.5, lr=1.0))
    set_rate(optimiser, 0.8)
    rate = {id(p): g["lr"] for g in optimiser.param_groups for p in g["params"]}
    rates = {name.partition(".")[0]: rate[id(p)] for name, p in net.named_parameters()}
    ordered = [rates[name] for name in ("encoder0", "encoder1", "up0", "decoder0", "head")]
    assert ordered == [0.8 * 0.5**n for n in (4, 3, 2, 1, 0)]
    assert all(g["scale"] == 1 for g in make_optimiser(net, OptimPlan()).param_groups)


def test_no_clipping_leaves_the_gradient() -> None:
    net = build(SPEC, seed=0)
    net(torch.randn(1, 1, 16, 16)).sum().backward()
    before = [p.grad.clone() for p in net.parameters()]  # type: ignore[union-attr]
    clip_gradient(net, None)
    assert all(torch.equal(p.grad, b) for p, b in zip(net.parameters(), before, strict=True))  # type: ignore[arg-type]
    clip_gradient(net, 0.1)
    assert float(torch.stack([p.grad.norm() for p in net.parameters()]).norm()) == pytest.approx(0.1, rel=1e-3)  # type: ignore[union-attr]


def test_the_mean_of_the_end_is_the_mean_of_its_steps() -> None:
    net = build(SPEC, seed=0)
    average = Average(net, OptimPlan(average="swa", swa_from=0.5, ema=0.9))
    optimiser, seen = make_optimiser(net, OptimPlan(lr=0.01)), []
    for n in range(8):
        step(net, optimiser, n)
        average.update(net, n + 1, n / 8)
        if n >= 4:
            seen.append(copy.deepcopy([t for t in net.state_dict().values() if t.is_floating_point()]))
    mean = [torch.stack(tensors).mean(0) for tensors in zip(*seen, strict=True)]
    own = [t for t in average.net.state_dict().values() if t.is_floating_point()]
    assert average.counted == 4
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(own, mean, strict=True))


def test_without_an_average_the_weights_are_kept_as_they_are() -> None:
    net = build(SPEC, seed=0)
    average = Average(net, OptimPlan(average="none"))
    step(net, make_optimiser(net, OptimPlan(lr=0.01)), 0)
    average.update(net, 1, 0.5)
    for a, b in zip(average.net.state_dict().values(), net.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_hard_cases_are_met_more_often_but_not_without_end() -> None:
    hard = HardCases(4, power=1.0, most=3.0)
    assert hard.factors().tolist() == [1, 1, 1, 1]
    for n in range(200):
        level = 10.0 * 0.99**n  # all losses fall as training goes on
        hard.note([0, 1, 2], [level, 2 * level, 30 * level])
    easy, middle, hopeless, unseen = hard.factors()
    assert easy == pytest.approx(0.5, abs=0.03)
    assert (middle, hopeless, unseen) == (1.0, 3.0, 1.0)
    milder = HardCases(4, 0.5, 3.0)
    milder.restore(hard.state())
    assert milder.factors()[0] == pytest.approx(np.sqrt(easy))


@pytest.mark.parametrize("name", ["cosine", "poly", "linear", "level", "constant", "restarts"])
def test_every_schedule_rises_and_ends_where_its_name_says(name: str) -> None:
    optim = OptimPlan.parse({"lr": 2.0, "warmup": 0.1, "schedule": name, "decay": 0.25, "cycles": 3}, "test")
    schedule = Schedule(BudgetPlan(steps=100), optim)
    rates = np.array([schedule.learning_rate(f / 1000) for f in range(1001)])
    assert rates[0] < 0.03
    assert (np.diff(rates[:100]) > 0).all()
    assert rates.max() == pytest.approx(2.0, rel=1e-3)
    assert rates[-1] == pytest.approx(2.0 if name == "constant" else 0.0, abs=1e-9)
    if name in ("cosine", "poly", "linear"):
        assert (np.diff(rates[100:]) < 0).all()
        half = {"cosine": 1.0, "poly": 2 * 0.5**0.9, "linear": 1.0}[name]
        assert rates[550] == pytest.approx(half)
    if name == "level":
        assert (rates[101:751] == 2.0).all()
        assert rates[750 + 63] == pytest.approx(2 * (1 - np.sqrt(0.252)))
    if name == "restarts":
        assert (np.diff(rates[100:]) > 0.5).sum() == 2
    open_ended = Schedule(BudgetPlan(), optim)
    assert open_ended.learning_rate(0.7) == 2.0
    assert open_ended.learning_rate(1.0) == pytest.approx(2.0 if name == "constant" else 0.0, abs=1e-9)


def test_cycles_may_grow() -> None:
    # lengths 1, 2, 4 of 7
    assert [round(in_cycle(n / 7, 3, 2.0), 6) for n in (0, 0.5, 1, 2, 3, 5)] == [0, 0.5, 0, 0.5, 0, 0.5]
    assert in_cycle(1.0, 3, 2.0) == 1.0
    assert in_cycle(0.3, 1, 1.0) == 0.3


def test_other_optimisers_have_rates_of_their_own() -> None:
    net = preset("unet").spec
    adamw, sgd, lion = (training.optim(1000, net, name)[0] for name in ("adamw", "sgd", "lion"))
    assert (sgd.name, sgd.lr, sgd.momentum, sgd.clip, sgd.weight_decay) == ("sgd", 0.01, 0.99, 12.0, 3e-5)
    assert lion.lr == adamw.lr / 10
    assert "nnU-Net" in training.optim(1000, net, "sgd")[1]["optim.lr"]


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (SamplingPlan, {"oversample": 0, "by_area": 0.5}, "by_area is a share of the patches that oversample centres"),
        (SamplingPlan, {"hard": 3}, "'hard': input should be less than or equal to 2 (given: 3)"),
        (SamplingPlan, {"repeat": 2}, "'repeat': input should be less than or equal to 1"),
        (OptimPlan, {"schedule": "cosin"}, "'schedule': input should be 'cosine', 'poly', 'linear', 'level'"),
        (OptimPlan, {"name": "adam"}, "'name': input should be 'adamw', 'sgd' or 'lion'"),
        (OptimPlan, {"layer_decay": 0}, "'layer_decay': input should be greater than 0"),
        (OptimPlan, {"cycles": 0}, "'cycles': input should be greater than or equal to 1"),
    ],
)
def test_impossible_values_are_refused(model: type, values: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError) as error:
        model.parse(values, "--set")  # type: ignore[attr-defined]
    assert message in str(error.value)


def test_what_follows_from_the_optimiser_is_planned_unless_it_is_set(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for n in range(3):
            pixels = random.integers(0, 2, (48, 48)) * 255
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / kind / f"{n}.png")

    def planned(**settings: str) -> OptimPlan:
        named = {f"optim.{name}": value for name, value in settings.items()}
        return uk.plan(tmp_path, uk.Request(steps=100, precision="fp32", settings=named)).plan.optim

    assert planned(name="sgd") == training.optim(100, preset("unet").spec, "sgd")[0]
    assert planned(name="sgd", lr="0.5").lr == 0.5
    assert planned(clip="null").clip is None
