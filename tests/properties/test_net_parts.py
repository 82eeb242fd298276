"""The parts of the family: what memory they take, what checkpointing changes (memory) and does not (numbers)."""

from __future__ import annotations

import random
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from unetkit.core.errors import SpecError
from unetkit.nets import PRESETS
from unetkit.nets.build import UNet, build
from unetkit.nets.geometry import activation_memory, geometry
from unetkit.nets.spec import PARTS, NetSpec

CHOICES: dict[str, tuple[Any, ...]] = {
    **PARTS,
    "norm": ("batch", "instance", "group", "layer", "none"),
    "norm_scale": (True, False),
    "activation": ("relu", "leaky_relu", "prelu", "elu", "gelu", "silu"),
    "padding": ("same", "reflect", "replicate", "valid"),
    "dropout_at": ("bottom", "blocks", "convolutions"),
    "dropout_of": ("values", "maps"),
    "stem_stride": (1, 2),
    "up_width": ("skip", "same"),
    "deep_supervision": (True, False),
}


LATER = ("dropout_of",)


def combination(seed: int) -> NetSpec:
    """A part at random for every field; what does not go with what was drawn before it keeps its default."""
    draw, spec = random.Random(seed), NetSpec(channels=(8, 12, 16), dropout=0.2 * (seed % 2))
    # a field that came later is drawn last: what was drawn before stays as it was
    earlier = sorted(CHOICES.keys() - LATER)
    for field in [*draw.sample(earlier, len(earlier)), *LATER]:
        try:
            spec = spec.replace({field: draw.choice(CHOICES[field])})
        except SpecError:
            continue
    return spec


class Alive(TorchDispatchMode):
    """Counts the bytes of all tensors that are made while it is on, but for what is made of `known` storage."""

    def __init__(self, known: set[int]) -> None:
        super().__init__()
        self.alive: set[int] = set()
        self.known, self.now, self.peak = known, 0, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self.alive and key not in self.known:
                    self.alive.add(key)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._gone, key, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return result

    def _gone(self, key: int, size: int) -> None:
        self.alive.discard(key)
        self.now -= size


class Loss(torch.autograd.Function):
    """Keeps nothing; its gradient is as large as the logits, as a real one's is."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        ctx.shape = logits.shape
        return logits.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> Tensor:  # type: ignore[override]
        return torch.ones(ctx.shape)


def measured_memory(net: nn.Module, image: Tensor) -> int:
    known = {t.untyped_storage()._cdata for t in [*net.parameters(), *net.buffers(), image]}
    with Alive(known) as count:
        if net.training:
            results = net(image)
            results = results if isinstance(results, list) else [results]
            torch.stack([Loss.apply(r) for r in results]).sum().backward()
        else:
            with torch.no_grad():
                net(image)
    return count.peak + image.nbytes


def check_memory(spec: NetSpec, side: int) -> None:
    """Prediction, training and checkpointed training, each within 15 %."""
    shape = geometry(spec).fit([side + 2 * margin for margin in geometry(spec).margin])
    net, image = build(spec), torch.rand(2, spec.in_channels, *shape)
    for training, checkpointing in ((False, False), (True, False), (True, True)):
        net.train(training).zero_grad()
        net.checkpointing = checkpointing
        measured = measured_memory(net, image)
        # what the backward pass holds of the parameters themselves is not an activation
        weights = 4 * geometry(spec).parameters if training else 0
        estimate = activation_memory(spec, 2, shape, 4, training, checkpointing)
        ratio = (estimate + weights / 2) / measured
        assert abs(ratio - 1) <= 0.15 + weights / 2 / measured, (ratio, training, checkpointing)


def _one_by_one() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for field, names in {**PARTS, **CHOICES}.items():
        for name in names:
            if field == "up" and name == "unpool":
                found.append({"up": "unpool", "skip": "none"})
            elif field in ("dropout_at", "dropout_of"):
                found.append({field: name, "dropout": 0.3})
            elif field != "decoder_block":
                found.append({field: name})
    return [*found, {"vocabulary": 20, "ndim": 1}, {"activation": "gelu", "norm": "none"}, {"stem": 8}, {"ndim": 3}]


@pytest.mark.parametrize("values", _one_by_one(), ids=str)
def test_activation_memory_of_every_part_is_known_within_15_percent(values: dict[str, Any]) -> None:
    spec = NetSpec(**{"channels": (8, 16, 24), **values})
    check_memory(spec, {1: 1000, 2: 32, 3: 12}[spec.ndim])


@pytest.mark.parametrize("seed", range(12))
def test_activation_memory_of_combinations_is_known_within_15_percent(seed: int) -> None:
    check_memory(combination(seed), 40)


@pytest.mark.parametrize("name", ["unet3plus", "r2unet", "fcn8s", "transunet", "nnunet"])
def test_activation_memory_of_presets_is_known_within_15_percent(name: str) -> None:
    spec = PRESETS[name].spec
    check_memory(spec.widths(1 / 8), 64)


def state_after_a_step(net: UNet, image: Tensor) -> dict[str, Tensor]:
    """Logits, gradients and buffers of one step of training."""
    torch.manual_seed(3)  # for the dropout
    results = net(image)
    results = results if isinstance(results, list) else [results]
    torch.stack([(r * r.detach().cos()).sum() for r in results]).sum().backward()
    gradients = {f"gradient of {name}": p.grad for name, p in net.named_parameters() if p.grad is not None}
    logits = {f"logits {i}": r.detach() for i, r in enumerate(results)}
    return {**logits, **gradients, **{name: b.clone() for name, b in net.named_buffers()}}


def check_checkpointing(spec: NetSpec, shape: tuple[int, ...]) -> None:
    image = torch.rand(2, spec.in_channels, *shape)
    plain, saving = build(spec, seed=1).train(), build(spec, seed=1).train()
    saving.checkpointing = True
    with torch.random.fork_rng():
        expected, got = state_after_a_step(plain, image), state_after_a_step(saving, image)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            got[name], value, rtol=1e-4, atol=1e-4 * max(1.0, float(value.abs().max())), msg=name
        )


@pytest.mark.parametrize(
    "name", ["unet2015", "unet3d", "vnet", "unetpp", "attention", "r2unet", "dense", "transunet", "nnunet", "segnet"]
)
def test_checkpointing_changes_no_number_of_a_preset(name: str) -> None:
    spec = PRESETS[name].form(1).widths(1 / 16).replace({"blocks": 2, "decoder_blocks": None})
    check_checkpointing(spec, tuple(2 * m + 21 for m in geometry(spec).margin))


@pytest.mark.parametrize("seed", range(100, 110))
def test_checkpointing_changes_no_number_of_combinations(seed: int) -> None:
    spec = combination(seed)
    check_checkpointing(spec, tuple(2 * m + 9 for m in geometry(spec).margin))


@pytest.mark.parametrize("name", ["unet", "nnunet", "unetpp", "recurrent"])
def test_checkpointing_takes_less_memory(name: str) -> None:
    spec = PRESETS[name].form(2).widths(1 / 8)
    plain, saving = build(spec).train(), build(spec).train()
    saving.checkpointing = True
    image = torch.rand(2, spec.in_channels, 64, 64)
    assert measured_memory(saving, image) < 0.85 * measured_memory(plain, image)


def test_checkpointing_is_for_training_only() -> None:
    net = build(NetSpec(channels=(4, 6)))
    image = torch.rand(1, 1, 8, 8)
    expected = net.eval()(image)
    net.checkpointing = True
    torch.testing.assert_close(net(image), expected, rtol=0, atol=0)
    with torch.no_grad():
        assert not net.train()(image).requires_grad


@pytest.mark.parametrize("skip", ["attention", "attention-up"])
def test_gates_are_between_0_and_1_and_can_be_seen_by_name(skip: str) -> None:
    net = build(NetSpec(channels=(4, 6, 8), skip=skip), seed=2)
    image = torch.randn(2, 1, 13, 22)
    maps = net.features(image, ["skip0.gate1", "skip1.gate1"])
    scale = 2 if skip == "attention" else 1  # computed at the size of the gating signal
    assert maps["skip0.gate1"].shape == (2, 1, 16 // scale, 24 // scale)
    assert maps["skip1.gate1"].shape == (2, 1, 8 // scale, 12 // scale)
    for gate in maps.values():
        assert 0 < gate.min() < gate.max() < 1
    with pytest.raises(SpecError, match=r"this network has no layer 'skip0.gate'; did you mean 'skip0.gate1'"):
        net.features(image, ["skip0.gate"])


def test_fusion_weights_sum_to_one_and_every_level_learns_its_own() -> None:
    net = build(NetSpec(channels=(4, 6, 8), skip="fusion"), seed=2)
    weights = {name: p for name, p in net.named_parameters() if ".fuse" in name}
    assert sorted(weights) == ["skip0.fuse1.weight", "skip1.fuse1.weight"]
    net(torch.randn(2, 1, 16, 16)).square().sum().backward()
    for name, weight in weights.items():
        assert weight.grad is not None
        assert weight.grad.abs().min() > 0
        with torch.no_grad():
            weight.copy_(torch.tensor([1.0, -0.5]))
            fuse = net.get_submodule(name.removesuffix(".weight"))
            ones = torch.ones(1, 2, 3, 3)
            torch.testing.assert_close(fuse(ones, ones), ones)
            first = torch.softmax(weight, 0)[0]
            torch.testing.assert_close(fuse(ones, 0 * ones), first * ones)


def test_recurrent_steps_use_the_same_weights_and_the_same_norm() -> None:
    for norm_scale in (True, False):
        once = NetSpec(channels=(3,), block="recurrent", blocks=1, recurrences=1, norm_scale=norm_scale)
        net, longer = build(once, seed=1), build(once.replace({"recurrences": 4}), seed=1)
        assert net.state_dict().keys() == longer.state_dict().keys()
        image = torch.randn(2, 1, 6, 6)
        longer.train()(image)
        assert int(longer.get_buffer("encoder0.norm1.num_batches_tracked")) == 5


def test_blurred_pooling_is_the_binomial_mean() -> None:
    net = build(NetSpec(ndim=1, channels=(2, 3), down="blur"), seed=1).eval()
    image = torch.randn(1, 1, 12)
    before = net.features(image, ["encoder0.act2"])["encoder0.act2"]
    after = net.features(image, ["down1.blur1"])["down1.blur1"]
    padded = torch.nn.functional.pad(before, (1, 1))
    expected = (padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]) / 4
    torch.testing.assert_close(after, expected[..., ::2])
