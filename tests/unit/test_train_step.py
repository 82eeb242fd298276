"""One step of training against plain torch; the average of the weights; what is saved and put back."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from unetkit.augment.apply import Augmented
from unetkit.core.errors import PlanError, RunError
from unetkit.data.prepared.patches import PreparedCase
from unetkit.losses.expression import make_loss
from unetkit.nets.build import build, centred
from unetkit.nets.spec import NetSpec
from unetkit.plan.budget import Arithmetic, place
from unetkit.plan.parts import OptimPlan
from unetkit.train.average import Average
from unetkit.train.hard import HardCases
from unetkit.train.loop import spread
from unetkit.train.optim import make_optimiser, set_rate
from unetkit.train.state import Learner, Position, load_state, read_position, save_state
from unetkit.train.step import shrink, supervise, train_step

SPEC = NetSpec(channels=(4, 8), classes=2, block="residual")
CPU = Arithmetic("cpu", "fp32", "channels_last", 1)


def batch(seed: int = 0) -> Augmented:
    g = torch.Generator().manual_seed(seed)
    image = torch.randn(2, 1, 16, 16, generator=g)
    return Augmented(image, torch.randint(2, (2, 16, 16), generator=g).to(torch.uint8))


def test_a_step_is_plain_adamw_on_cross_entropy() -> None:
    ours, theirs = build(SPEC, seed=1), build(SPEC, seed=1)
    given = batch()
    plan = OptimPlan(lr=0.01, clip=1e9)
    value = train_step(ours, make_optimiser(ours, plan), make_loss("ce", 2), given, CPU, plan.clip)
    groups = [
        {"params": [p for p in theirs.parameters() if p.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [p for p in theirs.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=0.01)
    expected = torch.nn.functional.cross_entropy(theirs(given.image_BCX), given.label_BX.long())
    expected.backward()
    optimiser.step()
    assert value == pytest.approx(float(expected.detach()), rel=1e-5)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_training_learns_a_threshold() -> None:
    net = build(SPEC, seed=0)
    optimiser, loss = make_optimiser(net, OptimPlan(lr=0.02)), make_loss("ce + dice", 2)
    for step in range(60):
        image = batch(step).image_BCX
        value = train_step(net, optimiser, loss, Augmented(image, (image[:, 0] > 0).to(torch.uint8)), CPU, 1.0)
    assert value < 0.3


def test_the_average_follows_and_includes_running_statistics() -> None:
    net = build(SPEC, seed=0)
    average = Average(net, OptimPlan(ema=0.9))
    start = copy.deepcopy(net.state_dict())
    with torch.no_grad():
        for tensor in (*net.parameters(), *(b for b in net.buffers() if b.is_floating_point())):
            tensor.add_(1.0)
    average.update(net, steps_done=10, fraction=0.0)  # decay min(0.9, 10 / 20) = 0.5
    for name, tensor in average.net.state_dict().items():
        if tensor.is_floating_point():
            assert torch.allclose(tensor, start[name] + 0.5, atol=1e-6), name


def test_deep_supervision_weighs_coarser_levels_half_as_much() -> None:
    label = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]], dtype=torch.uint8)
    assert shrink(label, (2, 2)).tolist() == [[[0, 1], [1, 0]]]
    loss = make_loss("ce", 2)
    fine, coarse = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 2, 2)
    expected = (loss(fine, label) + 0.5 * loss(coarse, shrink(label, (2, 2)))) / 1.5
    assert torch.allclose(supervise(loss, [fine, coarse], label, ((1, 1), (2, 2))), expected)


def test_results_of_equal_size_weigh_alike_and_scales_may_be_given() -> None:
    g = torch.Generator().manual_seed(0)
    label = torch.randint(2, (1, 8, 8, 8), generator=g).to(torch.uint8)
    first, second = (torch.randn(1, 2, 8, 8, 8, generator=g) for _ in range(2))
    flat = torch.randn(1, 2, 8, 4, 4, generator=g)
    loss = make_loss("ce", 2)
    small = shrink(label, (8, 4, 4))
    strides = ((1, 1, 1), (1, 1, 1), (1, 2, 2))
    each = [loss(first, label), loss(second, label), loss(flat, small)]
    alike = (each[0] + each[1] + 0.5 * each[2]) / 2.5
    assert torch.allclose(supervise(loss, [first, second, flat], label, strides), alike)
    given = (3 * each[0] + each[2]) / 4
    assert torch.allclose(supervise(loss, [first, second, flat], label, strides, (3.0, 0.0, 1.0)), given)
    with pytest.raises(PlanError, match=r"loss\.scales has 1 weights, but this network gives 3 results"):
        supervise(loss, [first, second, flat], label, strides, (1.0,))


def test_unpadded_results_of_every_level_are_compared_with_what_they_speak_of() -> None:
    spec = NetSpec(ndim=1, channels=(2, 2, 2), padding="valid", norm="none", down="average", deep_supervision=True)
    net = build(spec, seed=0).double().train()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(0.1)  # every pixel in reach has an influence
    (n,) = net.geometry.fit((60,))
    image = torch.rand(1, 1, n, dtype=torch.float64, requires_grad=True)
    places = torch.arange(n)[None].float()  # a "label" that says where it was taken
    compared: list[torch.Tensor] = []

    def loss(logits: torch.Tensor, label: torch.Tensor, fraction: float = 1.0, stride: object = None) -> torch.Tensor:
        compared.append(label)
        return logits.sum() * 0

    results = net(image)
    assert net.geometry.strides == ((1,), (2,))
    supervise(loss, results, places, net.geometry.strides)
    for logits, taken in zip(results, compared, strict=True):
        assert logits.shape[2:] == taken.shape[1:]
        for j in range(logits.shape[2]):
            (gradient,) = torch.autograd.grad(logits[0, 0, j], image, retain_graph=True)
            seen = gradient[0, 0].nonzero()
            assert abs((seen.min() + seen.max()) / 2 - taken[0, j]) <= 2


def test_coarse_results_measure_distances_in_pixels_of_the_image() -> None:
    label = torch.zeros(1, 12, 12, dtype=torch.uint8)
    label[:, 3:9, 3:9] = 1
    loss = make_loss("boundary", 2)
    fine, coarse = torch.randn(1, 2, 12, 12), torch.randn(1, 2, 4, 4)
    far = loss(coarse, shrink(label, (4, 4)), stride=(3, 3))
    assert torch.allclose(far, 3 * loss(coarse, shrink(label, (4, 4))))
    found = supervise(loss, [fine, coarse], label, ((1, 1), (3, 3)), (1.0, 1.0))
    assert torch.allclose(found, (loss(fine, label) + far) / 2)


def test_valid_convolutions_learn_from_the_middle_of_the_label() -> None:
    label = torch.arange(6 * 8).reshape(1, 6, 8)
    assert torch.equal(centred(label, (2, 4)), label[:, 2:4, 2:6])
    net = build(SPEC.replace({"padding": "valid", "block": "plain"}), seed=0)
    image, label = torch.randn(1, 1, 32, 32), torch.zeros(1, 32, 32, dtype=torch.uint8)
    loss, seen = make_loss("ce", 2), []
    watched = lambda z, y, stride: seen.append(z) or loss(z, y, stride=stride)  # noqa: E731
    value = train_step(net, make_optimiser(net, OptimPlan()), watched, Augmented(image, label), CPU, 1.0)
    assert seen[0].shape[-1] < 32
    assert value > 0


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    "plan",
    [
        OptimPlan(ema=0.9),
        OptimPlan(name="sgd", lr=0.01, clip=None, average="none"),
        OptimPlan(name="lion", lr=1e-3, average="swa", swa_from=0.3, layer_decay=0.9),
    ],
    ids=lambda plan: plan.name,
)
def test_a_restored_state_goes_on_bit_for_bit(tmp_path: Path, plan: OptimPlan, layout: str) -> None:
    arithmetic = Arithmetic("cpu", "fp32", "channels_last" if layout == "channels_last" else "contiguous", 1)
    loss = make_loss("ce + dice", 2)

    def fresh(seed: int) -> Learner:
        net = place(build(SPEC, seed=seed), arithmetic)
        return Learner(net, Average(net, plan), make_optimiser(net, plan), HardCases(4, 1.0, 3.0))

    def advance(learner: Learner, steps: range) -> None:
        for step in steps:
            set_rate(learner.optimiser, plan.lr / (step + 1))
            value = train_step(learner.net, learner.optimiser, loss, batch(step), arithmetic, plan.clip)
            learner.average.update(learner.net, step + 1, step / 6)
            learner.hard.note([step % 3], [value])  # type: ignore[union-attr]

    whole = fresh(0)
    advance(whole, range(6))
    first = fresh(0)
    advance(first, range(4))
    save_state(tmp_path, first, Position(plan="x", step=4))
    second = fresh(99)
    load_state(tmp_path, second)
    advance(second, range(4, 6))
    assert np.array_equal(whole.hard.factors(), second.hard.factors())  # type: ignore[union-attr]
    for a, b in ((whole.net, second.net), (whole.average.net, second.average.net)):
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
            assert torch.equal(x, y)


def test_damaged_states_are_named(tmp_path: Path) -> None:
    assert read_position(tmp_path) is None
    (tmp_path / "state.safetensors").write_bytes(np.random.default_rng(0).bytes(200))
    with pytest.raises(RunError, match=r"state\.safetensors: the saved state is damaged"):
        read_position(tmp_path)


def test_a_state_of_another_network_is_named(tmp_path: Path) -> None:
    net = build(SPEC, seed=0)
    save_state(tmp_path, Learner(net, Average(net, OptimPlan()), make_optimiser(net, OptimPlan())), Position(plan="x"))
    other = build(SPEC.replace({"channels": (4, 4)}), seed=0)
    with pytest.raises(RunError, match="damaged or of another network"):
        load_state(tmp_path, Learner(other, Average(other, OptimPlan()), make_optimiser(other, OptimPlan())))


def test_validation_on_the_way_looks_at_cases_from_all_over_the_set() -> None:
    nothing = np.zeros((1, 1), np.uint8)
    cases = [PreparedCase(str(k), nothing[None], nothing, {}) for k in range(10)]
    assert [case.id for case in spread(cases, 4)] == ["0", "2", "5", "7"]
    assert spread(cases, 10) == spread(cases, 16) == cases


def test_what_is_learnt_beside_the_labels_is_added_to_the_loss() -> None:
    loss, given = make_loss("ce", 2), batch()
    image, label = given.image_BCX, given.label_BX
    both, alone = build(SPEC, seed=1), build(SPEC, seed=1)
    also = lambda: 0.5 * both(image).square().mean()  # noqa: E731
    value = train_step(both, make_optimiser(both, OptimPlan()), loss, given, CPU, 1e9, also=also)
    output = alone(image)
    expected = loss(output, label) + 0.5 * output.square().mean()
    expected.backward()
    assert value == pytest.approx(float(expected.detach()), rel=1e-5)
    for a, b in zip(both.parameters(), alone.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-6)  # type: ignore[arg-type]


def test_of_a_mixture_both_labels_count_in_their_shares() -> None:
    net, loss, given = build(SPEC, seed=1), make_loss("ce + dice", 2), batch()
    other = batch(1).label_BX
    output = net(given.image_BCX).detach()
    expected = 0.7 * loss(output, given.label_BX) + 0.3 * loss(output, other)
    mixed = dataclasses.replace(given, other_BX=other, mix=0.7)
    value = train_step(net, make_optimiser(net, OptimPlan()), loss, mixed, CPU, 1.0)
    assert value == pytest.approx(float(expected), rel=1e-5)
